//! The writer for every format.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
};

#[cfg(feature = "mp4")]
use super::mp4::Mp4Encoder;
use super::{
    Format, Metadata, VideoError, VideoSpec,
    gif::GifEncoder,
    png::{PictureEncoder, PngFolderEncoder},
    raw::RawEncoder,
};
use crate::files::{
    Destination,
    atomic::{AtomicFile, AtomicFolder},
};

/// Takes the frames of a video, one at a time and in order.
pub trait FrameSink {
    /// Adds the next frame: rgb24, row-major, `width * height * 3` bytes.
    ///
    /// # Errors
    /// When the frame does not fit the video, or cannot be encoded or stored.
    fn write_frame(&mut self, rgb: &[u8]) -> Result<(), VideoError>;
}

/// Encodes the frames of one format.
pub(super) trait FrameEncoder {
    /// Adds a frame, whose length is right.
    fn write_frame(&mut self, rgb: &[u8]) -> Result<(), VideoError>;

    /// Completes the file and moves it to its name, after the last frame.
    fn finish(self: Box<Self>) -> Result<(), VideoError>;
}

/// Writes one video file, or folder of frames.
///
/// Nothing stands under the final name before [`finish`](Self::finish). Until then a file has no name
/// (on Linux) or a temporary one beside its target, as a folder has from its first frame on. Dropping the
/// writer earlier, or any error, removes it; a file that stood under the final name before is then still
/// there. What a killed process has left under temporary names is removed when the same output is opened
/// again.
///
/// A link is followed. A pipe, a device or a socket that is there, and `/dev/stdout`, are written in
/// place: frame by frame, but an MP4 at the end, since its head is known last.
pub struct VideoWriter {
    path: PathBuf,
    spec: VideoSpec,
    written: u32,
    /// `None` after an error.
    encoder: Option<Box<dyn FrameEncoder + Send>>,
}

impl VideoWriter {
    /// Opens `path` for a video; [`Format::from_path`] picks the format. What is written in place needs
    /// no ending: it gets the format of the file that standard output was sent to, if that has one,
    /// or else raw frames.
    ///
    /// All that can fail early fails here: the name, the folder and the right to write in it, the
    /// size, the encoder. `metadata` is stored inside the file (not in `.rgb`), with `width`,
    /// `height`, `num_frames` and `fps` set from `spec`.
    ///
    /// # Errors
    /// Any of [`VideoError`]'s variants that speak of a path, a property or the metadata.
    pub fn create(
        path: impl AsRef<Path>,
        spec: &VideoSpec,
        metadata: &Metadata,
    ) -> Result<Self, VideoError> {
        let path = path.as_ref();
        let format = format(path)?;
        spec.check(format, path)?;
        let metadata = metadata.for_spec(spec);
        let json = metadata.to_json(path)?;
        let encoder: Box<dyn FrameEncoder + Send> = match format {
            #[cfg(feature = "mp4")]
            Format::Mp4 => {
                let out = AtomicFile::create(path)?.seekable()?;
                Box::new(Mp4Encoder::create(out, spec, &metadata, &json)?)
            }
            #[cfg(not(feature = "mp4"))]
            Format::Mp4 => {
                return Err(VideoError::FeatureOff { path: path.to_path_buf(), feature: "mp4" });
            }
            Format::Gif => Box::new(GifEncoder::create(AtomicFile::create(path)?, spec, &json)?),
            Format::Png => Box::new(PictureEncoder::create(AtomicFile::create(path)?, spec, json)),
            Format::PngFolder => {
                Box::new(PngFolderEncoder::create(AtomicFolder::create(path)?, spec, json))
            }
            Format::Raw => Box::new(RawEncoder::create(AtomicFile::create(path)?)),
        };
        Ok(Self { path: path.to_path_buf(), spec: *spec, written: 0, encoder: Some(encoder) })
    }

    /// Completes the video and moves it to its final name.
    ///
    /// # Errors
    /// [`VideoError::TooFewFrames`], or when the result cannot be stored; nothing stands under the
    /// final name then.
    pub fn finish(self) -> Result<(), VideoError> {
        let Some(encoder) = self.encoder else {
            return Err(VideoError::GivenUp { path: self.path });
        };
        if self.written < self.spec.frames {
            return Err(VideoError::TooFewFrames {
                path: self.path,
                found: self.written,
                expected: self.spec.frames,
            });
        }
        encoder.finish()
    }

    fn try_write(&mut self, rgb: &[u8]) -> Result<(), VideoError> {
        let path = || self.path.clone();
        let Some(encoder) = &mut self.encoder else {
            return Err(VideoError::GivenUp { path: path() });
        };
        if self.written == self.spec.frames {
            return Err(VideoError::TooManyFrames { path: path(), expected: self.spec.frames });
        }
        if rgb.len() != self.spec.frame_bytes() {
            return Err(VideoError::FrameLength {
                path: path(),
                frame: self.written,
                found: rgb.len(),
                expected: self.spec.frame_bytes(),
                width: self.spec.width,
                height: self.spec.height,
            });
        }
        encoder.write_frame(rgb)?;
        self.written += 1;
        Ok(())
    }
}

/// The format that the ending of `path` says, which streams may be without.
fn format(path: &Path) -> Result<Format, VideoError> {
    let unknown = match Format::from_path(path) {
        Err(error @ VideoError::UnknownEnding { .. }) if path.extension().is_none() => error,
        known => return known,
    };
    let Destination::Stream(stream) = Destination::of(path) else { return Err(unknown) };
    let behind = fs::canonicalize(stream).unwrap_or_default();
    match Format::from_path(&behind) {
        Err(VideoError::UnknownEnding { .. }) => Ok(Format::Raw),
        format => format,
    }
}

impl fmt::Debug for VideoWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VideoWriter")
            .field("path", &self.path)
            .field("spec", &self.spec)
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

impl FrameSink for VideoWriter {
    fn write_frame(&mut self, rgb: &[u8]) -> Result<(), VideoError> {
        let result = self.try_write(rgb);
        if result.is_err() {
            // Removes the temporary file now, and makes a later `finish` an error.
            self.encoder = None;
        }
        result
    }
}
