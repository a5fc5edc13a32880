//! Convolutions: a task copies what it sees of the input into the form that the kernel reads, few enough pixels for
//! the second-level cache, and each tap is a stretch of the left operand.

use std::cell::RefCell;

use half::bf16;
use rayon::prelude::*;

use super::super::parallel::{inlined, vectorised};
use super::kernels::{CpuKernel, Form, LANES, Left, MAX_ROWS, PANELS, Session, Tile, transpose};
use super::operands::{Right, to_words};
use super::winograd;
use crate::backend::geometry::Geometry;

/// Bytes of input that a task holds at a time.
const INPUT: usize = 768 << 10;
/// Rows of output of a task, or more where [`INPUT`] holds them in their whole width: neighbours see the same rows of
/// input.
const OUTPUT_ROWS: usize = 4;

/// The frames of one video.
pub(crate) struct Input<'a> {
    /// Channels-last, as they lie in memory; those before a chunk are the first ones.
    pub(crate) frames: Vec<&'a [bf16]>,
    pub(crate) geometry: Geometry,
}

/// Convolves one video of a batch into `out` `[T', H', W', Cout]`; the taps of `right` are `[kt, kh, kw]`.
pub(crate) fn convolve(
    kernel: CpuKernel,
    input: &Input,
    right: &Right,
    bias: &[f32],
    out: &mut [f32],
) {
    let geometry = &input.geometry;
    let [_, height, width] = geometry.output();
    let frame = height * width * right.columns;
    if out.is_empty() {
        return;
    }
    if winograd::suits(kernel, geometry) {
        return winograd::convolve(kernel, input, right, bias, out);
    }
    let rows = match geometry.stride {
        [_, 1, 1] => {
            let [kt, kh, kw] = geometry.kernel;
            let row = 4 * kt * kernel.form().words(geometry.channels[0]) * (width + kw - 1);
            let most = (INPUT / row).saturating_sub(kh - 1).max(OUTPUT_ROWS);
            height.div_ceil(2 * rayon::current_num_threads()).min(most)
        }
        _ => 1,
    };
    let task = Task { kernel, input, right, bias, strips: Strips::new(kernel, geometry, rows) };
    out.par_chunks_mut(frame).enumerate().for_each(|(t, out)| {
        let parts = out.par_chunks_mut(rows * width * right.columns).enumerate();
        parts.for_each(|(part, out)| {
            SCRATCH.with_borrow_mut(|scratch| {
                task.convolve_rows(scratch, [t, part * rows], out);
            });
        });
    });
}

struct Task<'a> {
    kernel: CpuKernel,
    input: &'a Input<'a>,
    right: &'a Right<'a>,
    bias: &'a [f32],
    strips: Strips,
}

thread_local! {
    /// Of a thread for as long as it lives.
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch::new());
}

/// What a task uses again and again.
struct Scratch {
    words: Vec<u32>,
    taps: Vec<usize>,
    /// The words of sixteen pixels.
    lines: Vec<u32>,
    tile: Tile,
}

impl Scratch {
    fn new() -> Self {
        Self { words: Vec::new(), taps: Vec::new(), lines: Vec::new(), tile: Tile::new() }
    }
}

/// How the input of a task lies in memory: planes of positions. A position is a pixel that the first tap of an output
/// pixel sees. Where the stride is 1, the rows of a frame are one plane, in which a tap is a few positions further;
/// else each tap has a plane of its own.
#[derive(Clone, Copy)]
struct Strips {
    form: Form,
    /// Words of a pixel.
    steps: usize,
    /// Output pixels of a row.
    width: usize,
    /// Positions from a row to the next.
    pitch: usize,
    /// Positions of a plane.
    positions: usize,
    is_strided: bool,
}

impl Strips {
    fn new(kernel: CpuKernel, geometry: &Geometry, rows: usize) -> Self {
        let (form, [kt, kh, kw]) = (kernel.form(), geometry.kernel);
        let is_strided = geometry.stride[1..] != [1, 1];
        let steps = form.words(geometry.channels[0]);
        let [_, _, width] = geometry.output();
        let (planes, seen, beyond) = match is_strided {
            true => (kt * kh * kw, 1, 0),
            false => (kt, rows + kh - 1, kw - 1),
        };
        let most = INPUT / (4 * planes * seen * steps);
        let most = most.saturating_sub(beyond).max(kernel.rows());
        let width = width.div_ceil(width.div_ceil(most));
        let pitch = width + beyond;
        Self { form, steps, width, pitch, positions: seen * pitch, is_strided }
    }

    /// Words from a position to the next, and from a step in depth to the next.
    fn strides(&self) -> [usize; 2] {
        match self.form {
            Form::Rows => [self.steps, LANES],
            _ => [1, self.positions],
        }
    }

    fn plane(&self) -> usize {
        self.positions * self.steps
    }
}

