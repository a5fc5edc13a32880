//! Attention that never holds its scores: a tile of queries meets the keys block by block, with the
//! running maximum and sum of the softmax (Milakov and Gimelshein 2018; FlashAttention).

use burn::backend::Flex;
use burn::tensor::{DType, Tensor};
use burn_flex::FlexTensor;
use gemm::Parallelism;
use rayon::prelude::*;

use super::bf16::{self, CpuKernel, Heads};
use super::math::update_softmax;
use super::matrix::{Beta, Matrix, multiply};
use super::memory::{Pod, raw, tensor};
use super::parallel::{inlined, vectorised};
use crate::backend::{AttentionArgs, portable};

/// Keys that a tile of queries meets at a time.
const KEY_BLOCK: usize = 256;
/// The most queries in a tile. Its scores (256 x 256 x 4 bytes) stay in the second-level cache; fewer
/// would pack the same keys and values more often for the matrix products.
const MAX_TILE: usize = 256;

/// The elements of a tensor that went through [`rows_together`].
fn heads<E: Pod>(x: &FlexTensor) -> Heads<'_, E> {
    let strides = x.layout().strides();
    Heads {
        data: &x.storage::<E>()[x.layout().start_offset()..],
        strides: [0, 1, 2].map(|axis| strides[axis] as usize),
    }
}

/// Some rows of a head.
fn rows<'a>(
    x: &Heads<'a, f32>,
    [batch, head, first]: [usize; 3],
    rows: usize,
    width: usize,
) -> Matrix<'a> {
    let [b, h, s] = x.strides;
    Matrix::rows(&x.data[batch * b + head * h + first * s..], rows, width, s)
}

/// The operands of [`attend_all`].
struct Operands<'a> {
    q: Heads<'a, f32>,
    k: Heads<'a, f32>,
    v: Heads<'a, f32>,
    /// `[B, H, Sq, Sk]`, any axis but the last broadcast.
    bias: Option<Heads<'a, f32>>,
    scale: f32,
    batch: usize,
    heads: usize,
    queries: usize,
    keys: usize,
    width: usize,
}

/// `softmax(q k^T scale + bias) v`
pub(super) fn attention(args: AttentionArgs<Flex>) -> Tensor<Flex, 4> {
    if !matches!(args.q.dtype(), DType::F32 | DType::BF16) {
        return portable::attention(args);
    }
    let AttentionArgs { q, k, v, bias, scale } = args;
    let ([batch, heads, queries, width], keys) = (q.dims(), k.dims()[2]);
    let (dtype, scale) = (q.dtype(), scale as f32);
    let (q, k, v) = (rows_together(q), rows_together(k), rows_together(v));
    let bias = bias.map(|bias| rows_together(bias.expand([batch, heads, queries, keys])));
    let bias = bias.as_ref().map(self::heads::<f32>);
    let shape = [batch, queries, heads, width];
    let out = match dtype {
        DType::BF16 => {
            let [q, k, v] = [&q, &k, &v].map(self::heads::<half::bf16>);
            let attention =
                bf16::Attention { q, k, v, bias, scale, batch, heads, queries, keys, width };
            tensor(bf16::attend_all(CpuKernel::current(), &attention), shape)
        }
        _ => {
            let [q, k, v] = [&q, &k, &v].map(self::heads::<f32>);
            let operands = Operands { q, k, v, bias, scale, batch, heads, queries, keys, width };
            tensor(attend_all(&operands), shape)
        }
    };
    out.swap_dims(1, 2)
}

/// With the elements of each row together; the rows may lie anywhere.
fn rows_together(x: Tensor<Flex, 4>) -> FlexTensor {
    let x = raw(x);
    let ok = x.layout().strides()[3] == 1 && x.layout().strides().iter().all(|&s| s >= 0);
    if ok { x } else { x.to_contiguous() }
}

/// So many queries at a time: few enough that all threads have work to the end.
pub(super) fn tile(queries: usize) -> usize {
    let tiles = 4 * rayon::current_num_threads();
    queries.div_ceil(tiles).next_multiple_of(8).clamp(8, MAX_TILE)
}

/// The result as `[B, Sq, H, D]`.
fn attend_all(operands: &Operands) -> Vec<f32> {
    let &Operands { batch, heads, queries, width, .. } = operands;
    let row = heads * width;
    let mut out = vec![0.0; batch * queries * row];
    let tile = tile(queries);
    out.par_chunks_mut((queries * row).max(1)).enumerate().for_each(|(b, out)| {
        out.par_chunks_mut(tile * row).enumerate().for_each(|(t, out)| {
            let mut scratch = Scratch::new(tile, width);
            for head in 0..heads {
                attend(operands, [b, head, t * tile], &mut out[head * width..], &mut scratch);
            }
        });
    });
    out
}

struct Scratch {
    /// `[tile, KEY_BLOCK]`
    scores: Vec<f32>,
    /// Of each query: the largest score so far, and the sum of `e^(score - largest)`.
    largest: Vec<f32>,
    sums: Vec<f32>,
    /// `[tile, width]`
    values: Vec<f32>,
}

impl Scratch {
    fn new(tile: usize, width: usize) -> Self {
        Self {
            scores: vec![0.0; tile * KEY_BLOCK],
            largest: vec![0.0; tile],
            sums: vec![0.0; tile],
            values: vec![0.0; tile * width],
        }
    }
}

/// One head of one tile; `out` begins at that head, its rows are `heads * width` apart.
fn attend(
    operands: &Operands,
    [batch, head, first]: [usize; 3],
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let &Operands { q, k, v, bias, scale, heads, queries, keys, width, .. } = operands;
    let rows = scratch.largest.len().min(queries - first);
    let queries = self::rows(&q, [batch, head, first], rows, width);
    scratch.largest.fill(f32::NEG_INFINITY);
    scratch.sums.fill(0.0);
    scratch.values.fill(0.0);
    for start in (0..keys).step_by(KEY_BLOCK) {
        let block = KEY_BLOCK.min(keys - start);
        let scores = &mut scratch.scores[..rows * block];
        let keys = self::rows(&k, [batch, head, start], block, width).transpose();
        multiply(scores, block, Beta::Zero, scale, queries, keys, Parallelism::None);
        if let Some(bias) = bias {
            add_bias(scores, block, &bias, [batch, head, first], start);
        }
        vectorised(inlined!(|| {
            for (i, scores) in scores.chunks_exact_mut(block).enumerate() {
                let (largest, sum) = (&mut scratch.largest[i], &mut scratch.sums[i]);
                let values = &mut scratch.values[i * width..(i + 1) * width];
                update_softmax(scores, largest, sum, values);
            }
        }));
        let weights = Matrix::rows(scores, rows, block, block);
        let values = self::rows(&v, [batch, head, start], block, width);
        multiply(&mut scratch.values, width, Beta::One, 1.0, weights, values, Parallelism::None);
    }
    for i in 0..rows {
        let values = &scratch.values[i * width..(i + 1) * width];
        let factor = 1.0 / scratch.sums[i];
        let out = &mut out[i * heads * width..][..width];
        out.iter_mut().zip(values).for_each(|(out, value)| *out = value * factor);
    }
}

fn add_bias(
    scores: &mut [f32],
    block: usize,
    bias: &Heads<f32>,
    [batch, head, first]: [usize; 3],
    start: usize,
) {
    let [b, h, s] = bias.strides;
    for (i, scores) in scores.chunks_exact_mut(block).enumerate() {
        let row = &bias.data[batch * b + head * h + (first + i) * s + start..];
        scores.iter_mut().zip(row).for_each(|(score, bias)| *score += bias);
    }
}
