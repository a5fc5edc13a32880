use serde::{Deserialize, Serialize};

use super::sigmas::{MAX_STEPS, levels};
use super::{FinalSigma, ScheduleError, SchedulerConfig, SchedulerKind, SigmaGrid, Steps};

/// The timesteps and noise levels of a run: plain data that can be shown before it.
///
/// [`SchedulerConfig::schedule`] makes it, [`SchedulerConfig::scheduler`] runs it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct FlowSchedule {
    /// The timesteps that the model is asked at, one a step, falling from 1000 at most.
    pub timesteps: Vec<f32>,
    /// The noise levels, one more than steps; the last is where the flow ends.
    pub sigmas: Vec<f32>,
    /// The flow shift that the noise levels were made with.
    pub flow_shift: f64,
    /// Index of the first step that is run: 0, or more with a strength below 1. The sample that
    /// such a run begins with has the noise of `sigmas[start]`: see
    /// [`add_noise`](super::add_noise).
    pub start: usize,
}

impl FlowSchedule {
    pub(super) fn new(
        config: &SchedulerConfig,
        grid: SigmaGrid,
        steps: &Steps,
        strength: Option<f64>,
    ) -> Result<Self, ScheduleError> {
        let mut levels = levels(config, grid, steps)?;
        if config.kind == SchedulerKind::UniPc && (levels[0] - 1.0).abs() < 1e-6 {
            levels[0] -= 1e-6; // ln(1 - sigma) must be finite
        }
        let last = match config.final_sigmas_type {
            FinalSigma::SigmaMin if config.kind.is_multistep() => levels[levels.len() - 1],
            _ => 0.0,
        };
        // Rounded to f32 as the references do.
        let sigmas: Vec<f32> = levels.iter().chain([&last]).map(|&s| s as f32).collect();
        let timesteps = match steps {
            Steps::Timesteps(timesteps) => timesteps.iter().map(|&t| t as f32).collect(),
            // Whole timesteps, as in both references.
            _ if config.kind.is_multistep() => {
                levels.iter().map(|sigma| (sigma * 1000.0).trunc() as f32).collect()
            }
            _ => sigmas[..levels.len()].iter().map(|s| s * 1000.0).collect(),
        };
        let start = start(levels.len(), strength)?;
        let schedule = Self { timesteps, sigmas, flow_shift: config.flow_shift(), start };
        schedule.validate().map(|()| schedule)
    }

    /// The timesteps of the steps that are run.
    pub fn run_timesteps(&self) -> &[f32] {
        self.timesteps.get(self.start..).unwrap_or_default()
    }

    /// The noise levels of the steps that are run, one more than steps.
    pub fn run_sigmas(&self) -> &[f32] {
        self.sigmas.get(self.start..).unwrap_or_default()
    }

    /// Checks that every step has a timestep, a noise level and a length: the fields are public.
    pub(super) fn validate(&self) -> Result<(), ScheduleError> {
        let (steps, sigmas) = (self.timesteps.len(), self.sigmas.len());
        if !(1..=MAX_STEPS).contains(&steps) {
            return Err(ScheduleError::Steps { found: steps, max: MAX_STEPS });
        }
        if sigmas != steps + 1 {
            return Err(ScheduleError::Lengths { sigmas, steps });
        }
        if self.start >= steps {
            return Err(ScheduleError::Start { found: self.start, steps });
        }
        check_range("timestep", &self.timesteps, 1000.0, "0 to 1000")?;
        check_range("sigma", &self.sigmas, 1.0, "0 to 1")?;
        check_falling(&self.sigmas)
    }
}

fn check_range(
    name: &'static str,
    values: &[f32],
    max: f32,
    expected: &'static str,
) -> Result<(), ScheduleError> {
    match values.iter().find(|value| !(0.0..=max).contains(*value)) {
        Some(&found) => Err(ScheduleError::Parameter { name, found: found.into(), expected }),
        None => Ok(()),
    }
}

fn check_falling(sigmas: &[f32]) -> Result<(), ScheduleError> {
    for index in 1..sigmas.len() {
        let (previous, sigma) = (sigmas[index - 1], sigmas[index]);
        // A schedule may end where its last step began (final_sigmas_type "sigma_min").
        let is_last = index + 1 == sigmas.len();
        if !(sigma < previous || (is_last && sigma == previous)) {
            return Err(ScheduleError::NotFalling { index, sigma, previous });
        }
    }
    Ok(())
}

/// The first step that is run, as `get_timesteps` of diffusers' pipelines finds it.
fn start(steps: usize, strength: Option<f64>) -> Result<usize, ScheduleError> {
    let Some(strength) = strength else { return Ok(0) };
    if !(strength > 0.0 && strength <= 1.0) {
        let expected = "more than 0 and at most 1";
        return Err(ScheduleError::Parameter { name: "strength", found: strength, expected });
    }
    match (steps as f64 * strength) as usize {
        0 => Err(ScheduleError::StrengthWithoutSteps { strength, steps }),
        run => Ok(steps - run),
    }
}
