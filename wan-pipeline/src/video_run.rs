//! One video of a run.

use std::sync::Arc;

use burn::tensor::Tensor;
use wan_core::guidance::{Guide, Passes, Predictions};
use wan_core::scheduler::Scheduler;
use wan_core::{Backend, Branch, Conditioning, Pass};

use crate::conditions::Conditions;
use crate::{Embeddings, Latents, Plan, PromptEmbeds};

/// The branches of one video.
pub(crate) struct VideoBranches<B: Backend> {
    pub(crate) conditional: Branch<B>,
    pub(crate) unconditional: Option<Branch<B>>,
}

/// One video of a run.
pub(crate) struct VideoRun<B: Backend> {
    pub(crate) plan: Plan,
    pub(crate) embeddings: Embeddings,
    pub(crate) conditions: Arc<Conditions<B>>,
    pub(crate) latents: Tensor<B, 5>,
    /// The clean video that the last step predicted.
    pub(crate) prediction: Option<Tensor<B, 5>>,
    pub(crate) scheduler: Box<dyn Scheduler<B>>,
    pub(crate) guide: Box<dyn Guide<B>>,
    /// What of it is the caller's own, which a file cannot hold.
    pub(crate) own: Own,
}

/// Which parts of a video's run the caller has set, so that its plan does not tell them.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Own {
    pub(crate) guide: bool,
    pub(crate) scheduler: bool,
}

impl<B: Backend> VideoRun<B> {
    /// The predictions that the guide wants, the conditional one first.
    pub(crate) fn passes<'a>(
        &self,
        step: usize,
        wanted: Passes,
        VideoBranches { conditional, unconditional }: &'a VideoBranches<B>,
        patch: [usize; 3],
    ) -> Vec<Pass<'a, B>> {
        let timestep = self.scheduler.timesteps()[step];
        let latents = self.conditions.put_known(self.latents.clone());
        let timesteps = self.conditions.timesteps(timestep, latents.dims(), patch);
        let pass = |branch| Pass::new(latents.clone(), timesteps.clone(), branch);
        match wanted {
            Passes::Neither => Vec::new(),
            Passes::Conditional => vec![pass(conditional)],
            Passes::Both => {
                let unconditional = unconditional.as_ref().expect("encoded before the step");
                vec![pass(conditional), pass(unconditional)]
            }
        }
    }

    /// Combines the predictions that [`passes`](Self::passes) asked for.
    pub(crate) fn guide(
        &mut self,
        step: usize,
        wanted: Passes,
        velocities: &mut impl Iterator<Item = Tensor<B, 5>>,
    ) -> Tensor<B, 5> {
        let mut next = |wanted: bool| if wanted { velocities.next() } else { None };
        let predictions = Predictions {
            conditional: next(wanted != Passes::Neither),
            unconditional: next(wanted == Passes::Both),
            sample: self.latents.clone(),
            sigma: f64::from(self.scheduler.sigmas()[step]),
        };
        self.guide.combine(step, predictions)
    }

    pub(crate) fn advance(&mut self, step: usize, velocity: Tensor<B, 5>) {
        let sigma = self.scheduler.sigmas()[step];
        let (latents, conditions) = (self.latents.clone(), &self.conditions);
        let prediction = latents.clone() - velocity.clone() * sigma;
        self.prediction = Some(conditions.put_known(prediction));
        self.latents = conditions.put_known(self.scheduler.step(velocity, latents));
    }

    /// Latents of the run as those of the video.
    pub(crate) fn without_references(&self, latents: Tensor<B, 5>) -> Latents<B> {
        let (count, frames) = (self.plan.references, latents.dims()[2]);
        Latents::new(match count {
            0 => latents,
            _ => latents.narrow(2, count, frames - count),
        })
    }

    pub(crate) fn conditioning(
        &self,
        embeds: &PromptEmbeds,
        device: &B::Device,
    ) -> Conditioning<B> {
        self.conditions.with_text(embeds.conditioning(self.plan.text_length, device))
    }
}
