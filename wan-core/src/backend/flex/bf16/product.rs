//! Products of rows with a packed matrix.

use std::ops::Range;

use rayon::prelude::*;

use super::super::parallel::{inlined, vectorised};
use super::kernel::{CpuKernel, Session};
use super::operands::{Right, Value, pack_left};
use super::panels::Panels;
use super::tile::{LANES, PANELS, Tile};

/// Values of depth in one go: both operands of a tile stay in the second-level cache.
const DEPTH_BLOCK: usize = 1536;
/// Rows of a task at most.
const ROW_BLOCK: usize = 96;
/// Tasks for each thread, so that all have work to the end.
const TASKS: usize = 4;
/// Panels of a task at least, where tasks share the columns.
const MIN_PANELS: usize = 4;

/// `x w + bias`, for rows `x` one after the other: `[rows, columns]`.
pub(crate) fn multiply<X: Value, Y: Value>(
    kernel: CpuKernel,
    x: &[X],
    right: &Right,
    bias: Option<&[f32]>,
) -> Vec<Y> {
    let (depth, columns) = (right.depth, right.columns);
    let rows = x.len().checked_div(depth).unwrap_or(0);
    let mut y = vec![Y::ZERO; rows * columns];
    if y.is_empty() {
        return y;
    }
    let product = Product { kernel, x, right, bias };
    let tasks = TASKS * rayon::current_num_threads();
    if rows >= tasks * ROW_BLOCK / 2 {
        let block = rows.div_ceil(tasks).next_multiple_of(kernel.rows()).min(ROW_BLOCK);
        y.par_chunks_mut(block * columns).enumerate().for_each_init(
            Scratch::new,
            |scratch, (i, y)| {
                let rows = i * block..i * block + y.len() / columns;
                product.compute(rows, 0..right.panels(), scratch, y);
            },
        );
        return y;
    }
    // Too few rows for all threads: each takes some columns of all rows.
    let panels = right.panels().div_ceil(tasks).next_multiple_of(PANELS).max(MIN_PANELS);
    let parts = (0..right.panels()).step_by(panels).collect::<Vec<_>>().into_par_iter();
    let parts = parts.map_init(Scratch::new, |scratch, first| {
        let panels = first..right.panels().min(first + panels);
        let mut part = vec![Y::ZERO; rows * product.width(&panels)];
        product.compute(0..rows, panels, scratch, &mut part);
        (first * LANES, part)
    });
    for (first, part) in parts.collect::<Vec<_>>() {
        let width = part.len() / rows;
        for (y, part) in y.chunks_exact_mut(columns).zip(part.chunks_exact(width)) {
            y[first..first + width].copy_from_slice(part);
        }
    }
    y
}

struct Product<'a, X> {
    kernel: CpuKernel,
    x: &'a [X],
    right: &'a Right<'a>,
    bias: Option<&'a [f32]>,
}

/// What a task uses again and again.
struct Scratch {
    left: Vec<u32>,
    /// Sums over the blocks of depth so far.
    sums: Vec<f32>,
    tile: Tile,
}

impl Scratch {
    fn new() -> Self {
        Self { left: Vec::new(), sums: Vec::new(), tile: Tile::new() }
    }
}

impl<X: Value> Product<'_, X> {
    /// Columns of some panels.
    fn width(&self, panels: &Range<usize>) -> usize {
        self.right.columns.min(panels.end * LANES) - panels.start * LANES
    }

    /// `y` has the columns of these panels only.
    fn compute<Y: Value>(
        &self,
        rows: Range<usize>,
        panels: Range<usize>,
        scratch: &mut Scratch,
        y: &mut [Y],
    ) {
        let Scratch { left, sums, tile } = scratch;
        let (depth, width) = (self.right.depth, self.width(&panels));
        let bias = self.bias.map(|bias| &bias[panels.start * LANES..][..width]);
        let session = Session::new(self.kernel);
        let blocks = depth.div_ceil(DEPTH_BLOCK);
        if blocks > 1 {
            sums.clear();
            sums.resize(y.len(), 0.0);
        }
        for block in 0..blocks {
            let depths = block * DEPTH_BLOCK..depth.min((block + 1) * DEPTH_BLOCK);
            let some = rows.clone().map(|row| &self.x[row * depth..][depths.clone()]);
            pack_left(self.kernel.form(), self.kernel.rows(), some, depths.len(), left);
            let columns = panels.start * LANES..panels.start * LANES + width;
            let part = Panels::new(self.right.words, depth, depths, columns);
            part.multiply(&session, left, rows.len(), tile, |first, columns, some| {
                vectorised(inlined!(|| {
                    for (row, some) in (first..).zip(some) {
                        let some = &some[..columns.len()];
                        let at = row * width + columns.start;
                        if blocks > 1 {
                            let sums = &mut sums[at..at + some.len()];
                            sums.iter_mut().zip(some).for_each(|(sum, value)| *sum += value);
                        } else {
                            finish(some, bias, columns.start, &mut y[at..at + some.len()]);
                        }
                    }
                }));
            });
        }
        if blocks > 1 {
            vectorised(inlined!(|| {
                for (y, sums) in y.chunks_exact_mut(width).zip(sums.chunks_exact(width)) {
                    finish(sums, bias, 0, y);
                }
            }));
        }
    }
}

#[inline(always)]
fn finish<Y: Value>(sums: &[f32], bias: Option<&[f32]>, column: usize, y: &mut [Y]) {
    match bias {
        Some(bias) => {
            let bias = &bias[column..column + sums.len()];
            for ((y, sum), bias) in y.iter_mut().zip(sums).zip(bias) {
                *y = Y::from_f32(sum + bias);
            }
        }
        None => y.iter_mut().zip(sums).for_each(|(y, sum)| *y = Y::from_f32(*sum)),
    }
}
