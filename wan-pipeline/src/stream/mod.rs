//! A video as a stream: made and decoded a block of frames at a time, of any length.

mod options;
mod plan;

use std::sync::Arc;

use burn::tensor::Tensor;
use wan_core::noise::TorchGenerator;
use wan_core::scheduler::add_noise;
use wan_core::{Backend, Branch, Denoiser, Pass, StreamDecoder, VideoVae};
use wan_io::video::FrameSink;
use wan_models::transformer::{KvCache, WanTransformer};

use crate::clock::Clock;
use crate::conditions::Conditions;
use crate::decode::{catch_memory, out_of_memory, to_rgb};
use crate::denoising::check_finite;
use crate::plan::warn;
use crate::{Error, Event, Observer, Pipeline, Request, Role, Stage, Step, Video, VideoSpec};
pub use options::{StreamLength, StreamOptions};
pub use plan::StreamPlan;

/// A video that is made a block at a time, while the caller shows or writes the frames before it:
///
/// ```
/// # #[cfg(all(feature = "flex", feature = "tiny-wan"))]
/// # fn main() -> Result<(), wan_pipeline::Error> {
/// use wan_pipeline::{Observer, Pipeline, Request, StreamOptions, backend::Flex};
///
/// let pipeline = Pipeline::<Flex>::from_pretrained("tiny-wan")?;
/// let (request, observer) = (Request::new("a red circle").size(32, 32), &mut Observer::silent());
/// let options = StreamOptions::new().window(6).frames(17);
/// let mut stream = pipeline.stream(&request, &options, observer)?;
/// let mut frames = 0;
/// while let Some(block) = stream.next(observer)? {
///     frames += block.frames().len(); // 9, then 8 of 12
/// }
/// assert_eq!(frames, 17);
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "flex", feature = "tiny-wan")))]
/// # fn main() {}
/// ```
///
/// What it holds does not depend on the length of the video: keys and values of a window of frames, and the feature
/// cache of the VAE. The frames that it has made do not depend on how many follow.
///
/// All noise is drawn by one generator, equal to torch's CPU generator with the seed of the request: for each block
/// first that which it starts from, `[1, C, block, H, W]`, then that which each step but the last adds, of the same
/// shape.
pub struct VideoStream<'p, B: Backend> {
    pipeline: &'p Pipeline<B>,
    plan: StreamPlan,
    denoiser: Arc<WanTransformer<B>>,
    branch: Branch<B>,
    cache: KvCache<B>,
    decoder: Box<dyn StreamDecoder<B>>,
    generator: TorchGenerator,
    /// The latents of the last block, whose keys and values are not in the cache yet.
    last: Option<Tensor<B, 5>>,
    blocks: usize,
    frames: usize,
    has_failed: bool,
}

impl<B: Backend> Pipeline<B> {
    /// Begins a video that is made block by block, by a model that was trained for it: weights of Wan 2.1 T2V 1.3B or
    /// 14B from Self-Forcing, LongLive and others of their kind. Encodes the prompt and loads the transformer and the
    /// VAE.
    ///
    /// Each block is denoised in a few steps, without guidance, and attends to the frames of a window before it, whose
    /// keys and values are kept. Other models give frames that go wrong after the first block.
    ///
    /// Source: `pipeline/causal_inference.py` of Self-Forcing (guandeh17/Self-Forcing).
    ///
    /// # Errors
    /// Those of [`plan_stream`](Self::plan_stream); if there is not enough memory; if weights cannot be read, or the work
    /// is cancelled.
    pub fn stream(
        &self,
        request: &Request,
        options: &StreamOptions,
        observer: &mut Observer,
    ) -> Result<VideoStream<'_, B>, Error> {
        let plan = self.plan_stream(request, options)?;
        let memory = self.memory_to_stream(&plan);
        memory.check()?;
        let block = &plan.block;
        warn(std::slice::from_ref(block), std::slice::from_ref(request), observer)?;
        let embeddings = self.embed_all(&[(block, request)], observer)?.remove(0);
        self.make_room(Stage::Denoising, &memory);
        let placement = memory.placement();
        let denoiser = self.transformer(Role::Transformer, placement.transformer, observer)?;
        let text = embeddings.prompt.conditioning(block.text_length, &self.device);
        let [_, _, size @ ..] = block.latent_shape;
        let branch = denoiser.branches(&[Conditions::none().with_text(text)], size).remove(0);
        let [_, height, width] = size;
        Ok(VideoStream {
            pipeline: self,
            cache: denoiser.begin_causal(plan.window, [height, width]),
            decoder: self.vae(observer)?.stream_decoder(placement.vae),
            generator: TorchGenerator::new(block.seed),
            plan,
            denoiser,
            branch,
            last: None,
            blocks: 0,
            frames: 0,
            has_failed: false,
        })
    }
}

