//! Models in the layout of Wan's own repositories that look at images, or have two experts: what holds the same numbers
//! as a model in the layout of diffusers gives the same latents, and an image encoder that is missing is named.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tempfile::TempDir;
use wan_mock_hub::models::{grafts, original_of};
use wan_mock_hub::{Files, MockHub, Repo};
use wan_models::load::CheckpointError;
use wan_pipeline::backend::Flex;
use wan_pipeline::{
    Error, HubOptions, Image, ModelError, Observer, Pipeline, PipelineBuilder, Precision, Request,
    Role, Task,
};

use crate::model::says;
use crate::requests::is_one_sentence;

const REPO: &str = "Wan-AI/Tiny";
const CLIP: &str = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth";
const INDEX: &str = "diffusion_pytorch_model.safetensors.index.json";
const SHARDS: [&str; 2] = [
    "diffusion_pytorch_model-00001-of-00002.safetensors",
    "diffusion_pytorch_model-00002-of-00002.safetensors",
];

/// What all models need that lies beside their transformers.
const REST: [&str; 3] =
    ["Wan2.1_VAE.pth", "google/umt5-xxl/tokenizer.json", "models_t5_umt5-xxl-enc-bf16.pth"];

fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The small random model of a fixture, in the layout of diffusers.
fn fixture(name: &str) -> Files {
    grafts::read(&repository().join("tests/fixtures").join(name).join("model"))
}

/// One that begins with an image, with an image encoder that the original layout can hold too.
fn image_to_video() -> Files {
    grafts::one_headed_encoder(&fixture("pipeline_i2v"))
}

/// The same model in the original layout.
fn original(model: &Files) -> Files {
    let repo = original_of(model, REPO);
    repo.commits[repo.commit()].clone()
}

/// A folder with these files.
fn folder(files: &Files) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes.as_slice()).unwrap();
    }
    folder
}

fn open(folder: &TempDir) -> Result<Pipeline<Flex>, Error> {
    Pipeline::builder(folder.path()).precision(Precision::F32).open()
}

#[track_caller]
fn error_of(opened: Result<Pipeline<Flex>, Error>, parts: &[&str]) -> Error {
    let error = opened.err().expect("something is missing");
    is_one_sentence(&error);
    says(&error, parts);
    error
}

/// A hub on loopback with one model, and an empty cache.
struct Hub {
    hub: MockHub,
    cache: TempDir,
}

impl Hub {
    /// With a model in the layout of diffusers, which it has in the original one.
    fn with(model: &Files) -> Self {
        let hub = MockHub::start();
        hub.add(original_of(model, REPO));
        Self { hub, cache: tempfile::tempdir().unwrap() }
    }

    fn open(&self, is_offline: bool) -> Result<Pipeline<Flex>, Error> {
        let options = HubOptions::from_vars(|name| match name {
            "HF_ENDPOINT" => Some(self.hub.endpoint()),
            "HF_HUB_CACHE" => Some(self.cache.path().display().to_string()),
            "HF_HUB_OFFLINE" => is_offline.then(|| "1".to_owned()),
            _ => None,
        });
        Pipeline::builder(REPO).hub(options.unwrap()).precision(Precision::F32).open()
    }

    /// The files that were downloaded, some of which may share their content.
    fn fetched(&self) -> BTreeSet<String> {
        let snapshots = self.cache.path().join("models--Wan-AI--Tiny/snapshots");
        let mut snapshots = fs::read_dir(snapshots).unwrap();
        let snapshot = snapshots.next().unwrap().unwrap().path();
        grafts::read(&snapshot).into_keys().collect()
    }

    /// Opens the model, which must take just these files and [`REST`], and nothing at all from then on.
    #[track_caller]
    fn open_with(&self, files: Vec<String>) -> Pipeline<Flex> {
        let pipeline = self.open(false).unwrap();
        let expected = files.into_iter().chain(REST.map(str::to_owned));
        assert_eq!(self.fetched(), expected.collect());
        self.hub.clear_requests();
        self.open(true).unwrap();
        assert_eq!(self.hub.requests().len(), 0, "the cache has all of it");
        pipeline
    }
}

/// The files of a transformer in this folder.
fn transformer(folder: &str) -> Vec<String> {
    let files = ["config.json", INDEX, SHARDS[0], SHARDS[1]];
    files.map(|file| format!("{folder}{file}")).to_vec()
}

