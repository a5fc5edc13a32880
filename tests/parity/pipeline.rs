//! Whole pipelines from prompt to frames, on the grid of diffusers: `WanPipeline` with one or two experts,
//! `WanVideoToVideoPipeline` with a model of the former, and `WanImageToVideoPipeline`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{DType, Tensor};
use serde_json::Value;
use wan_core::noise::TorchGenerator;
use wan_core::{Backend, CancelToken, VaeMemory, VideoVae};
use wan_io::files::ModelFiles;
use wan_io::weights::Weights;
use wan_models::load::{TensorSource, load};
use wan_models::vae::{WanVae, WanVaeConfig};
use wan_pipeline::{
    Denoising, Embeddings, Latents, Observer, Pipeline, Precision, PromptEmbeds, Request,
    SchedulerConfig, SigmaGrid, SourceVideo, Task,
};

use crate::conditions::image;
use crate::fixture::{Array, Fixture, compare, compare_half, folders_of, half_dtypes, json};
use crate::tolerance::Stage;

/// The rate of the source videos, which no number of the fixtures depends on.
const FPS: u32 = 16;

/// Why a pipeline is not one that is supported yet, if it is not.
pub fn unsupported(folder: &Path) -> Option<String> {
    let error = Pipeline::<burn::backend::Flex>::from_pretrained(folder.join("model")).err();
    error.map(|error| error.to_string())
}

pub fn is_kind(folder: &Path) -> bool {
    let class = &json(&folder.join("model/model_index.json"))["_class_name"];
    (class == "WanPipeline" || class == "WanImageToVideoPipeline") && unsupported(folder).is_none()
}

pub fn is_video_to_video(folder: &Path) -> bool {
    let call = &json(&folder.join("meta.json"))["call"];
    call.as_str().is_some_and(|call| call.starts_with("WanVideoToVideoPipeline"))
}

pub fn videos<B: Backend>(backend: &str) {
    for folder in folders_of("pipeline", is_kind) {
        check_all::<B>(backend, &folder);
    }
}

pub fn videos_from_videos<B: Backend>(backend: &str) {
    for folder in folders_of("video-to-video pipeline", is_video_to_video) {
        check_all::<B>(backend, &folder);
    }
}

fn check_all<B: Backend>(backend: &str, folder: &Path) {
    let fixture = Fixture::open(folder);
    let pipeline = open::<B>(&fixture, Precision::F32);
    let vae = open_vae::<B>(&model(&fixture));
    let cases = fixture.meta["cases"].as_object().expect("cases");
    assert!(!cases.is_empty());
    for name in cases.keys() {
        check(backend, &Case::new(&fixture, name, &pipeline), &pipeline, &vae);
    }
}

/// From the prompt to the last latents in 16 bits; what a picture is encoded with has a test of its own.
pub fn half_precision<B: Backend>(backend: &str) {
    for dtype in half_dtypes::<B>(backend) {
        let precision = if dtype == DType::F16 { Precision::F16 } else { Precision::Bf16 };
        for folder in folders_of("pipeline", is_kind) {
            let fixture = Fixture::open(&folder);
            let pipeline = open::<B>(&fixture, precision);
            assert_eq!(pipeline.dtypes().text_encoder, dtype);
            assert_eq!(pipeline.dtypes().transformer, dtype);
            for name in fixture.meta["cases"].as_object().expect("cases").keys() {
                let case = Case::new(&fixture, name, &pipeline);
                let latents = denoise(&case, &pipeline).latents;
                let name = case.output("final_latents");
                let exact = fixture.outputs.get(&name);
                compare_half(backend, &name, (Stage::Latents, dtype), &latents, exact);
            }
        }
    }
}

/// The folder of a fixture's model: its own, or the one that it names.
fn model(fixture: &Fixture) -> PathBuf {
    fixture.folder.join(fixture.meta["model"].as_str().unwrap_or("model"))
}

fn open<B: Backend>(fixture: &Fixture, precision: Precision) -> Pipeline<B> {
    let builder = Pipeline::builder(model(fixture)).precision(precision);
    builder.vae_precision(Precision::F32).open().unwrap()
}

pub fn open_vae<B: Backend>(model: &Path) -> WanVae<B> {
    let files = ModelFiles::folder(model).unwrap();
    let config: WanVaeConfig = files.json("vae/config.json").unwrap();
    let weights = Weights::open(&files, "vae", "diffusion_pytorch_model").unwrap();
    let source: Arc<dyn TensorSource> = Arc::new(weights);
    let device = B::open_device(0).unwrap();
    load(&source, &device, DType::F32, &config).unwrap()
}

/// A call of the reference's pipeline.
struct Case<'a> {
    fixture: &'a Fixture,
    name: &'a str,
    /// One a video; the videos of one prompt follow each other.
    requests: Vec<Request>,
    seeds: Vec<u64>,
}

