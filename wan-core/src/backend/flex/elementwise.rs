//! Kernels that read each element once and write it once: the activation, the rotary embedding, the
//! gated residual, rounding to f16.

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, activation};
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::math;
use super::memory::{contiguous, in_place, slice, tensor};
use super::parallel::{MIN_PER_THREAD, for_elements, for_rows, inlined};
use crate::backend::RopeArgs;

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

/// From f32 to f16 on all threads, without the f64 that burn goes by way of; all else as burn does it.
pub(super) fn cast(x: Tensor<Flex, 5>, dtype: DType) -> Tensor<Flex, 5> {
    if (x.dtype(), dtype) != (DType::F32, DType::F16) {
        return x.cast(dtype);
    }
    let shape = x.dims();
    let x = contiguous(x);
    let mut halves = vec![f16::ZERO; slice(&x).len()];
    let parts = halves.par_chunks_mut(MIN_PER_THREAD).zip(slice(&x).par_chunks(MIN_PER_THREAD));
    parts.for_each(|(halves, x)| halves.convert_from_f32_slice(x));
    tensor(halves, shape)
}