/// A picture of the size that the image encoder looks at, so that both layouts bring it there alike.
fn picture() -> Image {
    let pixel = |i: usize| [(9 * i % 256) as u8, (i / 28 * 9) as u8, 90];
    Image::from_rgb8(28, 28, (0..28 * 28).flat_map(pixel).collect()).unwrap()
}

/// A request that leaves nothing to the presets, which know models by their layout and name.
fn request() -> Request {
    let request = Request::new("a red circle").negative_prompt("").size(32, 32).frames(5);
    request.steps(4).guidance(4.0).shift(3.0)
}

fn latents(pipeline: &Pipeline<Flex>, request: &Request) -> Vec<f32> {
    let requests = std::slice::from_ref(request);
    pipeline.denoise_batch(requests, &mut Observer::silent()).unwrap()[0].to_vec()
}

#[test]
fn an_image_to_video_model_of_the_hub() {
    let model = image_to_video();
    let files = [transformer(""), vec![CLIP.to_owned()]].concat();
    let hub = Hub::with(&model);
    let pipeline = hub.open_with(files);
    assert_eq!(pipeline.spec().task, Task::ImageToVideo);
    let request = request().image(picture());
    let found = latents(&pipeline, &request);
    let expected = latents(&open(&folder(&model)).unwrap(), &request);
    assert_eq!(found.len(), expected.len());
    let pairs = || found.iter().zip(&expected);
    let difference = pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("largest difference {difference:.1e}, allowed 1e-3");
    assert!(difference < 1e-3 && pairs().all(|(a, _)| a.is_finite()));
}

#[test]
fn two_experts_of_the_hub() {
    let model = fixture("pipeline_two_expert");
    let weights = |part: &str| &model[&format!("{part}/diffusion_pytorch_model.safetensors")];
    assert!(weights("transformer") != weights("transformer_2"), "they can be told apart");
    let files = [transformer("high_noise_model/"), transformer("low_noise_model/")].concat();
    let hub = Hub::with(&model);
    let pipeline = hub.open_with(files);
    assert_eq!((pipeline.spec().task, pipeline.spec().boundary), (Task::TextToVideo, Some(0.875)));
    let request = request().guidance_2(3.0);
    let plan = pipeline.plan(&request).unwrap();
    assert!((1..plan.steps()).contains(&plan.steps_at_high_noise()), "both have steps");
    let expected = latents(&open(&folder(&model)).unwrap(), &request);
    assert!(latents(&pipeline, &request) == expected, "the latents differ");
}

/// As Wan 2.2 I2V-A14B: two experts that begin with an image, and no image encoder.
#[test]
fn two_experts_that_begin_with_an_image() {
    let tiny = grafts::read(&repository().join("tiny-wan/model"));
    let model = grafts::two_experts(&grafts::image_to_video(&tiny));
    let files = [transformer("high_noise_model/"), transformer("low_noise_model/")].concat();
    let hub = Hub::with(&model);
    let pipeline = hub.open_with(files);
    assert_eq!((pipeline.spec().task, pipeline.spec().boundary), (Task::ImageToVideo, Some(0.9)));
    pipeline.plan(&request().image(picture())).unwrap();
}

#[test]
fn a_folder_without_its_image_encoder() {
    let files = original(&image_to_video());
    let model = folder(&files);
    assert_eq!(open(&model).unwrap().spec().task, Task::ImageToVideo);
    fs::remove_file(model.path().join(CLIP)).unwrap();
    let error = error_of(open(&model), &[CLIP]);
    assert!(matches!(error, Error::Model(ModelError::WeightsFile(_))), "{error:?}");
    // Weights of another part under its name.
    fs::write(model.path().join(CLIP), files["Wan2.1_VAE.pth"].as_slice()).unwrap();
    let error = error_of(open(&model), &[CLIP, "a Wan 2.1 VAE", "image encoder"]);
    assert!(matches!(error, Error::Model(ModelError::OtherKind { .. })), "{error:?}");
    // The encoder of a model whose transformer has another width for its states.
    let other = folder(&original(&fixture("pipeline_i2v")));
    let one_headed = files[CLIP].as_slice();
    fs::write(other.path().join(CLIP), one_headed).unwrap();
    let error = error_of(open(&other), &["image_dim is 32", "hidden_size", CLIP, "64"]);
    assert!(matches!(error, Error::Model(ModelError::ConfigsDisagree { .. })), "{error:?}");
    // Heads of which the layout tells nothing.
    let error = error_of(open(&folder(&original(&fixture("pipeline_i2v")))), &[CLIP]);
    let ok = matches!(&error, Error::Model(ModelError::Checkpoint(CheckpointError::Heads { .. })));
    assert!(ok, "{error:?}");
}