impl<'a> Case<'a> {
    fn new<B: Backend>(fixture: &'a Fixture, name: &'a str, pipeline: &Pipeline<B>) -> Self {
        let description = &fixture.meta["cases"][name];
        let seeds = description["seeds"].as_array().expect("seeds");
        let seeds: Vec<u64> = seeds.iter().map(|seed| seed.as_u64().unwrap()).collect();
        let mut base = base_request(fixture, description, scheduler(pipeline, description));
        if pipeline.spec().task != Task::TextToVideo && name != "t2v" {
            base = base.image(image(fixture, "image_uint8"));
        }
        let arguments = &description["arguments"];
        let videos = arguments["num_videos_per_prompt"].as_u64().unwrap_or(1) as usize;
        let prompts = strings(&arguments["prompt"]);
        let mut negatives = strings(&arguments["negative_prompt"]);
        negatives.resize(prompts.len(), negatives.first().cloned().unwrap_or_default());
        let mut requests = Vec::new();
        for (prompt, negative) in prompts.into_iter().zip(negatives) {
            for _ in 0..videos {
                let mut request = base.clone().negative_prompt(negative.as_str());
                request.prompt.clone_from(&prompt);
                request.seed = seeds[requests.len() % seeds.len()];
                requests.push(request);
            }
        }
        Self { fixture, name, requests, seeds }
    }

    fn output(&self, name: &str) -> String {
        format!("{}.{name}", self.name)
    }

    fn check(&self, backend: &str, name: &str, found: &Array) {
        self.fixture.check(backend, &self.output(name), found);
    }

    /// Compares what is stored one after the other, in the shape that the fixture has it in.
    fn check_values(&self, backend: &str, name: &str, values: Vec<f64>) {
        let shape = self.fixture.outputs.get(&self.output(name)).shape.clone();
        self.check(backend, name, &Array { shape, values });
    }
}

/// What all videos of a case have in common.
fn base_request(fixture: &Fixture, description: &Value, scheduler: SchedulerConfig) -> Request {
    let arguments = &description["arguments"];
    let number = |name: &str| arguments[name].as_u64().map(|value| value as usize);
    // Where an argument is left out, its default in the reference.
    let mut request = Request::new("");
    request.guidance_2 = arguments["guidance_scale_2"].as_f64().map(Into::into);
    request
        .width(number("width"))
        .height(number("height"))
        .frames(number("num_frames"))
        .steps(number("num_inference_steps").unwrap_or(50))
        .guidance(arguments["guidance_scale"].as_f64().unwrap_or(5.0))
        .text_length(number("max_sequence_length").unwrap_or(512))
        .scheduler_config(scheduler)
        .sigma_grid(SigmaGrid::Diffusers)
        .video(source_video(fixture))
        .strength(arguments["strength"].as_f64())
}

fn scheduler<B: Backend>(pipeline: &Pipeline<B>, description: &Value) -> SchedulerConfig {
    let scheduler = &description["scheduler"];
    if !scheduler.is_object() {
        return pipeline.spec().scheduler.clone().expect("a scheduler of its own");
    }
    let config = SchedulerConfig::from_json(&scheduler["config"]).unwrap();
    assert_eq!(config.kind.class(), scheduler["class"].as_str().expect("a class"));
    config
}

/// The frames `[F, H, W, 3]` that a fixture starts from, if it does.
fn source_video(fixture: &Fixture) -> Option<SourceVideo> {
    if !fixture.inputs.has("video_uint8") {
        return None;
    }
    let frames = fixture.inputs.get("video_uint8");
    let [_, height, width, 3] = frames.shape[..] else { panic!("frames {:?}", frames.shape) };
    let bytes: Vec<u8> = frames.values.iter().map(|&value| value as u8).collect();
    let frames = bytes.chunks_exact(width * height * 3).map(<[u8]>::to_vec).collect();
    Some(SourceVideo::from_frames(width as u32, height as u32, FPS, frames).unwrap())
}

fn check<B: Backend>(backend: &str, case: &Case, pipeline: &Pipeline<B>, vae: &WanVae<B>) {
    check_embeddings(backend, case, pipeline);
    let Denoised { start, timesteps, trajectory, latents } = denoise(case, pipeline);
    let request = &case.requests[0];
    let first = if request.video.is_some() { "start_latents" } else { "initial_latents" };
    case.check(backend, first, &start);
    let expected = case.fixture.outputs.get(&case.output("timesteps"));
    let timesteps = Array { shape: vec![timesteps.len()], values: timesteps };
    compare(backend, &case.output("timesteps"), &timesteps, expected, (1e-4, 1e-6));
    let name = case.output("step_latents");
    let is_known = is_start_known(pipeline, request);
    check_trajectory(backend, case.fixture, &name, trajectory, is_known);
    case.check(backend, "final_latents", &latents);

    let latents = latents.tensor(pipeline.device());
    let cancel = CancelToken::default();
    let frames = vae.decode(latents, VaeMemory::new(), &cancel);
    let frames = Tensor::cat(frames.filter_map(|chunk| chunk.unwrap().frames()).collect(), 2);
    let pixels = frames.permute([0, 2, 3, 4, 1]) * 0.5 + 0.5;
    case.check(backend, "video_np", &Array::of(pixels));
}

