//! `UMT5EncoderModel`.

use std::path::Path;

use burn::tensor::DType;
use wan_core::{Backend, TextEncoder};
use wan_io::files::ModelFiles;
use wan_io::weights::Weights;
use wan_models::umt5::{Umt5Config, Umt5Encoder, relative_position_bucket};
use wan_models::weights::load;
use wan_pipeline::weights::tensor_source;

use crate::fixture::{Array, Fixture, Recorder, folders_of, json};

pub fn is_kind(folder: &Path) -> bool {
    json(&folder.join("config.json"))["model_type"] == "umt5"
}

pub fn hidden_states<B: Backend>(backend: &str) {
    for folder in folders_of("umt5", is_kind) {
        let fixture = Fixture::open(&folder);
        let files = ModelFiles::folder(&folder).unwrap();
        let config: Umt5Config = files.json("config.json").unwrap();
        config.validate().unwrap();
        let source = tensor_source(Weights::open(&files, ".", "model").unwrap());
        let device = B::open_device(0).unwrap();
        let encoder: Umt5Encoder<B> =
            load(&source, &device, DType::F32, |scope| Umt5Encoder::load(&config, scope)).unwrap();

        let cases = fixture.inputs.cases(".input_ids");
        assert!(!cases.is_empty());
        for case in cases {
            let ids = rows(fixture.inputs.get(&format!("{case}.input_ids")), |v| v as u32);
            let mask = rows(fixture.inputs.get(&format!("{case}.attention_mask")), |v| v != 0.0);
            let mut recorder = Recorder::default();
            let states = encoder.forward(&ids, Some(&mask), &mut recorder).unwrap();
            recorder.check(&fixture, backend, &case);
            fixture.check(backend, &format!("{case}.last_hidden_state"), &Array::of(states));
            check_prompts(&encoder, &fixture, backend, &case, &ids, &mask);
            check_buckets(&fixture, &config, &case);
        }
    }
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
