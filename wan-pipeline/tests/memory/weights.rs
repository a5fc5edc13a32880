//! The weights of a plan are those in the files.

use std::fs;
use std::path::Path;

use safetensors::SafeTensors;
use wan_pipeline::backend::Flex;
use wan_pipeline::{Pipeline, Precision, Request, Stage};

/// The elements in a file of tiny-wan, without those that stay there.
fn elements(part: &str, file: &str) -> u64 {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tiny-wan/model");
    let bytes = fs::read(model.join(part).join(file)).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = file.iter().filter(|(name, _)| *name != "shared.weight");
    tensors.map(|(_, tensor)| tensor.shape().iter().product::<usize>() as u64).sum()
}

fn weights(precision: Precision) -> impl Fn(Stage) -> u64 {
    let pipeline = Pipeline::<Flex>::builder("tiny-wan").precision(precision).open().unwrap();
    let plan = pipeline.plan(&Request::new("a red circle")).unwrap();
    let stages = pipeline.memory(&[plan]).stages();
    move |stage| stages.iter().find(|found| found.stage == stage).unwrap().weights
}

#[test]
fn weights_are_those_in_the_files() {
    let weights = weights(Precision::F32);
    let text_encoder = elements("text_encoder", "model.safetensors");
    let transformer = elements("transformer", "diffusion_pytorch_model.safetensors");
    let vae = elements("vae", "diffusion_pytorch_model.safetensors");
    assert_eq!(weights(Stage::EncodingPrompts), 4 * text_encoder);
    assert_eq!(weights(Stage::Denoising), 4 * transformer);
    assert_eq!(weights(Stage::Decoding), 4 * (transformer + vae));
}

#[test]
fn sixteen_bits_halve_the_matrices() {
    let (whole, half) = (weights(Precision::F32), weights(Precision::Bf16));
    for stage in [Stage::EncodingPrompts, Stage::Denoising] {
        let (whole, half) = (whole(stage), half(stage));
        assert!(2 * half >= whole && 3 * half < 2 * whole, "{stage}: {half} of {whole}");
    }
}
