//! The kernels of each backend against the portable ones (on NdArray), on shapes with odd sizes,
//! broadcast axes and operands that are views.
#![cfg(all(feature = "flex", feature = "ndarray"))]

use burn::backend::{Flex, NdArray};
use burn::tensor::{DType, Tensor, TensorData};
use wan_core::backend::{
    AttentionArgs, ChannelNormArgs, Conv3dArgs, LayerNormArgs, ModulatedNormArgs, Padding,
    RmsNormArgs, RopeArgs,
};
use wan_core::noise::TorchGenerator;
use wan_core::{Backend, BurnBackend};

type Oracle = NdArray<f32>;

/// The same random numbers on both backends.
struct Random(TorchGenerator);

impl Random {
    fn new(seed: u64) -> Self {
        Self(TorchGenerator::new(seed))
    }

    fn pair<B: Backend, const D: usize>(
        &mut self,
        shape: [usize; D],
    ) -> (Tensor<B, D>, Tensor<Oracle, D>) {
        let data = TensorData::new(self.0.randn(shape.iter().product()), shape);
        (on(&data), on(&data))
    }
}

fn on<B: Backend, const D: usize>(data: &TensorData) -> Tensor<B, D> {
    Tensor::from_data(data.clone(), (&B::open_device(0).unwrap(), DType::F32))
}

fn assert_close<B: Backend, const D: usize>(
    what: &str,
    ours: Tensor<B, D>,
    theirs: Tensor<Oracle, D>,
) {
    assert_within(what, ours, theirs, 2e-5);
}

fn assert_within<B: Backend, const D: usize>(
    what: &str,
    ours: Tensor<B, D>,
    theirs: Tensor<Oracle, D>,
    tolerance: f32,
) {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    let (ours, theirs) = (values(ours), values(theirs));
    for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
        let close = (a - b).abs() <= tolerance * (1.0 + b.abs());
        assert!(close, "{what}: {a} instead of {b} at {i}");
    }
}

fn values<B: Backend, const D: usize>(x: Tensor<B, D>) -> Vec<f32> {
    x.into_data().convert::<f32>().into_vec().unwrap()
}

