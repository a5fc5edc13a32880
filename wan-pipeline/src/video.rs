use std::path::Path;

use wan_io::video::{FrameSink, Metadata, VideoError, VideoSpec, VideoWriter};

use crate::{Error, Plan};

/// A finished video in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Video {
    spec: VideoSpec,
    metadata: Metadata,
    /// All frames one after the other, rgb24.
    pixels: Vec<u8>,
}

impl Video {
    /// A video without frames: [`Pipeline::decode`](crate::Pipeline::decode) adds them.
    pub fn new(plan: &Plan) -> Self {
        Self::with_spec(plan.video_spec(), plan.metadata())
    }

    pub(crate) fn with_spec(spec: VideoSpec, metadata: Metadata) -> Self {
        Self { spec, metadata, pixels: Vec::new() }
    }

    /// Size, rate and number of frames.
    pub fn spec(&self) -> &VideoSpec {
        &self.spec
    }

    /// How it was made; [`save`](Self::save) stores this in the file.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The frames, each rgb24: row by row, three bytes a pixel.
    pub fn frames(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.pixels.chunks_exact(self.spec.frame_bytes())
    }

    /// Writes the video to `path`, whose ending decides how: `.mp4` (H.264), `.gif`, `.rgb` (raw
    /// rgb24), `.png` for a single picture, or `/` for a folder of PNG frames. Nothing stands under
    /// `path` before it is whole.
    ///
    /// # Errors
    /// If the ending is unknown, the folder is not there, or it cannot be written.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        let mut writer = VideoWriter::create(path, &self.spec, &self.metadata)?;
        for frame in self.frames() {
            writer.write_frame(frame)?;
        }
        Ok(writer.finish()?)
    }
}

impl FrameSink for Video {
    fn write_frame(&mut self, rgb: &[u8]) -> Result<(), VideoError> {
        self.pixels.extend_from_slice(rgb);
        Ok(())
    }
}
