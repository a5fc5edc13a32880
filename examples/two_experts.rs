//! A model with two experts, of which one is in memory at a time, and a guidance for each:
//! `cargo run --release --example two_experts -- [MODEL]`, where MODEL is a folder or a repository, such as
//! Wan-AI/Wan2.2-T2V-A14B-Diffusers.

use wan_pipeline::{Error, Event, Observer, Pipeline, Request, backend::Flex};

fn main() -> Result<(), Error> {
    let model = std::env::args().nth(1).unwrap_or("Wan-AI/Wan2.2-T2V-A14B-Diffusers".into());
    let pipeline = Pipeline::<Flex>::from_pretrained(model)?;
    let request = Request::new("a red circle moving right on a black background")
        .frames(17)
        .guidance(4.0)
        .guidance_2(3.0);
    let plan = pipeline.plan(&request)?;
    let high = plan.steps_at_high_noise();
    println!("{high} steps at high noise, {} at low", plan.steps() - high);
    let observer = &mut Observer::new(|event| {
        if let Event::Loading { role } = event {
            println!("loading the {role}");
        }
    });
    pipeline.generate_with(&request, observer)?.save("two_experts.mp4")
}
