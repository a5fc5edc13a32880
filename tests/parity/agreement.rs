//! Backends against each other, stage by stage, with the trained weights of the miniature model.

use burn::backend::Flex;
use wan_core::Backend;
use wan_io::video::VideoError;
use wan_pipeline::{FrameSink, Observer, Pipeline, Precision, Request};

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
    let observer = &mut Observer::silent();
    let embeds = pipeline.embed(&request, observer).unwrap().prompt;
    let text = array(&[embeds.tokens(), embeds.width()], embeds.states());

    let mut run = pipeline.start(&[request], observer).unwrap();
    let mut latents = Vec::new();
    while run.step().unwrap().is_some() {
        let step = run.latents(0).unwrap();
        latents.push(array(&step.shape(), &step.to_vec()));
    }

    let mut pixels = Pixels(Vec::new());
    pipeline.decode(&run.finish()[0], &mut pixels, observer).unwrap();
    Stages { text, latents, frames: Array { shape: vec![pixels.0.len()], values: pixels.0 } }
}

fn array(shape: &[usize], values: &[f32]) -> Array {
    Array { shape: shape.to_vec(), values: values.iter().map(|&value| value.into()).collect() }
}

struct Pixels(Vec<f64>);

impl FrameSink for Pixels {
    fn write_frame(&mut self, rgb: &[u8]) -> Result<(), VideoError> {
        self.0.extend(rgb.iter().map(|&value| f64::from(value)));
        Ok(())
    }
}
