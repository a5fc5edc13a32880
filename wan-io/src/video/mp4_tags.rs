//! The tags inside an MP4: `moov/udta/meta/ilst`, as iTunes, FFmpeg and ExifTool know them.
//!
//! Reading needs no decoder, so it also works without the cargo feature `mp4`.
#![cfg_attr(not(feature = "mp4"), allow(dead_code))] // Writing is for the encoder only.

use std::{
    io::{Read, Seek},
    path::Path,
};

use super::{
    VideoError,
    source::{MAX_TOP_LEVEL_BOXES, Source},
};

type Kind = [u8; 4];

const COMMENT: Kind = *b"\xA9cmt";
const ENCODING_TOOL: Kind = *b"\xA9too";

/// The payload of a `udta` box that holds `json` as the comment.
pub(super) fn udta_payload(json: &str, software: Option<&str>) -> Vec<u8> {
    // Full box header, no type, then the handler `mdir` of `appl`, three unused fields, no name.
    let handler = b"\0\0\0\0\0\0\0\0mdirappl\0\0\0\0\0\0\0\0\0";
    let tool = software.map(|software| text(ENCODING_TOOL, software));
    let list = [tool.unwrap_or_default(), text(COMMENT, json)].concat();
    let meta = [vec![0; 4], make_box(*b"hdlr", handler), make_box(*b"ilst", &list)];
    make_box(*b"meta", &meta.concat())
}

fn text(kind: Kind, text: &str) -> Vec<u8> {
    const UTF8: [u8; 8] = [0, 0, 0, 1, 0, 0, 0, 0]; // Type 1, no locale.
    let data = make_box(*b"data", &[&UTF8, text.as_bytes()].concat());
    make_box(kind, &data)
}

/// A whole box. The payload is far below 4 GiB: `Metadata::to_json` limits all that goes in.
pub(super) fn make_box(kind: Kind, payload: &[u8]) -> Vec<u8> {
    let size = (payload.len() + 8) as u32;
    [&size.to_be_bytes(), &kind, payload].concat()
}

/// Reads the comment tag, if there is one.
pub(super) fn read_comment(
    file: impl Read + Seek,
    path: &Path,
) -> Result<Option<String>, VideoError> {
    let moov = read_moov(file, path)?;
    let find = |data, kind| find_box(data, kind).map_err(|reason| VideoError::broken(path, reason));
    let Some(udta) = find(&moov, *b"udta")? else {
        return Ok(None);
    };
    // `meta` is a full box: 4 bytes of version and flags come first.
    let Some(meta) = find(udta, *b"meta")?.and_then(|meta| meta.get(4..)) else {
        return Ok(None);
    };
    let Some(list) = find(meta, *b"ilst")? else {
        return Ok(None);
    };
    let Some(comment) = find(list, COMMENT)? else {
        return Ok(None);
    };
    let Some(text) = find(comment, *b"data")?.and_then(|data| data.get(8..)) else {
        return Ok(None);
    };
    Ok(String::from_utf8(text.to_vec()).ok())
}

/// Reads the payload of the `moov` box, wherever in the file it stands.
fn read_moov(file: impl Read + Seek, path: &Path) -> Result<Vec<u8>, VideoError> {
    let mut source = Source::new(file, path)?;
    let mut position = 0;
    for _ in 0..MAX_TOP_LEVEL_BOXES {
        let rest = source.bytes - position;
        if rest == 0 {
            return Err(VideoError::cut_off(path, "it ends without a `moov` box"));
        }
        let start = source.read(position, rest.min(16))?;
        let (kind, header, size) =
            parse_header(&start, rest).map_err(|reason| VideoError::broken(path, reason))?;
        if kind == *b"moov" {
            return source.read(position + header, size - header);
        }
        if size > rest {
            let reason = "it ends inside a box before the `moov` box";
            return Err(VideoError::cut_off(path, reason));
        }
        position += size;
    }
    let reason = "it has too many boxes before the `moov` box";
    Err(VideoError::broken(path, reason))
}

