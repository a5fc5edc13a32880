//! Attention that never holds its scores, as in [`super::super::attention`], with products of bf16.

use half::bf16;
use rayon::prelude::*;

use super::super::math::update_softmax;
use super::super::parallel::{inlined, vectorised};
use super::kernel::{CpuKernel, Session};
use super::operands::{Value, pack_columns, pack_left, pack_rows};
use super::panels::Panels;
use super::tile::Tile;

/// Keys that a tile of queries meets at a time: a whole number of panels, and of the depth of a step.
const KEY_BLOCK: usize = 256;
/// The most queries in a tile. Its scores and weights stay in the second-level cache.
const MAX_TILE: usize = 96;
/// Bytes of packed keys and values at a time, at least one head.
const PACKED: usize = 32 << 20;

/// A tensor `[B, H, S, D]` with the elements of a row together and the other axes anywhere.
#[derive(Clone, Copy)]
pub(crate) struct Heads<'a, T> {
    pub(crate) data: &'a [T],
    /// Strides of batch, head and row; 0 where an axis is broadcast.
    pub(crate) strides: [usize; 3],
}

impl<'a, T> Heads<'a, T> {
    pub(crate) fn row(&self, [batch, head, row]: [usize; 3], width: usize) -> &'a [T] {
        let [b, h, s] = self.strides;
        &self.data[batch * b + head * h + row * s..][..width]
    }
}

/// The operands of [`attend_all`].
pub(crate) struct Attention<'a> {
    pub(crate) q: Heads<'a, bf16>,
    pub(crate) k: Heads<'a, bf16>,
    pub(crate) v: Heads<'a, bf16>,
    /// `[B, H, Sq, Sk]`, any axis but the last broadcast.
    pub(crate) bias: Option<Heads<'a, f32>>,
    pub(crate) scale: f32,
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) width: usize,
}

/// So many queries at a time: few enough that all threads have work to the end.
fn tile_rows(kernel: CpuKernel, queries: usize) -> usize {
    let rows = queries.div_ceil(4 * rayon::current_num_threads());
    rows.next_multiple_of(kernel.rows()).min(MAX_TILE)
}

/// The result as `[B, Sq, H, D]`.
pub(crate) fn attend_all(kernel: CpuKernel, attention: &Attention) -> Vec<bf16> {
    let &Attention { batch, heads, queries, keys, width, .. } = attention;
    let row = heads * width;
    let mut out = vec![bf16::ZERO; batch * queries * row];
    if out.is_empty() {
        return out;
    }
    let rows = tile_rows(kernel, queries);
    let at_a_time = (PACKED / (4 * keys * width).max(1)).clamp(1, heads);
    for (b, out) in out.chunks_exact_mut(queries * row).enumerate() {
        for first in (0..heads).step_by(at_a_time) {
            let some = first..heads.min(first + at_a_time);
            let packed: Vec<_> = some
                .clone()
                .into_par_iter()
                .map(|head| Packed::new(attention, [b, head]))
                .collect();
            let tiles = out.par_chunks_mut(rows * row).enumerate();
            tiles.for_each_init(
                || Scratch::new(attention, rows),
                |scratch, (tile, out)| {
                    for (head, packed) in some.clone().zip(&packed) {
                        let task = Task { kernel, attention, packed, at: [b, head, tile * rows] };
                        task.attend(scratch, &mut out[head * width..]);
                    }
                },
            );
        }
    }
    out
}

/// Keys and values of a head as right operands: `[D, Sk]` and `[Sk, D]`.
struct Packed {
    keys: Vec<u32>,
    values: Vec<u32>,
}

impl Packed {
    fn new(attention: &Attention, [batch, head]: [usize; 2]) -> Self {
        let &Attention { k, v, keys, width, .. } = attention;
        let key = |key: usize| k.row([batch, head, key], width);
        let value = |key: usize| v.row([batch, head, key], width);
        Self { keys: pack_columns(width, keys, key), values: pack_rows(keys, width, value) }
    }
}

