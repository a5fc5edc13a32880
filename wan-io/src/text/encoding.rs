//! Repair of text that was decoded with the wrong encoding (ftfy's `fix_encoding`).

use super::charset::{self, CHARSETS, Charset};
use super::clean::Budget;
use super::mojibake;

/// Repairs inside repairs go no deeper. Each needs text that shrinks under the one around it, so
/// that real text reaches two or three.
const DEEPEST: usize = 16;

/// Repairs `text` until a round changes nothing.
pub(super) fn fix(text: String, budget: &mut Budget) -> String {
    fix_at(text, budget, 0)
}

fn fix_at(mut text: String, budget: &mut Budget, depth: usize) -> String {
    while let Some(fixed) = step(&text, budget, depth) {
        let stop = fixed == text || !budget.pay(&fixed);
        text = fixed;
        if stop {
            break;
        }
    }
    text
}

/// The first repair that applies, or `None`.
fn step(text: &str, budget: &mut Budget, depth: usize) -> Option<String> {
    if text.is_ascii() || !mojibake::is_bad(text) {
        return None;
    }
    CHARSETS
        .iter()
        .find_map(|charset| redecode(text, charset))
        .or_else(|| redecode_parts(text, budget, depth).filter(|fixed| fixed != text))
        .or_else(|| Some(text.chars().map(charset::c1_to_windows_1252).collect()))
}

/// Takes `text` for UTF-8 that was read as `charset`.
fn redecode(text: &str, charset: &Charset) -> Option<String> {
    let mut bytes = charset.encode(text)?;
    if !charset.is_mac_roman() {
        bytes = restore_byte_a0(&bytes);
    }
    if charset.is_sloppy() {
        bytes = replace_lossy_sequences(&bytes);
    }
    charset::decode_utf8_variants(&bytes)
}

/// Repairs the parts of `text` that look like UTF-8 read in some encoding, each on its own.
fn redecode_parts(text: &str, budget: &mut Budget, depth: usize) -> Option<String> {
    if depth == DEEPEST {
        return None;
    }
    let mut out = String::with_capacity(text.len());
    let mut done = 0;
    for found in mojibake::utf8_sequences(text) {
        let part = &text[found.clone()];
        // A part that is the whole would be tried again and again.
        if part.len() < text.len() && mojibake::is_bad(part) {
            out.push_str(&text[done..found.start]);
            out.push_str(&fix_at(part.to_owned(), budget, depth + 1));
            done = found.end;
        }
    }
    out.push_str(&text[done..]);
    Some(out)
}

/// A continuation byte of UTF-8.
fn continues(byte: u8) -> bool {
    matches!(byte, 0x80..=0xBF)
}

/// Puts byte A0 back where some program made a blank of it, in the middle of UTF-8.
fn restore_byte_a0(bytes: &[u8]) -> Vec<u8> {
    let bytes = separate_a_grave(bytes);
    let mut out = bytes.clone();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
        match altered_sequence(rest) {
            Some((blank, len)) => {
                out[at + blank] = 0xA0;
                at += len;
            }
            None => at += 1,
        }
    }
    out
}

/// The word `à` is `C3 A0`, and the blank after it has often been merged with the A0. Gives it both,
/// except where a Portuguese word goes on (às, àquele, àquela, àquilo).
fn separate_a_grave(bytes: &[u8]) -> Vec<u8> {
    const WORDS: [&[u8]; 5] = [b" ", b"quele", b"quela", b"quilo", b"s "];
    let mut out = Vec::with_capacity(bytes.len());
    for (at, byte) in bytes.iter().enumerate() {
        let before = bytes[..at].last() == Some(&0xC3);
        let rest = &bytes[at + 1..];
        if *byte == b' ' && before && !WORDS.iter().any(|word| rest.starts_with(word)) {
            out.push(0xA0);
        }
        out.push(*byte);
    }
    out
}

/// Where the blank is in a likely UTF-8 sequence with one blank for A0, and how long that is.
///
/// Which lead bytes count is the reference's choice: those that make frequent characters with A0.
fn altered_sequence(at: &[u8]) -> Option<(usize, usize)> {
    // Neither A0 itself nor 85, the ellipsis of Windows-1252.
    let inner = |byte: u8| continues(byte) && byte != 0x85 && byte != 0xA0;
    match *at {
        [0xC2 | 0xC3 | 0xC5 | 0xCE | 0xD0 | 0xD9, b' ', ..] => Some((1, 2)),
        [0xE2 | 0xE3, b' ', c, ..] if inner(c) => Some((1, 3)),
        [0xE0..=0xE3, b, b' ', ..] if inner(b) => Some((2, 3)),
        [0xF0, b' ', c, d, ..] if continues(c) && continues(d) => Some((1, 4)),
        [0xF0, b, b' ', d, ..] if continues(b) && continues(d) => Some((2, 4)),
        [0xF0, b, c, b' ', ..] if continues(b) && continues(c) => Some((3, 4)),
        _ => None,
    }
}

/// Makes U+FFFD of every UTF-8 sequence with lost bytes: 1A, and once in a sequence a `?`.
fn replace_lossy_sequences(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(first) = rest.first() {
        let lost = lossy_sequence(rest);
        if lost > 0 {
            out.extend_from_slice("\u{FFFD}".as_bytes());
        } else {
            out.push(*first);
        }
        rest = &rest[lost.max(1)..];
    }
    out
}

/// The length of the sequence with lost bytes that `at` begins with, or 0.
fn lossy_sequence(at: &[u8]) -> usize {
    const LOST: u8 = 0x1A;
    let byte = |index: usize| at.get(index).copied().unwrap_or(0);
    let marked = |index: usize| matches!(byte(index), LOST | b'?');
    let kept = |index: usize| byte(index) == LOST || continues(byte(index));
    // One byte of a sequence is lost for certain, the others may be.
    let any_lost = |len: usize| {
        (1..len).any(|lost| marked(lost) && (1..len).all(|index| index == lost || kept(index)))
    };
    match byte(0) {
        0xC2..=0xDF if byte(1) == LOST => 2,
        0xC2 | 0xC3 if byte(1) == b'?' => 2,
        0xED if lossy_surrogates(at) => 6,
        0xE0..=0xEF if any_lost(3) => 3,
        0xF0..=0xF4 if any_lost(4) => 4,
        LOST => 1,
        _ => 0,
    }
}

/// Two surrogates of three bytes each, where the last byte of one or both is lost.
fn lossy_surrogates(at: &[u8]) -> bool {
    let lost = |byte: u8| matches!(byte, 0x1A | b'?');
    match *at {
        [0xED, 0xA0..=0xAF, a, 0xED, 0xB0..=0xBF, b, ..] => {
            (lost(a) && (lost(b) || continues(b))) || (lost(b) && (lost(a) || continues(a)))
        }
        _ => false,
    }
}
