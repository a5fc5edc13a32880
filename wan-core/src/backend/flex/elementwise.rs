//! Kernels that read each element once and write it once: the activation, the rotary embedding, the
//! gated residual, nearest-neighbour upsampling.

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, activation};
use rayon::prelude::*;

use super::math;
use super::memory::{contiguous, in_place, slice, tensor};
use super::parallel::{MIN_PER_THREAD, for_elements, for_rows, inlined};
use crate::backend::{RopeArgs, portable};

/// The tanh approximation of GELU.
pub(super) fn gelu(x: Tensor<Flex, 3>) -> Tensor<Flex, 3> {
    match x.dtype() {
        DType::F32 => in_place(x, |x| for_elements(x, inlined!(|x| math::gelu(x)))),
        _ => activation::gelu_approximate(x),
    }
}

/// Rotates the pairs of each head of `x` `[B, S, H, D]`; the tables are `[S, D / 2]`.
pub(super) fn rope(args: RopeArgs<Flex>) -> Tensor<Flex, 4> {
    let RopeArgs { x, cos, sin, dtype } = args;
    let [_, tokens, heads, width] = x.dims();
    let pairs = width / 2;
    let (cos, sin) = (contiguous(cos), contiguous(sin));
    let (cos, sin) = (slice(&cos), slice(&sin));
    let each = inlined!(|row: &mut [f32], index: usize| {
        let start = index % tokens * pairs;
        let (cos, sin) = (&cos[start..start + pairs], &sin[start..start + pairs]);
        for head in row.chunks_exact_mut(2 * pairs) {
            for ((pair, cos), sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                let [a, b] = *pair;
                *pair = [a * cos - b * sin, a * sin + b * cos];
            }
        }
    });
    in_place(x.cast(DType::F32), |x| for_rows(x, heads * width, each)).cast(dtype)
}

/// `x + y * gate`; each row of the gate is for as many rows of `x` that follow each other.
pub(super) fn gated_residual(
    x: Tensor<Flex, 3>,
    y: Tensor<Flex, 3>,
    gate: Tensor<Flex, 3>,
) -> Tensor<Flex, 3> {
    let [_, rows, width] = x.dims();
    let repeat = rows / gate.dims()[1];
    let (y, gate) = (contiguous(y.cast(DType::F32)), contiguous(gate));
    let (y, gate) = (slice(&y), slice(&gate));
    let each = inlined!(|row: &mut [f32], index: usize| {
        let y = &y[index * width..(index + 1) * width];
        let gate = &gate[index / repeat * width..][..width];
        row.iter_mut().zip(y).zip(gate).for_each(|((x, y), gate)| *x += y * gate);
    });
    in_place(x, |x| for_rows(x, width, each))
}

/// Doubles height and width of channels-last frames.
pub(super) fn upsample(x: Tensor<Flex, 5>) -> Tensor<Flex, 5> {
    if x.dtype() != DType::F32 {
        return portable::upsample(x);
    }
    let [batch, frames, height, width, channels] = x.dims();
    let out = doubled(slice(&contiguous(x)), width, channels);
    tensor(out, [batch, frames, 2 * height, 2 * width, channels])
}

/// Repeats each pixel twice along width and each row twice along height.
fn doubled(x: &[f32], width: usize, channels: usize) -> Vec<f32> {
    let row = width * channels;
    let mut out = vec![0.0; 4 * x.len()];
    let rows = (MIN_PER_THREAD / (4 * row)).max(1);
    let blocks = out.par_chunks_mut(rows * 4 * row).zip(x.par_chunks(rows * row));
    blocks.for_each(|(out, x)| {
        for (out, x) in out.chunks_exact_mut(4 * row).zip(x.chunks_exact(row)) {
            let (first, second) = out.split_at_mut(2 * row);
            let pixels = first.chunks_exact_mut(2 * channels).zip(x.chunks_exact(channels));
            for (out, pixel) in pixels {
                out[..channels].copy_from_slice(pixel);
                out[channels..].copy_from_slice(pixel);
            }
            second.copy_from_slice(first);
        }
    });
    out
}
