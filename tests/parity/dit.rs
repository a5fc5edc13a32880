//! `WanTransformer3DModel` for text-to-video.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Tensor};
use wan_core::{Backend, CancelToken, Conditioning, Pass, TextConditioning};
use wan_io::files::ModelFiles;
use wan_io::weights::Weights;
use wan_models::Probe;
use wan_models::load::{ReadOptions, Residency, TensorSource, load};
use wan_models::transformer::{WanTransformer, WanTransformerConfig};

use crate::fixture::{
    Array, Fixture, Recorder, assert_same, compare, compare_half, compare_with_reference,
    folders_of, half_dtypes, json,
};
use crate::tolerance::Stage;

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
    let mut checked = 0;
    for case in cases {
        let (latents, timestep, text) = inputs::<B>(fixture, &case);
        let text = TextConditioning::new(text);
        let mut recorder = Recorder::default();
        let output = predict(transformer, &latents, &timestep, &text, &mut recorder);
        checked += recorder.check(fixture, backend, &case);
        fixture.check(backend, &format!("{case}.output"), &Array::of(output));

        // The same with the padding rows as one.
        if let Some(text) = collapse(&text) {
            let output = predict(transformer, &latents, &timestep, &text, &mut ());
            let expected = fixture.outputs.get(&format!("{case}.output"));
            let name = format!("{}/{case}.output (one padding row)", fixture.name());
            compare(
                backend,
                &name,
                &Array::of(output),
                expected,
                fixture.tolerance(backend, &name),
            );
        }
    }
    assert!(checked > 0, "{} has no intermediate tensors", fixture.name());
}

/// In 16 bits it stays close to the reference's float32; in bfloat16, where the fixtures have what the
/// reference itself makes of it, also not much further off than that.
pub fn half_precision<B: Backend>(backend: &str) {
    for dtype in half_dtypes::<B>(backend) {
        for folder in folders_of("text-to-video transformer", is_kind) {
            let fixture = Fixture::open(&folder);
            let transformer = open::<B>(&folder, dtype);
            for case in fixture.inputs.cases(".hidden_states") {
                let (latents, timestep, text) = inputs::<B>(&fixture, &case);
                let text = TextConditioning::new(text);
                let output = predict(&transformer, &latents, &timestep, &text, &mut ());
                let output = Array::of(output);
                let name = format!("{case}.output");
                let exact = fixture.outputs.get(&name);
                let shown = format!("{}/{name}", fixture.name());
                compare_half(backend, &shown, (Stage::Transformer, dtype), &output, exact);

                let name = format!("{name}_bf16");
                if dtype == DType::BF16 && fixture.outputs.has(&name) {
                    let theirs = fixture.outputs.get(&name).relative_rms(exact);
                    let ours = output.relative_rms(exact);
                    compare_with_reference(backend, &shown, ours, theirs);
                }
            }
        }
    }
}

/// Weights that are kept as they are stored, or read during the pass, change nothing.
pub fn residencies<B: Backend>(backend: &str) {
    for folder in folders_of("text-to-video transformer", is_kind) {
        let fixture = Fixture::open(&folder);
        let open =
            |residency| open_as::<B>(&folder, ReadOptions::new(DType::F32).residency(residency));
        let resident = open(Residency::Resident);
        for case in fixture.inputs.cases(".hidden_states") {
            let (latents, timestep, text) = inputs::<B>(&fixture, &case);
            let text = TextConditioning::new(text);
            let velocity = |transformer: &WanTransformer<B>| {
                Array::of(predict(transformer, &latents, &timestep, &text, &mut ()))
            };
            let expected = velocity(&resident);
            for residency in [Residency::Stored, Residency::Streamed] {
                let transformer = open(residency);
                for pass in 0..2 {
                    let name = format!("{}/{case}, {residency}, pass {pass}", fixture.name());
                    assert_same(backend, &name, &velocity(&transformer), &expected);
                }
            }
        }
    }
}

/// The velocity of latents `[B, C, T, H, W]`, as one pass over one branch.
fn predict<B: Backend>(
    transformer: &WanTransformer<B>,
    latents: &Tensor<B, 5>,
    timesteps: &[f32],
    text: &TextConditioning<B>,
    probe: &mut impl Probe<B>,
) -> Tensor<B, 5> {
    let [_, _, size @ ..] = latents.dims();
    let conditioning = Conditioning::new(text.clone());
    let branches = transformer.branches_probed(&[conditioning], size, probe);
    let passes = [Pass::new(latents.clone(), timesteps.to_vec(), &branches[0])];
    let velocities = transformer.velocities_probed(&passes, &CancelToken::default(), probe);
    velocities.expect("nothing cancels it").remove(0)
}

fn open<B: Backend>(folder: &Path, dtype: DType) -> WanTransformer<B> {
    open_as(folder, ReadOptions::new(dtype))
}

fn open_as<B: Backend>(folder: &Path, options: ReadOptions) -> WanTransformer<B> {
    let files = ModelFiles::folder(folder).unwrap();
    let config: WanTransformerConfig = files.json("config.json").unwrap();
    let weights = Weights::open(&files, ".", "diffusion_pytorch_model").unwrap();
    let source: Arc<dyn TensorSource> = Arc::new(weights);
    let device = B::open_device(0).unwrap();
    load(&source, &device, options, &config).unwrap()
}

fn inputs<B: Backend>(fixture: &Fixture, case: &str) -> (Tensor<B, 5>, Vec<f32>, Tensor<B, 3>) {
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
