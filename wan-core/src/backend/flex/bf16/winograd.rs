//! Convolutions of 3x3 pixels by Winograd's method F(4x4, 3x3): a tile of 4x4 pixels of the output comes from 6x6 of the
//! input by 36 products for each pair of channels, where the definition has 144.
//!
//! With `d` what a tile sees and `g` the kernel, `y = A^T [(G g G^T) * (B^T d B)] A` (Lavin and Gray,
//! <https://arxiv.org/abs/1509.09308>). What stands in brackets is summed up over channels and taps in time, which makes
//! it 36 products of matrices, tiles by channels. All of it is in f32: transformed operands would lose too much in
//! bf16.

use std::ops::{Add, Mul, Range, Sub};
use std::sync::{Mutex, PoisonError};

use half::bf16;
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::super::parallel::{inlined, vectorised};
use super::buffer::Buffer;
use super::conv3d::Input;
use super::kernels::{CpuKernel, Dense, LANES, PANELS, Row, Session};
use super::operands::{Right, Value};
use crate::backend::geometry::Geometry;

/// Pixels of the output along a side of a tile.
const SIDE: usize = 4;
/// Pixels of the input along a side of a tile.
const SEEN: usize = SIDE + 2;
/// Products of a tile for each pair of channels.
const POINTS: usize = SEEN * SEEN;
/// Rows of a product, which are tiles: a multiple of those of all kernels.
const BLOCK: usize = 12;
/// Tiles that a task transforms before it multiplies them, at most: more do not stay in the cache, and fewer would have
/// the weights come from memory more often.
const SEGMENT: usize = 8 * BLOCK;
/// Tiles of a frame from which on the transformation of the weights pays.
const MIN_TILES: usize = 96;
/// Channels from which on the transformation of the tiles pays.
const MIN_CHANNELS: usize = 32;

/// Values of neighbouring channels.
type Lanes = [f32; LANES];

/// Whether a convolution can be computed by this method, and is faster so. Matrix units are faster by the definition.
pub(super) fn suits(kernel: CpuKernel, geometry: &Geometry) -> bool {
    let ([_, height, width], [cin, cout]) = (geometry.output(), geometry.channels);
    kernel != CpuKernel::Amx
        && geometry.kernel[1..] == [3, 3]
        && geometry.stride == [1, 1, 1]
        && cin.min(cout) >= MIN_CHANNELS
        && height.div_ceil(SIDE) * width.div_ceil(SIDE) >= MIN_TILES
}

/// Convolves one video of a batch into `out` `[T', H', W', Cout]`. Each output frame sees one of the video at least.
pub(super) fn convolve(
    kernel: CpuKernel,
    input: &Input,
    right: &Right,
    bias: &[f32],
    out: &mut [f32],
) {
    let [_, height, width] = input.geometry.output();
    let (across, down) = (width.div_ceil(SIDE), height.div_ceil(SIDE));
    let work = Work {
        input,
        bias,
        weights: Weights::transform(input.geometry.kernel[0], right),
        columns: right.columns,
        across,
    };
    // A task has whole rows of tiles.
    let rows = SEGMENT.div_ceil(across).min(down.div_ceil(rayon::current_num_threads()));
    let row = width * right.columns;
    let rooms = Mutex::new(Vec::new());
    let rooms = || rooms.lock().unwrap_or_else(PoisonError::into_inner);
    for (t, frame) in out.chunks_exact_mut(height * row).enumerate() {
        frame.par_chunks_mut(rows * SIDE * row).enumerate().for_each(|(task, out)| {
            let room = rooms().pop();
            let mut room = room.unwrap_or_else(Room::new);
            let session = Session::new(kernel);
            let tiles = (out.len() / row).div_ceil(SIDE) * across;
            let segment = tiles.div_ceil(tiles.div_ceil(SEGMENT)).next_multiple_of(BLOCK);
            for first in (0..tiles).step_by(segment) {
                let tiles = first..tiles.min(first + segment);
                work.compute(&session, [t, task * rows], tiles, &mut room, out);
            }
            rooms().push(room);
        });
    }
}

struct Work<'a> {
    input: &'a Input<'a>,
    bias: &'a [f32],
    weights: Weights,
    /// Channels of the output.
    columns: usize,
    /// Tiles of a row.
    across: usize,
}

/// What a task uses again and again.
struct Room {
    /// What a tile sees: `[6, 6, depth]`.
    pixels: Buffer<f32>,
    /// Transformed tiles of one frame: `[blocks, points, 12, depth]`.
    tiles: Buffer<f32>,
    /// `[blocks, pairs of panels, points, 12, 32]`
    products: Buffer<f32>,
}

