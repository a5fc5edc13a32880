//! `UMT5EncoderModel`.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::DType;
use wan_core::{Backend, TextEncoder};
use wan_io::files::ModelFiles;
use wan_io::weights::{Dtype, StoredTensor, Weights};
use wan_models::load::{TensorSource, load};
use wan_models::umt5::{Umt5Config, Umt5Encoder, relative_position_bucket};

use crate::fixture::{Array, Fixture, Recorder, compare_half, folders_of, half_dtypes, json};
use crate::tolerance::Stage;

pub fn is_kind(folder: &Path) -> bool {
    json(&folder.join("config.json"))["model_type"] == "umt5"
}

pub fn hidden_states<B: Backend>(backend: &str) {
    for folder in folders_of("umt5", is_kind) {
        let fixture = Fixture::open(&folder);
        let config: Umt5Config = config_of(&folder);
        config.validate().unwrap();
        let encoder: Umt5Encoder<B> = open(source_of(&folder), &config, DType::F32);

        let cases = fixture.inputs.cases(".input_ids");
        let mut checked = 0;
        for case in cases {
            let (ids, mask) = inputs(&fixture, &case);
            let mut recorder = Recorder::default();
            let states = encoder.forward(&ids, Some(&mask), &mut recorder).unwrap();
            checked += recorder.check(&fixture, backend, &case);
            fixture.check(backend, &format!("{case}.last_hidden_state"), &Array::of(states));
            check_prompts(&encoder, &fixture, backend, &case, &ids, &mask);
            check_buckets(&fixture, &config, &case);
        }
        assert!(checked > 0, "{} has no intermediate tensors", fixture.name());
    }
}

fn config_of(folder: &Path) -> Umt5Config {
    ModelFiles::folder(folder).unwrap().json("config.json").unwrap()
}

fn source_of(folder: &Path) -> Arc<dyn TensorSource> {
    let files = ModelFiles::folder(folder).unwrap();
    Arc::new(Weights::open(&files, ".", "model").unwrap())
}

fn open<B: Backend>(
    source: Arc<dyn TensorSource>,
    config: &Umt5Config,
    dtype: DType,
) -> Umt5Encoder<B> {
    let device = B::open_device(0).unwrap();
    load(&source, &device, dtype, config).unwrap()
}

pub fn half_precision<B: Backend>(backend: &str) {
    for dtype in half_dtypes::<B>(backend) {
        for folder in folders_of("umt5", is_kind) {
            let fixture = Fixture::open(&folder);
            let encoder = open::<B>(source_of(&folder), &config_of(&folder), dtype);
            for case in fixture.inputs.cases(".input_ids") {
                let (ids, mask) = inputs(&fixture, &case);
                let states = encoder.forward(&ids, Some(&mask), &mut ()).unwrap();
                let name = format!("{case}.last_hidden_state");
                let exact = fixture.outputs.get(&name);
                let name = format!("{}/{name}", fixture.name());
                compare_half(backend, &name, (Stage::Text, dtype), &Array::of(states), exact);
            }
        }
    }
}

/// Feed-forward products far above 65,504, as the published umT5-XXL has them: f16 keeps up with f32.
pub fn large_activations<B: Backend>(backend: &str) {
    if !half_dtypes::<B>(backend).contains(&DType::F16) {
        return;
    }
    for folder in folders_of("umt5", is_kind) {
        let (fixture, config) = (Fixture::open(&folder), config_of(&folder));
        let source: Arc<dyn TensorSource> = Arc::new(Amplified(source_of(&folder)));
        let exact = open::<burn::backend::Flex>(source.clone(), &config, DType::F32);
        let half = open::<B>(source, &config, DType::F16);
        for case in fixture.inputs.cases(".input_ids") {
            let (ids, mask) = inputs(&fixture, &case);
            let exact = Array::of(exact.forward(&ids, Some(&mask), &mut ()).unwrap());
            let found = Array::of(half.forward(&ids, Some(&mask), &mut ()).unwrap());
            let name = format!("{}/{case} with large activations", fixture.name());
            compare_half(backend, &name, (Stage::Text, DType::F16), &found, &exact);
        }
    }
}

/// The weights of the feed-forward networks times [`GAIN`], whose products then are times its square.
struct Amplified(Arc<dyn TensorSource>);

const GAIN: f32 = 512.0;

impl TensorSource for Amplified {
    fn names(&self) -> Vec<String> {
        self.0.names()
    }

    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let mut raw = self.0.tensor(name)?;
        if name.contains(".wi_") {
            assert_eq!(raw.dtype, Dtype::F32, "the fixture's dtype");
            let numbers = raw.bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
            raw.bytes = numbers.flat_map(|number| (number * GAIN).to_le_bytes()).collect();
        }
        Some(raw)
    }

    fn label(&self, name: &str) -> String {
        self.0.label(name)
    }

    fn origin(&self) -> String {
        self.0.origin()
    }
}

/// Ids and mask of a case.
fn inputs(fixture: &Fixture, case: &str) -> (Vec<Vec<u32>>, Vec<Vec<bool>>) {
    let ids = rows(fixture.inputs.get(&format!("{case}.input_ids")), |v| v as u32);
    (ids, rows(fixture.inputs.get(&format!("{case}.attention_mask")), |v| v != 0.0))
}

/// The pipeline's way: each prompt alone, zero rows after it.
fn check_prompts<B: Backend>(
    encoder: &Umt5Encoder<B>,
    fixture: &Fixture,
    backend: &str,
    case: &str,
    ids: &[Vec<u32>],
    mask: &[Vec<bool>],
) {
    let length = ids[0].len();
    let unpadded: Vec<Vec<u32>> = ids
        .iter()
        .zip(mask)
        .map(|(ids, mask)| {
            ids.iter().zip(mask).filter(|(_, keep)| **keep).map(|(id, _)| *id).collect()
        })
        .collect();
    let encoded = Array::of(encoder.encode(&unpadded, length).unwrap().padded());
    let mut expected = fixture.outputs.get(&format!("{case}.last_hidden_state")).clone();
    let width = expected.shape[2];
    for (i, keep) in mask.concat().into_iter().enumerate() {
        if !keep {
            expected.values[i * width..(i + 1) * width].fill(0.0);
        }
    }
    let name = format!("{}/{case}.encode", fixture.name());
    crate::fixture::compare(backend, &name, &encoded, &expected, fixture.tolerance());
}

fn check_buckets(fixture: &Fixture, config: &Umt5Config, case: &str) {
    let name = format!("{case}.relative_position_bucket");
    if fixture.outputs.has(&name) {
        let positions = fixture.outputs.get(&format!("{case}.relative_position"));
        let found: Vec<f64> = positions
            .values
            .iter()
            .map(|&p| relative_position_bucket(p as i64, config) as f64)
            .collect();
        assert_eq!(found, fixture.outputs.get(&name).values, "{name}");
    }
}

pub fn rows<T>(array: &Array, convert: impl Fn(f64) -> T) -> Vec<Vec<T>> {
    let row = |chunk: &[f64]| chunk.iter().map(|&v| convert(v)).collect();
    array.values.chunks(array.shape[1]).map(row).collect()
}
