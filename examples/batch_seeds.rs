//! Four takes of one prompt in one batch: `cargo run --release --example batch_seeds`.
//!
//! The prompt is encoded once, the weights of each block are read once a step for all four, and each
//! video is the one that its seed gives alone.

use wan_pipeline::{Error, Pipeline, Request, backend::Flex};

fn main() -> Result<(), Error> {
    let pipeline = Pipeline::<Flex>::from_pretrained("tiny-wan")?;
    let request =
        Request::new("a red circle moving right on a black background").frames(17).steps(8);
    let batch = request.with_seeds(1..=4);
    println!("each video adds {} kB to the run", pipeline.plan(&batch[0])?.bytes_in_batch() / 1000);
    for (video, request) in pipeline.generate_batch(&batch)?.iter().zip(&batch) {
        let path = format!("seed-{}.mp4", request.seed);
        video.save(&path)?;
        println!("{path}: {} frames", video.frames().len());
    }
    Ok(())
}
