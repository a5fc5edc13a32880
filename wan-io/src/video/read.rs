//! Reads a video of any kind that is read at all.

use std::path::Path;

use super::{DecodedVideo, Format, VideoError, gif_read::read_gif, kind::Kind, png};

/// Reads a video as rgb24: an MP4 (H.264 as this library writes it; cargo feature `mp4`), an
/// animated or still GIF, one PNG, or a folder of PNG frames. The content tells the kind, not the
/// name.
///
/// A PNG is a video of one frame. A GIF plays at the mean rate of its frames; pixels that it leaves
/// transparent are black. Files that this library wrote keep their exact rate, which their
/// metadata tells.
///
/// # Errors
/// [`VideoError::Io`] if the path cannot be read; [`VideoError::UnknownKind`] for other files,
/// [`VideoError::NoSize`] for raw rgb24 (`.rgb`), and [`VideoError::Codec`] for video other than
/// H.264, or H.264 that the decoder lacks; [`VideoError::NoFrames`], [`VideoError::FrameSize`],
/// [`VideoError::CutOff`] and [`VideoError::Broken`] for the content; [`VideoError::TooLarge`] if
/// the frames take more than 4 GiB.
pub fn read_video(path: impl AsRef<Path>) -> Result<DecodedVideo, VideoError> {
    let path = path.as_ref();
    if matches!(Format::from_path(path), Ok(Format::Raw)) && path.is_file() {
        return Err(VideoError::NoSize { path: path.to_path_buf() });
    }
    match Kind::detect(path)? {
        Kind::Folder => png::read_png_folder(path),
        Kind::Png => png::read_picture(path),
        Kind::Gif => read_gif(path),
        #[cfg(feature = "mp4")]
        Kind::Mp4 => super::read_mp4(path),
        #[cfg(not(feature = "mp4"))]
        Kind::Mp4 => Err(VideoError::FeatureOff { path: path.to_path_buf(), feature: "mp4" }),
    }
}