/// One test a backend for each of the functions, which are generic over it.
macro_rules! on_each_backend {
    ($($test:ident)*) => {
        mod flex {
            $(#[test] fn $test() { crate::$test::<burn::backend::Flex>(); })*
        }
        #[cfg(feature = "wgpu")]
        mod wgpu {
            use wan_core::backend::Wgpu;
            $(#[test] fn $test() { if crate::is_there::<Wgpu>("WAN_REQUIRE_WGPU") { crate::$test::<Wgpu>(); } })*
        }
        #[cfg(feature = "cuda")]
        mod cuda {
            use wan_core::backend::Cuda;
            $(#[test] fn $test() { if crate::is_there::<Cuda>("WAN_REQUIRE_CUDA") { crate::$test::<Cuda>(); } })*
        }
    };
}

on_each_backend! {
    linear
    attention
    attention_in_chunks
    a_repeated_key_is_one_key_with_a_bias
    rows
    frames
    convolution
    convolution_in_pieces
    what_is_not_finite_is_seen
    sums
    pixels
    halved_past
    half_precision
    packed
}

/// Whether a device of the backend is there. If not, the test says so and skips; with the variable
/// `required` set to 1 that is a failure.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn is_there<B: Backend>(required: &str) -> bool {
    match B::open_device(0) {
        Ok(_) => true,
        Err(error) if std::env::var(required).is_ok_and(|value| value == "1") => {
            panic!("{required} is set, but {error}")
        }
        Err(error) => {
            println!("skipped: {error}");
            false
        }
    }
}

fn linear<B: Backend>() {
    let mut random = Random::new(1);
    for [rows, inputs, outputs] in [[1, 1, 1], [3, 7, 5], [130, 96, 33], [512, 128, 256]] {
        let (x, x_oracle) = random.pair([2, rows, inputs]);
        let (w, w_oracle) = random.pair([outputs, inputs]);
        let (b, b_oracle) = random.pair([outputs]);
        let (w, w_oracle) = (B::wan_linear_weight(w), Oracle::wan_linear_weight(w_oracle));
        let what = format!("linear {rows} {inputs} {outputs}");
        let scale = (inputs as f64).sqrt();
        let ours = B::wan_linear(x.clone(), w.clone(), Some(b)) / scale;
        let theirs = Oracle::wan_linear(x_oracle.clone(), w_oracle.clone(), Some(b_oracle)) / scale;
        assert_close(&what, ours, theirs);
        let ours = B::wan_linear(x, w, None) / scale;
        assert_close(&what, ours, Oracle::wan_linear(x_oracle, w_oracle, None) / scale);
    }
}

fn attention<B: Backend>() {
    let mut random = Random::new(2);
    // Queries, keys: one, fewer and more than a tile or a block of keys.
    for [queries, keys] in [[1, 1], [5, 3], [64, 512], [77, 513], [400, 1100]] {
        let (heads, width) = (3, 20);
        // Heads between rows, as a model has them.
        let mut operand = |rows| {
            let (ours, theirs) = random.pair([2, rows, heads, width]);
            (ours.swap_dims(1, 2), theirs.swap_dims(1, 2))
        };
        let ((q, q_oracle), (k, k_oracle), (v, v_oracle)) =
            (operand(queries), operand(keys), operand(keys));
        for bias in
            [None, Some([1, 1, 1, keys]), Some([1, heads, queries, keys]), Some([2, 1, 1, keys])]
        {
            let (bias, bias_oracle) = bias.map(|shape| random.pair(shape)).unzip();
            let what = format!("attention {queries} {keys} {bias:?}");
            let ours = AttentionArgs::new(q.clone(), k.clone(), v.clone(), 0.3).bias(bias);
            let (q, k, v) = (q_oracle.clone(), k_oracle.clone(), v_oracle.clone());
            let theirs = AttentionArgs::new(q, k, v, 0.3).bias(bias_oracle);
            assert_close(&what, B::wan_attention(ours), Oracle::wan_attention(theirs));
        }
    }
}

/// The portable form in chunks of queries is the same as at once.
fn attention_in_chunks<B: Backend>() {
    let mut random = Random::new(3);
    // 64 MiB of scores are 4096 x 4096: this has more than one chunk.
    let rows = 4500;
    let ((q, q_oracle), (k, k_oracle)) =
        (random.pair([1, 1, rows, 8]), random.pair([1, 1, rows, 8]));
    let ours = AttentionArgs::new(q, k.clone(), k, 0.35);
    let theirs = AttentionArgs::new(q_oracle, k_oracle.clone(), k_oracle, 0.35);
    assert_close("chunks", B::wan_attention(ours), Oracle::wan_attention(theirs));
}

/// A last key with a bias of `ln(n)` is the same as that key n times.
fn a_repeated_key_is_one_key_with_a_bias<B: Backend>() {
    let mut random = Random::new(4);
    let ((q, _), (k, _), (v, _)) =
        (random.pair([1, 2, 9, 8]), random.pair([1, 2, 4, 8]), random.pair([1, 2, 4, 8]));
    let repeats = 509;
    let repeat = |t: &Tensor<B, 4>| {
        let last = t.clone().narrow(2, 3, 1).expand([1, 2, repeats - 1, 8]);
        Tensor::cat(vec![t.clone(), last], 2)
    };
    let all = B::wan_attention(AttentionArgs::new(q.clone(), repeat(&k), repeat(&v), 0.4));
    let bias = TensorData::new(vec![0.0, 0.0, 0.0, (repeats as f32).ln()], [1, 1, 1, 4]);
    let one = B::wan_attention(AttentionArgs::new(q, k, v, 0.4).bias(on(&bias)));
    let difference = values((all - one).abs().max())[0];
    // The sum of 509 equal weights is rounded 509 times, the one weight once.
    assert!(difference < 3e-5, "{difference}");
}

fn rows<B: Backend>() {
    let mut random = Random::new(5);
    for [tokens, heads, half] in [[1, 1, 1], [7, 3, 5], [130, 4, 24], [33, 12, 64]] {
        let width = heads * half * 2;
        let what = format!("rows {tokens} {heads} {half}");
        let (x, x_oracle) = random.pair([2, tokens, width]);
        let (w, w_oracle) = random.pair([width]);
        let (b, b_oracle) = random.pair([width]);
        let ours = LayerNormArgs::new(x.clone() + 3.0, 1e-5).affine((w.clone(), b));
        let theirs = LayerNormArgs::new(x_oracle.clone() + 3.0, 1e-5);
        let theirs = theirs.affine((w_oracle.clone(), b_oracle));
        assert_close(&what, B::wan_layer_norm(ours), Oracle::wan_layer_norm(theirs));
        let ours = LayerNormArgs::new(x.clone(), 1e-6);
        let theirs = LayerNormArgs::new(x_oracle.clone(), 1e-6);
        assert_close(&what, B::wan_layer_norm(ours), Oracle::wan_layer_norm(theirs));
        let ours = RmsNormArgs::new(x.clone(), w, 1e-6);
        let theirs = RmsNormArgs::new(x_oracle.clone(), w_oracle, 1e-6);
        assert_close(&what, B::wan_rms_norm(ours), Oracle::wan_rms_norm(theirs));
        assert_close(&what, B::wan_gelu(x.clone() * 3.0), Oracle::wan_gelu(x_oracle.clone() * 3.0));

        // One modulation a sample, as rows of a larger tensor; and one a token.
        for rows in [1, tokens] {
            let (m, m_oracle) = random.pair([2, 3 * rows, width]);
            let ours: [_; 3] = std::array::from_fn(|i| m.clone().narrow(1, i * rows, rows));
            let theirs: [_; 3] =
                std::array::from_fn(|i| m_oracle.clone().narrow(1, i * rows, rows));
            let ([shift, scale, gate], [shift_oracle, scale_oracle, gate_oracle]) = (ours, theirs);
            let ours = ModulatedNormArgs::new(x.clone(), shift, scale, 1e-6);
            let theirs = ModulatedNormArgs::new(x_oracle.clone(), shift_oracle, scale_oracle, 1e-6);
            let (ours, theirs) = (B::wan_modulated_norm(ours), Oracle::wan_modulated_norm(theirs));
            assert_close(&what, ours.clone(), theirs.clone());
            let ours = B::wan_gated_residual(x.clone(), ours, gate);
            assert_close(
                &what,
                ours,
                Oracle::wan_gated_residual(x_oracle.clone(), theirs, gate_oracle),
            );
        }

        let (cos, cos_oracle) = random.pair([tokens, half]);
        let (sin, sin_oracle) = random.pair([tokens, half]);
        let shape = [2, tokens, heads, 2 * half];
        let ours = RopeArgs::new(x.reshape(shape), cos, sin);
        let theirs = RopeArgs::new(x_oracle.reshape(shape), cos_oracle, sin_oracle);
        assert_close(&what, B::wan_rope(ours), Oracle::wan_rope(theirs));
    }
}

fn sums<B: Backend>() {
    for count in [1, 1000, 100_003] {
        let (x, x_oracle) = Random::new(8).pair::<B, 1>([count]);
        let (ours, theirs) =
            (B::wan_sum(x.clone() * x), Oracle::wan_sum(x_oracle.clone() * x_oracle));
        let [ours, theirs] = [values(ours)[0], values(theirs)[0]];
        assert!((ours - theirs).abs() < 1e-5 * theirs, "{count}: {ours} instead of {theirs}");
    }
}

fn frames<B: Backend>() {
    let mut random = Random::new(6);
    for channels in [1, 3, 16, 40] {
        let what = format!("frames with {channels} channels");
        let (x, x_oracle) = random.pair([2, 3, 5, 7, channels]);
        let (w, w_oracle) = random.pair([channels]);
        for silu in [false, true] {
            let ours = ChannelNormArgs::new(x.clone(), w.clone()).silu(silu);
            let theirs = ChannelNormArgs::new(x_oracle.clone(), w_oracle.clone()).silu(silu);
            assert_close(&what, B::wan_channel_norm(ours), Oracle::wan_channel_norm(theirs));
        }
    }
    // A pixel of zeros stays zero.
    let device = B::open_device(0).unwrap();
    let zeros: Tensor<B, 5> = Tensor::zeros([1, 1, 1, 1, 4], (&device, DType::F32));
    let ones: Tensor<B, 1> = Tensor::ones([4], (&device, DType::F32));
    let args = ChannelNormArgs::new(zeros, ones).silu(true);
    assert_eq!(values(B::wan_channel_norm(args)), [0.0; 4]);
}

fn convolution<B: Backend>() {
    let around = [1, 1];
    let causal = |time| Padding { time, height: around, width: around };
    let behind = Padding { time: 0, height: [0, 1], width: [0, 1] };
    // Kernel, stride, padding, frames before, and whether the frames are enlarged first.
    let cases = [
        ([3, 3, 3], [1, 1, 1], causal(2), 0, false),
        ([3, 3, 3], [1, 1, 1], causal(1), 1, false),
        ([3, 3, 3], [1, 1, 1], causal(0), 2, false),
        ([1, 3, 3], [1, 1, 1], causal(0), 0, false),
        ([1, 3, 3], [1, 1, 1], causal(0), 0, true),
        ([3, 3, 3], [1, 1, 1], causal(1), 1, true),
        ([1, 1, 1], [1, 1, 1], Padding::default(), 0, true),
        ([1, 3, 3], [1, 1, 1], Padding::default(), 0, false),
        ([1, 3, 3], [1, 2, 2], behind, 0, false),
        ([3, 1, 1], [2, 1, 1], Padding::default(), 1, false),
        ([3, 1, 1], [1, 1, 1], Padding { time: 2, ..Padding::default() }, 0, false),
    ];
    let mut random = Random::new(7);
    for (kernel, stride, padding, before, upsample) in cases {
        for ([height, width], [cin, cout]) in
            [([3, 4], [3, 5]), ([9, 13], [16, 4]), ([40, 70], [8, 33]), ([9, 13], [5, 70])]
        {
            let [kt, kh, kw] = kernel;
            let what = format!(
                "conv {kernel:?} {stride:?} {padding:?} {upsample} {height}x{width} {cin} {cout}"
            );
            let (x, x_oracle) = random.pair([2, 4, height, width, cin]);
            let (w, w_oracle) = random.pair([cout, cin, kt, kh, kw]);
            let (b, b_oracle) = random.pair([cout]);
            // Frames of their own, or several in a tensor.
            let past = (0..before).map(|_| random.pair([2, 1, height, width, cin]));
            let (past, past_oracle): (Vec<_>, Vec<_>) = past.unzip();
            let past_oracle = (before > 0).then(|| Tensor::cat(past_oracle, 1));
            let (w, w_oracle) = (B::wan_conv3d_weight(w), Oracle::wan_conv3d_weight(w_oracle));
            let scale = ((cin * kt * kh * kw) as f64).sqrt();
            let ours = Conv3dArgs::new(x, w, b).past(past).stride(stride).padding(padding);
            let theirs = Conv3dArgs::new(x_oracle, w_oracle, b_oracle).past(past_oracle);
            let theirs = theirs.stride(stride).padding(padding).upsample(upsample);
            let ours = ours.upsample(upsample);
            let (ours, theirs) = (B::wan_conv3d(ours), Oracle::wan_conv3d(theirs));
            assert_close(&what, ours / scale, theirs / scale);
        }
    }
}

/// So large that what its taps see does not fit a device's memory at once, or nearly so.
fn convolution_in_pieces<B: Backend>() {
    let mut random = Random::new(8);
    let (x, x_oracle) = random.pair([1, 1, 300, 500, 8]);
    let (w, w_oracle) = random.pair([64, 8, 3, 3, 3]);
    let (b, b_oracle) = random.pair([64]);
    let (w, w_oracle) = (B::wan_conv3d_weight(w), Oracle::wan_conv3d_weight(w_oracle));
    let (past, past_oracle) = random.pair([1, 2, 300, 500, 8]);
    let padding = Padding { time: 0, height: [1, 1], width: [1, 1] };
    let ours = Conv3dArgs::new(x, w, b).past([past]).padding(padding);
    let theirs = Conv3dArgs::new(x_oracle, w_oracle, b_oracle).past([past_oracle]);
    let theirs = theirs.padding(padding);
    assert_close("in pieces", B::wan_conv3d(ours) / 20.0, Oracle::wan_conv3d(theirs) / 20.0);
}

fn what_is_not_finite_is_seen<B: Backend>() {
    let device = B::open_device(0).unwrap();
    let with = |count: usize, found: Option<(usize, f32)>| {
        let mut values = TorchGenerator::new(0).randn(count);
        values[0] = f32::MAX;
        if let Some((at, value)) = found {
            values[at] = value;
        }
        let data = TensorData::new(values, [1, count / 7, 7]);
        Tensor::<B, 3>::from_data(data, (&device, DType::F32))
    };
    for count in [7, 700, 70_007] {
        assert!(B::wan_is_finite(with(count, None)), "{count}");
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, count / 2, count - 1] {
                let x = with(count, Some((at, value)));
                assert!(!B::wan_is_finite(x.clone()), "{value} at {at} of {count}");
                assert!(!B::wan_is_finite(x.swap_dims(1, 2)), "{value} at {at} of {count}");
            }
        }
    }
}

