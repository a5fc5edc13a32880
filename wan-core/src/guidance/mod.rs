//! Guidance: how the conditional and the unconditional prediction make one.
//!
//! [`Guidance`] is plain data, fit for requests and metadata. A run turns it into a [`Guide`], one
//! instance a sample, which says for each step what must be predicted and combines the
//! predictions. Each rule ([`Cfg`], [`CfgZeroStar`], [`Apg`]) has its formula in its documentation. A
//! rule of one's own is another [`Guide`].

mod apg;
mod cfg;
mod cfg_zero_star;
mod error;
mod guide;
mod rules;
mod scale;
mod sums;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use apg::Apg;
pub use cfg::{Cfg, classifier_free};
pub use cfg_zero_star::CfgZeroStar;
pub use error::{GuidanceError, ScaleTextError};
pub use guide::{Guide, Passes, Predictions};
pub use rules::GuidanceRule;
pub use scale::Schedule;

use crate::Backend;
use guide::BuiltIn;

/// Whether `scale` asks for the unconditional pass at all. Diffusers skips it at 1 and below; so
/// do we, which halves the work of distilled models.
pub fn needs_unconditional(scale: f64) -> bool {
    scale > 1.0
}

/// How a sample is guided over a run.
///
/// ```
/// use wan_core::guidance::{Guidance, Schedule};
///
/// let plain = Guidance::from(5.0);
/// let falling = Guidance::cfg(Schedule::Linear { from: 7.0, to: 1.0 }).rescale(0.7);
/// let projected = Guidance::apg(8.0).interval(0.1, 0.9);
/// assert!(falling.validate(20).is_ok());
/// ```
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Guidance {
    /// How the predictions are combined.
    pub rule: GuidanceRule,
    /// The guidance scale over the steps, 1 (no guidance) to 1000.
    pub scale: Schedule,
    /// How far the standard deviation of the guided prediction is brought back to that of the
    /// conditional one, 0 (not at all) to 1: the guided prediction `p` becomes
    /// `rescale std(c) / std(p) p + (1 - rescale) p` (Lin et al. 2023, arXiv:2305.08891, section 3.4).
    pub rescale: f64,
    /// The part of the run that is guided, as fractions of its steps. In a run of `N` steps these
    /// are the steps `trunc(start N) <= i < trunc(stop N)`; in the others the prediction is the
    /// conditional one and the unconditional pass is left out (Kynkäänniemi et al. 2024,
    /// arXiv:2404.07724, who give noise levels instead of fractions).
    pub interval: Option<[f64; 2]>,
}

impl Default for Guidance {
    fn default() -> Self {
        Self::off()
    }
}

impl From<f64> for Guidance {
    fn from(scale: f64) -> Self {
        Self::cfg(scale)
    }
}

impl Guidance {
    /// A rule with a scale, over the whole run and without rescaling.
    pub fn new(rule: impl Into<GuidanceRule>, scale: impl Into<Schedule>) -> Self {
        Self { rule: rule.into(), scale: scale.into(), rescale: 0.0, interval: None }
    }

    /// No guidance: the conditional prediction alone.
    pub fn off() -> Self {
        Self::cfg(1.0)
    }

    /// Classifier-free guidance.
    pub fn cfg(scale: impl Into<Schedule>) -> Self {
        Self::new(Cfg::default(), scale)
    }

    /// CFG-Zero* with one zero step.
    pub fn cfg_zero_star(scale: impl Into<Schedule>) -> Self {
        Self::new(CfgZeroStar::default(), scale)
    }

    /// Adaptive projected guidance on velocities with the values that MultiTalk has for Wan.
    pub fn apg(scale: impl Into<Schedule>) -> Self {
        Self::new(Apg::default(), scale)
    }

    /// Brings the standard deviation back by this share, 0 to 1.
    pub fn rescale(mut self, rescale: f64) -> Self {
        self.rescale = rescale;
        self
    }

    /// Guides only this part of the run, from one fraction of its steps to another.
    pub fn interval(mut self, start: f64, stop: f64) -> Self {
        self.interval = Some([start, stop]);
        self
    }

