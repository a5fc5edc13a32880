//! Attention that never holds its scores, as in [`super::super::attention`], with products of bf16.
//!
//! All is computed transposed: scores `k q^T`, then values `v^T` by the weights. So keys and values are left operands,
//! packed once for all queries; the weights come out as the right operand that they are next, with nothing to
//! transpose; and the lanes of a vector belong to different queries, which makes the softmax free of sums across them.

use std::cell::RefCell;
use std::f32::consts::LOG2_E;
use std::ops::Range;

use half::bf16;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::super::parallel::{inlined, vectorised};
use super::buffer::Buffer;
use super::kernels::{CpuKernel, LANES, PANELS, Row, Session, transpose};
use super::operands::{Value, left_words, pack_left, pack_left_columns, pack_panel, panel_words};
use super::panels::{Panels, Room};

/// Keys that queries meet at a time: a multiple of the rows of all kernels, and of the depth of a step. They stay in the
/// second-level cache.
const KEY_BLOCK: usize = 288;
/// Queries whose scores are held at a time: the columns of a tile.
const STRIP: usize = LANES * PANELS;
/// Strips that meet a block of keys one after the other, at most: more have the keys come from memory less often.
const MAX_STRIPS: usize = 3;
/// Bytes of packed keys and values at a time, at least one head.
const PACKED: usize = 32 << 20;

/// A tensor `[B, H, S, D]` with the elements of a row together and the other axes anywhere.
#[derive(Clone, Copy)]
pub(crate) struct Heads<'a, T> {
    pub(crate) data: &'a [T],
    /// Strides of batch, head and row; 0 where an axis is broadcast.
    pub(crate) strides: [usize; 3],
}

impl<'a, T: Copy> Heads<'a, T> {
    pub(crate) fn row(&self, [batch, head, row]: [usize; 3], width: usize) -> &'a [T] {
        let [b, h, s] = self.strides;
        &self.data[batch * b + head * h + row * s..][..width]
    }

    /// Some rows of a head.
    fn rows(
        self,
        [batch, head]: [usize; 2],
        rows: Range<usize>,
        width: usize,
    ) -> impl ExactSizeIterator<Item = &'a [T]> {
        rows.map(move |row| self.row([batch, head, row], width))
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
fn tile_rows(queries: usize) -> usize {
    let rows = queries.div_ceil(4 * rayon::current_num_threads());
    rows.next_multiple_of(STRIP).min(MAX_STRIPS * STRIP)
}

/// The result as `[B, Sq, H, D]`.
pub(crate) fn attend_all(kernel: CpuKernel, attention: &Attention) -> Vec<bf16> {
    let &Attention { batch, heads, queries, keys, width, .. } = attention;
    let row = heads * width;
    let mut out = vec![bf16::ZERO; batch * queries * row];
    if out.is_empty() {
        return out;
    }
    let rows = tile_rows(queries);
    let bytes = 2 * size_of::<u32>() * kernel.form().words(width) * keys;
    let at_a_time = (PACKED / bytes.max(1)).clamp(1, heads);
    let blocks = keys.div_ceil(KEY_BLOCK);
    for (b, out) in out.chunks_exact_mut(queries * row).enumerate() {
        for first in (0..heads).step_by(at_a_time) {
            let some = first..heads.min(first + at_a_time);
            let packed: Vec<Block> = (first * blocks..some.end * blocks)
                .into_par_iter()
                .map(|i| Block::pack(kernel, attention, [b, i / blocks], i % blocks * KEY_BLOCK))
                .collect();
            let tiles = out.par_chunks_mut(rows * row).enumerate();
            tiles.for_each(|(tile, out)| {
                let rows = tile * rows..queries.min((tile + 1) * rows);
                for (head, blocks) in some.clone().zip(packed.chunks(blocks.max(1))) {
                    let task =
                        Task { kernel, attention, blocks, head: [b, head], rows: rows.clone() };
                    SCRATCH.with_borrow_mut(|scratch| {
                        task.attend(scratch, &mut out[head * width..]);
                    });
                }
            });
        }
    }
    out
}

/// Some keys and values of a head as left operands: `[keys, D]` and `[D, keys]`.
struct Block {
    start: usize,
    count: usize,
    keys: Vec<u32>,
    values: Vec<u32>,
}

