//! Room around a video, in space and in time, for VACE models to fill.

use wan_io::image::Filter;

use crate::plan::range;
use crate::{Error, Image, SourceMask, SourceVideo};

/// The most frames of a video with room around it.
const MAX_FRAMES: usize = 1 << 16;

impl SourceVideo {
    /// The video with so many pixels more at its left, top, right and bottom, and the mask that has these made
    /// (outpainting, of VACE models).
    ///
    /// ```
    /// # fn main() -> Result<(), wan_pipeline::Error> {
    /// use wan_pipeline::{Request, SourceVideo};
    ///
    /// let square = SourceVideo::from_frames(480, 480, 16, vec![vec![90; 3 * 480 * 480]; 17])?;
    /// let (wide, mask) = square.outpaint([176, 0, 176, 0])?;
    /// assert_eq!((wide.spec().width, wide.spec().height), (832, 480));
    /// let request = Request::new("a square between hills").video(wide).mask(mask);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If frames would be larger than pictures may be.
    pub fn outpaint(
        &self,
        [left, top, right, bottom]: [u32; 4],
    ) -> Result<(Self, SourceMask), Error> {
        let spec = *self.spec();
        let width = spec.width.saturating_add(left).saturating_add(right);
        let height = spec.height.saturating_add(top).saturating_add(bottom);
        let canvas = Image::from_rgb8(1, 1, vec![255; 3])?;
        let canvas = canvas.resize(width, height, Filter::Nearest)?;
        let placed = |pixels: &[u8]| {
            let mut frame = canvas.rgb8().to_vec();
            let rows = pixels.chunks_exact(3 * spec.width as usize);
            for (row, pixels) in (top as usize..).zip(rows) {
                let start = 3 * (row * width as usize + left as usize);
                frame[start..start + pixels.len()].copy_from_slice(pixels);
            }
            frame
        };
        let frames = (0..spec.frames as usize).map(|i| placed(self.image(i).rgb8())).collect();
        let mask = Image::from_rgb8(width, height, placed(&vec![0; spec.frame_bytes()]))?;
        let video = Self::from_frames(width, height, spec.fps, frames)?;
        Ok((video, SourceMask::from(&mask)))
    }

    /// The video with so many frames more before and after it, and the mask that has these made (extension, of VACE
    /// models).
    ///
    /// ```
    /// # fn main() -> Result<(), wan_pipeline::Error> {
    /// use wan_pipeline::{Request, SourceVideo};
    ///
    /// let begun = SourceVideo::from_frames(64, 64, 16, vec![vec![90; 3 * 64 * 64]; 17])?;
    /// let (whole, mask) = begun.extend(0, 64)?;
    /// assert_eq!(whole.spec().frames, 81);
    /// let request = Request::new("and so it goes on").video(whole).mask(mask);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If it would have more than 65,536 frames.
    pub fn extend(&self, before: usize, after: usize) -> Result<(Self, SourceMask), Error> {
        let spec = *self.spec();
        let own = spec.frames as usize;
        let all = own.saturating_add(before).saturating_add(after);
        range("frames", all as f64, all <= MAX_FRAMES, "at most 65536")?;
        let is_own = |i: usize| (before..before + own).contains(&i);
        let frame = |i: usize| match is_own(i) {
            true => self.image(i - before).rgb8().to_vec(),
            false => vec![255; spec.frame_bytes()],
        };
        let mask = |i: usize| vec![if is_own(i) { 0 } else { 255 }; spec.frame_bytes()];
        let of_frames = |frame: &dyn Fn(usize) -> Vec<u8>| {
            Self::from_frames(spec.width, spec.height, spec.fps, (0..all).map(frame).collect())
        };
        Ok((of_frames(&frame)?, SourceMask::from(of_frames(&mask)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two frames of 2x1 pixels.
    fn video() -> SourceVideo {
        SourceVideo::from_frames(2, 1, 24, vec![vec![1, 1, 1, 2, 2, 2], vec![3; 6]]).unwrap()
    }

    #[test]
    fn what_is_around_a_video_is_made() {
        let (wide, mask) = video().outpaint([1, 0, 0, 1]).unwrap();
        assert_eq!(
            wide.image(0).rgb8(),
            [[255; 3], [1; 3], [2; 3], [255; 3], [255; 3], [255; 3]].concat()
        );
        for frame in 0..2 {
            let mask = mask.frame(frame, [3, 2]).unwrap();
            assert_eq!(mask.values(), [255, 0, 0, 255, 255, 255]);
        }
        mask.check([3, 2], 2).unwrap();
        assert!(video().outpaint([u32::MAX, 0, 1, 0]).is_err());
    }

    #[test]
    fn what_is_before_and_after_a_video_is_made() {
        let (long, mask) = video().extend(1, 2).unwrap();
        assert_eq!(long.spec().frames, 5);
        assert_eq!(long.image(1).rgb8(), video().image(0).rgb8());
        let made = |frame| mask.frame(frame, [2, 1]).unwrap().values() == [255, 255];
        assert_eq!([0, 1, 2, 3, 4].map(made), [true, false, false, true, true]);
        mask.check([2, 1], 5).unwrap();
        assert!(video().extend(usize::MAX, 1).is_err());
    }
}