impl Room {
    fn new() -> Self {
        Self { pixels: Buffer::new(), tiles: Buffer::new(), products: Buffer::new() }
    }
}

/// Values of a block of a pair of panels.
const PART: usize = BLOCK * PANELS * LANES;

impl Work<'_> {
    /// Some tiles of the output frame `t`. They are counted from the first of `out`, which is in the row of tiles
    /// `first`.
    fn compute(
        &self,
        session: &Session,
        [t, first]: [usize; 2],
        tiles: Range<usize>,
        room: &mut Room,
        out: &mut [f32],
    ) {
        let Self { input, weights, .. } = self;
        let blocks = tiles.len().div_ceil(BLOCK);
        let pixels = room.pixels.take(POINTS * weights.depth);
        let transformed = room.tiles.take(blocks * POINTS * BLOCK * weights.depth);
        let products = room.products.take(blocks * weights.pairs() * POINTS * PART);
        // Frames of padding are zero and add nothing; all are in front.
        let first_tap = input.geometry.padding.time.saturating_sub(t);
        for tap in first_tap..weights.kt {
            let frame = input.frames[t + tap - input.geometry.padding.time];
            self.transform(frame, first, tiles.clone(), pixels, transformed);
            self.multiply(session, tap, transformed, products, tap > first_tap);
        }
        self.finish(tiles, products, out);
    }

    /// Tiles of a frame of the input.
    fn transform(
        &self,
        frame: &[bf16],
        first: usize,
        tiles: Range<usize>,
        pixels: &mut [f32],
        transformed: &mut [f32],
    ) {
        let (across, depth) = (self.across, self.weights.depth);
        for (i, tile) in tiles.enumerate() {
            self.gather(frame, [SIDE * (first + tile / across), SIDE * (tile % across)], pixels);
            let at = (i / BLOCK * POINTS * BLOCK + i % BLOCK) * depth;
            let (pixels, tile) = (&*pixels, &mut transformed[at..]);
            Arch::new().dispatch(TransformTile { pixels, tile, stride: BLOCK * depth });
        }
    }

    /// The products of all points with the weights of a tap in time, which may be added to those before.
    fn multiply(
        &self,
        session: &Session,
        tap: usize,
        transformed: &[f32],
        products: &mut [f32],
        adds: bool,
    ) {
        let weights = &self.weights;
        let (block, pairs) = (BLOCK * weights.depth, weights.pairs());
        for (point, pair) in (0..POINTS).flat_map(|point| (0..pairs).map(move |pair| (point, pair)))
        {
            let panels = pair * PANELS..weights.panels.min((pair + 1) * PANELS);
            let panels: Vec<&[f32]> =
                panels.map(|panel| weights.panel(panel, tap, point)).collect();
            for (i, tiles) in transformed.chunks_exact(POINTS * block).enumerate() {
                let left = &tiles[point * block..][..block];
                let at = ((i * pairs + pair) * POINTS + point) * PART;
                let sums: &mut [Row] = products[at..at + PART].as_chunks_mut().0;
                let operands = Dense::new(left, [weights.depth; 2], &panels, adds);
                session.multiply_dense(&operands, sums);
            }
        }
    }

    /// Pixels of the products of all points.
    fn finish(&self, tiles: Range<usize>, products: &[f32], out: &mut [f32]) {
        let Self { weights, across, .. } = self;
        for (i, tile) in tiles.enumerate() {
            for panel in 0..weights.panels {
                let at = (i / BLOCK * weights.pairs() + panel / PANELS) * POINTS * PART;
                let at = at + (i % BLOCK * PANELS + panel % PANELS) * LANES;
                let mut pixels = [[[0.0; LANES]; SIDE]; SIDE];
                let products = &products[at..];
                Arch::new().dispatch(FinishTile { products, pixels: &mut pixels });
                self.write(&pixels, [SIDE * (tile / across), SIDE * (tile % across)], panel, out);
            }
        }
    }

    /// Copies what a tile sees.
    fn gather(&self, frame: &[bf16], [top, left]: [usize; 2], pixels: &mut [f32]) {
        let geometry = &self.input.geometry;
        let (channels, width, depth) = (geometry.channels[0], geometry.size[1], self.weights.depth);
        let columns: [_; SEEN] = std::array::from_fn(|j| geometry.source_column(left + j));
        let is_together = depth == channels && !geometry.upsample && columns[SEEN - 1].is_some();
        for (i, pixels) in pixels.chunks_exact_mut(SEEN * depth).enumerate() {
            let Some(row) = geometry.source_row(top + i) else {
                pixels.fill(0.0);
                continue;
            };
            let row = &frame[row * width * channels..][..width * channels];
            if let (true, Some(first)) = (is_together, columns[0]) {
                widen(&row[first * channels..][..SEEN * channels], pixels);
                continue;
            }
            for (pixel, column) in pixels.chunks_exact_mut(depth).zip(columns) {
                pixel.fill(0.0);
                if let Some(column) = column {
                    widen(&row[column * channels..][..channels], &mut pixel[..channels]);
                }
            }
        }
    }

    /// Adds the bias, and writes what lies within the frame.
    fn write(
        &self,
        pixels: &[[Lanes; SIDE]; SIDE],
        [top, left]: [usize; 2],
        panel: usize,
        out: &mut [f32],
    ) {
        let Self { bias, columns, .. } = *self;
        let [_, _, width] = self.input.geometry.output();
        let some = panel * LANES..columns.min((panel + 1) * LANES);
        for (row, pixels) in out.chunks_exact_mut(width * columns).skip(top).zip(pixels) {
            for (y, pixel) in row[left * columns..].chunks_exact_mut(columns).zip(pixels) {
                let values = y[some.clone()].iter_mut().zip(pixel).zip(&bias[some.clone()]);
                values.for_each(|((y, sum), bias)| *y = sum + bias);
            }
        }
    }
}

