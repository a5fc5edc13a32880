//! Size, rate and length of a video.

use std::{ops::RangeInclusive, path::Path};

use super::{Format, FrameRate, VideoError};

/// Size, rate and length of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VideoSpec {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// Frames a second. An MP4 holds the rate exactly; the delays of a GIF are whole 1/100 s and
    /// differ by as much, so that all frames together take the right time.
    pub fps: FrameRate,
    /// Number of frames.
    pub frames: u32,
}

/// Longest side of a frame, in pixels, whatever the format.
pub(super) const MAX_SIDE: u32 = 16_384;

/// Most frames in a video; an MP4 keeps some 8 bytes in memory for each.
pub(super) const MAX_FRAMES: u32 = 1_000_000;

/// Rates in frames a second, whatever the format.
pub(super) const RATES: RangeInclusive<FrameRate> = FrameRate::new(1)..=FrameRate::new(1000);

/// Rates of a GIF. Players show a delay under 2/100 s as 10/100 s.
const GIF_RATES: RangeInclusive<FrameRate> = FrameRate::new(1)..=FrameRate::new(50);

impl VideoSpec {
    /// Bytes of one rgb24 frame.
    pub fn frame_bytes(&self) -> usize {
        (self.width as usize).saturating_mul(self.height as usize).saturating_mul(3)
    }

    /// Checks that `format` can hold such a video; `path` is for the message.
    pub(super) fn check(&self, format: Format, path: &Path) -> Result<(), VideoError> {
        let require = |ok: bool, field, value: String, expected| {
            if ok {
                return Ok(());
            }
            Err(VideoError::Spec { path: path.to_path_buf(), field, value, expected })
        };
        let &Self { width, height, fps, frames } = self;
        for (field, side) in [("width", width), ("height", height)] {
            let ok = (1..=MAX_SIDE).contains(&side);
            require(ok, field, side.to_string(), "1 to 16384 pixels")?;
            if format == Format::Mp4 {
                let ok = side >= 16 && side.is_multiple_of(2);
                let expected = "even and at least 16 pixels for H.264";
                require(ok, field, side.to_string(), expected)?;
            }
        }
        if format == Format::Mp4 {
            let ok = width.max(height) <= 3840 && width.min(height) <= 2160;
            let expected = "at most 3840x2160 or 2160x3840 for H.264 by OpenH264";
            require(ok, "size", format!("{width}x{height}"), expected)?;
        }
        if format == Format::Png && frames > 1 {
            let (path, folder) = (path.to_path_buf(), path.with_extension(""));
            return Err(VideoError::OnePicture { path, frames, folder });
        }
        if format == Format::Gif {
            let expected = "1 to 50 frames a second for a GIF";
            require(GIF_RATES.contains(&fps), "fps", fps.to_string(), expected)?;
        }
        let expected = "1 to 1000 frames a second";
        require(RATES.contains(&fps), "fps", fps.to_string(), expected)?;
        let ok = (1..=MAX_FRAMES).contains(&frames);
        require(ok, "frames", frames.to_string(), "1 to 1000000")
    }
}
