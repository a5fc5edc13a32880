//! Files that are something else than what should be there, told from how they begin.

use std::ops::Not;

/// The number of bytes at the start of a file that tell what it is.
pub(crate) const START: usize = 512;
/// The most characters of a text that a message repeats.
const MAX_SHOWN: usize = 80;

/// The ways out.
const TAKE_SAFETENSORS: &str = "is not supported; take the safetensors file of the model";
const UNPACK: &str = "must be unpacked first";
const AGAIN: &str = "what a download or copy that did not end leaves behind; get the file again";
const NO_PART: &str = "is no part of a model; see that the right file is named";

/// How files of other kinds begin: where, with which bytes, what they are, and the way out.
const KINDS: &[(usize, &[u8], &str, &str)] = &[
    (0, b"GGUF", "a GGUF file, which", TAKE_SAFETENSORS),
    (0, b"\x89HDF\r\n", "an HDF5 file, which", TAKE_SAFETENSORS),
    (0, b"\x93NUMPY", "an array of NumPy, which", TAKE_SAFETENSORS),
    (0, b"\x1f\x8b", "a gzip archive, which", UNPACK),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive, which", UNPACK),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive, which", UNPACK),
    (0, b"Rar!\x1a\x07", "a RAR archive, which", UNPACK),
    (0, b"\xfd7zXZ\0", "an xz archive, which", UNPACK),
    (0, b"BZh", "a bzip2 archive, which", UNPACK),
    (257, b"ustar", "a tar archive, which", UNPACK),
    (0, b"PK", "a zip archive or a checkpoint of PyTorch, which", NO_PART),
    (0, b"\x89PNG\r\n", "a picture, which", NO_PART),
    (0, b"GIF8", "a picture, which", NO_PART),
    (0, b"\xff\xd8\xff", "a picture, which", NO_PART),
    (4, b"ftyp", "a video, which", NO_PART),
    (0, b"%PDF-", "a PDF, which", NO_PART),
];

/// What a file is that begins with the bytes `start` and is `length` bytes long, and the way out: the
/// rest of a sentence after "is". `None` if it may be what it should be, or cannot be told.
///
/// Safetensors, checkpoints of PyTorch and JSON are not among it but where the reader that is at
/// work has no use for them: see [`instead_of_weights`] and [`instead_of_json`].
fn tell(start: &[u8], length: u64) -> Option<String> {
    if let Some(known) = undelivered(start, length) {
        return Some(known);
    }
    let begins = |at: usize, bytes: &[u8]| start.get(at..).is_some_and(|s| s.starts_with(bytes));
    if let Some((.., what, way_out)) = KINDS.iter().find(|(at, bytes, ..)| begins(*at, bytes)) {
        return Some(format!("{what} {way_out}"));
    }
    if is_sentencepiece(start) {
        return Some("a SentencePiece model; take the tokenizer.json of the same tokenizer".into());
    }
    if is_onnx(start) {
        return Some(format!("an ONNX model, which {TAKE_SAFETENSORS}"));
    }
    None
}

/// What stands in the place of a file, of whatever kind, that did not come, as [`tell`] says it.
pub(crate) fn undelivered(start: &[u8], length: u64) -> Option<String> {
    if length == 0 {
        return Some(format!("empty, {AGAIN}"));
    }
    if start.iter().all(|&byte| byte == 0) {
        return Some(format!("nothing but zeros where it begins, {AGAIN}"));
    }
    tell_text(&text(start)?)
}

/// What text is that is neither JSON nor a name.
fn tell_text(text: &str) -> Option<String> {
    let lower = text.to_ascii_lowercase();
    let begins = |starts: &[&str]| starts.iter().any(|start| lower.starts_with(start));
    if begins(&["version https://git-lfs"]) {
        let size = text.lines().find_map(|line| line.strip_prefix("size "));
        let size = size.and_then(|size| size.trim().parse::<u64>().ok());
        let size = size.map(|size| format!(" of {size} bytes")).unwrap_or_default();
        return Some(format!(
            "a Git LFS pointer to a file{size}, not that file; run `git lfs pull` where it was \
             cloned, or download it"
        ));
    }
    if begins(&["<!doctype html", "<html", "<head"]) {
        return Some(
            "a web page; download the file itself (in the hub, from an address with `resolve` \
             instead of `blob`)"
                .into(),
        );
    }
    let is_error = ["{\"error\"", "{\"message\"", "{\"detail\"", "<?xml", "<error"];
    if begins(&is_error) {
        let shown = shown(text);
        return Some(format!("the answer of a server that has not sent the file: {shown}"));
    }
    None
}

/// What a file is that should hold weights. Those that are safetensors or checkpoints of PyTorch by
/// their first bytes must not be asked for.
pub(crate) fn instead_of_weights(start: &[u8], length: u64) -> Option<String> {
    if let Some(known) = tell(start, length) {
        return Some(known);
    }
    let text = text(start)?;
    let kind = if text.starts_with(['{', '[']) { "JSON" } else { "text" };
    Some(format!("{kind} that begins with {}, and holds no weights", shown(&text)))
}

/// What a file is that should be JSON.
pub(crate) fn instead_of_json(start: &[u8], length: u64) -> Option<String> {
    if is_safetensors(start) {
        return Some("a safetensors file, but should be JSON".into());
    }
    if let Some(known) = tell(start, length) {
        return Some(known);
    }
    match text(start) {
        Some(text) => is_json(&text)
            .not()
            .then(|| format!("no JSON, but text that begins with {}", shown(&text))),
        None => Some("no JSON, but binary data".into()),
    }
}

