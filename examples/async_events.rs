//! Videos made beside the tasks of an async program: `cargo run --release --example async_events`.
//!
//! The work is done on a worker's own thread, so that no task of the runtime is blocked; its events
//! come through a channel of the runtime.

use std::sync::Arc;

use tokio::sync::mpsc::unbounded_channel;
use wan_pipeline::{Error, Event, Pipeline, Request, Worker, backend::Flex};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Error> {
    let worker = Worker::new(Arc::new(Pipeline::<Flex>::from_pretrained("tiny-wan")?));
    let request = |prompt: &str| vec![Request::new(prompt).frames(9).steps(4)];

    let (sender, mut events) = unbounded_channel();
    let job = worker.submit_with(request("a red circle moving right"), move |event| {
        drop(sender.send(event)); // nobody has to listen
    });
    let queued = worker.submit(request("a blue square growing"));
    let unwanted = worker.submit(request("a green triangle shrinking"));
    unwanted.cancel();

    while let Some(event) = events.recv().await {
        match event {
            Event::Step { done, steps, .. } => println!("step {done} of {steps}"),
            Event::Frame { done, frames, .. } if done == frames => println!("{frames} frames"),
            _ => {}
        }
    }
    let wait = |job: wan_pipeline::Job| tokio::task::spawn_blocking(move || job.wait());
    let videos = wait(job).await.expect("the worker does not panic")?;
    videos[0].save("first.mp4")?;
    wait(queued).await.expect("the worker does not panic")?[0].save("second.mp4")?;
    assert!(matches!(wait(unwanted).await, Ok(Err(Error::Cancelled))));
    println!("first.mp4, second.mp4");
    Ok(())
}
