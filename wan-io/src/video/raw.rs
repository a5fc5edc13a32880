//! Raw rgb24 frames, one after the other.

use super::{VideoError, writer::FrameEncoder};
use crate::files::atomic::AtomicFile;

pub(super) struct RawEncoder {
    out: AtomicFile,
}

impl RawEncoder {
    pub(super) fn create(out: AtomicFile) -> Self {
        Self { out }
    }
}

impl FrameEncoder for RawEncoder {
    fn write_frame(&mut self, rgb: &[u8]) -> Result<(), VideoError> {
        Ok(self.out.write(rgb)?)
    }

    fn finish(self: Box<Self>) -> Result<(), VideoError> {
        Ok(self.out.commit()?)
    }
}
