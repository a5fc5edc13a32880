//! What a run saves by computing once what is constant over it: embedded text, rotary tables, and keys and
//! values of cross-attention.
//!
//! `cargo bench -p wan-benches --bench run_constants`. A transformer of the width of Wan 2.1 1.3B with 4 of
//! its 30 blocks and random weights, latents of 9 frames of 256x256, a prompt of 512 tokens and one of
//! 64: a step with the branches of the run, and one that makes them anew as every pass once did.

use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, TensorData};
use criterion::{Criterion, criterion_group, criterion_main};
use serde_json::json;
use wan_core::noise::TorchGenerator;
use wan_core::{Branch, CancelToken, Conditioning, Denoiser, Pass, TextConditioning};
use wan_io::weights::{Dtype, StoredTensor};
use wan_models::load::{TensorSource, load};
use wan_models::transformer::{WanTransformer, WanTransformerConfig};

const WIDTH: usize = 1536;
const TEXT_WIDTH: usize = 4096;
const FFN: usize = 8960;
const BLOCKS: usize = 4;
/// Frames, rows and columns of the latents.
const SIZE: [usize; 3] = [3, 32, 32];

/// Random tensors by name.
struct Random(BTreeMap<String, (Vec<usize>, Vec<u8>)>);

impl TensorSource for Random {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn tensor(&self, canonical: &str) -> Option<StoredTensor<'_>> {
        let (shape, bytes) = self.0.get(canonical)?;
        Some(StoredTensor::in_memory(Dtype::F32, shape, bytes.as_slice()))
    }

    fn label(&self, canonical: &str) -> String {
        canonical.to_owned()
    }

    fn origin(&self) -> String {
        "random".to_owned()
    }
}

impl Random {
    fn linear(&mut self, name: &str, input: usize, output: usize) {
        self.add(&format!("{name}.weight"), &[output, input]);
        self.add(&format!("{name}.bias"), &[output]);
    }

    fn add(&mut self, name: &str, shape: &[usize]) {
        let values = random(shape.iter().product());
        let bytes = values.iter().flat_map(|value| (value * 0.02).to_le_bytes()).collect();
        self.0.insert(name.to_owned(), (shape.to_vec(), bytes));
    }
}

fn random(count: usize) -> Vec<f32> {
    TorchGenerator::new(0).randn(count)
}

fn source() -> Random {
    let mut tensors = Random(BTreeMap::new());
    tensors.add("patch_embedding.weight", &[WIDTH, 16, 1, 2, 2]);
    tensors.add("patch_embedding.bias", &[WIDTH]);
    let condition = |name: &str| format!("condition_embedder.{name}");
    tensors.linear(&condition("time_embedder.linear_1"), 256, WIDTH);
    tensors.linear(&condition("time_embedder.linear_2"), WIDTH, WIDTH);
    tensors.linear(&condition("time_proj"), WIDTH, 6 * WIDTH);
    tensors.linear(&condition("text_embedder.linear_1"), TEXT_WIDTH, WIDTH);
    tensors.linear(&condition("text_embedder.linear_2"), WIDTH, WIDTH);
    for i in 0..BLOCKS {
        let block = |name: &str| format!("blocks.{i}.{name}");
        for attention in ["attn1", "attn2"] {
            for layer in ["to_q", "to_k", "to_v", "to_out.0"] {
                tensors.linear(&block(&format!("{attention}.{layer}")), WIDTH, WIDTH);
            }
            for norm in ["norm_q", "norm_k"] {
                tensors.add(&block(&format!("{attention}.{norm}.weight")), &[WIDTH]);
            }
        }
        tensors.linear(&block("ffn.net.0.proj"), WIDTH, FFN);
        tensors.linear(&block("ffn.net.2"), FFN, WIDTH);
        tensors.add(&block("norm2.weight"), &[WIDTH]);
        tensors.add(&block("norm2.bias"), &[WIDTH]);
        tensors.add(&block("scale_shift_table"), &[1, 6, WIDTH]);
    }
    tensors.linear("proj_out", WIDTH, 64);
    tensors.add("scale_shift_table", &[1, 2, WIDTH]);
    tensors
}

fn config() -> WanTransformerConfig {
    let config = json!({
        "_class_name": "WanTransformer3DModel",
        "patch_size": [1, 2, 2],
        "num_attention_heads": WIDTH / 128,
        "attention_head_dim": 128,
        "in_channels": 16,
        "out_channels": 16,
        "text_dim": TEXT_WIDTH,
        "freq_dim": 256,
        "ffn_dim": FFN,
        "num_layers": BLOCKS,
        "cross_attn_norm": true,
        "qk_norm": "rms_norm_across_heads",
        "eps": 1e-6,
    });
    serde_json::from_value(config).expect("a config of the 1.3B model")
}

fn bench_run_constants(criterion: &mut Criterion) {
    let device = Default::default();
    let source: Arc<dyn TensorSource> = Arc::new(source());
    let transformer: WanTransformer<Flex> =
        load(&source, &device, DType::F32, &config()).expect("all tensors are there");
    let [frames, height, width] = SIZE;
    let shape = [1, 16, frames, height, width];
    let data = TensorData::new(random(shape.iter().product()), shape);
    let latents: Tensor<Flex, 5> = Tensor::from_data(data, (&device, DType::F32));
    let cancel = CancelToken::default();
    for tokens in [512, 64] {
        let data = TensorData::new(random(tokens * TEXT_WIDTH), [1, tokens, TEXT_WIDTH]);
        let states: Tensor<Flex, 3> = Tensor::from_data(data, (&device, DType::F32));
        let conditionings = [Conditioning::new(TextConditioning::pad(states, 512))];
        let branch = || transformer.branches(&conditionings, SIZE).remove(0);
        let velocity = |branch: &Branch<Flex>| {
            let passes = [Pass::new(latents.clone(), vec![500.0], branch)];
            black_box(transformer.velocities(&passes, &cancel).expect("nobody cancels"))
        };
        let mut group = criterion.benchmark_group(format!("a pass, prompt of {tokens} tokens"));
        group.sample_size(10);
        let known = branch();
        velocity(&known);
        group.bench_function("once a run", |bencher| bencher.iter(|| velocity(&known)));
        group.bench_function("once a pass", |bencher| bencher.iter(|| velocity(&branch())));
        group.finish();
    }
}

criterion_group!(benches, bench_run_constants);
criterion_main!(benches);
