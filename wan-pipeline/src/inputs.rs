//! What a request has beside its prompts: what a task takes of it, and what follows from it for size and length.

use wan_io::counted;
use wan_io::video::VideoSpec;

use crate::components::Components;
use crate::plan::{Limits, range};
use crate::{FitRule, Plan, Request, RequestError, SourceVideo, Task};

/// The strength of a video-to-video request that does not name one, as in diffusers.
const DEFAULT_STRENGTH: f64 = 0.8;

/// Models that take an image, and those that also take a last one.
const TAKE_IMAGES: &str =
    "image-to-video models (Wan 2.1 I2V, FLF2V and Fun-InP, Wan 2.2 I2V-A14B and TI2V-5B)";
const TAKE_LAST_IMAGES: &str = "Wan 2.1 FLF2V and Fun-InP, and Wan 2.2 I2V-A14B,";

impl Plan {
    /// Whether videos are long enough, and of the right size: one that noise is added to must have that of the video
    /// to make, others are resized; and whether masks fit to them.
    pub(crate) fn check_sources(&self, request: &Request) -> Result<(), RequestError> {
        if self.strength.is_some() {
            self.check_start(request)?;
        }
        let change = request.video.as_ref().filter(|_| self.strength.is_none());
        let sources = [("video to change", change), ("control video", request.control.as_ref())];
        for (which, video) in sources {
            let found = video.map(|video| video.spec().frames as usize);
            if let Some(found) = found.filter(|&found| found < self.num_frames) {
                let expected = self.num_frames;
                return Err(RequestError::ShortVideo { which, found, expected });
            }
        }
        let Some(mask) = &request.mask else { return Ok(()) };
        let spec = request.video.as_ref().map(|video| [video.spec().width, video.spec().height]);
        let expected = spec.unwrap_or([self.width as u32, self.height as u32]);
        mask.check(expected, self.num_frames)
    }

    fn check_start(&self, request: &Request) -> Result<(), RequestError> {
        let Some(spec) = request.video.as_ref().map(SourceVideo::spec) else { return Ok(()) };
        let [width, height, frames] = [spec.width, spec.height, spec.frames].map(|n| n as usize);
        if (width, height) == (self.width, self.height) && frames >= self.num_frames {
            return Ok(());
        }
        let words = |w: usize, h: usize, frames: usize| {
            format!("{} of {w}x{h}", counted(frames as u64, "frame"))
        };
        let found = words(width, height, frames);
        let expected = words(self.width, self.height, self.num_frames);
        Err(RequestError::SourceVideo { found, expected })
    }

    /// Whether the model takes what the request has beside prompts, and has what it cannot do without.
    pub(crate) fn check_inputs(
        &self,
        request: &Request,
        task: Task,
        limits: &Limits,
    ) -> Result<(), RequestError> {
        let (first, last) = (request.image.is_some(), request.last_image.is_some());
        let not_taken = |input, models| Err(RequestError::NotTaken { input, task, models });
        let is_vace = task == Task::Control;
        let (mask, references) = (request.mask.is_some(), !request.references.is_empty());
        match task {
            Task::Control if first || last => not_taken("an image", TAKE_IMAGES),
            Task::Edit if first || last => not_taken("an image", TAKE_IMAGES),
            _ if mask && !is_vace => not_taken("a mask", "models for control and editing (VACE)"),
            _ if references && !is_vace => {
                not_taken("a reference", "models for control and editing (VACE)")
            }
            Task::Control | Task::Edit if request.latents.is_some() => {
                not_taken("latents to start from", "text-to-video and image-to-video models")
            }
            _ if request.control.is_some() && !is_vace && task != Task::FunControl => {
                not_taken("a control video", "VACE and Wan 2.1 Fun-Control")
            }
            _ if request.control_scale.is_some() && !is_vace => {
                not_taken("a scale of a control video", "models for control and editing (VACE)")
            }
            Task::Control if mask && request.video.is_none() => Err(RequestError::MaskWithoutVideo),
            Task::Control if !mask && request.video.is_some() => {
                Err(RequestError::VideoWithoutMask)
            }
            Task::Edit if request.video.is_none() => {
                Err(RequestError::Missing { input: "video", task })
            }
            Task::TextToVideo if first => not_taken("an image", TAKE_IMAGES),
            Task::TextToVideo | Task::TextImageToVideo | Task::FunControl if last => {
                not_taken("a last image", TAKE_LAST_IMAGES)
            }
            _ if last && !first => Err(RequestError::LastWithoutFirst),
            Task::ImageToVideo | Task::FirstLastFrameToVideo if !first => {
                Err(RequestError::Missing { input: "image", task })
            }
            Task::FirstLastFrameToVideo if !last => {
                Err(RequestError::Missing { input: "last image", task })
            }
            _ => Ok(()),
        }?;
        let images = [&request.image, &request.last_image].into_iter().flatten();
        if let Some(image) = images.chain(&request.references).find(|image| image.is_animated()) {
            return Err(RequestError::AnimatedImage { name: image.name().to_owned() });
        }
        let [least, more] = limits.frames_in_tokens();
        let ok = !first || self.num_frames > least;
        let expected = format!("at least {} for a video that begins with an image", least + more);
        range("frames", self.num_frames as f64, ok, &expected)
    }

