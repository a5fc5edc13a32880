//! What the kernels of all processors read and write.

use super::CpuKernel;

/// Columns of a panel: the lanes of the widest vector registers.
pub(in super::super) const LANES: usize = 16;
/// Panels that a kernel multiplies with at a time, at most.
pub(in super::super) const PANELS: usize = 2;
/// Rows of a tile at most.
pub(in super::super) const MAX_ROWS: usize = 32;
/// The depth of a panel is filled up with zeros to a multiple of this: what the matrix units read at a time.
pub(in super::super) const DEPTH: usize = 32;

/// A row of a tile.
pub(in super::super) type Row = [f32; LANES * PANELS];

/// Sums of products: rows of the left operand by columns of the right.
#[repr(C, align(64))]
pub(in super::super) struct Tile(pub(in super::super) [Row; MAX_ROWS]);

impl Tile {
    pub(in super::super) fn new() -> Self {
        Self([[0.0; LANES * PANELS]; MAX_ROWS])
    }
}

/// How a kernel wants its left operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Form {
    /// A word is one value as f32. In convolutions the words of one depth are together, and rows are 1 apart; elsewhere
    /// rows stay rows ([`Dense`]).
    Wide,
    /// A word is two values that follow each other in depth. Rows are 1 apart.
    Pairs,
    /// A word is two values that follow each other in depth; 16 words of a row are together.
    Rows,
}

impl Form {
    /// Words of a row of this depth.
    pub(in super::super) fn words(self, depth: usize) -> usize {
        match self {
            Self::Wide => depth.next_multiple_of(2),
            Self::Pairs => depth.div_ceil(2),
            Self::Rows => depth.next_multiple_of(DEPTH) / 2,
        }
    }
}

/// The left operand: rows of `taps.len()` stretches of `depth` values each.
#[derive(Clone, Copy)]
pub(in super::super) struct Left<'a> {
    pub(in super::super) words: &'a [u32],
    /// Where the stretches of the first row begin.
    pub(in super::super) taps: &'a [usize],
    /// Values of a stretch.
    pub(in super::super) depth: usize,
    /// Words from a row to the next: 1 but in [`Form::Rows`].
    pub(in super::super) row: usize,
    /// Words from a step in depth to the next. A step is a word, in [`Form::Rows`] sixteen.
    pub(in super::super) step: usize,
}

impl Left<'_> {
    /// Whether `rows` rows from `start` on lie within the words.
    fn holds(&self, form: Form, start: usize, rows: usize) -> bool {
        let (steps, step) = match form {
            Form::Rows => (self.depth.div_ceil(DEPTH), DEPTH / 2),
            _ => (form.words(self.depth), 1),
        };
        // Sums that are too large for a usize are too large for a slice.
        let end = |tap: usize| {
            let last_row =
                start.checked_add(tap)?.checked_add((rows - 1).checked_mul(self.row)?)?;
            let last_step = steps.saturating_sub(1).checked_mul(self.step)?;
            last_row.checked_add(last_step)?.checked_add(step)
        };
        let last_tap = self.taps.iter().max().copied().unwrap_or(0);
        end(last_tap).is_some_and(|end| end <= self.words.len())
    }
}

/// What a kernel is called with. Kernels rely on it being made by [`Operands::new`].
pub(super) struct Operands<'a> {
    pub(super) left: Left<'a>,
    /// Where the first row of the tile begins.
    pub(super) start: usize,
    pub(super) rows: usize,
    /// One or two panels: `[taps, depth / 2, 16]` words, depth filled up to [`DEPTH`].
    pub(super) panels: &'a [&'a [u32]],
}

impl<'a> Operands<'a> {
    /// Those of a kernel.
    ///
    /// # Panics
    /// If it would read beyond the slices.
    pub(super) fn new(
        kernel: CpuKernel,
        left: Left<'a>,
        start: usize,
        rows: usize,
        panels: &'a [&'a [u32]],
    ) -> Self {
        let (form, read_rows) = (kernel.form(), kernel.read_rows(rows));
        let panel = left.taps.len() * left.depth.next_multiple_of(DEPTH) / 2 * LANES;
        assert!(matches!(panels.len(), 1 | PANELS), "one panel or two");
        assert!(panels.iter().all(|words| words.len() == panel), "a panel of another depth");
        assert!(rows <= read_rows && read_rows <= MAX_ROWS, "more rows than a tile has");
        assert!(form == Form::Rows || left.row == 1, "rows that are not together");
        assert!(left.holds(form, start, read_rows), "the left operand ends before its last row");
        Self { left, start, rows, panels }
    }
}

/// Rows and panels of f32. Kernels rely on it being made by [`Dense::new`].
#[derive(Clone, Copy)]
pub(in super::super) struct Dense<'a> {
    /// Rows of `depth` values, `stride` apart.
    pub(super) left: &'a [f32],
    pub(super) stride: usize,
    /// A multiple of [`LANES`].
    pub(super) depth: usize,
    /// One or two panels: `[depth, 16]`.
    pub(super) panels: &'a [&'a [f32]],
    /// Whether the products are added to what is there.
    pub(super) adds: bool,
}

impl<'a> Dense<'a> {
    /// # Panics
    /// If a kernel would read beyond the slices.
    pub(in super::super) fn new(
        left: &'a [f32],
        [stride, depth]: [usize; 2],
        panels: &'a [&'a [f32]],
        adds: bool,
    ) -> Self {
        assert!(matches!(panels.len(), 1 | PANELS), "one panel or two");
        assert!(depth.is_multiple_of(LANES), "a depth that is not filled up");
        assert!(0 < stride && depth <= stride, "rows that overlap");
        assert!(left.len().is_multiple_of(stride), "the last row is not whole");
        let is_whole = |panel: &&[f32]| panel.as_chunks::<LANES>().0.len() == depth;
        assert!(panels.iter().all(is_whole), "a panel of another depth");
        Self { left, stride, depth, panels, adds }
    }

    /// The rows of the left operand.
    pub(super) fn rows(&self) -> usize {
        self.left.len() / self.stride
    }
}