impl Block {
    /// Those from `start` on.
    fn pack(kernel: CpuKernel, attention: &Attention, head: [usize; 2], start: usize) -> Self {
        let &Attention { k, v, width, .. } = attention;
        let count = KEY_BLOCK.min(attention.keys - start);
        let (form, rows) = (kernel.form(), kernel.rows());
        let some = start..start + count;
        let mut keys = vec![0; left_words(form, rows, [count, width])];
        let mut values = vec![0; left_words(form, rows, [width, count])];
        pack_left(form, rows, k.rows(head, some.clone(), width), width, &mut keys);
        pack_left_columns(form, rows, width, v.rows(head, some, width), &mut values);
        Self { start, count, keys, values }
    }
}

thread_local! {
    /// Of a thread for as long as it lives.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

/// What a task uses again and again.
struct Scratch {
    /// Queries as a right operand `[D, rows]`.
    queries: Vec<u32>,
    strips: Vec<Strip>,
    /// Products of a block of keys with the queries of a strip: `[keys, queries]`.
    scores: Buffer<f32>,
    /// The softmax of the scores but for its divisor, as a right operand.
    weights: Buffer<u32>,
    /// The bias of sixteen queries, before it is transposed.
    lines: Buffer<u32>,
    room: Room,
}

/// What was found for some queries so far.
struct Strip {
    /// The largest score of each.
    largest: Row,
    /// The sum of `2^(score - largest)` of each.
    sums: Row,
    /// `[D, queries]`
    values: Buffer<f32>,
}

impl Scratch {
    fn new() -> Self {
        Self {
            queries: Vec::new(),
            strips: Vec::new(),
            scores: Buffer::new(),
            weights: Buffer::new(),
            lines: Buffer::new(),
            room: Room::new(),
        }
    }
}

/// A tile of queries of one head.
struct Task<'a> {
    kernel: CpuKernel,
    attention: &'a Attention<'a>,
    /// All keys and values of the head.
    blocks: &'a [Block],
    /// Video, head.
    head: [usize; 2],
    /// The queries.
    rows: Range<usize>,
}

