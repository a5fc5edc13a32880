//! Repairs that look at a character or two: ligatures, widths, quotes, line breaks, terminal
//! escapes, control characters, normal form.

use super::charset::c1_to_windows_1252;
use unicode_normalization::UnicodeNormalization;

/// The first character of every run of ten decimal digits (Unicode category Nd).
const ZEROS: &[u32] = &[
    0x30, 0x660, 0x6F0, 0x7C0, 0x966, 0x9E6, 0xA66, 0xAE6, 0xB66, 0xBE6, 0xC66, 0xCE6, 0xD66,
    0xDE6, 0xE50, 0xED0, 0xF20, 0x1040, 0x1090, 0x17E0, 0x1810, 0x1946, 0x19D0, 0x1A80, 0x1A90,
    0x1B50, 0x1BB0, 0x1C40, 0x1C50, 0xA620, 0xA8D0, 0xA900, 0xA9D0, 0xA9F0, 0xAA50, 0xABF0, 0xFF10,
    0x104A0, 0x10D30, 0x11066, 0x110F0, 0x11136, 0x111D0, 0x112F0, 0x11450, 0x114D0, 0x11650,
    0x116C0, 0x11730, 0x118E0, 0x11950, 0x11C50, 0x11D50, 0x11DA0, 0x16A60, 0x16AC0, 0x16B50,
    0x1D7CE, 0x1D7D8, 0x1D7E2, 0x1D7EC, 0x1D7F6, 0x1E140, 0x1E2F0, 0x1E950, 0x1FBF0,
];

/// All of these repairs, in the reference's order.
pub(super) fn fix(text: &str) -> String {
    let plain = plain_characters(text);
    let kept = without_terminal_escapes(&plain);
    kept.chars().filter(|c| !is_control(*c)).nfc().collect()
}

/// Python's idea of white space: Unicode's, and the four separators of ASCII.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\x1C'..='\x1F')
}

/// C1 characters, ligatures, full and half width, curly quotes, line breaks.
fn plain_characters(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let c = c1_to_windows_1252(c);
        match c {
            '\r' => {
                chars.next_if_eq(&'\n');
                out.push('\n');
            }
            '\u{2028}' | '\u{2029}' => out.push('\n'),
            '\u{3000}' => out.push(' '),
            '\u{FF01}'..='\u{FFEF}' => out.extend([c].into_iter().nfkc().map(straight)),
            _ => match ligature(c) {
                Some(letters) => out.push_str(letters),
                None => out.push(straight(c)),
            },
        }
    }
    out
}

/// The letters of a Latin ligature or digraph.
fn ligature(c: char) -> Option<&'static str> {
    Some(match c {
        'Ĳ' => "IJ",
        'ĳ' => "ij",
        // The letter has an apostrophe of its own kind in it, which becomes a straight one.
        'ŉ' => "'n",
        'Ǆ' => "DŽ",
        'ǅ' => "Dž",
        'ǆ' => "dž",
        'Ǉ' => "LJ",
        'ǈ' => "Lj",
        'ǉ' => "lj",
        'Ǌ' => "NJ",
        'ǋ' => "Nj",
        'ǌ' => "nj",
        'Ǳ' => "DZ",
        'ǲ' => "Dz",
        'ǳ' => "dz",
        'ﬀ' => "ff",
        'ﬁ' => "fi",
        'ﬂ' => "fl",
        'ﬃ' => "ffi",
        'ﬄ' => "ffl",
        'ﬅ' => "ſt",
        'ﬆ' => "st",
        _ => return None,
    })
}

/// Straight quotes for curly ones.
fn straight(c: char) -> char {
    match c {
        '\u{02BC}' | '\u{2018}'..='\u{201B}' => '\'',
        '\u{201C}'..='\u{201F}' => '"',
        _ => c,
    }
}

/// Drops `ESC [ 1;2 m` and the like.
fn without_terminal_escapes(text: &str) -> String {
    let mut parts = text.split("\x1B[");
    let mut out = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let end = part.trim_start_matches(|c| c == ';' || is_decimal(c));
        match end.strip_prefix(|c: char| c.is_ascii_alphabetic()) {
            Some(rest) => out.push_str(rest),
            None => {
                out.push_str("\x1B[");
                out.push_str(part);
            }
        }
    }
    out
}

fn is_decimal(c: char) -> bool {
    let before = ZEROS.partition_point(|zero| *zero <= u32::from(c));
    before > 0 && u32::from(c) - ZEROS[before - 1] < 10
}

/// Control characters that show nothing and do nothing for a text.
fn is_control(c: char) -> bool {
    matches!(c,
        '\0'..='\x08' | '\x0B' | '\x0E'..='\x1F' | '\x7F'
        | '\u{206A}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFC}')
}
