//! The single-byte encodings that text is commonly misread in, and lenient UTF-8.
//!
//! The tables are those of Unicode and of Python's codecs. "Sloppy" means what browsers do: a byte
//! without a character stands for the control character of the same number.

use std::sync::LazyLock;

const WINDOWS_1252: &str = "\
    €\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}Ž\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}žŸ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}®¯°±²³´µ¶·\
    ¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖ×ØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõö÷øùúûüýþÿ";
const WINDOWS_1251: &str = "\
    ЂЃ‚ѓ„…†‡€‰Љ‹ЊЌЋЏђ‘’“”•–—\u{98}™љ›њќћџ\u{a0}ЎўЈ¤Ґ¦§Ё©Є«¬\u{ad}®Ї°±Ііґµ¶·ё№є»јЅѕїАБВГДЕЖЗИЙКЛ\
    МНОПРСТУФХЦЧШЩЪЫЬЭЮЯабвгдежзийклмнопрстуфхцчшщъыьэюя";
const WINDOWS_1250: &str = "\
    €\u{81}‚\u{83}„…†‡\u{88}‰Š‹ŚŤŽŹ\u{90}‘’“”•–—\u{98}™š›śťžź\u{a0}ˇ˘Ł¤Ą¦§¨©Ş«¬\u{ad}®Ż°±˛ł´µ¶·\
    ¸ąş»Ľ˝ľżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăäĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙";
const WINDOWS_1253: &str = "\
    €\u{81}‚ƒ„…†‡\u{88}‰\u{8a}‹\u{8c}\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}\u{9d}\
    \u{9e}\u{9f}\u{a0}΅Ά£¤¥¦§¨©ª«¬\u{ad}®―°±²³΄µ¶·ΈΉΊ»Ό½ΎΏΐΑΒΓΔΕΖΗΘΙΚΛΜΝΞΟΠΡÒΣΤΥΦΧΨΩΪΫάέήίΰαβγδ\
    εζηθικλμνξοπρςστυφχψωϊϋόύώÿ";
const WINDOWS_1254: &str = "\
    €\u{81}‚ƒ„…†‡ˆ‰Š‹Œ\u{8d}\u{8e}\u{8f}\u{90}‘’“”•–—˜™š›œ\u{9d}\u{9e}Ÿ\u{a0}¡¢£¤¥¦§¨©ª«¬\u{ad}\
    ®¯°±²³´µ¶·¸¹º»¼½¾¿ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏĞÑÒÓÔÕÖ×ØÙÚÛÜİŞßàáâãäåæçèéêëìíîïğñòóôõö÷øùúûüışÿ";
const WINDOWS_1257: &str = "\
    €\u{81}‚\u{83}„…†‡\u{88}‰\u{8a}‹\u{8c}¨ˇ¸\u{90}‘’“”•–—\u{98}™\u{9a}›\u{9c}¯˛\u{9f}\u{a0}¡¢£\
    ¤¥¦§Ø©Ŗ«¬\u{ad}®Æ°±²³´µ¶·ø¹ŗ»¼½¾æĄĮĀĆÄÅĘĒČÉŹĖĢĶĪĻŠŃŅÓŌÕÖ×ŲŁŚŪÜŻŽßąįāćäåęēčéźėģķīļšńņóōõö÷ųł\
    śūüżž˙";
const ISO_8859_2: &str = "\
    \u{80}\u{81}\u{82}\u{83}\u{84}\u{85}\u{86}\u{87}\u{88}\u{89}\u{8a}\u{8b}\u{8c}\u{8d}\u{8e}\
    \u{8f}\u{90}\u{91}\u{92}\u{93}\u{94}\u{95}\u{96}\u{97}\u{98}\u{99}\u{9a}\u{9b}\u{9c}\u{9d}\
    \u{9e}\u{9f}\u{a0}Ą˘Ł¤ĽŚ§¨ŠŞŤŹ\u{ad}ŽŻ°ą˛ł´ľśˇ¸šşťź˝žżŔÁÂĂÄĹĆÇČÉĘËĚÍÎĎĐŃŇÓÔŐÖ×ŘŮÚŰÜÝŢßŕáâăä\
    ĺćçčéęëěíîďđńňóôőö÷řůúűüýţ˙";
const MACROMAN: &str = "\
    ÄÅÇÉÑÖÜáàâäãåçéèêëíìîïñóòôöõúùûü†°¢£§•¶ß®©™´¨≠ÆØ∞±≤≥¥µ∂∑∏π∫ªºΩæø¿¡¬√ƒ≈∆«»…\u{a0}ÀÃÕŒœ–—“”‘’\
    ÷◊ÿŸ⁄€‹›ﬁﬂ‡·‚„‰ÂÊÁËÈÍÎÏÌÓÔ\u{f8ff}ÒÚÛÙıˆ˜¯˘˙˚¸˝˛ˇ";
const CP437: &str = "\
    ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌\
    █▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";

