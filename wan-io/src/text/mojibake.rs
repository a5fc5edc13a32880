//! Finds text that was probably decoded with the wrong encoding.
//!
//! Method and character classes are those of ftfy 6.3.1 (Robyn Speer, Apache-2.0): some 450 characters
//! take part in misread UTF-8; they are sorted into classes, and certain neighbours among them do not
//! occur in real text.

use std::ops::Range;
use std::sync::LazyLock;
use unicode_normalization::char::is_combining_mark;

/// A set of classes, one bit each.
type Classes = u32;

const COMMON: Classes = 1;
const C1: Classes = 1 << 1;
const BAD: Classes = 1 << 2;
const LAW: Classes = 1 << 3;
const CURRENCY: Classes = 1 << 4;
const OPENING: Classes = 1 << 5;
const CLOSING: Classes = 1 << 6;
const NUMERIC: Classes = 1 << 7;
const KAOMOJI: Classes = 1 << 8;
const UPPER_ACCENTED: Classes = 1 << 9;
const LOWER_ACCENTED: Classes = 1 << 10;
const UPPER_COMMON: Classes = 1 << 11;
const LOWER_COMMON: Classes = 1 << 12;
const BOX: Classes = 1 << 13;
/// Lead bytes of UTF-8 sequences of 2, 3 and 4 bytes, as some encoding shows them.
const LEAD_2: Classes = 1 << 14;
const LEAD_3: Classes = 1 << 15;
const LEAD_4: Classes = 1 << 16;
/// Continuation bytes, and those of them that hardly ever stand for themselves.
const CONTINUATION: Classes = 1 << 17;
const STRICT_CONTINUATION: Classes = 1 << 18;
/// `a-z`, `A-Z`, white space, letters and digits of any script with `_`, anything but a line break.
const LOWER: Classes = 1 << 19;
const UPPER: Classes = 1 << 20;
const SPACE: Classes = 1 << 21;
const WORD: Classes = 1 << 22;
const IN_LINE: Classes = 1 << 23;
const NOT_LETTER: Classes = 1 << 24;

const LETTER: Classes = LOWER | UPPER;
const ACCENTED: Classes = UPPER_ACCENTED | LOWER_ACCENTED;
const PUNCTUATION: Classes = OPENING | CLOSING;
/// Classes that do not stand beside a `BAD` character.
const BESIDE_BAD: Classes = ACCENTED | BOX | PUNCTUATION | CURRENCY | NUMERIC | LAW;

/// The characters of each class; `x-y` is a range.
const MEMBERS: &[(Classes, &str)] = &[
    (COMMON, "\u{a0}\u{ad}´·–—―’…"),
    (C1, "\u{80}-\u{9f}"),
    (BAD, "¤¦¨ª¬¯¸ºƒˆˇ˘˛˜†‡‰⌐◊\u{fffd}"),
    (LAW, "§¶"),
    (CURRENCY, "¢£¥₧€"),
    (OPENING, "¡©«¿΄΅‘‚“„•‹\u{f8ff}"),
    (CLOSING, "®»˝”›™"),
    (NUMERIC, "±²³µ¹¼½¾×÷⁄№∂∆∏∑√∞∩∫≈≠≡≤≥"),
    (KAOMOJI, "°Ò-ÖÙ-Üò-öø-üŌŐŪŲ"),
    (UPPER_ACCENTED, "À-ÑØÜÝĀĂĄĆČĎĐĒĖĘĚĞĢĪİĶĹĻĽŁŃŅŇŒŘŚŞŠŢŤŮŰŸŹŻŽҐ"),
    (LOWER_ACCENTED, "ß-ñüāăąćčďđēėęěğģīįķĺļľłœŕśşšťźżžґﬁﬂ"),
    (UPPER_COMMON, "ÞΆΈΉΊΌΎΏΑ-ΫЁ-Я"),
    (LOWER_COMMON, "ά-ωа-џ"),
    (BOX, "│┌┐┘├┤┬┼═-╬▀▄█▌▐-▓"),
    (LEAD_2, "Â-ßĀĂĆČĎĐĒĖĘĚĞĢĪİĶĹĻŁŃŅŇŌŐŘŚŞŠŢŪŮŰŲŹŻŽΒ-ΡΣ-ίВ-Я"),
    (LEAD_3, "à-ïāăąćčďēėęěģīįķĺļŕźΰ-οа-п"),
    (LEAD_4, "ðóđğšπσру"),
    (CONTINUATION, "\u{20}–—―‘’‚“”„•…"),
    (
        CONTINUATION | STRICT_CONTINUATION,
        "\u{80}-¿ÆØæøĄąĽľŁłŒœŖŗŚśŞ-šŤťŸ-žƒˆˇ˘˛˜˝΄΅ΆΈΉΊΌΎΏЁ-ЌЎЏё-ќўџҐґ†‡‰‹›€№™",
    ),
];

