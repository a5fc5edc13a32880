use burn::tensor::{DType, Tensor, TensorData};

use super::progress::Progress;
use super::{FlowSchedule, ScheduleError, Scheduler, SchedulerState, add_noise};
use crate::BurnBackend;
use crate::noise::TorchGenerator;

/// The sampler of latent consistency models on a flow: each step goes to the clean prediction
/// `x - sigma velocity` and, but for the last one, adds fresh noise up to the next level.
///
/// Equal to diffusers' `FlowMatchLCMScheduler` on its grid with a generator of the sample's own.
/// Timesteps are not rounded.
#[derive(Debug, Clone)]
pub(super) struct Lcm {
    progress: Progress,
    noise: TorchGenerator,
    /// Draws of steps that were done before a restore, which wait for the sample's size.
    to_skip: usize,
}

impl Lcm {
    pub(super) fn new(schedule: FlowSchedule, noise: TorchGenerator) -> Self {
        Self { progress: Progress::new(schedule), noise, to_skip: 0 }
    }

    fn draw<B: BurnBackend>(&mut self, like: &Tensor<B, 5>) -> Tensor<B, 5> {
        let dims = like.dims();
        let count = dims.iter().product();
        for _ in 0..std::mem::take(&mut self.to_skip) {
            self.noise.randn(count);
        }
        let data = TensorData::new(self.noise.randn(count), dims);
        Tensor::from_data(data, (&like.device(), DType::F32))
    }
}

impl<B: BurnBackend> Scheduler<B> for Lcm {
    fn timesteps(&self) -> &[f32] {
        self.progress.timesteps()
    }

    fn sigmas(&self) -> &[f32] {
        self.progress.sigmas()
    }

    fn step(&mut self, velocity: Tensor<B, 5>, sample: Tensor<B, 5>) -> Tensor<B, 5> {
        self.progress.assert_unfinished();
        let index = self.progress.index();
        let (from, to) = (self.progress.sigma(index), self.progress.sigma(index + 1));
        self.progress.advance();
        let clean = sample - velocity * from;
        if index + 1 == self.progress.all_steps() {
            return clean;
        }
        let noise = self.draw(&clean);
        add_noise(clean, noise, to)
    }

    fn state(&self) -> Option<SchedulerState<B>> {
        Some(SchedulerState { steps_done: self.progress.done(), tensors: Vec::new() })
    }

    /// The generator must be as it was when the run began: what the steps done have drawn is drawn
    /// again.
    fn restore(
        &mut self,
        steps_done: usize,
        _: Vec<(String, Tensor<B, 5>)>,
    ) -> Result<(), ScheduleError> {
        self.progress.restore(steps_done)?;
        self.to_skip = steps_done;
        Ok(())
    }
}