fn widen(values: &[bf16], out: &mut [f32]) {
    vectorised(inlined!(|| out.iter_mut().zip(values).for_each(|(x, y)| *x = Value::to_f32(*y))));
}

/// `G g G^T` of all kernels.
struct Weights {
    /// `[panels, kt, points, depth, 16]`
    values: Vec<f32>,
    panels: usize,
    kt: usize,
    /// Channels of the input, filled up to a multiple of sixteen.
    depth: usize,
}

impl Weights {
    fn transform(kt: usize, right: &Right) -> Self {
        let (panels, depth) = (right.panels(), right.depth.next_multiple_of(LANES));
        let tap = right.panel_words() / right.taps;
        let mut values = vec![0.0; panels * kt * POINTS * depth * LANES];
        values.par_chunks_mut(POINTS * depth * LANES).enumerate().for_each(|(i, values)| {
            let words = &right.panel(i / kt)[i % kt * 9 * tap..][..9 * tap];
            Arch::new().dispatch(TransformPanel { words, tap, depth, values });
        });
        Self { values, panels, kt, depth }
    }

    fn pairs(&self) -> usize {
        self.panels.div_ceil(PANELS)
    }

    fn panel(&self, panel: usize, tap: usize, point: usize) -> &[f32] {
        let size = self.depth * LANES;
        &self.values[((panel * self.kt + tap) * POINTS + point) * size..][..size]
    }
}

/// `G g G^T` of the kernels of a panel.
struct TransformPanel<'a> {
    words: &'a [u32],
    /// Words of a tap.
    tap: usize,
    depth: usize,
    values: &'a mut [f32],
}

impl WithSimd for TransformPanel<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { words, tap, depth, values } = self;
        let values = S::as_mut_simd_f32s(values).0;
        let steps = LANES / S::F32_LANES;
        for k in 0..depth {
            let shift = if k % 2 == 0 { 16 } else { 0 };
            let mut taps = [[0.0; LANES]; 9];
            for (i, taps) in taps.iter_mut().enumerate() {
                let words = &words[i * tap + k / 2 * LANES..][..LANES];
                for (value, word) in taps.iter_mut().zip(words) {
                    *value = f32::from_bits((word << shift) & 0xffff_0000);
                }
            }
            let taps = S::as_simd_f32s(taps.as_flattened()).0;
            for step in 0..steps {
                let load = inlined!(|i: usize, j: usize| taps[(i * 3 + j) * steps + step]);
                let store = inlined!(|i: usize, j: usize, x| {
                    values[((i * SEEN + j) * depth + k) * steps + step] = x;
                });
                transform(simd, load, inlined!(|x: [Vector<S>; _]| kernel_side(x)), store);
            }
        }
    }
}

/// `B^T d B` of what a tile sees; from a point to the next are `stride` values.
struct TransformTile<'a> {
    pixels: &'a [f32],
    tile: &'a mut [f32],
    stride: usize,
}

