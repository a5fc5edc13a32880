//! Attention that never holds its scores: a tile of queries meets the keys block by block, with the
//! running maximum and sum of the softmax (Milakov and Gimelshein 2018; FlashAttention).

use burn::backend::Flex;
use burn::tensor::{DType, Tensor};
use burn_flex::FlexTensor;
use gemm::Parallelism;
use rayon::prelude::*;

use super::math;
use super::matrix::{Beta, Matrix, multiply};
use super::memory::{raw, tensor};
use super::parallel::{inlined, vectorised};
use crate::backend::{AttentionArgs, portable};

/// Keys that a tile of queries meets at a time.
const KEY_BLOCK: usize = 256;
/// The most queries in a tile. Its scores (256 x 256 x 4 bytes) stay in the second-level cache; fewer
/// would pack the same keys and values more often for the matrix products.
const MAX_TILE: usize = 256;

/// A tensor `[B, H, S, D]` with the elements of a row together and the other axes anywhere.
#[derive(Clone, Copy)]
struct Heads<'a> {
    data: &'a [f32],
    /// Strides of batch, head and row; 0 where an axis is broadcast.
    strides: [usize; 3],
}

impl<'a> Heads<'a> {
    /// Of a tensor that went through [`rows_together`].
    fn of(x: &'a FlexTensor) -> Self {
        let strides = x.layout().strides();
        Self {
            data: &x.storage::<f32>()[x.layout().start_offset()..],
            strides: [0, 1, 2].map(|axis| strides[axis] as usize),
        }
    }

    fn rows(
        &self,
        batch: usize,
        head: usize,
        first: usize,
        rows: usize,
        width: usize,
    ) -> Matrix<'a> {
        let [b, h, s] = self.strides;
        Matrix::rows(&self.data[batch * b + head * h + first * s..], rows, width, s)
    }
}

/// The operands of [`attend_all`].
struct Operands<'a> {
    q: Heads<'a>,
    k: Heads<'a>,
    v: Heads<'a>,
    /// `[B, H, Sq, Sk]`, any axis but the last broadcast.
    bias: Option<Heads<'a>>,
    scale: f32,
    batch: usize,
    heads: usize,
    queries: usize,
    keys: usize,
    width: usize,
}

/// `softmax(q k^T scale + bias) v`
pub(super) fn attention(args: AttentionArgs<Flex>) -> Tensor<Flex, 4> {
    if args.q.dtype() != DType::F32 {
        return portable::attention(args);
    }
    let AttentionArgs { q, k, v, bias, scale } = args;
    let [batch, heads, queries, width] = q.dims();
    let keys = k.dims()[2];
    let (q, k, v) = (rows_together(q), rows_together(k), rows_together(v));
    let bias = bias.map(|bias| rows_together(bias.expand([batch, heads, queries, keys])));
    let out = attend_all(&Operands {
        q: Heads::of(&q),
        k: Heads::of(&k),
        v: Heads::of(&v),
        bias: bias.as_ref().map(Heads::of),
        scale: scale as f32,
        batch,
        heads,
        queries,
        keys,
        width,
    });
    tensor(out, [batch, queries, heads, width]).swap_dims(1, 2)
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
    let queries = q.rows(batch, head, first, rows, width);
    scratch.largest.fill(f32::NEG_INFINITY);
    scratch.sums.fill(0.0);
    scratch.values.fill(0.0);
    for start in (0..keys).step_by(KEY_BLOCK) {
        let block = KEY_BLOCK.min(keys - start);
        let scores = &mut scratch.scores[..rows * block];
        let keys = k.rows(batch, head, start, block, width).transpose();
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
        let values = v.rows(batch, head, start, block, width);
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
    bias: &Heads,
    [batch, head, first]: [usize; 3],
    start: usize,
) {
    let [b, h, s] = bias.strides;
    for (i, scores) in scores.chunks_exact_mut(block).enumerate() {
        let row = &bias.data[batch * b + head * h + (first + i) * s + start..];
        scores.iter_mut().zip(row).for_each(|(score, bias)| *score += bias);
    }
}

/// Turns scores into weights relative to the largest score so far, and brings what was summed before
/// to the same scale.
#[inline(always)]
fn update_softmax(scores: &mut [f32], largest: &mut f32, sum: &mut f32, values: &mut [f32]) {
    let new = math::max(scores).max(*largest);
    if *largest != f32::NEG_INFINITY && new != *largest {
        let shrink = math::exp(*largest - new);
        *sum *= shrink;
        values.iter_mut().for_each(|value| *value *= shrink);
    }
    *largest = new;
    scores.iter_mut().for_each(|score| *score = math::exp(*score - new));
    *sum += math::sum(scores);
}
