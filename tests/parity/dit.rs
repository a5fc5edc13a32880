//! `WanTransformer3DModel` and `WanVACETransformer3DModel`.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Tensor};
use wan_core::{Backend, CancelToken, Conditioning, Control, Pass, TextConditioning, Timesteps};
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
    config.validate().err().map(|error| error.to_string())
}

pub fn is_kind(folder: &Path) -> bool {
    let class = &json(&folder.join("config.json"))["_class_name"];
    (class == "WanTransformer3DModel" || class == "WanVACETransformer3DModel")
        && unsupported(folder).is_none()
}

pub fn velocity<B: Backend>(backend: &str) {
    for folder in folders_of("transformer", is_kind) {
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
        let inputs = Inputs::<B>::of(fixture, &case);
        let mut recorder = Recorder::default();
        let output = inputs.predict(transformer, &mut recorder);
        checked += recorder.check(fixture, backend, &case);
        fixture.check(backend, &format!("{case}.output"), &Array::of(output));

        // The same with the padding rows as one.
        if let Some(text) = collapse(&inputs.conditioning.text) {
            let mut inputs = inputs;
            inputs.conditioning.text = text;
            let output = inputs.predict(transformer, &mut ());
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
        for folder in folders_of("transformer", is_kind) {
            let fixture = Fixture::open(&folder);
            let transformer = open::<B>(&folder, dtype);
            for case in fixture.inputs.cases(".hidden_states") {
                let output = Inputs::of(&fixture, &case).predict(&transformer, &mut ());
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
    for folder in folders_of("transformer", is_kind) {
        let fixture = Fixture::open(&folder);
        let open =
            |residency| open_as::<B>(&folder, ReadOptions::new(DType::F32).residency(residency));
        let resident = open(Residency::Resident);
        for case in fixture.inputs.cases(".hidden_states") {
            let inputs = Inputs::of(&fixture, &case);
            let velocity =
                |transformer: &WanTransformer<B>| Array::of(inputs.predict(transformer, &mut ()));
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

/// A forward pass of a fixture, in the parts that ours has.
struct Inputs<B: Backend> {
    latents: Tensor<B, 5>,
    timesteps: Timesteps,
    conditioning: Conditioning<B>,
}

impl<B: Backend> Inputs<B> {
    fn of(fixture: &Fixture, case: &str) -> Self {
        let device = B::open_device(0).unwrap();
        let input = |name: &str| fixture.inputs.find(&format!("{case}.{name}"));
        let needed = |name: &str| input(name).unwrap_or_else(|| panic!("{case} has no {name}"));
        // What stands beside the latents is part of them in the reference.
        let all: Tensor<B, 5> = needed("hidden_states").tensor(&device);
        let channels = fixture.outputs.get(&format!("{case}.output")).shape[1];
        let beside = all.dims()[1] - channels;
        let timestep = needed("timestep");
        let values: Vec<f32> = timestep.values.iter().map(|&t| t as f32).collect();
        let timesteps = match timestep.shape[..] {
            [_] => Timesteps::PerSample(values),
            [_, tokens] => {
                Timesteps::PerToken(values.chunks(tokens).map(<[f32]>::to_vec).collect())
            }
            _ => panic!("timesteps of the shape {:?}", timestep.shape),
        };
        let text = TextConditioning::new(needed("encoder_hidden_states").tensor(&device));
        let image = input("encoder_hidden_states_image").map(|states| {
            let states: Tensor<B, 3> = states.tensor(&device);
            // Those of a first and a last frame are two rows of a batch in the reference.
            let [rows, count, width] = states.dims();
            let batch = all.dims()[0];
            states.reshape([batch, rows / batch * count, width])
        });
        let control = input("control_hidden_states").map(|latents| Control {
            latents: latents.tensor(&device),
            scales: needed("control_hidden_states_scale")
                .values
                .iter()
                .map(|&s| s as f32)
                .collect(),
        });
        let conditioning = Conditioning::new(text).image(image).control(control);
        let rest = (beside > 0).then(|| all.clone().narrow(1, channels, beside));
        Self {
            latents: all.narrow(1, 0, channels),
            timesteps,
            conditioning: conditioning.channels(rest),
        }
    }

    /// The velocity, as one pass over one branch.
    fn predict(&self, transformer: &WanTransformer<B>, probe: &mut impl Probe<B>) -> Tensor<B, 5> {
        let [_, _, size @ ..] = self.latents.dims();
        let conditionings = [self.conditioning.clone()];
        let branches = transformer.branches_probed(&conditionings, size, probe);
        let passes = [Pass::new(self.latents.clone(), self.timesteps.clone(), &branches[0])];
        let velocities = transformer.velocities_probed(&passes, &CancelToken::default(), probe);
        velocities.expect("nothing cancels it").remove(0)
    }
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
