//! The CPU kernels beside what burn's Flex backend does for the same operation.
//!
//! `cargo bench -p wan-benches --bench kernels`. Shapes are those of Wan 2.1 1.3B, with fewer tokens
//! and smaller frames.

use std::hint::black_box;

use burn::backend::Flex;
use burn::tensor::module::{attention, conv3d};
use burn::tensor::ops::{AttentionModuleOptions, ConvOptions};
use burn::tensor::{DType, Tensor, TensorData, activation};
use criterion::{Criterion, criterion_group, criterion_main};
use wan_core::Backend;
use wan_core::backend::{AttentionArgs, Conv3dArgs, Padding};
use wan_core::noise::TorchGenerator;

fn random<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
    let values = TorchGenerator::new(0).randn(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), (&Default::default(), DType::F32))
}

/// Self-attention: 12 heads of 128, 2,000 tokens.
fn bench_attention(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("attention 12 heads, 2000 tokens");
    group.sample_size(10);
    let heads = || random([1, 2000, 12, 128]).swap_dims(1, 2);
    let (q, k, v) = (heads(), heads(), heads());
    let operands = || (q.clone(), k.clone(), v.clone());
    group.bench_function("ours", |bencher| {
        bencher.iter(|| {
            let (q, k, v) = operands();
            black_box(Flex::wan_attention(AttentionArgs::new(q, k, v, 1.0 / 128f64.sqrt())))
        });
    });
    group.bench_function("burn", |bencher| {
        bencher.iter(|| {
            let (q, k, v) = operands();
            black_box(attention(q, k, v, None, None, AttentionModuleOptions::default()))
        });
    });
    group.finish();
}

/// A convolution of the VAE: 96 channels, four frames and two before them.
fn bench_conv3d(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("conv3d 96 channels, 4 frames of 208x120");
    group.sample_size(10);
    let (past, x) = (random([1, 2, 120, 208, 96]), random([1, 4, 120, 208, 96]));
    let weight = Flex::wan_conv3d_weight(random([96, 96, 3, 3, 3]));
    let bias = random([96]);
    group.bench_function("ours", |bencher| {
        bencher.iter(|| {
            let padding = Padding { time: 0, height: [1, 1], width: [1, 1] };
            let args = Conv3dArgs::new(x.clone(), weight.clone(), bias.clone());
            black_box(Flex::wan_conv3d(args.past([past.clone()]).padding(padding)))
        });
    });
    group.bench_function("burn", |bencher| {
        bencher.iter(|| {
            let x = Tensor::cat(vec![past.clone(), x.clone()], 1).permute([0, 4, 1, 2, 3]);
            let options = ConvOptions::new([1, 1, 1], [0, 1, 1], [1, 1, 1], 1);
            black_box(conv3d(x, weight.clone(), Some(bias.clone()), options))
        });
    });
    group.finish();
}

/// The feed-forward network's activation: 2,000 tokens of 8,960.
fn bench_gelu(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("gelu 2000 x 8960");
    group.sample_size(10);
    let x = random([1, 2000, 8960]);
    group.bench_function("ours", |bencher| bencher.iter(|| black_box(Flex::wan_gelu(x.clone()))));
    group.bench_function("burn", |bencher| {
        bencher.iter(|| black_box(activation::gelu_approximate(x.clone())));
    });
    group.finish();
}

criterion_group!(kernels, bench_attention, bench_conv3d, bench_gelu);
criterion_main!(kernels);
