//! Kernels that treat each row alone: norms, activations, rotary embedding, the linear layer.

use gemm::Parallelism;
use rayon::prelude::*;

use super::math::{self, sum};
use super::matrix::{Matrix, Onto, multiply};
use super::{MIN_PER_THREAD, vectorised};

/// `x w + b` for `x` `[rows, inputs]`; `weight` is `[inputs, outputs]` with any strides.
pub(in super::super) fn linear(
    x: &[f32],
    [inputs, outputs]: [usize; 2],
    weight: &[f32],
    weight_strides: [usize; 2],
    bias: Option<&[f32]>,
) -> Vec<f32> {
    let rows = x.len() / inputs;
    let mut y = match bias {
        Some(bias) => bias.repeat(rows),
        None => vec![0.0; rows * outputs],
    };
    let left = Matrix::rows(x, rows, inputs, inputs);
    let [row_stride, column_stride] = weight_strides;
    let right = Matrix { data: weight, rows: inputs, columns: outputs, row_stride, column_stride };
    let onto = if bias.is_some() { Onto::Destination } else { Onto::Zero };
    let work = rows * inputs * outputs;
    let parallelism = if work < 1 << 21 { Parallelism::None } else { Parallelism::Rayon(0) };
    multiply(&mut y, outputs, onto, 1.0, left, right, parallelism);
    y
}

/// Calls `each(row, index)` for every row of `x`, in parallel.
fn for_rows(x: &mut [f32], width: usize, each: impl Fn(&mut [f32], usize) + Sync) {
    let rows = (MIN_PER_THREAD / width).max(1);
    x.par_chunks_mut(rows * width).enumerate().for_each(|(chunk, x)| {
        vectorised(
            #[inline(always)]
            || {
                for (i, row) in x.chunks_exact_mut(width).enumerate() {
                    each(row, chunk * rows + i);
                }
            },
        );
    });
}

/// The tanh approximation of GELU, in place.
pub(in super::super) fn gelu(x: &mut [f32]) {
    x.par_chunks_mut(MIN_PER_THREAD).for_each(|x| {
        vectorised(
            #[inline(always)]
            || x.iter_mut().for_each(|x| *x = math::gelu(*x)),
        );
    });
}

/// What a layer norm multiplies a row with, and adds to it.
pub(in super::super) struct Affine<'a> {
    pub(in super::super) scale: &'a [f32],
    /// Added to the scale: 1 where it is relative.
    pub(in super::super) base: f32,
    pub(in super::super) shift: &'a [f32],
}

/// `layer_norm(x) * (base + scale) + shift`, in place; `affine(row)` has the vectors of a row.
pub(in super::super) fn layer_norm<'a>(
    x: &mut [f32],
    width: usize,
    eps: f32,
    affine: impl Fn(usize) -> Option<Affine<'a>> + Sync,
) {
    for_rows(
        x,
        width,
        #[inline(always)]
        |row, index| {
            let mean = sum(
                row,
                #[inline(always)]
                |x| x,
            ) / width as f32;
            let variance = sum(
                row,
                #[inline(always)]
                |x| (x - mean) * (x - mean),
            ) / width as f32;
            let factor = 1.0 / (variance + eps).sqrt();
            match affine(index) {
                None => row.iter_mut().for_each(|x| *x = (*x - mean) * factor),
                Some(Affine { scale, base, shift }) => {
                    for ((x, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
                        *x = (*x - mean) * factor * (base + scale) + shift;
                    }
                }
            }
        },
    );
}

/// `x / sqrt(mean(x^2) + eps) * weight`, in place.
pub(in super::super) fn rms_norm(x: &mut [f32], weight: &[f32], eps: f32) {
    let width = weight.len();
    for_rows(
        x,
        width,
        #[inline(always)]
        |row, _| {
            let mean_square = sum(
                row,
                #[inline(always)]
                |x| x * x,
            ) / width as f32;
            let factor = 1.0 / (mean_square + eps).sqrt();
            row.iter_mut().zip(weight).for_each(|(x, weight)| *x = *x * factor * weight);
        },
    );
}

/// `x / max(|x|, 1e-12) * sqrt(C) * weight`, and SiLU after it if asked for, in place.
pub(in super::super) fn channel_norm(x: &mut [f32], weight: &[f32], silu: bool) {
    let width = weight.len();
    let root = (width as f32).sqrt();
    for_rows(
        x,
        width,
        #[inline(always)]
        |row, _| {
            let length = sum(
                row,
                #[inline(always)]
                |x| x * x,
            )
            .sqrt()
            .max(1e-12);
            let factor = root / length;
            if silu {
                row.iter_mut()
                    .zip(weight)
                    .for_each(|(x, weight)| *x = math::silu(*x * factor * weight));
            } else {
                row.iter_mut().zip(weight).for_each(|(x, weight)| *x = *x * factor * weight);
            }
        },
    );
}

/// `x + y * gate`, in place in `x`; `gate(row)` is the vector of a row.
pub(in super::super) fn gated_residual<'a>(
    x: &mut [f32],
    y: &[f32],
    width: usize,
    gate: impl Fn(usize) -> &'a [f32] + Sync,
) {
    for_rows(
        x,
        width,
        #[inline(always)]
        |row, index| {
            let y = &y[index * width..(index + 1) * width];
            row.iter_mut().zip(y).zip(gate(index)).for_each(|((x, y), gate)| *x += y * gate);
        },
    );
}

/// Rotates the pairs of each head of `x` `[.., tokens, heads, width]`, in place; the tables are
/// `[tokens, width / 2]`.
pub(in super::super) fn rope(x: &mut [f32], cos: &[f32], sin: &[f32], heads: usize, tokens: usize) {
    let pairs = cos.len() / tokens;
    for_rows(
        x,
        heads * pairs * 2,
        #[inline(always)]
        |row, index| {
            let start = index % tokens * pairs;
            let (cos, sin) = (&cos[start..start + pairs], &sin[start..start + pairs]);
            for head in row.chunks_exact_mut(2 * pairs) {
                for ((pair, cos), sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                    let [a, b] = *pair;
                    *pair = [a * cos - b * sin, a * sin + b * cos];
                }
            }
        },
    );
}
