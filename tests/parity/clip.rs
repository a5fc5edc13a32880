//! CLIP: text towers, the vision tower, and the trained miniature.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::DType;
use serde::de::DeserializeOwned;
use wan_core::{Backend, CancelToken, TextEncoder};
use wan_io::files::ModelFiles;
use wan_io::weights::Weights;
use wan_models::clip::{
    ClipConfig, ClipModel, ClipTextConfig, ClipTextEncoder, ClipVisionConfig, ClipVisionEncoder,
    TextTower, XlmRobertaConfig, XlmRobertaEncoder,
};
use wan_models::load::{Network, NetworkConfig, ReadOptions, Residency, TensorSource, load};

use crate::fixture::{
    Array, Fixture, Recorder, Tensors, assert_same, compare, compare_half, folders, folders_of,
    half_dtypes, json,
};
use crate::tolerance::Stage;

/// A folder of folders with one tower each.
pub fn is_kind(folder: &Path) -> bool {
    folder.join("clip_vision/config.json").is_file()
}

/// What the trained miniature gives.
pub fn is_miniature(folder: &Path) -> bool {
    json(&folder.join("meta.json"))["fixture"] == "tiny_clip"
}

/// The towers of a model type.
fn towers(model_type: &str) -> Vec<Fixture> {
    let entries = folders_of("CLIP", is_kind).into_iter();
    let mut found: Vec<PathBuf> = entries
        .flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()))
        .filter(|folder| json(&folder.join("config.json"))["model_type"] == model_type)
        .collect();
    found.sort();
    assert!(!found.is_empty(), "no tower of the type {model_type}");
    found.iter().map(|folder| Fixture::open(folder)).collect()
}

/// The tower of one fixture.
pub fn tower(name: &str) -> Fixture {
    let folder = folders_of("CLIP", is_kind).remove(0).join(name);
    Fixture::open(&folder)
}

pub fn config_of<C: DeserializeOwned>(fixture: &Fixture) -> C {
    ModelFiles::folder(&fixture.folder).unwrap().json("config.json").unwrap()
}

fn source_of<C: NetworkConfig>(folder: &Path) -> Arc<dyn TensorSource> {
    let files = ModelFiles::folder(folder).unwrap();
    C::canonical_names(Arc::new(Weights::open(&files, "", "model").unwrap())).unwrap()
}

pub fn open<B: Backend, N: Network<B>>(
    source: &Arc<dyn TensorSource>,
    config: &N::Config,
    options: impl Into<ReadOptions>,
) -> N {
    config.validate().unwrap();
    load(source, &B::open_device(0).unwrap(), options, config).unwrap()
}

fn open_fixture<B: Backend, N: Network<B>>(fixture: &Fixture, dtype: DType) -> N {
    let config = config_of(fixture);
    open(&source_of::<N::Config>(&fixture.folder), &config, dtype)
}

/// The texts of a batch, without what is masked out.
fn texts(inputs: &Tensors, case: &str) -> Vec<Vec<u32>> {
    let ids = inputs.get(&format!("{case}input_ids"));
    let length = ids.shape[1];
    let rows = ids.values.chunks(length).map(|row| row.iter().map(|&id| id as u32).collect());
    let mut texts: Vec<Vec<u32>> = rows.collect();
    let mask = format!("{case}attention_mask");
    if inputs.has(&mask) {
        let masks = inputs.get(&mask).values.chunks(length);
        texts.iter_mut().zip(masks).for_each(|(text, mask)| {
            text.truncate(mask.iter().filter(|&&keep| keep != 0.0).count());
        });
    }
    texts
}

fn as_slices(texts: &[Vec<u32>]) -> Vec<&[u32]> {
    texts.iter().map(Vec::as_slice).collect()
}

/// Compares what was shown, and the states, of one text with its rows in the fixture.
fn check_text(
    (fixture, backend, case): (&Fixture, &str, &str),
    sample: usize,
    length: usize,
    recorder: &Recorder,
    states: &Array,
) {
    let mut checked = 0;
    for output in fixture.outputs.names().filter_map(|name| name.strip_prefix(case)) {
        let shown = match output.strip_prefix("layer.").or(output.strip_prefix("hidden_states.")) {
            Some(i) if output.starts_with("layer.") => i.parse::<usize>().unwrap() + 1,
            Some(i) => i.parse().unwrap(),
            None if output == "embeddings" => 0,
            None => continue,
        };
        let found = recorder.get(&format!("hidden_states.{shown}"));
        check_rows((fixture, backend), &format!("{case}{output}"), sample, length, found);
        checked += 1;
    }
    check_rows((fixture, backend), &format!("{case}last_hidden_state"), sample, length, states);
    println!("{backend:8} {}/{case}text {sample}: {checked} layers", fixture.name());
}

