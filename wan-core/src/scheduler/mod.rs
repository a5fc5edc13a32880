//! Flow-matching schedulers.
//!
//! A flow goes from noise at sigma 1 to the video at sigma 0 along `x = (1 - sigma) x0 + sigma
//! noise`; the model predicts its velocity `noise - x0`. A scheduler picks the sigmas
//! ([`FlowSigmas`]) and integrates the flow from one to the next ([`UniPc`], [`Euler`]).

mod config;
mod euler;
mod sigmas;
mod unipc;

use burn::tensor::Tensor;

#[doc(hidden)]
pub use config::Json;
pub use config::{DynamicShifting, SchedulerConfig, SchedulerKind};
pub use euler::Euler;
pub use sigmas::{FlowSigmas, SigmaGrid, Steps};
pub use unipc::{FinalSigma, SolverType, UniPc, UniPcConfig};

use crate::BurnBackend;

/// Integrates the flow, one call a step.
pub trait Scheduler<B: BurnBackend> {
    /// The timesteps that the model is asked at, one a step, falling from 1000 at most.
    fn timesteps(&self) -> &[f32];

    /// The noise levels, one more than steps; the last is where the flow ends.
    fn sigmas(&self) -> &[f32];

    /// Goes one step further: `velocity` is the model's prediction for `sample` at the current
    /// timestep, both `[B, C, T, H, W]` in f32.
    ///
    /// # Panics
    /// If called more often than there are timesteps.
    fn step(&mut self, velocity: Tensor<B, 5>, sample: Tensor<B, 5>) -> Tensor<B, 5>;
}

/// Why a schedule cannot be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ScheduleError {
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
        /// What would be right.
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
    /// UniPC knows orders 1 to 3.
    #[error("solver_order is {found}, but must be 1, 2 or 3")]
    SolverOrder {
        /// The value found.
        found: usize,
    },
}
