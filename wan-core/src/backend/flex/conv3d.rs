//! Convolution as matrix products on the frames where they lie: with the channels of a pixel
//! together, the inputs of `kw` taps in a row are one stretch of memory, so a matrix whose rows
//! overlap stands for all positions of a tap row, and nothing is copied out of place (no im2col).

use burn::backend::Flex;
use burn::tensor::{DType, Tensor};
use gemm::Parallelism;
use rayon::prelude::*;

use super::matrix::{Beta, Matrix, multiply};
use super::memory::{contiguous, slice, tensor};
use crate::backend::{Conv3dArgs, Padding, portable};

/// Elements of output that a task collects before it writes them: within the second-level cache.
const BLOCK: usize = 1 << 15;

/// In memory the taps come first and the output channels last, see [`Operands::weight`].
pub(super) fn taps_first(weight: Tensor<Flex, 5>) -> Tensor<Flex, 5> {
    if weight.dtype() != DType::F32 {
        return weight;
    }
    let taps_first = weight.permute([2, 3, 4, 1, 0]);
    let shape = taps_first.dims();
    let copied = contiguous(taps_first);
    tensor(slice(&copied).to_vec(), shape).permute([4, 3, 0, 1, 2])
}

pub(super) fn conv3d(args: Conv3dArgs<Flex>) -> Tensor<Flex, 5> {
    if args.weight.dtype() != DType::F32 {
        return portable::conv3d(args);
    }
    let Conv3dArgs { past, x, weight, bias, stride, padding } = args;
    let [batch, chunk, height, width, cin] = x.dims();
    let [cout, _, kt, kh, kw] = weight.dims();
    let known = past.as_ref().map_or(0, |past| past.dims()[1]);
    let (past, x) = (past.map(contiguous), contiguous(x));
    let (weight, bias) = (contiguous(weight.permute([2, 3, 4, 1, 0])), contiguous(bias));
    let frame = height * width * cin;
    let operands = |b: usize| {
        let frames = |tensor, frames: usize| {
            slice(tensor)[b * frames * frame..(b + 1) * frames * frame].chunks_exact(frame)
        };
        let before = past.iter().flat_map(|past| frames(past, known));
        Operands {
            frames: before.chain(frames(&x, chunk)).collect(),
            height,
            width,
            channels: [cin, cout],
            weight: slice(&weight),
            bias: slice(&bias),
            kernel: [kt, kh, kw],
            stride,
            padding,
        }
    };
    let [t, h, w] = operands(0).output();
    let mut out = vec![0.0; batch * t * h * w * cout];
    for (b, out) in out.chunks_exact_mut(t * h * w * cout).enumerate() {
        convolve(&operands(b), out);
    }
    tensor(out, [batch, t, h, w, cout])
}

/// The operands of [`convolve`].
struct Operands<'a> {
    /// Frames before and including this chunk, `[T, H, W, Cin]` each, one batch.
    frames: Vec<&'a [f32]>,
    height: usize,
    width: usize,
    /// Input and output.
    channels: [usize; 2],
    /// `[kt, kh, kw, Cin, Cout]`
    weight: &'a [f32],
    bias: &'a [f32],
    /// Along time, height and width.
    kernel: [usize; 3],
    stride: [usize; 3],
    padding: Padding,
}

impl Operands<'_> {
    /// Frames, rows and columns of the output.
    fn output(&self) -> [usize; 3] {
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
fn convolve(operands: &Operands, out: &mut [f32]) {
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
fn convolve_rows(operands: &Operands, frames: &[&[f32]], [t, first]: [usize; 2], out: &mut [f32]) {
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
            multiply(&mut block, cout, Beta::One, 1.0, left, right, Parallelism::None);
        }
    }
    let rows = block.chunks(step * cout);
    for (out, row) in out.chunks_exact_mut(width * cout).zip(rows) {
        out.copy_from_slice(&row[..width * cout]);
    }
}