    /// Frames that the VAE encodes before the first step: where pictures stand beside the latents, those of the whole
    /// video.
    pub(crate) fn frames_to_encode(&self, request: &Request, task: Task) -> usize {
        match task {
            _ if self.strength.is_some() => self.num_frames,
            Task::Control | Task::FunControl | Task::Edit => self.num_frames,
            _ if request.image.is_none() => 0,
            Task::TextImageToVideo => 1,
            _ => self.num_frames,
        }
    }
}

/// Width and height of a video that begins with a picture: a side that is given, and the other in the ratio of the
/// picture; else both by the rule of the request.
pub(crate) fn fitted_size(
    request: &Request,
    model: &Components,
) -> Result<Option<[usize; 2]>, RequestError> {
    let Some(image) = &request.image else { return Ok(None) };
    let (fit, [width, height]) = (model.fit(request.fit), [image.width(), image.height()]);
    let factor = fit.factor as usize;
    let by = |side: usize, of: u32, other: u32| {
        let exact = side as f64 * f64::from(other) / f64::from(of);
        ((exact / factor as f64).round().max(1.0) as usize).saturating_mul(factor)
    };
    match (request.width, request.height) {
        (Some(given), None) => Ok(Some([given, by(given, width, height)])),
        (None, Some(given)) => Ok(Some([by(given, height, width), given])),
        (Some(_), Some(_)) => Ok(None),
        (None, None) => match fit.rule.size([width, height], fit.max_area, fit.factor) {
            Some(size) => Ok(Some(size.map(|side| side as usize))),
            None => {
                let area = fit.max_area as usize;
                Err(RequestError::NarrowImage { width, height, factor, area })
            }
        },
    }
}

pub(crate) fn strength(
    request: &Request,
    steps: usize,
    task: Task,
) -> Result<Option<f64>, RequestError> {
    // Others do not start from the video that they change.
    let starts_from_video = !matches!(task, Task::Control | Task::Edit);
    if !starts_from_video && request.strength.is_some() {
        let models = "text-to-video and image-to-video models";
        return Err(RequestError::NotTaken { input: "a strength", task, models });
    }
    let video = request.video.as_ref().filter(|_| starts_from_video);
    let source = match (video, &request.latents) {
        (Some(_), Some(_)) => return Err(RequestError::TwoSources),
        (None, None) => None,
        _ => Some(()),
    };
    match (request.strength, source) {
        (Some(found), None) => Err(RequestError::StrengthWithoutVideo { found }),
        // One step is run at least, so that nobody is told of a strength that is not theirs.
        (None, Some(_)) if steps < 2 => Ok(Some(1.0)),
        (given, Some(_)) => Ok(Some(given.unwrap_or(DEFAULT_STRENGTH))),
        (None, None) => Ok(None),
    }
}

/// Size, rate and length of what a request starts from, if it does not start from noise alone.
pub(crate) fn source_spec(request: &Request, model: &Components) -> Option<VideoSpec> {
    let preset = model.preset();
    if let Some(video) = request.video.as_ref().or(request.control.as_ref()) {
        return Some(source_video_spec(video, model));
    }
    request.latents.as_ref().map(|latents| model.decoded_spec(latents.shape(), preset.fps))
}

/// Rate and length of a video, and the size of the one to make: its own where noise is added to it, else about the
/// pixels of the model's videos in its ratio.
fn source_video_spec(video: &SourceVideo, model: &Components) -> VideoSpec {
    let spec = *video.spec();
    let fit = model.fit(FitRule::Diffusers);
    match model.spec.task {
        Task::Control | Task::FunControl | Task::Edit => {
            let size = fit.rule.size([spec.width, spec.height], fit.max_area, fit.factor);
            let [width, height] = size.unwrap_or([spec.width, spec.height]);
            VideoSpec { width, height, ..spec }
        }
        _ => spec,
    }
}
