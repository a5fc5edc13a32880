//! From noise to latents, one step at a time.

use std::sync::Arc;

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::guidance::{Guidance, Guide, Passes};
use wan_core::noise::TorchGenerator;
use wan_core::scheduler::{Scheduler, add_noise};
use wan_core::{Backend, CancelToken, Denoiser, Pass, ReadingPace};
use wan_models::load::Residency;

use crate::clock::Clock;
use crate::conditions::Conditions;
use crate::plan::warn;
use crate::source_video::FirstFrames;
use crate::video_run::{Own, VideoBranches, VideoRun};
use crate::{
    Embeddings, Error, Event, Latents, Observer, Pipeline, Plan, PromptEmbeds, Request,
    RequestError, Role, SourceVideo, Stage, Video,
};

/// A run of some videos through the network, stepped by the caller:
///
/// ```
/// # #[cfg(all(feature = "flex", feature = "tiny-wan"))]
/// # fn main() -> Result<(), wan_pipeline::Error> {
/// use wan_pipeline::{Guidance, Observer, Pipeline, Request, backend::Flex};
///
/// let pipeline = Pipeline::<Flex>::from_pretrained("tiny-wan")?;
/// let request = Request::new("a red circle growing").frames(5).steps(4);
/// let mut run = pipeline.start(&[request], &mut Observer::silent())?;
/// while let Some(step) = run.step()? {
///     if step.done == 2 {
///         run.set_guidance(Guidance::off())?; // the rest is twice as fast
///     }
/// }
/// let latents = run.finish();
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "flex", feature = "tiny-wan")))]
/// # fn main() {}
/// ```
///
/// What is constant over the run (embedded text, rotary tables, keys and values of cross-attention) is
/// computed once. Each video has its own prompt, seed and guidance, and is the same as in a run alone.
pub struct Denoising<'p, B: Backend> {
    pub(crate) pipeline: &'p Pipeline<B>,
    /// The network of the next step; `None` after the last one: its memory is free for decoding.
    active: Option<Active<B>>,
    residency: Residency,
    pub(crate) videos: Vec<VideoRun<B>>,
    pub(crate) done: usize,
    cancel: CancelToken,
}

/// A network, and what it has made of the conditions of each video.
struct Active<B: Backend> {
    role: Role,
    denoiser: Arc<dyn Denoiser<B>>,
    branches: Vec<VideoBranches<B>>,
}

/// A step that was done.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Step {
    /// Steps done, this one included.
    pub done: usize,
    /// All steps of the run.
    pub steps: usize,
    /// The timestep that the network was asked at.
    pub timestep: f32,
    /// The noise level before the step.
    pub sigma: f32,
    /// The noise level after it.
    pub next_sigma: f32,
}

