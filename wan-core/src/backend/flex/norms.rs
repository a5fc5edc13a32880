//! Norms: each row alone, in f32; in place where that is the dtype.

use burn::backend::Flex;
use burn::tensor::{DType, Tensor};

use super::elementwise::each_row;
use super::math::{self, sum, sum_of_squared_deviations, sum_of_squares};
use super::memory::{contiguous, slice};
use super::parallel::inlined;
use crate::backend::{ChannelNormArgs, LayerNormArgs, ModulatedNormArgs, RmsNormArgs};

/// What is done to a row after it was normalised.
enum Affine<'a> {
    /// Nothing.
    Identity,
    /// `y * weight + bias`
    Weights { weight: &'a [f32], bias: &'a [f32] },
    /// `y * (1 + scale) + shift`
    Modulation { scale: &'a [f32], shift: &'a [f32] },
}

pub(super) fn layer_norm(args: LayerNormArgs<Flex>) -> Tensor<Flex, 3> {
    let LayerNormArgs { x, affine, eps, dtype } = args;
    let affine = affine.map(|(weight, bias)| (contiguous(weight), contiguous(bias)));
    let affine = affine.as_ref().map(|(weight, bias)| (slice(weight), slice(bias)));
    normalised(x, eps, dtype, |_| match affine {
        Some((weight, bias)) => Affine::Weights { weight, bias },
        None => Affine::Identity,
    })
}

pub(super) fn modulated_norm(args: ModulatedNormArgs<Flex>) -> Tensor<Flex, 3> {
    let ModulatedNormArgs { x, shift, scale, eps, dtype } = args;
    let [_, rows, width] = x.dims();
    let repeat = rows / shift.dims()[1];
    let (shift, scale) = (contiguous(shift), contiguous(scale));
    let (shift, scale) = (slice(&shift), slice(&scale));
    normalised(x, eps, dtype, |row| {
        let vector = row / repeat * width..(row / repeat + 1) * width;
        Affine::Modulation { scale: &scale[vector.clone()], shift: &shift[vector] }
    })
}

/// `(x - mean) / sqrt(var + eps)`, then `affine(row)`.
fn normalised<'a>(
    x: Tensor<Flex, 3>,
    eps: f64,
    dtype: DType,
    affine: impl Fn(usize) -> Affine<'a> + Sync,
) -> Tensor<Flex, 3> {
    let (width, eps) = (x.dims()[2], eps as f32);
    let each = inlined!(|row: &mut [f32], index: usize| {
        let mean = sum(row) / width as f32;
        let variance = sum_of_squared_deviations(row, mean) / width as f32;
        let factor = 1.0 / (variance + eps).sqrt();
        match affine(index) {
            Affine::Identity => row.iter_mut().for_each(|x| *x = (*x - mean) * factor),
            Affine::Weights { weight, bias } => {
                for ((x, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
                    *x = (*x - mean) * factor * weight + bias;
                }
            }
            Affine::Modulation { scale, shift } => {
                for ((x, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
                    *x = (*x - mean) * factor * (1.0 + scale) + shift;
                }
            }
        }
    });
    each_row(x, width, dtype, each)
}

pub(super) fn rms_norm(args: RmsNormArgs<Flex>) -> Tensor<Flex, 3> {
    let RmsNormArgs { x, weight, eps, dtype } = args;
    let (weight, eps) = (contiguous(weight), eps as f32);
    let weight = slice(&weight);
    let each = inlined!(|row: &mut [f32], _| {
        let factor = 1.0 / (sum_of_squares(row) / weight.len() as f32 + eps).sqrt();
        row.iter_mut().zip(weight).for_each(|(x, weight)| *x = *x * factor * weight);
    });
    each_row(x, weight.len(), dtype, each)
}

/// `x / max(|x|, 1e-12) * sqrt(C) * weight`, and SiLU after it if asked for.
pub(super) fn channel_norm(args: ChannelNormArgs<Flex>) -> Tensor<Flex, 5> {
    let ChannelNormArgs { x, weight, silu, dtype } = args;
    let weight = contiguous(weight);
    let weight = slice(&weight);
    let root = (weight.len() as f32).sqrt();
    let each = inlined!(|row: &mut [f32], _| {
        let factor = root / sum_of_squares(row).sqrt().max(1e-12);
        let pairs = row.iter_mut().zip(weight);
        if silu {
            pairs.for_each(|(x, weight)| *x = math::silu(*x * factor * weight));
        } else {
            pairs.for_each(|(x, weight)| *x = *x * factor * weight);
        }
    });
    each_row(x, weight.len(), dtype, each)
}
