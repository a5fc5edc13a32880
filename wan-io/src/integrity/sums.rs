//! Lists of checksums, as `sha256sum` writes them.

use std::{
    collections::BTreeMap,
    fs::File,
    io::Read as _,
    path::{Component, Path},
};

use super::{Digest, IntegrityError, markers::file_metadata};

/// The list of a folder.
pub(super) const NAME: &str = "SHA256SUMS";
/// The largest list that is read: room for some hundred thousand files.
const MAX_BYTES: u64 = 16 << 20;

/// The digests by name; names are relative, with `/`.
pub(super) type Sums = BTreeMap<String, Digest>;

/// The list in `folder`; empty if it has none.
pub(super) fn for_folder(folder: &Path) -> Result<Sums, IntegrityError> {
    let path = folder.join(NAME);
    // A link that leads nowhere is a list that is missing.
    if path.symlink_metadata().is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(Sums::new());
    }
    file_metadata(&path)?;
    let mut bytes = Vec::new();
    File::open(&path)
        .and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes))
        .map_err(IntegrityError::in_file(&path))?;
    parse(&bytes).map_err(|(line, reason)| IntegrityError::Sums { path, line, reason })
}

/// The digests in a list, or the first wrong line and why it is wrong.
fn parse(bytes: &[u8]) -> Result<Sums, (usize, String)> {
    if bytes.len() as u64 > MAX_BYTES {
        let line = 1 + bytes.iter().filter(|byte| **byte == b'\n').count();
        return Err((line, format!("the list goes on after {MAX_BYTES} bytes")));
    }
    let mut sums = Sums::new();
    for (index, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
        let entry = parse_line(line).map_err(|reason| (index + 1, reason.to_owned()))?;
        let Some((digest, name)) = entry else { continue };
        if let Some(other) = sums.insert(name.to_owned(), digest)
            && other != digest
        {
            return Err((index + 1, format!("lists {name:?} again, with another checksum")));
        }
    }
    Ok(sums)
}

/// `None` for a blank line or a comment.
fn parse_line(line: &[u8]) -> Result<Option<(Digest, &str)>, &'static str> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.trim_ascii().is_empty() || line.starts_with(b"#") {
        return Ok(None);
    }
    let line = std::str::from_utf8(line).map_err(|_| "is not UTF-8")?;
    let (hex, rest) = line.split_at_checked(64).ok_or(FORM)?;
    let digest = Digest::from_hex(&hex.to_ascii_lowercase()).ok_or(FORM)?;
    let name = rest.strip_prefix("  ").or_else(|| rest.strip_prefix(" *")).ok_or(FORM)?;
    // `find . -type f` names files so.
    let name = name.strip_prefix("./").unwrap_or(name);
    check_name(name)?;
    Ok(Some((digest, name)))
}

const FORM: &str = "must be 64 hex digits, two spaces (or a space and *), and a name";

fn check_name(name: &str) -> Result<(), &'static str> {
    if name == NAME {
        return Err("the list has its own name, but no list can hold its own checksum");
    }
    if name.contains('\\') || name.contains(char::is_control) {
        return Err("the name has a backslash or a control character");
    }
    // `split` finds the empty and `.` parts that `components` leaves out.
    let is_plain = |part: &str| !matches!(part, "" | "." | "..");
    let is_normal = |part: Component<'_>| matches!(part, Component::Normal(_));
    if !name.split('/').all(is_plain) || !Path::new(name).components().all(is_normal) {
        return Err("the name must be a relative path, without empty parts, . and ..");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const B: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn names(list: &str) -> Vec<String> {
        parse(list.as_bytes()).unwrap().into_keys().collect()
    }

    fn wrong(list: &str) -> (usize, String) {
        parse(list.as_bytes()).unwrap_err()
    }

    #[test]
    fn lists_of_sha256sum() {
        assert!(names("").is_empty());
        assert!(names("\n# a comment\r\n  \n").is_empty());
        let list = format!("{A}  b c\r\n{B} *a/b.bin\n{}  ./ä\n{A}  b c", A.to_uppercase());
        assert_eq!(names(&list), ["a/b.bin", "b c", "ä"]);
        assert_eq!(parse(list.as_bytes()).unwrap()["ä"].to_string(), A);
    }

    #[test]
    fn wrong_lines_are_counted() {
        assert_eq!(wrong(&format!("{A}  a\n\n{A} b")), (3, FORM.to_owned()));
        let twice = wrong(&format!("{A}  a\r\n{B}  a"));
        assert_eq!(twice, (2, "lists \"a\" again, with another checksum".to_owned()));
        for line in ["x".repeat(70), A[1..].to_owned(), A.to_owned(), format!("{A}\ta")] {
            assert_eq!(wrong(&line), (1, FORM.to_owned()));
        }
        assert_eq!(parse(&[0xff; 80]).unwrap_err(), (1, "is not UTF-8".to_owned()));
        // A character on the border of the digits.
        assert_eq!(wrong(&format!("{}é  a", &A[1..])), (1, FORM.to_owned()));
    }

    #[test]
    fn names_stay_in_the_folder() {
        for name in [
            "",
            ".",
            "..",
            "../a",
            "a/../b",
            "/a",
            "//a",
            "a//b",
            "a/",
            "a/./b",
            "././a",
            "./",
            "a\\b",
            "a\0",
            "a\rb",
            "a\tb",
            "\u{7f}",
            "\u{85}",
            NAME,
            "./SHA256SUMS",
        ] {
            let (line, reason) = wrong(&format!("{A}  {name}"));
            assert_eq!(line, 1);
            assert!(reason.contains("name"), "{name:?}: {reason}");
        }
        // These are odd, but inside the folder.
        assert_eq!(names(&format!("{A}  ...\n{A}   a\n{A}  x/SHA256SUMS")).len(), 3);
    }

    #[test]
    fn a_huge_list_is_refused() {
        let list = vec![b'\n'; MAX_BYTES as usize + 1];
        assert_eq!(parse(&list).unwrap_err().1, "the list goes on after 16777216 bytes");
        assert!(parse(&list[1..]).unwrap().is_empty());
    }

    #[test]
    fn random_bytes_do_no_harm() {
        const PIECES: [&[u8]; 12] = [
            A.as_bytes(),
            B.as_bytes(),
            b"  ",
            b" *",
            b"\n",
            b"\r\n",
            b"../",
            b"/",
            b"a",
            b"#",
            b"\0",
            "é".as_bytes(),
        ];
        let mut state = 1u64;
        let mut random = move || {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as usize
        };
        for _ in 0..20_000 {
            let mut list = Vec::new();
            for _ in 0..random() % 12 {
                match random() % 14 {
                    piece @ 0..12 => list.extend_from_slice(PIECES[piece]),
                    _ => list.push(random() as u8),
                }
            }
            let lines = list.split(|byte| *byte == b'\n').count();
            match parse(&list) {
                Ok(sums) => assert!(sums.keys().all(|name| check_name(name).is_ok())),
                Err((line, reason)) => assert!((1..=lines).contains(&line), "{reason}"),
            }
        }
    }
}
