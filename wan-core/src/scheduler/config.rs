//! `scheduler_config.json` of diffusers.

use serde::Deserialize;
use serde_json::Value;

use super::{
    Euler, FinalSigma, FlowSigmas, ScheduleError, Scheduler, SigmaGrid, SolverType, Steps, UniPc,
    UniPcConfig,
};
use crate::BurnBackend;
use crate::config::ConfigError;

/// Which method integrates the flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SchedulerKind {
    /// [`UniPc`]: what the original Wan samples with.
    UniPc,
    /// [`Euler`]: the plain first-order method.
    Euler,
}

impl SchedulerKind {
    /// The class of diffusers.
    #[doc(hidden)]
    pub fn class(self) -> &'static str {
        match self {
            Self::UniPc => "UniPCMultistepScheduler",
            Self::Euler => "FlowMatchEulerDiscreteScheduler",
        }
    }

    /// The name that options and metadata have for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::UniPc => "unipc",
            Self::Euler => "euler",
        }
    }
}

/// How the flow shift follows from `mu`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DynamicShifting {
    /// `e^mu`
    Exponential,
    /// `mu`
    Linear,
}

/// A scheduler with its options.
#[derive(Debug, Clone, PartialEq)]
pub struct SchedulerConfig {
    /// The method.
    pub kind: SchedulerKind,
    /// The flow shift.
    pub shift: f64,
    /// Options of UniPC; [`Euler`] has none.
    pub unipc: UniPcConfig,
    /// Where the schedule's last but one noise level is stretched to, if anywhere.
    pub shift_terminal: Option<f64>,
    /// Whether the shift follows from a `mu` of the caller's, which Wan pipelines do not have.
    pub dynamic_shifting: Option<DynamicShifting>,
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self {
            kind: SchedulerKind::UniPc,
            shift: 1.0,
            unipc: UniPcConfig::default(),
            shift_terminal: None,
            dynamic_shifting: None,
        }
    }
}

/// The fields that change a flow-matching schedule, with diffusers' defaults, and those that would
/// if they were not at their defaults.
#[doc(hidden)]
#[derive(Deserialize)]
pub struct Json {
    #[serde(rename = "_class_name")]
    class_name: String,
    #[serde(default = "thousand")]
    num_train_timesteps: usize,
    #[serde(default)]
    shift_terminal: Option<f64>,
    #[serde(default)]
    use_dynamic_shifting: bool,
    #[serde(default = "exponential")]
    time_shift_type: String,
    // UniPC
    #[serde(default = "one")]
    flow_shift: f64,
    #[serde(default = "two")]
    solver_order: usize,
    #[serde(default = "bh2")]
    solver_type: String,
    #[serde(default = "yes")]
    lower_order_final: bool,
    #[serde(default)]
    disable_corrector: Vec<usize>,
    #[serde(default = "zero")]
    final_sigmas_type: String,
    #[serde(default)]
    prediction_type: Option<String>,
    #[serde(default)]
    use_flow_sigmas: bool,
    #[serde(default = "yes")]
    predict_x0: bool,
    #[serde(default)]
    thresholding: bool,
    // Euler
    #[serde(default = "one")]
    shift: f64,
    #[serde(default)]
    invert_sigmas: bool,
    #[serde(default)]
    stochastic_sampling: bool,
    // both
    #[serde(default)]
    use_karras_sigmas: bool,
    #[serde(default)]
    use_exponential_sigmas: bool,
    #[serde(default)]
    use_beta_sigmas: bool,
}

fn thousand() -> usize {
    1000
}
fn two() -> usize {
    2
}
fn one() -> f64 {
    1.0
}
fn yes() -> bool {
    true
}
fn exponential() -> String {
    "exponential".into()
}
fn bh2() -> String {
    "bh2".into()
}
fn zero() -> String {
    "zero".into()
}

impl SchedulerConfig {
    /// Reads the content of a `scheduler_config.json`.
    ///
    /// # Errors
    /// If a field is not of its type, the class is not a flow-matching UniPC or Euler scheduler, or
    /// an option is one that they do not have here.
    pub fn from_json(json: &Value) -> Result<Self, ConfigError> {
        let error = |error: serde_json::Error| ConfigError {
            field: "scheduler_config.json",
            found: error.to_string(),
            expected: "a scheduler's config".into(),
        };
        Json::deserialize(json).map_err(error)?.into_config()
    }

