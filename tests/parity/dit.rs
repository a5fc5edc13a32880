//! `WanTransformer3DModel` for text-to-video.

use std::path::Path;

use burn::tensor::DType;
use wan_core::{Backend, TextConditioning};
use wan_io::files::ModelFiles;
use wan_io::weights::Weights;
use wan_models::transformer::{WanTransformer, WanTransformerConfig};
use wan_models::weights::load;
use wan_pipeline::weights::tensor_source;

use crate::fixture::{Array, Fixture, Recorder, compare, folders_of, json};

/// Why a transformer is not one that is supported yet, if it is not.
pub fn unsupported(folder: &Path) -> Option<String> {
    let config = json(&folder.join("config.json"));
    let config: WanTransformerConfig = match serde_json::from_value(config) {
        Ok(config) => config,
        Err(error) => return Some(error.to_string()),
    };
    if let Err(error) = config.validate() {
        return Some(error.to_string());
    }
    let fixture = Fixture::open(folder);
    let per_token = |case: &String| fixture.inputs.get(&format!("{case}.timestep")).shape.len() > 1;
    let cases = fixture.inputs.cases(".timestep");
    cases.iter().any(per_token).then(|| "it has a timestep for each token".into())
}

pub fn is_kind(folder: &Path) -> bool {
    let class = &json(&folder.join("config.json"))["_class_name"];
    class == "WanTransformer3DModel" && unsupported(folder).is_none()
}

pub fn velocity<B: Backend>(backend: &str) {
    for folder in folders_of("text-to-video transformer", is_kind) {
        check_velocity(&open::<B>(&folder, DType::F32), &Fixture::open(&folder), backend);
    }
}

pub fn check_velocity<B: Backend>(
    transformer: &WanTransformer<B>,
    fixture: &Fixture,
    backend: &str,
) {
    let cases = fixture.inputs.cases(".hidden_states");
    assert!(!cases.is_empty());
    for case in cases {
        let (latents, timestep, text) = inputs::<B>(fixture, &case);
        let text = TextConditioning::new(text);
        let mut recorder = Recorder::default();
        let output = transformer.forward(latents.clone(), &timestep, &text, &mut recorder);
        recorder.check(fixture, backend, &case);
        fixture.check(backend, &format!("{case}.output"), &Array::of(output));

        // The same with the padding rows as one.
        if let Some(text) = collapse(&text) {
            let output = transformer.forward(latents, &timestep, &text, &mut ());
            let expected = fixture.outputs.get(&format!("{case}.output"));
            let name = format!("{}/{case}.output (one padding row)", fixture.name());
            compare(backend, &name, &Array::of(output), expected, fixture.tolerance());
        }
    }
}

/// In bfloat16 the error against the reference's float32 stays within 1.5 times the reference's own.
pub fn bf16<B: Backend>(backend: &str) {
    if !B::supports_dtype(&B::open_device(0).unwrap(), DType::BF16) {
        println!("{backend:8} skipped: the backend has no bfloat16");
        return;
    }
    for folder in folders_of("text-to-video transformer", is_kind) {
        let fixture = Fixture::open(&folder);
        let transformer = open::<B>(&folder, DType::BF16);
        for case in fixture.outputs.cases(".output_bf16") {
            let (latents, timestep, text) = inputs::<B>(&fixture, &case);
            let text = TextConditioning::new(text);
            let output = Array::of(transformer.forward(latents, &timestep, &text, &mut ()));
            let exact = fixture.outputs.get(&format!("{case}.output"));
            let theirs = fixture.outputs.get(&format!("{case}.output_bf16"));
            let error = |a: &Array| {
                let squares = a.values.iter().zip(&exact.values).map(|(a, b)| (a - b).powi(2));
                (squares.sum::<f64>() / exact.values.len() as f64).sqrt()
            };
            let (ours, theirs) = (error(&output), error(theirs));
            let name = format!("{}/{case}.output_bf16", fixture.name());
            println!("{backend:8} {name:60} rms {ours:.2e}, reference {theirs:.2e}");
            assert!(ours <= 1.5 * theirs, "{name}: {ours:e} is more than 1.5 times {theirs:e}");
        }
    }
}

fn open<B: Backend>(folder: &Path, dtype: DType) -> WanTransformer<B> {
    let files = ModelFiles::folder(folder).unwrap();
    let config: WanTransformerConfig = files.json("config.json").unwrap();
    let weights = Weights::open(&files, ".", "diffusion_pytorch_model").unwrap();
    let device = B::open_device(0).unwrap();
    load(&tensor_source(weights), &device, dtype, |scope| WanTransformer::load(&config, scope))
        .unwrap()
}

fn inputs<B: Backend>(
    fixture: &Fixture,
    case: &str,
) -> (burn::Tensor<B, 5>, Vec<f32>, burn::Tensor<B, 3>) {
    let device = B::open_device(0).unwrap();
    let input = |name: &str| fixture.inputs.get(&format!("{case}.{name}"));
    let timestep = input("timestep").values.iter().map(|&t| t as f32).collect();
    let text = input("encoder_hidden_states").tensor(&device);
    (input("hidden_states").tensor(&device), timestep, text)
}

/// Zero rows that all samples end with, as one row that counts for all; if there are any.
fn collapse<B: Backend>(text: &TextConditioning<B>) -> Option<TextConditioning<B>> {
    let [batch, length, width] = text.embeddings.dims();
    let values = Array::of(text.embeddings.clone()).values;
    let is_zero = |row: usize| {
        (0..batch).all(|b| {
            let start = (b * length + row) * width;
            values[start..start + width].iter().all(|&v| v == 0.0)
        })
    };
    let zeros = (0..length).rev().take_while(|&row| is_zero(row)).count();
    (zeros > 1).then(|| TextConditioning {
        embeddings: text.embeddings.clone().narrow(1, 0, length - zeros + 1),
        last_repeats: zeros,
    })
}