fn check_rows(
    (fixture, backend): (&Fixture, &str),
    output: &str,
    sample: usize,
    length: usize,
    found: &Array,
) {
    let expected = fixture.outputs.get(output).rows_of(sample, length);
    let name = format!("{}/{output}[{sample}]", fixture.name());
    compare(backend, &name, found, &expected, fixture.tolerance(backend, &name));
}

/// CLIP's own text tower, with and without projection, with either rule for the end of a text.
pub fn text<B: Backend>(backend: &str) {
    for fixture in towers("clip_text_model") {
        let tower: ClipTextEncoder<B> = open_fixture(&fixture, DType::F32);
        check_clip_text(&tower, &fixture, backend);
    }
}

pub fn check_clip_text<B: Backend>(tower: &ClipTextEncoder<B>, fixture: &Fixture, backend: &str) {
    let texts = texts(&fixture.inputs, "");
    for (sample, ids) in texts.iter().enumerate() {
        let mut recorder = Recorder::default();
        let states = tower.forward(&[ids], &CancelToken::default(), &mut recorder).unwrap();
        let states = Array::of(states.into_iter().next().unwrap());
        check_text((fixture, backend, ""), sample, ids.len(), &recorder, &states);
    }
    let embedded = Array::of(tower.embed(&as_slices(&texts), &CancelToken::default()).unwrap());
    let name = ["text_embeds", "pooler_output"].into_iter().find(|name| fixture.outputs.has(name));
    fixture.check(backend, name.unwrap(), &embedded);
}

/// XLM-RoBERTa without a head, and AltCLIP's text tower.
pub fn xlm_roberta<B: Backend>(backend: &str) {
    for model_type in ["xlm-roberta", "altclip_text_model"] {
        for fixture in towers(model_type) {
            let tower: XlmRobertaEncoder<B> = open_fixture(&fixture, DType::F32);
            let output = match model_type {
                "xlm-roberta" => "mean_pooled",
                _ => "pooler_output",
            };
            check_xlm_roberta(&tower, &fixture, backend, output);
        }
    }
}

/// `output` is the name of the embeddings.
pub fn check_xlm_roberta<B: Backend>(
    tower: &XlmRobertaEncoder<B>,
    fixture: &Fixture,
    backend: &str,
    output: &str,
) {
    let texts = texts(&fixture.inputs, "");
    for (sample, ids) in texts.iter().enumerate() {
        let mut recorder = Recorder::default();
        let states = tower.forward(&[ids], &CancelToken::default(), &mut recorder).unwrap();
        let states = Array::of(states.into_iter().next().unwrap());
        check_text((fixture, backend, ""), sample, ids.len(), &recorder, &states);
    }
    let embedded = tower.embed(&as_slices(&texts), &CancelToken::default()).unwrap();
    fixture.check(backend, output, &Array::of(embedded));
}

/// The vision tower with either activation.
pub fn vision<B: Backend>(backend: &str) {
    for fixture in towers("clip_vision_model") {
        let tower: ClipVisionEncoder<B> = open_fixture(&fixture, DType::F32);
        check_vision(&tower, &fixture, backend);
    }
}

pub fn check_vision<B: Backend>(tower: &ClipVisionEncoder<B>, fixture: &Fixture, backend: &str) {
    let device = B::open_device(0).unwrap();
    let pixels = || fixture.inputs.get("pixel_values").tensor::<B, 4>(&device);
    let mut recorder = Recorder::default();
    let embedded = tower.embed(pixels(), &CancelToken::default(), &mut recorder).unwrap();
    fixture.check(backend, "image_embeds", &Array::of(embedded));
    let layers = tower.config().num_hidden_layers;
    for i in 0..=layers {
        let name = format!("hidden_states.{i}");
        fixture.check(backend, &name, recorder.get(&name));
    }
    for skipped in 0..=1 {
        let states = tower.hidden_states(pixels(), skipped, &CancelToken::default(), &mut ());
        let name = format!("hidden_states.{}", layers - skipped);
        fixture.check(backend, &name, &Array::of(states.unwrap()));
    }
}

