//! From a request to a plan: every value resolved and checked.

use serde::{Deserialize, Serialize};
use wan_core::Backend;
use wan_core::guidance::{Guidance, Guide};
use wan_core::scheduler::{FlowSchedule, SchedulerConfig, SchedulerKind, SigmaGrid, Steps};
use wan_io::counted;
use wan_io::image::MAX_PIXELS as MAX_PIXELS_OF_FRAME;
use wan_io::text::clean_prompt;
use wan_io::video::{FrameRate, Metadata, VideoSpec};

use crate::components::Components;
use crate::experts::GuideOfExperts;
use crate::inputs::{fitted_size, source_spec, strength};
use crate::prompt_weights::WeightedPrompt;
use crate::{Error, Event, Observer, Preset, PromptEmbeds, Request, RequestError};

/// The most pixels of all frames of a video: three times those of 81 frames in 4K. More would only
/// run out of memory.
const MAX_PIXELS: f64 = (1u64 << 31) as f64;

/// The most pictures of what is to be seen: each is a latent frame more in all passes.
const MAX_REFERENCES: usize = 64;

/// A request with every value resolved and checked, before anything is computed: see
/// [`Pipeline::plan`](crate::Pipeline::plan).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub(crate) prompt: String,
    pub(crate) negative_prompt: String,
    pub(crate) prompt_weighting: bool,
    pub(crate) text_length: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) num_frames: usize,
    pub(crate) fps: FrameRate,
    pub(crate) seed: u64,
    pub(crate) guidance: Guidance,
    /// Of the second of two experts.
    pub(crate) guidance_2: Option<Guidance>,
    /// Where the second of two experts takes over: see [`ModelSpec::boundary`](crate::ModelSpec::boundary).
    pub(crate) boundary: Option<f64>,
    pub(crate) scheduler: SchedulerConfig,
    pub(crate) sigma_grid: SigmaGrid,
    pub(crate) schedule: FlowSchedule,
    pub(crate) strength: Option<f64>,
    /// Frames that the VAE encodes before the first step.
    #[serde(default)]
    pub(crate) encoded_frames: usize,
    /// How the picture that it begins with is brought to its size.
    #[serde(default)]
    pub(crate) fit: Option<String>,
    /// How strongly a control video is felt.
    #[serde(default = "full_control")]
    pub(crate) control_scale: f64,
    /// Pictures of what is to be seen, which have a latent frame each before those of the video.
    #[serde(default)]
    pub(crate) references: usize,
    /// Of a run: with the references.
    pub(crate) latent_shape: [usize; 5],
    pub(crate) model: String,
    pub(crate) run_bytes: u64,
}

impl Plan {
    /// Resolves a request for a model.
    pub(crate) fn new(request: &Request, model: &Components) -> Result<Self, RequestError> {
        let preset = model.preset();
        let scheduler = scheduler(request, &preset, model)?;
        let steps = request.steps.clone().unwrap_or(Steps::Count(preset.steps));
        if let Steps::Count(steps) = steps {
            range("steps", steps as f64, (1..=1000).contains(&steps), "1 to 1000")?;
        }
        let strength = strength(request, steps.count(), model.spec.task)?;
        let schedule = scheduler.schedule(request.sigma_grid, &steps, strength)?;
        let negative = request.negative_prompt.clone();
        let limits = Limits::of(model);
        let source = source_spec(request, model);
        let frames = source.map(|source| limits.frames_of(source.frames as usize));
        let fitted = fitted_size(request, model)?;
        let width = request.width.or(source.map(|s| s.width as usize)).or(fitted.map(|s| s[0]));
        let height = request.height.or(source.map(|s| s.height as usize)).or(fitted.map(|s| s[1]));
        let mut plan = Self {
            prompt: request.prompt.clone(),
            negative_prompt: negative.unwrap_or(preset.negative_prompt.into()),
            prompt_weighting: request.prompt_weighting,
            text_length: request.text_length,
            width: width.unwrap_or(preset.width),
            height: height.unwrap_or(preset.height),
            num_frames: request.num_frames.or(frames).unwrap_or(preset.num_frames),
            fps: request.fps.or(source.map(|s| s.fps)).unwrap_or(preset.fps),
            seed: request.seed,
            guidance: request.guidance.clone().unwrap_or(preset.guidance_scale.into()),
            guidance_2: guidance_2(request, &preset, model)?,
            boundary: model.spec.boundary,
            scheduler,
            sigma_grid: request.sigma_grid,
            schedule,
            strength,
            encoded_frames: 0,
            fit: request.image.as_ref().map(|_| request.fit.to_string()),
            control_scale: request.control_scale.unwrap_or(full_control()),
            references: request.references.len(),
            latent_shape: [0; 5],
            model: model.name.clone(),
            run_bytes: 0,
        };
        plan.check(&limits)?;
        plan.check_inputs(request, model.spec.task, &limits)?;
        plan.encoded_frames = plan.frames_to_encode(request, model.spec.task);
        plan.check_sources(request)?;
        plan.check_weighting()?;
        let (prompt, negative) = (&request.prompt_embeds, &request.negative_prompt_embeds);
        let text_dim = model.transformer.config.text_dim;
        plan.check_embeddings(prompt.as_ref(), negative.as_ref(), text_dim)?;
        plan.latent_shape = latent_shape(&plan, model);
        if let Some(latents) = &request.latents {
            plan.check_latents(latents.shape())?;
        }
        plan.run_bytes = run_bytes(&plan, model);
        Ok(plan)
    }

