use std::sync::Arc;
use wan_core::guidance::{Guidance, GuidanceError};
use wan_core::scheduler::{ScheduleError, SchedulerConfig, SchedulerKind, SigmaGrid, Steps};

use wan_io::counted;

use crate::{
    FitRule, FrameRate, Image, PromptEmbeds, SourceLatents, SourceMask, SourceVideo, Task,
};

/// A video to make. Everything but the prompt has a default that belongs to the
/// model (see [`presets`](crate::presets)).
///
/// ```
/// use wan_pipeline::{Guidance, Request};
///
/// let request = Request::new("一只猫在草地上奔跑")
///     .size(832, 480)
///     .frames(81)
///     .guidance(Guidance::cfg(6.0).interval(0.0, 0.6))
///     .seed(42);
/// let four_takes = request.with_seeds(0..4);
/// assert_eq!(four_takes.len(), 4);
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Request {
    /// The content of the video, in English or Chinese.
    pub prompt: String,
    /// Things that the video should not show. Without guidance it has no effect.
    pub negative_prompt: Option<String>,
    /// Embeddings that take the place of the prompt.
    pub prompt_embeds: Option<PromptEmbeds>,
    /// Embeddings that take the place of the negative prompt.
    pub negative_prompt_embeds: Option<PromptEmbeds>,
    /// Whether `(words:1.3)` in the prompts weighs the embeddings of these words. Default: false, the
    /// prompts are taken as they are.
    pub prompt_weighting: bool,
    /// Width in pixels.
    pub width: Option<usize>,
    /// Height in pixels.
    pub height: Option<usize>,
    /// Number of frames: 1, 5, 9, ..
    pub num_frames: Option<usize>,
    /// Frames a second that the video is played with.
    pub fps: Option<FrameRate>,
    /// Denoising steps: how many, or at which noise levels.
    pub steps: Option<Steps>,
    /// How strongly the prompt steers, and by which rule.
    pub guidance: Option<Guidance>,
    /// The guidance of the second of two experts. Default: `guidance` where that is given, else that of the model.
    pub guidance_2: Option<Guidance>,
    /// Flow shift: more spends more of the steps at high noise.
    pub flow_shift: Option<f64>,
    /// Seed of the noise; the same seed gives the same video. The low 32 bits count, as in torch.
    /// Default: 42.
    pub seed: u64,
    /// The method that integrates the flow. Default: that of the model's scheduler config.
    pub scheduler: Option<SchedulerKind>,
    /// The method with all its options, in place of `scheduler`.
    pub scheduler_config: Option<SchedulerConfig>,
    /// The grid of noise levels. Default: that of the original Wan.
    pub sigma_grid: SigmaGrid,
    /// The video to start from, in place of pure noise. Where size, length and rate are not given,
    /// they are its own; a longer one is cut at the end.
    pub video: Option<SourceVideo>,
    /// Clean latents to start from, in place of a video. Size and length are theirs where they are not
    /// given.
    pub latents: Option<SourceLatents>,
    /// The first frame of the video: of models that begin with a picture. Where the size is not given, it follows from
    /// that of the picture.
    pub image: Option<Arc<Image>>,
    /// The last frame, of models that can be told it.
    pub last_image: Option<Arc<Image>>,
    /// How pictures are brought to the size of the video. Default: as diffusers does it.
    pub fit: FitRule,
    /// A video whose structure is followed, such as poses, depths or lines: of models for control.
    pub control: Option<SourceVideo>,
    /// How strongly the control video is felt. Default: 1.
    pub control_scale: Option<f64>,
    /// The parts of `video` that are made anew, of VACE models: white where they are, black where the video is kept.
    pub mask: Option<SourceMask>,
    /// Pictures of what is to be seen, of VACE models.
    pub references: Vec<Arc<Image>>,
    /// How much of the video or latents to start from is made anew: the fraction of the steps that is run,
    /// more than 0 and at most 1. Default where there is something to start from: 0.8.
    pub strength: Option<f64>,
    /// Tokens that prompts are padded or cut to. Default: 512, what the models were trained with.
    pub text_length: usize,
}

