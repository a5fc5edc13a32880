use std::collections::VecDeque;

use burn::tensor::Tensor;

use super::{FlowSchedule, ScheduleError};
use crate::BurnBackend;

/// How far a run has come along its schedule.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    schedule: FlowSchedule,
    done: usize,
}

impl Progress {
    pub(super) fn new(schedule: FlowSchedule) -> Self {
        Self { schedule, done: 0 }
    }

    pub(super) fn timesteps(&self) -> &[f32] {
        self.schedule.run_timesteps()
    }

    pub(super) fn sigmas(&self) -> &[f32] {
        self.schedule.run_sigmas()
    }

    /// Steps done in this run.
    pub(super) fn done(&self) -> usize {
        self.done
    }

    /// Index of the current step in the whole schedule.
    pub(super) fn index(&self) -> usize {
        self.schedule.start + self.done
    }

    /// All steps of the schedule, those before the start too.
    pub(super) fn all_steps(&self) -> usize {
        self.schedule.timesteps.len()
    }

    /// The noise level at an index of the whole schedule.
    pub(super) fn sigma(&self, index: usize) -> f64 {
        f64::from(self.schedule.sigmas[index])
    }

    pub(super) fn assert_unfinished(&self) {
        assert!(self.done < self.timesteps().len(), "all steps of the schedule are done");
    }

    pub(super) fn advance(&mut self) {
        self.done += 1;
    }

    pub(super) fn restore(&mut self, done: usize) -> Result<(), ScheduleError> {
        let steps = self.timesteps().len();
        if done > steps {
            return Err(ScheduleError::StepsDone { found: done, steps });
        }
        self.done = done;
        Ok(())
    }
}

/// The last predictions of the clean sample, for multistep methods.
#[derive(Debug, Clone)]
pub(super) struct History<B: BurnBackend> {
    /// The newest last.
    predictions: VecDeque<Tensor<B, 5>>,
    order: usize,
}

impl<B: BurnBackend> History<B> {
    pub(super) fn new(order: usize) -> Self {
        Self { predictions: VecDeque::new(), order }
    }

    /// The newest prediction for 0, the one before it for 1, ..
    pub(super) fn back(&self, k: usize) -> &Tensor<B, 5> {
        &self.predictions[self.predictions.len() - 1 - k]
    }

    pub(super) fn push(&mut self, prediction: Tensor<B, 5>) {
        if self.predictions.len() == self.order {
            self.predictions.pop_front();
        }
        self.predictions.push_back(prediction);
    }

    pub(super) fn save(&self) -> Vec<(String, Tensor<B, 5>)> {
        let newest_first = self.predictions.iter().rev().enumerate();
        newest_first.map(|(k, prediction)| (name(k), prediction.clone())).collect()
    }

    /// Takes back the predictions of `done` steps.
    pub(super) fn restore(
        &mut self,
        done: usize,
        tensors: &[(String, Tensor<B, 5>)],
    ) -> Result<(), ScheduleError> {
        let oldest_first = (0..self.order.min(done)).rev();
        self.predictions =
            oldest_first.map(|k| find(tensors, &name(k))).collect::<Result<_, _>>()?;
        Ok(())
    }
}

fn name(k: usize) -> String {
    format!("prediction.{k}")
}

/// The tensor of a saved state with this name; all must have one shape.
pub(super) fn find<B: BurnBackend>(
    tensors: &[(String, Tensor<B, 5>)],
    name: &str,
) -> Result<Tensor<B, 5>, ScheduleError> {
    let expected = tensors.first().map(|(_, tensor)| tensor.dims()).unwrap_or_default();
    match tensors.iter().find(|(found, _)| found == name) {
        Some((_, tensor)) if tensor.dims() == expected => Ok(tensor.clone()),
        Some((_, tensor)) => {
            let (name, found) = (name.into(), tensor.dims());
            Err(ScheduleError::StateShape { name, found, expected })
        }
        None => Err(ScheduleError::StateTensor { name: name.into() }),
    }
}
