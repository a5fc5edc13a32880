//! The operands of a product in the forms that kernels read.

use std::ops::Range;

use half::bf16;
use rayon::prelude::*;

use super::super::parallel::{inlined, vectorised};
use super::kernels::{DEPTH, Form, LANES, transpose};
use crate::nearest_bf16;

/// A value of an operand.
pub(crate) trait Value: Copy + Send + Sync + 'static {
    const ZERO: Self;
    /// The bits of the nearest bf16.
    fn bits(self) -> u16;
    fn from_f32(number: f32) -> Self;
    fn to_f32(self) -> f32;
}

impl Value for f32 {
    const ZERO: Self = 0.0;

    #[inline(always)]
    fn bits(self) -> u16 {
        nearest_bf16(self)
    }

    #[inline(always)]
    fn from_f32(number: f32) -> Self {
        number
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
}

impl Value for bf16 {
    const ZERO: Self = bf16::ZERO;

    #[inline(always)]
    fn bits(self) -> u16 {
        self.to_bits()
    }

    #[inline(always)]
    fn from_f32(number: f32) -> Self {
        bf16::from_bits(nearest_bf16(number))
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.to_bits()) << 16)
    }
}

/// Two values that follow each other in depth.
#[inline(always)]
fn pair(even: u16, odd: u16) -> u32 {
    u32::from(odd) << 16 | u32::from(even)
}

/// The words of a row in a form; those beyond its values are zero.
#[inline(always)]
pub(super) fn to_words<T: Value>(form: Form, row: &[T], words: &mut [u32]) {
    if form == Form::Wide {
        let (words, rest) = words.split_at_mut(row.len());
        for (word, value) in words.iter_mut().zip(row) {
            *word = u32::from(value.bits()) << 16;
        }
        return rest.fill(0);
    }
    let (pairs, rest) = row.as_chunks::<2>();
    for (word, [even, odd]) in words.iter_mut().zip(pairs) {
        *word = pair(even.bits(), odd.bits());
    }
    words[pairs.len()..].fill(0);
    if let [last] = rest {
        words[pairs.len()] = pair(last.bits(), 0);
    }
}

/// Values from a row of f32 to the next: an odd number of cache lines, so that rows do not compete for the same ones.
pub(super) fn dense_stride(depth: usize) -> usize {
    (depth.div_ceil(LANES) | 1) * LANES
}

/// Words of a packed left operand.
pub(super) fn left_words(form: Form, rows_at_a_time: usize, [rows, depth]: [usize; 2]) -> usize {
    match form {
        Form::Wide => rows * dense_stride(depth),
        _ => rows.next_multiple_of(rows_at_a_time) * form.words(depth),
    }
}

/// Packs rows of the left operand, `rows_at_a_time` after another: `[groups, steps, rows]` words, in
/// [`Form::Rows`] `[groups, steps / 16, rows, 16]`. The last group is filled up with zeros. In [`Form::Wide`] rows
/// stay rows, [`dense_stride`] apart. There are [`left_words`].
pub(super) fn pack_left<'a, T: Value>(
    form: Form,
    rows_at_a_time: usize,
    mut rows: impl ExactSizeIterator<Item = &'a [T]>,
    depth: usize,
    words: &mut [u32],
) {
    if form == Form::Wide {
        let words = words.chunks_exact_mut(dense_stride(depth));
        vectorised(inlined!(|| {
            for (row, words) in rows.zip(words) {
                to_words(form, row, words);
            }
        }));
        return;
    }
    let steps = form.words(depth);
    let group = steps * rows_at_a_time;
    let mut lines = vec![0; LANES * steps];
    for words in words.chunks_exact_mut(group.max(1)) {
        if rows.len() < rows_at_a_time {
            words.fill(0);
        }
        for first in (0..rows_at_a_time).step_by(LANES) {
            let mut some = 0;
            while some < LANES.min(rows_at_a_time - first)
                && let Some(row) = rows.next()
            {
                let line = &mut lines[some * steps..][..steps];
                vectorised(inlined!(|| to_words(form, row, line)));
                some += 1;
            }
            if form == Form::Rows {
                for (i, line) in lines.chunks_exact(steps).take(some).enumerate() {
                    for (step, line) in line.as_chunks::<LANES>().0.iter().enumerate() {
                        let at = (step * rows_at_a_time + first + i) * LANES;
                        words[at..at + LANES].copy_from_slice(line);
                    }
                }
                continue;
            }
            for start in (0..steps).step_by(LANES) {
                let (from, to) = (&lines[start..], &mut words[start * rows_at_a_time + first..]);
                transpose(from, steps, to, rows_at_a_time, [some, LANES.min(steps - start)]);
            }
        }
    }
}