/// The setters of optional fields, which also take an `Option` to pass on.
macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($field:ident: $type:ty);)*) => {
        $($(#[$doc])*
        #[must_use]
        pub fn $name(mut self, $field: impl Into<Option<$type>>) -> Self {
            self.$field = $field.into();
            self
        })*
    };
}

impl Request {
    /// A request with the defaults of the model.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self {
            prompt: prompt.into(),
            negative_prompt: None,
            prompt_embeds: None,
            negative_prompt_embeds: None,
            prompt_weighting: false,
            width: None,
            height: None,
            num_frames: None,
            fps: None,
            steps: None,
            guidance: None,
            guidance_2: None,
            flow_shift: None,
            seed: 42,
            scheduler: None,
            scheduler_config: None,
            sigma_grid: SigmaGrid::default(),
            video: None,
            latents: None,
            image: None,
            last_image: None,
            fit: FitRule::Diffusers,
            control: None,
            control_scale: None,
            mask: None,
            references: Vec::new(),
            strength: None,
            text_length: 512,
        }
    }

    /// Things that the video should not show.
    #[must_use]
    pub fn negative_prompt(mut self, text: impl Into<String>) -> Self {
        self.negative_prompt = Some(text.into());
        self
    }

    /// Width and height in pixels.
    #[must_use]
    pub fn size(self, width: usize, height: usize) -> Self {
        self.width(width).height(height)
    }

    /// Denoising steps: how many, or [`Steps`] at noise levels of one's own.
    #[must_use]
    pub fn steps(mut self, steps: impl Into<Steps>) -> Self {
        self.steps = Some(steps.into());
        self
    }

    /// How strongly the prompt steers: a scale for classifier-free guidance, of which 1 is without
    /// guidance and twice as fast; or a [`Guidance`].
    #[must_use]
    pub fn guidance(mut self, guidance: impl Into<Guidance>) -> Self {
        self.guidance = Some(guidance.into());
        self
    }

    /// The guidance of the second of two experts, for the steps where noise is low.
    #[must_use]
    pub fn guidance_2(mut self, guidance: impl Into<Guidance>) -> Self {
        self.guidance_2 = Some(guidance.into());
        self
    }

    /// Frames a second: a whole number, or a [`FrameRate`] such as that of `"23.976".parse()`.
    #[must_use]
    pub fn fps(mut self, fps: impl Into<FrameRate>) -> Self {
        self.fps = Some(fps.into());
        self
    }

    setters! {
        /// Embeddings that take the place of the prompt.
        prompt_embeds(prompt_embeds: PromptEmbeds);
        /// Embeddings that take the place of the negative prompt.
        negative_prompt_embeds(negative_prompt_embeds: PromptEmbeds);
        /// Width in pixels.
        width(width: usize);
        /// Height in pixels.
        height(height: usize);
        /// Number of frames.
        frames(num_frames: usize);
        /// Flow shift.
        shift(flow_shift: f64);
        /// The method that integrates the flow.
        scheduler(scheduler: SchedulerKind);
        /// The method that integrates the flow, with all its options.
        scheduler_config(scheduler_config: SchedulerConfig);
        /// The video to start from.
        video(video: SourceVideo);
        /// Clean latents to start from.
        latents(latents: SourceLatents);
        /// A video whose structure is followed.
        control(control: SourceVideo);
        /// How strongly the control video is felt.
        control_scale(control_scale: f64);
        /// The parts of the video that are made anew.
        mask(mask: SourceMask);
        /// How much of the video or latents to start from is made anew.
        strength(strength: f64);
    }

    /// The first frame of the video.
    #[must_use]
    pub fn image(mut self, image: impl Into<Option<Image>>) -> Self {
        self.image = image.into().map(Arc::new);
        self
    }

    /// The last frame of the video.
    #[must_use]
    pub fn last_image(mut self, image: impl Into<Option<Image>>) -> Self {
        self.last_image = image.into().map(Arc::new);
        self
    }

    /// Pictures of what is to be seen.
    #[must_use]
    pub fn references(mut self, images: impl IntoIterator<Item = Image>) -> Self {
        self.references = images.into_iter().map(Arc::new).collect();
        self
    }

    /// How pictures are brought to the size of the video.
    #[must_use]
    pub fn fit(mut self, rule: FitRule) -> Self {
        self.fit = rule;
        self
    }

    /// Seed of the noise.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The grid of noise levels.
    #[must_use]
    pub fn sigma_grid(mut self, grid: SigmaGrid) -> Self {
        self.sigma_grid = grid;
        self
    }

    /// Tokens that prompts are padded or cut to.
    #[must_use]
    pub fn text_length(mut self, tokens: usize) -> Self {
        self.text_length = tokens;
        self
    }

    /// Whether `(words:1.3)` in the prompts weighs the embeddings of these words.
    #[must_use]
    pub fn prompt_weighting(mut self, weighting: bool) -> Self {
        self.prompt_weighting = weighting;
        self
    }

    /// Whether both requests have the same to begin and end with, so that it is encoded once.
    pub(crate) fn has_inputs_of(&self, other: &Self) -> bool {
        let Self { image, last_image, fit, references, .. } = self;
        let Self { video, control, mask, control_scale, .. } = self;
        (image, last_image, fit, references)
            == (&other.image, &other.last_image, &other.fit, &other.references)
            && (video, control, mask, control_scale)
                == (&other.video, &other.control, &other.mask, &other.control_scale)
    }

    /// A batch: this request once for each seed.
    pub fn with_seeds(&self, seeds: impl IntoIterator<Item = u64>) -> Vec<Self> {
        seeds.into_iter().map(|seed| self.clone().seed(seed)).collect()
    }
}