/// Every character above ASCII that has a class, sorted, with its classes.
static TABLE: LazyLock<Vec<(char, Classes)>> = LazyLock::new(|| {
    let mut table = std::collections::BTreeMap::new();
    for (classes, members) in MEMBERS {
        for c in expand(members) {
            *table.entry(c).or_default() |= *classes;
        }
    }
    table.into_iter().collect()
});

/// Writes the ranges of a class out.
fn expand(members: &str) -> Vec<char> {
    let mut out = Vec::new();
    let mut chars = members.chars().peekable();
    while let Some(first) = chars.next() {
        let last = if chars.next_if_eq(&'-').is_some() { chars.next() } else { None };
        out.extend(first..=last.unwrap_or(first));
    }
    out
}

/// One place of a rule: a character of these classes, or one of these characters.
struct Place(Classes, &'static str);

impl Place {
    fn takes(&self, (c, classes): (char, Classes)) -> bool {
        classes & self.0 != 0 || self.1.contains(c)
    }
}

/// A place for a class.
const fn class(classes: Classes) -> Place {
    Place(classes, "")
}

/// A place for one of the characters.
const fn one(chars: &'static str) -> Place {
    Place(0, chars)
}

/// The characters that follow `Ø` and `Ù` in Arabic text that was read as Windows-1252.
const ARABIC: Place = Place(COMMON | CURRENCY | BAD | NUMERIC | OPENING, "ŸŠ®°µ»");
/// The characters that stand between two lead characters in Cyrillic or Greek text that was misread.
const BETWEEN: Classes = C1 | BAD | PUNCTUATION | CURRENCY;

/// Neighbours that do not occur in real text.
const RULES: &[&[Place]] = &[
    &[class(C1)],
    &[class(BAD | BESIDE_BAD), class(BAD)],
    &[class(LETTER), class(LOWER_COMMON | UPPER_COMMON), class(BAD)],
    &[class(BAD), class(BESIDE_BAD)],
    &[
        class(LOWER_ACCENTED | LOWER_COMMON | BOX | CLOSING | CURRENCY | NUMERIC),
        class(UPPER_ACCENTED),
    ],
    &[class(BOX | CLOSING | CURRENCY | NUMERIC), class(LOWER_ACCENTED)],
    &[class(LOWER_ACCENTED | BOX | CLOSING), class(CURRENCY)],
    &[class(SPACE), class(UPPER_ACCENTED), class(CURRENCY)],
    &[class(UPPER_ACCENTED | BOX), class(NUMERIC | LAW)],
    &[class(ACCENTED | BOX | CURRENCY | CLOSING), class(OPENING), class(NUMERIC)],
    &[class(ACCENTED | CURRENCY | NUMERIC | BOX | LAW), class(CLOSING), class(OPENING)],
    &[class(CURRENCY | NUMERIC | BOX), class(OPENING)],
    &[class(LOWER), class(UPPER_ACCENTED), class(OPENING | CURRENCY)],
    &[class(BOX), class(KAOMOJI)],
    &[class(ACCENTED | CURRENCY | NUMERIC | PUNCTUATION | LAW), class(BOX)],
    &[class(BOX), class(CLOSING)],
    &[class(ACCENTED), class(PUNCTUATION), class(WORD)],
    &[one("Œœ"), class(NOT_LETTER)],
    &[class(UPPER_ACCENTED), one("°")],
    // Windows-1252.
    &[one("ÂÃÎÐ"), Place(PUNCTUATION, "€œŠš¢£Ÿž\u{a0}\u{ad}®©°·»–—´")],
    &[one("×"), one("²³")],
    &[one("ØÙ"), ARABIC, one("ØÙ"), ARABIC],
    &[one("à"), one("²µ¹¼½¾")],
    // MacRoman.
    &[one("√"), one("±∂†≠®™´≤≥¥µø")],
    &[one("≈"), one("°¢")],
    &[one("‚"), one("Ä"), one("ìîïòôúùû†°¢π")],
    &[one("‚"), one("âó"), one("àä°ê")],
    // Windows-1251, the last one on top of Windows-1252.
    &[one("в"), one("Ђ")],
    &[one("ВГРС"), Place(BETWEEN, "°µ"), one("ВГРС")],
    &[one("Г"), one("ў"), one("В"), one("Ђ"), one("В"), class(IN_LINE), Place(LETTER, " ")],
    // `à`, `á`, U+00A0 and characters after a superfluous `Â` in Windows-1252.
    &[one("Ã"), one("\u{a0}¡")],
    &[class(LOWER), one("ÃÂ"), one(" ")],
    &[class(LOWER), class(SPACE), one("ÃÂ"), one(" ")],
    &[Place(LOWER | CLOSING, ".,?!"), one("Â"), Place(PUNCTUATION, " ")],
    // Windows-1253.
    &[one("β"), one("€"), one("™\u{a0}Ά\u{ad}®°")],
    &[one("ΒΓΞΟ"), Place(BETWEEN, "°"), one("ΒΓΞΟ")],
    // Windows-1257.
    &[one("ā"), one("€")],
];

/// The classes of a character.
fn classes(c: char) -> Classes {
    let mut classes = if c.is_ascii() && c != ' ' {
        0
    } else {
        TABLE.binary_search_by_key(&c, |pair| pair.0).map_or(0, |at| TABLE[at].1)
    };
    let mut add = |class, is: bool| classes |= if is { class } else { 0 };
    add(LOWER, c.is_ascii_lowercase());
    add(UPPER, c.is_ascii_uppercase());
    add(NOT_LETTER, !c.is_ascii_alphabetic());
    add(SPACE, super::glyphs::is_space(c));
    add(WORD, is_word(c));
    add(IN_LINE, c != '\n');
    classes
}

/// Python's `\w`. Rust counts some marks and circled letters as alphabetic, Python does not.
fn is_word(c: char) -> bool {
    let circled = matches!(c, '\u{24B6}'..='\u{24E9}' | '\u{1F130}'..='\u{1F189}');
    c == '_' || (c.is_alphanumeric() && !circled && !is_combining_mark(c))
}

/// Whether `text` holds neighbours that point to a wrong encoding.
pub(super) fn is_bad(text: &str) -> bool {
    let text: Vec<(char, Classes)> = text.chars().map(|c| (c, classes(c))).collect();
    matches!(text[..], [('Ã' | 'Â', _), (' ', _), ..])
        || (0..text.len()).any(|at| RULES.iter().any(|rule| matches(rule, &text[at..])))
}

fn matches(rule: &[Place], text: &[(char, Classes)]) -> bool {
    rule.len() <= text.len() && rule.iter().zip(text).all(|(place, c)| place.takes(*c))
}

/// The byte ranges that look like one or more UTF-8 sequences in a row, as some encoding shows them.
pub(super) fn utf8_sequences(text: &str) -> Vec<Range<usize>> {
    let chars: Vec<(usize, Classes)> =
        text.char_indices().map(|(at, c)| (at, classes(c))).collect();
    let start_of = |index: usize| chars.get(index).map_or(text.len(), |c| c.0);
    let mut found = Vec::new();
    let mut at = 0;
    while at < chars.len() {
        // Within a larger garble, a repair of its end would make things worse.
        let inside = at > 0 && chars[at - 1].1 & STRICT_CONTINUATION != 0;
        let mut end = at;
        while let (false, Some(len)) = (inside, sequence(&chars[end..])) {
            end += len;
        }
        if end > at {
            found.push(start_of(at)..start_of(end));
        }
        at = end.max(at + 1);
    }
    found
}

/// The number of characters of the sequence that `at` begins with.
fn sequence(at: &[(usize, Classes)]) -> Option<usize> {
    let lead = at.first()?.1;
    let len =
        [(LEAD_2, 2), (LEAD_3, 3), (LEAD_4, 4)].iter().find(|(class, _)| lead & class != 0)?.1;
    at.get(1..len)?.iter().all(|c| c.1 & CONTINUATION != 0).then_some(len)
}
