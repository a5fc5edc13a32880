//! From a prompt to a video, top to bottom.

use std::time::Instant;

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::guidance::{classifier_free, needs_unconditional};
use wan_core::noise::TorchGenerator;
use wan_core::scheduler::{Scheduler, Steps};
use wan_core::{Backend, BurnBackend, Denoiser, TextConditioning, TextEncoder, VideoVae};
use wan_io::text::clean_prompt;
use wan_io::video::FrameSink;

use crate::{
    Error, Event, Observer, Pipeline, Request, SchedulerConfig, SchedulerKind, Settings, Video,
    ignore_events,
};

/// The text that steers a video: what to show, and what not to show if there is guidance.
#[derive(Debug, Clone)]
pub struct Conditioning<B: BurnBackend> {
    /// The prompts.
    pub positive: TextConditioning<B>,
    /// The negative prompts; `None` without guidance.
    pub negative: Option<TextConditioning<B>>,
}

/// Is told the steps done, all steps and the latents `[B, C, T, H, W]` after each step.
pub type StepObserver<'a, B> = dyn FnMut(usize, usize, &Tensor<B, 5>) -> Result<(), Error> + 'a;

impl<B: Backend> Pipeline<B> {
    /// Makes a video.
    ///
    /// # Errors
    /// If the request asks for something that the model cannot do, which is found before anything
    /// is computed; or if weights cannot be read.
    pub fn generate(&self, request: &Request) -> Result<Video, Error> {
        self.generate_with(request, &mut ignore_events)
    }

    /// Makes a video and tells `observer` how it goes on; it can cancel.
    ///
    /// # Errors
    /// Those of [`generate`](Self::generate), and [`Error::Cancelled`].
    pub fn generate_with(
        &self,
        request: &Request,
        observer: &mut Observer,
    ) -> Result<Video, Error> {
        let settings = self.settle(request)?;
        let latents = self.denoise(&settings, observer)?;
        let mut video = Video::new(self.video_spec(&settings), self.metadata(&settings));
        self.decode(latents, &mut video, observer)?;
        Ok(video)
    }

    /// The first two thirds of [`generate`](Self::generate): from the prompt to latents
    /// `[1, C, T, H, W]`, which are worth keeping until they are decoded.
    ///
    /// # Errors
    /// Those of [`generate_with`](Self::generate_with).
    pub fn denoise(
        &self,
        settings: &Settings,
        observer: &mut Observer,
    ) -> Result<Tensor<B, 5>, Error> {
        self.check(settings)?;
        let text = self.encode(settings, observer)?;
        self.transformer(observer)?; // only now, when the text encoder has been dropped
        let noise = self.noise(&[settings.seed], self.latent_shape(settings));
        let mut scheduler = self.scheduler::<B>(settings)?;
        let start = Instant::now();
        let mut on_step = |done: usize, steps: usize, _: &Tensor<B, 5>| {
            let elapsed = start.elapsed();
            let remaining = elapsed.mul_f64((steps - done) as f64 / done as f64);
            tell(observer, Event::Step { done, steps, elapsed, remaining })
        };
        self.sample(noise, &text, scheduler.as_mut(), settings.guidance, &mut on_step)
    }

    /// Encodes the prompts of one video.
    ///
    /// # Errors
    /// If the text encoder cannot be loaded, or the observer cancels.
    pub fn encode(
        &self,
        settings: &Settings,
        observer: &mut Observer,
    ) -> Result<Conditioning<B>, Error> {
        let encoder = self.load_text_encoder(observer)?;
        let mut encode = |which, prompt: &str| -> Result<_, Error> {
            let (ids, dropped) = self.tokenize(prompt, settings.text_length)?;
            let tokens = ids.len();
            if dropped > 0 {
                tracing::warn!("the {which} has {dropped} tokens too many: they have no effect");
                tell(observer, Event::PromptCut { which, kept: tokens, dropped })?;
            }
            let encoded = encoder.encode(&[ids], settings.text_length)?;
            check_finite(|| format!("encoding the {which}"), &encoded.embeddings)?;
            tell(observer, Event::Encoded { which, tokens })?;
            Ok(encoded)
        };
        let positive = encode("prompt", &settings.prompt)?;
        let negative = match needs_unconditional(settings.guidance) {
            true => Some(encode("negative prompt", &settings.negative_prompt)?),
            false => None,
        };
        Ok(Conditioning { positive, negative })
    }

    /// Encodes a batch of prompts, padded or cut to `text_length` tokens.
    ///
    /// # Errors
    /// If the text encoder cannot be loaded.
    pub fn encode_prompts(
        &self,
        prompts: &[&str],
        text_length: usize,
    ) -> Result<TextConditioning<B>, Error> {
        let ids: Result<Vec<_>, Error> =
            prompts.iter().map(|prompt| Ok(self.tokenize(prompt, text_length)?.0)).collect();
        let encoder = self.load_text_encoder(&mut ignore_events)?;
        Ok(encoder.encode(&ids?, text_length)?)
    }

    /// The noise that a batch of videos starts from, one generator a video: equal to that of torch
    /// with CPU generators of these seeds.
    pub fn noise(&self, seeds: &[u64], shape: [usize; 5]) -> Tensor<B, 5> {
        let one = shape[1..].iter().product();
        let values: Vec<f32> =
            seeds.iter().flat_map(|&seed| TorchGenerator::new(seed).randn(one)).collect();
        let [_, channels, frames, height, width] = shape;
        let data = TensorData::new(values, [seeds.len(), channels, frames, height, width]);
        Tensor::from_data(data, (&self.device, DType::F32))
    }

