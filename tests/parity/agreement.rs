//! Backends against each other, stage by stage, with the trained weights of the miniature model.

use burn::backend::Flex;
use burn::tensor::Tensor;
use wan_core::Backend;
use wan_io::video::VideoError;
use wan_pipeline::{Conditioning, FrameSink, Pipeline, Precision, Request, ignore_events};

use crate::fixture::{Array, compare};
use crate::tolerance::BETWEEN_BACKENDS;

/// What each stage gives.
struct Stages {
    text: Array,
    /// After each step.
    latents: Vec<Array>,
    frames: Array,
}

pub fn with_flex<B: Backend>(backend: &str) {
    let (ours, flex) = (run::<B>(), run::<Flex>());
    let check = |name: &str, ours: &Array, flex: &Array| {
        compare(backend, &format!("{name}, against flex"), ours, flex, BETWEEN_BACKENDS);
    };
    check("text", &ours.text, &flex.text);
    assert_eq!(ours.latents.len(), flex.latents.len(), "steps");
    for (i, (ours, flex)) in ours.latents.iter().zip(&flex.latents).enumerate() {
        check(&format!("latents after step {}", i + 1), ours, flex);
    }
    // Pixels are whole numbers: those next to a boundary may fall on either side.
    compare(backend, "frames, against flex", &ours.frames, &flex.frames, (1.0, 0.0));
}

fn run<B: Backend>() -> Stages {
    let builder = Pipeline::<B>::builder("tiny-wan").precision(Precision::F32);
    let pipeline = builder.open().unwrap();
    let request = Request::new("一个红色的圆形在黑色背景上向右移动").frames(9).steps(3).seed(7);
    let settings = pipeline.settle(&request).unwrap();
    let prompts = [settings.prompt.as_str(), settings.negative_prompt.as_str()];
    let [positive, negative] =
        prompts.map(|prompt| pipeline.encode_prompts(&[prompt], settings.text_length).unwrap());
    let text = Array::of(positive.embeddings.clone());
    let conditioning = Conditioning { positive, negative: Some(negative) };
    let noise = pipeline.noise(&[settings.seed], pipeline.latent_shape(&settings));
    let mut scheduler = pipeline.scheduler(&settings).unwrap();
    let mut latents = Vec::new();
    let mut on_step = |_, _, step: &Tensor<B, 5>| {
        latents.push(Array::of(step.clone()));
        Ok(())
    };
    let guidance = settings.guidance;
    let last =
        pipeline.sample(noise, &conditioning, scheduler.as_mut(), guidance, &mut on_step).unwrap();

    let mut pixels = Pixels(Vec::new());
    pipeline.decode(last, &mut pixels, &mut ignore_events).unwrap();
    Stages { text, latents, frames: Array { shape: vec![pixels.0.len()], values: pixels.0 } }
}

struct Pixels(Vec<f64>);

impl FrameSink for Pixels {
    fn write_frame(&mut self, rgb: &[u8]) -> Result<(), VideoError> {
        self.0.extend(rgb.iter().map(|&value| f64::from(value)));
        Ok(())
    }
}
