//! Attention on GPUs: a flash kernel where the device has one for the operands, else matrix products
//! over pieces of the scores.

use burn::tensor::{DType, Tensor};
use burn_cubecl::kernel::attention::{AttentionStrategy, attention as launch};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeRuntime};
use cubecl::prelude::*;
use cubek::attention::routines::blackbox_accelerated::BlackboxAcceleratedStrategy;

use super::lanes::{Lanes, largest_of_lanes, rows_of, sum_of_lanes};
use super::launch::{address_type, contiguous, empty_like, storage};
use super::linear::{copies_tiles, has_matrix_units, matmul};
use super::{Cube, Devices, raw, tensor};
use crate::backend::AttentionArgs;
use crate::backend::portable::attention_in_pieces;

/// What the scores may take at a time where there is no flash kernel; the softmax of them takes as much
/// again, or half of it in 16 bits.
const MAX_SCORE_BYTES: usize = 256 << 20;

/// The part of the largest buffer that the scores may take if that is more, on devices that copy tiles: their many
/// units are busy only where a piece has thousands of rows. On an H200 it is 1/64 of the memory.
const PART_OF_BUFFER: usize = 16;

/// The tensor-core kernel works on this many queries at a time and does not check for less.
const QUERIES_AT_A_TIME: usize = 128;

/// Below this many queries its start costs more than it saves, and above it padding is little.
const MIN_QUERIES: usize = 1024;

pub(super) fn attention<R: Devices, BT: BoolElement>(
    args: AttentionArgs<Cube<R, BT>>,
) -> Tensor<Cube<R, BT>, 4> {
    let AttentionArgs { q, k, v, bias, scale } = args;
    if bias.is_none()
        && let Some(attended) = flash(&q, &k, &v, scale)
    {
        return attended;
    }
    let dtype = q.dtype();
    let max_score_bytes = max_score_bytes(&raw(q.clone()));
    // The scores are summed up and kept in f32, whatever the operands are in.
    let weights = |q, k, bias: Option<_>| {
        let scores = matmul(raw(q), raw(k), DType::F32);
        tensor(softmax(scores, bias.map(raw), scale as f32, dtype))
    };
    let product = |weights, v| tensor(matmul(raw(weights), raw(v), dtype));
    attention_in_pieces([q, k, v], bias, max_score_bytes, weights, product)
}

fn max_score_bytes<R: CubeRuntime>(x: &CubeTensor<R>) -> usize {
    let largest_buffer = x.client.properties().memory.max_page_size as usize;
    let bytes = match copies_tiles(x) {
        true => MAX_SCORE_BYTES.max(largest_buffer / PART_OF_BUFFER),
        false => MAX_SCORE_BYTES,
    };
    bytes.min(largest_buffer)
}

/// The flash kernel computes in tiles of f16 whatever the operands are in, so f32 does not go
/// through it.
fn flash<R: Devices, BT: BoolElement>(
    q: &Tensor<Cube<R, BT>, 4>,
    k: &Tensor<Cube<R, BT>, 4>,
    v: &Tensor<Cube<R, BT>, 4>,
    scale: f64,
) -> Option<Tensor<Cube<R, BT>, 4>> {
    let [batch, heads, queries, width] = q.dims();
    let suits = q.dtype() != DType::F32
        && queries >= MIN_QUERIES
        // Long queries on short keys make it choose tiles that devices do not have.
        && queries < 4 * k.dims()[2]
        && width.is_multiple_of(16)
        && (scale * (width as f64).sqrt() - 1.0).abs() < 1e-6;
    // Asked before anything is copied for it.
    if !suits || !has_matrix_units(&raw(q.clone())) {
        tracing::debug!(
            "attention of {:?} goes in pieces: no flash kernel is for it here",
            q.dims()
        );
        return None;
    }
    let missing = queries.next_multiple_of(QUERIES_AT_A_TIME) - queries;
    let padded = match missing {
        0 => q.clone(),
        _ => {
            let zeros = Tensor::zeros([batch, heads, missing, width], (&q.device(), q.dtype()));
            Tensor::cat(vec![q.clone(), zeros], 2)
        }
    };
    // It finds samples by the stride of heads alone: only contiguous operands are right in a batch.
    let [q, k, v] = [padded, k.clone(), v.clone()].map(|x| contiguous(raw(x)));
    let strategy = BlackboxAcceleratedStrategy { num_planes: 8, seq_q: 1, seq_kv: 1 };
    let strategy = AttentionStrategy::FlashBlackboxAccelerated(strategy);
    match launch(q, k, v, None, None, Default::default(), strategy) {
        Ok(attended) => Some(tensor::<R, BT, 4>(attended).narrow(2, 0, queries)),
        Err(error) => {
            tracing::debug!("attention goes in pieces: the flash kernel does not run: {error:?}");
            None
        }
    }
}

