use std::sync::Arc;

use wan_io::counted;
use wan_io::image::{Filter, Mask};

use crate::{Error, Image, RequestError, SourceVideo};

/// Which parts of a video are made anew: white where they are, black where the video is kept. Clones share it.
///
/// ```
/// use wan_pipeline::{Image, SourceMask};
///
/// # fn main() -> Result<(), wan_pipeline::ImageError> {
/// // The right half.
/// let row = [[0; 3 * 32], [255; 3 * 32]].concat();
/// let mask = SourceMask::from(&Image::from_rgb8(64, 64, row.repeat(64))?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct SourceMask(Frames);

#[derive(Debug, Clone, PartialEq)]
enum Frames {
    /// The same mask for all frames. Of an animation, which cannot be one, its name.
    Still(Arc<Mask>, Option<String>),
    /// A mask for each frame.
    Moving(SourceVideo),
}

impl From<&Image> for SourceMask {
    /// One mask for all frames.
    fn from(image: &Image) -> Self {
        let animation = image.is_animated().then(|| image.name().to_owned());
        Self(Frames::Still(Arc::new(Mask::from(image)), animation))
    }
}

impl From<SourceVideo> for SourceMask {
    /// A mask for each frame.
    fn from(video: SourceVideo) -> Self {
        Self(Frames::Moving(video))
    }
}

impl SourceMask {
    /// The mask of a frame in some width and height.
    pub(crate) fn frame(&self, index: usize, [width, height]: [usize; 2]) -> Result<Mask, Error> {
        let (width, height) = (width as u32, height as u32);
        let mask = self.stored(index);
        match (mask.width(), mask.height()) == (width, height) {
            true => Ok(mask),
            false => Ok(mask.resize(width, height, Filter::Nearest)?),
        }
    }

    fn stored(&self, index: usize) -> Mask {
        match &self.0 {
            Frames::Still(mask, _) => mask.as_ref().clone(),
            Frames::Moving(video) => Mask::from(&video.image(index)),
        }
    }

    /// Whether it is a mask for so many frames of this width and height.
    pub(crate) fn check(&self, expected: [u32; 2], frames: usize) -> Result<(), RequestError> {
        let error = |found, expected| Err(RequestError::Mask { found, expected });
        let (size, count) = match &self.0 {
            Frames::Still(_, Some(name)) => {
                return Err(RequestError::AnimatedImage { name: name.clone() });
            }
            Frames::Still(mask, None) => ([mask.width(), mask.height()], 1),
            Frames::Moving(video) => {
                let found = video.spec().frames as usize;
                if found < frames {
                    let words = |count: usize| counted(count as u64, "frame");
                    return error(words(found), words(frames));
                }
                ([video.spec().width, video.spec().height], frames)
            }
        };
        let words = |[width, height]: [u32; 2]| format!("{width}x{height} pixels");
        if size != expected {
            return error(words(size), words(expected));
        }
        for frame in 0..count {
            let mask = self.stored(frame);
            let odd = mask.values().iter().position(|value| ![0, 255].contains(value));
            if let Some(pixel) = odd {
                let (x, y) = (pixel as u32 % size[0], pixel as u32 / size[0]);
                let found = format!("{} at ({x}, {y}) of frame {frame}", mask.values()[pixel]);
                return error(found, "only black (0) and white (255), as a PNG keeps them".into());
            }
        }
        Ok(())
    }
}