/// What Wan's image-to-video conditions on: the states of the last layer but one, of all tokens.
pub fn condition_of_images<B: Backend>(backend: &str) {
    let is_kind = |folder: &Path| folder.join("model/image_encoder/config.json").is_file();
    for folder in folders_of("image-to-video pipelines", is_kind) {
        let fixture = Fixture::open(&folder);
        let encoder = folder.join("model/image_encoder");
        let config: ClipVisionConfig =
            ModelFiles::folder(&encoder).unwrap().json("config.json").unwrap();
        assert!(!config.has_projection());
        let source = source_of::<ClipVisionConfig>(&encoder);
        let tower: ClipVisionEncoder<B> = open(&source, &config, DType::F32);
        let device = B::open_device(0).unwrap();
        for case in fixture.outputs.cases(".clip_pixel_values") {
            let pixels = fixture.outputs.get(&format!("{case}.clip_pixel_values"));
            let states =
                tower.hidden_states(pixels.tensor(&device), 1, &CancelToken::default(), &mut ());
            fixture.check(backend, &format!("{case}.image_embeds"), &Array::of(states.unwrap()));
        }
    }
}

/// Every tower in 16 bits: states and embeddings.
pub fn half_precision<B: Backend>(backend: &str) {
    for dtype in half_dtypes::<B>(backend) {
        let check = |fixture: &Fixture, output: &str, found: Array| {
            let name = format!("{}/{output}", fixture.name());
            let exact = fixture.outputs.get(output);
            compare_half(backend, &name, (Stage::Clip, dtype), &found, exact);
        };
        for fixture in towers("clip_text_model") {
            let tower: ClipTextEncoder<B> = open_fixture(&fixture, dtype);
            let texts = texts(&fixture.inputs, "");
            let found = tower.embed(&as_slices(&texts), &CancelToken::default()).unwrap();
            let names = ["text_embeds", "pooler_output"];
            let output = names.into_iter().find(|name| fixture.outputs.has(name)).unwrap();
            check(&fixture, output, Array::of(found));
        }
        for (model_type, output) in
            [("xlm-roberta", "mean_pooled"), ("altclip_text_model", "pooler_output")]
        {
            for fixture in towers(model_type) {
                let tower: XlmRobertaEncoder<B> = open_fixture(&fixture, dtype);
                let texts = texts(&fixture.inputs, "");
                let found = tower.embed(&as_slices(&texts), &CancelToken::default()).unwrap();
                check(&fixture, output, Array::of(found));
            }
        }
        for fixture in towers("clip_vision_model") {
            let tower: ClipVisionEncoder<B> = open_fixture(&fixture, dtype);
            let device = B::open_device(0).unwrap();
            let pixels = fixture.inputs.get("pixel_values").tensor(&device);
            let mut recorder = Recorder::default();
            let found = tower.embed(pixels, &CancelToken::default(), &mut recorder).unwrap();
            check(&fixture, "image_embeds", Array::of(found));
            let layers = tower.config().num_hidden_layers;
            let output = format!("hidden_states.{}", layers - 1);
            check(&fixture, &output, recorder.get(&output).clone());
        }
    }
}

/// Weights that are kept as they are stored, or read during the pass, change nothing; nor do other texts
/// beside one.
pub fn residencies<B: Backend>(backend: &str) {
    let residencies = [Residency::Resident, Residency::Stored, Residency::Streamed];
    let check = |fixture: &Fixture, all: Vec<Array>| {
        for (residency, found) in residencies.iter().zip(&all) {
            assert_same(backend, &format!("{}, {residency}", fixture.name()), found, &all[0]);
        }
    };
    let options = |residency| ReadOptions::new(DType::F32).residency(residency);
    for fixture in towers("clip_text_model") {
        let (source, config) = (source_of::<ClipTextConfig>(&fixture.folder), config_of(&fixture));
        let texts = texts(&fixture.inputs, "");
        let embed = |residency| {
            let tower: ClipTextEncoder<B> = open(&source, &config, options(residency));
            Array::of(tower.embed(&as_slices(&texts), &CancelToken::default()).unwrap())
        };
        check(&fixture, residencies.map(embed).to_vec());
    }
    for fixture in towers("altclip_text_model") {
        let (source, config) =
            (source_of::<XlmRobertaConfig>(&fixture.folder), config_of(&fixture));
        let texts = texts(&fixture.inputs, "");
        let embed = |residency| {
            let tower: XlmRobertaEncoder<B> = open(&source, &config, options(residency));
            Array::of(tower.embed(&as_slices(&texts), &CancelToken::default()).unwrap())
        };
        check(&fixture, residencies.map(embed).to_vec());
    }
    for fixture in towers("clip_vision_model") {
        let source = source_of::<ClipVisionConfig>(&fixture.folder);
        let (config, device) = (config_of(&fixture), B::open_device(0).unwrap());
        let embed = |residency| {
            let tower: ClipVisionEncoder<B> = open(&source, &config, options(residency));
            let pixels = fixture.inputs.get("pixel_values").tensor(&device);
            Array::of(tower.embed(pixels, &CancelToken::default(), &mut ()).unwrap())
        };
        check(&fixture, residencies.map(embed).to_vec());
    }
}

