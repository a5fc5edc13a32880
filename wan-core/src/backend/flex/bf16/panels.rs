//! A part of a packed operand, multiplied with packed rows tile by tile.

use std::ops::Range;

use super::kernel::Session;
use super::tile::{DEPTH, Form, LANES, Left, Operands, PANELS, Row, Tile};

/// Some columns of a packed right operand over a part of its depth.
pub(super) struct Panels<'a> {
    words: &'a [u32],
    /// Words of a panel.
    panel: usize,
    /// Where the part begins is a multiple of [`DEPTH`].
    depths: Range<usize>,
    /// Where the columns begin is a multiple of [`LANES`].
    columns: Range<usize>,
}

impl<'a> Panels<'a> {
    /// Of a matrix `[depth, columns]`.
    pub(super) fn new(
        words: &'a [u32],
        depth: usize,
        depths: Range<usize>,
        columns: Range<usize>,
    ) -> Self {
        debug_assert!(depths.start.is_multiple_of(DEPTH) && columns.start.is_multiple_of(LANES));
        let panel = depth.next_multiple_of(DEPTH) / 2 * LANES;
        Self { words, panel, depths, columns }
    }

    /// Multiplies rows that went through [`pack_left`](super::operands::pack_left), and calls
    /// `each(row, columns, sums)` with the first row of each tile and the sums of all its rows; columns are counted
    /// from the first of these, and what a row of a tile has beyond them means nothing.
    pub(super) fn multiply(
        &self,
        session: &Session,
        left: &[u32],
        rows: usize,
        tile: &mut Tile,
        mut each: impl FnMut(usize, Range<usize>, &[Row]),
    ) {
        let (kernel, depth) = (session.kernel(), self.depths.len());
        let (form, at_a_time) = (kernel.form(), kernel.rows());
        let (row, step) = match form {
            Form::Rows => (LANES, LANES * at_a_time),
            _ => (1, at_a_time),
        };
        let left = Left { words: left, taps: &[0], depth, row, step };
        let group = form.words(depth) * at_a_time;
        let stretch = self.depths.start / 2 * LANES;
        let stretch = stretch..stretch + depth.next_multiple_of(DEPTH) / 2 * LANES;
        let last = self.columns.end.div_ceil(LANES);
        for first in (self.columns.start / LANES..last).step_by(PANELS) {
            let panel = |i: usize| &self.words[i * self.panel..][..self.panel][stretch.clone()];
            let pair = [panel(first), panel((first + 1).min(last - 1))];
            let pair = &pair[..PANELS.min(last - first)];
            let column = first * LANES - self.columns.start;
            let width = (PANELS * LANES).min(self.columns.len() - column);
            for start in (0..rows).step_by(at_a_time) {
                let count = at_a_time.min(rows - start);
                let (at, read) = (start / at_a_time * group, kernel.read_rows(count));
                session.multiply(&Operands::new(form, left, at, count, read, pair), tile);
                each(start, column..column + width, &tile.0[..count]);
            }
        }
    }
}
