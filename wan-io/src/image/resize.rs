//! Resizing of pictures of 8 bits, bit for bit as Pillow does it.
//!
//! Pillow filters the rows, rounds to 8 bits, and then filters the columns. A filter is stretched when a
//! picture is made smaller, so that all of its pixels count. Weights are fixed-point numbers.

use std::borrow::Cow;
use std::f64::consts::PI;

/// How a pixel is computed from those around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Filter {
    /// The pixel whose middle is nearest.
    Nearest,
    /// A triangle, 1 pixel wide on each side.
    Bilinear,
    /// A cubic with a = -0.5, 2 pixels wide on each side.
    Bicubic,
    /// A windowed sinc, 3 pixels wide on each side.
    Lanczos,
}

impl Filter {
    /// How far it reaches on each side, in pixels of the larger of both pictures.
    fn support(self) -> f64 {
        match self {
            Self::Nearest => 0.5,
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        match self {
            Self::Nearest => 1.0, // Not asked for: it is no sum.
            Self::Bilinear => (1.0 - x.abs()).max(0.0),
            Self::Bicubic => cubic(x.abs(), -0.5),
            Self::Lanczos if (-3.0..3.0).contains(&x) => sinc(x) * sinc(x / 3.0),
            Self::Lanczos => 0.0,
        }
    }
}

/// The cubic convolution kernel at a distance `x`.
fn cubic(x: f64, a: f64) -> f64 {
    if x < 1.0 {
        ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * a
    } else {
        0.0
    }
}

fn sinc(x: f64) -> f64 {
    if x == 0.0 { 1.0 } else { (x * PI).sin() / (x * PI) }
}

/// Bits after the point: 8 are left for the values, 2 for sums above them.
const PRECISION: u32 = 32 - 8 - 2;

/// The weights of the pixels that make up one pixel: those from `start` on.
struct Weights {
    start: usize,
    weights: Vec<i32>,
}

/// A picture of `C` interleaved channels in another size. Sizes are `[width, height]`, of 1 or more.
pub(super) fn resize<const C: usize>(
    pixels: &[u8],
    from: [usize; 2],
    to: [usize; 2],
    filter: Filter,
) -> Vec<u8> {
    if filter == Filter::Nearest {
        return nearest::<C>(pixels, from, to);
    }
    let ([width, height], [new_width, new_height]) = (from, to);
    let rows = match new_width == width {
        true => Cow::Borrowed(pixels),
        false => resize_rows::<C>(pixels, width, &weights(width, new_width, filter)).into(),
    };
    match new_height == height {
        true => rows.into_owned(),
        false => resize_columns(&rows, C * new_width, &weights(height, new_height, filter)),
    }
}

/// The weights of each new pixel on an axis.
fn weights(from: usize, to: usize, filter: Filter) -> Vec<Weights> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let support = filter.support() * stretch;
    let weights = |index: usize| {
        let center = (index as f64 + 0.5) * scale;
        let start = (center - support + 0.5).max(0.0) as usize;
        let end = ((center + support + 0.5) as usize).min(from);
        let distance = |pixel: usize| (pixel as f64 - center + 0.5) * (1.0 / stretch);
        let weights: Vec<f64> = (start..end).map(|at| filter.weight(distance(at))).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |weight: f64| {
            let weight = if sum == 0.0 { weight } else { weight / sum };
            // Rounded half away from zero, as the reference's `(int)(x ± 0.5)`.
            (weight * f64::from(1 << PRECISION)).round() as i32
        };
        Weights { start, weights: weights.into_iter().map(fixed).collect() }
    };
    (0..to).map(weights).collect()
}

/// Sums up `values` by their weights, and rounds.
fn sum(weights: &[i32], values: impl Iterator<Item = u8>) -> u8 {
    let products = weights.iter().zip(values).map(|(&weight, value)| weight * i32::from(value));
    let sum = products.sum::<i32>() + (1 << (PRECISION - 1));
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn resize_rows<const C: usize>(pixels: &[u8], width: usize, weights: &[Weights]) -> Vec<u8> {
    let mut resized = Vec::with_capacity(pixels.len() / width * weights.len());
    for row in pixels.chunks_exact(C * width) {
        for Weights { start, weights } in weights {
            let (near, _) = row[C * start..].as_chunks::<C>();
            resized.extend((0..C).map(|c| sum(weights, near.iter().map(|pixel| pixel[c]))));
        }
    }
    resized
}

fn resize_columns(pixels: &[u8], row_length: usize, weights: &[Weights]) -> Vec<u8> {
    let mut resized = Vec::with_capacity(row_length * weights.len());
    let mut sums = vec![0_i32; row_length];
    for Weights { start, weights } in weights {
        sums.fill(1 << (PRECISION - 1));
        let rows = pixels.chunks_exact(row_length).skip(*start);
        for (weight, row) in weights.iter().zip(rows) {
            sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += weight * i32::from(value));
        }
        resized.extend(sums.iter().map(|sum| (sum >> PRECISION).clamp(0, 255) as u8));
    }
    resized
}

fn nearest<const C: usize>(pixels: &[u8], from: [usize; 2], to: [usize; 2]) -> Vec<u8> {
    let [columns, rows] = [0, 1].map(|axis| nearest_indices(from[axis], to[axis]));
    let (pixels, _) = pixels.as_chunks::<C>();
    let row = |row: usize| columns.iter().flat_map(move |column| pixels[row * from[0] + column]);
    rows.iter().flat_map(|&at| row(at)).collect()
}

/// The pixel that each new one is, on an axis. Added up as the reference does it, since the middle of a
/// new pixel often lies just between two others.
fn nearest_indices(from: usize, to: usize) -> Vec<usize> {
    let scale = from as f64 / to as f64;
    let middles = std::iter::successors(Some(0.5 * scale), |middle| Some(middle + scale));
    middles.map(|middle| (middle as usize).min(from - 1)).take(to).collect()
}
