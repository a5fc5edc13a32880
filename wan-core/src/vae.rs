//! The autoencoder that maps videos to latents and back.

use burn::tensor::Tensor;

use crate::config::{ConfigError, require};
use crate::{Backend, CancelToken, Cancelled};

/// The size of tiles, in pixels.
///
/// Each tile has a feature cache of its own, so tiling saves the memory of activations, not that of
/// the cache; and near the seams the result differs a little from the untiled one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tiling {
    /// Height and width of a tile.
    pub size: [usize; 2],
    /// From one tile to the next, along height and width; less than `size`, so that they overlap.
    pub stride: [usize; 2],
}

impl Default for Tiling {
    /// Tiles of 256 pixels every 192, as in diffusers.
    fn default() -> Self {
        Self::square(256)
    }
}

impl Tiling {
    /// Tiles of `size` (height and width) pixels every `stride` pixels.
    pub fn new(size: [usize; 2], stride: [usize; 2]) -> Self {
        Self { size, stride }
    }

    /// Square tiles that overlap by a quarter.
    pub fn square(side: usize) -> Self {
        Self::new([side; 2], [side / 4 * 3; 2])
    }

    /// Checks that tiles overlap and consist of whole latent pixels, which are `factor` pixels.
    ///
    /// # Errors
    /// If they do not.
    pub fn validate(&self, factor: usize) -> Result<(), ConfigError> {
        for axis in 0..2 {
            let (size, stride) = (self.size[axis], self.stride[axis]);
            let whole = size.is_multiple_of(factor) && stride.is_multiple_of(factor);
            let expected = format!("a stride less than the size, both multiples of {factor}");
            require(stride > 0 && stride < size && whole, "tiling", self, expected)?;
        }
        Ok(())
    }
}

/// The frames of a video as they are decoded: see [`VideoVae::decode`].
pub type DecodedFrames<'a, B> = Box<dyn Iterator<Item = Result<Tensor<B, 5>, Cancelled>> + 'a>;

/// Maps videos to latents and back, some frames at a time.
pub trait VideoVae<B: Backend>: Send + Sync {
    /// The mean of the normalised latents `[B, C, (T - 1) / 4 + 1, H / 8, W / 8]` of a video
    /// `[B, 3, T, H, W]` in -1..1. Frames that are larger than a tile of `tiling` are encoded in tiles.
    ///
    /// # Errors
    /// [`Cancelled`] soon after `cancel` says so: it is asked before each chunk of frames of each tile.
    fn encode(
        &self,
        video: Tensor<B, 5>,
        tiling: Option<Tiling>,
        cancel: &CancelToken,
    ) -> Result<Tensor<B, 5>, Cancelled>;

    /// Decodes normalised latents `[B, C, T, H, W]`, one latent frame at a time: each item is
    /// `[B, 3, t, 8 H, 8 W]` in -1..1, the next `t` frames of the video (1, then 4 each). After
    /// `cancel` says so, which is asked before each tile, the next item is [`Cancelled`].
    fn decode<'a>(
        &'a self,
        latents: Tensor<B, 5>,
        tiling: Option<Tiling>,
        cancel: &'a CancelToken,
    ) -> DecodedFrames<'a, B>;
}
