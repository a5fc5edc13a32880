//! How a stream is made.

use wan_core::scheduler::{SchedulerKind, Steps};
use wan_models::transformer::WanTransformerConfig;

use crate::plan::range;
use crate::{Guidance, Request, RequestError};

/// How a video is made as a stream of blocks: see [`Pipeline::stream`](crate::Pipeline::stream). The defaults are those
/// of Self-Forcing.
///
/// ```
/// use wan_pipeline::StreamOptions;
///
/// // As LongLive: a window that is short, and three frames that are always in it.
/// let options = StreamOptions::new().window(12).sink(3).endless();
/// # assert_eq!((options.block, options.window), (3, 12));
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StreamOptions {
    /// Latent frames of a block, which are made together. Default: 3.
    pub block: usize,
    /// Latent frames that a block attends to, its own among them: memory and time of a block grow with it. Default: 21.
    pub window: usize,
    /// The first latent frames of the video that stay in the window for ever, while others fall out. Default: 0.
    pub sink: usize,
    /// The noise levels that a block is denoised at, before the flow shift: falling, 1000 for pure noise. Default:
    /// 1000, 750, 500, 250.
    pub noise_levels: Vec<f64>,
    /// The flow shift of the noise levels. Default: 5.
    pub flow_shift: f64,
    /// Where the stream ends. Default: with the frames of the request.
    pub length: StreamLength,
}

/// Where a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum StreamLength {
    /// With the frames of the request, or else those of the model's videos.
    #[default]
    OfRequest,
    /// After so many frames, which may be any number.
    Frames(usize),
    /// When the caller asks for no more.
    Endless,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            block: 3,
            window: 21,
            sink: 0,
            noise_levels: vec![1000.0, 750.0, 500.0, 250.0],
            flow_shift: 5.0,
            length: StreamLength::OfRequest,
        }
    }
}

impl StreamOptions {
    /// Those of Self-Forcing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Latent frames of a block.
    #[must_use]
    pub fn block(self, block: usize) -> Self {
        Self { block, ..self }
    }

    /// Latent frames that a block attends to.
    #[must_use]
    pub fn window(self, window: usize) -> Self {
        Self { window, ..self }
    }

    /// The first latent frames, which stay in the window.
    #[must_use]
    pub fn sink(self, sink: usize) -> Self {
        Self { sink, ..self }
    }

    /// The noise levels that a block is denoised at, before the flow shift.
    #[must_use]
    pub fn noise_levels(self, levels: impl Into<Vec<f64>>) -> Self {
        Self { noise_levels: levels.into(), ..self }
    }

    /// The flow shift of the noise levels.
    #[must_use]
    pub fn flow_shift(self, flow_shift: f64) -> Self {
        Self { flow_shift, ..self }
    }

    /// Ends after so many frames.
    #[must_use]
    pub fn frames(self, frames: usize) -> Self {
        Self { length: StreamLength::Frames(frames), ..self }
    }

    /// Ends when the caller asks for no more.
    #[must_use]
    pub fn endless(self) -> Self {
        Self { length: StreamLength::Endless, ..self }
    }

    /// The request of a block: with the noise levels of the stream, and without guidance.
    pub(super) fn request_of_block(&self, request: &Request, temporal_factor: usize) -> Request {
        let levels = self.noise_levels.iter().map(|level| level / 1000.0).collect();
        let frames = (self.block - 1).saturating_mul(temporal_factor).saturating_add(1);
        let request = request.clone().scheduler(SchedulerKind::Lcm).steps(Steps::Sigmas(levels));
        request.shift(self.flow_shift).guidance(Guidance::off()).frames(frames)
    }

    pub(super) fn validate(&self, config: &WanTransformerConfig) -> Result<(), RequestError> {
        let Self { block, window, sink, .. } = *self;
        range("block", block as f64, block > 0, "1 latent frame or more")?;
        let expected = format!("at least {block}, the latent frames of a block");
        range("window", window as f64, window >= block, &expected)?;
        let [in_token, ..] = config.patch_size;
        let most = config.rope_max_seq_len.saturating_mul(in_token);
        let expected = format!("at most {most} latent frames, for which the model has positions");
        range("window", window as f64, window <= most, &expected)?;
        let most = window - block;
        let expected = format!("at most {most}, which a block of {block} leaves of the window");
        range("sink", sink as f64, sink <= most, &expected)?;
        for (name, frames) in [("block", block), ("window", window), ("sink", sink)] {
            let expected = format!("a multiple of {in_token}, the latent frames of a token");
            range(name, frames as f64, frames.is_multiple_of(in_token), &expected)?;
        }
        self.validate_levels()?;
        let ok = self.length != StreamLength::Frames(0);
        range("frames", 0.0, ok, "1 or more")
    }

    fn validate_levels(&self) -> Result<(), RequestError> {
        let steps = self.noise_levels.len();
        range("noise levels", steps as f64, (1..=1000).contains(&steps), "1 to 1000 of them")?;
        let mut before = None;
        for &level in &self.noise_levels {
            let ok = level > 0.0 && level <= 1000.0;
            range("noise level", level, ok, "more than 0 and at most 1000")?;
            let ok = before.is_none_or(|before| level < before);
            let expected = format!("less than {}, the one before it", before.unwrap_or_default());
            range("noise level", level, ok, &expected)?;
            before = Some(level);
        }
        Ok(())
    }
}

/// Refuses what a request has beside a prompt, size, rate and seed: it would have no effect.
pub(super) fn check_request(request: &Request) -> Result<(), RequestError> {
    const FROM_NOISE: &str = "starts from noise and has no condition but its prompt";
    const NO_GUIDANCE: &str = "is made without guidance, by models that have it in their weights";
    const OPTIONS: &str = "has noise levels and flow shift in its own options";
    let guided = |guidance: &Guidance| guidance.constant_scale() != Some(1.0);
    for (is_there, input, why) in [
        (request.video.is_some(), "a video to start from", FROM_NOISE),
        (request.latents.is_some(), "latents to start from", FROM_NOISE),
        (request.strength.is_some(), "a strength", FROM_NOISE),
        (request.image.is_some(), "an image", FROM_NOISE),
        (request.last_image.is_some(), "a last image", FROM_NOISE),
        (request.control.is_some(), "a control video", FROM_NOISE),
        (request.control_scale.is_some(), "a scale of a control video", FROM_NOISE),
        (request.mask.is_some(), "a mask", FROM_NOISE),
        (!request.references.is_empty(), "a reference", FROM_NOISE),
        (request.guidance.as_ref().is_some_and(guided), "guidance", NO_GUIDANCE),
        (request.guidance_2.is_some(), "a second guidance", NO_GUIDANCE),
        (request.steps.is_some(), "a number of steps", OPTIONS),
        (request.flow_shift.is_some(), "a flow shift", OPTIONS),
        (request.scheduler.is_some(), "a scheduler", OPTIONS),
        (request.scheduler_config.is_some(), "a scheduler", OPTIONS),
    ] {
        if is_there {
            return Err(RequestError::NotStreamed { input, why });
        }
    }
    Ok(())
}
