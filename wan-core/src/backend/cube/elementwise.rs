//! Kernels that read each number once and write one.

use cubecl::prelude::*;

use burn::tensor::Tensor;
use burn_cubecl::BoolElement;

use super::launch::{address_type, contiguous, empty_like, one_each, storage};
use super::{Cube, Devices, raw, tensor};
use crate::backend::RopeArgs;

/// GELU in its tanh approximation, in f32, to the dtype of `x`.
pub(super) fn gelu<R: Devices, BT: BoolElement>(
    x: Tensor<Cube<R, BT>, 3>,
) -> Tensor<Cube<R, BT>, 3> {
    let x = contiguous(raw(x));
    let out = empty_like(&x, x.dtype);
    let count = x.meta.num_elements();
    let (cubes, dim) = one_each(&x.client, count);
    let dtype = storage(&x);
    // SAFETY: positions are compared with the number of elements.
    #[allow(unsafe_code)]
    unsafe {
        gelu_kernel::launch_unchecked(
            &x.client.clone(),
            cubes,
            dim,
            address_type(&[&x]),
            x.into_array_arg(),
            out.clone().into_array_arg(),
            count,
            dtype,
        );
    }
    tensor(out)
}

/// Rotates pairs of `x` `[B, S, H, D]` by the angles of their token.
pub(super) fn rope<R: Devices, BT: BoolElement>(
    args: RopeArgs<Cube<R, BT>>,
) -> Tensor<Cube<R, BT>, 4> {
    let RopeArgs { x, cos, sin, dtype } = args;
    let [x, cos, sin] = [raw(x), raw(cos), raw(sin)].map(contiguous);
    let [_, tokens, heads, width] = x.meta.shape().dims();
    let out = empty_like(&x, dtype);
    let pairs = x.meta.num_elements() / 2;
    let (cubes, dim) = one_each(&x.client, pairs);
    let types = [storage(&x), storage(&out)];
    // SAFETY: positions are compared with the number of pairs; the tables have a row for each token.
    #[allow(unsafe_code)]
    unsafe {
        rope_kernel::launch_unchecked(
            &x.client.clone(),
            cubes,
            dim,
            address_type(&[&x, &out]),
            x.into_array_arg(),
            cos.into_array_arg(),
            sin.into_array_arg(),
            out.clone().into_array_arg(),
            pairs,
            tokens,
            heads,
            width / 2,
            types,
        );
    }
    tensor(out)
}

/// `x + y * gate`, in the memory of `x` if nobody else has it.
pub(super) fn gated_residual<R: Devices, BT: BoolElement>(
    x: Tensor<Cube<R, BT>, 3>,
    y: Tensor<Cube<R, BT>, 3>,
    gate: Tensor<Cube<R, BT>, 3>,
) -> Tensor<Cube<R, BT>, 3> {
    let [x, y, gate] = [x, y, gate].map(|x| contiguous(raw(x)));
    let [_, rows, width] = x.meta.shape().dims();
    let [_, gates, _] = gate.meta.shape().dims();
    let count = x.meta.num_elements();
    let (cubes, dim) = one_each(&x.client, count);
    let dtype = storage(&y);
    let out = if x.can_mut() { x } else { x.copy() };
    // SAFETY: positions are compared with the number of elements; the gate has a row for each
    // `rows / gates` rows.
    #[allow(unsafe_code)]
    unsafe {
        gated_residual_kernel::launch_unchecked(
            &out.client.clone(),
            cubes,
            dim,
            address_type(&[&out, &y]),
            out.clone().into_array_arg(),
            y.into_array_arg(),
            gate.into_array_arg(),
            count,
            width,
            rows / gates,
            dtype,
        );
    }
    tensor(out)
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn gelu_kernel<E: Float>(
    x: &Array<E>,
    out: &mut Array<E>,
    count: usize,
    #[define(E)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let x = f32::cast_from(x[ABSOLUTE_POS]);
    // 0.7978.. is sqrt(2 / pi). `tanh(z) = 1 - 2 / (exp(2 z) + 1)` overflows to the right limits.
    let z = 0.797_884_6_f32 * (x + 0.044_715_f32 * x * x * x);
    let tanh = 1.0f32 - 2.0f32 / ((2.0f32 * z).exp() + 1.0f32);
    out[ABSOLUTE_POS] = E::cast_from(0.5f32 * x * (1.0f32 + tanh));
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn rope_kernel<I: Float, O: Float>(
    x: &Array<I>,
    cos: &Array<f32>,
    sin: &Array<f32>,
    out: &mut Array<O>,
    pairs: usize,
    tokens: usize,
    heads: usize,
    half: usize,
    #[define(I, O)] _types: [StorageType; 2],
) {
    if ABSOLUTE_POS >= pairs {
        terminate!();
    }
    let token = ABSOLUTE_POS / (half * heads) % tokens;
    let angle = token * half + ABSOLUTE_POS % half;
    let (cos, sin) = (cos[angle], sin[angle]);
    let first = f32::cast_from(x[2 * ABSOLUTE_POS]);
    let second = f32::cast_from(x[2 * ABSOLUTE_POS + 1]);
    out[2 * ABSOLUTE_POS] = O::cast_from(first * cos - second * sin);
    out[2 * ABSOLUTE_POS + 1] = O::cast_from(first * sin + second * cos);
}

#[cube(launch_unchecked, address_type = "dynamic")]
fn gated_residual_kernel<Y: Float>(
    x: &mut Array<f32>,
    y: &Array<Y>,
    gate: &Array<f32>,
    count: usize,
    width: usize,
    rows_of_gate: usize,
    #[define(Y)] _dtype: StorageType,
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let gate = gate[ABSOLUTE_POS / (width * rows_of_gate) * width + ABSOLUTE_POS % width];
    x[ABSOLUTE_POS] = x[ABSOLUTE_POS] + f32::cast_from(y[ABSOLUTE_POS]) * gate;
}
