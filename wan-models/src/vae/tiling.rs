//! Tiles of a frame that is too large to pass through the VAE as a whole. They overlap, and are
//! blended where they do.

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::{Backend, BurnBackend};

use crate::config::{ConfigError, require};

/// The size of tiles, in pixels.
///
/// Each tile has a feature cache of its own, so tiling saves the memory of activations, not that of
/// the cache; and near the seams the result differs a little from the untiled one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    /// Height and width of a tile.
    pub size: [usize; 2],
    /// From one tile to the next, along height and width; less than `size`, so that they overlap.
    pub stride: [usize; 2],
}

impl Default for Tiling {
    /// Tiles of 256 pixels every 192, as in diffusers.
    fn default() -> Self {
        Self { size: [256, 256], stride: [192, 192] }
    }
}

impl Tiling {
    /// # Errors
    /// If tiles do not overlap, or do not consist of whole latent pixels (`factor` pixels).
    pub fn validate(&self, factor: usize) -> Result<(), ConfigError> {
        for axis in 0..2 {
            let (size, stride) = (self.size[axis], self.stride[axis]);
            let whole = size.is_multiple_of(factor) && stride.is_multiple_of(factor);
            let expected = format!("a stride less than the size, both multiples of {factor}");
            require(stride > 0 && stride < size && whole, "tiling", self, expected)?;
        }
        Ok(())
    }

    /// Divided by `factor`: the same tiles in latent pixels.
    pub(super) fn shrink(&self, factor: usize) -> Self {
        Self { size: self.size.map(|s| s / factor), stride: self.stride.map(|s| s / factor) }
    }

    /// The inverse of [`shrink`](Self::shrink).
    pub(super) fn enlarge(&self, factor: usize) -> Self {
        Self { size: self.size.map(|s| s * factor), stride: self.stride.map(|s| s * factor) }
    }

    /// Whether a frame of this size has more than one tile.
    pub(super) fn divides(&self, height: usize, width: usize) -> bool {
        height > self.size[0] || width > self.size[1]
    }

    /// Cuts frames `[B, T, H, W, C]` into rows of tiles.
    pub(super) fn cut<B: BurnBackend>(&self, x: &Tensor<B, 5>) -> Vec<Vec<Tensor<B, 5>>> {
        let [_, _, height, width, _] = x.dims();
        let part = |x: Tensor<B, 5>, axis: usize, start: usize, total: usize| {
            x.narrow(axis, start, self.size[axis - 2].min(total - start))
        };
        let row = |top| {
            let row = part(x.clone(), 2, top, height);
            let starts = (0..width).step_by(self.stride[1]);
            starts.map(|left| part(row.clone(), 3, left, width)).collect()
        };
        (0..height).step_by(self.stride[0]).map(row).collect()
    }

    /// Joins rows of tiles: each is blended into the one above and the one to its left, which are
    /// blended already.
    pub(super) fn join<B: Backend>(&self, mut rows: Vec<Vec<Tensor<B, 5>>>) -> Tensor<B, 5> {
        let overlap: [usize; 2] = std::array::from_fn(|i| self.size[i] - self.stride[i]);
        let mut joined = Vec::new();
        for i in 0..rows.len() {
            for j in 0..rows[i].len() {
                if i > 0 {
                    rows[i][j] = blend(&rows[i - 1][j], rows[i][j].clone(), 2, overlap[0]);
                }
                if j > 0 {
                    rows[i][j] = blend(&rows[i][j - 1], rows[i][j].clone(), 3, overlap[1]);
                }
            }
            let crop = |tile: &Tensor<B, 5>| {
                let [_, _, height, width, _] = tile.dims();
                let cropped = tile.clone().narrow(2, 0, height.min(self.stride[0]));
                cropped.narrow(3, 0, width.min(self.stride[1]))
            };
            joined.push(Tensor::cat(rows[i].iter().map(crop).collect(), 3));
        }
        Tensor::cat(joined, 2)
    }
}

/// Fades from the end of `before` to the start of `tile` along an axis, linearly.
fn blend<B: Backend>(
    before: &Tensor<B, 5>,
    tile: Tensor<B, 5>,
    axis: usize,
    overlap: usize,
) -> Tensor<B, 5> {
    let (behind, total) = (before.dims()[axis], tile.dims()[axis]);
    let overlap = overlap.min(behind).min(total);
    let mut shape = [1; 5];
    shape[axis] = overlap;
    let ramp: Vec<f32> = (0..overlap).map(|i| i as f32 / overlap as f32).collect();
    let ramp = Tensor::from_data(TensorData::new(ramp, shape), (&tile.device(), DType::F32));
    let end = before.clone().narrow(axis, behind - overlap, overlap);
    let start = tile.clone().narrow(axis, 0, overlap);
    let blended = end * (-ramp.clone() + 1.0) + start * ramp;
    if overlap == total {
        return blended;
    }
    Tensor::cat(vec![blended, tile.narrow(axis, overlap, total - overlap)], axis)
}
