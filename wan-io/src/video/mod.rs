//! Video files: MP4, GIF, PNG (one picture, or a folder of frames), raw RGB, and the metadata inside
//! them. [`read_video`] reads what others made.
//!
//! [`VideoWriter::create`] picks the [`Format`] by the name of the target, checks everything that
//! can be checked before the first frame exists, and then takes one frame at a time. A file or
//! folder appears under its final name only when it is whole.
//!
//! ```
//! use wan_io::video::{FrameRate, FrameSink, Metadata, VideoSpec, VideoWriter};
//!
//! # fn main() -> Result<(), wan_io::video::VideoError> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("cat.gif");
//! let spec = VideoSpec { width: 64, height: 48, fps: FrameRate::new(16), frames: 2 };
//! let mut writer = VideoWriter::create(&path, &spec, &Metadata::new("a cat"))?;
//! for _ in 0..spec.frames {
//!     writer.write_frame(&vec![128; 64 * 48 * 3])?;
//! }
//! writer.finish()?;
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "mp4")]
mod convert;
mod error;
mod format;
mod frame_rate;
mod gif;
mod gif_read;
mod kind;
mod metadata;
#[cfg(feature = "mp4")]
mod mp4;
#[cfg(feature = "mp4")]
mod mp4_level;
#[cfg(feature = "mp4")]
mod mp4_read;
mod mp4_tags;
mod png;
mod raw;
mod read;
mod source;
mod spec;
mod writer;

pub use error::VideoError;
pub use format::Format;
pub use frame_rate::{FrameRate, FrameRateError};
pub use metadata::{Metadata, read_metadata};
#[cfg(feature = "mp4")]
pub use mp4_read::read_mp4;
pub use png::read_png_folder;
pub use read::read_video;
pub use spec::VideoSpec;
pub use writer::{FrameSink, VideoWriter};

/// A video in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodedVideo {
    /// Size, rate and number of frames.
    pub spec: VideoSpec,
    /// One buffer a frame: rgb24, row-major, `width * height * 3` bytes.
    pub frames: Vec<Vec<u8>>,
}

/// Readers refuse videos whose decoded frames would need more memory than this, because a few
/// kilobytes of a hostile file can claim any number of large frames.
const MAX_DECODED_BYTES: u64 = 4 << 30;

/// Checks a claimed number of frames against [`MAX_DECODED_BYTES`].
fn check_decoded_size(
    path: &std::path::Path,
    frame_bytes: usize,
    frames: u64,
) -> Result<(), VideoError> {
    let bytes = (frame_bytes as u64).saturating_mul(frames);
    if bytes > MAX_DECODED_BYTES {
        return Err(VideoError::TooLarge {
            path: path.to_path_buf(),
            what: "decoded frames",
            bytes,
            limit: MAX_DECODED_BYTES,
        });
    }
    Ok(())
}