impl WithSimd for TransformTile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let (pixels, tile) = (S::as_simd_f32s(self.pixels).0, S::as_mut_simd_f32s(self.tile).0);
        let (depth, stride) = (pixels.len() / POINTS, self.stride / S::F32_LANES);
        for k in 0..depth {
            let load = inlined!(|i: usize, j: usize| pixels[(i * SEEN + j) * depth + k]);
            let store = inlined!(|i: usize, j: usize, x| tile[(i * SEEN + j) * stride + k] = x);
            transform(simd, load, inlined!(|x: [Vector<S>; _]| input_side(x)), store);
        }
    }
}

/// `A^T m A` of sixteen channels of a tile; from a point to the next is a [`PART`].
struct FinishTile<'a> {
    products: &'a [f32],
    pixels: &'a mut [[Lanes; SIDE]; SIDE],
}

impl WithSimd for FinishTile<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let products = S::as_simd_f32s(self.products).0;
        let pixels = S::as_mut_simd_f32s(self.pixels.as_flattened_mut().as_flattened_mut()).0;
        let (steps, stride) = (LANES / S::F32_LANES, PART / S::F32_LANES);
        for k in 0..steps {
            let load = inlined!(|i: usize, j: usize| products[(i * SEEN + j) * stride + k]);
            let store = inlined!(|i: usize, j: usize, x| pixels[(i * SIDE + j) * steps + k] = x);
            transform(simd, load, inlined!(|x: [Vector<S>; _]| output_side(x)), store);
        }
    }
}

/// Calls `store` with the elements of `M x M^T`, where `side` multiplies a column by `M`.
#[inline(always)]
fn transform<S: Simd, const N: usize, const T: usize>(
    simd: S,
    load: impl Fn(usize, usize) -> S::f32s,
    side: impl Fn([Vector<S>; N]) -> [Vector<S>; T],
    mut store: impl FnMut(usize, usize, S::f32s),
) {
    let zero = Vector { simd, values: simd.splat_f32s(0.0) };
    let mut half = [[zero; N]; T];
    for j in 0..N {
        let mut column = [zero; N];
        for (i, x) in column.iter_mut().enumerate() {
            x.values = load(i, j);
        }
        for (half, x) in half.iter_mut().zip(side(column)) {
            half[j] = x;
        }
    }
    for (i, half) in half.iter().enumerate() {
        for (j, x) in side(*half).iter().enumerate() {
            store(i, j, x.values);
        }
    }
}

/// `B^T d`
#[inline(always)]
fn input_side<S: Simd>([d0, d1, d2, d3, d4, d5]: [Vector<S>; 6]) -> [Vector<S>; 6] {
    let (a, b) = (d4 - d2 * 4.0, d3 - d1 * 4.0);
    let (c, d) = (d4 - d2, (d3 - d1) * 2.0);
    [d0 * 4.0 - d2 * 5.0 + d4, a + b, a - b, c + d, c - d, d1 * 4.0 - d3 * 5.0 + d5]
}

/// `G g`
#[inline(always)]
fn kernel_side<S: Simd>([g0, g1, g2]: [Vector<S>; 3]) -> [Vector<S>; 6] {
    let (a, b) = ((g0 + g2) * (-1.0 / 6.0), g1 * (1.0 / 6.0));
    let (c, d) = (g0 * (1.0 / 24.0) + g2 * (1.0 / 6.0), g1 * (1.0 / 12.0));
    [g0 * 0.25, a - b, a + b, c + d, c - d, g2]
}

/// `A^T m`
#[inline(always)]
fn output_side<S: Simd>([m0, m1, m2, m3, m4, m5]: [Vector<S>; 6]) -> [Vector<S>; 4] {
    let (a, b) = (m1 + m2, m1 - m2);
    let (c, d) = (m3 + m4, m3 - m4);
    [m0 + a + c, b + d * 2.0, a + c * 4.0, b + d * 8.0 + m5]
}

/// Values that are computed with together.
#[derive(Clone, Copy)]
struct Vector<S: Simd> {
    simd: S,
    values: S::f32s,
}

impl<S: Simd> Add for Vector<S> {
    type Output = Self;

    #[inline(always)]
    fn add(self, other: Self) -> Self {
        Self { values: self.simd.add_f32s(self.values, other.values), ..self }
    }
}

impl<S: Simd> Sub for Vector<S> {
    type Output = Self;

    #[inline(always)]
    fn sub(self, other: Self) -> Self {
        Self { values: self.simd.sub_f32s(self.values, other.values), ..self }
    }
}

impl<S: Simd> Mul<f32> for Vector<S> {
    type Output = Self;

    #[inline(always)]
    fn mul(self, factor: f32) -> Self {
        Self { values: self.simd.mul_f32s(self.values, self.simd.splat_f32s(factor)), ..self }
    }
}