impl Task<'_> {
    /// `out` begins at the head; its rows are `heads * width` apart.
    fn attend(&self, scratch: &mut Scratch, out: &mut [bf16]) {
        let &Attention { heads, width, .. } = self.attention;
        let strips = self.rows.len().div_ceil(STRIP);
        self.pack_queries(&mut scratch.queries);
        scratch.strips.resize_with(strips, || Strip {
            largest: [0.0; STRIP],
            sums: [0.0; STRIP],
            values: Buffer::new(),
        });
        for strip in &mut scratch.strips {
            strip.largest.fill(f32::MIN);
            strip.sums.fill(0.0);
            strip.values.take(width * STRIP).fill(0.0);
        }
        let session = Session::new(self.kernel);
        for block in self.blocks {
            for strip in 0..strips {
                self.meet(&session, block, strip, scratch);
            }
        }
        let row = heads * width;
        for (strip, out) in scratch.strips.iter_mut().zip(out.chunks_mut(STRIP * row)) {
            strip.finish(width, row, out);
        }
    }

    fn pack_queries(&self, words: &mut Vec<u32>) {
        let &Attention { q, width, .. } = self.attention;
        let panel = panel_words(1, width);
        words.resize(self.rows.len().div_ceil(LANES) * panel, 0);
        for (words, first) in words.chunks_exact_mut(panel).zip(self.rows.clone().step_by(LANES)) {
            let some = first..self.rows.end.min(first + LANES);
            pack_panel(width, q.rows(self.head, some, width), words);
        }
    }

    /// The queries of a strip meet a block of keys.
    fn meet(&self, session: &Session, block: &Block, strip: usize, scratch: &mut Scratch) {
        let &Attention { scale, width, .. } = self.attention;
        let Scratch { queries, strips, scores, weights, lines, room } = scratch;
        let columns = strip * STRIP..self.rows.len().min((strip + 1) * STRIP);
        let panels = columns.start / LANES..columns.end.div_ceil(LANES);
        let Strip { largest, sums, values } = &mut strips[strip];
        let scores = scores.take(block.count * STRIP).as_chunks_mut().0;
        let values = values.take(width * STRIP).as_chunks_mut().0;
        let right = Panels::new(queries, width, 0..width, panels.clone());
        right.multiply(session, &block.keys, room, false, scores);
        let factor = self.add_bias(scale * LOG2_E, block.start, columns, scores, lines);
        let mut shrink = [0.0; STRIP];
        let panel = panel_words(1, block.count);
        let weights = weights.take(PANELS * panel);
        for words in weights.chunks_exact_mut(panel) {
            words[block.count.div_ceil(2) * LANES..].fill(0);
        }
        let softmax = Softmax { scores, factor, weights, largest, sums, shrink: &mut shrink };
        Arch::new().dispatch(softmax);
        if shrink != [1.0; STRIP] {
            Arch::new().dispatch(Shrink { values, factors: &shrink });
        }
        let right = Panels::new(weights, block.count, 0..block.count, 0..panels.len());
        right.multiply(session, &block.values, room, true, values);
    }

    /// Multiplies scores by `factor` and adds the bias, if there is one. Gives the factor that they are still to be
    /// multiplied by.
    fn add_bias(
        &self,
        factor: f32,
        start: usize,
        columns: Range<usize>,
        scores: &mut [Row],
        lines: &mut Buffer<u32>,
    ) -> f32 {
        let (Some(bias), [batch, head], keys) = (&self.attention.bias, self.head, scores.len())
        else {
            return factor;
        };
        let lines = lines.take(LANES * keys);
        for first in columns.clone().step_by(LANES) {
            let some = LANES.min(columns.end - first);
            for (i, line) in lines.chunks_exact_mut(keys).take(some).enumerate() {
                let row = bias.row([batch, head, self.rows.start + first + i], start + keys);
                let values = line.iter_mut().zip(&row[start..]);
                values.for_each(|(word, value)| *word = (value * LOG2_E).to_bits());
            }
            for (i, scores) in scores.chunks_mut(LANES).enumerate() {
                let mut block = [[0; LANES]; LANES];
                let size = [some, scores.len()];
                transpose(&lines[i * LANES..], keys, block.as_flattened_mut(), LANES, size);
                for (scores, words) in scores.iter_mut().zip(block) {
                    let scores = &mut scores[first - columns.start..][..LANES];
                    let values = scores.iter_mut().zip(words);
                    values.for_each(|(x, word)| *x = *x * factor + f32::from_bits(word));
                }
            }
        }
        1.0
    }
}

impl Strip {
    /// The rows of `out` begin at the head, and are `row` apart.
    fn finish(&mut self, width: usize, row: usize, out: &mut [bf16]) {
        let words: &[u32] = bytemuck::cast_slice(self.values.take(width * STRIP));
        for (out, first) in out.chunks_mut(LANES * row).zip((0..STRIP).step_by(LANES)) {
            let queries = out.len().div_ceil(row);
            for start in (0..width).step_by(LANES) {
                let some = start..width.min(start + LANES);
                let mut block = [[0; LANES]; LANES];
                let (from, to) = (&words[start * STRIP + first..], block.as_flattened_mut());
                transpose(from, STRIP, to, LANES, [some.len(), queries]);
                vectorised(inlined!(|| {
                    let sums = &self.sums[first..];
                    for ((out, words), sum) in out.chunks_mut(row).zip(&block).zip(sums) {
                        let values = out[some.clone()].iter_mut().zip(words);
                        let factor = 1.0 / sum;
                        values.for_each(|(y, &word)| {
                            *y = Value::from_f32(f32::from_bits(word) * factor);
                        });
                    }
                }));
            }
        }
    }
}

/// Weights `2^(score - largest)`, and by what those of the blocks before are to shrink.
struct Softmax<'a> {
    scores: &'a [Row],
    /// By what scores are multiplied.
    factor: f32,
    /// Two panels.
    weights: &'a mut [u32],
    largest: &'a mut Row,
    sums: &'a mut Row,
    shrink: &'a mut Row,
}

