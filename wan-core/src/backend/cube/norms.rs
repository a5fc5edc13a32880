//! Norms: a group of threads a row, one pass of loads for each sum and one for the result, all in
//! f32.

use cubecl::prelude::*;

use burn::tensor::{DType, Tensor};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeRuntime};

use super::lanes::{Lanes, rows_of, sum_of_lanes};
use super::launch::{address_type, contiguous, empty_like, storage};
use super::{Cube, Devices, raw, tensor};
use crate::backend::{LayerNormArgs, ModulatedNormArgs, RmsNormArgs};

/// What a layer norm does to the normalised rows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Affine {
    /// Nothing.
    Identity,
    /// `y * weight + bias`
    Weights,
    /// `y * (1 + scale) + shift`
    Modulation,
}

pub(super) fn layer_norm<R: Devices, BT: BoolElement>(
    args: LayerNormArgs<Cube<R, BT>>,
) -> Tensor<Cube<R, BT>, 3> {
    let LayerNormArgs { x, affine, eps, dtype } = args;
    let x = contiguous(raw(x));
    tensor(match affine.map(|(weight, bias)| (raw(weight), raw(bias))) {
        Some((weight, bias)) => normalised(x, weight, bias, Affine::Weights, eps, dtype),
        // A kernel has to be given something, which is not read.
        None => normalised(x.clone(), x.clone(), x, Affine::Identity, eps, dtype),
    })
}

/// Each row of `shift` and `scale` is for as many rows of `x` that follow each other.
pub(super) fn modulated_norm<R: Devices, BT: BoolElement>(
    args: ModulatedNormArgs<Cube<R, BT>>,
) -> Tensor<Cube<R, BT>, 3> {
    let ModulatedNormArgs { x, shift, scale, eps, dtype } = args;
    tensor(normalised(raw(x), raw(scale), raw(shift), Affine::Modulation, eps, dtype))
}

fn normalised<R: CubeRuntime>(
    x: CubeTensor<R>,
    scale: CubeTensor<R>,
    shift: CubeTensor<R>,
    affine: Affine,
    eps: f64,
    dtype: DType,
) -> CubeTensor<R> {
    let (x, scale, shift) = (contiguous(x), contiguous(scale), contiguous(shift));
    let (rows, width) = rows_of(&x);
    let groups = if affine == Affine::Identity { 1 } else { rows_of(&scale).0 };
    let out = empty_like(&x, dtype);
    let lanes = Lanes::for_width(width);
    let (count, dim) = lanes.launch(&x, rows);
    let types = [storage(&x), storage(&scale), storage(&out)];
    // SAFETY: rows are compared with their number, columns with the width.
    #[allow(unsafe_code)]
    unsafe {
        layer_norm_kernel::launch_unchecked(
            &x.client.clone(),
            count,
            dim,
            address_type(&[&x, &out]),
            x.into_array_arg(),
            scale.into_array_arg(),
            shift.into_array_arg(),
            out.clone().into_array_arg(),
            rows,
            width,
            rows / groups,
            eps as f32,
            affine,
            lanes.lanes as usize,
            types,
        );
    }
    out
}

pub(super) fn rms_norm<R: Devices, BT: BoolElement>(
    args: RmsNormArgs<Cube<R, BT>>,
) -> Tensor<Cube<R, BT>, 3> {
    let RmsNormArgs { x, weight, eps, dtype } = args;
    tensor(scaled_rows(raw(x), raw(weight), Scaling::MeanSquare, eps as f32, dtype))
}

pub(super) fn channel_norm<R: Devices, BT: BoolElement>(
    x: Tensor<Cube<R, BT>, 5>,
    weight: Tensor<Cube<R, BT>, 1>,
    silu: bool,
    dtype: DType,
) -> Tensor<Cube<R, BT>, 5> {
    let scaling = if silu { Scaling::LengthThenSilu } else { Scaling::Length };
    tensor(scaled_rows(raw(x), raw(weight), scaling, 1e-12, dtype))
}

