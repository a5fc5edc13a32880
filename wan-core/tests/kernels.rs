//! The kernels of Flex against the portable ones (on NdArray), on shapes with odd sizes, broadcast
//! axes and operands that are views.
#![cfg(all(feature = "flex", feature = "ndarray"))]

use burn::backend::{Flex, NdArray};
use burn::tensor::{DType, Tensor, TensorData};
use wan_core::backend::Padding;
use wan_core::noise::TorchGenerator;
use wan_core::{Backend, BurnBackend};

type Oracle = NdArray<f32>;

/// The same random numbers on both backends.
struct Random(TorchGenerator);

impl Random {
    fn new(seed: u64) -> Self {
        Self(TorchGenerator::new(seed))
    }

    fn pair<const D: usize>(&mut self, shape: [usize; D]) -> (Tensor<Flex, D>, Tensor<Oracle, D>) {
        let data = TensorData::new(self.0.randn(shape.iter().product()), shape);
        (on(&data), on(&data))
    }
}

fn on<B: Backend, const D: usize>(data: &TensorData) -> Tensor<B, D> {
    Tensor::from_data(data.clone(), (&B::open_device(0).unwrap(), DType::F32))
}

fn assert_close<const D: usize>(what: &str, ours: Tensor<Flex, D>, theirs: Tensor<Oracle, D>) {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    let values = |data: TensorData| data.convert::<f32>().into_vec::<f32>().unwrap();
    let (ours, theirs) = (values(ours.into_data()), values(theirs.into_data()));
    for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
        assert!((a - b).abs() <= 2e-5 * (1.0 + b.abs()), "{what}: {a} instead of {b} at {i}");
    }
}

#[test]
fn linear() {
    let mut random = Random::new(1);
    for [rows, inputs, outputs] in [[1, 1, 1], [3, 7, 5], [130, 96, 33], [512, 128, 256]] {
        let (x, x_oracle) = random.pair([2, rows, inputs]);
        let (w, w_oracle) = random.pair([outputs, inputs]);
        let (b, b_oracle) = random.pair([outputs]);
        let (w, w_oracle) = (Flex::wan_linear_weight(w), Oracle::wan_linear_weight(w_oracle));
        let what = format!("linear {rows} {inputs} {outputs}");
        let scale = (inputs as f64).sqrt();
        let ours = Flex::wan_linear(x.clone(), w.clone(), Some(b)) / scale;
        let theirs = Oracle::wan_linear(x_oracle.clone(), w_oracle.clone(), Some(b_oracle)) / scale;
        assert_close(&what, ours, theirs);
        let ours = Flex::wan_linear(x, w, None) / scale;
        assert_close(&what, ours, Oracle::wan_linear(x_oracle, w_oracle, None) / scale);
    }
}

#[test]
fn attention() {
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
            let ours = Flex::wan_attention(q.clone(), k.clone(), v.clone(), bias, 0.3);
            let (q, k, v) = (q_oracle.clone(), k_oracle.clone(), v_oracle.clone());
            assert_close(&what, ours, Oracle::wan_attention(q, k, v, bias_oracle, 0.3));
        }
    }
}

/// The portable form in chunks of queries is the same as at once.
#[test]
fn attention_in_chunks() {
    let mut random = Random::new(3);
    // 64 MiB of scores are 4096 x 4096: this has more than one chunk.
    let rows = 4500;
    let ((q, q_oracle), (k, k_oracle)) =
        (random.pair([1, 1, rows, 8]), random.pair([1, 1, rows, 8]));
    let ours = Flex::wan_attention(q, k.clone(), k, None, 0.35);
    assert_close(
        "chunks",
        ours,
        Oracle::wan_attention(q_oracle, k_oracle.clone(), k_oracle, None, 0.35),
    );
}