fn pixels<B: Backend>() {
    let device = B::open_device(0).unwrap();
    // Frames of a number of bytes that is no multiple of four, channels last in memory as the VAE leaves them.
    let shape = [1, 3, 5, 7, 3];
    let values: Vec<f32> = (0..315).map(|i| -1.0 + 2.0 * i as f32 / 314.0).collect();
    let x = Tensor::<B, 5>::from_data(TensorData::new(values, shape), (&device, DType::F32));
    let found = B::wan_rgb(x.clone().permute([0, 4, 1, 2, 3]));
    let expected: Vec<u8> = (0..315).map(|i| (255.0 * f64::from(i) / 314.0) as u8).collect();
    assert_eq!(found.len(), 315);
    let near = |(found, expected): (&u8, &u8)| found.abs_diff(*expected) <= 1;
    assert!(found.iter().zip(&expected).all(near), "{found:?}");
    assert_eq!((found[0], found[314]), (0, 255));
}

/// Frames of the past in f16, as the VAE can remember them.
fn halved_past<B: Backend>() {
    let device = B::open_device(0).unwrap();
    if !B::supports_dtype(&device, DType::F16) {
        println!("{} has no f16", B::name(&device));
        return;
    }
    let mut random = Random::new(9);
    let (x, x_oracle) = random.pair([2, 1, 9, 13, 16]);
    let (w, w_oracle) = random.pair([4, 16, 3, 3, 3]);
    let (b, b_oracle) = random.pair([4]);
    let (past, past_oracle) = random.pair([2, 2, 9, 13, 16]);
    let past = B::wan_cast(past, DType::F16);
    assert_eq!(past.dtype(), DType::F16);
    let rounded = values(past.clone().cast(DType::F32));
    let exact = values(past_oracle);
    let near = |(a, b): (&f32, &f32)| (a - b).abs() <= b.abs() / 2048.0 + 1e-7;
    assert!(rounded.iter().zip(&exact).all(near));
    let rounded = TensorData::new(rounded, [2, 2, 9, 13, 16]);
    let past_oracle = Tensor::from_data(rounded, (&Default::default(), DType::F32));
    let padding = Padding { time: 0, height: [1, 1], width: [1, 1] };
    let (w, w_oracle) = (B::wan_conv3d_weight(w), Oracle::wan_conv3d_weight(w_oracle));
    let ours = Conv3dArgs::new(x, w, b).past([past]).padding(padding);
    let theirs = Conv3dArgs::new(x_oracle, w_oracle, b_oracle).past([past_oracle]);
    let theirs = theirs.padding(padding);
    assert_close("past in f16", B::wan_conv3d(ours) / 20.0, Oracle::wan_conv3d(theirs) / 20.0);
}