    /// The video that it leads to: what a [`VideoWriter`](crate::VideoWriter) asks for.
    pub fn video_spec(&self) -> VideoSpec {
        VideoSpec {
            width: self.width as u32,
            height: self.height as u32,
            fps: self.fps,
            frames: self.num_frames as u32,
        }
    }

    /// The prompt as it was given.
    pub fn prompt(&self) -> &str {
        &self.prompt
    }

    /// The negative prompt.
    pub fn negative_prompt(&self) -> &str {
        &self.negative_prompt
    }

    /// Seed of the noise.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The guidance; of two experts, that of the first, for high noise.
    pub fn guidance(&self) -> &Guidance {
        &self.guidance
    }

    /// The guidance of the second of two experts, for low noise.
    pub fn guidance_2(&self) -> Option<&Guidance> {
        self.guidance_2.as_ref()
    }

    /// The guidance scale of each step that is run; 1 where there is no guidance.
    pub fn guidance_scales(&self) -> Vec<f64> {
        // Checked when the plan was made.
        let mut scales = self.guidance.scales(self.steps()).unwrap_or_default();
        let low = self.guidance_2.as_ref().and_then(|low| low.scales(self.steps()).ok());
        if let Some(low) = low {
            let switch = self.steps_at_high_noise().min(scales.len());
            scales[switch..].copy_from_slice(&low[switch..]);
        }
        scales
    }

    /// The steps before the second of two experts takes over: all where there is one transformer.
    pub fn steps_at_high_noise(&self) -> usize {
        let least = self.boundary.map_or(0.0, |boundary| boundary * 1000.0);
        let timesteps = self.schedule.run_timesteps();
        timesteps.iter().take_while(|&&timestep| f64::from(timestep) >= least).count()
    }

    /// The timesteps, noise levels and flow shift.
    pub fn schedule(&self) -> &FlowSchedule {
        &self.schedule
    }

    /// The method that integrates the flow, with its options.
    pub fn scheduler(&self) -> &SchedulerConfig {
        &self.scheduler
    }

    /// How many steps are run: all of the schedule, or with a `strength` the last of them.
    pub fn steps(&self) -> usize {
        self.schedule.run_timesteps().len()
    }

    /// The shape of the latents of the video, `[1, C, T, H, W]`.
    pub fn latent_shape(&self) -> [usize; 5] {
        let [batch, channels, frames, height, width] = self.latent_shape;
        [batch, channels, frames - self.references, height, width]
    }

    /// What a video of this plan adds to the memory of a run in bytes, while other videos go through
    /// the network with it: latents, the scheduler's history, and the residual streams of its passes.
    /// A prompt that no other video of the run has adds its keys and values in all blocks to it, which
    /// is little beside them.
    pub fn bytes_in_batch(&self) -> u64 {
        self.run_bytes
    }