/// The trained miniature, from its files.
fn miniature<B: Backend>(dtype: DType) -> ClipModel<B> {
    let files = ModelFiles::Embedded { name: "tiny-clip", files: tiny_clip::FILES };
    let config: ClipConfig = files.json("config.json").unwrap();
    let weights = Arc::new(Weights::open(&files, "", "model").unwrap());
    let source = ClipConfig::canonical_names(weights).unwrap();
    open(&source, &config, dtype)
}

/// Ids to embeddings, pixels to embeddings, and the states in between, of the trained miniature.
pub fn miniature_towers<B: Backend>(backend: &str) {
    let model = miniature::<B>(DType::F32);
    let device = B::open_device(0).unwrap();
    for folder in folders().into_iter().filter(|folder| is_miniature(folder)) {
        let fixture = Fixture::open(&folder);
        for case in fixture.outputs.cases("text_features") {
            check_miniature_texts(&model, &fixture, &case, backend);
        }
        for case in fixture.outputs.cases("pixel_values") {
            let mut pixels = fixture.outputs.get(&format!("{case}pixel_values")).clone();
            pixels.shape.insert(0, 1);
            let mut recorder = Recorder::default();
            let pixels = pixels.tensor(&device);
            let found = model.vision.embed(pixels, &CancelToken::default(), &mut recorder).unwrap();
            let check = |output: &str, found: &Array| {
                let mut found = found.clone();
                found.shape.remove(0);
                fixture.check(backend, &format!("{case}{output}"), &found);
            };
            check("image_features", &Array::of(found));
            for i in 0..=4 {
                let output = format!("hidden_states.{i}");
                if fixture.outputs.has(&format!("{case}{output}")) {
                    check(&output, recorder.get(&output));
                }
            }
        }
    }
}

fn check_miniature_texts<B: Backend>(
    model: &ClipModel<B>,
    fixture: &Fixture,
    case: &str,
    backend: &str,
) {
    let TextTower::XlmRoberta(tower) = &model.text else { panic!("XLM-RoBERTa") };
    let texts = texts(&fixture.inputs, case);
    for (sample, ids) in texts.iter().enumerate() {
        let mut recorder = Recorder::default();
        let states = tower.forward(&[ids], &CancelToken::default(), &mut recorder).unwrap();
        let states = Array::of(states.into_iter().next().unwrap());
        check_text((fixture, backend, case), sample, ids.len(), &recorder, &states);
    }
    let embedded = model.text.embed(&as_slices(&texts), &CancelToken::default()).unwrap();
    fixture.check(backend, &format!("{case}text_features"), &Array::of(embedded));
    let states = model.text.encode(&as_slices(&texts), &CancelToken::default()).unwrap();
    assert!(states.iter().all(|states| states.dims()[2] == model.text.width()));
}

pub fn miniature_half<B: Backend>(backend: &str) {
    let device = B::open_device(0).unwrap();
    for dtype in half_dtypes::<B>(backend) {
        let model = miniature::<B>(dtype);
        for folder in folders().into_iter().filter(|folder| is_miniature(folder)) {
            let fixture = Fixture::open(&folder);
            for case in fixture.outputs.cases("text_features") {
                let texts = texts(&fixture.inputs, &case);
                let found = model.text.embed(&as_slices(&texts), &CancelToken::default()).unwrap();
                let exact = fixture.outputs.get(&format!("{case}text_features"));
                let name = format!("{}/{case}text_features", fixture.name());
                compare_half(backend, &name, (Stage::Clip, dtype), &Array::of(found), exact);
            }
            for case in fixture.outputs.cases("pixel_values") {
                let mut pixels = fixture.outputs.get(&format!("{case}pixel_values")).clone();
                pixels.shape.insert(0, 1);
                let pixels = pixels.tensor(&device);
                let found = model.vision.embed(pixels, &CancelToken::default(), &mut ()).unwrap();
                let mut exact = fixture.outputs.get(&format!("{case}image_features")).clone();
                exact.shape.insert(0, 1);
                let name = format!("{}/{case}image_features", fixture.name());
                compare_half(backend, &name, (Stage::Clip, dtype), &Array::of(found), &exact);
            }
        }
    }
}
