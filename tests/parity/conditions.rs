//! What image-to-video models are conditioned on beside the prompts: pictures as the VAE and as CLIP see them, the mask
//! and the latents of known frames, and the states of the image encoder. Mask, latents and states are those in the file
//! of a run that has not gone a step.

use std::path::Path;

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use wan_core::Backend;
use wan_io::files::ModelFiles;
use wan_io::image::{ClipPreprocess, Fit, Pixels};
use wan_pipeline::{FitRule, Image, Observer, Pipeline, Precision, Request};

use crate::fixture::{Array, Fixture, Tensors, compare, folders_of, json};

const PREPROCESSOR: &str = "image_processor/preprocessor_config.json";
const CONFIG: &str = "transformer/config.json";
const WEIGHTS: &str = "transformer/diffusion_pytorch_model.safetensors";

/// For values of pixels, which the fixtures' `README.md` says more of than their `meta.json`.
const PIXELS: (f64, f64) = (1e-5, 1e-5);

fn fixtures() -> Vec<Fixture> {
    let is_kind = |folder: &Path| folder.join("model/image_encoder/config.json").is_file();
    let folders = folders_of("image-to-video pipelines", is_kind);
    folders.iter().map(|folder| Fixture::open(folder)).collect()
}

/// The picture `[H, W, 3]` of a fixture's inputs.
pub fn image(fixture: &Fixture, name: &str) -> Image {
    let pixels = fixture.inputs.get(name);
    let [height, width, 3] = pixels.shape[..] else { panic!("a picture {:?}", pixels.shape) };
    let bytes = pixels.values.iter().map(|&value| value as u8).collect();
    Image::from_rgb8(width as u32, height as u32, bytes).unwrap()
}

#[test]
fn pixels() {
    for fixture in fixtures() {
        let image = image(&fixture, "image_uint8");
        let check = |name: &str, Pixels { width, height, values }: Pixels| {
            let shape = vec![1, 3, height as usize, width as usize];
            let found = Array { shape, values: values.into_iter().map(f64::from).collect() };
            let shown = format!("{}/{name}", fixture.name());
            compare("host", &shown, &found, fixture.outputs.get(name), PIXELS);
        };
        let files = ModelFiles::folder(&fixture.folder.join("model")).unwrap();
        let preprocess: ClipPreprocess = files.json(PREPROCESSOR).unwrap();
        check("a.clip_pixel_values", preprocess.pixels(&image).unwrap());

        let name = "a.preprocessed_image";
        let [_, _, height, width] = fixture.outputs.get(name).shape[..] else { panic!("{name}") };
        let fit = Fit { rule: FitRule::Diffusers, max_area: (width * height) as u64, factor: 16 };
        check(name, fit.pixels(&image).unwrap());
    }
}

/// A model that looks at the first image alone, also where there is a last one.
pub fn of_images<B: Backend>(backend: &str) {
    for fixture in fixtures() {
        let model = fixture.folder.join("model");
        let cases = fixture.outputs.cases(".condition");
        assert!(cases.iter().any(|case| is_of_two(case)), "no case with a last image");
        for case in cases {
            let found = conditions::<B>(&model, &fixture, &case);
            check_channels(backend, &fixture, &case, &found);
            check_states(backend, &fixture, &case, &found, 1);
        }
    }
}

/// A model that tells a first image from a last one.
pub fn of_both_images<B: Backend>(backend: &str) {
    for fixture in fixtures() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        copy(&fixture.folder.join("model"), &model);
        tell_images_apart(&model);
        for case in fixture.outputs.cases(".condition").iter().filter(|case| is_of_two(case)) {
            let found = conditions::<B>(&model, &fixture, case);
            check_channels(backend, &fixture, case, &found);
            check_states(backend, &fixture, case, &found, 2);
        }
    }
}

/// Whether a case has a last image beside the first one.
fn is_of_two(case: &str) -> bool {
    case == "first_last"
}

/// What a model makes of the pictures of a case.
fn conditions<B: Backend>(model: &Path, fixture: &Fixture, case: &str) -> Tensors {
    let pipeline: Pipeline<B> = Pipeline::builder(model).precision(Precision::F32).open().unwrap();
    let run = pipeline.start(&[request(fixture, case)], &mut Observer::silent()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.safetensors");
    run.save(&file).unwrap();
    Tensors::open(&file)
}

/// All cases are of the same size, which only the first one says.
fn request(fixture: &Fixture, case: &str) -> Request {
    let arguments = &fixture.meta["cases"]["a"]["arguments"];
    let number = |name: &str| arguments[name].as_u64().expect("a number") as usize;
    let last = is_of_two(case).then(|| image(fixture, "last_image_uint8"));
    Request::new(arguments["prompt"].as_str().expect("a prompt"))
        .size(number("width"), number("height"))
        .frames(number("num_frames"))
        .steps(1)
        .image(image(fixture, "image_uint8"))
        .last_image(last)
}

/// Mask and latents.
fn check_channels(backend: &str, fixture: &Fixture, case: &str, found: &Tensors) {
    fixture.check(backend, &format!("{case}.condition"), found.get("0.condition.channels"));
}

/// The states of the first images, which are rows of a batch in the reference, and one row after the other in ours.
fn check_states(backend: &str, fixture: &Fixture, case: &str, found: &Tensors, images: usize) {
    let name = format!("{case}.image_embeds");
    let all = fixture.outputs.get(&name);
    let [_, tokens, width] = all.shape[..] else { panic!("states {:?}", all.shape) };
    let rows = images * tokens;
    let values = all.values[..rows * width].to_vec();
    let expected = Array { shape: vec![1, 1, 1, rows, width], values };
    let shown = format!("{}/{name}, of {images}", fixture.name());
    let tolerance = fixture.tolerance(backend, &name);
    compare(backend, &shown, found.get("0.condition.image"), &expected, tolerance);
}

/// Makes the transformer one that tells a first image from a last one, as FLF2V's does: it has a position for each
/// token of both. Nothing else of it has a part in the conditions.
fn tell_images_apart(model: &Path) {
    let vision = json(&model.join("image_encoder/config.json"));
    let side = |name: &str| vision[name].as_u64().expect("a size") as usize;
    let tokens = 1 + (side("image_size") / side("patch_size")).pow(2);
    let shape = vec![1, 2 * tokens, side("hidden_size")];

    let mut config = json(&model.join(CONFIG));
    config["pos_embed_seq_len"] = Value::from(shape[1]);
    std::fs::write(model.join(CONFIG), config.to_string()).unwrap();

    let bytes = std::fs::read(model.join(WEIGHTS)).unwrap();
    let mut tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
    let zeros = vec![0; 4 * shape.iter().product::<usize>()];
    let positions = TensorView::new(Dtype::F32, shape, &zeros).unwrap();
    tensors.push(("condition_embedder.image_embedder.pos_embed".into(), positions));
    std::fs::write(model.join(WEIGHTS), safetensors::serialize(tensors, None).unwrap()).unwrap();
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}
