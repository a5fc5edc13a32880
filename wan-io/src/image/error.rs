//! Errors of pictures.

use crate::files::{FileError, presentable};

/// Why a picture cannot be read, or not be fitted to a model.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The file is not there, or cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The content is of a kind that is not read.
    #[error("{image}: is {found}; a PNG, JPEG or WebP is needed")]
    UnknownKind {
        /// The file.
        image: String,
        /// The kind found, in words.
        found: String,
    },
    /// The file ends before the picture does.
    #[error("{image}: is cut off: {found}; get the whole {kind}")]
    CutOff {
        /// The file.
        image: String,
        /// Its format.
        kind: &'static str,
        /// The part that is missing.
        found: String,
    },
    /// The file is damaged, or uses what the decoder has not.
    #[error("{image}: cannot be read as {kind}: {found}; get it again, or save it anew as PNG")]
    Broken {
        /// The file.
        image: String,
        /// Its format.
        kind: &'static str,
        /// The defect, in words.
        found: String,
    },
    /// More pixels than are decoded or made.
    #[error("{image}: has {width}x{height} pixels, but must have at most {limit} in all")]
    TooLarge {
        /// The picture.
        image: String,
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
        /// The most pixels allowed.
        limit: u64,
    },
    /// The number of bytes is not that of a picture of this size.
    #[error("{width}x{height} pixels in rgb24 are {expected} bytes, but {found} were given")]
    Length {
        /// The width in pixels.
        width: u32,
        /// The height in pixels.
        height: u32,
        /// The bytes that such a picture has.
        expected: u64,
        /// The bytes given.
        found: usize,
    },
    /// A side of a picture is 0.
    #[error("{image}: is {width}x{height} pixels, but each side must have at least 1")]
    Empty {
        /// The picture.
        image: String,
        /// The width in pixels.
        width: u32,
        /// The height in pixels.
        height: u32,
    },
    /// The picture is so narrow that a side of the video would have no pixels.
    #[error(
        "{image}: is {width}x{height} pixels, too narrow for a video of {max_area} pixels a frame \
         whose sides are multiples of {factor}: one would be 0; crop it first"
    )]
    TooNarrow {
        /// The picture.
        image: String,
        /// Its width in pixels.
        width: u32,
        /// Its height in pixels.
        height: u32,
        /// The pixels that a frame should have.
        max_area: u64,
        /// What the sides of a frame are multiples of.
        factor: u32,
    },
    /// The part to crop is larger than the picture.
    #[error(
        "{image}: is {width}x{height} pixels where the middle {crop_width}x{crop_height} are cut \
         out; `crop_size` must not be larger than `size`"
    )]
    Crop {
        /// The picture.
        image: String,
        /// Its width in pixels, after resizing.
        width: u32,
        /// Its height in pixels, after resizing.
        height: u32,
        /// The width of the part.
        crop_width: u32,
        /// The height of the part.
        crop_height: u32,
    },
    /// Masks of a video differ in size, do not fit the model's grid, or there are none.
    #[error("the mask of frame {frame} is {found}, but must be {expected}")]
    Mask {
        /// The frame, from 0.
        frame: usize,
        /// Its size, in words.
        found: String,
        /// The size that is right, in words.
        expected: String,
    },
}

impl ImageError {
    /// `found` is what a decoder says, which may repeat bytes of the file.
    pub(super) fn broken(image: &str, kind: &'static str, found: &str) -> Self {
        Self::Broken { image: image.to_owned(), kind, found: presentable(found) }
    }

    pub(super) fn cut_off(image: &str, kind: &'static str, found: impl Into<String>) -> Self {
        Self::CutOff { image: image.to_owned(), kind, found: found.into() }
    }
}
