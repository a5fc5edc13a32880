//! A video as a stream, written while it is made, in memory that does not depend on its length:
//! `cargo run --release --example stream_video -- [PROMPT]`.

use wan_pipeline::{
    Error, Event, FrameSink, Observer, Pipeline, Request, StreamOptions, VideoWriter, backend::Flex,
};

fn main() -> Result<(), Error> {
    let prompt = std::env::args().nth(1);
    let prompt = prompt.unwrap_or("a red circle moving right on a black background".into());
    // The models for this are those of Self-Forcing, LongLive and others of their kind. They are published as the
    // transformer alone, for the other parts of Wan 2.1 T2V 1.3B:
    // Pipeline::builder("Wan-AI/Wan2.1-T2V-1.3B").transformer("self_forcing_dmd.pt").open()?
    let pipeline = Pipeline::<Flex>::from_pretrained("tiny-wan")?;
    let observer = &mut Observer::new(|event| {
        if let Event::Block { done, frames } = event {
            println!("block {done}: {frames} frames");
        }
    });
    // Blocks of three latent frames see themselves and the nine before them. With `endless` there is no last one.
    let options = StreamOptions::new().window(12).sink(3).frames(60);
    let mut stream = pipeline.stream(&Request::new(prompt).size(64, 64), &options, observer)?;
    let spec = stream.plan().video_spec().expect("it has an end");
    let metadata = stream.plan().metadata();
    let mut writer = VideoWriter::create("stream_video.mp4", &spec, &metadata)?;
    while let Some(block) = stream.next(observer)? {
        for frame in block.frames() {
            writer.write_frame(frame)?;
        }
    }
    writer.finish()?;
    println!("stream_video.mp4: {} frames", spec.frames);
    Ok(())
}