impl Task<'_> {
    /// The rows from `first` on of the output frame `t`.
    fn convolve_rows(&self, scratch: &mut Scratch, [t, first]: [usize; 2], out: &mut [f32]) {
        let [_, _, width] = self.input.geometry.output();
        let rows = out.len() / (width * self.right.columns);
        let session = Session::new(self.kernel);
        for start in (0..width).step_by(self.strips.width) {
            let count = self.strips.width.min(width - start);
            self.fill(scratch, [t, first, start], [rows, count]);
            self.multiply(&session, scratch, [rows, start, count], out);
        }
    }

    /// Copies what the taps of some output pixels see.
    fn fill(&self, scratch: &mut Scratch, [t, first, left]: [usize; 3], [rows, count]: [usize; 2]) {
        let Self { input, strips, .. } = self;
        let Geometry { kernel: [kt, kh, kw], stride: [st, sh, sw], padding, .. } = input.geometry;
        let [position, _] = strips.strides();
        let Scratch { words, taps, lines, .. } = scratch;
        taps.clear();
        lines.resize(LANES * strips.steps, 0);
        // Frames of padding are zero and add nothing; all are in front.
        let frames = (0..kt).filter_map(|dt| (t * st + dt).checked_sub(padding.time));
        let planes = if strips.is_strided { kt * kh * kw } else { kt };
        words.resize(planes * strips.plane() + MAX_ROWS * position, 0);
        let mut planes = words.chunks_exact_mut(strips.plane());
        let mut at = 0;
        for frame in frames.map(|frame| input.frames[frame]) {
            if strips.is_strided {
                for (dy, dx) in (0..kh).flat_map(|dy| (0..kw).map(move |dx| (dy, dx))) {
                    let plane = planes.next().expect("a plane for each tap");
                    let pixels = (0..count).map(|x| (left + x) * sw + dx);
                    self.fill_row(frame, first * sh + dy, pixels, 0, plane, lines);
                    taps.push(at);
                    at += strips.plane();
                }
                continue;
            }
            let plane = planes.next().expect("a plane for each frame");
            for y in 0..rows + kh - 1 {
                let pixels = left..left + count + kw - 1;
                self.fill_row(frame, first + y, pixels, y * strips.pitch, plane, lines);
            }
            for dy in 0..kh {
                taps.extend((0..kw).map(|dx| at + (dy * strips.pitch + dx) * position));
            }
            at += strips.plane();
        }
    }

    /// Copies pixels of the padded row `y` to a plane, from the position `start` on.
    fn fill_row(
        &self,
        frame: &[bf16],
        y: usize,
        mut pixels: impl Iterator<Item = usize>,
        start: usize,
        plane: &mut [u32],
        lines: &mut [u32],
    ) {
        let Strips { form, steps, .. } = self.strips;
        let (geometry, channels) = (&self.input.geometry, self.input.geometry.channels[0]);
        let row = geometry.source_row(y).map(|y| y * geometry.size[1] * channels);
        let [position, step] = self.strips.strides();
        let copy = inlined!(|x: usize, line: &mut [u32]| {
            match row.zip(geometry.source_column(x)) {
                Some((row, x)) => to_words(form, &frame[row + x * channels..][..channels], line),
                None => line.fill(0),
            }
        });
        let plane = &mut plane[start * position..];
        if form == Form::Rows {
            let lines = plane.chunks_exact_mut(steps);
            return vectorised(inlined!(|| {
                for (x, line) in pixels.zip(lines) {
                    copy(x, line);
                }
            }));
        }
        // Sixteen pixels at a time, that their words can be put in columns.
        let mut done = 0;
        loop {
            let mut count = 0;
            vectorised(inlined!(|| {
                for (line, x) in lines.chunks_exact_mut(steps).zip(&mut pixels) {
                    copy(x, line);
                    count += 1;
                }
            }));
            if count == 0 {
                return;
            }
            for first in (0..steps).step_by(LANES) {
                let (from, to) = (&lines[first..], &mut plane[done + first * step..]);
                transpose(from, steps, to, step, [count, LANES.min(steps - first)]);
            }
            done += count;
        }
    }

    /// The products of the filled planes with all panels.
    fn multiply(
        &self,
        session: &Session,
        scratch: &mut Scratch,
        [rows, start, count]: [usize; 3],
        out: &mut [f32],
    ) {
        let Self { kernel, right, strips, .. } = self;
        let Scratch { words, taps, tile, .. } = scratch;
        let [position, step] = strips.strides();
        let step = if strips.form == Form::Rows { LANES } else { step };
        let left = Left { words, taps, depth: right.depth, row: position, step };
        // Taps of frames of padding are the first ones.
        let used = taps.len() * right.panel_words() / right.taps;
        let [_, _, width] = self.input.geometry.output();
        let positions = (rows - 1) * strips.pitch + count;
        for first in (0..right.panels()).step_by(PANELS) {
            let last = right.panels().min(first + PANELS);
            let pair: Vec<&[u32]> = (first..last)
                .map(|panel| right.panel(panel))
                .map(|panel| &panel[panel.len() - used..])
                .collect();
            let columns = first * LANES..right.columns.min(last * LANES);
            let bias = &self.bias[columns.clone()];
            for at in (0..positions).step_by(kernel.rows()) {
                let some = kernel.rows().min(positions - at);
                session.multiply(left, at * position, some, &pair, tile);
                for (at, sums) in (at..at + some).zip(&tile.0) {
                    let (y, x) = (at / strips.pitch, at % strips.pitch);
                    if x >= count {
                        continue; // between two rows
                    }
                    let pixel = &mut out[(y * width + start + x) * right.columns..];
                    let pixel = &mut pixel[columns.clone()];
                    pixel
                        .iter_mut()
                        .zip(sums)
                        .zip(bias)
                        .for_each(|((y, sum), bias)| *y = sum + bias);
                }
            }
        }
    }
}
