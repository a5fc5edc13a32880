//! From prompts to videos, top to bottom.

use wan_core::Backend;

use crate::plan::warn;
use crate::{Error, Latents, Observer, Pipeline, Plan, Request, RequestError, Stage, Video};

impl<B: Backend> Pipeline<B> {
    /// Makes a video.
    ///
    /// # Errors
    /// If the request asks for something that the model cannot do, which is found before anything
    /// is computed; or if weights cannot be read.
    pub fn generate(&self, request: &Request) -> Result<Video, Error> {
        self.generate_with(request, &mut Observer::silent())
    }

    /// Makes a video that `observer` follows and can stop.
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate), and [`Error::Cancelled`].
    pub fn generate_with(
        &self,
        request: &Request,
        observer: &mut Observer,
    ) -> Result<Video, Error> {
        let videos = self.generate_batch_with(std::slice::from_ref(request), observer)?;
        videos.into_iter().next().ok_or(RequestError::EmptyBatch.into())
    }

    /// Makes the videos of a batch, each as it would be alone.
    ///
    /// Requests that agree in size, frames, steps and scheduler go through the network together; the
    /// others follow in groups. Prompts are encoded first, equal ones once.
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate); that of one request is found before anything is computed
    /// for the others.
    pub fn generate_batch(&self, requests: &[Request]) -> Result<Vec<Video>, Error> {
        self.generate_batch_with(requests, &mut Observer::silent())
    }

    /// Makes the videos of a batch that `observer` follows and can stop.
    ///
    /// # Errors
    /// Those of [`generate_batch`](Self::generate_batch), and [`Error::Cancelled`].
    pub fn generate_batch_with(
        &self,
        requests: &[Request],
        observer: &mut Observer,
    ) -> Result<Vec<Video>, Error> {
        let plans = self.plan_batch(requests)?;
        self.memory(&plans).keeping_frames().check()?;
        let latents = self.denoise_plans(&plans, requests, observer)?;
        let mut videos = Vec::new();
        for (index, (plan, latents)) in plans.iter().zip(&latents).enumerate() {
            let mut video = Video::new(plan);
            self.decode_one(index, latents, &mut video, observer)?;
            videos.push(video);
        }
        Ok(videos)
    }

    /// The first two thirds of [`generate_batch`](Self::generate_batch): from prompts to latents, which
    /// are worth keeping until they are decoded.
    ///
    /// # Errors
    /// Those of [`generate_batch_with`](Self::generate_batch_with).
    pub fn denoise_batch(
        &self,
        requests: &[Request],
        observer: &mut Observer,
    ) -> Result<Vec<Latents<B>>, Error> {
        let plans = self.plan_batch(requests)?;
        self.memory(&plans).without(Stage::Decoding).check()?;
        self.denoise_plans(&plans, requests, observer)
    }

    fn denoise_plans(
        &self,
        plans: &[Plan],
        requests: &[Request],
        observer: &mut Observer,
    ) -> Result<Vec<Latents<B>>, Error> {
        warn(plans, requests, observer)?;
        let pairs: Vec<_> = plans.iter().zip(requests).collect();
        let embeddings = self.embed_all(&pairs, observer)?;
        let mut latents: Vec<Option<Latents<B>>> = vec![None; requests.len()];
        for group in groups(plans) {
            let part = |&i: &usize| (plans[i].clone(), &requests[i], embeddings[i].clone());
            let mut run = self.start_embedded(group.iter().map(part).collect(), observer)?;
            run.run(observer)?;
            for (i, finished) in group.into_iter().zip(run.finish()) {
                latents[i] = Some(finished);
            }
        }
        Ok(latents.into_iter().flatten().collect())
    }

    /// The plans of a batch.
    ///
    /// # Errors
    /// If it is empty, or a request cannot be fulfilled.
    pub fn plan_batch(&self, requests: &[Request]) -> Result<Vec<Plan>, Error> {
        if requests.is_empty() {
            return Err(RequestError::EmptyBatch.into());
        }
        requests.iter().map(|request| self.plan(request)).collect()
    }
}

/// The indices of plans that go through the network together, in the order of the first of each group.
pub(crate) fn groups(plans: &[Plan]) -> Vec<Vec<usize>> {
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for (i, plan) in plans.iter().enumerate() {
        match groups.iter_mut().find(|group| plan.is_one_run_with(&plans[group[0]])) {
            Some(group) => group.push(i),
            None => groups.push(vec![i]),
        }
    }
    groups
}
