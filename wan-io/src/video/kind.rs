//! The kind of a file, told by its first bytes.

use std::{
    fs::{self, File},
    io::Read,
    path::Path,
};

use super::VideoError;

/// The kinds that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A folder, which should hold PNG frames.
    Folder,
    Mp4,
    Gif,
    Png,
}

impl Kind {
    /// Looks at the first bytes of the file at `path`.
    pub(super) fn detect(path: &Path) -> Result<Self, VideoError> {
        let io = |error| VideoError::io("read", path)(error);
        if fs::metadata(path).map_err(io)?.is_dir() {
            return Ok(Self::Folder);
        }
        let mut start = Vec::new();
        File::open(path).map_err(io)?.take(12).read_to_end(&mut start).map_err(io)?;
        match start.as_slice() {
            [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1A, b'\n', ..] => Ok(Self::Png),
            [b'G', b'I', b'F', b'8', ..] => Ok(Self::Gif),
            [_, _, _, _, b'f', b't', b'y', b'p', ..] => Ok(Self::Mp4),
            other => Err(VideoError::UnknownKind { path: path.into(), found: foreign(other) }),
        }
    }
}

/// The kinds that users try, but that are not read.
fn foreign(start: &[u8]) -> &'static str {
    match start {
        [0x1A, 0x45, 0xDF, 0xA3, ..] => "a WebM or Matroska file",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'A', b'V', b'I', b' '] => "an AVI file",
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P'] => "a WebP file",
        [0xFF, 0xD8, 0xFF, ..] => "a JPEG file",
        [b'O', b'g', b'g', b'S', ..] => "an Ogg file",
        [] => "empty",
        _ => "no MP4, GIF or PNG file",
    }
}