impl WithSimd for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { scores, factor, weights, largest, sums, shrink } = self;
        let factor = simd.splat_f32s(factor);
        let steps = STRIP / S::F32_LANES;
        let (largest, sums) = (S::as_mut_simd_f32s(largest).0, S::as_mut_simd_f32s(sums).0);
        let shrink = S::as_mut_simd_f32s(shrink).0;
        let panel = weights.len() / PANELS / S::U32_LANES;
        let weights = S::as_mut_simd_u32s(weights).0;
        for step in 0..steps {
            let before = largest[step];
            let mut most = [before; 4];
            let (fours, rest) = scores.as_chunks::<4>();
            for rows in fours {
                let rows = S::as_simd_f32s(rows.as_flattened()).0;
                for (i, most) in most.iter_mut().enumerate() {
                    let score = simd.mul_f32s(rows[i * steps + step], factor);
                    *most = simd.max_f32s(*most, score);
                }
            }
            for row in rest {
                let score = simd.mul_f32s(S::as_simd_f32s(row).0[step], factor);
                most[0] = simd.max_f32s(most[0], score);
            }
            let [a, b, c, d] = most;
            let new = simd.max_f32s(simd.max_f32s(a, b), simd.max_f32s(c, d));
            let minus_new = simd.neg_f32s(new);
            let mut sum = simd.splat_f32s(0.0);
            let per_panel = steps / PANELS;
            let start = step / per_panel * panel + step % per_panel;
            let mut words = weights[start..].iter_mut().step_by(per_panel);
            let mut weight = inlined!(|row: &Row| {
                let score = S::as_simd_f32s(row).0[step];
                let weight = exp2(simd, simd.mul_add_e_f32s(score, factor, minus_new));
                sum = simd.add_f32s(sum, weight);
                round(simd, weight)
            });
            let (pairs, rest) = scores.as_chunks::<2>();
            for ([even, odd], word) in pairs.iter().zip(&mut words) {
                let even = simd.wrapping_dyn_shr_u32s(weight(even), simd.splat_u32s(16));
                *word = simd.or_u32s(even, weight(odd));
            }
            for (last, word) in rest.iter().zip(words) {
                *word = simd.wrapping_dyn_shr_u32s(weight(last), simd.splat_u32s(16));
            }
            shrink[step] = exp2(simd, simd.sub_f32s(before, new));
            sums[step] = simd.mul_add_e_f32s(sums[step], shrink[step], sum);
            largest[step] = new;
        }
    }
}

/// Multiplies rows, element by element.
struct Shrink<'a> {
    values: &'a mut [Row],
    factors: &'a Row,
}

impl WithSimd for Shrink<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let factors = S::as_simd_f32s(self.factors).0;
        for values in self.values {
            for (value, factor) in S::as_mut_simd_f32s(values).0.iter_mut().zip(factors) {
                *value = simd.mul_f32s(*value, *factor);
            }
        }
    }
}

/// `2^x` within 3e-6 of itself, for `x` not above 0; below -126 it stays at the smallest normal number.
#[inline(always)]
fn exp2<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    // 2^x = 2^n 2^r with |r| <= 1/2. Adding 1.5 * 2^23 rounds to whole numbers and leaves n in the low bits.
    let round = simd.splat_f32s(12_582_912.0);
    let lowest = simd.splat_f32s(-126.0);
    // No maximum: it would make numbers of what is none.
    let x = simd.select_f32s(simd.less_than_f32s(x, lowest), lowest, x);
    let shifted = simd.add_f32s(x, round);
    let r = simd.sub_f32s(x, simd.sub_f32s(shifted, round));
    // The polynomial of degree 4 whose largest error relative to 2^r is the least.
    let mut p = simd.splat_f32s(0.009_582_853);
    for coefficient in [0.055_906_426, 0.240_240_99, 0.693_124_2, 1.0] {
        p = simd.mul_add_e_f32s(p, r, simd.splat_f32s(coefficient));
    }
    let n = simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(p), n))
}

/// The nearest bf16, in the upper half of the word; of two as near, the larger.
#[inline(always)]
fn round<S: Simd>(simd: S, weight: S::f32s) -> S::u32s {
    let bits = simd.add_u32s(simd.transmute_u32s_f32s(weight), simd.splat_u32s(0x8000));
    simd.and_u32s(bits, simd.splat_u32s(0xffff_0000))
}