    /// What is stored in the files of the video.
    pub fn metadata(&self) -> Metadata {
        let spec = self.video_spec();
        let mut metadata = Metadata::new(&self.prompt);
        metadata.negative_prompt = Some(self.negative_prompt.clone());
        metadata.seed = Some(self.seed);
        metadata.num_inference_steps = Some(self.schedule.timesteps.len() as u32);
        match self.guidance.constant_scale() {
            Some(scale) => metadata.guidance_scale = Some(scale),
            None => metadata.guidance = Some(self.guidance.to_string()),
        }
        match self.guidance_2.as_ref().map(|low| (low, low.constant_scale())) {
            Some((_, Some(scale))) => metadata.guidance_scale_2 = Some(scale),
            Some((low, None)) => metadata.guidance_2 = Some(low.to_string()),
            None => {}
        }
        metadata.flow_shift = Some(self.schedule.flow_shift);
        metadata.width = Some(spec.width);
        metadata.height = Some(spec.height);
        metadata.num_frames = Some(spec.frames);
        metadata.fps = Some(spec.fps);
        metadata.model = Some(self.model.clone());
        metadata.scheduler = Some(self.scheduler.kind.to_string());
        metadata.sigma_grid = Some(format!("{:?}", self.sigma_grid).to_lowercase());
        metadata.strength = self.strength;
        metadata.fit.clone_from(&self.fit);
        metadata.control_scale =
            (self.control_scale != full_control()).then_some(self.control_scale);
        metadata.software = Some(concat!("wan-pipeline ", env!("CARGO_PKG_VERSION")).into());
        metadata
    }

    /// Predictions in a step, at most.
    pub(crate) fn passes(&self) -> usize {
        let guided = self.guidance_scales().iter().any(|&scale| scale > 1.0);
        if guided { 2 } else { 1 }
    }

    /// How often latents are held during a run: themselves, the clean prediction, the velocities, and
    /// what the scheduler and the guide keep.
    pub(crate) fn copies_of_latents(&self) -> usize {
        let history = match self.scheduler.kind {
            SchedulerKind::UniPc => self.scheduler.solver_order + 1,
            SchedulerKind::DpmPlusPlus => self.scheduler.solver_order,
            _ => 0,
        };
        let guidances = [&self.guidance].into_iter().chain(&self.guidance_2);
        let kept: usize = guidances.map(|guidance| guidance.rule.samples_kept()).sum();
        2 + self.passes() + history + kept
    }

    /// Whether the guidance of any step needs the negative prompt.
    pub(crate) fn needs_negative(&self) -> Result<bool, RequestError> {
        let guidances = [&self.guidance].into_iter().chain(&self.guidance_2);
        let mut needs = guidances.map(|guidance| guidance.needs_unconditional(self.steps()));
        needs.try_fold(false, |any, needs| Ok(any | needs?))
    }

    /// What guides a video of this plan.
    pub(crate) fn guide<B: Backend>(&self) -> Result<Box<dyn Guide<B>>, RequestError> {
        let guide = self.guidance.guide(self.steps())?;
        let Some(low) = &self.guidance_2 else { return Ok(guide) };
        Ok(Box::new(GuideOfExperts {
            first_of_low: self.steps_at_high_noise(),
            high: guide,
            low: low.guide(self.steps())?,
        }))
    }

    /// Checks a plan that was read from a file, which may have been changed, as a new one is checked.
    pub(crate) fn validate(&self, model: &Components) -> Result<(), RequestError> {
        self.check(&Limits::of(model))?;
        let resolved = Self { latent_shape: latent_shape(self, model), ..self.clone() };
        let (found, expected) = (self.latent_shape, resolved.latent_shape);
        match found == expected {
            true => Ok(()),
            false => Err(RequestError::LatentsShape { found, expected }),
        }
    }

    /// Whether latents have the shape of those of the video.
    fn check_latents(&self, found: [usize; 5]) -> Result<(), RequestError> {
        let expected = self.latent_shape();
        match found == expected {
            true => Ok(()),
            false => Err(RequestError::LatentsShape { found, expected }),
        }
    }

    /// Whether it can go through the network with another plan.
    pub(crate) fn is_one_run_with(&self, other: &Self) -> bool {
        self.latent_shape == other.latent_shape
            && self.schedule == other.schedule
            && self.scheduler == other.scheduler
    }

    /// What [`is_one_run_with`](Self::is_one_run_with) compares, in words.
    pub(crate) fn run_in_words(&self) -> String {
        let Self { width, height, num_frames, .. } = self;
        let frames = counted(*num_frames as u64, "frame");
        let steps = counted(self.steps() as u64, "step");
        let (scheduler, shift) = (self.scheduler.kind, self.schedule.flow_shift);
        format!("{width}x{height}, {frames}, {steps} of {scheduler}, shift {shift}")
    }

