//! The kernels in burn tensors, for any backend; and the oracle for every override.

use burn::tensor::activation::{silu, softmax};
use burn::tensor::module::conv3d as burn_conv3d;
use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Tensor, TensorData};

use super::{
    AttentionArgs, BurnBackend, ChannelNormArgs, Conv3dArgs, LayerNormArgs, ModulatedNormArgs,
    Padding, RmsNormArgs, RopeArgs,
};

/// How attention is cut into pieces, so that its scores are never in memory as a whole.
///
/// A piece is some heads of some rows of queries against all keys. Its scores take at most the memory
/// that was granted, however many queries there are; a single row of one head always passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionPlan {
    /// Heads at a time.
    pub heads: usize,
    /// Rows of queries at a time.
    pub rows: usize,
}

/// Fewer rows than this make matrix products slow: rather fewer heads at a time.
const GOOD_ROWS: usize = 128;

impl AttentionPlan {
    /// A plan for scores `[batch, heads, queries, keys]` in f32 of which at most `bytes` are in
    /// memory at a time.
    pub fn new([batch, heads, queries, keys]: [usize; 4], bytes: usize) -> Self {
        let row = 4 * batch * keys;
        let all_heads = bytes / (row * heads).max(1);
        if all_heads >= GOOD_ROWS.min(queries) {
            return Self { heads, rows: all_heads.clamp(1, queries.max(1)) };
        }
        let heads_at_a_time = (bytes / (row * GOOD_ROWS.min(queries))).clamp(1, heads);
        let rows = bytes / (row * heads_at_a_time);
        Self { heads: heads_at_a_time, rows: rows.clamp(1, queries) }
    }

    /// The bytes that the scores `[batch, _, _, keys]` of a piece take in f32.
    pub fn score_bytes(&self, batch: usize, keys: usize) -> usize {
        4 * batch * self.heads * self.rows * keys
    }
}

/// The most bytes that the scores of the portable attention take at a time.
pub(super) const MAX_SCORE_BYTES: usize = 64 << 20;

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

/// In f32 throughout, whatever the operands are in.
pub(super) fn attention<B: BurnBackend>(args: AttentionArgs<B>) -> Tensor<B, 4> {
    let AttentionArgs { q, k, v, bias, scale } = args;
    let dtype = q.dtype();
    let [q, k, v] = [q * scale, k, v].map(|x| x.cast(DType::F32));
    let weights = |q: Tensor<B, 4>, k: Tensor<B, 4>, bias: Option<Tensor<B, 4>>| {
        let scores = q.matmul(k);
        softmax(bias.map_or(scores.clone(), |bias| scores + bias), 3)
    };
    let product = |weights: Tensor<B, 4>, v: Tensor<B, 4>| weights.matmul(v);
    attention_in_pieces([q, k, v], bias, MAX_SCORE_BYTES, weights, product).cast(dtype)
}

/// Attention by an [`AttentionPlan`]. `weights` is told queries, transposed keys and bias of a piece
/// and gives the softmax of their scores, which `product` multiplies with the values.
pub(super) fn attention_in_pieces<B: BurnBackend>(
    [q, k, v]: [Tensor<B, 4>; 3],
    bias: Option<Tensor<B, 4>>,
    max_score_bytes: usize,
    weights: impl Fn(Tensor<B, 4>, Tensor<B, 4>, Option<Tensor<B, 4>>) -> Tensor<B, 4>,
    product: impl Fn(Tensor<B, 4>, Tensor<B, 4>) -> Tensor<B, 4>,
) -> Tensor<B, 4> {
    let ([batch, heads, rows, _], keys) = (q.dims(), k.dims()[2]);
    let plan = AttentionPlan::new([batch, heads, rows, keys], max_score_bytes);
    // An axis of 1 of the bias stands for all heads or all rows.
    let part = |x: &Tensor<B, 4>, axis: usize, start: usize, count: usize| match x.dims()[axis] {
        1 => x.clone(),
        _ => x.clone().narrow(axis, start, count),
    };
    let attend_heads = |first: usize| {
        let count = plan.heads.min(heads - first);
        let of_heads = |x: &Tensor<B, 4>| part(x, 1, first, count);
        let (q, k, v) = (of_heads(&q), of_heads(&k).swap_dims(2, 3), of_heads(&v));
        let bias = bias.as_ref().map(of_heads);
        let attend_rows = |start: usize| {
            let count = plan.rows.min(rows - start);
            let bias = bias.as_ref().map(|bias| part(bias, 2, start, count));
            product(weights(part(&q, 2, start, count), k.clone(), bias), v.clone())
        };
        joined((0..rows).step_by(plan.rows).map(attend_rows).collect(), 2)
    };
    joined((0..heads).step_by(plan.heads).map(attend_heads).collect(), 1)
}

/// Parts along an axis; a single one is not copied.
fn joined<B: BurnBackend>(mut parts: Vec<Tensor<B, 4>>, axis: usize) -> Tensor<B, 4> {
    if parts.len() == 1 { parts.remove(0) } else { Tensor::cat(parts, axis) }
}

