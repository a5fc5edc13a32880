//! `UMT5EncoderModel`.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::DType;
use wan_core::{Backend, CancelToken, TextEncoder};
use wan_io::files::ModelFiles;
use wan_io::weights::{Dtype, StoredTensor, Weights};
use wan_models::Probe;
use wan_models::load::{Mismatch, ReadOptions, Residency, TensorSource, check, load};
use wan_models::umt5::{Umt5Config, Umt5Encoder, relative_position_bucket};

use crate::fixture::{
    Array, Fixture, Recorder, Tensors, assert_same, compare, compare_half, folders_of, half_dtypes,
    json,
};
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

        let mut checked = 0;
        for case in fixture.inputs.cases(".input_ids") {
            for (sample, ids) in prompts(&fixture.inputs, &case).iter().enumerate() {
                let mut recorder = Recorder::default();
                let states = states_of(&encoder, ids, &mut recorder);
                let part = |output: &Array| output.rows_of(sample, ids.len());
                checked += recorder.check_part(&fixture, backend, &case, part);
                check_states(&fixture, backend, &case, sample, &states);
            }
            check_buckets(&fixture, &config, &case);
        }
        assert!(checked > 0, "{} has no intermediate tensors", fixture.name());
    }
}

/// The states of one prompt.
pub fn states_of<B: Backend>(
    encoder: &Umt5Encoder<B>,
    ids: &[u32],
    probe: &mut impl Probe<B>,
) -> Array {
    let mut states = encoder.forward(&[ids], &CancelToken::default(), probe).unwrap();
    Array::of(states.remove(0))
}

/// Weights that are kept as they are stored, or read during the pass, change nothing; nor do other prompts
/// beside one.
pub fn residencies<B: Backend>(backend: &str) {
    for folder in folders_of("umt5", is_kind) {
        let (fixture, config, source) =
            (Fixture::open(&folder), config_of(&folder), source_of(&folder));
        let device = B::open_device(0).unwrap();
        let open = |residency| -> Umt5Encoder<B> {
            let options = ReadOptions::new(DType::F32).residency(residency);
            load(&source, &device, options, &config).unwrap()
        };
        let cases = fixture.inputs.cases(".input_ids");
        let all: Vec<_> = cases.iter().flat_map(|case| prompts(&fixture.inputs, case)).collect();
        let together: Vec<&[u32]> = all.iter().map(Vec::as_slice).collect();
        let resident = open(Residency::Resident);
        let expected: Vec<_> = all.iter().map(|ids| states_of(&resident, ids, &mut ())).collect();
        for residency in [Residency::Resident, Residency::Stored, Residency::Streamed] {
            let states = open(residency).encode(&together, &CancelToken::default()).unwrap();
            for (i, (found, expected)) in states.into_iter().zip(&expected).enumerate() {
                let name = format!("{}/prompt {i}, {residency}", fixture.name());
                assert_same(backend, &name, &Array::of(found), expected);
            }
        }
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
                for (sample, ids) in prompts(&fixture.inputs, &case).iter().enumerate() {
                    let states = states_of(&encoder, ids, &mut ());
                    let name = format!("{case}.last_hidden_state");
                    let exact = fixture.outputs.get(&name).rows_of(sample, ids.len());
                    let name = format!("{}/{name}[{sample}]", fixture.name());
                    compare_half(backend, &name, (Stage::Text, dtype), &states, &exact);
                }
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
            for ids in prompts(&fixture.inputs, &case) {
                let exact = states_of(&exact, &ids, &mut ());
                let found = states_of(&half, &ids, &mut ());
                let name = format!("{}/{case} with large activations", fixture.name());
                compare_half(backend, &name, (Stage::Text, DType::F16), &found, &exact);
            }
        }
    }
}

/// Matrices of 16 GiB are refused before anything is read, where the device cannot hold such a tensor.
pub fn too_large<B: Backend>(_: &str) {
    let source: Arc<dyn TensorSource> = Arc::new(Nothing);
    let config =
        Umt5Config { d_model: 1 << 15, d_ff: 1 << 17, num_layers: 1, ..Default::default() };
    config.validate().unwrap();
    let device = B::open_device(0).unwrap();
    let error =
        check::<B, Umt5Encoder<B>>(&source, &device, DType::F32, &config).expect_err("no tensors");
    let limit = B::max_tensor_bytes(&device).filter(|&limit| limit < 16 << 30);
    for name in ["wi_0", "wi_1", "wo"] {
        let name = format!("encoder.block.0.layer.1.DenseReluDense.{name}.weight");
        let found = error.mismatches.iter().find_map(|mismatch| match mismatch {
            Mismatch::TooLarge { name: found, bytes, limit } if *found == name => {
                Some((*bytes, *limit))
            }
            _ => None,
        });
        assert_eq!(found, limit.map(|limit| (16 << 30, limit)), "{name}");
    }
}

/// A checkpoint without tensors.
struct Nothing;

impl TensorSource for Nothing {
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn tensor(&self, _: &str) -> Option<StoredTensor<'_>> {
        None
    }

    fn origin(&self) -> String {
        "nowhere".into()
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
        let raw = self.0.tensor(name)?;
        if !name.contains(".wi_") {
            return Some(raw);
        }
        assert_eq!(raw.dtype, Dtype::F32, "the fixture's dtype");
        let bytes = raw.bytes().unwrap();
        let numbers = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
        let amplified: Vec<u8> = numbers.flat_map(|x| (x * GAIN).to_le_bytes()).collect();
        Some(StoredTensor::in_memory(raw.dtype, raw.shape, amplified))
    }

    fn label(&self, name: &str) -> String {
        self.0.label(name)
    }

    fn origin(&self) -> String {
        self.0.origin()
    }
}

/// The prompts of a case, without the padding that the reference masks out.
pub fn prompts(inputs: &Tensors, case: &str) -> Vec<Vec<u32>> {
    let ids = rows(inputs.get(&format!("{case}.input_ids")));
    let mask = rows(inputs.get(&format!("{case}.attention_mask")));
    let kept = |(ids, mask): (Vec<f64>, Vec<f64>)| {
        let kept = mask.iter().take_while(|&&keep| keep != 0.0).count();
        assert!(mask[kept..].iter().all(|&keep| keep == 0.0), "{case}: padding is at the end");
        ids[..kept].iter().map(|&id| id as u32).collect()
    };
    ids.into_iter().zip(mask).map(kept).collect()
}

fn rows(array: &Array) -> Vec<Vec<f64>> {
    array.values.chunks(array.shape[1]).map(<[f64]>::to_vec).collect()
}

/// Compares the states of a prompt with its rows of the last hidden state; the pipeline replaces what
/// the reference computes at padding by zeros.
pub fn check_states(fixture: &Fixture, backend: &str, output: &str, sample: usize, states: &Array) {
    let name = format!("{output}.last_hidden_state");
    let expected = fixture.outputs.get(&name).rows_of(sample, states.shape[1]);
    let name = format!("{}/{name}[{sample}]", fixture.name());
    compare(backend, &name, states, &expected, fixture.tolerance(backend, &name));
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
