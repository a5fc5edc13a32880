//! Attention on GPUs: a flash kernel where the device has one for the operands, else matrix products
//! over pieces of the scores.

use burn::tensor::{DType, Tensor};
use burn_cubecl::BoolElement;
use burn_cubecl::kernel::attention::{AttentionStrategy, attention as launch};
use cubek::attention::routines::blackbox_accelerated::BlackboxAcceleratedStrategy;

use super::launch::contiguous;
use super::matmul::{has_matrix_units, matmul};
use super::{Cube, Devices, raw, rows, tensor};
use crate::backend::portable::attention_in_pieces;

/// What the scores may take at a time where there is no flash kernel; the softmax of them takes as much
/// again, or half of it in 16 bits.
const MAX_SCORE_BYTES: usize = 256 << 20;

/// The tensor-core kernel works on this many queries at a time and does not check for less.
const QUERIES_AT_A_TIME: usize = 128;

/// Below this many queries its start costs more than it saves, and above it padding is little.
const MIN_QUERIES: usize = 1024;

pub(super) fn attention<R: Devices, BT: BoolElement>(
    q: Tensor<Cube<R, BT>, 4>,
    k: Tensor<Cube<R, BT>, 4>,
    v: Tensor<Cube<R, BT>, 4>,
    bias: Option<Tensor<Cube<R, BT>, 4>>,
    scale: f64,
) -> Tensor<Cube<R, BT>, 4> {
    if bias.is_none()
        && let Some(attended) = flash(&q, &k, &v, scale)
    {
        return attended;
    }
    let dtype = q.dtype();
    let largest_buffer = raw(q.clone()).client.properties().memory.max_page_size;
    let max_score_bytes = MAX_SCORE_BYTES.min(largest_buffer as usize);
    // The scores are summed up and kept in f32, whatever the operands are in.
    let weights = |q, k, bias: Option<_>| {
        let scores = matmul(raw(q), raw(k), DType::F32);
        tensor(rows::softmax(scores, bias.map(raw), scale as f32, dtype))
    };
    let product = |weights, v| tensor(matmul(raw(weights), raw(v), dtype));
    attention_in_pieces([q, k, v], bias, max_score_bytes, weights, product)
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
