use super::ScheduleError;

/// The most steps that a schedule can have: one a training timestep.
const MAX_STEPS: usize = 1000;

/// Where the noise levels of a schedule start before the flow shift is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SigmaGrid {
    /// The original Wan repository: evenly from 0.999 towards 0
    /// (`wan/utils/fm_solvers_unipc.py`).
    #[default]
    Wan,
    /// Diffusers 0.37 and later. UniPC: evenly from 1 towards 0.001. Euler: evenly from 1 to the
    /// smallest training sigma, which has been shifted once already.
    Diffusers,
}

/// How many steps a schedule has, or at which noise levels.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Steps<'a> {
    /// A number of steps on the grid.
    Count(usize),
    /// Noise levels of one's own before the flow shift, falling, without the last one (0).
    Sigmas(&'a [f64]),
}

/// How the noise levels of a schedule are made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FlowSigmas {
    /// The levels before the shift.
    pub grid: SigmaGrid,
    /// The flow shift `s`: `sigma -> s sigma / (1 + (s - 1) sigma)`. More than 1 spends more steps
    /// at high noise, which larger videos need.
    pub shift: f64,
    /// If given, the shift to use instead of `shift`, which then does not change the grid either
    /// (diffusers' dynamic shifting by `mu`: `e^mu` if it is exponential, `mu` if it is linear).
    pub dynamic_shift: Option<f64>,
    /// If given, the levels are stretched so that the last but one is this.
    pub shift_terminal: Option<f64>,
}

impl Default for FlowSigmas {
    fn default() -> Self {
        Self { grid: SigmaGrid::Wan, shift: 1.0, dynamic_shift: None, shift_terminal: None }
    }
}

/// Which solver a diffusers grid is for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum GridFor {
    UniPc,
    Euler,
}

impl FlowSigmas {
    /// The shifted levels, one a step, without the last one (0), in f64.
    pub(super) fn levels(&self, steps: Steps, solver: GridFor) -> Result<Vec<f64>, ScheduleError> {
        self.validate()?;
        let mut levels = self.unshifted(steps, solver)?;
        for sigma in &mut levels {
            *sigma = shift(*sigma, self.effective_shift());
        }
        if let (Some(terminal), Some(last)) = (self.shift_terminal, levels.last().copied()) {
            let stretch = (1.0 - last) / (1.0 - terminal);
            for sigma in &mut levels {
                *sigma = 1.0 - (1.0 - *sigma) / stretch;
            }
        }
        Ok(levels)
    }

    fn effective_shift(&self) -> f64 {
        self.dynamic_shift.unwrap_or(self.shift)
    }

    fn unshifted(&self, steps: Steps, solver: GridFor) -> Result<Vec<f64>, ScheduleError> {
        let count = match steps {
            Steps::Count(count) => count,
            Steps::Sigmas(sigmas) => sigmas.len(),
        };
        if !(1..=MAX_STEPS).contains(&count) {
            return Err(ScheduleError::Steps { found: count, max: MAX_STEPS });
        }
        if let Steps::Sigmas(sigmas) = steps {
            let in_range = |s: &&f64| !(s.is_finite() && **s > 0.0 && **s <= 1.0);
            if let Some(&found) = sigmas.iter().find(in_range) {
                let expected = "more than 0 and at most 1";
                return Err(ScheduleError::Parameter { name: "sigma", found, expected });
            }
            return Ok(sigmas.to_vec());
        }
        Ok(match (self.grid, solver) {
            (SigmaGrid::Wan, _) => linspace(f64::from(0.999f32), 0.0, count + 1, count),
            (SigmaGrid::Diffusers, GridFor::UniPc) => linspace(1.0, 0.001, count + 1, count),
            (SigmaGrid::Diffusers, GridFor::Euler) => {
                // The training sigmas are shifted when the scheduler is made, and again when the
                // steps are set. The reference keeps them in f32.
                let smallest =
                    if self.dynamic_shift.is_some() { 0.001 } else { shift(0.001, self.shift) };
                linspace(1.0, f64::from(smallest as f32), count, count)
            }
        })
    }

    fn validate(&self) -> Result<(), ScheduleError> {
        let positive = |name, found: f64| {
            let expected = "a finite number more than 0";
            let ok = found.is_finite() && found > 0.0;
            ok.then_some(()).ok_or(ScheduleError::Parameter { name, found, expected })
        };
        positive("flow shift", self.shift)?;
        if let Some(shift) = self.dynamic_shift {
            positive("dynamic shift", shift)?;
        }
        match self.shift_terminal {
            Some(found) if !(found > 0.0 && found < 1.0) => {
                let expected = "between 0 and 1";
                Err(ScheduleError::Parameter { name: "shift_terminal", found, expected })
            }
            _ => Ok(()),
        }
    }
}

fn shift(sigma: f64, shift: f64) -> f64 {
    shift * sigma / (1.0 + (shift - 1.0) * sigma)
}

/// The first `take` of `count` values evenly from `start` to `end`, both included.
fn linspace(start: f64, end: f64, count: usize, take: usize) -> Vec<f64> {
    let step = if count > 1 { (end - start) / (count - 1) as f64 } else { 0.0 };
    (0..take).map(|i| start + i as f64 * step).collect()
}

/// Appends the last sigma, rounds to f32 as the references do, and checks that every step has a
/// length.
pub(super) fn finish(levels: &[f64], last: f64) -> Result<Vec<f32>, ScheduleError> {
    let sigmas: Vec<f32> = levels.iter().chain([&last]).map(|&s| s as f32).collect();
    for index in 1..sigmas.len() {
        let (previous, sigma) = (sigmas[index - 1], sigmas[index]);
        // A schedule may end where its last step began (final_sigmas_type "sigma_min").
        let is_last = index + 1 == sigmas.len();
        if !(sigma < previous || (is_last && sigma == previous)) {
            return Err(ScheduleError::NotFalling { index, sigma, previous });
        }
    }
    Ok(sigmas)
}
