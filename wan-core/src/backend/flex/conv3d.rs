//! Convolution as matrix products: with the channels of a pixel together, the inputs of `kw` taps in
//! a row are one stretch of memory, so a matrix whose rows overlap stands for all positions of a tap
//! row (no im2col). A task reads the few rows that it needs where they lie or, where zeros stand around
//! them or they are enlarged or in f16, from a copy that stays in the cache: no frame is copied whole.

use burn::backend::Flex;
use burn::tensor::{DType, Tensor};
use burn_flex::FlexTensor;
use gemm::Parallelism;
use half::f16;
use half::slice::HalfFloatSliceExt;
use rayon::prelude::*;

use super::bf16::{self, CpuKernel};
use super::elementwise::cast;
use super::matrix::{Beta, Matrix, multiply};
use super::memory::{contiguous, halves, slice, tensor};
use super::packed;
use crate::backend::geometry::Geometry;
use crate::backend::{Conv3dArgs, PackedWeight, portable};

/// Elements of output that a task collects before it writes them: within the second-level cache.
const BLOCK: usize = 1 << 15;
/// As many at least, if a frame has them: below, a second thread costs more than it saves.
const MIN_BLOCK: usize = 1 << 11;

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
    let is_known = |x: &Tensor<Flex, 5>| matches!(x.dtype(), DType::F32 | DType::F16);
    if args.weight.dtype() != DType::F32 || !args.past.iter().all(is_known) {
        return portable::conv3d(args);
    }
    let geometry = Geometry::new(&args, args.weight.dims());
    let Conv3dArgs { past, x, weight, bias, .. } = args;
    let [batch, _, height, width, cin] = x.dims();
    let inputs: Vec<FlexTensor> = past.into_iter().chain([x]).map(contiguous).collect();
    let (weight, bias) = (contiguous(weight.permute([2, 3, 4, 1, 0])), contiguous(bias));
    let operands = |b: usize| Operands {
        frames: inputs.iter().flat_map(|x| frames(x, b, height * width * cin)).collect(),
        geometry,
        weight: slice(&weight),
        bias: slice(&bias),
    };
    let ([t, h, w], [_, cout]) = (geometry.output(), geometry.channels);
    let mut out = vec![0.0; batch * t * h * w * cout];
    for (b, out) in out.chunks_exact_mut(t * h * w * cout).enumerate() {
        convolve(&operands(b), out);
    }
    tensor(out, [batch, t, h, w, cout])
}

/// With a packed kernel, whose operands are bf16.
pub(super) fn packed_conv3d(args: Conv3dArgs<Flex, PackedWeight<Flex>>) -> Tensor<Flex, 5> {
    let geometry = Geometry::new(&args, args.weight.kernel());
    let Conv3dArgs { past, x, weight, bias, .. } = args;
    let [batch, _, height, width, cin] = x.dims();
    let inputs: Vec<FlexTensor> = past.into_iter().chain([x]).map(contiguous).collect();
    let (words, bias) = (packed::words(&weight), contiguous(cast(bias, DType::F32)));
    let right = packed::right(&weight, &words);
    let ([t, h, w], [_, cout]) = (geometry.output(), geometry.channels);
    let mut out = vec![0.0; batch * t * h * w * cout];
    for (b, out) in out.chunks_exact_mut(t * h * w * cout).enumerate() {
        let frames = inputs.iter().flat_map(|x| {
            let video = x.layout().shape()[1] * height * width * cin;
            halves(x)[b * video..(b + 1) * video].chunks_exact(height * width * cin)
        });
        let input = bf16::Input { frames: frames.collect(), geometry };
        bf16::convolve(CpuKernel::current(), &input, &right, slice(&bias), out);
    }
    tensor(out, [batch, t, h, w, cout])
}

/// A frame `[H, W, Cin]` as it lies in memory.
#[derive(Clone, Copy)]
enum Frame<'a> {
    F32(&'a [f32]),
    F16(&'a [f16]),
}

/// The frames of one video of a batch, `frame` elements each.
fn frames(x: &FlexTensor, video: usize, frame: usize) -> Vec<Frame<'_>> {
    let count = x.layout().shape()[1];
    let range = video * count * frame..(video + 1) * count * frame;
    match x.as_slice::<f16>() {
        Some(halves) => halves[range].chunks_exact(frame).map(Frame::F16).collect(),
        None => slice(x)[range].chunks_exact(frame).map(Frame::F32).collect(),
    }
}

impl Frame<'_> {
    /// Copies the elements from `start` on.
    fn copy(self, start: usize, out: &mut [f32]) {
        let range = start..start + out.len();
        match self {
            Self::F32(values) => out.copy_from_slice(&values[range]),
            Self::F16(halves) => halves[range].convert_to_f32_slice(out),
        }
    }
}

/// The operands of [`convolve`].
struct Operands<'a> {
    /// Frames before and including this chunk, of one video.
    frames: Vec<Frame<'a>>,
    geometry: Geometry,
    /// `[kt, kh, kw, Cin, Cout]`
    weight: &'a [f32],
    bias: &'a [f32],
}

