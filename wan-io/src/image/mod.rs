//! Pictures: read from PNG, JPEG and WebP files, and fitted to a model as its reference code does it.
//!
//! [`Image`] is a picture as it is shown: 8 bits a channel, upright, without transparency. From it come
//! the pixels of a frame of a size that [`Fit`] chooses (image-to-video), the pixels that CLIP looks at
//! ([`ClipPreprocess`]), and a [`Mask`] of a video. Resizing gives the same bits as Pillow, or the
//! numbers of torch, whichever the reference uses.
//!
//! ```no_run
//! use wan_io::image::{ClipPreprocess, Fit, FitRule, Image};
//!
//! # fn main() -> Result<(), wan_io::image::ImageError> {
//! let image = Image::open("cat.jpg")?;
//! let fit = Fit { rule: FitRule::Diffusers, max_area: 480 * 832, factor: 16 };
//! let frame = fit.pixels(&image)?; // [3, H, W], -1..1
//! let clip = ClipPreprocess::default().pixels(&image)?; // [3, 224, 224]
//! assert_eq!(frame.values.len(), 3 * (frame.width * frame.height) as usize);
//! # Ok(())
//! # }
//! ```

mod clip;
mod error;
mod fit;
mod jpeg;
mod kind;
mod mask;
mod orientation;
mod png;
mod resize;
mod torch;
mod webp;

use std::path::Path;

pub use clip::{ClipPreprocess, ClipResize};
pub use error::ImageError;
pub use fit::{Fit, FitRule};
pub use mask::{LatentMask, Mask, latent_mask};
pub use resize::Filter;

use crate::files::{FileError, OpenFile};
use kind::Kind;

pub(crate) use png::to_rgb;

/// The most pixels of a picture, which take 400 MB as rgb24: a few kilobytes of a file can claim any
/// number of them.
pub const MAX_PIXELS: u64 = 1 << 27;

/// The largest file that is read.
const MAX_FILE_BYTES: u64 = 1 << 30;

/// How messages name a picture that comes from no file.
const IN_MEMORY: &str = "the picture in memory";

/// A picture: 8 bits for each of red, green and blue.
#[derive(Clone, PartialEq, Eq)]
pub struct Image {
    name: String,
    width: u32,
    height: u32,
    rgb: Vec<u8>,
    is_animated: bool,
}

