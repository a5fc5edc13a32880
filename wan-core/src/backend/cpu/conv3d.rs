//! Convolution as matrix products on the frames where they lie: with the channels of a pixel
//! together, the inputs of `kw` taps in a row are one stretch of memory, so a matrix whose rows
//! overlap stands for all positions of a tap row, and nothing is copied out of place (no im2col).

use gemm::Parallelism;
use rayon::prelude::*;

use super::super::Padding;
use super::matrix::{Matrix, Onto, multiply};

/// Numbers of output that a task collects before it writes them: within the second-level cache.
const BLOCK: usize = 1 << 15;

/// The operands of [`conv3d`].
pub(in super::super) struct Conv3d<'a> {
    /// Frames before and including this chunk, `[T, H, W, Cin]` each, one batch.
    pub(in super::super) frames: Vec<&'a [f32]>,
    pub(in super::super) height: usize,
    pub(in super::super) width: usize,
    /// Input and output.
    pub(in super::super) channels: [usize; 2],
    /// `[kt, kh, kw, Cin, Cout]`
    pub(in super::super) weight: &'a [f32],
    pub(in super::super) bias: &'a [f32],
    /// Along time, height and width.
    pub(in super::super) kernel: [usize; 3],
    pub(in super::super) stride: [usize; 3],
    pub(in super::super) padding: Padding,
}

impl Conv3d<'_> {
    /// Frames, rows and columns of the output.
    pub(in super::super) fn output(&self) -> [usize; 3] {
        let [pt, ph, pw] = self.padded();
        let ([kt, kh, kw], [st, sh, sw]) = (self.kernel, self.stride);
        [(pt - kt) / st + 1, (ph - kh) / sh + 1, (pw - kw) / sw + 1]
    }

    fn padded(&self) -> [usize; 3] {
        let Padding { time, height, width } = self.padding;
        let [h, w] = [height, width].map(|[before, after]| before + after);
        [self.frames.len() + time, self.height + h, self.width + w]
    }

    /// A frame with zeros around it.
    fn pad(&self, frame: &[f32]) -> Vec<f32> {
        let [_, height, width] = self.padded();
        let channels = self.channels[0];
        let mut padded = vec![0.0; height * width * channels];
        let first = (self.padding.height[0] * width + self.padding.width[0]) * channels;
        let row = self.width * channels;
        let rows = padded[first..].chunks_mut(width * channels);
        for (padded, row) in rows.zip(frame.chunks_exact(row)) {
            padded[..row.len()].copy_from_slice(row);
        }
        padded
    }
}

/// Convolves one video of a batch into `out` `[T', H', W', Cout]`.
pub(in super::super) fn conv3d(operands: &Conv3d, out: &mut [f32]) {
    let [_, height, width] = operands.output();
    let [_, cout] = operands.channels;
    let unpadded = operands.padding.height == [0, 0] && operands.padding.width == [0, 0];
    let padded: Vec<Vec<f32>> = match unpadded {
        true => Vec::new(),
        false => operands.frames.par_iter().map(|frame| operands.pad(frame)).collect(),
    };
    let frames: Vec<&[f32]> = match unpadded {
        true => operands.frames.clone(),
        false => padded.iter().map(Vec::as_slice).collect(),
    };
    // Rows of the output in one product: several where positions follow each other in memory.
    let rows = match operands.stride {
        [_, 1, 1] => (BLOCK / (operands.padded()[2] * cout)).clamp(1, height),
        _ => 1,
    };
    out.par_chunks_mut(height * width * cout).enumerate().for_each(|(t, out)| {
        out.par_chunks_mut(rows * width * cout).enumerate().for_each(|(block, out)| {
            convolve_rows(operands, &frames, [t, block * rows], out);
        });
    });
}

/// The rows from `first` on of the output frame `t`.
fn convolve_rows(operands: &Conv3d, frames: &[&[f32]], [t, first]: [usize; 2], out: &mut [f32]) {
    let [cin, cout] = operands.channels;
    let ([kt, kh, kw], [st, sh, sw]) = (operands.kernel, operands.stride);
    let [_, _, pitch] = operands.padded();
    let [_, _, width] = operands.output();
    let rows = out.len() / (width * cout);
    // Positions between the end of a row and the start of the next are computed too, and left out
    // when the rows are copied.
    let step = if rows == 1 { width } else { pitch };
    let positions = (rows - 1) * step + width;
    let mut block = operands.bias.repeat(positions);
    for dt in 0..kt {
        // Frames of padding are zero and add nothing.
        let Some(frame) = (t * st + dt).checked_sub(operands.padding.time) else { continue };
        for dy in 0..kh {
            let start = (first * sh + dy) * pitch * cin;
            let taps = (dt * kh + dy) * kw * cin * cout;
            let left = Matrix::rows(&frames[frame][start..], positions, kw * cin, sw * cin);
            let right = Matrix::rows(&operands.weight[taps..], kw * cin, cout, cout);
            multiply(&mut block, cout, Onto::Destination, 1.0, left, right, Parallelism::None);
        }
    }
    let rows = block.chunks(step * cout);
    for (out, row) in out.chunks_exact_mut(width * cout).zip(rows) {
        out.copy_from_slice(&row[..width * cout]);
    }
}
