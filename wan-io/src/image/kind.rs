//! What a file is, told by its first bytes.

use super::ImageError;
use crate::foreign;

/// The kinds that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Png,
    Jpeg,
    WebP,
}

impl Kind {
    pub(super) fn detect(name: &str, bytes: &[u8]) -> Result<Self, ImageError> {
        let start = &bytes[..bytes.len().min(foreign::START)];
        match start {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Ok(Self::Png),
            [0xFF, 0xD8, 0xFF, ..] => Ok(Self::Jpeg),
            [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Ok(Self::WebP),
            _ => {
                let found = foreign(start, bytes.len() as u64);
                Err(ImageError::UnknownKind { image: name.to_owned(), found })
            }
        }
    }
}

/// How pictures of other kinds begin: where, with which bytes, and what they are.
const FOREIGN: &[(usize, &[u8], &str)] = &[
    (0, b"GIF8", "a GIF"),
    (0, b"BM", "a BMP"),
    (4, b"ftypavi", "an AVIF picture"),
    (4, b"ftyphe", "a HEIC picture"),
    (4, b"ftypmif1", "a HEIF or AVIF picture"),
    (4, b"ftypmsf1", "a HEIF or AVIF animation"),
    (4, b"ftypcrx", "a raw picture of a camera"),
    (4, b"ftyp", "a video"),
    (0, b"\x1A\x45\xDF\xA3", "a WebM or Matroska video"),
    (8, b"AVI ", "an AVI video"),
    (0, b"II*\0", "a TIFF or a raw picture of a camera"),
    (0, b"MM\0*", "a TIFF or a raw picture of a camera"),
    (0, b"\xFF\x0A", "a JPEG XL"),
    (4, b"JXL ", "a JPEG XL"),
    (4, b"jP  ", "a JPEG 2000"),
    (0, b"8BPS", "a Photoshop document"),
    (0, b"\0\0\x01\0", "an icon"),
    (0, b"\x76\x2F\x31\x01", "an OpenEXR picture"),
    (0, b"DDS ", "a DirectDraw texture"),
    (0, b"qoif", "a QOI picture"),
    (0, b"%PDF-", "a PDF"),
];

fn foreign(start: &[u8], length: u64) -> String {
    let begins = |at: usize, bytes: &[u8]| start.get(at..).is_some_and(|s| s.starts_with(bytes));
    if let Some((.., what)) = FOREIGN.iter().find(|(at, bytes, _)| begins(*at, bytes)) {
        return (*what).into();
    }
    if start.windows(4).any(|bytes| bytes == b"<svg") {
        return "an SVG drawing".into();
    }
    foreign::undelivered(start, length).unwrap_or_else(|| "no picture".into())
}