/// A last key with a bias of `ln(n)` is the same as that key n times.
#[test]
fn a_repeated_key_is_one_key_with_a_bias() {
    let mut random = Random::new(4);
    let ((q, _), (k, _), (v, _)) =
        (random.pair([1, 2, 9, 8]), random.pair([1, 2, 4, 8]), random.pair([1, 2, 4, 8]));
    let repeats = 509;
    let repeat = |t: &Tensor<Flex, 4>| {
        let last = t.clone().narrow(2, 3, 1).expand([1, 2, repeats - 1, 8]);
        Tensor::cat(vec![t.clone(), last], 2)
    };
    let all = Flex::wan_attention(q.clone(), repeat(&k), repeat(&v), None, 0.4);
    let bias = TensorData::new(vec![0.0, 0.0, 0.0, (repeats as f32).ln()], [1, 1, 1, 4]);
    let one = Flex::wan_attention(q, k, v, Some(on(&bias)), 0.4);
    let difference = (all - one).abs().max().into_scalar();
    // The sum of 509 equal weights is rounded 509 times, the one weight once.
    assert!(difference < 3e-5, "{difference}");
}

#[test]
fn rows() {
    let mut random = Random::new(5);
    for [tokens, heads, half] in [[1, 1, 1], [7, 3, 5], [130, 4, 24]] {
        let width = heads * half * 2;
        let what = format!("rows {tokens} {heads} {half}");
        let (x, x_oracle) = random.pair([2, tokens, width]);
        let (w, w_oracle) = random.pair([width]);
        let (b, b_oracle) = random.pair([width]);
        let affine = (Some((w.clone(), b)), Some((w_oracle.clone(), b_oracle)));
        let ours = Flex::wan_layer_norm(x.clone() + 3.0, affine.0, 1e-5);
        assert_close(&what, ours, Oracle::wan_layer_norm(x_oracle.clone() + 3.0, affine.1, 1e-5));
        let ours = Flex::wan_layer_norm(x.clone(), None, 1e-6);
        assert_close(&what, ours, Oracle::wan_layer_norm(x_oracle.clone(), None, 1e-6));
        let ours = Flex::wan_rms_norm(x.clone(), w.clone(), 1e-6);
        assert_close(&what, ours, Oracle::wan_rms_norm(x_oracle.clone(), w_oracle.clone(), 1e-6));
        assert_close(
            &what,
            Flex::wan_gelu(x.clone() * 3.0),
            Oracle::wan_gelu(x_oracle.clone() * 3.0),
        );

        // One modulation a sample, as rows of a larger tensor; and one a token.
        for rows in [1, tokens] {
            let (m, m_oracle) = random.pair([2, 3 * rows, width]);
            let ours: [_; 3] = std::array::from_fn(|i| m.clone().narrow(1, i * rows, rows));
            let theirs: [_; 3] =
                std::array::from_fn(|i| m_oracle.clone().narrow(1, i * rows, rows));
            let ([shift, scale, gate], [shift_oracle, scale_oracle, gate_oracle]) = (ours, theirs);
            let ours = Flex::wan_modulated_norm(x.clone(), shift.clone(), scale, 1e-6);
            let theirs = Oracle::wan_modulated_norm(
                x_oracle.clone(),
                shift_oracle.clone(),
                scale_oracle,
                1e-6,
            );
            assert_close(&what, ours.clone(), theirs.clone());
            let ours = Flex::wan_gated_residual(x.clone(), ours, gate);
            assert_close(
                &what,
                ours,
                Oracle::wan_gated_residual(x_oracle.clone(), theirs, gate_oracle),
            );
        }

        let (cos, cos_oracle) = random.pair([tokens, half]);
        let (sin, sin_oracle) = random.pair([tokens, half]);
        let shape = [2, tokens, heads, 2 * half];
        let ours = Flex::wan_rope(x.reshape(shape), cos, sin);
        assert_close(
            &what,
            ours,
            Oracle::wan_rope(x_oracle.reshape(shape), cos_oracle, sin_oracle),
        );
    }
}

