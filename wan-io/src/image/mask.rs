//! Masks of videos: which pixels are kept, and which are made.

use std::path::Path;

use super::{Filter, Image, ImageError, MAX_PIXELS, check_size, resize};

/// A picture of one channel: 0 (black) is kept, 255 (white) is made by the model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mask {
    name: String,
    width: u32,
    height: u32,
    values: Vec<u8>,
}

impl Mask {
    /// Reads a picture as a mask: see [`Image::open`] and [`Mask::from`].
    ///
    /// # Errors
    /// As for [`Image::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        Image::open(path).map(|image| Self::from(&image))
    }

    /// Width in pixels.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Its values from 0 to 255: `[height, width]`.
    pub fn values(&self) -> &[u8] {
        &self.values
    }

    /// Its values from 0 to 1: `[height, width]`.
    pub fn to_f32(&self) -> Vec<f32> {
        self.values.iter().map(|&value| f32::from(value) / 255.0).collect()
    }

    /// 1 where its value is above 0.5, and 0 elsewhere: `[height, width]`. So diffusers tells the pixels
    /// that are kept from those that are made, before it encodes both.
    pub fn to_binary(&self) -> Vec<f32> {
        self.values.iter().map(|&value| if value > 127 { 1.0 } else { 0.0 }).collect()
    }

    /// The mask in another size, as Pillow does it. diffusers takes [`Filter::Lanczos`], which makes edges
    /// soft; [`Filter::Nearest`] keeps them hard.
    ///
    /// # Errors
    /// As for [`Image::resize`].
    pub fn resize(&self, width: u32, height: u32, filter: Filter) -> Result<Self, ImageError> {
        check_size(&self.name, [width, height], MAX_PIXELS)?;
        let [from, to] =
            [[self.width, self.height], [width, height]].map(|size| size.map(|side| side as usize));
        let values = resize::resize::<1>(&self.values, from, to, filter);
        Ok(Self { name: self.name.clone(), width, height, values })
    }
}

impl From<&Image> for Mask {
    /// The brightness of a picture (ITU-R BT.601), in the fixed-point numbers of Pillow's mode `L`. Gray
    /// keeps its value.
    fn from(image: &Image) -> Self {
        let (pixels, _) = image.rgb.as_chunks::<3>();
        let brightness = |pixel: &[u8; 3]| {
            let [red, green, blue] = pixel.map(u32::from);
            ((19_595 * red + 38_470 * green + 7_471 * blue + (1 << 15)) >> 16) as u8
        };
        let values = pixels.iter().map(brightness).collect();
        let (width, height) = (image.width, image.height);
        Self { name: image.name.clone(), width, height, values }
    }
}

/// The mask of a video on the grid of its latents.
#[derive(Clone, Debug, PartialEq)]
pub struct LatentMask {
    /// Channels, frames, height and width. There is a channel for each pixel of the square that a latent
    /// stands for, row by row.
    pub shape: [usize; 4],
    /// The values from 0 to 1, in the order of [`shape`](Self::shape).
    pub values: Vec<f32>,
}

/// Brings the masks of the frames of a video onto the grid of its latents, as VACE takes them: each of the
/// `spatial * spatial` pixels of a latent becomes a channel, and of `temporal` frames the nearest to their
/// middle counts (`nearest-exact` in torch).
///
/// `spatial` and `temporal` are the factors of the VAE. Frames of a video number 4n + 1, so latents are
/// rounded up. The channels of reference images, all 0, are the caller's to add.
///
/// # Errors
/// [`ImageError::Mask`] if there are no masks, they differ in size, or their sides are no multiples of
/// `spatial`.
pub fn latent_mask(
    frames: &[Mask],
    spatial: usize,
    temporal: usize,
) -> Result<LatentMask, ImageError> {
    let [width, height] = check_frames(frames, spatial)?;
    let indices = nearest_exact(frames.len(), frames.len().div_ceil(temporal.max(1)));
    let shape = [spatial * spatial, indices.len(), height / spatial, width / spatial];
    let [channels, _, rows, columns] = shape;
    let mut values = Vec::with_capacity(shape.iter().product());
    for channel in 0..channels {
        let (y, x) = (channel / spatial, channel % spatial);
        for &frame in &indices {
            for row in 0..rows {
                let start = (row * spatial + y) * width + x;
                let pixels = frames[frame].values[start..].iter().step_by(spatial);
                values.extend(pixels.take(columns).map(|&value| f32::from(value) / 255.0));
            }
        }
    }
    Ok(LatentMask { shape, values })
}

/// The index that each of `to` new ones stands for, by their middles.
fn nearest_exact(from: usize, to: usize) -> Vec<usize> {
    (0..to).map(|index| (2 * index + 1) * from / (2 * to)).collect()
}

/// The width and height of the masks.
fn check_frames(frames: &[Mask], spatial: usize) -> Result<[usize; 2], ImageError> {
    let error =
        |frame, found: String, expected: String| Err(ImageError::Mask { frame, found, expected });
    let Some(first) = frames.first() else {
        return error(0, "missing".into(), "there".into());
    };
    let shown = |mask: &Mask| format!("{}x{}", mask.width, mask.height);
    let differs = |mask: &&Mask| (mask.width, mask.height) != (first.width, first.height);
    if let Some((frame, mask)) = frames.iter().enumerate().find(|(_, mask)| differs(mask)) {
        return error(frame, shown(mask), format!("{} as that of frame 0", shown(first)));
    }
    let sides = [first.width as usize, first.height as usize];
    if spatial == 0 || sides.iter().any(|side| side % spatial != 0) {
        let expected = format!("of sides that are multiples of {spatial}");
        return error(0, shown(first), expected);
    }
    Ok(sides)
}
