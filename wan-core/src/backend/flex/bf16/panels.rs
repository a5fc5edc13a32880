//! One or two panels of a packed operand, multiplied with packed rows.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::super::parallel::inlined;
use super::buffer::Buffer;
use super::kernels::{DEPTH, Dense, Form, LANES, Left, PANELS, Row, Session, Tile};
use super::operands::{dense_stride, panel_words};

/// What products need again and again.
pub(super) struct Room {
    tile: Tile,
    /// Two panels in f32.
    right: Buffer<f32>,
}

impl Room {
    pub(super) fn new() -> Self {
        Self { tile: Tile::new(), right: Buffer::new() }
    }
}

/// Panels of a packed right operand over a part of its depth.
pub(super) struct Panels<'a> {
    /// The same one twice where there is one.
    words: [&'a [u32]; PANELS],
    count: usize,
    depth: usize,
}

impl<'a> Panels<'a> {
    /// Of a matrix `[depth, columns]`, whose `panels` are one or two; `depths` begin at a multiple of [`DEPTH`].
    pub(super) fn new(
        words: &'a [u32],
        depth: usize,
        depths: Range<usize>,
        panels: Range<usize>,
    ) -> Self {
        debug_assert!(depths.start.is_multiple_of(DEPTH));
        let size = panel_words(1, depth);
        let start = panel_words(1, depths.start);
        let part = start..start + panel_words(1, depths.len());
        let panel = |i: usize| &words[i * size..][..size][part.clone()];
        let words = [panel(panels.start), panel(panels.end - 1)];
        Self { words, count: panels.len(), depth: depths.len() }
    }

    /// Multiplies rows that went through [`pack_left`](super::operands::pack_left): as many as `out` has. The products
    /// may be added to what is there. What a row of one panel has beyond it means nothing.
    pub(super) fn multiply(
        &self,
        session: &Session,
        left: &[u32],
        room: &mut Room,
        adds: bool,
        out: &mut [Row],
    ) {
        let kernel = session.kernel();
        let (form, at_a_time) = (kernel.form(), kernel.rows());
        let panels = &self.words[..self.count];
        if form == Form::Wide {
            let (stride, depth) = (dense_stride(self.depth), self.depth.next_multiple_of(LANES));
            let panels = widen(panels, depth, &mut room.right);
            let left = bytemuck::cast_slice(&left[..out.len() * stride]);
            let operands = Dense::new(left, [stride, depth], &panels[..self.count], adds);
            return session.multiply_dense(&operands, out);
        }
        let (row, step) = match form {
            Form::Rows => (LANES, LANES * at_a_time),
            _ => (1, at_a_time),
        };
        let left = Left { words: left, taps: &[0], depth: self.depth, row, step };
        let group = form.words(self.depth) * at_a_time;
        for (i, out) in out.chunks_mut(at_a_time).enumerate() {
            session.multiply(left, i * group, out.len(), panels, &mut room.tile);
            Arch::new().dispatch(Take { tile: &room.tile.0[..out.len()], adds, out });
        }
    }
}

/// Rows of a tile, copied or added.
struct Take<'a> {
    tile: &'a [Row],
    adds: bool,
    out: &'a mut [Row],
}

impl WithSimd for Take<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let sums = S::as_simd_f32s(self.tile.as_flattened()).0;
        let out = S::as_mut_simd_f32s(self.out.as_flattened_mut()).0;
        match self.adds {
            true => out.iter_mut().zip(sums).for_each(inlined!(|(y, sum)| {
                *y = simd.add_f32s(*y, *sum);
            })),
            false => out.copy_from_slice(sums),
        }
    }
}

/// The panels in f32, `[depth, 16]` each.
fn widen<'a>(panels: &[&[u32]], depth: usize, room: &'a mut Buffer<f32>) -> [&'a [f32]; PANELS] {
    let size = depth * LANES;
    let room = room.take(PANELS * size);
    for (words, values) in panels.iter().zip(room.chunks_exact_mut(size)) {
        Arch::new().dispatch(Widen { words: &words[..size / 2], values });
    }
    [&room[..size], &room[size..2 * size]]
}

/// Pairs of bf16 as f32: `[depth / 2, 16]` words as `[depth, 16]` values.
struct Widen<'a> {
    words: &'a [u32],
    values: &'a mut [f32],
}

impl WithSimd for Widen<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let steps = LANES / S::U32_LANES;
        let words = S::as_simd_u32s(self.words).0.chunks_exact(steps);
        let values = S::as_mut_simd_f32s(self.values).0.chunks_exact_mut(2 * steps);
        let upper = simd.splat_u32s(0xffff_0000);
        for (words, values) in words.zip(values) {
            let (even, odd) = values.split_at_mut(steps);
            for ((even, odd), word) in even.iter_mut().zip(odd).zip(words) {
                let shifted = simd.wrapping_dyn_shl_u32s(*word, simd.splat_u32s(16));
                *even = simd.transmute_f32s_u32s(shifted);
                *odd = simd.transmute_f32s_u32s(simd.and_u32s(*word, upper));
            }
        }
    }
}
