//! torch's bicubic interpolation, as the original Wan resizes pictures with it.

use super::{Image, ImageError, Pixels};

/// The coefficient of the cubic, which is -0.5 in Pillow.
const A: f32 = -0.75;

/// The four pixels around a new one on an axis, and their weights.
type Taps = [(usize, f32); 4];

impl Image {
    /// The picture in another size, whose ratio is not kept: `[3, height, width]`, from -1 to 1 and, beside
    /// edges, beyond.
    ///
    /// As `interpolate(mode="bicubic")` of torch does it, without antialiasing: where a picture is made
    /// smaller, most pixels do not count. Prefer [`resize`](Self::resize) where numbers need not equal
    /// those of the original Wan.
    ///
    /// # Errors
    /// [`ImageError::Empty`] if a side is 0, [`ImageError::TooLarge`] for more than
    /// [`MAX_PIXELS`](super::MAX_PIXELS).
    pub fn resize_as_torch(&self, width: u32, height: u32) -> Result<Pixels, ImageError> {
        let [columns, rows] = self.check_target([width, height])?;
        let [from_columns, from_rows] = self.size();
        let (columns, rows) = (taps(from_columns, columns), taps(from_rows, rows));
        let mut values = vec![0.0; 3 * columns.len() * rows.len()];
        let planes = values.chunks_exact_mut(columns.len() * rows.len());
        for (channel, plane) in planes.enumerate() {
            for (row, taps) in plane.chunks_exact_mut(columns.len()).zip(&rows) {
                for (at, weight) in taps {
                    let stored = &self.rgb[3 * at * from_columns + channel..];
                    add_row(row, stored, &columns, *weight);
                }
            }
        }
        Ok(Pixels { width, height, values })
    }
}

/// Adds `weight` times the resized row of one channel of rgb24.
fn add_row(row: &mut [f32], stored: &[u8], columns: &[Taps], weight: f32) {
    for (value, taps) in row.iter_mut().zip(columns) {
        let near =
            taps.iter().map(|(at, weight)| weight * (f32::from(stored[3 * at]) / 127.5 - 1.0));
        *value += weight * near.sum::<f32>();
    }
}

/// What each new pixel on an axis is made of. Where the four pixels reach beyond the edge, the last one
/// stands for those.
fn taps(from: usize, to: usize) -> Vec<Taps> {
    let scale = from as f32 / to as f32;
    let taps = |index: usize| {
        let position = scale * (index as f32 + 0.5) - 0.5;
        let first = position.floor();
        let t = position - first;
        let weights = [outer(t + 1.0), inner(t), inner(1.0 - t), outer(2.0 - t)];
        let at = |tap: isize| (first as isize + tap - 1).clamp(0, from as isize - 1) as usize;
        [0, 1, 2, 3].map(|tap: usize| (at(tap as isize), weights[tap]))
    };
    (0..to).map(taps).collect()
}

/// The cubic at a distance below 1.
fn inner(x: f32) -> f32 {
    ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
}

/// The cubic at a distance from 1 to 2.
fn outer(x: f32) -> f32 {
    ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A
}