    /// The scale, where this is plain classifier-free guidance with one scale over the whole run.
    pub fn constant_scale(&self) -> Option<f64> {
        match self.scale {
            Schedule::Constant(scale) if *self == Self::cfg(scale) => Some(scale),
            _ => None,
        }
    }

    /// Checks every value against a run of `steps` steps.
    ///
    /// # Errors
    /// If a value is out of its range, or does not fit the number of steps.
    pub fn validate(&self, steps: usize) -> Result<(), GuidanceError> {
        self.guided_steps(steps)?;
        range("guidance rescale", self.rescale, (0.0..=1.0).contains(&self.rescale), "0 to 1")?;
        self.rule.validate(steps)?;
        for (step, &scale) in self.scale.resolve(steps)?.iter().enumerate() {
            if !scale::is_scale(scale) {
                let step = (!matches!(self.scale, Schedule::Constant(_))).then_some(step);
                return Err(GuidanceError::Scale { step, found: scale });
            }
        }
        Ok(())
    }

    /// The scale in each of `steps` steps: 1 where guidance is off.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate).
    pub fn scales(&self, steps: usize) -> Result<Vec<f64>, GuidanceError> {
        self.validate(steps)?;
        let guided = self.guided_steps(steps)?;
        let mut scales = self.scale.resolve(steps)?;
        for (step, scale) in scales.iter_mut().enumerate() {
            if !guided.contains(step) {
                *scale = 1.0;
            }
        }
        Ok(scales)
    }

    /// Whether any of `steps` steps needs the unconditional pass, and so the negative prompt.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate).
    pub fn needs_unconditional(&self, steps: usize) -> Result<bool, GuidanceError> {
        let scales = self.scales(steps)?;
        Ok((0..steps).any(|step| self.rule.passes(step, scales[step]) == Passes::Both))
    }

    /// The guide of one sample through a run of `steps` steps.
    ///
    /// It may begin at any step, so guidance can be changed within a run; momentum then starts
    /// anew.
    ///
    /// # Errors
    /// Those of [`validate`](Self::validate).
    pub fn guide<B: Backend>(&self, steps: usize) -> Result<Box<dyn Guide<B>>, GuidanceError> {
        Ok(Box::new(BuiltIn::<B>::new(self.rule, self.scales(steps)?, self.rescale)))
    }

    fn guided_steps(&self, steps: usize) -> Result<GuidedSteps, GuidanceError> {
        let [start, stop] = self.interval.unwrap_or([0.0, 1.0]);
        // Also false for what is not a number.
        if !(0.0 <= start && start < stop && stop <= 1.0) {
            return Err(GuidanceError::Interval { start, stop });
        }
        let first = (start * steps as f64) as usize;
        let end = (stop * steps as f64) as usize;
        if first >= end && self.interval.is_some() {
            return Err(GuidanceError::IntervalWithoutSteps { start, stop, steps });
        }
        Ok(GuidedSteps { first, end })
    }
}

impl fmt::Display for Guidance {
    /// Such as `apg linear:7..1, rescale 0.7, interval 0.1..0.6`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.rule.name(), self.scale)?;
        if self.rescale != 0.0 {
            write!(f, ", rescale {}", self.rescale)?;
        }
        match self.interval {
            Some([start, stop]) => write!(f, ", interval {start}..{stop}"),
            None => Ok(()),
        }
    }
}

/// The guided steps of a run.
struct GuidedSteps {
    first: usize,
    end: usize,
}

impl GuidedSteps {
    fn contains(&self, step: usize) -> bool {
        (self.first..self.end).contains(&step)
    }
}

impl GuidanceRule {
    /// The samples that a guide of this rule keeps from step to step, beside those of the step.
    pub fn samples_kept(&self) -> usize {
        usize::from(self.keeps().is_some())
    }

    /// What a step with this scale needs.
    fn passes(&self, step: usize, scale: f64) -> Passes {
        match scale {
            _ if self.is_zero(step) => Passes::Neither,
            _ if needs_unconditional(scale) => Passes::Both,
            _ => Passes::Conditional,
        }
    }
}

fn range(
    name: &'static str,
    found: f64,
    ok: bool,
    expected: &'static str,
) -> Result<(), GuidanceError> {
    ok.then_some(()).ok_or(GuidanceError::Range { name, found, expected })
}

#[cfg(test)]
mod tests;