impl<B: Backend> VideoStream<'_, B> {
    /// The frames of the next block, in which the first has some fewer, as the first latent frame of a video stands
    /// for one frame; `None` after the last. After an error comes nothing.
    ///
    /// The observer is told each [`Event::Step`], of which the steps are those of a block, and each [`Event::Block`].
    ///
    /// # Errors
    /// [`Error::Cancelled`], soon after the observer's token says so; [`Error::NotFinite`]; [`Error::OutOfMemory`] if the
    /// device has too little to decode; if weights cannot be read.
    pub fn next(&mut self, observer: &mut Observer) -> Result<Option<Video>, Error> {
        if self.has_failed || self.plan.num_frames.is_some_and(|all| self.frames >= all) {
            return Ok(None);
        }
        let made = self.make_block(observer);
        self.has_failed = made.is_err();
        made.map(Some)
    }

    /// What is made: its size, and how many frames it has, or that it is without end.
    pub fn plan(&self) -> &StreamPlan {
        &self.plan
    }

    fn make_block(&mut self, observer: &mut Observer) -> Result<Video, Error> {
        if let Some(last) = self.last.take() {
            let clean = Pass::new(last, vec![0.0], &self.branch);
            self.denoiser.remember_block(&clean, &mut self.cache, observer.cancel_token())?;
        }
        let latents = self.denoise(observer)?;
        self.last = Some(latents.clone());
        let video = self.decode(&latents, observer)?;
        self.blocks += 1;
        observer.emit(Event::Block { done: self.blocks, frames: self.frames })?;
        Ok(video)
    }

    /// The latents of the next block: each step goes to the clean prediction, and from there to the next noise level
    /// with fresh noise.
    fn denoise(&mut self, observer: &mut Observer) -> Result<Tensor<B, 5>, Error> {
        let Self { pipeline, denoiser, branch, cache, generator, .. } = self;
        let plan = &self.plan.block;
        let (clock, shape, steps) = (Clock::start(0), plan.latent_shape, plan.steps());
        let mut latents = pipeline.draw(generator, shape);
        for (i, &timestep) in plan.schedule.timesteps.iter().enumerate() {
            let [sigma, next_sigma] = [i, i + 1].map(|i| plan.schedule.sigmas[i]);
            let pass = Pass::new(latents.clone(), vec![timestep], branch);
            let velocity = denoiser.causal_velocity(&pass, cache, observer.cancel_token())?;
            if pipeline.checks_finite {
                let block = self.blocks + 1;
                let stage = || format!("denoising block {block}, step {} of {steps}", i + 1);
                check_finite(stage, &velocity)?;
            }
            let clean = latents - velocity * sigma;
            latents = match next_sigma > 0.0 {
                true => add_noise(clean, pipeline.draw(generator, shape), next_sigma.into()),
                false => clean,
            };
            let step = Step { done: i + 1, steps, timestep, sigma, next_sigma };
            observer.emit(clock.event(&step))?;
            pipeline.tell_of_slow_reading(Role::Transformer, denoiser.reading(), observer)?;
        }
        Ok(latents)
    }

    /// The frames that latents stand for, as many as the video still has.
    fn decode(&mut self, latents: &Tensor<B, 5>, observer: &mut Observer) -> Result<Video, Error> {
        let mut pixels = Vec::new();
        let block = &self.plan.block;
        let frame_bytes = block.video_spec().frame_bytes();
        let most = self.plan.num_frames.map_or(usize::MAX, |all| all - self.frames);
        for i in 0..latents.dims()[2] {
            if pixels.len() / frame_bytes >= most {
                break;
            }
            let latent = latents.clone().narrow(2, i, 1);
            let push = || self.decoder.push(latent, observer.cancel_token());
            let frames = catch_memory(push).map_err(out_of_memory)??;
            pixels.extend(to_rgb(frames)?.0);
        }
        let count = (pixels.len() / frame_bytes).min(most);
        let spec = VideoSpec { frames: count as u32, ..block.video_spec() };
        let mut video = Video::with_spec(spec, block.metadata());
        for frame in pixels.chunks_exact(frame_bytes).take(count) {
            video.write_frame(frame)?;
        }
        self.frames += count;
        Ok(video)
    }
}