impl<B: Backend> Pipeline<B> {
    /// Begins a run: resolves the requests, encodes their prompts, loads the transformer and draws the
    /// noise. The token of `observer` stops the run's steps too.
    ///
    /// # Errors
    /// If a request cannot be fulfilled, the requests do not agree in size, frames, steps and
    /// scheduler, weights cannot be read, or the work is cancelled.
    pub fn start(
        &self,
        requests: &[Request],
        observer: &mut Observer,
    ) -> Result<Denoising<'_, B>, Error> {
        let plans = self.plan_batch(requests)?;
        check_one_run(&plans)?;
        self.memory(&plans).check()?;
        warn(&plans, requests, observer)?;
        let pairs: Vec<_> = plans.iter().zip(requests).collect();
        let embeddings = self.embed_all(&pairs, observer)?;
        let videos = pairs.into_iter().zip(embeddings);
        let videos =
            videos.map(|((plan, request), embeddings)| (plan.clone(), request, embeddings));
        self.start_embedded(videos.collect(), observer)
    }

    /// Begins a run of plans that agree, with their embeddings.
    pub(crate) fn start_embedded(
        &self,
        videos: Vec<(Plan, &Request, Embeddings)>,
        observer: &mut Observer,
    ) -> Result<Denoising<'_, B>, Error> {
        let mut parts: Vec<RunPart<B>> = Vec::new();
        let mut known: Vec<(&Request, Arc<Conditions<B>>)> = Vec::new();
        for (plan, request, embeddings) in videos {
            // The videos of a run are of one size.
            let same = known.iter().find(|(other, _)| other.has_inputs_of(request));
            let conditions = match same {
                Some((_, conditions)) => conditions.clone(),
                None => Arc::new(self.conditions(request, &plan, observer)?),
            };
            known.push((request, conditions.clone()));
            let mut generator = TorchGenerator::new(plan.seed);
            let noise = self.draw(&mut generator, plan.latent_shape);
            let latents = match self.clean_latents(request, &plan, observer)? {
                Some(clean) => add_noise(clean, noise, f64::from(plan.schedule.run_sigmas()[0])),
                None => noise,
            };
            let scheduler = plan.scheduler.scheduler(&plan.schedule, generator)?;
            parts.push(RunPart { plan, embeddings, conditions, latents, scheduler });
        }
        self.assemble(parts, 0, observer)
    }

    /// A run from its parts. Branches of equal embeddings are made once.
    pub(crate) fn assemble(
        &self,
        parts: Vec<RunPart<B>>,
        done: usize,
        observer: &mut Observer,
    ) -> Result<Denoising<'_, B>, Error> {
        let plans: Vec<Plan> = parts.iter().map(|part| part.plan.clone()).collect();
        let memory = self.memory(&plans);
        memory.clone().only(Stage::Denoising).check()?;
        self.make_room(Stage::Denoising, &memory);
        let mut videos = Vec::new();
        for RunPart { plan, embeddings, conditions, latents, scheduler } in parts {
            videos.push(VideoRun {
                conditions,
                guide: plan.guide()?,
                prediction: None,
                own: Own::default(),
                plan,
                embeddings,
                latents,
                scheduler,
            });
        }
        let residency = memory.placement().transformer;
        let cancel = observer.cancel_token().clone();
        let mut run = Denoising { pipeline: self, active: None, residency, videos, done, cancel };
        run.prepare(observer)?;
        Ok(run)
    }

    /// Noise `[1, C, T, H, W]`, equal to that of torch with a CPU generator.
    pub(crate) fn draw(&self, generator: &mut TorchGenerator, shape: [usize; 5]) -> Tensor<B, 5> {
        let data = TensorData::new(generator.randn(shape.iter().product()), shape);
        Tensor::from_data(data, (&self.device, DType::F32))
    }

    /// The clean latents that a request starts from, if it does not start from noise alone.
    fn clean_latents(
        &self,
        request: &Request,
        plan: &Plan,
        observer: &mut Observer,
    ) -> Result<Option<Tensor<B, 5>>, Error> {
        if plan.strength.is_none() {
            return Ok(None); // a video to change or to follow is a condition
        }
        if let Some(latents) = &request.latents {
            let data = TensorData::new(latents.values(), latents.shape());
            return Ok(Some(Tensor::from_data(data, (&self.device, DType::F32))));
        }
        request.video.as_ref().map(|video| self.encode_video(video, plan, observer)).transpose()
    }

    /// The latents of a video to start from.
    fn encode_video(
        &self,
        video: &SourceVideo,
        plan: &Plan,
        observer: &mut Observer,
    ) -> Result<Tensor<B, 5>, Error> {
        observer.emit(Event::EncodingVideo { frames: plan.num_frames })?;
        let frames = FirstFrames { video, count: plan.num_frames, device: &self.device };
        self.encode_frames(&frames, plan, observer)
    }
}

/// What a video of a run is made of.
pub(crate) struct RunPart<B: Backend> {
    pub(crate) plan: Plan,
    pub(crate) embeddings: Embeddings,
    pub(crate) conditions: Arc<Conditions<B>>,
    pub(crate) latents: Tensor<B, 5>,
    pub(crate) scheduler: Box<dyn Scheduler<B>>,
}