    fn check(&self, limits: &Limits) -> Result<(), RequestError> {
        check_side("height", self.height, limits.pixels[0], limits.positions)?;
        check_side("width", self.width, limits.pixels[1], limits.positions)?;
        check_frames(self.num_frames, limits)?;
        let in_frame = self.width as f64 * self.height as f64;
        let pixels = in_frame * self.num_frames as f64;
        let ok = pixels <= MAX_PIXELS;
        range("width x height x frames", pixels, ok, "at most 2147483648 pixels")?;
        let ok = in_frame <= MAX_PIXELS_OF_FRAME as f64;
        range("width x height", in_frame, ok, "at most 134217728 pixels")?;
        let ok = (FrameRate::new(1)..=FrameRate::new(240)).contains(&self.fps);
        range("fps", self.fps.as_f64(), ok, "1 to 240")?;
        self.guidance.validate(self.steps())?;
        self.guidance_2.as_ref().map_or(Ok(()), |low| low.validate(self.steps()))?;
        let ok = self.control_scale.is_finite();
        range("control scale", self.control_scale, ok, "a finite number")?;
        let ok = self.references <= MAX_REFERENCES;
        range("references", self.references as f64, ok, "at most 64")?;
        let ok = (2..=4096).contains(&self.text_length);
        range("text length", self.text_length as f64, ok, "2 to 4096 tokens")
    }

    /// The weights of words in prompts must be understood before anything is computed.
    fn check_weighting(&self) -> Result<(), RequestError> {
        if self.prompt_weighting {
            WeightedPrompt::parse(&clean_prompt(&self.prompt))?;
            WeightedPrompt::parse(&clean_prompt(&self.negative_prompt))?;
        }
        Ok(())
    }

    fn check_embeds(
        &self,
        which: &'static str,
        embeds: &PromptEmbeds,
        text_dim: usize,
    ) -> Result<(), RequestError> {
        let (found, expected) = (embeds.width(), text_dim);
        if found != expected {
            return Err(RequestError::EmbedsWidth { which, found, expected });
        }
        let (found, expected) = (embeds.tokens(), self.text_length);
        if found > expected {
            return Err(RequestError::EmbedsLength { which, found, expected });
        }
        Ok(())
    }

    /// Whether the transformer, which reads text of width `text_dim`, can work with embeddings.
    pub(crate) fn check_embeddings(
        &self,
        prompt: Option<&PromptEmbeds>,
        negative_prompt: Option<&PromptEmbeds>,
        text_dim: usize,
    ) -> Result<(), RequestError> {
        let named = [("prompt_embeds", prompt), ("negative_prompt_embeds", negative_prompt)];
        let given = named.into_iter().filter_map(|(which, embeds)| Some((which, embeds?)));
        given.into_iter().try_for_each(|(which, embeds)| self.check_embeds(which, embeds, text_dim))
    }
}

/// A control video is felt as the model was trained.
fn full_control() -> f64 {
    1.0
}

/// Tells of what is asked for and has no effect.
pub(crate) fn warn(
    plans: &[Plan],
    requests: &[Request],
    observer: &mut Observer,
) -> Result<(), Error> {
    let (mut unused, mut seeds) = (Vec::new(), Vec::new());
    for (i, (plan, request)) in plans.iter().zip(requests).enumerate() {
        let given = request.negative_prompt.as_ref().is_some_and(|text| !text.trim().is_empty());
        if given && !plan.needs_negative()? {
            unused.push(i);
        }
        if plan.seed > u32::MAX.into() && !seeds.contains(&plan.seed) {
            seeds.push(plan.seed);
        }
    }
    if !unused.is_empty() {
        tracing::warn!("without guidance the negative prompt has no effect");
        let batch = requests.len();
        observer.emit(Event::NegativePromptUnused { requests: unused, batch })?;
    }
    for seed in seeds {
        let counts = seed as u32;
        tracing::warn!("of seed {seed} only the low 32 bits count: {counts}");
        observer.emit(Event::SeedCut { seed, counts })?;
    }
    Ok(())
}

/// The scheduler of a request: its own config, or the model's, or the defaults of another kind.
fn scheduler(
    request: &Request,
    preset: &Preset,
    model: &Components,
) -> Result<SchedulerConfig, RequestError> {
    let no_scheduler = |reason: &String| RequestError::NoScheduler { reason: reason.clone() };
    let own = model.spec.scheduler.as_ref().map_err(no_scheduler);
    let config = match (&request.scheduler_config, request.scheduler) {
        (Some(config), Some(kind)) if config.kind != kind => {
            let expected = config.kind;
            return Err(RequestError::SchedulersDisagree { found: kind, expected });
        }
        (Some(config), _) => return with_shift(config.clone(), request.flow_shift),
        (None, Some(kind)) => match &own {
            Ok(own) if own.kind == kind => (*own).clone(),
            _ => SchedulerConfig::new(kind),
        },
        (None, None) => own.clone()?.clone(),
    };
    let shift = match request.flow_shift.or(preset.flow_shift) {
        Some(shift) => shift,
        None => own?.flow_shift(),
    };
    with_shift(config, Some(shift))
}