/// `softmax(scores scale + bias)` over the last axis; an axis of 1 of the bias stands for all of
/// `scores` `[B, H, S, L]`.
fn softmax<R: CubeRuntime>(
    scores: CubeTensor<R>,
    bias: Option<CubeTensor<R>>,
    scale: f32,
    dtype: DType,
) -> CubeTensor<R> {
    let scores = contiguous(scores);
    let (rows, width) = rows_of(&scores);
    let (out, has_bias) = (empty_like(&scores, dtype), bias.is_some());
    let [_, heads, queries, _] = scores.meta.shape().dims();
    let bias = contiguous(bias.unwrap_or_else(|| scores.clone()));
    let [b, h, q, _] = bias.meta.shape().dims();
    let step = |size: usize, step: usize| if size == 1 { 0 } else { step };
    let lanes = Lanes::for_width(width);
    let (count, dim) = lanes.launch(&scores, rows);
    let dtype = storage(&out);
    // SAFETY: rows are compared with their number, columns with the width; the bias is addressed by
    // its own strides.
    #[allow(unsafe_code)]
    unsafe {
        softmax_kernel::launch_unchecked(
            &scores.client.clone(),
            count,
            dim,
            address_type(&[&scores, &out, &bias]),
            scores.into_array_arg(),
            bias.into_array_arg(),
            out.clone().into_array_arg(),
            rows,
            width,
            heads,
            queries,
            step(b, h * q * width),
            step(h, q * width),
            step(q, width),
            scale,
            has_bias,
            lanes.lanes as usize,
            dtype,
        );
    }
    out
}

/// Not above any score, and not infinite: WGSL has no literal for that, and its difference with itself
/// is not a number.
const LOWEST: f32 = f32::MIN;

#[cube(launch_unchecked, address_type = "dynamic")]
#[allow(clippy::too_many_arguments)]
fn softmax_kernel<O: Float>(
    scores: &Array<f32>,
    bias: &Array<f32>,
    out: &mut Array<O>,
    rows: usize,
    width: usize,
    heads: usize,
    queries: usize,
    bias_of_batch: usize,
    bias_of_head: usize,
    bias_of_query: usize,
    scale: f32,
    #[comptime] has_bias: bool,
    #[comptime] lanes: usize,
    #[define(O)] _dtype: StorageType,
) {
    let mut shared = SharedMemory::<f32>::new(Lanes::CUBE as usize);
    let row = CUBE_POS * CUBE_DIM_Y as usize + UNIT_POS_Y as usize;
    let lane = UNIT_POS_X as usize;
    // Threads beyond the last row go along, since all have to meet at the sums.
    let row_or_first = select(row < rows, row, 0);
    let start = row_or_first * width;
    let bias_start = row_or_first / (heads * queries) * bias_of_batch
        + row_or_first / queries % heads * bias_of_head
        + row_or_first % queries * bias_of_query;

    // The largest of a row and the sum of the exponentials in one pass: the sum so far is scaled down
    // when something larger comes.
    let mut largest = f32::new(LOWEST);
    let mut sum = 0.0f32;
    let mut column = lane;
    while column < width {
        let mut score = scores[start + column] * scale;
        if has_bias {
            score += bias[bias_start + column];
        }
        let larger = max(largest, score);
        sum = sum * (largest - larger).exp() + (score - larger).exp();
        largest = larger;
        column += lanes;
    }
    let largest_of_row = largest_of_lanes(largest, &mut shared, lanes);
    let total = sum_of_lanes(sum * (largest - largest_of_row).exp(), &mut shared, lanes);

    if row < rows {
        column = lane;
        while column < width {
            let mut score = scores[start + column] * scale;
            if has_bias {
                score += bias[bias_start + column];
            }
            out[start + column] = O::cast_from((score - largest_of_row).exp() / total);
            column += lanes;
        }
    }
}
