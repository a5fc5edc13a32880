//! From pictures and videos to what the network is conditioned on beside the prompts.

mod control;
mod images;

use std::sync::Arc;

use burn::tensor::Tensor;
use wan_core::{
    Backend, Conditioning, Control, FrameSource, TextConditioning, Timesteps, VideoVae,
};

use crate::denoising::check_finite;
use crate::{Error, Observer, Pipeline, Plan, Request, Stage, Task};

/// What a video is conditioned on beside its prompts: the same for both of them.
#[derive(Clone)]
pub(crate) struct Conditions<B: Backend> {
    /// The states of an image encoder, `[1, N, D]`.
    pub(crate) image: Option<Tensor<B, 3>>,
    /// Channels beside those of the latents, `[1, C, T, H, W]`.
    pub(crate) channels: Option<Tensor<B, 5>>,
    /// A control video, of VACE models.
    pub(crate) control: Option<Control<B>>,
    /// The first frames of the latents where they are known, `[1, C, t, H, W]`: they stay clean in all steps.
    pub(crate) known: Option<Tensor<B, 5>>,
}

impl<B: Backend> Conditions<B> {
    /// Prompts alone.
    pub(crate) fn none() -> Self {
        Self { image: None, channels: None, control: None, known: None }
    }

    fn are_none(&self) -> bool {
        let Self { image, channels, control, known } = self;
        image.is_none() && channels.is_none() && control.is_none() && known.is_none()
    }

    /// Whether two videos share their conditions, as they do where these were made once, or have none.
    pub(crate) fn are_shared(first: &Arc<Self>, second: &Arc<Self>) -> bool {
        Arc::ptr_eq(first, second) || first.are_none() && second.are_none()
    }

    /// All tensors by their names in the file of a run.
    pub(crate) fn tensors(&self) -> Vec<(&'static str, Tensor<B, 5>)> {
        let Self { image, channels, control, known } = self.clone();
        let control = control.map(|control| control.latents);
        let image = image.map(|states| {
            let [_, tokens, width] = states.dims();
            states.reshape([1, 1, 1, tokens, width])
        });
        let named =
            [("image", image), ("channels", channels), ("control", control), ("known", known)];
        named.into_iter().filter_map(|(name, tensor)| Some((name, tensor?))).collect()
    }

    /// With the embeddings of a prompt.
    pub(crate) fn with_text(&self, text: TextConditioning<B>) -> Conditioning<B> {
        let Self { image, channels, control, .. } = self.clone();
        Conditioning::new(text).image(image).channels(channels).control(control)
    }

    /// Latents with the frames that are known in their place.
    pub(crate) fn put_known(&self, latents: Tensor<B, 5>) -> Tensor<B, 5> {
        let Some(known) = &self.known else { return latents };
        let ([_, _, count, ..], [_, _, frames, ..]) = (known.dims(), latents.dims());
        Tensor::cat(vec![known.clone(), latents.narrow(2, count, frames - count)], 2)
    }

    /// The timesteps of a step: 0 for the tokens that are known. `patch` is the size of a token in latents of the
    /// shape `latents`.
    pub(crate) fn timesteps(
        &self,
        timestep: f32,
        latents: [usize; 5],
        patch: [usize; 3],
    ) -> Timesteps {
        let Some(known) = &self.known else { return vec![timestep].into() };
        let [_, _, frames, height, width] = latents;
        let in_frame = (height / patch[1]) * (width / patch[2]);
        let (known, all) = (known.dims()[2] / patch[0] * in_frame, frames / patch[0] * in_frame);
        let mut tokens = vec![timestep; all];
        tokens[..known].fill(0.0);
        Timesteps::PerToken(vec![tokens])
    }
}

impl<B: Backend> Pipeline<B> {
    /// What a request is conditioned on beside its prompts.
    pub(crate) fn conditions(
        &self,
        request: &Request,
        plan: &Plan,
        observer: &mut Observer,
    ) -> Result<Conditions<B>, Error> {
        match (self.spec().task, &request.image) {
            (Task::Control, _) => self.condition_on_control(request, plan, observer),
            (Task::FunControl, first) => {
                let first = first.as_deref();
                let image = self.look_at(first, None, plan, observer)?;
                let channels = self.control_and_first(first, request, plan, observer)?;
                Ok(Conditions { image, channels: Some(channels), ..Conditions::none() })
            }
            (Task::Edit, _) => {
                let channels = self.encode_source(request.video.as_ref(), plan, observer)?;
                Ok(Conditions { channels: Some(channels), ..Conditions::none() })
            }
            (_, Some(first)) => self.condition_on_images(first, request, plan, observer),
            (_, None) => Ok(Conditions::none()),
        }
    }

    /// The normalised latents of frames that a plan has the VAE encode.
    pub(crate) fn encode_frames(
        &self,
        frames: &dyn FrameSource<B>,
        plan: &Plan,
        observer: &mut Observer,
    ) -> Result<Tensor<B, 5>, Error> {
        let memory = self.memory(std::slice::from_ref(plan));
        memory.clone().only(Stage::EncodingVideo).check()?;
        self.make_room(Stage::EncodingVideo, &memory);
        let vae_memory = memory.placement().vae;
        let vae = self.vae(observer)?;
        let latents = vae.encode(frames, vae_memory, observer.cancel_token())?;
        check_finite(|| "encoding the video".into(), &latents)?;
        Ok(latents)
    }
}