/// One single-byte encoding. Bytes below 0x80 are ASCII in all of them.
pub(super) struct Charset {
    kind: Kind,
    /// Characters of the bytes 0x80 to 0xFF, sorted by character.
    upper: Vec<(char, u8)>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    /// Byte 0x1A stands for U+FFFD, to mark a character that was lost.
    Sloppy,
    MacRoman,
}

/// The encodings, in the order in which they are tried.
pub(super) static CHARSETS: LazyLock<[Charset; 10]> = LazyLock::new(|| {
    let latin_1: String = ('\u{80}'..='\u{ff}').collect();
    [
        Charset::new(Kind::Plain, &latin_1),
        Charset::new(Kind::Sloppy, WINDOWS_1252),
        Charset::new(Kind::Sloppy, WINDOWS_1251),
        Charset::new(Kind::Sloppy, WINDOWS_1250),
        Charset::new(Kind::Sloppy, WINDOWS_1253),
        Charset::new(Kind::Sloppy, WINDOWS_1254),
        Charset::new(Kind::Sloppy, WINDOWS_1257),
        Charset::new(Kind::Plain, ISO_8859_2),
        Charset::new(Kind::MacRoman, MACROMAN),
        Charset::new(Kind::Plain, CP437),
    ]
});

impl Charset {
    fn new(kind: Kind, table: &str) -> Self {
        let mut upper: Vec<(char, u8)> = table.chars().zip(0x80..=0xFF).collect();
        upper.sort_unstable();
        Self { kind, upper }
    }

    /// Whether lost characters are marked by byte 0x1A.
    pub(super) fn is_sloppy(&self) -> bool {
        self.kind == Kind::Sloppy
    }

    /// In MacRoman an en dash and a blank look like a UTF-8 sequence whose byte A0 became a blank.
    pub(super) fn is_mac_roman(&self) -> bool {
        self.kind == Kind::MacRoman
    }

    /// The bytes of `text`, if every character has one.
    pub(super) fn encode(&self, text: &str) -> Option<Vec<u8>> {
        text.chars().map(|c| self.byte(c)).collect()
    }

    fn byte(&self, c: char) -> Option<u8> {
        match c {
            '\x1A' if self.is_sloppy() => None,
            char::REPLACEMENT_CHARACTER if self.is_sloppy() => Some(0x1A),
            '\0'..='\x7F' => u8::try_from(c).ok(),
            _ => self.upper.binary_search_by_key(&c, |pair| pair.0).ok().map(|at| self.upper[at].1),
        }
    }
}

/// Reads a C1 control character as the Windows-1252 character of the same byte, if it has one.
pub(super) fn c1_to_windows_1252(c: char) -> char {
    match c {
        '\u{80}'..='\u{9F}' => WINDOWS_1252.chars().nth(c as usize - 0x80).unwrap_or(c),
        _ => c,
    }
}

/// UTF-8, and with it two variants that other programs write: surrogate pairs as three bytes each
/// (CESU-8), and U+0000 as `C0 80` (Java). `None` if anything else is in the bytes.
pub(super) fn decode_utf8_variants(bytes: &[u8]) -> Option<String> {
    let mut out = String::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|b| matches!(b, 0xC0 | 0xED)) {
        out.push_str(std::str::from_utf8(&rest[..at]).ok()?);
        rest = &rest[at..];
        let (c, len) =
            java_nul(rest).or_else(|| surrogate_pair(rest)).or_else(|| three_bytes(rest))?;
        out.push(c);
        rest = &rest[len..];
    }
    out.push_str(std::str::from_utf8(rest).ok()?);
    Some(out)
}

/// `C0 80`. The reference also takes `C0` before a line break that ends the text.
fn java_nul(at: &[u8]) -> Option<(char, usize)> {
    (at.starts_with(&[0xC0, 0x80]) || at == [0xC0, b'\n']).then_some(('\0', 2))
}

/// A character above U+FFFF as two surrogates. As above, a line break at the end of the text may
/// stand for the last byte.
fn surrogate_pair(at: &[u8]) -> Option<(char, usize)> {
    let &[0xED, a @ 0xA0..=0xAF, b @ 0x80..=0xBF, 0xED, c @ 0xB0..=0xBF, d, ..] = at else {
        return None;
    };
    let ends = d == b'\n' && at.len() == 6;
    if !ends && !matches!(d, 0x80..=0xBF) {
        return None;
    }
    let bits = |byte: u8, mask: u8, shift: u32| u32::from(byte & mask) << shift;
    let code =
        0x1_0000 + bits(a, 0x0F, 16) + bits(b, 0x3F, 10) + bits(c, 0x0F, 6) + bits(d, 0x3F, 0);
    Some((char::from_u32(code)?, 6))
}

/// An ordinary character that begins with byte ED.
fn three_bytes(at: &[u8]) -> Option<(char, usize)> {
    let c = std::str::from_utf8(at.get(..3)?).ok()?.chars().next()?;
    Some((c, c.len_utf8()))
}
