use burn::tensor::Tensor;

use super::progress::Progress;
use super::{FlowSchedule, ScheduleError, Scheduler, SchedulerState};
use crate::BurnBackend;

/// The Euler method: `x + (sigma_next - sigma) * velocity`.
///
/// Equal to diffusers' `FlowMatchEulerDiscreteScheduler` on its grid. Timesteps are not rounded.
#[derive(Debug, Clone)]
pub(super) struct Euler(Progress);

impl Euler {
    pub(super) fn new(schedule: FlowSchedule) -> Self {
        Self(Progress::new(schedule))
    }
}

impl<B: BurnBackend> Scheduler<B> for Euler {
    fn timesteps(&self) -> &[f32] {
        self.0.timesteps()
    }

    fn sigmas(&self) -> &[f32] {
        self.0.sigmas()
    }

    fn step(&mut self, velocity: Tensor<B, 5>, sample: Tensor<B, 5>) -> Tensor<B, 5> {
        self.0.assert_unfinished();
        let (sigmas, done) = (self.0.sigmas(), self.0.done());
        let length = sigmas[done + 1] - sigmas[done];
        self.0.advance();
        sample + velocity * length
    }

    fn state(&self) -> Option<SchedulerState<B>> {
        Some(SchedulerState { steps_done: self.0.done(), tensors: Vec::new() })
    }

    fn restore(
        &mut self,
        steps_done: usize,
        _: Vec<(String, Tensor<B, 5>)>,
    ) -> Result<(), ScheduleError> {
        self.0.restore(steps_done)
    }
}