    /// Makes the scheduler for one run; `mu` is for dynamic shifting alone.
    ///
    /// # Errors
    /// If the shift or the number of steps is out of range.
    pub fn build<B: BurnBackend>(
        &self,
        grid: SigmaGrid,
        steps: Steps,
        mu: Option<f64>,
    ) -> Result<Box<dyn Scheduler<B>>, ScheduleError> {
        let shift_terminal = self.shift_terminal;
        let dynamic_shift = match (self.dynamic_shifting, mu) {
            (Some(DynamicShifting::Exponential), Some(mu)) => Some(mu.exp()),
            (Some(DynamicShifting::Linear), mu) => mu,
            _ => None,
        };
        let sigmas = FlowSigmas { grid, shift: self.shift, dynamic_shift, shift_terminal };
        Ok(match self.kind {
            SchedulerKind::UniPc => Box::new(UniPc::<B>::new(self.unipc.clone(), &sigmas, steps)?),
            SchedulerKind::Euler => Box::new(Euler::new(&sigmas, steps)?),
        })
    }
}

impl Json {
    #[doc(hidden)]
    pub fn into_config(self) -> Result<SchedulerConfig, ConfigError> {
        let kind = match self.class_name.as_str() {
            "UniPCMultistepScheduler" => SchedulerKind::UniPc,
            "FlowMatchEulerDiscreteScheduler" => SchedulerKind::Euler,
            _ => {
                let expected = "\"UniPCMultistepScheduler\" or \"FlowMatchEulerDiscreteScheduler\"";
                return Err(bad("_class_name", &self.class_name, expected));
            }
        };
        self.validate(kind)?;
        let solver_type = match self.solver_type.as_str() {
            "bh1" => SolverType::Bh1,
            "bh2" => SolverType::Bh2,
            other => return Err(bad("solver_type", &other, "\"bh1\" or \"bh2\"")),
        };
        let final_sigma = match self.final_sigmas_type.as_str() {
            "zero" => FinalSigma::Zero,
            "sigma_min" => FinalSigma::SigmaMin,
            other => return Err(bad("final_sigmas_type", &other, "\"zero\" or \"sigma_min\"")),
        };
        let dynamic_shifting = match self.time_shift_type.as_str() {
            "exponential" => DynamicShifting::Exponential,
            "linear" => DynamicShifting::Linear,
            other => return Err(bad("time_shift_type", &other, "\"exponential\" or \"linear\"")),
        };
        Ok(SchedulerConfig {
            kind,
            shift: if kind == SchedulerKind::UniPc { self.flow_shift } else { self.shift },
            unipc: UniPcConfig {
                solver_order: self.solver_order,
                solver_type,
                lower_order_final: self.lower_order_final,
                disable_corrector: self.disable_corrector,
                final_sigma,
            },
            shift_terminal: self.shift_terminal.filter(|terminal| *terminal != 0.0),
            dynamic_shifting: self.use_dynamic_shifting.then_some(dynamic_shifting),
        })
    }

    fn validate(&self, kind: SchedulerKind) -> Result<(), ConfigError> {
        let off = |field, on: bool| if on { Err(bad(field, &on, "false")) } else { Ok(()) };
        off("use_karras_sigmas", self.use_karras_sigmas)?;
        off("use_exponential_sigmas", self.use_exponential_sigmas)?;
        off("use_beta_sigmas", self.use_beta_sigmas)?;
        off("invert_sigmas", self.invert_sigmas)?;
        off("stochastic_sampling", self.stochastic_sampling)?;
        off("thresholding", self.thresholding)?;
        if self.num_train_timesteps != 1000 {
            return Err(bad("num_train_timesteps", &self.num_train_timesteps, "1000"));
        }
        if kind == SchedulerKind::UniPc {
            let prediction = self.prediction_type.as_deref().unwrap_or("null");
            if prediction != "flow_prediction" {
                return Err(bad("prediction_type", &prediction, "\"flow_prediction\""));
            }
            if !self.use_flow_sigmas {
                return Err(bad("use_flow_sigmas", &false, "true"));
            }
            if !self.predict_x0 {
                return Err(bad("predict_x0", &false, "true"));
            }
            if !(1..=3).contains(&self.solver_order) {
                return Err(bad("solver_order", &self.solver_order, "1, 2 or 3"));
            }
        }
        let (field, shift) = match kind {
            SchedulerKind::UniPc => ("flow_shift", self.flow_shift),
            SchedulerKind::Euler => ("shift", self.shift),
        };
        if !(shift.is_finite() && shift > 0.0) {
            return Err(bad(field, &shift, "more than 0"));
        }
        match self.shift_terminal {
            Some(terminal) if !(0.0..1.0).contains(&terminal) => {
                Err(bad("shift_terminal", &terminal, "from 0 to less than 1"))
            }
            _ => Ok(()),
        }
    }
}

fn bad(field: &'static str, found: &dyn std::fmt::Debug, expected: &str) -> ConfigError {
    ConfigError { field, found: format!("{found:?}"), expected: expected.into() }
}