impl Image {
    /// Reads the file at `path`: PNG, JPEG or WebP, which its content tells, not its ending.
    ///
    /// As Python's pipelines do it, the picture is turned upright as its EXIF data say; transparency is
    /// dropped, so that the colour below it counts; and colours are taken as they are, whatever colour
    /// profile they belong to. Of 16 bits a channel the upper 8 are kept. CMYK becomes RGB as Pillow
    /// converts it. Of an animation the first picture is read, which [`is_animated`](Self::is_animated)
    /// tells.
    ///
    /// # Errors
    /// [`ImageError::File`] if it is not there, no file, larger than 1 GiB, or cannot be read;
    /// [`ImageError::UnknownKind`] for other files; [`ImageError::CutOff`], [`ImageError::Broken`] and
    /// [`ImageError::Empty`] for the content; [`ImageError::TooLarge`] for more than [`MAX_PIXELS`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        let file = OpenFile::open(path.as_ref())?;
        let (name, size) = (file.path(), file.size() as u64);
        if size > MAX_FILE_BYTES {
            let (path, max) = (name.to_owned(), MAX_FILE_BYTES);
            return Err(FileError::TooLarge { path, size, max }.into());
        }
        Self::decode_as(name, &file.bytes(0..file.size())?, MAX_PIXELS)
    }

    /// Reads a picture from the bytes of a file, as [`open`](Self::open) does.
    ///
    /// # Errors
    /// As for [`open`](Self::open), for the content.
    pub fn decode(bytes: &[u8]) -> Result<Self, ImageError> {
        Self::decode_up_to(bytes, MAX_PIXELS)
    }

    /// Reads a picture of at most `max_pixels`, as [`decode`](Self::decode) does: for bytes that come from
    /// anyone, where memory is dear.
    ///
    /// # Errors
    /// As for [`decode`](Self::decode); [`ImageError::TooLarge`] for more than `max_pixels`.
    pub fn decode_up_to(bytes: &[u8], max_pixels: u64) -> Result<Self, ImageError> {
        Self::decode_as(IN_MEMORY, bytes, max_pixels.min(MAX_PIXELS))
    }

    fn decode_as(name: &str, bytes: &[u8], max_pixels: u64) -> Result<Self, ImageError> {
        let decoded = match Kind::detect(name, bytes)? {
            Kind::Png => png::decode(name, bytes, max_pixels),
            Kind::Jpeg => jpeg::decode(name, bytes, max_pixels),
            Kind::WebP => webp::decode(name, bytes, max_pixels),
        }?;
        let Decoded { width, height, rgb, orientation, is_animated } = decoded;
        let ([width, height], rgb) = orientation.apply([width, height], rgb);
        Ok(Self { name: name.to_owned(), width, height, rgb, is_animated })
    }

    /// A picture from rgb24: `width * height * 3` bytes, row by row.
    ///
    /// # Errors
    /// [`ImageError::Empty`] if a side is 0, [`ImageError::TooLarge`] for more than [`MAX_PIXELS`], and
    /// [`ImageError::Length`] for another number of bytes.
    ///
    /// ```
    /// use wan_io::image::Image;
    ///
    /// let red = Image::from_rgb8(16, 9, [255, 0, 0].repeat(16 * 9))?;
    /// assert_eq!((red.width(), red.height()), (16, 9));
    /// # Ok::<(), wan_io::image::ImageError>(())
    /// ```
    pub fn from_rgb8(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self, ImageError> {
        let pixels = check_size(IN_MEMORY, [width, height], MAX_PIXELS)?;
        let (expected, found) = (3 * pixels as u64, rgb.len());
        if found as u64 != expected {
            return Err(ImageError::Length { width, height, expected, found });
        }
        Ok(Self { name: IN_MEMORY.into(), width, height, rgb, is_animated: false })
    }

    /// The file that it was read from, as messages name it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Width in pixels, at least 1.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Height in pixels, at least 1.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Its colours as rgb24: `[height, width, 3]`.
    pub fn rgb8(&self) -> &[u8] {
        &self.rgb
    }

    /// Whether the file is an animation, of which this is the first picture.
    pub fn is_animated(&self) -> bool {
        self.is_animated
    }

    /// The picture in another size. Its ratio is not kept, and each pixel is rounded to 8 bits, as
    /// `Image.resize` of Pillow does it, with the same bits.
    ///
    /// # Errors
    /// [`ImageError::Empty`] if a side is 0, [`ImageError::TooLarge`] for more than [`MAX_PIXELS`].
    pub fn resize(&self, width: u32, height: u32, filter: Filter) -> Result<Self, ImageError> {
        let size = self.check_target([width, height])?;
        let rgb = resize::resize::<3>(&self.rgb, self.size(), size, filter);
        Ok(Self { width, height, rgb, ..self.without_pixels() })
    }

    /// The middle of the picture, which must not be smaller. Where it cannot be the very middle, it is
    /// the pixel above or left of it.
    fn crop(&self, [width, height]: [u32; 2]) -> Self {
        let [left, top] = [(self.width - width) / 2, (self.height - height) / 2];
        let rows = self.rgb.chunks_exact(3 * self.width as usize);
        let rows = rows.skip(top as usize).take(height as usize);
        let [start, length] = [3 * left as usize, 3 * width as usize];
        let rgb = rows.flat_map(|row| &row[start..start + length]).copied().collect();
        Self { width, height, rgb, ..self.without_pixels() }
    }

    /// Its colours as a model takes them, without resizing: `[3, height, width]`, from -1 to 1.
    pub fn pixels(&self) -> Pixels {
        self.planes(|value, _| f32::from(value) / 127.5 - 1.0)
    }

    /// Planes of what `convert` makes of each value and its channel.
    fn planes(&self, convert: impl Fn(u8, usize) -> f32) -> Pixels {
        let plane = |channel| self.rgb.iter().skip(channel).step_by(3).map(move |&v| (v, channel));
        let values = (0..3).flat_map(plane).map(|(value, channel)| convert(value, channel));
        Pixels { width: self.width, height: self.height, values: values.collect() }
    }

    fn size(&self) -> [usize; 2] {
        [self.width as usize, self.height as usize]
    }

    /// All but the pixels, for pictures made of this one.
    fn without_pixels(&self) -> Self {
        Self { name: self.name.clone(), rgb: Vec::new(), ..*self }
    }

    fn check_target(&self, [width, height]: [u32; 2]) -> Result<[usize; 2], ImageError> {
        check_size(&self.name, [width, height], MAX_PIXELS)?;
        Ok([width as usize, height as usize])
    }
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Image({}, {}x{})", self.name, self.width, self.height)
    }
}

/// A picture as a model takes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Pixels {
    /// Width in pixels.
    pub width: u32,
    /// Height in pixels.
    pub height: u32,
    /// The planes of red, green and blue: `[3, height, width]`.
    pub values: Vec<f32>,
}

/// What a decoder gives.
struct Decoded {
    width: u32,
    height: u32,
    /// As stored, not yet upright.
    rgb: Vec<u8>,
    orientation: orientation::Orientation,
    is_animated: bool,
}

/// The number of pixels of a picture of this size, before memory is given to it.
fn check_size(name: &str, [width, height]: [u32; 2], limit: u64) -> Result<usize, ImageError> {
    let (image, pixels) = (name.to_owned(), u64::from(width) * u64::from(height));
    match pixels {
        0 => Err(ImageError::Empty { image, width, height }),
        _ if pixels > limit => Err(ImageError::TooLarge { image, width, height, limit }),
        _ => Ok(pixels as usize),
    }
}