impl Operands<'_> {
    /// Rows of a frame with zeros around it: where they lie if they lie there so, else in `copy`.
    fn rows<'b>(
        &'b self,
        frame: Frame<'b>,
        first: usize,
        count: usize,
        copy: &'b mut Vec<f32>,
    ) -> &'b [f32] {
        let Geometry { upsample, channels, padding, .. } = self.geometry;
        let pitch = self.geometry.padded()[2] * channels[0];
        if let (Frame::F32(values), false) = (frame, upsample)
            && (padding.height, padding.width) == ([0, 0], [0, 0])
        {
            return &values[first * pitch..(first + count) * pitch];
        }
        copy.resize(count * pitch, 0.0);
        for (i, row) in copy.chunks_exact_mut(pitch).enumerate() {
            self.gather(frame, first + i, row);
        }
        copy
    }

    /// Copies a row of a frame with zeros around it.
    fn gather(&self, frame: Frame, y: usize, row: &mut [f32]) {
        let Geometry { size, upsample, channels: [channels, _], padding, .. } = self.geometry;
        let Some(y) = self.geometry.source_row(y) else { return row.fill(0.0) };
        let (left, row) = row.split_at_mut(padding.width[0] * channels);
        let (row, right) = row.split_at_mut(self.geometry.enlarged()[1] * channels);
        left.fill(0.0);
        right.fill(0.0);
        let start = y * size[1] * channels;
        if !upsample {
            return frame.copy(start, row);
        }
        for (x, pair) in row.chunks_exact_mut(2 * channels).enumerate() {
            let (pixel, again) = pair.split_at_mut(channels);
            frame.copy(start + x * channels, pixel);
            again.copy_from_slice(pixel);
        }
    }
}

/// Convolves one video of a batch into `out` `[T', H', W', Cout]`.
fn convolve(operands: &Operands, out: &mut [f32]) {
    let geometry = &operands.geometry;
    let [_, height, width] = geometry.output();
    let [_, cout] = geometry.channels;
    // Rows of the output in one product: several where positions follow each other in memory.
    let rows = match geometry.stride {
        [_, 1, 1] => {
            let share = height * width * cout / rayon::current_num_threads();
            let block = share.clamp(MIN_BLOCK, BLOCK);
            (block / (geometry.padded()[2] * cout)).clamp(1, height)
        }
        _ => 1,
    };
    out.par_chunks_mut(height * width * cout).enumerate().for_each(|(t, out)| {
        let blocks = out.par_chunks_mut(rows * width * cout).enumerate();
        blocks.for_each_init(Scratch::default, |scratch, (block, out)| {
            convolve_rows(operands, scratch, [t, block * rows], out);
        });
    });
}

/// What a task uses again and again.
#[derive(Default)]
struct Scratch {
    /// Rows of the input.
    rows: Vec<f32>,
    /// Rows of the output with the positions between them.
    block: Vec<f32>,
}

/// The rows from `first` on of the output frame `t`.
fn convolve_rows(
    operands: &Operands,
    scratch: &mut Scratch,
    [t, first]: [usize; 2],
    out: &mut [f32],
) {
    let cout = operands.geometry.channels[1];
    let ([_, _, pitch], [_, _, width]) = (operands.geometry.padded(), operands.geometry.output());
    let Scratch { rows: copy, block } = scratch;
    let rows = out.len() / (width * cout);
    if rows == 1 {
        return add_products(operands, copy, [t, first, rows], out);
    }
    // Positions between the end of a row and the start of the next are computed too, and left out
    // when the rows are copied.
    block.resize(((rows - 1) * pitch + width) * cout, 0.0);
    add_products(operands, copy, [t, first, rows], block);
    let found = block.chunks(pitch * cout);
    for (out, row) in out.chunks_exact_mut(width * cout).zip(found) {
        out.copy_from_slice(&row[..width * cout]);
    }
}

/// Bias and products of all taps for `rows` rows from `first` on of the output frame `t`.
fn add_products(
    operands: &Operands,
    copy: &mut Vec<f32>,
    [t, first, rows]: [usize; 3],
    block: &mut [f32],
) {
    let Geometry {
        channels: [cin, cout], kernel: [kt, kh, kw], stride: [st, sh, sw], padding, ..
    } = operands.geometry;
    let pitch = operands.geometry.padded()[2] * cin;
    let positions = block.len() / cout;
    block.chunks_exact_mut(cout).for_each(|pixel| pixel.copy_from_slice(operands.bias));
    for dt in 0..kt {
        // Frames of padding are zero and add nothing.
        let Some(frame) = (t * st + dt).checked_sub(padding.time) else { continue };
        let frame = operands.frames[frame];
        let inputs = operands.rows(frame, first * sh, (rows - 1) * sh + kh, copy);
        for (dy, inputs) in (0..kh).map(|dy| (dy, &inputs[dy * pitch..])) {
            let taps = (dt * kh + dy) * kw * cin * cout;
            let left = Matrix::rows(inputs, positions, kw * cin, sw * cin);
            let right = Matrix::rows(&operands.weight[taps..], kw * cin, cout, cout);
            multiply(block, cout, Beta::One, 1.0, left, right, Parallelism::None);
        }
    }
}
