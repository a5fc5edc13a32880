//! Kernels that read each element once and write it once: the activation, the rotary embedding, the
//! gated residual, rounding to f16.

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, activation};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use super::bf16::Value;
use super::math;
use super::memory::{contiguous, halves, in_place, slice, tensor};
use super::parallel::{
    MIN_PER_THREAD, converted, for_elements, for_rows, inlined, map_rows, vectorised,
};
use crate::backend::RopeArgs;

/// The tanh approximation of GELU.
pub(super) fn gelu(x: Tensor<Flex, 3>) -> Tensor<Flex, 3> {
    match x.dtype() {
        DType::F32 => in_place::<f32, 3>(x, |x| for_elements(x, inlined!(|x| math::gelu(x)))),
        DType::BF16 => in_place::<bf16, 3>(x, |x| for_elements(x, inlined!(|x| math::gelu(x)))),
        _ => activation::gelu_approximate(x),
    }
}

/// `gelu(x) * y`
pub(super) fn gated_gelu(x: Tensor<Flex, 3>, y: Tensor<Flex, 3>) -> Tensor<Flex, 3> {
    match (x.dtype(), y.dtype()) {
        (DType::F32, DType::F32) => {
            let y = contiguous(y);
            in_place::<f32, 3>(x, |x| multiply_activated(x, slice(&y)))
        }
        (DType::BF16, DType::BF16) => {
            let y = contiguous(y);
            in_place::<bf16, 3>(x, |x| multiply_activated(x, halves(&y)))
        }
        _ => gelu(x) * y,
    }
}

fn multiply_activated<E: Value>(x: &mut [E], y: &[E]) {
    x.par_chunks_mut(MIN_PER_THREAD).zip(y.par_chunks(MIN_PER_THREAD)).for_each(|(x, y)| {
        vectorised(inlined!(|| {
            x.iter_mut()
                .zip(y)
                .for_each(|(x, y)| *x = E::from_f32(math::gelu(x.to_f32()) * y.to_f32()));
        }));
    });
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
    each_row(x, heads * width, dtype, each)
}

/// `x + y * gate`; each row of the gate is for as many rows of `x` that follow each other.
pub(super) fn gated_residual(
    x: Tensor<Flex, 3>,
    y: Tensor<Flex, 3>,
    gate: Tensor<Flex, 3>,
) -> Tensor<Flex, 3> {
    let [_, rows, width] = x.dims();
    let repeat = rows / gate.dims()[1];
    let is_narrow = y.dtype() == DType::BF16;
    let (y, gate) = (contiguous(if is_narrow { y } else { y.cast(DType::F32) }), contiguous(gate));
    let sizes = [width, repeat];
    match is_narrow {
        true => in_place(x, |x| add_gated(x, halves(&y), slice(&gate), sizes)),
        false => in_place(x, |x| add_gated(x, slice(&y), slice(&gate), sizes)),
    }
}

fn add_gated<Y: Value>(x: &mut [f32], y: &[Y], gate: &[f32], [width, repeat]: [usize; 2]) {
    let each = inlined!(|row: &mut [f32], index: usize| {
        let y = &y[index * width..(index + 1) * width];
        let gate = &gate[index / repeat * width..][..width];
        row.iter_mut().zip(y).zip(gate).for_each(|((x, y), gate)| *x += y.to_f32() * gate);
    });
    for_rows(x, width, each);
}

/// `x + y` in the dtype of `x`.
pub(super) fn add<const D: usize>(x: Tensor<Flex, D>, y: Tensor<Flex, D>) -> Tensor<Flex, D> {
    let y = match (x.dtype(), y.dtype()) {
        (DType::F32 | DType::BF16, DType::F32 | DType::BF16) => contiguous(y),
        (dtype, _) => return x + y.cast(dtype),
    };
    match (x.dtype(), y.dtype()) {
        (DType::F32, DType::F32) => in_place(x, |x: &mut [f32]| add_to(x, slice(&y))),
        (DType::F32, _) => in_place(x, |x: &mut [f32]| add_to(x, halves(&y))),
        (_, DType::F32) => in_place(x, |x: &mut [bf16]| add_to(x, slice(&y))),
        _ => in_place(x, |x: &mut [bf16]| add_to(x, halves(&y))),
    }
}

fn add_to<X: Value, Y: Value>(x: &mut [X], y: &[Y]) {
    assert_eq!(x.len(), y.len(), "tensors of another shape");
    x.par_chunks_mut(MIN_PER_THREAD).zip(y.par_chunks(MIN_PER_THREAD)).for_each(|(x, y)| {
        vectorised(inlined!(|| {
            x.iter_mut().zip(y).for_each(|(x, y)| *x = X::from_f32(x.to_f32() + y.to_f32()));
        }));
    });
}

/// Calls `each(row, index)` for every row of a tensor in f32, and gives it in `dtype`.
pub(super) fn each_row<const D: usize>(
    x: Tensor<Flex, D>,
    width: usize,
    dtype: DType,
    each: impl Fn(&mut [f32], usize) + Sync,
) -> Tensor<Flex, D> {
    let shape = x.dims();
    match (x.dtype(), dtype) {
        (DType::F32, DType::BF16) => {
            tensor(map_rows::<f32, bf16>(slice(&contiguous(x)), width, each), shape)
        }
        (DType::BF16, DType::BF16) => {
            tensor(map_rows::<bf16, bf16>(halves(&contiguous(x)), width, each), shape)
        }
        (DType::BF16, DType::F32) => {
            tensor(map_rows::<bf16, f32>(halves(&contiguous(x)), width, each), shape)
        }
        _ => in_place(x.cast(DType::F32), |x| for_rows(x, width, each)).cast(dtype),
    }
}

/// Another float dtype on all threads: from f32 to f16 without the f64 that burn goes by way of, and between f32
/// and bf16; all else as burn does it.
pub(super) fn cast<const D: usize>(x: Tensor<Flex, D>, dtype: DType) -> Tensor<Flex, D> {
    let shape = x.dims();
    match (x.dtype(), dtype) {
        (DType::F32, DType::F16) => {
            let x = contiguous(x);
            let mut halves = vec![f16::ZERO; slice(&x).len()];
            let parts =
                halves.par_chunks_mut(MIN_PER_THREAD).zip(slice(&x).par_chunks(MIN_PER_THREAD));
            parts.for_each(|(halves, x)| halves.convert_from_f32_slice(x));
            tensor(halves, shape)
        }
        (DType::F32, DType::BF16) => tensor(converted::<f32, bf16>(slice(&contiguous(x))), shape),
        (DType::BF16, DType::F32) => tensor(converted::<bf16, f32>(halves(&contiguous(x))), shape),
        _ => x.cast(dtype),
    }
}