/// The guidance of the second of two experts.
fn guidance_2(
    request: &Request,
    preset: &Preset,
    model: &Components,
) -> Result<Option<Guidance>, RequestError> {
    let given = request.guidance_2.as_ref();
    if model.spec.boundary.is_none() {
        return given.map_or(Ok(None), |_| Err(RequestError::NoSecondExpert));
    }
    let own = preset.guidance_scale_2.unwrap_or(preset.guidance_scale);
    Ok(Some(given.or(request.guidance.as_ref()).cloned().unwrap_or(own.into())))
}

fn with_shift(
    config: SchedulerConfig,
    shift: Option<f64>,
) -> Result<SchedulerConfig, RequestError> {
    let Some(shift) = shift else { return Ok(config) };
    range("shift", shift, shift.is_finite() && shift > 0.0, "a number of more than 0")?;
    Ok(config.with_flow_shift(shift))
}

fn latent_shape(plan: &Plan, model: &Components) -> [usize; 5] {
    let vae = &model.vae.config;
    let frames = (plan.num_frames - 1) / vae.temporal_factor() + 1 + plan.references;
    let side = |pixels: usize| pixels / vae.spatial_factor();
    [1, vae.z_dim, frames, side(plan.height), side(plan.width)]
}

/// See [`Plan::bytes_in_batch`].
fn run_bytes(plan: &Plan, model: &Components) -> u64 {
    let transformer = &model.transformer.config;
    let latents: usize = plan.latent_shape.iter().product();
    let [_, _, sizes @ ..] = plan.latent_shape;
    let tokens: usize = (0..3).map(|i| sizes[i] / transformer.patch_size[i]).product();
    // A residual stream for each pass waits while another is in a block.
    let streams = plan.passes() * tokens * transformer.inner_dim();
    4 * (latents * plan.copies_of_latents() + streams) as u64
}

/// What a model allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Pixels along height and width that one token covers.
    pixels: [usize; 2],
    /// Frames in a latent frame.
    frames: usize,
    /// Latent frames that one token covers.
    latent_frames: usize,
    /// Positions along each axis.
    positions: usize,
}

impl Limits {
    fn of(model: &Components) -> Self {
        let (transformer, vae) = (&model.transformer.config, &model.vae.config);
        let [latent_frames, height, width] = transformer.patch_size;
        let factor = vae.spatial_factor();
        Self {
            pixels: [height * factor, width * factor],
            frames: vae.temporal_factor(),
            latent_frames,
            positions: transformer.rope_max_seq_len,
        }
    }

    /// Frames in the first token, and in each after it.
    pub(crate) fn frames_in_tokens(&self) -> [usize; 2] {
        let factor = self.frames * self.latent_frames;
        [factor - self.frames + 1, factor] // the first latent frame is a single frame
    }

    /// How many of `frames` frames make whole tokens.
    fn frames_of(&self, frames: usize) -> usize {
        let [first, factor] = self.frames_in_tokens();
        frames.saturating_sub(first) / factor * factor + first
    }
}

pub(crate) fn range(
    name: &'static str,
    found: f64,
    ok: bool,
    expected: &str,
) -> Result<(), RequestError> {
    if ok {
        return Ok(());
    }
    Err(RequestError::Range { name, found, expected: expected.into() })
}

fn check_side(
    side: &'static str,
    found: usize,
    factor: usize,
    positions: usize,
) -> Result<(), RequestError> {
    let max = factor * positions;
    if found > max {
        range(side, found as f64, false, &format!("at most {max}"))?;
    }
    if found > 0 && found.is_multiple_of(factor) {
        return Ok(());
    }
    let below = (found / factor * factor).max(factor);
    Err(RequestError::Size { side, found, factor, below, above: below + factor })
}

fn check_frames(found: usize, limits: &Limits) -> Result<(), RequestError> {
    let [first, factor] = limits.frames_in_tokens();
    let max = (limits.positions - 1) * factor + first;
    if found > max {
        range("frames", found as f64, false, &format!("at most {max}"))?;
    }
    let more = found.saturating_sub(first);
    if found >= first && more.is_multiple_of(factor) {
        return Ok(());
    }
    let below = limits.frames_of(found);
    Err(RequestError::Frames { found, first, factor, below, above: below + factor })
}
