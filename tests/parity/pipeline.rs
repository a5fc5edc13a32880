//! Whole pipelines: `WanPipeline` from prompt to frames, on the grid of diffusers.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Tensor};
use serde_json::Value;
use wan_core::noise::TorchGenerator;
use wan_core::scheduler::Steps;
use wan_core::{Backend, VideoVae};
use wan_io::files::ModelFiles;
use wan_io::weights::Weights;
use wan_models::load::{TensorSource, load};
use wan_models::vae::{WanVae, WanVaeConfig};
use wan_pipeline::{Conditioning, Pipeline, Precision, SchedulerConfig, SigmaGrid};

use crate::fixture::{Array, Fixture, compare, compare_half, folders_of, half_dtypes, json};
use crate::tolerance::Stage;

/// Why a pipeline is not one that is supported yet, if it is not.
pub fn unsupported(folder: &Path) -> Option<String> {
    let error = Pipeline::<burn::backend::Flex>::from_pretrained(folder.join("model")).err();
    error.map(|error| error.to_string())
}

pub fn is_kind(folder: &Path) -> bool {
    let class = &json(&folder.join("model/model_index.json"))["_class_name"];
    class == "WanPipeline" && unsupported(folder).is_none()
}

pub fn videos<B: Backend>(backend: &str) {
    for folder in folders_of("text-to-video pipeline", is_kind) {
        let fixture = Fixture::open(&folder);
        let pipeline = open::<B>(&folder, Precision::F32);
        let vae = open_vae::<B>(&folder);
        let mut checked = 0;
        for (case, description) in fixture.meta["cases"].as_object().expect("cases") {
            match scheduler(&pipeline, description) {
                Ok(scheduler) => {
                    check(backend, &fixture, case, description, &pipeline, &vae, &scheduler);
                    checked += 1;
                }
                Err(reason) => println!("{backend:8} {case:60} not supported: {reason}"),
            }
        }
        assert!(checked > 0);
    }
}

fn open<B: Backend>(folder: &Path, precision: Precision) -> Pipeline<B> {
    Pipeline::builder(folder.join("model")).precision(precision).open().unwrap()
}

/// From the prompt to the last latents in 16 bits.
pub fn half_precision<B: Backend>(backend: &str) {
    for dtype in half_dtypes::<B>(backend) {
        let precision = if dtype == DType::F16 { Precision::F16 } else { Precision::Bf16 };
        for folder in folders_of("text-to-video pipeline", is_kind) {
            let fixture = Fixture::open(&folder);
            let pipeline = open::<B>(&folder, precision);
            assert_eq!(pipeline.dtypes().networks, dtype);
            assert_eq!(pipeline.dtypes().vae, DType::F32);
            for (case, description) in fixture.meta["cases"].as_object().expect("cases") {
                let Ok(scheduler) = scheduler(&pipeline, description) else { continue };
                let latents = denoise(&fixture, case, description, &pipeline, &scheduler).latents;
                let name = format!("{case}.final_latents");
                let exact = fixture.outputs.get(&name);
                let stage = (Stage::Latents, dtype);
                compare_half(backend, &name, stage, &Array::of(latents), exact);
            }
        }
    }
}

fn scheduler<B: Backend>(
    pipeline: &Pipeline<B>,
    description: &Value,
) -> Result<SchedulerConfig, String> {
    let scheduler = &description["scheduler"];
    if scheduler.is_string() {
        return Ok(pipeline.scheduler_config().clone());
    }
    let class = scheduler["class"].as_str().expect("a class");
    let config = SchedulerConfig::from_json(&scheduler["config"]).map_err(|e| e.to_string())?;
    assert_eq!(config.kind.class(), class);
    Ok(config)
}

fn check<B: Backend>(
    backend: &str,
    fixture: &Fixture,
    case: &str,
    description: &Value,
    pipeline: &Pipeline<B>,
    vae: &WanVae<B>,
    scheduler: &SchedulerConfig,
) {
    let output = |name: &str| format!("{case}.{name}");
    let Denoised { text, noise, trajectory, latents } =
        denoise(fixture, case, description, pipeline, scheduler);
    fixture.check(backend, &output("prompt_embeds"), &Array::of(text.positive.padded()));
    if let Some(negative) = &text.negative {
        fixture.check(backend, &output("negative_prompt_embeds"), &Array::of(negative.padded()));
    }
    fixture.check(backend, &output("initial_latents"), &Array::of(noise));
    let expected = fixture.outputs.get(&output("step_latents"));
    let found = Array { shape: expected.shape.clone(), values: trajectory };
    compare(backend, &output("step_latents"), &found, expected, fixture.tolerance());
    fixture.check(backend, &output("final_latents"), &Array::of(latents.clone()));

    let frames = Tensor::cat(vae.decode(latents).collect(), 2);
    let pixels = frames.permute([0, 2, 3, 4, 1]) * 0.5 + 0.5;
    fixture.check(backend, &output("video_np"), &Array::of(pixels));
}

