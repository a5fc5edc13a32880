//! Which format a path asks for.

use std::path::Path;

use super::VideoError;

pub(super) const ENDINGS: &str = "`.mp4`, `.gif`, `.rgb` (raw rgb24), `.png` (one frame), or a name ending in `/` for a folder of \
     PNG frames";

/// A video format that can be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// H.264 in MP4 (`.mp4`; cargo feature `mp4`).
    Mp4,
    /// Animated GIF, 256 colours a frame (`.gif`).
    Gif,
    /// One picture, lossless, for a video of a single frame (`.png`).
    Png,
    /// A folder of PNG frames, lossless (a name ending in `/`).
    PngFolder,
    /// All frames one after the other as rgb24, without any header (`.rgb`).
    Raw,
}

impl Format {
    /// Picks the format by the end of `path`, in upper or lower case. Touches no file.
    ///
    /// # Errors
    /// [`VideoError::UnknownEnding`]; [`VideoError::FeatureOff`] for `.mp4` in a build without the
    /// cargo feature `mp4`.
    pub fn from_path(path: &Path) -> Result<Self, VideoError> {
        let unknown =
            |ending: String| VideoError::UnknownEnding { path: path.to_path_buf(), ending };
        let last = path.as_os_str().as_encoded_bytes().last();
        if last.is_some_and(|&byte| std::path::is_separator(byte.into())) {
            return match path.file_name() {
                Some(_) => Ok(Self::PngFolder),
                None => Err(unknown("no name".into())),
            };
        }
        let Some(ending) = path.extension() else {
            return Err(unknown("no ending".into()));
        };
        let ending = ending.to_string_lossy();
        match ending.to_ascii_lowercase().as_str() {
            "mp4" if cfg!(feature = "mp4") => Ok(Self::Mp4),
            "mp4" => Err(VideoError::FeatureOff { path: path.to_path_buf(), feature: "mp4" }),
            "gif" => Ok(Self::Gif),
            "png" => Ok(Self::Png),
            "rgb" => Ok(Self::Raw),
            _ => Err(unknown(format!("the ending `.{ending}`"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings() {
        let format = |name: &str| Format::from_path(Path::new(name));
        assert_eq!(format("a b/猫.GIF").unwrap(), Format::Gif);
        assert_eq!(format("x.rgb").unwrap(), Format::Raw);
        assert_eq!(format("x.Png").unwrap(), Format::Png);
        assert_eq!(format("frames/").unwrap(), Format::PngFolder);
        assert_eq!(format("clip.mp4/").unwrap(), Format::PngFolder);
        #[cfg(feature = "mp4")]
        assert_eq!(format("x.Mp4").unwrap(), Format::Mp4);
        #[cfg(not(feature = "mp4"))]
        assert!(format("x.Mp4").unwrap_err().to_string().contains("feature `mp4`"));

        for (name, found) in [
            ("clip.mov", "`.mov`"),
            ("clip", "no ending"),
            (".mp4", "no ending"),
            ("", "no ending"),
            ("/", "no name"),
            ("../", "no name"),
        ] {
            let message = format(name).unwrap_err().to_string();
            assert!(message.starts_with(&format!("`{name}`")), "{message}");
            assert!(message.contains(found) && message.contains("`.mp4`, `.gif`"), "{message}");
        }
    }
}
