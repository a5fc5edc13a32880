//! Causal convolutions: products over the pixels that the taps see, piece by piece, where these suit the device and
//! the channels, else burn's kernels.

use std::ops::Range;

use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Tensor};
use burn_cubecl::BoolElement;
use burn_cubecl::kernel::conv::{ConvStrategy, conv_forward};
use burn_cubecl::ops::numeric::empty_device_contiguous_dtype;
use burn_cubecl::tensor::CubeTensor;
use cubecl::prelude::*;
use cubek::convolution::components::ConvSetupError;
use cubek::convolution::{
    AcceleratedTileKind, ConvAlgorithm, ConvolutionArgs, ConvolutionInputs, Strategy, launch_ref,
};
use cubek::matmul::definition::{MatmulElems, MatmulGlobalElems};
use cubek::std::InputBinding;

use super::launch::{address_type, contiguous, one_each, storage};
use super::linear::{has_matrix_units, matmul, rounds_to_tf32};
use super::{Cube, Devices, raw, tensor};
use crate::backend::geometry::Geometry;
use crate::backend::{Conv3dArgs, portable};

/// What the pixels that the taps see may take at a time.
const MAX_UNFOLDED_BYTES: usize = 64 << 20;

/// The least channels of the output for which products are faster than a convolution without matrix units: fewer fill
/// no tile of a product.
const MIN_OUTPUTS: usize = 64;

pub(super) fn conv3d<R: Devices, BT: BoolElement>(
    args: Conv3dArgs<Cube<R, BT>>,
) -> Tensor<Cube<R, BT>, 5> {
    match suits_products(&args.weight) {
        true => by_products(args),
        false => by_burn(args),
    }
}

fn suits_products<R: Devices, BT: BoolElement>(weight: &Tensor<Cube<R, BT>, 5>) -> bool {
    weight.dims()[0] >= MIN_OUTPUTS && !has_matrix_units(&raw(weight.clone()))
}

/// Puts a kernel `[Cout, Cin, kt, kh, kw]` in the order in which it is multiplied with: a view of its shape stays.
pub(super) fn kernel<R: Devices, BT: BoolElement>(
    weight: Tensor<Cube<R, BT>, 5>,
) -> Tensor<Cube<R, BT>, 5> {
    if !suits_products(&weight) {
        return weight;
    }
    let taps: Tensor<Cube<R, BT>, 5> = tensor(contiguous(raw(weight.permute([2, 3, 4, 1, 0]))));
    taps.permute([4, 3, 0, 1, 2])
}

/// burn's convolution, by the kernel that suits the device.
fn by_burn<R: Devices, BT: BoolElement>(args: Conv3dArgs<Cube<R, BT>>) -> Tensor<Cube<R, BT>, 5> {
    let Conv3dArgs { past, x, weight, bias, stride, padding, upsample } = args;
    let frames = portable::frames(past, x, upsample, padding).permute([0, 4, 1, 2, 3]);
    let options = ConvOptions::new(stride, [0, 0, 0], [1, 1, 1], 1);
    let dtype = frames.dtype();
    if rounds_to_tf32(&raw(frames.clone())) {
        let nhwc = |x: Tensor<Cube<R, BT>, 5>| raw(x.permute([0, 2, 3, 4, 1]));
        let (frames, weight) = (nhwc(frames.clone()), contiguous(nhwc(weight.clone())));
        match on_matrix_units(frames, weight, raw(bias.clone()), stride) {
            Ok(out) => return tensor(out),
            Err(error) => tracing::debug!("a convolution is left to burn: {error:?}"),
        }
    }
    let (strategy, computed) = match (has_matrix_units(&raw(frames.clone())), dtype) {
        // Of the kernels for bf16 some are wrong.
        (true, DType::BF16) => (ConvStrategy::Autotune, DType::F32),
        (true, _) => (ConvStrategy::Autotune, dtype),
        // One kernel is left, and it sums up in the dtype of its operands: thousands of products.
        (false, _) => (ConvStrategy::Direct, DType::F32),
    };
    let [frames, weight] = [frames, weight].map(|x| raw(x.cast(computed)));
    let bias = raw(bias.cast(computed));
    let out = conv_forward(frames, weight, Some(bias), options, strategy);
    let out: Tensor<Cube<R, BT>, 5> = tensor(out.expect("frames and a kernel that fit each other"));
    out.cast(dtype).permute([0, 2, 3, 4, 1])
}