/// With operands in 16 bits, what is computed in f32 differs only by the rounding of the result.
fn half_precision<B: Backend>() {
    let device = B::open_device(0).unwrap();
    for (dtype, tolerance) in [(DType::BF16, 8e-3), (DType::F16, 1e-3)] {
        if !B::supports_dtype(&device, dtype) {
            println!("{} has no {dtype:?}", B::name(&device));
            continue;
        }
        let mut random = Random::new(8);
        let (weight, weight_oracle) = random.pair([96]);
        let (shift, shift_oracle) = random.pair([2, 1, 96]);
        let (cos, cos_oracle) = random.pair([5, 12]);
        let (wide, wide_oracle) = random.pair([2, 5, 96]);
        let (x, x_oracle) = rounded::<B, 3>(random.pair([2, 5, 96]), dtype);
        let check = |what: &str, ours: Tensor<B, 3>, theirs: Tensor<Oracle, 3>| {
            assert_eq!(ours.dtype(), dtype, "{what}");
            assert_within(&format!("{what} in {dtype:?}"), ours, theirs, tolerance);
        };
        check("gelu", B::wan_gelu(x.clone()), Oracle::wan_gelu(x_oracle.clone()));
        let ours = B::wan_gated_gelu(x.clone(), x.clone());
        let theirs = Oracle::wan_gated_gelu(x_oracle.clone(), x_oracle.clone());
        check("gated gelu", ours, theirs);
        let frames = [1, 2, 5, 1, 96];
        let ours = ChannelNormArgs::new(wide.clone().reshape(frames), weight.clone()).silu(true);
        let theirs =
            ChannelNormArgs::new(wide_oracle.clone().reshape(frames), weight_oracle.clone());
        let ours = B::wan_channel_norm(ours.dtype(dtype)).reshape([2, 5, 96]);
        check(
            "channel norm",
            ours,
            Oracle::wan_channel_norm(theirs.silu(true)).reshape([2, 5, 96]),
        );
        let ours = RmsNormArgs::new(x.clone(), weight.clone(), 1e-6).dtype(dtype);
        let theirs = RmsNormArgs::new(x_oracle.clone(), weight_oracle.clone(), 1e-6);
        check("rms norm", B::wan_rms_norm(ours), Oracle::wan_rms_norm(theirs));
        let ours = LayerNormArgs::new(x.clone(), 1e-6).affine((weight.clone(), weight));
        let theirs = LayerNormArgs::new(x_oracle.clone(), 1e-6);
        let theirs = theirs.affine((weight_oracle.clone(), weight_oracle));
        let theirs = Oracle::wan_layer_norm(theirs);
        check("layer norm", B::wan_layer_norm(ours.dtype(dtype)), theirs);
        let (a, b) = (shift_oracle.clone(), shift_oracle.clone());
        let theirs =
            Oracle::wan_modulated_norm(ModulatedNormArgs::new(x_oracle.clone(), a, b, 1e-6));
        let ours = ModulatedNormArgs::new(x.clone(), shift.clone(), shift.clone(), 1e-6);
        check("modulated norm", B::wan_modulated_norm(ours.dtype(dtype)), theirs);
        let theirs = Oracle::wan_add(wide_oracle.clone(), x_oracle.clone());
        let ours = B::wan_add(wide.clone(), x.clone());
        assert_eq!(ours.dtype(), DType::F32, "the residual stream");
        assert_close("addition to f32", ours, theirs.clone());
        check("addition", B::wan_add(x.clone(), wide.clone()), theirs);
        let twice = Oracle::wan_add(x_oracle.clone(), x_oracle.clone());
        check("addition in 16 bits", B::wan_add(x.clone(), x.clone()), twice);
        let theirs = Oracle::wan_gated_residual(wide_oracle, x_oracle.clone(), shift_oracle);
        let ours = B::wan_gated_residual(wide, x.clone(), shift);
        assert_eq!(ours.dtype(), DType::F32, "the residual stream");
        assert_close("gated residual", ours, theirs);

        let heads = [2, 5, 4, 24];
        let (q, q_oracle) = (x.reshape(heads), x_oracle.reshape(heads));
        let ours = B::wan_rope(RopeArgs::new(q.clone(), cos.clone(), cos).dtype(dtype));
        let theirs = RopeArgs::new(q_oracle.clone(), cos_oracle.clone(), cos_oracle);
        let theirs = Oracle::wan_rope(theirs);
        check("rope", ours.reshape([2, 5, 96]), theirs.reshape([2, 5, 96]));

        let (w, w_oracle) = rounded::<B, 2>(random.pair([96, 96]), dtype);
        let rows = |x: Tensor<B, 4>| x.reshape([2, 5, 96]);
        let ours = B::wan_linear(rows(q.clone()), B::wan_linear_weight(w), None) / 9.0;
        let weight = Oracle::wan_linear_weight(w_oracle);
        let theirs = Oracle::wan_linear(q_oracle.clone().reshape([2, 5, 96]), weight, None) / 9.0;
        check("linear", ours, theirs);
        let ours = B::wan_attention(to_itself(q, 0.3));
        let theirs = Oracle::wan_attention(to_itself(q_oracle, 0.3));
        check("attention", ours.reshape([2, 5, 96]), theirs.reshape([2, 5, 96]));

        // So many queries that a flash kernel is asked first, and no multiple of what it takes.
        let (x, oracle) = rounded::<B, 4>(random.pair([2, 1100, 2, 32]), dtype);
        let (x, oracle) = (x.swap_dims(1, 2), oracle.swap_dims(1, 2));
        let scale = 1.0 / 32f64.sqrt();
        let ours = B::wan_attention(to_itself(x, scale));
        let theirs = Oracle::wan_attention(to_itself(oracle, scale));
        let joined = [2, 2200, 32];
        check("attention over many queries", ours.reshape(joined), theirs.reshape(joined));
    }
}