/// Whether the first frame of the latents is known. Ours keeps it so after each step, as the original does, the
/// reference puts it in its place before each pass: the latents between two steps differ there, and nowhere else.
fn is_start_known<B: Backend>(pipeline: &Pipeline<B>, request: &Request) -> bool {
    pipeline.spec().task == Task::TextImageToVideo && request.image.is_some()
}

/// Compares the latents after each step, without the first frame where it is known.
pub fn check_trajectory(
    backend: &str,
    fixture: &Fixture,
    name: &str,
    values: Vec<f64>,
    is_start_known: bool,
) {
    let expected = fixture.outputs.get(name);
    let found = Array { shape: expected.shape.clone(), values };
    if !is_start_known {
        return fixture.check(backend, name, &found);
    }
    let (found, expected) = (without_first_frame(&found), without_first_frame(expected));
    compare(backend, name, &found, &expected, fixture.tolerance(backend, name));
}

/// `[.., T, H, W]` without the first of `T`.
fn without_first_frame(array: &Array) -> Array {
    let [.., frames, height, width] = array.shape[..] else { panic!("{:?}", array.shape) };
    let (video, frame) = (frames * height * width, height * width);
    let values = array.values.chunks(video).flat_map(|video| video[frame..].to_vec()).collect();
    let mut shape = array.shape.clone();
    let axis = shape.len() - 3;
    shape[axis] -= 1;
    Array { shape, values }
}

fn check_embeddings<B: Backend>(backend: &str, case: &Case, pipeline: &Pipeline<B>) {
    let (mut positive, mut negative) = (Vec::new(), Vec::new());
    for request in &case.requests {
        let embeddings = pipeline.embed(request, &mut Observer::silent()).unwrap();
        let Embeddings { prompt, negative_prompt, .. } = embeddings;
        positive.extend(padded(&prompt, request.text_length));
        negative.extend(negative_prompt.iter().flat_map(|e| padded(e, request.text_length)));
    }
    case.check_values(backend, "prompt_embeds", positive);
    let guided = case.fixture.outputs.has(&case.output("negative_prompt_embeds"));
    assert_eq!(!negative.is_empty(), guided, "{}: a negative prompt", case.name);
    if guided {
        case.check_values(backend, "negative_prompt_embeds", negative);
    }
}

/// Zero rows behind the states, as the reference has them.
fn padded(embeds: &PromptEmbeds, text_length: usize) -> Vec<f64> {
    let mut values: Vec<f64> = embeds.states().iter().map(|&value| value.into()).collect();
    values.resize(text_length * embeds.width(), 0.0);
    values
}

/// What comes before the VAE.
struct Denoised {
    /// The latents before the first step.
    start: Array,
    timesteps: Vec<f64>,
    /// The latents after each step, one after the other.
    trajectory: Vec<f64>,
    latents: Array,
}

fn denoise<B: Backend>(case: &Case, pipeline: &Pipeline<B>) -> Denoised {
    let mut run = pipeline.start(&case.requests, &mut Observer::silent()).unwrap();
    if case.seeds.len() < case.requests.len() {
        share_generator(&mut run, case.seeds[0], pipeline.device());
    }
    let start = latents(&run);
    let (mut timesteps, mut trajectory) = (Vec::new(), Vec::new());
    while let Some(step) = run.step().unwrap() {
        timesteps.push(step.timestep.into());
        trajectory.extend(latents(&run).values);
    }
    assert_eq!((run.done(), timesteps.len()), (run.steps(), run.steps()));
    Denoised { start, timesteps, trajectory, latents: latents(&run) }
}

/// The noise of all videos drawn by one generator, as the reference does where it is given but one.
fn share_generator<B: Backend>(run: &mut Denoising<B>, seed: u64, device: &B::Device) {
    let mut generator = TorchGenerator::new(seed);
    let shape = run.latents(0).unwrap().shape();
    let count = shape.iter().product::<usize>();
    let noise = generator.randn(count * run.videos()).into_iter().map(f64::from);
    for (video, values) in noise.collect::<Vec<_>>().chunks_exact(count).enumerate() {
        let noise = Array { shape: shape.to_vec(), values: values.to_vec() };
        run.set_latents(video, Latents::from_tensor(noise.tensor(device)).unwrap()).unwrap();
    }
}

/// The latents of all videos, `[B, C, T, H, W]`.
fn latents<B: Backend>(run: &Denoising<B>) -> Array {
    let latents = (0..run.videos()).map(|video| run.latents(video).unwrap().into_tensor());
    Array::of(Tensor::cat(latents.collect(), 0))
}

/// One prompt or a list of them.
fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list.iter().map(|v| v.as_str().unwrap().to_owned()).collect(),
        _ => Vec::new(),
    }
}
