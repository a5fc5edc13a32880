//! Tiles of a frame that is too large to pass through the VAE as a whole. They overlap, and are
//! blended where they do.

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::{Backend, BurnBackend, Tiling};

/// The tiles of a frame, or the frame as a whole.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tiles(Option<Tiling>);

impl Tiles {
    /// For frames of this height and width.
    pub(super) fn of_frames(tiling: Option<Tiling>, [height, width]: [usize; 2]) -> Self {
        let divides = |tiling: &Tiling| height > tiling.size[0] || width > tiling.size[1];
        Self(tiling.filter(divides))
    }

    /// For latents of this height and width, of which each pixel stands for `factor` pixels.
    pub(super) fn of_latents(tiling: Option<Tiling>, factor: usize, size: [usize; 2]) -> Self {
        Self::of_frames(Self(tiling).shrink(factor).0, size)
    }

    /// Divided by `factor`: the same tiles in latent pixels.
    pub(super) fn shrink(&self, factor: usize) -> Self {
        self.scaled(|side| side / factor)
    }

    /// The inverse of [`shrink`](Self::shrink).
    pub(super) fn enlarge(&self, factor: usize) -> Self {
        self.scaled(|side| side * factor)
    }

    fn scaled(&self, scale: impl Fn(usize) -> usize) -> Self {
        let scaled =
            |Tiling { size, stride, .. }| Tiling::new(size.map(&scale), stride.map(&scale));
        Self(self.0.map(scaled))
    }

    /// Whether there are tiles.
    pub(super) fn are_several(&self) -> bool {
        self.0.is_some()
    }

    /// Rows of tiles of a frame of this height and width.
    pub(super) fn rows(&self, [height, width]: [usize; 2]) -> Vec<Vec<Area>> {
        let Some(Tiling { size, stride, .. }) = self.0 else {
            return vec![vec![Area { start: [0, 0], size: [height, width] }]];
        };
        let starts = |axis: usize, side: usize| (0..side).step_by(stride[axis]);
        let area = |top, left| Area {
            start: [top, left],
            size: [size[0].min(height - top), size[1].min(width - left)],
        };
        starts(0, height)
            .map(|top| starts(1, width).map(|left| area(top, left)).collect())
            .collect()
    }

    /// Joins rows of tiles `[B, T, H, W, C]`.
    pub(super) fn join<B: Backend>(&self, mut rows: Vec<Vec<Tensor<B, 5>>>) -> Tensor<B, 5> {
        match &self.0 {
            Some(tiling) => join(tiling, rows),
            None => rows.remove(0).remove(0),
        }
    }
}

/// A tile's part of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Area {
    start: [usize; 2],
    size: [usize; 2],
}

impl Area {
    /// The part of frames `[B, T, H, W, C]`.
    pub(super) fn cut<B: BurnBackend>(self, frames: Tensor<B, 5>) -> Tensor<B, 5> {
        let Self { start: [top, left], size: [height, width] } = self;
        frames.narrow(2, top, height).narrow(3, left, width)
    }
}

/// Joins rows of tiles: each is blended into the one above and the one to its left, which are
/// blended already.
fn join<B: Backend>(tiling: &Tiling, mut rows: Vec<Vec<Tensor<B, 5>>>) -> Tensor<B, 5> {
    let overlap: [usize; 2] = std::array::from_fn(|i| tiling.size[i] - tiling.stride[i]);
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
            let cropped = tile.clone().narrow(2, 0, height.min(tiling.stride[0]));
            cropped.narrow(3, 0, width.min(tiling.stride[1]))
        };
        joined.push(Tensor::cat(rows[i].iter().map(crop).collect(), 3));
    }
    Tensor::cat(joined, 2)
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
