//! The kernels in burn tensors, for any backend; and the oracle for every override.

use burn::tensor::activation::softmax;
use burn::tensor::module::conv3d as burn_conv3d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Tensor};

use super::{BurnBackend, Padding};

/// The scores of this many bytes are in memory at a time.
const MAX_SCORE_BYTES: usize = 64 << 20;

pub(super) fn linear<B: BurnBackend, const D: usize>(
    x: Tensor<B, D>,
    weight: Tensor<B, 2>,
    bias: Option<Tensor<B, 1>>,
) -> Tensor<B, D> {
    assert_eq!(x.dtype(), weight.dtype(), "linear: the input and the weight differ in dtype");
    let mut shape = x.dims();
    let [input, output] = weight.dims();
    let rows = shape.iter().product::<usize>() / input;
    shape[D - 1] = output;
    let y = x.reshape([rows, input]).matmul(weight);
    let y = match bias {
        Some(bias) => y + bias.unsqueeze(),
        None => y,
    };
    y.reshape(shape)
}

pub(super) fn attention<B: BurnBackend>(
    q: Tensor<B, 4>,
    k: Tensor<B, 4>,
    v: Tensor<B, 4>,
    bias: Option<Tensor<B, 4>>,
    scale: f64,
) -> Tensor<B, 4> {
    let [batch, heads, rows, _] = q.dims();
    let keys = k.dims()[2];
    let chunk = (MAX_SCORE_BYTES / 4 / (batch * heads * keys)).clamp(1, rows);
    let dtype = q.dtype();
    let k = k.swap_dims(2, 3);
    let attend = |start: usize| {
        let end = (start + chunk).min(rows);
        let scores = (q.clone().slice([0..batch, 0..heads, start..end]) * scale).matmul(k.clone());
        let scores = scores.cast(DType::F32);
        let scores = match &bias {
            None => scores,
            // The bias may be one row for all queries.
            Some(bias) if bias.dims()[2] == 1 => scores + bias.clone(),
            Some(bias) => {
                let [b, h, ..] = bias.dims();
                scores + bias.clone().slice([0..b, 0..h, start..end])
            }
        };
        softmax(scores, 3).cast(dtype).matmul(v.clone())
    };
    let mut chunks: Vec<_> = (0..rows).step_by(chunk).map(attend).collect();
    if chunks.len() == 1 { chunks.remove(0) } else { Tensor::cat(chunks, 2) }
}

pub(super) fn rope<B: BurnBackend>(
    x: Tensor<B, 4>,
    cos: Tensor<B, 2>,
    sin: Tensor<B, 2>,
) -> Tensor<B, 4> {
    let [batch, tokens, heads, width] = x.dims();
    let dtype = x.dtype();
    let pairs = x.cast(DType::F32).reshape([batch, tokens, heads, width / 2, 2]);
    let first = pairs.clone().narrow(4, 0, 1);
    let second = pairs.narrow(4, 1, 1);
    let table = |t: Tensor<B, 2>| t.reshape([1, tokens, 1, width / 2, 1]);
    let (cos, sin) = (table(cos), table(sin));
    let rotated_first = first.clone() * cos.clone() - second.clone() * sin.clone();
    let rotated_second = first * sin + second * cos;
    let rotated = Tensor::cat(vec![rotated_first, rotated_second], 4);
    rotated.reshape([batch, tokens, heads, width]).cast(dtype)
}

pub(super) fn layer_norm<B: BurnBackend>(
    x: Tensor<B, 3>,
    affine: Option<(Tensor<B, 1>, Tensor<B, 1>)>,
    eps: f64,
) -> Tensor<B, 3> {
    let x = x.cast(DType::F32);
    let centred = x.clone() - x.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    let normal = centred / (variance + eps).sqrt();
    match affine {
        Some((weight, bias)) => normal * weight.unsqueeze() + bias.unsqueeze(),
        None => normal,
    }
}

pub(super) fn rms_norm<B: BurnBackend>(
    x: Tensor<B, 3>,
    weight: Tensor<B, 1>,
    eps: f64,
) -> Tensor<B, 3> {
    let x = x.cast(DType::F32);
    let mean_square = (x.clone() * x.clone()).mean_dim(2);
    x / (mean_square + eps).sqrt() * weight.unsqueeze()
}

pub(super) fn channel_norm<B: BurnBackend>(x: Tensor<B, 5>, weight: Tensor<B, 1>) -> Tensor<B, 5> {
    let channels = x.dims()[4];
    let x = x.cast(DType::F32);
    let length = (x.clone() * x.clone()).sum_dim(4).sqrt().clamp_min(1e-12);
    x / length * (weight.unsqueeze() * (channels as f64).sqrt())
}

pub(super) fn conv3d<B: BurnBackend>(
    past: Option<Tensor<B, 5>>,
    x: Tensor<B, 5>,
    weight: Tensor<B, 5>,
    bias: Tensor<B, 1>,
    stride: [usize; 3],
    padding: Padding,
) -> Tensor<B, 5> {
    let x = match past {
        Some(past) => Tensor::cat(vec![past, x], 1),
        None => x,
    };
    let x = pad(x, 1, [padding.time, 0]);
    let x = pad(x, 2, padding.height);
    let x = pad(x, 3, padding.width);
    let options = ConvOptions::new(stride, [0, 0, 0], [1, 1, 1], 1);
    burn_conv3d(x.permute([0, 4, 1, 2, 3]), weight, Some(bias), options).permute([0, 2, 3, 4, 1])
}

/// Zeros before and after one axis.
fn pad<B: BurnBackend>(x: Tensor<B, 5>, axis: usize, amount: [usize; 2]) -> Tensor<B, 5> {
    if amount == [0, 0] {
        return x;
    }
    let zeros = |count: usize| {
        let mut shape = x.dims();
        shape[axis] = count;
        Tensor::zeros(shape, (&x.device(), x.dtype()))
    };
    let mut parts = Vec::new();
    if amount[0] > 0 {
        parts.push(zeros(amount[0]));
    }
    parts.push(x.clone());
    if amount[1] > 0 {
        parts.push(zeros(amount[1]));
    }
    Tensor::cat(parts, axis)
}

pub(super) fn upsample<B: BurnBackend>(x: Tensor<B, 5>) -> Tensor<B, 5> {
    let [batch, frames, height, width, channels] = x.dims();
    let rows = x.reshape([batch * frames * height, 1, width, 1, channels]);
    let doubled = rows.expand([batch * frames * height, 2, width, 2, channels]);
    doubled.reshape([batch, frames, 2 * height, 2 * width, channels])
}