/// What a task uses again and again.
struct Scratch {
    left: Vec<u32>,
    weights: Vec<u32>,
    /// `[tile, KEY_BLOCK]`
    scores: Vec<f32>,
    /// Of each query: the largest score so far, and the sum of `e^(score - largest)`.
    largest: Vec<f32>,
    sums: Vec<f32>,
    /// `[tile, width]`
    values: Vec<f32>,
    tile: Tile,
}

impl Scratch {
    fn new(attention: &Attention, rows: usize) -> Self {
        Self {
            left: Vec::new(),
            weights: Vec::new(),
            scores: vec![0.0; rows * KEY_BLOCK],
            largest: vec![0.0; rows],
            sums: vec![0.0; rows],
            values: vec![0.0; rows * attention.width],
            tile: Tile::new(),
        }
    }
}

/// A tile of queries of one head.
struct Task<'a> {
    kernel: CpuKernel,
    attention: &'a Attention<'a>,
    packed: &'a Packed,
    /// Video, head, first query.
    at: [usize; 3],
}

impl Task<'_> {
    /// `out` begins at the head; its rows are `heads * width` apart.
    fn attend(&self, scratch: &mut Scratch, out: &mut [bf16]) {
        let Self { kernel, attention, packed, at: [batch, head, first] } = *self;
        let &Attention { q, scale, heads, queries, keys, width, .. } = attention;
        let Scratch { left, weights, scores, largest, sums, values, tile } = scratch;
        let rows = largest.len().min(queries - first);
        let session = Session::new(kernel);
        let queries = (first..first + rows).map(|row| q.row([batch, head, row], width));
        pack_left(kernel.form(), kernel.rows(), queries, width, left);
        largest.fill(f32::NEG_INFINITY);
        sums.fill(0.0);
        values.fill(0.0);
        for start in (0..keys).step_by(KEY_BLOCK) {
            let block = KEY_BLOCK.min(keys - start);
            let scores = &mut scores[..rows * block];
            let key_panels = Panels::new(&packed.keys, width, 0..width, start..start + block);
            key_panels.multiply(&session, left, rows, tile, |row, column, some| {
                let scores = &mut scores[row * block + column..][..some.len()];
                scores.iter_mut().zip(some).for_each(|(score, value)| *score = value * scale);
            });
            self.add_bias(scores, block, start);
            vectorised(inlined!(|| {
                for (i, scores) in scores.chunks_exact_mut(block).enumerate() {
                    let values = &mut values[i * width..(i + 1) * width];
                    update_softmax(scores, &mut largest[i], &mut sums[i], values);
                }
            }));
            pack_left(kernel.form(), kernel.rows(), scores.chunks_exact(block), block, weights);
            let value_panels = Panels::new(&packed.values, keys, start..start + block, 0..width);
            value_panels.multiply(&session, weights, rows, tile, |row, column, some| {
                let values = &mut values[row * width + column..][..some.len()];
                values.iter_mut().zip(some).for_each(|(value, sum)| *value += sum);
            });
        }
        for i in 0..rows {
            let values = &values[i * width..(i + 1) * width];
            let factor = 1.0 / sums[i];
            let out = &mut out[i * heads * width..][..width];
            out.iter_mut()
                .zip(values)
                .for_each(|(out, value)| *out = Value::from_f32(value * factor));
        }
    }

    fn add_bias(&self, scores: &mut [f32], block: usize, start: usize) {
        let Some(bias) = &self.attention.bias else { return };
        let [batch, head, first] = self.at;
        for (i, scores) in scores.chunks_exact_mut(block).enumerate() {
            let row = bias.row([batch, head, first + i], start + block);
            scores.iter_mut().zip(&row[start..]).for_each(|(score, bias)| *score += bias);
        }
    }
}
