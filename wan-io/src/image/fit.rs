//! The size of a video that begins with a picture, and the picture in this size.

use std::fmt;

use super::{Filter, Image, ImageError, Pixels};

/// How the size of a frame follows from that of a picture, and how the picture is resized to it.
///
/// A frame has about as many pixels as is asked for, nearly the ratio of the picture, and sides that are
/// multiples of a factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FitRule {
    /// The rule in the examples of diffusers: both sides rounded down to the factor; bicubic with
    /// antialiasing, in 8 bits.
    Diffusers,
    /// The original code for image-to-video (Wan 2.1, Wan 2.2 A14B): the same but for a rounding, by which
    /// 832x480 becomes 832x464 at its own area; torch's bicubic without antialiasing, whose overshoots
    /// leave -1..1 ([`Image::resize_as_torch`]).
    WanImageToVideo,
    /// The original code for Wan 2.2 TI2V: of two sizes, found from the width or from the height, the one
    /// whose ratio is nearer; Lanczos until the picture covers it, then cropped in the middle.
    WanTi2v,
}

impl FitRule {
    /// The width and height of a frame for a picture of `[width, height]`, with about `max_area` pixels
    /// and with sides that are multiples of `factor`.
    ///
    /// `None` where a side would be 0.
    ///
    /// ```
    /// use wan_io::image::FitRule;
    ///
    /// assert_eq!(FitRule::Diffusers.size([1920, 1080], 480 * 832, 16), Some([832, 464]));
    /// assert_eq!(FitRule::WanTi2v.size([1920, 1080], 704 * 1280, 32), Some([1248, 704]));
    /// assert_eq!(FitRule::Diffusers.size([9000, 1], 480 * 832, 16), None);
    /// ```
    pub fn size(self, [width, height]: [u32; 2], max_area: u64, factor: u32) -> Option<[u32; 2]> {
        let (ratio, area) = (f64::from(height) / f64::from(width), max_area as f64);
        let [width, height] = match self {
            Self::Diffusers => [area / ratio, area * ratio]
                .map(|square| floor_to(square.sqrt().round_ties_even(), factor)),
            Self::WanImageToVideo => {
                [area / ratio, area * ratio].map(|square| floor_to(square.sqrt(), factor))
            }
            Self::WanTi2v => best_size(f64::from(width) / f64::from(height), area, factor),
        };
        (width > 0 && height > 0).then_some([width, height])
    }
}

impl fmt::Display for FitRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Diffusers => "diffusers",
            Self::WanImageToVideo => "the original image-to-video",
            Self::WanTi2v => "the original TI2V",
        })
    }
}

/// The largest multiple of `factor` that is not larger; 0 for a factor of 0, and for what is no number.
fn floor_to(side: f64, factor: u32) -> u32 {
    (side as u32).checked_div(factor).unwrap_or(0) * factor
}

/// Rounds down the width or the height first, and then the other to what the area leaves to it; takes the
/// pair that is nearer to `ratio`, width by height.
fn best_size(ratio: f64, area: f64, factor: u32) -> [u32; 2] {
    let width = (area * ratio).sqrt();
    let height = area / width;
    let rest = |side: u32| floor_to(area / f64::from(side), factor);
    let [width, height] = [width, height].map(|side| floor_to(side, factor));
    let candidates = [[width, rest(width)], [rest(height), height]];
    if candidates.as_flattened().contains(&0) {
        return [0, 0];
    }
    let distance = |[width, height]: [u32; 2]| {
        let found = f64::from(width) / f64::from(height);
        (ratio / found).max(found / ratio)
    };
    let [by_width, by_height] = candidates;
    if distance(by_width) < distance(by_height) { by_width } else { by_height }
}

/// Fits pictures to the frames of a video.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fit {
    /// How.
    pub rule: FitRule,
    /// About how many pixels a frame has, such as 480 * 832.
    pub max_area: u64,
    /// What its sides are multiples of: the pixels that a patch of the transformer stands for, 16 or 32.
    pub factor: u32,
}

impl Fit {
    /// The width and height of the frames of a video that begins with `image`.
    ///
    /// # Errors
    /// [`ImageError::TooNarrow`] where a side would be 0.
    pub fn size(&self, image: &Image) -> Result<[u32; 2], ImageError> {
        let &Self { rule, max_area, factor } = self;
        let [width, height] = [image.width, image.height];
        rule.size([width, height], max_area, factor).ok_or_else(|| {
            let image = image.name.clone();
            ImageError::TooNarrow { image, width, height, max_area, factor }
        })
    }

    /// The picture as a frame of that size: `[3, height, width]`, from -1 to 1 (see
    /// [`FitRule::WanImageToVideo`] for what lies beyond).
    ///
    /// # Errors
    /// As for [`size`](Self::size); [`ImageError::TooLarge`] for more than
    /// [`MAX_PIXELS`](super::MAX_PIXELS).
    pub fn pixels(&self, image: &Image) -> Result<Pixels, ImageError> {
        let [width, height] = self.size(image)?;
        match self.rule {
            FitRule::Diffusers => Ok(image.resize(width, height, Filter::Bicubic)?.pixels()),
            FitRule::WanImageToVideo => image.resize_as_torch(width, height),
            FitRule::WanTi2v => Ok(image.cover(width, height)?.pixels()),
        }
    }
}

impl Image {
    /// The picture resized, with its ratio kept, until it covers a frame, and then cropped in the middle;
    /// by Lanczos.
    ///
    /// # Errors
    /// As for [`resize`](Self::resize).
    pub fn cover(&self, width: u32, height: u32) -> Result<Self, ImageError> {
        let [from_width, from_height] = [self.width, self.height].map(f64::from);
        let scale = (f64::from(width) / from_width).max(f64::from(height) / from_height);
        let side = |side: f64, least: u32| ((side * scale).round_ties_even() as u32).max(least);
        let (covering_width, covering_height) =
            (side(from_width, width), side(from_height, height));
        let resized = self.resize(covering_width, covering_height, Filter::Lanczos)?;
        Ok(resized.crop([width, height]))
    }
}
