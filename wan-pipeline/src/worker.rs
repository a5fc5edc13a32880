//! Videos made on a thread of their own.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use wan_core::CancelToken;

use crate::{Error, Event, Generate, Observer, Request, Video};

/// A thread that makes the videos of one batch after the other.
///
/// ```
/// # #[cfg(all(feature = "flex", feature = "tiny-wan"))]
/// # fn main() -> Result<(), wan_pipeline::Error> {
/// use std::sync::Arc;
/// use wan_pipeline::{Event, Pipeline, Request, Worker, backend::Flex};
///
/// let worker = Worker::new(Arc::new(Pipeline::<Flex>::from_pretrained("tiny-wan")?));
/// let small = Request::new("a red circle growing").frames(5).steps(2);
/// let first = worker.submit(vec![small.clone()]);
/// let second = worker.submit(small.with_seeds(0..2)); // queued
/// let steps = first.events().iter().filter(|event| matches!(event, Event::Step { .. }));
/// assert_eq!(steps.count(), 2);
/// assert_eq!(first.wait()?.len() + second.wait()?.len(), 3);
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "flex", feature = "tiny-wan")))]
/// # fn main() {}
/// ```
///
/// Dropping it waits for the batches that are queued; cancel them to end sooner.
pub struct Worker {
    /// `None` once the worker is dropped.
    queue: Option<Sender<Work>>,
    thread: Option<JoinHandle<()>>,
}

type Work = Box<dyn FnOnce(&dyn Generate) + Send>;

impl Worker {
    /// Starts the thread.
    pub fn new(pipeline: Arc<dyn Generate>) -> Self {
        let (queue, work) = channel::<Work>();
        let run = move || work.into_iter().for_each(|work| work(pipeline.as_ref()));
        Self { queue: Some(queue), thread: Some(thread::spawn(run)) }
    }

    /// Queues a batch. Its events wait in the job's channel.
    pub fn submit(&self, requests: Vec<Request>) -> Job {
        let (sender, events) = channel();
        // Nobody has to read them.
        let job = self.submit_with(requests, move |event| drop(sender.send(event)));
        Job { events, ..job }
    }

    /// Queues a batch and calls `on_event` with each event, on the worker's thread: for channels of
    /// other kinds, such as those of an async runtime.
    pub fn submit_with(
        &self,
        requests: Vec<Request>,
        on_event: impl FnMut(Event) + Send + 'static,
    ) -> Job {
        let cancel = CancelToken::default();
        let (token, (sender, result)) = (cancel.clone(), channel());
        let work: Work = Box::new(move |pipeline| {
            let generate = move || {
                let mut observer = Observer::new(on_event).cancelled_by(&token);
                token.check()?;
                pipeline.generate_batch_with(&requests, &mut observer)
            };
            // A panic is the waiting caller's, and not the end of what else is queued. With the observer
            // its channel of events is gone before the result is there.
            let videos = catch_unwind(AssertUnwindSafe(generate));
            drop(sender.send(videos)); // nobody has to wait for it
        });
        if let Some(queue) = &self.queue {
            // The thread ends after the queue has.
            drop(queue.send(work));
        }
        Job { events: channel().1, result, cancel }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            drop(thread.join()); // panics of the work have been caught
        }
    }
}

/// A batch that a [`Worker`] makes or will make.
#[derive(Debug)]
pub struct Job {
    events: Receiver<Event>,
    result: Receiver<thread::Result<Result<Vec<Video>, Error>>>,
    cancel: CancelToken,
}

impl Job {
    /// The events of the batch; the channel closes with its end.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    /// Stops the batch, also where it is still queued.
    pub fn cancel(&self) {
        self.cancel.cancel();
    }

    /// The token that stops the batch.
    pub fn cancel_token(&self) -> &CancelToken {
        &self.cancel
    }

    /// Waits for the videos.
    ///
    /// # Errors
    /// Those of [`Pipeline::generate_batch_with`](crate::Pipeline::generate_batch_with).
    ///
    /// # Panics
    /// With the panic of the work, if it panicked.
    pub fn wait(self) -> Result<Vec<Video>, Error> {
        match self.result.recv() {
            Ok(Ok(videos)) => videos,
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(Error::Cancelled), // the process ends
        }
    }
}