/// The payload of the first box of `kind` in `data`, which is a run of boxes.
fn find_box(mut data: &[u8], kind: Kind) -> Result<Option<&[u8]>, String> {
    // QuickTime ends a list of boxes with four zero bytes.
    while data.len() >= 8 {
        let (found, header, size) = parse_header(data, data.len() as u64)?;
        let whole = usize::try_from(size).ok().and_then(|size| data.split_at_checked(size));
        let Some((whole, rest)) = whole else {
            let name = String::from_utf8_lossy(&found).into_owned();
            return Err(format!("its box `{name}` is longer than the box around it"));
        };
        if found == kind {
            return Ok(whole.get(header as usize..));
        }
        data = rest;
    }
    Ok(None)
}

/// Reads the kind of a box, the bytes of its header, and those of the whole box, which may reach
/// beyond `available`. The whole box is never shorter than its header.
fn parse_header(start: &[u8], available: u64) -> Result<(Kind, u64, u64), String> {
    let (Some(&small), Some(&kind)) =
        (start.first_chunk::<4>(), start.get(4..).and_then(|rest| rest.first_chunk::<4>()))
    else {
        return Err("it ends inside the header of a box".into());
    };
    let (header, size) = match u32::from_be_bytes(small) {
        0 => (8, available),
        1 => match start.get(8..).and_then(|rest| rest.first_chunk::<8>()) {
            Some(&large) => (16, u64::from_be_bytes(large)),
            None => return Err("it ends inside the header of a box".into()),
        },
        size => (8, u64::from(size)),
    };
    if size < header {
        let name = String::from_utf8_lossy(&kind);
        return Err(format!("its box `{name}` claims a size of {size} bytes"));
    }
    Ok((kind, header, size))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<String>, VideoError> {
        read_comment(Cursor::new(bytes), Path::new("x.mp4"))
    }

    fn file(json: &str) -> Vec<u8> {
        let udta = make_box(*b"udta", &udta_payload(json, Some("tool")));
        [
            make_box(*b"ftyp", b"isom\0\0\0\0"),
            make_box(*b"free", &[0; 5]),
            make_box(*b"moov", &[make_box(*b"mvhd", &[0; 9]), udta].concat()),
        ]
        .concat()
    }

    #[test]
    fn finds_the_comment() {
        assert_eq!(read(&file("{\"猫\"}")).unwrap().unwrap(), "{\"猫\"}");
    }

    #[test]
    fn damage_anywhere_never_panics() {
        let whole = file("a comment");
        for length in 0..whole.len() {
            assert!(read(&whole[..length]).is_err(), "cut at {length}");
        }
        for at in 0..whole.len() {
            for value in [0, 1, 7, 8, 9, 0x7f, 0xff, whole[at] ^ 1, whole[at] ^ 0x80] {
                let mut damaged = whole.clone();
                damaged[at] = value;
                let _ = read(&damaged);
            }
        }
    }

    #[test]
    fn hostile_sizes_are_errors() {
        let huge = |size: u64| [b"\0\0\0\x01moov", size.to_be_bytes().as_slice()].concat();
        for bytes in [
            huge(u64::MAX),
            huge(15),
            huge(1 << 40),
            b"\0\0\0\x01moov\0\0".to_vec(),
            b"\0\0\0\x07free".to_vec(),
            b"\0\0\0\x08free".repeat(2_000_000),
            b"\xff\xff\xff\xffmoov".to_vec(),
            b"\0\0\0".to_vec(),
            Vec::new(),
        ] {
            let error = read(&bytes).unwrap_err();
            assert!(matches!(error, VideoError::Broken { .. } | VideoError::CutOff { .. }));
        }
    }

    #[test]
    fn moov_without_tags_holds_no_comment() {
        assert_eq!(read(b"\0\0\0\x08moov").unwrap(), None);
        assert_eq!(read(b"\0\0\0\x00moov\0\0\0\x08udta").unwrap(), None);
        assert!(read(b"\0\0\0\x10moov\0\0\0\x09udta").is_err());
    }
}