/// Whether a file begins like safetensors: a length, and the header's first character.
pub(crate) fn is_safetensors(start: &[u8]) -> bool {
    start.get(8) == Some(&b'{') && text(start).is_none()
}

/// Whether a text begins like JSON. That numbers are JSON too helps nobody: no file is one.
fn is_json(text: &str) -> bool {
    text.is_empty() || text.starts_with(['{', '[', '"']) || text.starts_with("null")
}

/// The start of a text without a byte order mark and blanks. Characters that are broken are replaced:
/// it is the reader who says where. `None` for what is not text.
fn text(start: &[u8]) -> Option<String> {
    let is_binary = |&byte: &u8| byte < b' ' && !matches!(byte, b'\t' | b'\n' | b'\r' | 0x0c);
    if start.iter().any(is_binary) {
        return None;
    }
    let text = String::from_utf8_lossy(start);
    Some(text.trim_start_matches(['\u{feff}', ' ', '\t', '\r', '\n']).to_owned())
}

/// The beginning of a text, on one line and in quotes.
fn shown(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    format!("{:?}", line.trim_end().chars().take(MAX_SHOWN).collect::<String>())
}

/// A message of pieces: each is a field 1 with a text in field 1 and a score in field 2.
fn is_sentencepiece(start: &[u8]) -> bool {
    let &[0x0a, message, 0x0a, piece, ..] = start else { return false };
    let score = start.get(4 + usize::from(piece));
    score == Some(&0x15) && message >= piece.saturating_add(7)
}

/// The version of the format in field 1, and the producer's name in field 2.
fn is_onnx(start: &[u8]) -> bool {
    matches!(start, [0x08, 1..=20, 0x12, length, producer, ..]
        if *length > 0 && producer.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes as a file in which weights are looked for, and one in which JSON is.
    fn both(bytes: &[u8]) -> [Option<String>; 2] {
        let start = &bytes[..bytes.len().min(START)];
        [instead_of_weights, instead_of_json].map(|tell| tell(start, bytes.len() as u64))
    }

    #[test]
    fn what_is_no_part_of_a_model_is_called_what_it_is() {
        let pointer = "version https://git-lfs.github.com/spec/v1\n\
                       oid sha256:0123456789abcdef\nsize 2838276\n";
        let piece = b"\x0a\x0e\x0a\x05<pad>\x15\0\0\0\0\x18\x03\x0a\x0e\x0a\x04</s>";
        let mut tar = vec![b'a'; 600];
        tar[257..262].copy_from_slice(b"ustar");
        let rows: [(&[u8], &str); 18] = [
            (pointer.as_bytes(), "Git LFS pointer to a file of 2838276 bytes, not that file; run"),
            (b"version https://git-lfs.github.com/spec/v1\n", "LFS pointer to a file, not that"),
            (b"GGUF\x03\0\0\0\x01", "a GGUF file"),
            (b"<!DOCTYPE html>\n<html><head>", "a web page"),
            (b"\n <HTML lang=en>", "a web page"),
            (b"<?xml version=\"1.0\"?><Error><Code>AccessDenied", "answer of a server"),
            (
                b"{\"error\":\"Repository not found\"}",
                "server that has not sent the file: \"{\\\"err",
            ),
            (b"\x1f\x8b\x08\0", "a gzip archive"),
            (b"\x28\xb5\x2f\xfd\0", "a Zstandard archive"),
            (b"7z\xbc\xaf\x27\x1c\0", "a 7z archive"),
            (b"Rar!\x1a\x07\x01", "a RAR archive"),
            (&tar, "a tar archive"),
            (b"\x08\x07\x12\x07pytorch", "an ONNX model"),
            (piece, "a SentencePiece model"),
            (b"\x89PNG\r\n\x1a\n", "a picture"),
            (b"\0\0\0\x20ftypisom", "a video"),
            (b"", "empty"),
            (&[0; 5000], "nothing but zeros"),
        ];
        for (bytes, expected) in rows {
            for found in both(bytes) {
                let found = found.unwrap_or_default();
                assert!(found.contains(expected), "{expected}: {found:?}");
                assert!(!found.contains('\n'), "{found:?}");
            }
        }
    }

    #[test]
    fn each_reader_knows_what_the_other_one_reads() {
        let [weights, json] = both(b"  {\"dim\": 5120}");
        assert_eq!(
            weights.unwrap(),
            "JSON that begins with \"{\\\"dim\\\": 5120}\", and holds no weights"
        );
        assert_eq!(json, None);
        for (found, what) in both(b"404: Not Found").into_iter().zip(["text", "no JSON, but text"])
        {
            assert!(found.unwrap().starts_with(&format!("{what} that begins with \"404: Not")));
        }
        let [_, json] = both(b"\x10\0\0\0\0\0\0\0{\"a\":{}}");
        assert_eq!(json.unwrap(), "a safetensors file, but should be JSON");
        let [weights, json] = both(b"\xee\xee\xee\xee\x01\x02\x03\x04\x05");
        assert_eq!((weights, json.as_deref()), (None, Some("no JSON, but binary data")));
        for text in ["null", "\u{feff}{}", "[1]", "\"a\"", "not JSON"] {
            let found = instead_of_json(text.as_bytes(), text.len() as u64);
            assert_eq!(found.is_some(), text == "not JSON", "{text}: {found:?}");
        }
    }
}