/// Packed weights, on backends that pack them: as plain ones, but for the order of the sums.
fn packed<B: Backend>() {
    let device = B::open_device(0).unwrap();
    if !B::supports_dtype(&device, DType::BF16) {
        println!("{} has no bf16", B::name(&device));
        return;
    }
    let mut random = Random::new(10);
    for [rows, inputs, outputs] in [[1, 1, 1], [3, 7, 5], [130, 96, 33]] {
        let (x, x_oracle) = rounded::<B, 3>(random.pair([2, rows, inputs]), DType::BF16);
        let (w, w_oracle) = rounded::<B, 2>(random.pair([outputs, inputs]), DType::BF16);
        let (b, b_oracle) = rounded::<B, 1>(random.pair([outputs]), DType::BF16);
        let Some(w) = B::wan_pack(&w.reshape([outputs, inputs, 1, 1, 1])) else {
            println!("{} packs nothing", B::name(&device));
            return;
        };
        assert_eq!(w.kernel(), [outputs, inputs, 1, 1, 1]);
        let ours = B::wan_packed_linear(x, &w, Some(b));
        assert_eq!(ours.dtype(), DType::BF16);
        let w_oracle = Oracle::wan_linear_weight(w_oracle);
        let theirs = Oracle::wan_linear(x_oracle, w_oracle, Some(b_oracle));
        assert_within(&format!("packed linear {rows} {inputs} {outputs}"), ours, theirs, 4e-3);
    }
    let shape = [2, 3, 9, 13, 20];
    let (x, x_oracle) = rounded::<B, 5>(random.pair(shape), DType::BF16);
    let (past, past_oracle) = rounded::<B, 5>(random.pair([2, 1, 9, 13, 20]), DType::BF16);
    let (w, w_oracle) = rounded::<B, 5>(random.pair([33, 20, 3, 3, 3]), DType::BF16);
    let (b, b_oracle) = rounded::<B, 1>(random.pair([33]), DType::BF16);
    let w = B::wan_pack(&w).expect("as the matrices");
    let padding = Padding { time: 1, height: [1, 1], width: [1, 0] };
    for upsample in [false, true] {
        let ours = Conv3dArgs::new(x.clone(), w.clone(), b.clone()).past([past.clone()]);
        let ours = B::wan_packed_conv3d(ours.padding(padding).upsample(upsample));
        assert_eq!(ours.dtype(), DType::F32);
        let theirs = Conv3dArgs::new(x_oracle.clone(), w_oracle.clone(), b_oracle.clone());
        let theirs = theirs.past([past_oracle.clone()]).padding(padding).upsample(upsample);
        assert_close("packed conv3d", ours / 23.0, Oracle::wan_conv3d(theirs) / 23.0);
    }
}

