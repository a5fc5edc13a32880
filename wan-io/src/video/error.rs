//! Errors of video files.

use std::{io, path::Path, path::PathBuf};

use super::format::ENDINGS;
use crate::counted;
use crate::files::WriteError;

/// Why a video could not be written or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VideoError {
    /// The name does not say which format is meant.
    #[error("`{path}` has {ending}: use {ENDINGS}")]
    UnknownEnding {
        /// The path as given.
        path: PathBuf,
        /// The ending found, in words.
        ending: String,
    },
    /// The format exists, but was left out when this library was built.
    #[error(
        "`{path}` needs the cargo feature `{feature}` of `wan-io`, which is off in this build: \
         turn it on, or use another format"
    )]
    FeatureOff {
        /// The path as given.
        path: PathBuf,
        /// The name of the cargo feature.
        feature: &'static str,
    },
    /// A property of the video does not fit the format.
    #[error("`{path}`: {field} is {value}, but must be {expected}")]
    Spec {
        /// The path as given.
        path: PathBuf,
        /// The field of [`VideoSpec`](super::VideoSpec), or `size`.
        field: &'static str,
        /// The value found.
        value: String,
        /// The values that are allowed.
        expected: &'static str,
    },
    /// The file or folder cannot be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// The file system refused.
    #[error("cannot {action} `{path}`: {source}")]
    Io {
        /// The step that failed, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A frame has the wrong number of bytes.
    #[error(
        "frame {frame} of `{path}` has {}, but {width}x{height} rgb24 is {expected} bytes",
        counted(*.found as u64, "byte")
    )]
    FrameLength {
        /// The path as given.
        path: PathBuf,
        /// The frame, from 0.
        frame: u32,
        /// Bytes found.
        found: usize,
        /// Bytes needed.
        expected: usize,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// More frames than announced.
    #[error(
        "`{path}` was opened for {}, but one more was written",
        counted((*.expected).into(), "frame")
    )]
    TooManyFrames {
        /// The path as given.
        path: PathBuf,
        /// Frames announced.
        expected: u32,
    },
    /// Finished before all announced frames were written.
    #[error(
        "`{path}` was opened for {}, but {found} of them came",
        counted((*.expected).into(), "frame")
    )]
    TooFewFrames {
        /// The path as given.
        path: PathBuf,
        /// Frames written.
        found: u32,
        /// Frames announced.
        expected: u32,
    },
    /// The writer was used again after an error.
    #[error("`{path}` was given up after an earlier error: create a new writer")]
    GivenUp {
        /// The path as given.
        path: PathBuf,
    },
    /// An encoder failed.
    #[error("cannot encode `{path}`: {reason}")]
    Encode {
        /// The path as given.
        path: PathBuf,
        /// The error of the encoder.
        reason: String,
    },
    /// The encoder skipped a frame, or made several pictures of it.
    #[error("frame {frame} of `{path}` became {pictures} pictures of H.264, but must become one")]
    Pictures {
        /// The path as given.
        path: PathBuf,
        /// The frame, from 0.
        frame: usize,
        /// Pictures that the encoder made of it.
        pictures: usize,
    },
    /// The environment names a date that is none.
    #[error(
        "SOURCE_DATE_EPOCH is `{value}`, but must be a whole number of seconds since 1970, before \
         2106: correct it, or unset it for the present time"
    )]
    Date {
        /// The value found.
        value: String,
    },
    /// The metadata cannot be stored.
    #[error("the metadata for `{path}` cannot be stored: {reason}")]
    Metadata {
        /// The path as given.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A file is damaged, or is not what its name or its first bytes say.
    #[error("`{path}` cannot be read: {reason}")]
    Broken {
        /// The file or folder.
        path: PathBuf,
        /// The defect and its place, in words.
        reason: String,
    },
    /// A file ends before its content does.
    #[error("`{path}` is cut off: {reason}")]
    CutOff {
        /// The file.
        path: PathBuf,
        /// The part that is not whole.
        reason: String,
    },
    /// The content of a file is none of those that are read.
    #[error(
        "`{path}` cannot be read: it is {found}; MP4 (H.264), GIF, PNG and folders of PNG frames \
         can be"
    )]
    UnknownKind {
        /// The file.
        path: PathBuf,
        /// The kind found, in words.
        found: &'static str,
    },
    /// Raw frames do not say their size.
    #[error(
        "`{path}` cannot be read: raw rgb24 does not say how wide and high its frames are; use \
         MP4, GIF, PNG or a folder of PNG frames"
    )]
    NoSize {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing to show.
    #[error("`{path}` holds no {kind}")]
    NoFrames {
        /// The file or folder.
        path: PathBuf,
        /// The kind of frames looked for.
        kind: &'static str,
    },
    /// Frames of one video differ in size.
    #[error("`{path}` is {width}x{height}, but the first frame is {first_width}x{first_height}")]
    FrameSize {
        /// The file of the frame.
        path: PathBuf,
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
        /// Width of the first frame.
        first_width: u32,
        /// Height of the first frame.
        first_height: u32,
    },
    /// The video was encoded in a way that is not decoded here.
    #[error(
        "`{path}` holds {found}, but of MP4 only H.264 of 8 bits and 4:2:0 without B-frames is \
         read: make a folder of PNG frames of it, for example with FFmpeg"
    )]
    Codec {
        /// The file.
        path: PathBuf,
        /// The codec found, in words.
        found: String,
    },
    /// A single picture was asked for, but there are several frames.
    #[error(
        "`{path}` holds one picture, but the video has {frames} frames: write `{folder}/` for a \
         folder of PNG frames"
    )]
    OnePicture {
        /// The path as given.
        path: PathBuf,
        /// Frames announced.
        frames: u32,
        /// A folder that would hold all of them.
        folder: PathBuf,
    },
    /// A file asks for more memory than readers give.
    #[error("`{path}` cannot be read: its {what} take {bytes} bytes, more than {limit}")]
    TooLarge {
        /// The file or folder.
        path: PathBuf,
        /// The part that is too large.
        what: &'static str,
        /// Bytes claimed.
        bytes: u64,
        /// Bytes allowed.
        limit: u64,
    },
}

impl VideoError {
    /// For `map_err` on an I/O call.
    pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }

    pub(super) fn broken(path: &Path, reason: impl ToString) -> Self {
        Self::Broken { path: path.to_path_buf(), reason: reason.to_string() }
    }

    pub(super) fn cut_off(path: &Path, reason: impl ToString) -> Self {
        Self::CutOff { path: path.to_path_buf(), reason: reason.to_string() }
    }

    pub(super) fn encode(path: &Path, reason: impl ToString) -> Self {
        Self::Encode { path: path.to_path_buf(), reason: reason.to_string() }
    }
}
