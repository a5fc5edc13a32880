//! Flow-matching schedulers.
//!
//! A flow goes from noise at sigma 1 to the video at sigma 0 along `x = (1 - sigma) x0 + sigma
//! noise`; the model predicts its velocity `noise - x0`. A [`SchedulerConfig`] picks the noise
//! levels ([`FlowSchedule`]) and makes the [`Scheduler`] that integrates the flow from one to the
//! next, one instance a sample.
//!
//! ```
//! use wan_core::scheduler::{SchedulerConfig, SchedulerKind, SigmaGrid, Steps};
//!
//! let config = SchedulerConfig::new(SchedulerKind::Euler).with_flow_shift(5.0);
//! let schedule = config.schedule(SigmaGrid::Wan, &Steps::Count(4), None)?;
//! assert_eq!(schedule.sigmas.len(), 5);
//! # Ok::<(), wan_core::scheduler::ScheduleError>(())
//! ```

mod config;
mod dpm;
mod euler;
mod lcm;
mod progress;
mod schedule;
mod sigmas;
mod unipc;

use burn::tensor::Tensor;

pub use config::{FinalSigma, SchedulerConfig, SchedulerKind, SolverType};
pub use schedule::FlowSchedule;
pub use sigmas::{SigmaGrid, Steps};

use crate::BurnBackend;
use crate::config::ConfigError;
use crate::words::plural;

/// Integrates the flow of one sample, one call a step.
///
/// [`SchedulerConfig::scheduler`] makes the built-in ones.
pub trait Scheduler<B: BurnBackend>: Send {
    /// The timesteps that the model is asked at in this run, one a step, falling from 1000 at
    /// most. Those before [`FlowSchedule::start`] are not among them.
    fn timesteps(&self) -> &[f32];

    /// The noise levels of this run, one more than its steps; the last is where the flow ends.
    fn sigmas(&self) -> &[f32];

    /// Goes one step further: `velocity` is the model's prediction for `sample` at the current
    /// timestep, both `[1, C, T, H, W]` in f32. (A batch works too, but LCM then draws the noise
    /// of all its samples from the one generator.)
    ///
    /// # Panics
    /// If called more often than there are timesteps.
    fn step(&mut self, velocity: Tensor<B, 5>, sample: Tensor<B, 5>) -> Tensor<B, 5>;

    /// The state that must be kept to go on later as if nothing had happened. `None`, the default, means
    /// that this scheduler cannot be saved.
    fn state(&self) -> Option<SchedulerState<B>> {
        None
    }

    /// Takes back what [`state`](Self::state) gave, in a scheduler that was made like the saved
    /// one and has done no step. Going on gives the same values as not having stopped.
    ///
    /// # Errors
    /// If the state is that of another schedule, or the scheduler cannot be saved.
    fn restore(
        &mut self,
        steps_done: usize,
        tensors: Vec<(String, Tensor<B, 5>)>,
    ) -> Result<(), ScheduleError> {
        let _ = (steps_done, tensors);
        Err(ScheduleError::NotSaved)
    }
}

/// The state that a [`Scheduler`] carries from step to step.
#[derive(Debug, Clone)]
pub struct SchedulerState<B: BurnBackend> {
    /// Steps done in this run.
    pub steps_done: usize,
    /// Tensors by name, each of the shape of the sample, in f32.
    pub tensors: Vec<(String, Tensor<B, 5>)>,
}

/// The sample at noise level `sigma`: `(1 - sigma) clean + sigma noise`.
pub fn add_noise<B: BurnBackend, const D: usize>(
    clean: Tensor<B, D>,
    noise: Tensor<B, D>,
    sigma: f64,
) -> Tensor<B, D> {
    clean * (1.0 - sigma) + noise * sigma
}

/// Why a schedule or its scheduler cannot be made or restored.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
    /// An option of the scheduler is out of range or not supported.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No steps, or too many.
    #[error("steps is {found}, but must be 1 to {max}")]
    Steps {
        /// The value found.
        found: usize,
        /// The largest allowed.
        max: usize,
    },
    /// A parameter is not finite or not in its range.
    #[error("{name} is {found}, but must be {expected}")]
    Parameter {
        /// The parameter's name.
        name: &'static str,
        /// The value found.
        found: f64,
        /// The values that are allowed.
        expected: &'static str,
    },
    /// Two sigmas are equal or rise, so that a step would have no length.
    #[error(
        "sigma {index} is {sigma}, but must be less than the one before it ({previous}): \
         use fewer steps or a flow shift nearer to 1"
    )]
    NotFalling {
        /// Index of the sigma.
        index: usize,
        /// Its value.
        sigma: f32,
        /// The value before it.
        previous: f32,
    },
    /// A strength so small that no step is left.
    #[error(
        "strength is {strength}, which leaves none of the {steps} step{} to run: use more steps or \
         a strength of at least 1 / {steps}",
        plural(.steps)
    )]
    StrengthWithoutSteps {
        /// The strength.
        strength: f64,
        /// All steps of the schedule.
        steps: usize,
    },
    /// A schedule has more or fewer noise levels than one more than its timesteps.
    #[error(
        "the schedule has {sigmas} sigma{}, but must have one more than its {steps} timestep{}",
        plural(.sigmas), plural(.steps)
    )]
    Lengths {
        /// The sigmas found.
        sigmas: usize,
        /// The timesteps found.
        steps: usize,
    },
    /// A schedule starts after its last step.
    #[error(
        "the schedule starts at step {found}, but has {steps} step{}, counted from 0",
        plural(.steps)
    )]
    Start {
        /// The start found.
        found: usize,
        /// All steps of the schedule.
        steps: usize,
    },
    /// A saved state has more steps done than the run has.
    #[error("the saved state has done {found} step{}, but the run has {steps}", plural(.found))]
    StepsDone {
        /// The steps of the state.
        found: usize,
        /// The steps of the run.
        steps: usize,
    },
    /// A saved state lacks a tensor.
    #[error("the saved state has no tensor {name:?}, which the scheduler needs to go on")]
    StateTensor {
        /// The tensor's name.
        name: String,
    },
    /// Two tensors of a saved state differ in shape.
    #[error("{name:?} of the saved state has shape {found:?}, but must have {expected:?}")]
    StateShape {
        /// The tensor's name.
        name: String,
        /// Its shape.
        found: [usize; 5],
        /// The shape of the first tensor.
        expected: [usize; 5],
    },
    /// The scheduler has no saved state.
    #[error("this scheduler cannot be saved, so there is no state to restore")]
    NotSaved,
}

#[cfg(test)]
mod tests;
