//! HTML character references, by the two sets of rules that the reference applies.

use super::charset;
use htmlize::ENTITIES;

/// The longest name without a semicolon (`Aacute` and others).
const LONGEST_BARE_NAME: usize = 6;

/// Python's `html.unescape`: every reference of HTML5, also without a semicolon.
pub(super) fn unescape_all(text: &str) -> String {
    replace(text, |at| numeric(at).or_else(|| named(at)))
}

/// ftfy's `unescape_html`: only references that end in a semicolon, and in addition names that
/// somebody turned into capitals (`P&EACUTE;REZ`).
pub(super) fn unescape_closed(text: &str) -> String {
    replace(text, closed)
}

/// Asks `reference` at every `&` how many bytes to replace, and by what.
fn replace(text: &str, reference: impl Fn(&str) -> Option<(usize, String)>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let len = match reference(rest) {
            Some((len, by)) => {
                out.push_str(&by);
                len
            }
            None => {
                out.push('&');
                1
            }
        };
        rest = &rest[len..];
    }
    out.push_str(rest);
    out
}

/// The text of an entity as it is written, `&` included.
fn entity(written: &str) -> Option<&'static str> {
    std::str::from_utf8(ENTITIES.get(written.as_bytes())?).ok()
}

/// `&#123;` or `&#x7b;`, with or without the semicolon.
fn numeric(at: &str) -> Option<(usize, String)> {
    let body = at.strip_prefix("&#")?;
    let (digits, radix, start) = match body.strip_prefix(['x', 'X']) {
        Some(hex) => (hex, 16, 3),
        None => (body, 10, 2),
    };
    let len = digits.bytes().take_while(|b| char::from(*b).is_digit(radix)).count();
    if len == 0 {
        return None;
    }
    // A number that does not fit is out of range like any other.
    let number = u32::from_str_radix(&digits[..len], radix).unwrap_or(u32::MAX);
    let semicolon = usize::from(digits[len..].starts_with(';'));
    Some((start + len + semicolon, code_point(number).map(String::from).unwrap_or_default()))
}

/// The character that HTML5 gives to a number; Python drops the code points that are not text.
fn code_point(number: u32) -> Option<char> {
    match number {
        0 => Some(char::REPLACEMENT_CHARACTER),
        0x0D => Some('\r'),
        0x80..=0x9F => char::from_u32(number).map(charset::c1_to_windows_1252),
        0x01..=0x08 | 0x0B | 0x0E..=0x1F | 0x7F | 0xFDD0..=0xFDEF => None,
        _ if number <= 0x10_FFFF && number & 0xFFFE == 0xFFFE => None,
        _ => Some(char::from_u32(number).unwrap_or(char::REPLACEMENT_CHARACTER)),
    }
}

/// `&name;`, else the longest name without semicolon that the letters begin with.
fn named(at: &str) -> Option<(usize, String)> {
    let body = at.strip_prefix('&')?;
    let name: usize = body
        .chars()
        .take(32)
        .take_while(|c| !matches!(c, '\t' | '\n' | '\x0C' | ' ' | '<' | '&' | '#' | ';'))
        .map(char::len_utf8)
        .sum();
    let whole = 1 + name + usize::from(body[name..].starts_with(';'));
    if name == 0 {
        return None;
    }
    if let Some(text) = entity(&at[..whole]) {
        return Some((whole, text.to_owned()));
    }
    longest_prefix(&at[..whole]).map(|(len, text)| (len, text.to_owned()))
}

/// The longest entity without semicolon that `written` begins with and does not consist of.
fn longest_prefix(written: &str) -> Option<(usize, &'static str)> {
    (3..=1 + LONGEST_BARE_NAME)
        .rev()
        .filter(|len| *len < written.len())
        .find_map(|len| Some((len, entity(written.get(..len)?)?)))
}

/// One reference of at most 24 letters or digits with its semicolon.
fn closed(at: &str) -> Option<(usize, String)> {
    let start = if at.starts_with("&#") { 2 } else { 1 };
    let len = at[start..].bytes().take_while(u8::is_ascii_alphanumeric).count();
    let end = start + len + 1;
    if !(1..=24).contains(&len) || at.as_bytes().get(end - 1) != Some(&b';') {
        return None;
    }
    let written = &at[..end];
    let text = if start == 2 {
        // A semicolon in the result means that only a part was understood.
        numeric(written).filter(|(used, by)| *used == end && by != ";")?.1
    } else {
        entity(written).map(str::to_owned).or_else(|| capitals(written))?
    };
    Some((end, text))
}

/// `&NTILDE;` is read as `&ntilde;` in capitals, where the capitals mean nothing of their own.
fn capitals(written: &str) -> Option<String> {
    let lower = written.to_ascii_lowercase();
    if lower.to_ascii_uppercase() != written || longest_prefix(written).is_some() {
        return None;
    }
    entity(&lower).map(str::to_uppercase)
}