/// A request that cannot be fulfilled.
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
    /// The steps or the shift make no schedule.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The guidance cannot be followed.
    #[error(transparent)]
    Guidance(#[from] GuidanceError),
    /// A strength without a video to start from.
    #[error(
        "strength is {found}, but there is no video to start from: it has no effect without one"
    )]
    StrengthWithoutVideo {
        /// The value found.
        found: f64,
    },
    /// Both a video and latents to start from.
    #[error("there are both a video and latents to start from: a video starts from one of them")]
    TwoSources,
    /// The video to start from has another size or length than the video to make.
    #[error("the video to start from has {found}, but the video to make has {expected}")]
    SourceVideo {
        /// Size and frames of the video to start from.
        found: String,
        /// Size and frames of the video to make.
        expected: String,
    },
    /// `scheduler` and `scheduler_config` contradict each other.
    #[error("scheduler is {found}, but scheduler_config is one of {expected}")]
    SchedulersDisagree {
        /// The value of `scheduler`.
        found: SchedulerKind,
        /// The kind of `scheduler_config`.
        expected: SchedulerKind,
    },
    /// The model says nothing of its scheduler that can be followed, nor does the request.
    #[error(
        "{reason}: the request must name a scheduler, such as lcm for a model of few steps, and the \
         steps and the flow shift that the model was made for"
    )]
    NoScheduler {
        /// What is wrong with the model's own.
        reason: String,
    },
    /// Guidance for a second expert, which the model has not.
    #[error("there is a second guidance, for low noise, but the model has one transformer")]
    NoSecondExpert,
    /// An input that models of this kind do not take.
    #[error("there is {input}, but this is a model for {task}: {models} take it")]
    NotTaken {
        /// The input.
        input: &'static str,
        /// The task of the model.
        task: Task,
        /// Models that take it.
        models: &'static str,
    },
    /// A stream of a model that makes none.
    #[error(
        "a stream is made by a text-to-video model with one transformer, such as those of Self-Forcing and LongLive, but \
         this is {found}"
    )]
    NotCausal {
        /// The kind of model.
        found: String,
    },
    /// A video as a whole, of a model that makes streams only.
    #[error(
        "this is a causal model, which makes a video block by block: Pipeline::stream does so, and text_to_video --stream"
    )]
    OnlyStreamed,
    /// A part of a request that has no effect on a stream.
    #[error("there is {input}, but a stream {why}")]
    NotStreamed {
        /// What is there.
        input: &'static str,
        /// Why it has no effect.
        why: &'static str,
    },
    /// An input that models of this kind cannot do without.
    #[error("there is no {input}: this is a model for {task}, which needs one")]
    Missing {
        /// The input.
        input: &'static str,
        /// The task of the model.
        task: Task,
    },
    /// A mask and nothing that it could be of.
    #[error("there is a mask and no video: a mask says which parts of a video are made anew")]
    MaskWithoutVideo,
    /// A video to change, and nothing that says where.
    #[error(
        "there is a video to change and no mask that says where it is made anew: give one, or the video as a control \
         video if it is to be followed"
    )]
    VideoWithoutMask,
    /// A video with fewer frames than the video to make.
    #[error("the {which} has {}, but the video to make has {expected}", counted(*.found as u64, "frame"))]
    ShortVideo {
        /// The video.
        which: &'static str,
        /// Its frames.
        found: usize,
        /// Those of the video to make.
        expected: usize,
    },
    /// A mask that does not fit its video, or is not one.
    #[error("the mask has {found}, but must have {expected}")]
    Mask {
        /// What is wrong with it.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A last frame without a first.
    #[error(
        "there is a last image and no first one: a video ends with an image if it begins with one"
    )]
    LastWithoutFirst,
    /// A picture of which no frame can be made.
    #[error(
        "the image has {width}x{height} pixels, but a frame of its ratio, of sides that are multiples of {factor}, \
         cannot have about {area} pixels: give the size, or an image that is less narrow"
    )]
    NarrowImage {
        /// Width of the picture in pixels.
        width: u32,
        /// Its height.
        height: u32,
        /// Pixels that one token covers.
        factor: usize,
        /// About the pixels of a frame.
        area: usize,
    },
    /// A picture that is several.
    #[error(
        "{name}: is an animation, but an image is one picture: give one of its frames as a still image"
    )]
    AnimatedImage {
        /// The file.
        name: String,
    },
    /// Embeddings of another text encoder.
    #[error("{which} have a width of {found}, but the model reads text of width {expected}")]
    EmbedsWidth {
        /// `prompt_embeds` or `negative_prompt_embeds`.
        which: &'static str,
        /// Their width.
        found: usize,
        /// The width that the transformer reads.
        expected: usize,
    },
    /// Embeddings of more tokens than the text length.
    #[error(
        "{which} have {}, but the text length is {expected}",
        counted(*.found as u64, "token")
    )]
    EmbedsLength {
        /// `prompt_embeds` or `negative_prompt_embeds`.
        which: &'static str,
        /// Their tokens.
        found: usize,
        /// The text length.
        expected: usize,
    },
    /// The weights of words in a prompt are not written as they must be.
    #[error(
        "the weight in {found:?} is not understood: write (words:1.3), with a weight of 0 to 10; \
             or \\( and \\) for brackets that are meant as such"
    )]
    PromptWeight {
        /// The part of the prompt.
        found: String,
    },
    /// A batch of no requests.
    #[error("the batch is empty: it must have at least one request")]
    EmptyBatch,
    /// A run of requests that cannot go through the network together.
    #[error(
        "request {request} of the run has {found}, but the first has {expected}: videos of one run \
         agree in size, frames, steps and scheduler"
    )]
    NotOneRun {
        /// The request, counted from 0.
        request: usize,
        /// Its values.
        found: String,
        /// Those of the first.
        expected: String,
    },
    /// A place in a run that does not exist.
    #[error("video {found} was asked for, but the run has {count} (counted from 0)")]
    NoSuchVideo {
        /// The index.
        found: usize,
        /// Videos of the run.
        count: usize,
    },
    /// New latents of another shape than those that they replace.
    #[error("the latents have the shape {found:?}, but must have {expected:?}")]
    LatentsShape {
        /// The shape found.
        found: [usize; 5],
        /// The shape of the run's latents.
        expected: [usize; 5],
    },
    /// A run with a scheduler or a guide of the caller's own, which no file can hold.
    #[error("this run cannot be saved: its {what} is not one of those that a plan can name")]
    NotSaveable {
        /// `scheduler` or `guide`
        what: &'static str,
    },
}