/// Packs a left operand as [`pack_left`] does, of which `columns` are the columns: each has a value for every row. The
/// words are zero before.
pub(super) fn pack_left_columns<'a>(
    form: Form,
    rows_at_a_time: usize,
    rows: usize,
    columns: impl ExactSizeIterator<Item = &'a [bf16]>,
    words: &mut [u32],
) {
    let columns: Vec<&[bf16]> = columns.collect();
    let depth = columns.len();
    let group = form.words(depth) * rows_at_a_time;
    let (row_stride, of_step, shift) = match form {
        Form::Wide => (dense_stride(depth), 1, 16),
        _ => (LANES, 2, 0),
    };
    // Words of the same step, of all rows.
    let mut lines = vec![0; LANES * rows];
    for (block, columns) in columns.chunks(of_step * LANES).enumerate() {
        let columns = columns.chunks(of_step);
        let some = columns.len();
        for (columns, line) in columns.zip(lines.chunks_exact_mut(rows)) {
            vectorised(inlined!(|| match *columns {
                [even, odd] => {
                    let values = line.iter_mut().zip(even).zip(odd);
                    values.for_each(|((word, even), odd)| *word = pair(even.bits(), odd.bits()));
                }
                // A value of its own as f32, or the last one with none that follows it.
                _ => line
                    .iter_mut()
                    .zip(columns[0])
                    .for_each(|(word, value)| *word = u32::from(value.bits()) << shift),
            }));
        }
        if form == Form::Pairs {
            for (words, first) in
                words.chunks_exact_mut(group).zip((0..rows).step_by(rows_at_a_time))
            {
                let count = rows_at_a_time.min(rows - first);
                let words =
                    words[block * LANES * rows_at_a_time..].chunks_exact_mut(rows_at_a_time);
                for (words, line) in words.zip(lines.chunks_exact(rows)).take(some) {
                    words[..count].copy_from_slice(&line[first..first + count]);
                }
            }
            continue;
        }
        for first in (0..rows).step_by(LANES) {
            let at = match form {
                Form::Wide => first * row_stride + block * LANES,
                _ => {
                    first / rows_at_a_time * group
                        + (block * rows_at_a_time + first % rows_at_a_time) * LANES
                }
            };
            let count = LANES.min(rows - first);
            transpose(&lines[first..], rows, &mut words[at..], row_stride, [some, count]);
        }
    }
}

/// The right operand: `[depth, columns]`, or a stack of such matrices whose products are summed up.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Right<'a> {
    /// `[panels, taps, depth / 2, 16]`, the depth filled up with zeros.
    pub(crate) words: &'a [u32],
    pub(crate) taps: usize,
    pub(crate) depth: usize,
    pub(crate) columns: usize,
}

impl<'a> Right<'a> {
    pub(super) fn panels(&self) -> usize {
        self.columns.div_ceil(LANES)
    }

    /// Words of a panel.
    pub(super) fn panel_words(&self) -> usize {
        panel_words(self.taps, self.depth)
    }

    pub(super) fn panel(&self, panel: usize) -> &'a [u32] {
        &self.words[panel * self.panel_words()..][..self.panel_words()]
    }
}

pub(super) fn panel_words(taps: usize, depth: usize) -> usize {
    taps * depth.next_multiple_of(DEPTH) / 2 * LANES
}

/// The shape `[panels, taps, words]` of a packed right operand.
pub(crate) fn packed_shape([taps, depth, columns]: [usize; 3]) -> [usize; 3] {
    [columns.div_ceil(LANES), taps, panel_words(1, depth)]
}

/// Packs a right operand on all threads. `bits(tap, k, column)` are those of a value.
pub(crate) fn pack_right(
    [taps, depth, columns]: [usize; 3],
    bits: impl Fn(usize, usize, usize) -> u16 + Sync,
) -> Vec<u32> {
    pack_panels([taps, depth, columns], |tap, panel, words| {
        for (i, words) in words.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
            for (word, n) in words.iter_mut().zip(panel.clone()) {
                let odd = if 2 * i + 1 < depth { bits(tap, 2 * i + 1, n) } else { 0 };
                *word = pair(bits(tap, 2 * i, n), odd);
            }
        }
    })
}

/// Packs a right operand `[depth, columns]` of which `column(n)` is a column.
pub(crate) fn pack_columns<'a>(
    depth: usize,
    columns: usize,
    column: impl Fn(usize) -> &'a [bf16] + Sync,
) -> Vec<u32> {
    pack_panels([1, depth, columns], |_, panel, words| pack_panel(depth, panel.map(&column), words))
}

/// Packs a panel of a right operand, of which `columns` are the columns: sixteen at most.
pub(super) fn pack_panel<'a>(
    depth: usize,
    columns: impl ExactSizeIterator<Item = &'a [bf16]>,
    words: &mut [u32],
) {
    let (steps, count) = (Form::Pairs.words(depth), columns.len());
    let mut lines = vec![0; count * steps];
    for (column, line) in columns.zip(lines.chunks_exact_mut(steps.max(1))) {
        vectorised(inlined!(|| to_words(Form::Pairs, column, line)));
    }
    for start in (0..steps).step_by(LANES) {
        let (from, to) = (&lines[start..], &mut words[start * LANES..]);
        transpose(from, steps, to, LANES, [count, LANES.min(steps - start)]);
    }
}

/// Panels that are filled on all threads: `fill(tap, columns, words)` is given as many words as there are pairs of
/// depth. What it leaves stays zero.
fn pack_panels(
    [taps, depth, columns]: [usize; 3],
    fill: impl Fn(usize, Range<usize>, &mut [u32]) + Sync,
) -> Vec<u32> {
    let [panels, _, stretch] = packed_shape([taps, depth, columns]);
    let mut words = vec![0; panels * taps * stretch];
    words.par_chunks_mut(stretch.max(1)).enumerate().for_each(|(i, words)| {
        let (first, tap) = (i / taps * LANES, i % taps);
        let panel = first..columns.min(first + LANES);
        fill(tap, panel, &mut words[..depth.div_ceil(2) * LANES]);
    });
    words
}
