use serde::{Deserialize, Serialize};

use super::{ScheduleError, SchedulerConfig, SchedulerKind};

/// The most steps that a schedule can have: one a training timestep.
pub(super) const MAX_STEPS: usize = 1000;

/// Where the noise levels of a schedule start before the flow shift is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SigmaGrid {
    /// The original Wan repository. UniPC: evenly from 0.999 towards 0
    /// (`wan/utils/fm_solvers_unipc.py`), which Euler and LCM, which it has not, follow here.
    /// DPM++: evenly from 1 towards 0 (`get_sampling_sigmas` of `wan/utils/fm_solvers.py`, which
    /// `generate.py` hands to that solver).
    #[default]
    Wan,
    /// Diffusers 0.37 and later. UniPC: evenly from 1 towards 0.001. DPM++: evenly from 0.999
    /// towards 0. Euler and LCM: evenly from 1 to the smallest training sigma, which has been
    /// shifted once already.
    Diffusers,
}

/// The steps of a schedule: how many, or at which noise levels.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Steps {
    /// A number of steps on the grid, 1 to 1000.
    Count(usize),
    /// Noise levels of one's own before the flow shift, falling from 1 at most, without the last
    /// one (0).
    Sigmas(Vec<f64>),
    /// Timesteps of one's own, falling from 1000 at most, without the last one (0). They are taken
    /// as they are: the model gets these values, whole or not, the noise level of each is a
    /// thousandth of it, and neither the flow shift nor `shift_terminal` changes it.
    Timesteps(Vec<f64>),
}

impl From<usize> for Steps {
    fn from(count: usize) -> Self {
        Self::Count(count)
    }
}

impl Steps {
    /// The number of steps.
    pub fn count(&self) -> usize {
        match self {
            Self::Count(count) => *count,
            Self::Sigmas(levels) | Self::Timesteps(levels) => levels.len(),
        }
    }
}

/// The noise levels of a schedule, one a step, without the last one (0), in f64.
pub(super) fn levels(
    config: &SchedulerConfig,
    grid: SigmaGrid,
    steps: &Steps,
) -> Result<Vec<f64>, ScheduleError> {
    let count = steps.count();
    if !(1..=MAX_STEPS).contains(&count) {
        return Err(ScheduleError::Steps { found: count, max: MAX_STEPS });
    }
    let mut levels = match steps {
        Steps::Timesteps(timesteps) => {
            check("timestep", timesteps, 1000.0, "more than 0 and at most 1000")?;
            return Ok(timesteps.iter().map(|t| t / 1000.0).collect());
        }
        Steps::Sigmas(sigmas) => {
            check("sigma", sigmas, 1.0, "more than 0 and at most 1")?;
            sigmas.clone()
        }
        Steps::Count(count) => on_grid(config, grid, *count),
    };
    for sigma in &mut levels {
        *sigma = shift(*sigma, config.flow_shift());
    }
    stretch(&mut levels, config.shift_terminal);
    Ok(levels)
}

fn check(
    name: &'static str,
    values: &[f64],
    max: f64,
    expected: &'static str,
) -> Result<(), ScheduleError> {
    // Also true for what is not a number.
    match values.iter().find(|value| !(**value > 0.0 && **value <= max)) {
        Some(&found) => Err(ScheduleError::Parameter { name, found, expected }),
        None => Ok(()),
    }
}

fn on_grid(config: &SchedulerConfig, grid: SigmaGrid, count: usize) -> Vec<f64> {
    match (grid, config.kind) {
        (SigmaGrid::Wan, SchedulerKind::DpmPlusPlus) => linspace(1.0, 0.0, count + 1, count),
        (SigmaGrid::Wan, _) => linspace(f64::from(0.999f32), 0.0, count + 1, count),
        (SigmaGrid::Diffusers, SchedulerKind::UniPc) => linspace(1.0, 0.001, count + 1, count),
        (SigmaGrid::Diffusers, SchedulerKind::DpmPlusPlus) => {
            linspace(0.999, 0.0, count + 1, count)
        }
        (SigmaGrid::Diffusers, SchedulerKind::Euler | SchedulerKind::Lcm) => {
            // The training sigmas are shifted when the scheduler is made, and again when the
            // steps are set. The reference keeps them in f32.
            let smallest = shift(0.001, config.flow_shift());
            linspace(1.0, f64::from(smallest as f32), count, count)
        }
    }
}

/// Stretches the levels so that the last one is `terminal`. A single level is also the first, which is
/// that of the noise that a run starts from, and stays.
fn stretch(levels: &mut [f64], terminal: Option<f64>) {
    let terminal = terminal.filter(|terminal| *terminal != 0.0);
    if let (Some(terminal), [_, .., last]) = (terminal, &*levels) {
        let stretch = (1.0 - last) / (1.0 - terminal);
        for sigma in levels {
            *sigma = 1.0 - (1.0 - *sigma) / stretch;
        }
    }
}

/// 1 stays 1, also for a shift so small that the quotient is no number any more.
fn shift(sigma: f64, shift: f64) -> f64 {
    (shift * sigma / (1.0 + (shift - 1.0) * sigma)).min(1.0)
}

/// The first `take` of `count` values evenly from `start` to `end`, both included.
fn linspace(start: f64, end: f64, count: usize, take: usize) -> Vec<f64> {
    let step = if count > 1 { (end - start) / (count - 1) as f64 } else { 0.0 };
    (0..take).map(|i| start + i as f64 * step).collect()
}
