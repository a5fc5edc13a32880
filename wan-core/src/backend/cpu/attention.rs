//! Attention that never holds its scores: a tile of queries meets the keys block by block, with the
//! running maximum and sum of the softmax (Milakov and Gimelshein 2018; FlashAttention).

use gemm::Parallelism;
use rayon::prelude::*;

use super::math;
use super::matrix::{Matrix, Onto, multiply};
use super::vectorised;

/// Keys that a tile of queries meets at a time.
const KEY_BLOCK: usize = 256;
/// The most queries in a tile. Its scores (256 x 256 x 4 bytes) stay in the second-level cache; fewer
/// would pack the same keys and values more often for the matrix products.
const MAX_TILE: usize = 256;

/// A tensor `[B, H, S, D]` with the elements of a row together and the other axes anywhere.
#[derive(Clone, Copy)]
pub(in super::super) struct Heads<'a> {
    pub(in super::super) data: &'a [f32],
    /// Strides of batch, head and row; 0 where an axis is broadcast.
    pub(in super::super) strides: [usize; 3],
}

impl<'a> Heads<'a> {
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

/// The operands of [`attention`].
pub(in super::super) struct Attention<'a> {
    pub(in super::super) q: Heads<'a>,
    pub(in super::super) k: Heads<'a>,
    pub(in super::super) v: Heads<'a>,
    /// `[B, H, Sq, Sk]`, any axis but the last broadcast.
    pub(in super::super) bias: Option<Heads<'a>>,
    pub(in super::super) scale: f32,
    pub(in super::super) batch: usize,
    pub(in super::super) heads: usize,
    pub(in super::super) queries: usize,
    pub(in super::super) keys: usize,
    pub(in super::super) width: usize,
}

/// `softmax(q k^T scale + bias) v`, as `[B, Sq, H, D]`.
pub(in super::super) fn attention(operands: &Attention) -> Vec<f32> {
    let &Attention { batch, heads, queries, width, .. } = operands;
    let row = heads * width;
    let mut out = vec![0.0; batch * queries * row];
    // Small enough that all threads have work to the end.
    let tiles = 4 * rayon::current_num_threads();
    let tile = queries.div_ceil(tiles).next_multiple_of(8).clamp(8, MAX_TILE);
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
    operands: &Attention,
    [batch, head, first]: [usize; 3],
    out: &mut [f32],
    scratch: &mut Scratch,
) {
    let &Attention { q, k, v, bias, scale, heads, queries, keys, width, .. } = operands;
    let rows = scratch.largest.len().min(queries - first);
    let queries = q.rows(batch, head, first, rows, width);
    scratch.largest.fill(f32::NEG_INFINITY);
    scratch.sums.fill(0.0);
    scratch.values.fill(0.0);
    for start in (0..keys).step_by(KEY_BLOCK) {
        let block = KEY_BLOCK.min(keys - start);
        let scores = &mut scratch.scores[..rows * block];
        let keys = k.rows(batch, head, start, block, width).transpose();
        multiply(scores, block, Onto::Zero, scale, queries, keys, Parallelism::None);
        if let Some(bias) = bias {
            add_bias(scores, block, &bias, [batch, head, first], start);
        }
        vectorised(
            #[inline(always)]
            || {
                for (i, scores) in scores.chunks_exact_mut(block).enumerate() {
                    let (largest, sum) = (&mut scratch.largest[i], &mut scratch.sums[i]);
                    let values = &mut scratch.values[i * width..(i + 1) * width];
                    update_softmax(scores, largest, sum, values);
                }
            },
        );
        let weights = Matrix::rows(scores, rows, block, block);
        let values = v.rows(batch, head, start, block, width);
        let onto = Onto::Destination;
        multiply(&mut scratch.values, width, onto, 1.0, weights, values, Parallelism::None);
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
    *sum += math::sum(
        scores,
        #[inline(always)]
        |weight| weight,
    );
}
