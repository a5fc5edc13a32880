//! Bounded reading: a file says where its parts are and how long, and may lie.

use std::{
    io::{Read, Seek, SeekFrom},
    path::Path,
};

use super::VideoError;

/// The most that is read at once. Ten hours of video have boxes of some megabytes.
const MAX_READ_BYTES: u64 = 64 << 20;

/// The most top-level boxes that readers walk over. Files of other programs can have a few,
/// hostile ones any number.
pub(super) const MAX_TOP_LEVEL_BOXES: usize = 1000;

/// A file of known length.
pub(super) struct Source<'a, F> {
    pub(super) path: &'a Path,
    file: F,
    pub(super) bytes: u64,
}

impl<'a, F: Read + Seek> Source<'a, F> {
    pub(super) fn new(mut file: F, path: &'a Path) -> Result<Self, VideoError> {
        let bytes = file.seek(SeekFrom::End(0)).map_err(VideoError::io("read", path))?;
        Ok(Self { path, file, bytes })
    }

    /// Reads `bytes` bytes from `position` on.
    pub(super) fn read(&mut self, position: u64, bytes: u64) -> Result<Vec<u8>, VideoError> {
        if position.checked_add(bytes).is_none_or(|end| end > self.bytes) {
            let reason = format!(
                "it has {} bytes, but says that {bytes} follow after the first {position}",
                self.bytes
            );
            return Err(VideoError::cut_off(self.path, reason));
        }
        if bytes > MAX_READ_BYTES {
            return Err(VideoError::TooLarge {
                path: self.path.to_path_buf(),
                what: "headers or frames",
                bytes,
                limit: MAX_READ_BYTES,
            });
        }
        let io = |error| VideoError::io("read", self.path)(error);
        let mut data = vec![0; bytes as usize];
        self.file.seek(SeekFrom::Start(position)).map_err(io)?;
        self.file.read_exact(&mut data).map_err(io)?;
        Ok(data)
    }
}