impl<B: Backend> Denoising<'_, B> {
    /// Does the next step for all videos; `None` where all are done.
    ///
    /// The network is asked for all predictions together, block by block. Where it is stopped or fails,
    /// the run is as before the step: it can be saved, or go on.
    ///
    /// # Errors
    /// [`Error::Cancelled`], soon after the token says so; [`Error::NotFinite`].
    pub fn step(&mut self) -> Result<Option<Step>, Error> {
        if self.done == self.steps() {
            return Ok(None);
        }
        self.prepare(&mut Observer::silent().cancelled_by(&self.cancel.clone()))?;
        let before: Vec<_> = self.videos.iter().map(|video| video.guide.state()).collect();
        let velocities = self.velocities()?;
        if let Err(error) = self.check_finite(&velocities) {
            for (video, state) in self.videos.iter_mut().zip(before) {
                video.guide.restore(state);
            }
            return Err(error);
        }
        for (video, velocity) in self.videos.iter_mut().zip(velocities) {
            video.advance(self.done, velocity);
        }
        self.done += 1;
        if self.done == self.steps() {
            self.active = None;
        }
        Ok(Some(self.last_step()))
    }

    /// Loads the network of the next step, if it is not there: one that has no more steps goes first.
    fn prepare(&mut self, observer: &mut Observer) -> Result<(), Error> {
        let Some(first) = self.videos.first().filter(|video| self.done < video.plan.steps()) else {
            return Ok(());
        };
        let role = match self.done < first.plan.steps_at_high_noise() {
            true => Role::Transformer,
            false => Role::Transformer2,
        };
        if self.active.as_ref().is_some_and(|active| active.role == role) {
            return Ok(());
        }
        self.active = None;
        let denoiser: Arc<dyn Denoiser<B>> =
            self.pipeline.transformer(role, self.residency, observer)?;
        let branches = self.branches(denoiser.as_ref());
        self.active = Some(Active { role, branches, denoiser });
        Ok(())
    }

    /// What a network makes of the conditions of each video; of equal ones once.
    fn branches(&self, denoiser: &dyn Denoiser<B>) -> Vec<VideoBranches<B>> {
        let (mut different, mut places): (Vec<(usize, &PromptEmbeds)>, _) =
            (Vec::new(), Vec::new());
        let mut place = |video: usize, embeds| {
            let equal = |&(other, known): &(usize, &PromptEmbeds)| {
                let [a, b] = [other, video].map(|i| &self.videos[i]);
                known == embeds
                    && a.plan.text_length == b.plan.text_length
                    && Conditions::are_shared(&a.conditions, &b.conditions)
            };
            different.iter().position(equal).unwrap_or_else(|| {
                different.push((video, embeds));
                different.len() - 1
            })
        };
        for (video, VideoRun { embeddings, .. }) in self.videos.iter().enumerate() {
            let conditional = place(video, &embeddings.prompt);
            places
                .push((conditional, embeddings.negative_prompt.as_ref().map(|e| place(video, e))));
        }
        let conditionings: Vec<_> = different
            .iter()
            .map(|&(video, embeds)| self.videos[video].conditioning(embeds, &self.pipeline.device))
            .collect();
        let [_, _, size @ ..] = self.videos[0].plan.latent_shape;
        let branches = denoiser.branches(&conditionings, size);
        let of_video = |(conditional, unconditional): (usize, Option<usize>)| VideoBranches {
            conditional: branches[conditional].clone(),
            unconditional: unconditional.map(|i| branches[i].clone()),
        };
        places.into_iter().map(of_video).collect()
    }

    /// Tells `observer` if weights come more slowly from their files than the network computes; once for a
    /// pipeline. [`run`](Self::run) does it after each step.
    ///
    /// # Errors
    /// [`Error::Cancelled`], if the observer says so.
    pub fn tell_of_slow_disk(&self, observer: &mut Observer) -> Result<(), Error> {
        let role = self.active.as_ref().map_or(Role::Transformer, |active| active.role);
        self.pipeline.tell_of_slow_reading(role, self.reading(), observer)
    }

    /// How the reading of weights has gone so far, where they are read in each step.
    pub fn reading(&self) -> Option<ReadingPace> {
        self.active.as_ref()?.denoiser.reading()
    }

    /// Steps done.
    pub fn done(&self) -> usize {
        self.done
    }

    /// All steps of the run.
    pub fn steps(&self) -> usize {
        self.videos.first().map_or(0, |video| video.plan.steps())
    }

    /// How many videos go through the network together.
    pub fn videos(&self) -> usize {
        self.videos.len()
    }

    /// The plan of a video, counted from 0.
    ///
    /// # Errors
    /// If there are fewer videos.
    pub fn plan(&self, video: usize) -> Result<&Plan, Error> {
        Ok(&self.video(video)?.plan)
    }

    /// The latents of a video as they are now.
    ///
    /// # Errors
    /// If there are fewer videos.
    pub fn latents(&self, video: usize) -> Result<Latents<B>, Error> {
        let run = self.video(video)?;
        Ok(run.without_references(run.latents.clone()))
    }

    /// Goes on from other latents.
    ///
    /// # Errors
    /// If there are fewer videos, or the shape is another.
    pub fn set_latents(&mut self, video: usize, latents: Latents<B>) -> Result<(), Error> {
        let run = self.video_mut(video)?;
        let (found, expected) = (latents.shape(), run.plan.latent_shape());
        if found != expected {
            return Err(RequestError::LatentsShape { found, expected }.into());
        }
        let latents = latents.into_tensor();
        run.latents = match run.plan.references {
            0 => latents,
            count => Tensor::cat(vec![run.latents.clone().narrow(2, 0, count), latents], 2),
        };
        Ok(())
    }

    /// The clean video, in latents, that the last step predicted; `None` before the first step.
    ///
    /// # Errors
    /// If there are fewer videos.
    pub fn prediction(&self, video: usize) -> Result<Option<Latents<B>>, Error> {
        let run = self.video(video)?;
        Ok(run.prediction.clone().map(|prediction| run.without_references(prediction)))
    }

    /// A small, rough look at a video: its prediction (before the first step: its latents), each latent
    /// pixel by a map to colours. One frame for each latent frame.
    ///
    /// # Errors
    /// If there are fewer videos, or the VAE cannot be loaded, from which the map is fitted the first
    /// time.
    pub fn preview(&self, video: usize) -> Result<Video, Error> {
        let run = self.video(video)?;
        let latents = run.prediction.clone().unwrap_or_else(|| run.latents.clone());
        self.pipeline.preview(&run.without_references(latents), &run.plan)
    }

    /// Changes the guidance of all videos from the next step on.
    ///
    /// # Errors
    /// If the guidance does not fit the steps of the run; or if it needs a negative prompt that has not
    /// been encoded, and that fails.
    pub fn set_guidance(&mut self, guidance: impl Into<Guidance>) -> Result<(), Error> {
        let guidance = guidance.into();
        (0..self.videos()).try_for_each(|video| self.set_guidance_of(video, guidance.clone()))
    }

    /// Changes the guidance of one video from the next step on. A negative prompt that the guidance
    /// needs and that was not needed before is encoded now.
    ///
    /// # Errors
    /// Those of [`set_guidance`](Self::set_guidance), and if there are fewer videos.
    pub fn set_guidance_of(
        &mut self,
        video: usize,
        guidance: impl Into<Guidance>,
    ) -> Result<(), Error> {
        let guidance = guidance.into();
        let before = self.video(video)?.plan.clone();
        let guidance_2 = before.guidance_2.as_ref().map(|_| guidance.clone());
        let plan = Plan { guidance, guidance_2, ..before };
        let guide = plan.guide()?;
        if plan.needs_negative()? {
            self.require_negative(video, &plan)?;
        }
        let run = self.video_mut(video)?;
        (run.plan, run.guide, run.own.guide) = (plan, guide, false);
        Ok(())
    }

    /// Guides a video by a rule of the caller's own from the next step on. Such a run cannot be saved.
    ///
    /// # Errors
    /// If there are fewer videos; or if its negative prompt has not been encoded, and that fails.
    pub fn set_guide(&mut self, video: usize, guide: Box<dyn Guide<B>>) -> Result<(), Error> {
        let plan = self.video(video)?.plan.clone();
        if (self.done..self.steps()).any(|step| guide.passes(step) == Passes::Both) {
            self.require_negative(video, &plan)?;
        }
        let run = self.video_mut(video)?;
        (run.guide, run.own.guide) = (guide, true);
        Ok(())
    }

    /// Integrates the flow of a video by a method of the caller's own from the next step on. It must have
    /// the steps of the run; in the middle of a run, those that are done must be behind it
    /// ([`Scheduler::restore`]) if it tells its state. Such a run cannot be saved.
    ///
    /// # Errors
    /// If there are fewer videos, or the steps are others.
    pub fn set_scheduler(
        &mut self,
        video: usize,
        scheduler: Box<dyn Scheduler<B>>,
    ) -> Result<(), Error> {
        let (steps, sigmas) = (scheduler.timesteps().len(), scheduler.sigmas().len());
        let done = scheduler.state().map_or(self.done, |state| state.steps_done);
        for (name, found, expected, what) in [
            ("steps of the scheduler", steps, self.steps(), "the steps of the run"),
            ("noise levels of the scheduler", sigmas, self.steps() + 1, "one more than steps"),
            ("steps that the scheduler has done", done, self.done, "those that the run has done"),
        ] {
            if found != expected {
                let (found, expected) = (found as f64, format!("{expected}, {what}"));
                return Err(RequestError::Range { name, found, expected }.into());
            }
        }
        let run = self.video_mut(video)?;
        (run.scheduler, run.own.scheduler) = (scheduler, true);
        Ok(())
    }

    /// Stops the steps from now on when `token` is cancelled, in place of the token that the run began
    /// with.
    pub fn set_cancel_token(&mut self, token: &CancelToken) {
        self.cancel = token.clone();
    }

    /// The latents of all videos, in order; as they are, also before the last step.
    pub fn finish(self) -> Vec<Latents<B>> {
        let latents = |video: VideoRun<B>| video.without_references(video.latents.clone());
        self.videos.into_iter().map(latents).collect()
    }

    /// Does all steps that are left and tells `observer` of each.
    ///
    /// # Errors
    /// Those of [`step`](Self::step).
    pub fn run(&mut self, observer: &mut Observer) -> Result<(), Error> {
        let clock = Clock::start(self.done);
        self.set_cancel_token(observer.cancel_token());
        self.prepare(observer)?;
        while let Some(step) = self.step()? {
            observer.emit(clock.event(&step))?;
            self.tell_of_slow_disk(observer)?;
            self.prepare(observer)?;
        }
        Ok(())
    }

    /// The guided velocity of each video.
    fn velocities(&mut self) -> Result<Vec<Tensor<B, 5>>, Error> {
        let step = self.done;
        let wanted: Vec<Passes> =
            self.videos.iter().map(|video| video.guide.passes(step)).collect();
        for (video, _) in wanted.iter().enumerate().filter(|(_, wanted)| **wanted == Passes::Both) {
            // A guide of the caller's own may decide on the way.
            let plan = self.videos[video].plan.clone();
            self.require_negative(video, &plan)?;
        }
        let Active { denoiser, branches, .. } =
            self.active.as_ref().expect("prepared before the step");
        let patch = self.pipeline.model.transformer.config.patch_size;
        let videos = self.videos.iter().zip(branches).zip(&wanted);
        let passes: Vec<Pass<B>> = videos
            .flat_map(|((video, branches), wanted)| video.passes(step, *wanted, branches, patch))
            .collect();
        let velocities = match passes.is_empty() {
            true => Vec::new(),
            false => denoiser.velocities(&passes, &self.cancel)?,
        };
        let (mut velocities, videos) = (velocities.into_iter(), self.videos.iter_mut());
        let guided =
            videos.zip(wanted).map(|(video, wanted)| video.guide(step, wanted, &mut velocities));
        Ok(guided.collect())
    }

    fn check_finite(&self, velocities: &[Tensor<B, 5>]) -> Result<(), Error> {
        if !self.pipeline.checks_finite {
            return Ok(());
        }
        let stage = || format!("denoising, step {} of {}", self.done + 1, self.steps());
        velocities.iter().try_for_each(|velocity| check_finite(stage, velocity))
    }

    fn last_step(&self) -> Step {
        let (i, steps) = (self.done - 1, self.steps());
        let scheduler = &self.videos[0].scheduler;
        let sigmas = scheduler.sigmas();
        Step {
            done: self.done,
            steps,
            timestep: scheduler.timesteps()[i],
            sigma: sigmas[i],
            next_sigma: sigmas[i + 1],
        }
    }

    fn require_negative(&mut self, video: usize, plan: &Plan) -> Result<(), Error> {
        if self.video(video)?.embeddings.negative_prompt.is_some() {
            return Ok(());
        }
        let observer = &mut Observer::silent().cancelled_by(&self.cancel);
        let embeds = self.pipeline.embed_negative(video, plan, observer)?;
        let run = &mut self.videos[video];
        if let Some(Active { denoiser, branches, .. }) = &mut self.active {
            let conditioning = run.conditioning(&embeds, &self.pipeline.device);
            let [_, _, size @ ..] = run.plan.latent_shape;
            let made = denoiser.branches(&[conditioning], size);
            branches[video].unconditional = made.into_iter().next();
        }
        run.embeddings.negative_prompt = Some(embeds);
        Ok(())
    }

    fn video(&self, video: usize) -> Result<&VideoRun<B>, Error> {
        let no_such = RequestError::NoSuchVideo { found: video, count: self.videos.len() };
        self.videos.get(video).ok_or(no_such.into())
    }

    fn video_mut(&mut self, video: usize) -> Result<&mut VideoRun<B>, Error> {
        let no_such = RequestError::NoSuchVideo { found: video, count: self.videos.len() };
        self.videos.get_mut(video).ok_or(no_such.into())
    }
}

/// Fails unless plans can go through the network together.
fn check_one_run(plans: &[Plan]) -> Result<(), RequestError> {
    let Some(first) = plans.first() else { return Err(RequestError::EmptyBatch) };
    match plans.iter().position(|plan| !plan.is_one_run_with(first)) {
        None => Ok(()),
        Some(request) => Err(RequestError::NotOneRun {
            request,
            found: plans[request].run_in_words(),
            expected: first.run_in_words(),
        }),
    }
}

pub(crate) fn check_finite<B: Backend, const D: usize>(
    stage: impl FnOnce() -> String,
    x: &Tensor<B, D>,
) -> Result<(), Error> {
    match B::wan_is_finite(x.clone()) {
        true => Ok(()),
        false => Err(Error::NotFinite { stage: stage() }),
    }
}
