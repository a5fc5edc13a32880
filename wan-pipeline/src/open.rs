//! Pipelines whose backend is chosen at run time.

use std::path::Path;

use wan_core::Backend;

use crate::{
    BackendChoice, Embeddings, Error, MemoryPlan, Observer, Pipeline, Plan, Request, RequestError,
    StreamOptions, StreamPlan, Video, VideoStream, WithBackend, with_backend,
};

/// A pipeline on any backend: nothing of it depends on the backend's type.
///
/// ```
/// # #[cfg(all(feature = "flex", feature = "tiny-wan"))]
/// # fn main() -> Result<(), wan_pipeline::Error> {
/// use wan_pipeline::{BackendChoice, Generate, Request};
///
/// let pipeline = wan_pipeline::open("tiny-wan", BackendChoice::Auto)?;
/// let request = Request::new("a red circle growing").frames(5).steps(2);
/// let video = pipeline.generate(&request)?;
/// assert_eq!(video.frames().len(), 5);
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "flex", feature = "tiny-wan")))]
/// # fn main() {}
/// ```
pub trait Generate: Send + Sync {
    /// See [`Pipeline::plan`].
    ///
    /// # Errors
    /// Those of [`Pipeline::plan`].
    fn plan(&self, request: &Request) -> Result<Plan, Error>;

    /// See [`Pipeline::memory`].
    fn memory(&self, plans: &[Plan]) -> MemoryPlan;

    /// See [`Pipeline::generate_batch_with`].
    ///
    /// # Errors
    /// Those of [`Pipeline::generate_batch_with`].
    fn generate_batch_with(
        &self,
        requests: &[Request],
        observer: &mut Observer,
    ) -> Result<Vec<Video>, Error>;

    /// See [`Pipeline::stream`].
    ///
    /// # Errors
    /// Those of [`Pipeline::stream`].
    fn stream(
        &self,
        request: &Request,
        options: &StreamOptions,
        observer: &mut Observer,
    ) -> Result<Box<dyn BlockStream + '_>, Error>;

    /// See [`Pipeline::embed`].
    ///
    /// # Errors
    /// Those of [`Pipeline::embed`].
    fn embed(&self, request: &Request, observer: &mut Observer) -> Result<Embeddings, Error>;

    /// See [`Pipeline::generate`].
    ///
    /// # Errors
    /// Those of [`Pipeline::generate`].
    fn generate(&self, request: &Request) -> Result<Video, Error> {
        let one = std::slice::from_ref(request);
        let videos = self.generate_batch_with(one, &mut Observer::silent())?;
        videos.into_iter().next().ok_or(RequestError::EmptyBatch.into())
    }
}

impl<B: Backend> Generate for Pipeline<B> {
    fn plan(&self, request: &Request) -> Result<Plan, Error> {
        self.plan(request)
    }

    fn memory(&self, plans: &[Plan]) -> MemoryPlan {
        self.memory(plans)
    }

    fn generate_batch_with(
        &self,
        requests: &[Request],
        observer: &mut Observer,
    ) -> Result<Vec<Video>, Error> {
        self.generate_batch_with(requests, observer)
    }

    fn stream(
        &self,
        request: &Request,
        options: &StreamOptions,
        observer: &mut Observer,
    ) -> Result<Box<dyn BlockStream + '_>, Error> {
        Ok(Box::new(self.stream(request, options, observer)?))
    }

    fn embed(&self, request: &Request, observer: &mut Observer) -> Result<Embeddings, Error> {
        self.embed(request, observer)
    }
}

/// A [`VideoStream`] on any backend.
pub trait BlockStream {
    /// See [`VideoStream::plan`].
    fn plan(&self) -> &StreamPlan;

    /// See [`VideoStream::next`].
    ///
    /// # Errors
    /// Those of [`VideoStream::next`].
    fn next(&mut self, observer: &mut Observer) -> Result<Option<Video>, Error>;
}

impl<B: Backend> BlockStream for VideoStream<'_, B> {
    fn plan(&self) -> &StreamPlan {
        self.plan()
    }

    fn next(&mut self, observer: &mut Observer) -> Result<Option<Video>, Error> {
        self.next(observer)
    }
}

/// Opens a model by its name (see [`Pipeline::from_pretrained`]) on a backend that is chosen at run
/// time.
///
/// # Errors
/// If the backend is not compiled in or does not work, and those of [`Pipeline::from_pretrained`].
pub fn open(name: impl AsRef<Path>, choice: BackendChoice) -> Result<Box<dyn Generate>, Error> {
    struct Open<'a>(&'a Path);

    impl WithBackend for Open<'_> {
        type Output = Result<Box<dyn Generate>, Error>;

        fn run<B: Backend>(self) -> Self::Output {
            Ok(Box::new(Pipeline::<B>::from_pretrained(self.0)?))
        }
    }

    with_backend(choice, Open(name.as_ref()))?
}
