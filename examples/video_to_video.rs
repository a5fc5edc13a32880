//! A video made over from another one: `cargo run --release --example video_to_video -- [FILE]`, where
//! FILE is an mp4 with H.264, a GIF, or a folder of PNG frames; without one, a video is made first.

use wan_pipeline::{Error, Pipeline, Request, SourceVideo, backend::Flex};

fn main() -> Result<(), Error> {
    let pipeline = Pipeline::<Flex>::from_pretrained("tiny-wan")?;
    let source = match std::env::args_os().nth(1) {
        Some(path) => SourceVideo::open(path)?,
        None => {
            let request = Request::new("a red circle moving right on a black background");
            SourceVideo::from(&pipeline.generate(&request.frames(33).steps(8))?)
        }
    };
    // Size, length and rate are those of the source. With a strength of 0.7 the last 70 % of the steps
    // are run: what moves where stays, what it looks like may change.
    let request = Request::new("a blue circle moving right on a black background");
    let video = pipeline.generate(&request.video(source).strength(0.7).steps(12))?;
    video.save("video_to_video.mp4")?;
    println!("video_to_video.mp4: {} frames", video.frames().len());
    Ok(())
}