pub(super) fn rope<B: BurnBackend>(args: RopeArgs<B>) -> Tensor<B, 4> {
    let RopeArgs { x, cos, sin, dtype } = args;
    let [batch, tokens, heads, width] = x.dims();
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

pub(super) fn layer_norm<B: BurnBackend>(args: LayerNormArgs<B>) -> Tensor<B, 3> {
    let LayerNormArgs { x, affine, eps, dtype } = args;
    let normal = normalised(x, eps);
    let y = match affine {
        Some((weight, bias)) => normal * weight.unsqueeze() + bias.unsqueeze(),
        None => normal,
    };
    y.cast(dtype)
}

/// `(x - mean) / sqrt(var + eps)` in f32.
fn normalised<B: BurnBackend>(x: Tensor<B, 3>, eps: f64) -> Tensor<B, 3> {
    let x = x.cast(DType::F32);
    let centred = x.clone() - x.mean_dim(2);
    let variance = (centred.clone() * centred.clone()).mean_dim(2);
    centred / (variance + eps).sqrt()
}

pub(super) fn rms_norm<B: BurnBackend>(args: RmsNormArgs<B>) -> Tensor<B, 3> {
    let RmsNormArgs { x, weight, eps, dtype } = args;
    let x = x.cast(DType::F32);
    let mean_square = (x.clone() * x.clone()).mean_dim(2);
    (x / (mean_square + eps).sqrt() * weight.unsqueeze()).cast(dtype)
}

pub(super) fn modulated_norm<B: BurnBackend>(args: ModulatedNormArgs<B>) -> Tensor<B, 3> {
    let ModulatedNormArgs { x, shift, scale, eps, dtype } = args;
    (normalised(x, eps) * (scale + 1.0) + shift).cast(dtype)
}

pub(super) fn gated_residual<B: BurnBackend>(
    x: Tensor<B, 3>,
    y: Tensor<B, 3>,
    gate: Tensor<B, 3>,
) -> Tensor<B, 3> {
    x + y.cast(DType::F32) * gate
}

pub(super) fn channel_norm<B: BurnBackend>(args: ChannelNormArgs<B>) -> Tensor<B, 5> {
    let ChannelNormArgs { x, weight, silu: is_activated, dtype } = args;
    let channels = x.dims()[4];
    let x = x.cast(DType::F32);
    let length = (x.clone() * x.clone()).sum_dim(4).sqrt().clamp_min(1e-12);
    let y = x / length * (weight.unsqueeze() * (channels as f64).sqrt());
    if is_activated { silu(y).cast(dtype) } else { y.cast(dtype) }
}

pub(super) fn is_finite<B: BurnBackend, const D: usize>(x: Tensor<B, D>) -> bool {
    host(x).iter().all(|value| value.is_finite())
}

pub(super) fn sum<B: BurnBackend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, 1> {
    let device = x.device();
    let sum: f64 = host(x).into_iter().map(f64::from).sum();
    Tensor::from_data(TensorData::new(vec![sum as f32], [1]), (&device, DType::F32))
}

pub(super) fn rgb<B: BurnBackend>(frames: Tensor<B, 5>) -> Vec<u8> {
    let values = host(frames.permute([0, 2, 3, 4, 1]));
    values.into_iter().map(|value| ((value + 1.0) / 2.0 * 255.0) as u8).collect()
}

fn host<B: BurnBackend, const D: usize>(x: Tensor<B, D>) -> Vec<f32> {
    let data = x.into_data().convert::<f32>();
    data.into_vec().expect("the data was converted to f32")
}

pub(super) fn conv3d<B: BurnBackend>(args: Conv3dArgs<B>) -> Tensor<B, 5> {
    let Conv3dArgs { past, x, weight, bias, stride, padding, upsample } = args;
    let x = frames(past, x, upsample, padding).permute([0, 4, 1, 2, 3]);
    let options = ConvOptions::new(stride, [0, 0, 0], [1, 1, 1], 1);
    burn_conv3d(x, weight, Some(bias), options).permute([0, 2, 3, 4, 1])
}

/// The frames that a convolution sees.
pub(super) fn frames<B: BurnBackend>(
    past: Vec<Tensor<B, 5>>,
    x: Tensor<B, 5>,
    doubles: bool,
    padding: Padding,
) -> Tensor<B, 5> {
    let dtype = x.dtype();
    let x = match past.is_empty() {
        true => x,
        false => Tensor::cat(past.into_iter().map(|x| x.cast(dtype)).chain([x]).collect(), 1),
    };
    let x = if doubles { upsample(x) } else { x };
    let x = pad(x, 1, [padding.time, 0]);
    let x = pad(x, 2, padding.height);
    pad(x, 3, padding.width)
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

/// Doubles height and width by repeating each pixel.
fn upsample<B: BurnBackend>(x: Tensor<B, 5>) -> Tensor<B, 5> {
    let [batch, frames, height, width, channels] = x.dims();
    let rows = x.reshape([batch * frames * height, 1, width, 1, channels]);
    let doubled = rows.expand([batch * frames * height, 2, width, 2, channels]);
    doubled.reshape([batch, frames, 2 * height, 2 * width, channels])
}