    /// Follows the flow from noise `[B, C, T, H, W]` to latents.
    ///
    /// # Errors
    /// If the transformer cannot be loaded, the result is not finite, or `on_step` fails.
    pub fn sample(
        &self,
        noise: Tensor<B, 5>,
        text: &Conditioning<B>,
        scheduler: &mut dyn Scheduler<B>,
        guidance: f64,
        on_step: &mut StepObserver<B>,
    ) -> Result<Tensor<B, 5>, Error> {
        let transformer = self.transformer(&mut ignore_events)?;
        let batch = noise.dims()[0];
        let timesteps = scheduler.timesteps().to_vec();
        let mut latents = noise;
        for (i, &timestep) in timesteps.iter().enumerate() {
            let predict = |text| transformer.denoise(latents.clone(), &vec![timestep; batch], text);
            let conditional = predict(&text.positive);
            let velocity = match &text.negative {
                Some(negative) if needs_unconditional(guidance) => {
                    classifier_free(conditional, predict(negative), guidance)
                }
                _ => conditional,
            };
            latents = scheduler.step(velocity, latents);
            if self.checks_finite {
                check_finite(
                    || format!("denoising, step {} of {}", i + 1, timesteps.len()),
                    &latents,
                )?;
            }
            on_step(i + 1, timesteps.len(), &latents)?;
        }
        Ok(latents)
    }

    /// Decodes latents `[1, C, T, H, W]` into `sink`, a few frames at a time, so that memory does
    /// not grow with the length of the video. The caller finishes the sink.
    ///
    /// # Errors
    /// If the latents are those of another model or of several videos, the VAE cannot be loaded, the
    /// sink fails, or the observer cancels.
    pub fn decode(
        &self,
        latents: Tensor<B, 5>,
        sink: &mut dyn FrameSink,
        observer: &mut Observer,
    ) -> Result<(), Error> {
        let ([batch, channels, ..], z_dim) = (latents.dims(), self.model.vae.z_dim);
        if batch != 1 || channels != z_dim {
            return Err(Error::LatentShape { found: latents.dims(), z_dim });
        }
        let vae = self.vae(observer)?;
        let frames = (latents.dims()[2] - 1) * self.model.vae.temporal_factor() + 1;
        let mut done = 0;
        for chunk in vae.decode(latents) {
            let [_, _, _, height, width] = chunk.dims();
            for frame in to_rgb(chunk)?.chunks_exact(height * width * 3) {
                sink.write_frame(frame)?;
                done += 1;
                tell(observer, Event::Frame { done, frames })?;
            }
        }
        Ok(())
    }

    /// The scheduler that settings ask for, for [`sample`](Self::sample): the model's own, or the other
    /// kind with its defaults.
    ///
    /// # Errors
    /// If the shift is so extreme that steps would have no length.
    pub fn scheduler<S: BurnBackend>(
        &self,
        settings: &Settings,
    ) -> Result<Box<dyn Scheduler<S>>, Error> {
        let own = &self.model.scheduler;
        let config = if settings.scheduler == own.kind {
            own.clone()
        } else {
            SchedulerConfig::new(settings.scheduler)
        };
        let config = config.with_flow_shift(settings.shift);
        let steps = Steps::Count(settings.steps);
        let schedule = config.schedule(settings.sigma_grid, &steps, None)?;
        let mut noise = TorchGenerator::new(settings.seed);
        if config.kind == SchedulerKind::Lcm {
            // Fresh noise comes after the noise that the video starts from.
            noise.randn(self.latent_shape(settings).iter().product());
        }
        Ok(config.scheduler(&schedule, noise)?)
    }

    /// The ids of a prompt, cleaned as the references do, and how many tokens were cut off.
    fn tokenize(&self, prompt: &str, text_length: usize) -> Result<(Vec<u32>, usize), Error> {
        let tokens = self.model.tokenizer.encode(&clean_prompt(prompt), text_length)?;
        Ok((tokens.ids, tokens.dropped))
    }
}

/// Tells the observer, and stops if it says so.
pub(crate) fn tell(observer: &mut Observer, event: Event) -> Result<(), Error> {
    match observer(event) {
        std::ops::ControlFlow::Continue(()) => Ok(()),
        std::ops::ControlFlow::Break(()) => Err(Error::Cancelled),
    }
}

/// Frames `[1, 3, T, H, W]` in -1..1 as rgb24, one after the other: `(x + 1) / 2 * 255` cut to whole
/// numbers, as the original does.
fn to_rgb<B: Backend>(frames: Tensor<B, 5>) -> Result<Vec<u8>, Error> {
    let values = host(frames.permute([0, 2, 3, 4, 1]));
    if values.iter().any(|v| !v.is_finite()) {
        return Err(Error::NotFinite { stage: "decoding".into() });
    }
    Ok(values.into_iter().map(|v| ((v + 1.0) / 2.0 * 255.0) as u8).collect())
}

/// On the host: a copy of some megabytes costs little beside a step, and shaders may be compiled as if
/// there were no numbers that are not finite.
fn check_finite<B: Backend, const D: usize>(
    stage: impl FnOnce() -> String,
    x: &Tensor<B, D>,
) -> Result<(), Error> {
    match host(x.clone()).iter().all(|v| v.is_finite()) {
        true => Ok(()),
        false => Err(Error::NotFinite { stage: stage() }),
    }
}

/// The numbers of a tensor on the host.
fn host<B: Backend, const D: usize>(x: Tensor<B, D>) -> Vec<f32> {
    let data = x.into_data().convert::<f32>();
    data.into_vec().expect("the data was converted to f32")
}