/// burn's convolution of frames `[B, T, H, W, Cin]` with a kernel `[Cout, kt, kh, kw, Cin]`, to which nothing is padded.
///
/// Always the same kernel, for NVIDIA's matrix units: burn would compile and measure all that it has for each shape,
/// and of those for 16 bits take one that is wrong (those of `Mma`: on an H200, by more than the largest value).
fn on_matrix_units<R: Devices>(
    frames: CubeTensor<R>,
    weight: CubeTensor<R>,
    bias: CubeTensor<R>,
    stride: [usize; 3],
) -> Result<CubeTensor<R>, ConvSetupError> {
    let ([batch, t, h, w, _], [outputs, kt, kh, kw, _]) =
        (frames.meta.shape().dims(), weight.meta.shape().dims());
    let size = |size: usize, kernel: usize, stride: usize| (size - kernel) / stride + 1;
    let shape =
        [batch, size(t, kt, stride[0]), size(h, kh, stride[1]), size(w, kw, stride[2]), outputs];
    let (client, dtype) = (frames.client.clone(), frames.dtype);
    let device = frames.device.clone();
    let out = empty_device_contiguous_dtype(client.clone(), device, shape.into(), dtype);
    let (algorithm, tile_kind) = match dtype {
        DType::F32 => (ConvAlgorithm::SimpleSyncStrided, AcceleratedTileKind::Mma),
        _ => (ConvAlgorithm::SimpleSyncCyclic, AcceleratedTileKind::Cmma),
    };
    let operand = |x: CubeTensor<R>| {
        let dtype = x.dtype.into();
        InputBinding::new(x.binding(), dtype)
    };
    let elements = MatmulGlobalElems { lhs: dtype.into(), rhs: dtype.into(), out: dtype.into() };
    let inputs = ConvolutionInputs::Forward {
        input: operand(frames),
        weight: operand(weight),
        bias: Some(operand(bias)),
        out: out.clone().binding(),
    };
    let args = ConvolutionArgs { stride, padding: [0; 3], dilation: [1; 3] };
    let elements = MatmulElems::from_globals(&elements);
    let strategy = Strategy::Inferred { algorithm, tile_kind };
    launch_ref::<R, 3>(&strategy, &client, inputs, args, elements)?;
    Ok(out)
}

/// For some rows of an output frame at a time, what the taps see of each pixel is put in a row, and one product
/// multiplies these rows with the kernel. Nothing is padded, enlarged or joined before.
fn by_products<R: Devices, BT: BoolElement>(
    args: Conv3dArgs<Cube<R, BT>>,
) -> Tensor<Cube<R, BT>, 5> {
    let geometry = Geometry::new(&args, args.weight.dims());
    let Conv3dArgs { past, x, weight, bias, .. } = args;
    let ([batch, ..], dtype) = (x.dims(), x.dtype());
    let ([frames, height, width], [cin, cout]) = (geometry.output(), geometry.channels);
    let [kt, kh, kw] = geometry.kernel;
    let matrix = weight.permute([2, 3, 4, 1, 0]).reshape([kt * kh * kw * cin, cout]);
    let inputs = past.into_iter().chain([x]).map(|x| contiguous(raw(x)));
    let inputs: Vec<CubeTensor<R>> = inputs.collect();
    let row = width * kt * kh * kw * cin * dtype.size();
    let rows = (MAX_UNFOLDED_BYTES / row).clamp(1, height);
    let mut pieces: Vec<Tensor<Cube<R, BT>, 2>> = Vec::new();
    for (video, t) in (0..batch).flat_map(|b| (0..frames).map(move |t| (b, t))) {
        // Frames of padding are zero and add nothing; all are in front.
        let (start, padded) = (t * geometry.stride[0], geometry.padding.time);
        let missing = padded.saturating_sub(start).min(kt);
        let seen = start + missing - padded..start + kt - padded;
        let depth = seen.len() * kh * kw * cin;
        let matrix = matrix.clone().narrow(0, missing * kh * kw * cin, depth);
        for first in (0..height).step_by(rows) {
            let piece = Piece { geometry, first, rows: rows.min(height - first) };
            let unfolded = piece.unfold(&inputs, video, seen.clone(), dtype);
            pieces.push(tensor(matmul(unfolded, raw(matrix.clone()), DType::F32)));
        }
    }
    let out = if pieces.len() == 1 { pieces.remove(0) } else { Tensor::cat(pieces, 0) };
    let out = out + bias.cast(DType::F32).unsqueeze();
    out.cast(dtype).reshape([batch, frames, height, width, cout])
}

