use burn::tensor::{DType, Tensor, TensorData};
use wan_core::backend::RopeArgs;
use wan_core::{Backend, BurnBackend};

const THETA: f64 = 10_000.0;

/// Rotary position embedding in three dimensions: a head's pairs are divided between time, height
/// and width, and each part is rotated by the token's position along its axis.
///
/// Tables are computed in f64 on the host, as the original does.
#[derive(Debug, Clone)]
pub struct RotaryEmbedding<B: BurnBackend> {
    /// `[S, D / 2]`, f32
    pub cos: Tensor<B, 2>,
    /// `[S, D / 2]`, f32
    pub sin: Tensor<B, 2>,
}

impl<B: Backend> RotaryEmbedding<B> {
    /// For a grid of tokens (frames, rows, columns), which follow each other row by row.
    pub fn new(head_dim: usize, grid: [usize; 3], device: &B::Device) -> Self {
        let spatial = 2 * (head_dim / 6);
        let widths = [head_dim - 2 * spatial, spatial, spatial];
        let axes: Vec<_> =
            grid.into_iter().zip(widths).map(|(n, width)| angles(n, width)).collect();
        let tokens = grid.iter().product::<usize>();
        let mut rotations = Vec::with_capacity(tokens * head_dim / 2);
        for frame in &axes[0] {
            for row in &axes[1] {
                for column in &axes[2] {
                    rotations.extend(frame.iter().chain(row).chain(column));
                }
            }
        }
        let table = |part: fn(&[f64; 2]) -> f64| {
            let values: Vec<f32> = rotations.iter().map(|r| part(r) as f32).collect();
            Tensor::from_data(TensorData::new(values, [tokens, head_dim / 2]), (device, DType::F32))
        };
        Self { cos: table(|r| r[0]), sin: table(|r| r[1]) }
    }

    /// That of `count` tokens from `start` on.
    pub(super) fn part(&self, start: usize, count: usize) -> Self {
        let part = |table: &Tensor<B, 2>| table.clone().narrow(0, start, count);
        Self { cos: part(&self.cos), sin: part(&self.sin) }
    }

    /// Rotates `[B, S, H, D]`; the result is in `dtype`.
    pub fn rotate(&self, x: Tensor<B, 4>, dtype: DType) -> Tensor<B, 4> {
        B::wan_rope(RopeArgs::new(x, self.cos.clone(), self.sin.clone()).dtype(dtype))
    }
}

/// Cosine and sine of every frequency at the positions `0..count` of one axis.
fn angles(count: usize, width: usize) -> Vec<Vec<[f64; 2]>> {
    let frequency = |pair: usize| THETA.powf(-((2 * pair) as f64) / width as f64);
    let at = |position: usize| {
        let angle = |pair| position as f64 * frequency(pair);
        (0..width / 2).map(angle).map(|a: f64| [a.cos(), a.sin()]).collect()
    };
    (0..count).map(at).collect()
}
