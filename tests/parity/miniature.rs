//! The miniature model that begins with a picture, with one and without, beside what the reference makes of it.

use std::path::Path;

use burn::tensor::Tensor;
use wan_core::{Backend, CancelToken, VaeMemory, VideoVae};
use wan_pipeline::{Observer, Pipeline, Precision, Request, SigmaGrid};

use crate::conditions::image;
use crate::fixture::{Array, Fixture, json, root};
use crate::pipeline::{check_trajectory, open_vae};

/// Frames of the videos that the fixture keeps in f32.
const KEPT: [usize; 6] = [0, 1, 4, 8, 12, 16];

pub fn is_kind(folder: &Path) -> bool {
    json(&folder.join("meta.json"))["fixture"] == "tiny_ti2v"
}

pub fn videos<B: Backend>(backend: &str) {
    let fixture = Fixture::open(&root().join("tiny_ti2v"));
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tiny-wan-ti2v/model");
    let pipeline: Pipeline<B> = Pipeline::builder(&model).precision(Precision::F32).open().unwrap();
    let vae = open_vae::<B>(&model);
    let cases = fixture.meta["cases"].as_object().expect("cases");
    assert_eq!(cases.len(), 2);
    for (name, case) in cases {
        let arguments = &case["arguments"];
        let number = |name: &str| arguments[name].as_u64().expect("a number") as usize;
        let request = Request::new(arguments["prompt"].as_str().expect("a prompt"))
            .negative_prompt("")
            .size(number("width"), number("height"))
            .frames(number("num_frames"))
            .steps(number("num_inference_steps"))
            .guidance(arguments["guidance_scale"].as_f64().expect("a scale"))
            .seed(case["seed"].as_u64().expect("a seed"))
            .sigma_grid(SigmaGrid::Diffusers);
        let begins = name == "i2v";
        let request = request.image(begins.then(|| image(&fixture, "image_uint8")));
        let mut run = pipeline.start(&[request], &mut Observer::silent()).unwrap();
        let latents =
            |run: &wan_pipeline::Denoising<B>| Array::of(run.latents(0).unwrap().into_tensor());
        let output = |what: &str| format!("{name}.{what}");
        fixture.check(backend, &output("initial_latents"), &latents(&run));
        let mut trajectory = Vec::new();
        while run.step().unwrap().is_some() {
            trajectory.extend(latents(&run).values);
        }
        check_trajectory(backend, &fixture, &output("step_latents"), trajectory, begins);
        fixture.check(backend, &output("final_latents"), &latents(&run));
        let cancel = CancelToken::default();
        let last = run.finish().remove(0).into_tensor();
        let frames = vae.decode(last, VaeMemory::new(), &cancel);
        let frames: Vec<Tensor<B, 5>> =
            frames.filter_map(|chunk| chunk.unwrap().frames()).collect();
        let frames = Tensor::cat(frames, 2).permute([0, 2, 3, 4, 1]) * 0.5 + 0.5;
        let kept = KEPT.map(|i| frames.clone().narrow(1, i, 1));
        fixture.check(backend, &output("video_np_frames"), &Array::of(Tensor::cat(kept.into(), 1)));
    }
}
