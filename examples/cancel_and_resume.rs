//! A run that is stopped from another thread, saved, and resumed to the same video:
//! `cargo run --release --example cancel_and_resume`.

use std::thread;

use wan_pipeline::{CancelToken, Error, Observer, Pipeline, Request, Video, backend::Flex};

fn main() -> Result<(), Error> {
    let pipeline = Pipeline::<Flex>::from_pretrained("tiny-wan")?;
    let request = Request::new("a blue square growing on a gray background").frames(17).steps(8);

    let token = CancelToken::default();
    let observer = &mut Observer::silent().cancelled_by(&token);
    let mut run = pipeline.start(std::slice::from_ref(&request), observer)?;
    run.step()?;
    run.step()?;
    thread::spawn(move || token.cancel()).join().expect("the thread does not panic");
    assert!(matches!(run.step(), Err(Error::Cancelled)));
    run.save("run.safetensors")?;
    println!("run.safetensors: {} of {} steps", run.done(), run.steps());

    let mut run = pipeline.resume("run.safetensors", &mut Observer::silent())?;
    run.run(&mut Observer::silent())?;
    let mut video = Video::new(run.plan(0)?);
    pipeline.decode(&run.finish()[0], &mut video, &mut Observer::silent())?;
    video.save("cancel_and_resume.mp4")?;
    println!("cancel_and_resume.mp4: {} frames", video.frames().len());

    assert_eq!(video, pipeline.generate(&request)?, "the same as without the interruption");
    Ok(())
}