/// Some rows of an output frame.
struct Piece {
    geometry: Geometry,
    first: usize,
    rows: usize,
}

impl Piece {
    /// `[pixels, frames * kh * kw * Cin]`: what the taps see of the frames `seen` of a video.
    fn unfold<R: Devices>(
        &self,
        inputs: &[CubeTensor<R>],
        video: usize,
        seen: Range<usize>,
        dtype: DType,
    ) -> CubeTensor<R> {
        let Geometry { size, channels: [cin, _], kernel: [_, kh, kw], stride, padding, .. } =
            self.geometry;
        let (x, [_, _, width]) = (&inputs[0], self.geometry.output());
        let (pixels, of_frame) = (self.rows * width, kh * kw * cin);
        let depth = seen.len() * of_frame;
        let (client, device) = (x.client.clone(), x.device.clone());
        let shape = [pixels, depth].into();
        let out = empty_device_contiguous_dtype(client.clone(), device, shape, dtype);
        let count = pixels * of_frame;
        for (i, frame) in seen.enumerate() {
            let (x, frame) = find(inputs, frame);
            let [_, frames, ..] = x.meta.shape().dims::<5>();
            let (cubes, dim) = one_each(&client, count);
            let types = [storage(x), storage(&out)];
            // SAFETY: positions are compared with the number of elements that are written, and those that are
            // read with the size of the frame.
            #[allow(unsafe_code)]
            unsafe {
                unfold_kernel::launch_unchecked(
                    &client,
                    cubes,
                    dim,
                    address_type(&[x, &out]),
                    x.clone().into_array_arg(),
                    out.clone().into_array_arg(),
                    count,
                    (video * frames + frame) * size[0] * size[1] * cin,
                    size[0],
                    size[1],
                    cin,
                    self.first,
                    width,
                    of_frame,
                    depth,
                    i * of_frame,
                    kw,
                    stride[1],
                    stride[2],
                    padding.height[0],
                    padding.width[0],
                    if self.geometry.upsample { 2 } else { 1 },
                    types,
                );
            }
        }
        out
    }
}

/// The tensor that has a frame, and which of its frames it is.
fn find<R: Devices>(inputs: &[CubeTensor<R>], mut frame: usize) -> (&CubeTensor<R>, usize) {
    for x in inputs {
        let [_, frames, ..] = x.meta.shape().dims::<5>();
        if frame < frames {
            return (x, frame);
        }
        frame -= frames;
    }
    unreachable!("the output has a frame for each that is seen")
}

/// `count` elements of rows of `depth`, from the column `column` on: the channels of the `of_frame / channels` pixels
/// that an output pixel sees in the frame which begins at `frame`. `factor` is how often a pixel stands in a row.
#[cube(launch_unchecked, address_type = "dynamic")]
fn unfold_kernel<I: Float, O: Float>(
    x: &Array<I>,
    out: &mut Array<O>,
    count: usize,
    frame: usize,
    rows: usize,
    columns: usize,
    channels: usize,
    first: usize,
    width: usize,
    of_frame: usize,
    depth: usize,
    column: usize,
    kernel_width: usize,
    stride_down: usize,
    stride_right: usize,
    above: usize,
    left: usize,
    #[comptime] factor: usize,
    #[define(I, O)] _types: [StorageType; 2],
) {
    if ABSOLUTE_POS >= count {
        terminate!();
    }
    let (pixel, seen) = (ABSOLUTE_POS / of_frame, ABSOLUTE_POS % of_frame);
    let (tap, channel) = (seen / channels, seen % channels);
    // Counted from the first row and column of padding.
    let row = (first + pixel / width) * stride_down + tap / kernel_width;
    let place = pixel % width * stride_right + tap % kernel_width;
    let is_inside = row >= above
        && row < above + factor * rows
        && place >= left
        && place < left + factor * columns;
    let mut value = O::from_int(0);
    if is_inside {
        let (row, place) = ((row - above) / factor, (place - left) / factor);
        value = O::cast_from(x[frame + (row * columns + place) * channels + channel]);
    }
    out[pixel * depth + column + seen] = value;
}
