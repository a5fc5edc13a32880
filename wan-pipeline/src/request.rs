use wan_core::scheduler::SigmaGrid;

use crate::SchedulerKind;

/// What to make a video of, and how. Everything but the prompt has a default that belongs to the
/// model (see [`presets`](crate::presets)).
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// What the video should show, in English or Chinese.
    pub prompt: String,
    /// What it should not show.
    pub negative_prompt: Option<String>,
    /// Width in pixels.
    pub width: Option<usize>,
    /// Height in pixels.
    pub height: Option<usize>,
    /// Number of frames: 1, 5, 9, ..
    pub frames: Option<usize>,
    /// Frames a second that the video is played with.
    pub fps: Option<u32>,
    /// Denoising steps.
    pub steps: Option<usize>,
    /// Guidance scale: how strongly the prompt steers; 1 is without guidance and twice as fast.
    pub guidance: Option<f64>,
    /// Flow shift: more spends more of the steps at high noise.
    pub shift: Option<f64>,
    /// Seed of the noise; the same seed gives the same video. Default: 42.
    pub seed: u64,
    /// The method that integrates the flow. Default: that of the model's scheduler config.
    pub scheduler: Option<SchedulerKind>,
    /// The grid of noise levels. Default: that of the original Wan.
    pub sigma_grid: SigmaGrid,
    /// Tokens that prompts are padded or cut to. Default: 512, what the models were trained with.
    pub text_length: usize,
}

impl Request {
    /// A request with the defaults of the model.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            prompt: prompt.into(),
            negative_prompt: None,
            width: None,
            height: None,
            frames: None,
            fps: None,
            steps: None,
            guidance: None,
            shift: None,
            seed: 42,
            scheduler: None,
            sigma_grid: SigmaGrid::default(),
            text_length: 512,
        }
    }

    /// What the video should not show.
    pub fn negative_prompt(mut self, text: impl Into<String>) -> Self {
        self.negative_prompt = Some(text.into());
        self
    }

    /// Width and height in pixels.
    pub fn size(mut self, width: usize, height: usize) -> Self {
        (self.width, self.height) = (Some(width), Some(height));
        self
    }

    /// Number of frames.
    pub fn frames(mut self, frames: usize) -> Self {
        self.frames = Some(frames);
        self
    }

    /// Frames a second.
    pub fn fps(mut self, fps: u32) -> Self {
        self.fps = Some(fps);
        self
    }

    /// Denoising steps.
    pub fn steps(mut self, steps: usize) -> Self {
        self.steps = Some(steps);
        self
    }

    /// Guidance scale.
    pub fn guidance(mut self, scale: f64) -> Self {
        self.guidance = Some(scale);
        self
    }

    /// Flow shift.
    pub fn shift(mut self, shift: f64) -> Self {
        self.shift = Some(shift);
        self
    }

    /// Seed of the noise.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The method that integrates the flow.
    pub fn scheduler(mut self, kind: SchedulerKind) -> Self {
        self.scheduler = Some(kind);
        self
    }

    /// The grid of noise levels.
    pub fn sigma_grid(mut self, grid: SigmaGrid) -> Self {
        self.sigma_grid = grid;
        self
    }

    /// Tokens that prompts are padded or cut to.
    pub fn text_length(mut self, tokens: usize) -> Self {
        self.text_length = tokens;
        self
    }
}

/// A request value that the model cannot work with.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The number of frames does not fill whole latent frames and tokens.
    #[error(
        "frames is {found}, but must be {first} more than a multiple of {factor}: {below} or {above}"
    )]
    Frames {
        /// The value found.
        found: usize,
        /// Frames in the first token: 1 unless a token covers several latent frames.
        first: usize,
        /// Frames in each token after it.
        factor: usize,
        /// The nearest right value that is not more.
        below: usize,
        /// The nearest right value that is more.
        above: usize,
    },
    /// A side is not a multiple of what one token covers.
    #[error("{side} is {found}, but must be a multiple of {factor}: {below} or {above}")]
    Size {
        /// `width` or `height`
        side: &'static str,
        /// The value found.
        found: usize,
        /// Pixels that one token covers.
        factor: usize,
        /// The nearest right value that is not more (or the smallest).
        below: usize,
        /// The nearest right value that is more.
        above: usize,
    },
    /// A value is out of its range.
    #[error("{name} is {found}, but must be {expected}")]
    Range {
        /// The value's name.
        name: &'static str,
        /// The value found.
        found: f64,
        /// What would be right.
        expected: String,
    },
}

/// A request with every value settled and checked.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Settings {
    /// The prompt as it was given.
    pub prompt: String,
    /// The negative prompt.
    pub negative_prompt: String,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// Number of frames.
    pub frames: usize,
    /// Frames a second.
    pub fps: u32,
    /// Denoising steps.
    pub steps: usize,
    /// Guidance scale.
    pub guidance: f64,
    /// Flow shift.
    pub shift: f64,
    /// Seed of the noise.
    pub seed: u64,
    /// The method that integrates the flow.
    pub scheduler: SchedulerKind,
    /// The grid of noise levels.
    pub sigma_grid: SigmaGrid,
    /// Tokens that prompts are padded or cut to.
    pub text_length: usize,
}

/// The most pixels of all frames of a video: three times those of 81 frames in 4K. More would only
/// run out of memory.
const MAX_PIXELS: f64 = (1u64 << 31) as f64;

/// What a model allows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Pixels along height and width that one token covers.
    pub(crate) pixels: [usize; 2],
    /// Frames in a latent frame.
    pub(crate) frames: usize,
    /// Latent frames that one token covers.
    pub(crate) latent_frames: usize,
    /// Positions along each axis.
    pub(crate) positions: usize,
}

impl Settings {
    pub(crate) fn validate(&self, limits: &Limits) -> Result<(), RequestError> {
        check_side("height", self.height, limits.pixels[0], limits.positions)?;
        check_side("width", self.width, limits.pixels[1], limits.positions)?;
        check_frames(self.frames, limits)?;
        let pixels = self.width as f64 * self.height as f64 * self.frames as f64;
        range(
            "width x height x frames",
            pixels,
            pixels <= MAX_PIXELS,
            "at most 2147483648 pixels",
        )?;
        range("fps", self.fps as f64, (1..=240).contains(&self.fps), "1 to 240")?;
        range("steps", self.steps as f64, (1..=1000).contains(&self.steps), "1 to 1000")?;
        let ok = (1.0..=1000.0).contains(&self.guidance);
        range("guidance", self.guidance, ok, "1 (no guidance) to 1000")?;
        let ok = self.shift.is_finite() && self.shift > 0.0;
        range("shift", self.shift, ok, "a number of more than 0")?;
        let ok = (2..=4096).contains(&self.text_length);
        range("text length", self.text_length as f64, ok, "2 to 4096 tokens")
    }
}

fn range(name: &'static str, found: f64, ok: bool, expected: &str) -> Result<(), RequestError> {
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
    let factor = limits.frames * limits.latent_frames;
    let first = factor - limits.frames + 1; // the first latent frame is a single frame
    let max = (limits.positions - 1) * factor + first;
    if found > max {
        range("frames", found as f64, false, &format!("at most {max}"))?;
    }
    let more = found.saturating_sub(first);
    if found >= first && more.is_multiple_of(factor) {
        return Ok(());
    }
    let below = more / factor * factor + first;
    Err(RequestError::Frames { found, first, factor, below, above: below + factor })
}
