//! Raw rgb24 frames, one after the other.

use super::{FrameSink, VideoError, staged::StagedFile};

pub(super) struct RawSink {
    out: StagedFile,
}

impl RawSink {
    pub(super) fn create(out: StagedFile) -> Self {
        Self { out }
    }
}

impl FrameSink for RawSink {
    fn write_frame(&mut self, rgb: &[u8]) -> Result<(), VideoError> {
        self.out.write(rgb)
    }

    fn finish(self: Box<Self>) -> Result<(), VideoError> {
        self.out.commit()
    }
}