/// Experts in the original layout have none, so that those that need one must be given it.
#[test]
fn two_experts_without_their_image_encoder() {
    let diffusers = image_to_video();
    let model = folder(&original(&grafts::two_experts(&diffusers)));
    let error = error_of(open(&model), &["image encoder"]);
    let is_it = matches!(error, Error::Model(ModelError::MissingPart { part: Role::ImageEncoder }));
    assert!(is_it, "{error:?}");
    let builder = Pipeline::<Flex>::builder(model.path()).image_encoder(model.path().join(CLIP));
    assert_eq!(builder.open().unwrap().spec().task, Task::ImageToVideo);
}

#[test]
fn parts_without_an_image_encoder() {
    let files = image_to_video();
    let (diffusers, original) = (folder(&files), folder(&original(&files)));
    let in_folder = |name: &str| diffusers.path().join(name);
    let in_original = |name: &str| original.path().join(name);
    let encoders = [in_folder("image_encoder"), in_original(CLIP)];
    let of_folders = || -> PipelineBuilder<Flex> {
        let parts = PipelineBuilder::from_parts().transformer(in_folder("transformer"));
        let parts = parts.text_encoder(in_folder("text_encoder")).vae(in_folder("vae"));
        parts.tokenizer(in_folder("tokenizer"))
    };
    let of_files = || -> PipelineBuilder<Flex> {
        let parts = PipelineBuilder::from_parts().transformer(in_original(INDEX));
        let parts = parts.text_encoder(in_original(REST[2])).vae(in_original(REST[0]));
        parts.tokenizer(in_original(REST[1]))
    };
    let all: [&dyn Fn() -> PipelineBuilder<Flex>; 2] = [&of_folders, &of_files];
    for parts in all {
        let error = error_of(parts().open(), &["no file is named for the image encoder"]);
        let is_it =
            matches!(error, Error::Model(ModelError::MissingPart { part: Role::ImageEncoder }));
        assert!(is_it, "{error:?}");
        for encoder in &encoders {
            let pipeline = parts().image_encoder(encoder).open().unwrap();
            assert_eq!(pipeline.spec().task, Task::ImageToVideo);
        }
        let vae = in_original(REST[0]);
        let error = error_of(parts().image_encoder(vae).open(), &[REST[0], "a Wan 2.1 VAE"]);
        assert!(matches!(error, Error::Model(ModelError::OtherKind { .. })), "{error:?}");
    }
    // A model for text has none that could be taken.
    let tiny = Pipeline::<Flex>::builder("tiny-wan").without_text_encoder();
    let error = error_of(tiny.transformer(in_folder("transformer")).open(), &["image_encoder"]);
    assert!(matches!(error, Error::Model(_)), "{error:?}");
}

/// What a model lacks is told before gigabytes of what it has are downloaded.
#[test]
fn what_is_missing_in_the_hub_is_told_before_weights_are_downloaded() {
    let without = |files: Files, start: &str| -> Files {
        files.into_iter().filter(|(path, _)| !path.starts_with(start)).collect()
    };
    let two = fixture("pipeline_two_expert");
    for (files, missing) in [
        (image_to_video(), "image_encoder/"),
        (original(&image_to_video()), CLIP),
        (two.clone(), "transformer_2/"),
        (original(&two), "low_noise_model/"),
        (original(&two), "high_noise_model/"),
    ] {
        let hub = Hub { hub: MockHub::start(), cache: tempfile::tempdir().unwrap() };
        hub.hub.add(Repo::new(REPO).files(without(files, missing)));
        error_of(hub.open(false), &[missing]);
        let is_weights =
            |file: &str| [".pth", ".safetensors"].iter().any(|end| file.ends_with(end));
        let asked = hub.hub.requests().into_iter().map(|request| request.file);
        let weights: Vec<String> = asked.filter(|file| is_weights(file)).collect();
        assert!(weights.is_empty(), "{missing} is missing, and {weights:?} were asked for");
    }
}
