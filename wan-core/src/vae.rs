//! The autoencoder that maps videos to latents and back.

use std::io;
use std::ops::Range;

use burn::tensor::Tensor;

use crate::config::{ConfigError, require};
use crate::{Backend, CancelToken, Cancelled};

/// The size of tiles, in pixels.
///
/// A VAE that packs patches of pixels into channels (Wan 2.2) encodes in tiles of so many patches, as
/// diffusers does.
///
/// A tile goes through all frames before the next one begins, so that a VAE needs the memory of one
/// tile. Near the seams the result differs a little from the untiled one, and what lies in two tiles is
/// computed twice.
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

/// How a VAE keeps to less memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct VaeMemory {
    /// Frames that are larger than a tile go through in tiles.
    pub tiling: Option<Tiling>,
    /// Whether the frames that the convolutions remember are kept in f16, where the backend has it: most
    /// of what a VAE holds. In networks of the size of Wan 2.1's with random weights, decoded values
    /// differ by 2e-4 (root mean square; at most 1.2e-3, a sixth of a step of 8 bits) and latents by
    /// 2e-5; those of tiny-wan by 3e-5 and 7e-5.
    pub half_cache: bool,
}

impl VaeMemory {
    /// Whole frames, remembered as they are.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets [`tiling`](Self::tiling).
    pub fn tiling(self, tiling: impl Into<Option<Tiling>>) -> Self {
        Self { tiling: tiling.into(), ..self }
    }

    /// Sets [`half_cache`](Self::half_cache).
    pub fn half_cache(self, half_cache: bool) -> Self {
        Self { half_cache, ..self }
    }
}

/// A video that is encoded: it hands over its frames a few at a time, in order, once for each tile.
pub trait FrameSource<B: Backend> {
    /// Frames, height and width.
    fn size(&self) -> [usize; 3];

    /// The frames of `range`, `[B, 3, t, H, W]` in -1..1.
    fn frames(&self, range: Range<usize>) -> Tensor<B, 5>;
}

/// A whole video `[B, 3, T, H, W]` in -1..1.
impl<B: Backend> FrameSource<B> for Tensor<B, 5> {
    fn size(&self) -> [usize; 3] {
        let [_, _, size @ ..] = self.dims();
        size
    }

    fn frames(&self, range: Range<usize>) -> Tensor<B, 5> {
        self.clone().narrow(2, range.start, range.len())
    }
}

/// Why a video was not encoded or decoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaeError {
    /// The work was cancelled before its end.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The decoded tiles cannot be written to a temporary file, or be read again.
    #[error("the temporary file of decoded tiles: {0}")]
    TemporaryFile(#[from] io::Error),
}

/// What decoding gives next.
#[derive(Debug, Clone)]
pub enum Decoded<B: Backend> {
    /// Another tile has been decoded through all frames; they come when all tiles are done.
    Tile {
        /// Tiles done.
        done: usize,
        /// All tiles.
        total: usize,
    },
    /// The next `t` frames of the video (1, then 4 each), `[B, 3, t, f H, f W]` in -1..1, where a latent
    /// pixel is `f` pixels (8 in Wan 2.1).
    Frames(Tensor<B, 5>),
}

impl<B: Backend> Decoded<B> {
    /// The frames, if it is some.
    pub fn frames(self) -> Option<Tensor<B, 5>> {
        match self {
            Self::Frames(frames) => Some(frames),
            Self::Tile { .. } => None,
        }
    }
}

/// A video as it is decoded: see [`VideoVae::decode`].
pub type DecodedFrames<'a, B> = Box<dyn Iterator<Item = Result<Decoded<B>, VaeError>> + 'a>;

/// Maps videos to latents and back, some frames at a time.
pub trait VideoVae<B: Backend>: Send + Sync {
    /// The mean of the normalised latents `[B, C, (T - 1) / 4 + 1, H / f, W / f]` of a video, where a latent
    /// pixel is `f` pixels (8 in Wan 2.1). It is asked for a frame at a time.
    ///
    /// # Errors
    /// [`VaeError::Cancelled`] soon after `cancel` says so: it is asked before each frame of each tile.
    fn encode(
        &self,
        video: &dyn FrameSource<B>,
        memory: VaeMemory,
        cancel: &CancelToken,
    ) -> Result<Tensor<B, 5>, VaeError>;

    /// Decodes normalised latents `[B, C, T, H, W]`, one latent frame at a time; in tiles, all frames of
    /// a tile before the next tile, which are kept in an unnamed temporary file (in memory where there
    /// can be none) until the frames can be joined. After `cancel` says so, which is asked before each
    /// latent frame of each tile, the next item is [`VaeError::Cancelled`]; after an error comes nothing.
    fn decode<'a>(
        &'a self,
        latents: Tensor<B, 5>,
        memory: VaeMemory,
        cancel: &'a CancelToken,
    ) -> DecodedFrames<'a, B>;

    /// Begins to decode a video whose latents are still being made. In tiles, all of them are remembered at a time.
    fn stream_decoder(&self, memory: VaeMemory) -> Box<dyn StreamDecoder<B>>;
}

/// Decodes a video as its latents are made: see [`VideoVae::stream_decoder`]. What it remembers does not grow with the
/// length of the video.
pub trait StreamDecoder<B: Backend>: Send {
    /// The frames `[B, 3, t, f H, f W]` in -1..1 that the next normalised latents `[B, C, T, H, W]` of the video stand
    /// for: 1 for the first latent frame of all, 4 for each other. They are those of [`VideoVae::decode`] for the whole
    /// video, however it is cut into pieces.
    ///
    /// # Errors
    /// [`VaeError::Cancelled`] soon after `cancel` says so, which is asked before each latent frame of each tile. The
    /// decoder is of no use then.
    ///
    /// # Panics
    /// If the latents have no frame, or another size or other channels than those before them.
    fn push(
        &mut self,
        latents: Tensor<B, 5>,
        cancel: &CancelToken,
    ) -> Result<Tensor<B, 5>, VaeError>;
}
