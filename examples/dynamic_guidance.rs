//! Guidance that changes within a run: `cargo run --release --example dynamic_guidance`.

use wan_pipeline::{Guidance, Observer, Pipeline, Request, Schedule, Video, backend::Flex};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pipeline = Pipeline::<Flex>::from_pretrained("tiny-wan")?;
    let request = Request::new("一个黄色三角形在黑色背景上向上移动").frames(17).steps(12);

    // Known before: six steps at 4, six at 2; the same is `Guidance::cfg(..)` of "6x.." in text form.
    let schedule: Schedule = "4x6+2x6".parse()?;
    let planned = pipeline.plan(&request.clone().guidance(Guidance::cfg(schedule)))?;
    println!("scales: {:?}", planned.guidance_scales());

    // Decided on the way: guided until the prediction hardly moves, then without guidance, in which a
    // step takes half of the time.
    let mut run = pipeline.start(&[request.guidance(4.0)], &mut Observer::silent())?;
    let mut before: Option<Vec<f32>> = None;
    while let Some(step) = run.step()? {
        let prediction = run.prediction(0)?.map(|latents| latents.to_vec()).unwrap_or_default();
        let moved = before.as_ref().map_or(f32::INFINITY, |before| distance(before, &prediction));
        println!("step {}: the prediction moved by {moved:.3}", step.done);
        if moved < 0.1 {
            run.set_guidance(Guidance::off())?;
        }
        before = Some(prediction);
    }
    let mut video = Video::new(run.plan(0)?);
    pipeline.decode(&run.finish()[0], &mut video, &mut Observer::silent())?;
    video.save("dynamic_guidance.mp4")?;
    println!("dynamic_guidance.mp4: {} frames", video.frames().len());
    Ok(())
}

/// The root of the mean square of the difference.
fn distance(a: &[f32], b: &[f32]) -> f32 {
    let squares: f32 = a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum();
    (squares / a.len() as f32).sqrt()
}
