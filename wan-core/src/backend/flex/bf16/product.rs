//! Products of rows with a packed matrix.

use std::cell::RefCell;

use rayon::prelude::*;

use super::super::parallel::{inlined, vectorised};
use super::buffer::Buffer;
use super::kernels::{CpuKernel, Form, LANES, PANELS, Row, Session};
use super::operands::{Right, Value, left_words, pack_left};
use super::panels::{Panels, Room};

/// Tasks for each thread, so that all have work to the end.
const TASKS: usize = 4;
/// Panels of a task: at least, where tasks share the columns, and at most, since sums are kept for all of them.
const PANELS_OF_TASK: [usize; 2] = [4, 128];

/// Rows of a task at most, and values of depth in one go: what a task reads again and again stays in the second-level
/// cache. Panels that are widened first are so for many rows.
fn block(form: Form) -> [usize; 2] {
    match form {
        Form::Wide => [256, 768],
        _ => [96, 1536],
    }
}

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
    let [most, _] = block(kernel.form());
    let blocks = rows.div_ceil(most);
    let rows = rows.div_ceil(blocks).next_multiple_of(kernel.rows());
    let shares = (TASKS * rayon::current_num_threads()).div_ceil(blocks);
    let [least, most] = PANELS_OF_TASK;
    let panels = right.panels().div_ceil(shares).next_multiple_of(PANELS).clamp(least, most);
    let tasks: Vec<_> = y
        .chunks_mut(rows * columns)
        .enumerate()
        .flat_map(|(block, y)| Task::split(block * rows, y, columns, panels))
        .collect();
    let product = Product { kernel, x, right, bias };
    tasks.into_par_iter().for_each(|task| {
        SCRATCH.with_borrow_mut(|scratch| product.compute(task, scratch));
    });
    y
}

/// Some panels of some rows of the result.
struct Task<'a, Y> {
    first_row: usize,
    first_panel: usize,
    /// The columns of these panels, row by row.
    rows: Vec<&'a mut [Y]>,
}

impl<'a, Y> Task<'a, Y> {
    /// Tasks of so many panels each. `y` are whole rows.
    fn split(first_row: usize, y: &'a mut [Y], columns: usize, panels: usize) -> Vec<Self> {
        let firsts = (0..columns.div_ceil(LANES)).step_by(panels);
        let mut tasks: Vec<_> =
            firsts.map(|first_panel| Self { first_row, first_panel, rows: Vec::new() }).collect();
        for row in y.chunks_exact_mut(columns) {
            for (task, part) in tasks.iter_mut().zip(row.chunks_mut(panels * LANES)) {
                task.rows.push(part);
            }
        }
        tasks
    }
}

struct Product<'a, X> {
    kernel: CpuKernel,
    x: &'a [X],
    right: &'a Right<'a>,
    bias: Option<&'a [f32]>,
}

thread_local! {
    /// Of a thread for as long as it lives: small products would spend a tenth of their time on clearing new memory.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

/// What a task uses again and again.
struct Scratch {
    left: Buffer<u32>,
    /// Sums over the blocks of depth so far, for each pair of panels.
    sums: Buffer<f32>,
    room: Room,
}

impl Scratch {
    fn new() -> Self {
        Self { left: Buffer::new(), sums: Buffer::new(), room: Room::new() }
    }
}

impl<X: Value> Product<'_, X> {
    /// The bias of a pair of panels; zeros where there is none.
    fn bias_of(&self, first_panel: usize) -> Row {
        let mut row = [0.0; LANES * PANELS];
        if let Some(bias) = self.bias {
            row.iter_mut().zip(&bias[first_panel * LANES..]).for_each(|(row, bias)| *row = *bias);
        }
        row
    }

    fn compute<Y: Value>(&self, task: Task<Y>, scratch: &mut Scratch) {
        let Scratch { left, sums, room } = scratch;
        let Task { first_row, first_panel, mut rows } = task;
        let (kernel, depth, count) = (self.kernel, self.right.depth, rows.len());
        let last_panel = first_panel + rows[0].len().div_ceil(LANES);
        let session = Session::new(kernel);
        let [_, depth_of_block] = block(kernel.form());
        let blocks = depth.div_ceil(depth_of_block);
        let pairs = (first_panel..last_panel).step_by(PANELS);
        // In one go, each pair can be forgotten.
        let kept = if blocks == 1 { 1 } else { pairs.len() };
        let sums: &mut [Row] = sums.take(kept * count * PANELS * LANES).as_chunks_mut().0;
        for block in 0..blocks {
            let depths = block * depth_of_block..depth.min((block + 1) * depth_of_block);
            let some = first_row..first_row + count;
            let some = some.map(|row| &self.x[row * depth..][depths.clone()]);
            let (form, rows_at_a_time) = (kernel.form(), kernel.rows());
            let left = left.take(left_words(form, rows_at_a_time, [count, depths.len()]));
            pack_left(form, rows_at_a_time, some, depths.len(), left);
            for (i, first) in pairs.clone().enumerate() {
                let sums = &mut sums[i % kept * count..][..count];
                let panels = first..last_panel.min(first + PANELS);
                let panels = Panels::new(self.right.words, depth, depths.clone(), panels);
                panels.multiply(&session, left, room, block > 0, sums);
                if block + 1 == blocks {
                    let start = i * PANELS * LANES;
                    let bias = self.bias_of(first);
                    vectorised(inlined!(|| {
                        for (y, sums) in rows.iter_mut().zip(&*sums) {
                            finish(sums, &bias, &mut y[start..]);
                        }
                    }));
                }
            }
        }
    }
}

/// Writes as many columns as there are.
#[inline(always)]
fn finish<Y: Value>(sums: &Row, bias: &Row, y: &mut [Y]) {
    let write = inlined!(|y: &mut [Y]| {
        let sums = sums.iter().zip(bias);
        y.iter_mut().zip(sums).for_each(inlined!(|(y, (sum, bias))| *y = Y::from_f32(sum + bias)));
    });
    match y.first_chunk_mut::<{ LANES * PANELS }>() {
        Some(y) => write(y), // a number of columns that the compiler knows
        None => write(y),
    }
}
