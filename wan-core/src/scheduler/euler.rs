use burn::tensor::Tensor;

use super::sigmas::{GridFor, finish};
use super::{FlowSigmas, ScheduleError, Scheduler, Steps};
use crate::BurnBackend;

/// The Euler method: `x + (sigma_next - sigma) * velocity`.
///
/// Equal to diffusers' `FlowMatchEulerDiscreteScheduler` on its grid. Timesteps are not rounded.
#[derive(Debug, Clone)]
pub struct Euler {
    sigmas: Vec<f32>,
    timesteps: Vec<f32>,
    step_index: usize,
}

impl Euler {
    /// # Errors
    /// If a parameter is out of range or two sigmas are equal.
    pub fn new(sigmas: &FlowSigmas, steps: Steps) -> Result<Self, ScheduleError> {
        let levels = sigmas.levels(steps, GridFor::Euler)?;
        let sigmas = finish(&levels, 0.0)?;
        let timesteps = sigmas[..levels.len()].iter().map(|s| s * 1000.0).collect();
        Ok(Self { sigmas, timesteps, step_index: 0 })
    }
}

impl<B: BurnBackend> Scheduler<B> for Euler {
    fn timesteps(&self) -> &[f32] {
        &self.timesteps
    }

    fn sigmas(&self) -> &[f32] {
        &self.sigmas
    }

    fn step(&mut self, velocity: Tensor<B, 5>, sample: Tensor<B, 5>) -> Tensor<B, 5> {
        assert!(self.step_index < self.timesteps.len(), "all steps of the schedule are done");
        let length = self.sigmas[self.step_index + 1] - self.sigmas[self.step_index];
        self.step_index += 1;
        sample + velocity * length
    }
}
