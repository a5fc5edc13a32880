//! Raw rgb24 frames, one after the other.

use super::{FrameSink, VideoError};
use crate::files::atomic::AtomicFile;

pub(super) struct RawSink {
    out: AtomicFile,
}

impl RawSink {
    pub(super) fn create(out: AtomicFile) -> Self {
        Self { out }
    }
}

impl FrameSink for RawSink {
    fn write_frame(&mut self, rgb: &[u8]) -> Result<(), VideoError> {
        Ok(self.out.write(rgb)?)
    }

    fn finish(self: Box<Self>) -> Result<(), VideoError> {
        Ok(self.out.commit()?)
    }
}