/// What comes before the VAE.
struct Denoised<B: Backend> {
    text: Conditioning<B>,
    noise: Tensor<B, 5>,
    /// The latents after each step, one after the other.
    trajectory: Vec<f64>,
    latents: Tensor<B, 5>,
}

fn denoise<B: Backend>(
    fixture: &Fixture,
    case: &str,
    description: &Value,
    pipeline: &Pipeline<B>,
    scheduler: &SchedulerConfig,
) -> Denoised<B> {
    let arguments = &description["arguments"];
    // Where an argument is left out, its default in the reference.
    let number = |name: &str, default| arguments[name].as_u64().unwrap_or(default) as usize;
    let guidance = arguments["guidance_scale"].as_f64().unwrap_or(5.0);
    let videos = number("num_videos_per_prompt", 1);
    let length = number("max_sequence_length", 512);

    let prompts = strings(&arguments["prompt"]);
    let batch = prompts.len() * videos;
    let mut negatives = strings(&arguments["negative_prompt"]);
    negatives.resize(prompts.len(), negatives.first().cloned().unwrap_or_default());
    let encode = |prompts: &[String]| {
        // Videos of one prompt follow each other.
        let all: Vec<&str> =
            prompts.iter().flat_map(|p| std::iter::repeat_n(p.as_str(), videos)).collect();
        pipeline.encode_prompts(&all, length).unwrap()
    };
    let text = Conditioning {
        positive: encode(&prompts),
        negative: (guidance > 1.0).then(|| encode(&negatives)),
    };

    let shape = &fixture.outputs.get(&format!("{case}.initial_latents")).shape;
    let shape: [usize; 5] = shape[..].try_into().unwrap();
    assert_eq!(shape[0], batch);
    let seeds: Vec<u64> =
        description["seeds"].as_array().unwrap().iter().map(|s| s.as_u64().unwrap()).collect();
    let noise: Tensor<B, 5> = if seeds.len() == batch {
        pipeline.noise(&seeds, shape)
    } else {
        // One generator for all videos.
        let values = TorchGenerator::new(seeds[0]).randn(shape.iter().product());
        let values = values.into_iter().map(f64::from).collect();
        Array { shape: shape.to_vec(), values }.tensor(&B::open_device(0).unwrap())
    };

    let steps = Steps::Count(number("num_inference_steps", 50));
    let schedule = scheduler.schedule(SigmaGrid::Diffusers, &steps, None).unwrap();
    let generator = TorchGenerator::new(seeds[0]); // none of these schedulers draws from it
    let mut scheduler = scheduler.scheduler::<B>(&schedule, generator).unwrap();
    let mut trajectory = Vec::new();
    let mut on_step = |_, _, latents: &Tensor<B, 5>| {
        trajectory.extend(Array::of(latents.clone()).values);
        Ok(())
    };
    let latents =
        pipeline.sample(noise.clone(), &text, scheduler.as_mut(), guidance, &mut on_step).unwrap();
    Denoised { text, noise, trajectory, latents }
}

/// One prompt or a list of them.
fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => vec![text.clone()],
        Value::Array(list) => list.iter().map(|v| v.as_str().unwrap().to_owned()).collect(),
        _ => Vec::new(),
    }
}

fn open_vae<B: Backend>(folder: &Path) -> WanVae<B> {
    let files = ModelFiles::folder(&folder.join("model")).unwrap();
    let config: WanVaeConfig = files.json("vae/config.json").unwrap();
    let weights = Weights::open(&files, "vae", "diffusion_pytorch_model").unwrap();
    let source: Arc<dyn TensorSource> = Arc::new(weights);
    let device = B::open_device(0).unwrap();
    load(&source, &device, DType::F32, &config).unwrap()
}