fn scaled_rows<R: CubeRuntime>(
    x: CubeTensor<R>,
    weight: CubeTensor<R>,
    scaling: Scaling,
    eps: f32,
    dtype: DType,
) -> CubeTensor<R> {
    let (x, weight) = (contiguous(x), contiguous(weight));
    let (rows, width) = rows_of(&x);
    let out = empty_like(&x, dtype);
    let lanes = Lanes::for_width(width);
    let (count, dim) = lanes.launch(&x, rows);
    let types = [storage(&x), storage(&out)];
    // SAFETY: rows are compared with their number, columns with the width.
    #[allow(unsafe_code)]
    unsafe {
        scaled_rows_kernel::launch_unchecked(
            &x.client.clone(),
            count,
            dim,
            address_type(&[&x, &out]),
            x.into_array_arg(),
            weight.into_array_arg(),
            out.clone().into_array_arg(),
            rows,
            width,
            eps,
            scaling,
            lanes.lanes as usize,
            types,
        );
    }
    out
}

/// What a row is divided by, and what comes after.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Scaling {
    /// The root of the mean square, plus eps below the root.
    MeanSquare,
    /// The length, at least eps, times `sqrt(D)`.
    Length,
    /// The same, then SiLU.
    LengthThenSilu,
}

/// `(x - mean) / sqrt(var + eps)`, then what `affine` says.
#[cube(launch_unchecked, address_type = "dynamic")]
fn layer_norm_kernel<I: Float, A: Float, O: Float>(
    x: &Array<I>,
    scale: &Array<A>,
    shift: &Array<A>,
    out: &mut Array<O>,
    rows: usize,
    width: usize,
    rows_in_group: usize,
    eps: f32,
    #[comptime] affine: Affine,
    #[comptime] lanes: usize,
    #[define(I, A, O)] _types: [StorageType; 3],
) {
    let mut shared = SharedMemory::<f32>::new(Lanes::CUBE as usize);
    let row = CUBE_POS * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    let lane = UNIT_POS_X as usize;
    // Threads beyond the last row go along, since all have to meet at the sums.
    let start = select(row < rows, row, 0) * width;

    let mut sum = 0.0f32;
    let mut column = lane;
    while column < width {
        sum += f32::cast_from(x[start + column]);
        column += lanes;
    }
    let mean = sum_of_lanes(sum, &mut shared, lanes) / width as f32;

    let mut squares = 0.0f32;
    column = lane;
    while column < width {
        let centred = f32::cast_from(x[start + column]) - mean;
        squares += centred * centred;
        column += lanes;
    }
    let variance = sum_of_lanes(squares, &mut shared, lanes) / width as f32;
    let deviation = (variance + eps).sqrt();

    if row < rows {
        let group = row / rows_in_group * width;
        column = lane;
        while column < width {
            let mut y = (f32::cast_from(x[start + column]) - mean) / deviation;
            if comptime!(affine != Affine::Identity) {
                let mut factor = f32::cast_from(scale[group + column]);
                if comptime!(affine == Affine::Modulation) {
                    factor += 1.0f32;
                }
                y = y * factor + f32::cast_from(shift[group + column]);
            }
            out[start + column] = O::cast_from(y);
            column += lanes;
        }
    }
}

/// Rows divided by their root mean square or length, times a weight.
#[cube(launch_unchecked, address_type = "dynamic")]
fn scaled_rows_kernel<I: Float, O: Float>(
    x: &Array<I>,
    weight: &Array<f32>,
    out: &mut Array<O>,
    rows: usize,
    width: usize,
    eps: f32,
    #[comptime] scaling: Scaling,
    #[comptime] lanes: usize,
    #[define(I, O)] _types: [StorageType; 2],
) {
    let mut shared = SharedMemory::<f32>::new(Lanes::CUBE as usize);
    let row = CUBE_POS * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    let lane = UNIT_POS_X as usize;
    // Threads beyond the last row go along, since all have to meet at the sum.
    let start = select(row < rows, row, 0) * width;

    let mut squares = 0.0f32;
    let mut column = lane;
    while column < width {
        let value = f32::cast_from(x[start + column]);
        squares += value * value;
        column += lanes;
    }
    let square = sum_of_lanes(squares, &mut shared, lanes);
    let divisor = if comptime!(scaling == Scaling::MeanSquare) {
        (square / width as f32 + eps).sqrt()
    } else {
        max(square.sqrt(), eps) / (width as f32).sqrt()
    };

    if row < rows {
        column = lane;
        while column < width {
            let mut y = f32::cast_from(x[start + column]) / divisor * weight[column];
            if comptime!(scaling == Scaling::LengthThenSilu) {
                y = y / (1.0f32 + (-y).exp());
            }
            out[start + column] = O::cast_from(y);
            column += lanes;
        }
    }
}
