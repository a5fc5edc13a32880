//! What a stream is asked for, resolved.

use wan_core::Backend;
use wan_models::transformer::CausalWindow;

use super::options::check_request;
use crate::plan::range;
use crate::{
    Metadata, Pipeline, Plan, Request, RequestError, StreamLength, StreamOptions, Task, VideoSpec,
};

/// A stream with every value resolved: what [`Pipeline::plan_stream`] makes of a request.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StreamPlan {
    /// The plan of each block.
    pub block: Plan,
    /// How far a block looks back.
    pub window: CausalWindow,
    /// Frames of the video; `None` if it is without end.
    pub num_frames: Option<usize>,
}

impl StreamPlan {
    /// Size, rate and number of frames of the whole video; `None` if it is without end.
    pub fn video_spec(&self) -> Option<VideoSpec> {
        let frames = u32::try_from(self.num_frames?).unwrap_or(u32::MAX);
        Some(VideoSpec { frames, ..self.block.video_spec() })
    }

    /// What is stored in the files of the video.
    pub fn metadata(&self) -> Metadata {
        let mut metadata = self.block.metadata();
        metadata.num_frames = self.video_spec().map(|spec| spec.frames);
        metadata
    }
}

impl<B: Backend> Pipeline<B> {
    /// Resolves every value of a [`stream`](Self::stream), and checks that it can be made. Nothing is loaded.
    ///
    /// # Errors
    /// If the model is not one for text-to-video with one transformer; if an option is out of its range; if the request
    /// has something that a stream has no use for, such as a video to start from or guidance.
    pub fn plan_stream(
        &self,
        request: &Request,
        options: &StreamOptions,
    ) -> Result<StreamPlan, RequestError> {
        let not_causal = |found| Err(RequestError::NotCausal { found });
        match (self.spec().task, self.spec().boundary) {
            (Task::TextToVideo | Task::CausalTextToVideo, None) => {}
            (_, Some(_)) => return not_causal("a model of two experts".into()),
            (task, _) => return not_causal(format!("a model for {task}")),
        }
        check_request(request)?;
        options.validate(&self.model.transformer.config)?;
        let factor = self.model.vae.config.temporal_factor();
        let num_frames = match options.length {
            StreamLength::OfRequest => {
                let frames = request.num_frames.unwrap_or(self.preset().num_frames);
                range("frames", frames as f64, frames > 0, "1 or more")?;
                Some(frames)
            }
            StreamLength::Frames(frames) => Some(frames),
            StreamLength::Endless => None,
        };
        let block = Plan::new(&options.request_of_block(request, factor), &self.model)?;
        let StreamOptions { block: frames, window, sink, .. } = *options;
        Ok(StreamPlan { block, window: CausalWindow::new(frames, window, sink), num_frames })
    }
}