#[test]
fn frames() {
    let mut random = Random::new(6);
    for channels in [1, 3, 16, 40] {
        let what = format!("frames with {channels} channels");
        let (x, x_oracle) = random.pair([2, 3, 5, 7, channels]);
        let (w, w_oracle) = random.pair([channels]);
        let ours = Flex::wan_channel_norm(x.clone(), w.clone());
        assert_close(&what, ours, Oracle::wan_channel_norm(x_oracle.clone(), w_oracle.clone()));
        let ours = Flex::wan_channel_norm_silu(x.clone(), w);
        assert_close(&what, ours, Oracle::wan_channel_norm_silu(x_oracle.clone(), w_oracle));
        assert_close(&what, Flex::wan_upsample(x), Oracle::wan_upsample(x_oracle));
    }
    // A pixel of zeros stays zero.
    let zeros: Tensor<Flex, 5> = Tensor::zeros([1, 1, 1, 1, 4], &Default::default());
    let ones: Tensor<Flex, 1> = Tensor::ones([4], &Default::default());
    assert_eq!(Flex::wan_channel_norm_silu(zeros, ones).abs().max().into_scalar(), 0.0);
}

#[test]
fn convolution() {
    let around = [1, 1];
    let causal = |time| Padding { time, height: around, width: around };
    let behind = Padding { time: 0, height: [0, 1], width: [0, 1] };
    // Kernel, stride, padding, frames before.
    let cases = [
        ([3, 3, 3], [1, 1, 1], causal(2), 0),
        ([3, 3, 3], [1, 1, 1], causal(1), 1),
        ([3, 3, 3], [1, 1, 1], causal(0), 2),
        ([1, 3, 3], [1, 1, 1], causal(0), 0),
        ([1, 3, 3], [1, 2, 2], behind, 0),
        ([3, 1, 1], [2, 1, 1], Padding::default(), 1),
        ([3, 1, 1], [1, 1, 1], Padding { time: 2, ..Padding::default() }, 0),
    ];
    let mut random = Random::new(7);
    for (kernel, stride, padding, before) in cases {
        for ([height, width], [cin, cout]) in
            [([2, 2], [3, 5]), ([9, 13], [16, 4]), ([40, 70], [8, 33])]
        {
            let [kt, kh, kw] = kernel;
            let what =
                format!("conv {kernel:?} {stride:?} {padding:?} {height}x{width} {cin} {cout}");
            let (x, x_oracle) = random.pair([2, 4, height, width, cin]);
            let (w, w_oracle) = random.pair([cout, cin, kt, kh, kw]);
            let (b, b_oracle) = random.pair([cout]);
            let past = (before > 0).then(|| random.pair([2, before, height, width, cin]));
            let (past, past_oracle) = past.unzip();
            let (w, w_oracle) = (Flex::wan_conv3d_weight(w), Oracle::wan_conv3d_weight(w_oracle));
            let scale = ((cin * kt * kh * kw) as f64).sqrt();
            let ours = Flex::wan_conv3d(past, x, w, b, stride, padding) / scale;
            let theirs =
                Oracle::wan_conv3d(past_oracle, x_oracle, w_oracle, b_oracle, stride, padding);
            assert_close(&what, ours, theirs / scale);
        }
    }
}

#[test]
fn other_dtypes_take_the_portable_way() {
    let mut random = Random::new(8);
    let (x, x_oracle) = random.pair([1, 6, 16]);
    let (w, w_oracle) = random.pair([16, 16]);
    let ours = Flex::wan_linear(x.cast(DType::BF16), w.cast(DType::BF16), None);
    assert_eq!(ours.dtype(), DType::BF16);
    let theirs = Oracle::wan_linear(x_oracle, w_oracle, None);
    let found = ours.cast(DType::F32).into_data().into_vec::<f32>().unwrap();
    let expected = theirs.into_data().into_vec::<f32>().unwrap();
    assert!(found.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 0.05 * (1.0 + b.abs())));
}

#[test]
#[should_panic(expected = "the input and the weight differ in dtype")]
fn mixed_dtypes_are_refused() {
    let mut random = Random::new(9);
    let ((x, _), (w, _)) = (random.pair([1, 6, 16]), random.pair([16, 16]));
    Flex::wan_linear(x.cast(DType::BF16), w, None);
}

#[test]
fn there_is_one_cpu() {
    let error = Flex::open_device(7).unwrap_err().to_string();
    assert_eq!(error, "flex has no device 7: it has 1");
    assert!(!<Flex as BurnBackend>::name(&Flex::open_device(0).unwrap()).is_empty());
}
