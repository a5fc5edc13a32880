use burn::tensor::Tensor;

use super::config::SolverType;
use super::progress::{History, Progress};
use super::unipc::log_snr;
use super::{FlowSchedule, ScheduleError, Scheduler, SchedulerConfig, SchedulerState};
use crate::BurnBackend;

/// Below this many steps, `lower_order_final` lowers the order of the last two.
const FEW_STEPS: usize = 15;

/// DPM-Solver++ (Lu et al. 2022, arXiv:2211.01095), multistep in its data-prediction form, for flow
/// matching.
///
/// Equal to diffusers' `DPMSolverMultistepScheduler` with `use_flow_sigmas` on its grid, and to
/// the original Wan's `FlowDPMSolverMultistepScheduler`. Timesteps are cut to whole numbers.
/// Coefficients are computed in f64 on the host. At sigma 1 and 0 the log signal-to-noise ratio is
/// infinite: the terms of higher order from sigma 1 are then zero, and a step to sigma 0 is of
/// order 1, whose limit is the prediction itself.
#[derive(Debug, Clone)]
pub(super) struct DpmPlusPlus<B: BurnBackend> {
    config: SchedulerConfig,
    progress: Progress,
    history: History<B>,
}

/// The step in log signal-to-noise ratio and what hangs on it.
struct Interval {
    h: f64,
    /// `e^-h - 1`
    decay: f64,
    alpha: f64,
}

impl<B: BurnBackend> DpmPlusPlus<B> {
    pub(super) fn new(config: &SchedulerConfig, schedule: FlowSchedule) -> Self {
        let history = History::new(config.solver_order);
        Self { config: config.clone(), progress: Progress::new(schedule), history }
    }

    fn order(&self) -> usize {
        let left = self.progress.all_steps() - self.progress.index();
        let few = self.config.lower_order_final && self.progress.all_steps() < FEW_STEPS;
        let to_zero = self.progress.sigma(self.progress.index() + 1) == 0.0;
        let most = match left {
            1 if self.config.euler_at_final || few || to_zero => 1,
            2 if few => 2,
            _ => 3,
        };
        self.config.solver_order.min(self.progress.done() + 1).min(most)
    }

    /// From `sample` at the current sigma to the next one.
    fn advance(&self, sample: Tensor<B, 5>) -> Tensor<B, 5> {
        let index = self.progress.index();
        let (from, to) = (self.progress.sigma(index), self.progress.sigma(index + 1));
        let newest = self.history.back(0);
        if to == 0.0 {
            return newest.clone();
        }
        if to == from {
            return sample;
        }
        let h = log_snr(to) - log_snr(from);
        let step = Interval { h, decay: (-h).exp_m1(), alpha: 1.0 - to };
        let first = sample * (to / from) - newest.clone() * (step.alpha * step.decay);
        match self.order() {
            1 => first,
            2 => first + self.second_order(&step),
            _ => first + self.third_order(&step),
        }
    }

    /// Length of the step that ended `k` steps ago, in units of the current one.
    fn ratio(&self, k: usize, h: f64) -> f64 {
        let lambda = |back| log_snr(self.progress.sigma(self.progress.index() - back));
        (lambda(k) - lambda(k + 1)) / h
    }

    /// The difference of two predictions in a row, divided by the length of the step between.
    fn slope(&self, k: usize, ratio: f64) -> Tensor<B, 5> {
        (self.history.back(k).clone() - self.history.back(k + 1).clone()) * (1.0 / ratio)
    }

    fn second_order(&self, step: &Interval) -> Tensor<B, 5> {
        let slope = self.slope(0, self.ratio(0, step.h));
        let weight = match self.config.solver() {
            SolverType::Heun => step.decay / step.h + 1.0,
            _ => -0.5 * step.decay,
        };
        slope * (step.alpha * weight)
    }

    fn third_order(&self, step: &Interval) -> Tensor<B, 5> {
        let (r0, r1) = (self.ratio(0, step.h), self.ratio(1, step.h));
        let newer = self.slope(0, r0);
        let change = newer.clone() - self.slope(1, r1);
        let first = step.decay / step.h + 1.0;
        let second = (step.decay + step.h) / (step.h * step.h) - 0.5;
        let change_weight = first * (r0 / (r0 + r1)) - second / (r0 + r1);
        newer * (step.alpha * first) + change * (step.alpha * change_weight)
    }
}

impl<B: BurnBackend> Scheduler<B> for DpmPlusPlus<B> {
    fn timesteps(&self) -> &[f32] {
        self.progress.timesteps()
    }

    fn sigmas(&self) -> &[f32] {
        self.progress.sigmas()
    }

    fn step(&mut self, velocity: Tensor<B, 5>, sample: Tensor<B, 5>) -> Tensor<B, 5> {
        self.progress.assert_unfinished();
        let sigma = self.progress.sigma(self.progress.index());
        self.history.push(sample.clone() - velocity * sigma);
        let next = self.advance(sample);
        self.progress.advance();
        next
    }

    fn state(&self) -> Option<SchedulerState<B>> {
        Some(SchedulerState { steps_done: self.progress.done(), tensors: self.history.save() })
    }

    fn restore(
        &mut self,
        steps_done: usize,
        tensors: Vec<(String, Tensor<B, 5>)>,
    ) -> Result<(), ScheduleError> {
        self.progress.restore(steps_done)?;
        self.history.restore(steps_done, &tensors)
    }
}