/// Attention whose keys and values are its queries.
fn to_itself<B: Backend>(x: Tensor<B, 4>, scale: f64) -> AttentionArgs<B> {
    AttentionArgs::new(x.clone(), x.clone(), x, scale)
}

/// Both in f32 arithmetic on numbers that `dtype` can hold; ours in that dtype.
fn rounded<B: Backend, const D: usize>(
    (ours, _): (Tensor<B, D>, Tensor<Oracle, D>),
    dtype: DType,
) -> (Tensor<B, D>, Tensor<Oracle, D>) {
    let ours = ours.cast(dtype);
    let data = TensorData::new(values(ours.clone()), ours.shape());
    (ours, on(&data))
}

#[test]
#[should_panic(expected = "the input and the weight differ in dtype")]
fn mixed_dtypes_are_refused() {
    let mut random = Random::new(9);
    let ((x, _), (w, _)) = (random.pair::<Flex, _>([1, 6, 16]), random.pair::<Flex, _>([16, 16]));
    Flex::wan_linear(x.cast(DType::BF16), w, None);
}

#[test]
#[should_panic(expected = "the input and the weight differ in dtype")]
fn mixed_dtypes_are_refused_by_packed_weights() {
    let mut random = Random::new(9);
    let ((x, _), (w, _)) =
        (random.pair::<Flex, _>([1, 6, 16]), random.pair::<Flex, _>([16, 16, 1, 1, 1]));
    let w = Flex::wan_pack(&w.cast(DType::BF16)).unwrap();
    Flex::wan_packed_linear(x, &w, None);
}

#[test]
fn there_is_one_cpu() {
    let error = Flex::open_device(7).unwrap_err().to_string();
    assert_eq!(error, "flex has no device 7: it has 1");
    assert!(!<Flex as BurnBackend>::name(&Flex::open_device(0).unwrap()).is_empty());
}
