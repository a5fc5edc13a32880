//! `scheduler_config.json` of diffusers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::dpm::DpmPlusPlus;
use super::euler::Euler;
use super::lcm::Lcm;
use super::unipc::UniPc;
use super::{FlowSchedule, ScheduleError, Scheduler, SigmaGrid, Steps};
use crate::BurnBackend;
use crate::config::{ConfigError, require};
use crate::noise::TorchGenerator;

/// The method that integrates the flow.
///
/// Options and metadata know it as `unipc`, `euler`, `dpm++` or `lcm`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
#[non_exhaustive]
pub enum SchedulerKind {
    /// UniPC (Zhao et al. 2023, arXiv:2302.04867), the multistep predictor-corrector that the
    /// original Wan samples with by default: diffusers' `UniPCMultistepScheduler`.
    UniPc,
    /// The Euler method, plain and first-order: diffusers' `FlowMatchEulerDiscreteScheduler`.
    Euler,
    /// DPM-Solver++ (Lu et al. 2022, arXiv:2211.01095), multistep of order 1 to 3, the other
    /// solver of the original Wan: diffusers' `DPMSolverMultistepScheduler`.
    DpmPlusPlus,
    /// The sampler of latent consistency models (Luo et al. 2023, arXiv:2310.04378), which adds
    /// fresh noise after each step, for models distilled to few steps: diffusers'
    /// `FlowMatchLCMScheduler`.
    Lcm,
}

const NAMES: [(&str, SchedulerKind); 4] = [
    ("unipc", SchedulerKind::UniPc),
    ("euler", SchedulerKind::Euler),
    ("dpm++", SchedulerKind::DpmPlusPlus),
    ("lcm", SchedulerKind::Lcm),
];

const CLASSES: [(&str, SchedulerKind); 4] = [
    ("UniPCMultistepScheduler", SchedulerKind::UniPc),
    ("FlowMatchEulerDiscreteScheduler", SchedulerKind::Euler),
    ("DPMSolverMultistepScheduler", SchedulerKind::DpmPlusPlus),
    ("FlowMatchLCMScheduler", SchedulerKind::Lcm),
];

impl SchedulerKind {
    /// All methods.
    pub const ALL: [Self; 4] = [Self::UniPc, Self::Euler, Self::DpmPlusPlus, Self::Lcm];

    /// The class of diffusers.
    pub fn class(self) -> &'static str {
        name_of(self, &CLASSES)
    }

    /// The name that options and metadata have for it.
    pub fn name(self) -> &'static str {
        name_of(self, &NAMES)
    }

    /// Whether the class calls the flow shift `flow_shift`, not `shift`, and rounds timesteps.
    pub(super) fn is_multistep(self) -> bool {
        matches!(self, Self::UniPc | Self::DpmPlusPlus)
    }
}

impl fmt::Display for SchedulerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for SchedulerKind {
    type Err = ConfigError;

    fn from_str(name: &str) -> Result<Self, ConfigError> {
        by_name("scheduler", name, &NAMES)
    }
}

impl TryFrom<String> for SchedulerKind {
    type Error = ConfigError;

    fn try_from(name: String) -> Result<Self, ConfigError> {
        name.parse()
    }
}

impl From<SchedulerKind> for &'static str {
    fn from(kind: SchedulerKind) -> Self {
        kind.name()
    }
}

/// The variant of a solver: the function B(h) of UniPC, the second-order step of DPM++.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
#[non_exhaustive]
pub enum SolverType {
    /// UniPC: `B(h) = h`
    Bh1,
    /// UniPC: `B(h) = e^h - 1`, the default
    Bh2,
    /// DPM++: the midpoint rule, the default
    Midpoint,
    /// DPM++: the rule of Heun
    Heun,
}

const SOLVER_TYPES: [(&str, SolverType); 4] = [
    ("bh1", SolverType::Bh1),
    ("bh2", SolverType::Bh2),
    ("midpoint", SolverType::Midpoint),
    ("heun", SolverType::Heun),
];

impl TryFrom<String> for SolverType {
    type Error = ConfigError;

    fn try_from(name: String) -> Result<Self, ConfigError> {
        by_name("solver_type", &name, &SOLVER_TYPES)
    }
}

impl From<SolverType> for &'static str {
    fn from(solver: SolverType) -> Self {
        name_of(solver, &SOLVER_TYPES)
    }
}

/// The noise level at which a schedule of a multistep solver ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
#[non_exhaustive]
pub enum FinalSigma {
    /// No noise.
    #[default]
    Zero,
    /// The last sigma of the grid, so that the last step stays where it is.
    SigmaMin,
}

const FINAL_SIGMAS: [(&str, FinalSigma); 2] =
    [("zero", FinalSigma::Zero), ("sigma_min", FinalSigma::SigmaMin)];

impl TryFrom<String> for FinalSigma {
    type Error = ConfigError;

    fn try_from(name: String) -> Result<Self, ConfigError> {
        by_name("final_sigmas_type", &name, &FINAL_SIGMAS)
    }
}

impl From<FinalSigma> for &'static str {
    fn from(last: FinalSigma) -> Self {
        name_of(last, &FINAL_SIGMAS)
    }
}

/// A scheduler with its options, as diffusers' `scheduler_config.json` has them.
///
/// Fields that a file leaves out have diffusers' defaults, fields that no method here has are
/// ignored, and those that would change a schedule in a way that is not supported are refused by
/// [`validate`](Self::validate). [`Default`] is UniPC as Wan has it, with a flow shift of 1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct SchedulerConfig {
    /// The method.
    #[serde(rename = "_class_name", with = "class_name")]
    pub kind: SchedulerKind,
    /// The noise level that the schedule's last but one is stretched to, if any.
    #[serde(default)]
    pub shift_terminal: Option<f64>,
    /// Order of UniPC and DPM++, 1 to 3.
    #[serde(default = "two")]
    pub solver_order: usize,
    /// Variant of UniPC or DPM++; `None` is the default of the method.
    #[serde(default)]
    pub solver_type: Option<SolverType>,
    /// Fall back to lower orders in the last steps, which keeps few steps stable; DPM++ does it
    /// for less than 15 steps.
    #[serde(default = "yes")]
    pub lower_order_final: bool,
    /// Make the last step of DPM++ one of order 1, however many steps there are.
    #[serde(default)]
    pub euler_at_final: bool,
    /// Steps after which the corrector of UniPC is not run.
    #[serde(default)]
    pub disable_corrector: Vec<usize>,
    /// Where a schedule of UniPC or DPM++ ends.
    #[serde(default)]
    pub final_sigmas_type: FinalSigma,
    /// The flow shift of UniPC and DPM++.
    #[serde(default = "one")]
    pub(super) flow_shift: f64,
    /// The flow shift of Euler and LCM.
    #[serde(default = "one")]
    pub(super) shift: f64,
    #[serde(default = "thousand")]
    pub(super) num_train_timesteps: usize,
    #[serde(default)]
    pub(super) prediction_type: Option<String>,
    #[serde(default)]
    pub(super) algorithm_type: Option<String>,
    #[serde(default)]
    pub(super) use_flow_sigmas: bool,
    #[serde(default = "yes")]
    pub(super) predict_x0: bool,
    #[serde(default)]
    pub(super) thresholding: bool,
    #[serde(default)]
    pub(super) invert_sigmas: bool,
    #[serde(default)]
    pub(super) stochastic_sampling: bool,
    #[serde(default)]
    pub(super) scale_factors: Option<Vec<f64>>,
    #[serde(default)]
    pub(super) use_dynamic_shifting: bool,
    #[serde(default)]
    pub(super) use_karras_sigmas: bool,
    #[serde(default)]
    pub(super) use_exponential_sigmas: bool,
    #[serde(default)]
    pub(super) use_beta_sigmas: bool,
    #[serde(default)]
    pub(super) use_lu_lambdas: bool,
}

fn one() -> f64 {
    1.0
}

fn two() -> usize {
    2
}

fn thousand() -> usize {
    1000
}

fn yes() -> bool {
    true
}

impl Default for SchedulerConfig {
    fn default() -> Self {
        Self::new(SchedulerKind::UniPc)
    }
}

impl SchedulerConfig {
    /// A method with its default options and a flow shift of 1.
    pub fn new(kind: SchedulerKind) -> Self {
        Self {
            kind,
            shift_terminal: None,
            solver_order: 2,
            solver_type: None,
            lower_order_final: true,
            euler_at_final: false,
            disable_corrector: Vec::new(),
            final_sigmas_type: FinalSigma::Zero,
            flow_shift: 1.0,
            shift: 1.0,
            num_train_timesteps: 1000,
            prediction_type: Some("flow_prediction".into()),
            algorithm_type: None,
            use_flow_sigmas: true,
            predict_x0: true,
            thresholding: false,
            invert_sigmas: false,
            stochastic_sampling: false,
            scale_factors: None,
            use_dynamic_shifting: false,
            use_karras_sigmas: false,
            use_exponential_sigmas: false,
            use_beta_sigmas: false,
            use_lu_lambdas: false,
        }
    }

    /// Reads the content of a `scheduler_config.json`. A field that is null counts as left out.
    ///
    /// # Errors
    /// If a field is not of its type, or for a reason of [`validate`](Self::validate).
    pub fn from_json(json: &Value) -> Result<Self, ConfigError> {
        let mut json = json.clone();
        if let Some(fields) = json.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        let config = Self::deserialize(json).map_err(|error| ConfigError {
            field: "scheduler_config.json",
            found: error.to_string(),
            expected: "a scheduler's config".into(),
        })?;
        config.validate().map(|()| config)
    }

    /// The flow shift `s`: `sigma -> s sigma / (1 + (s - 1) sigma)`. More than 1 spends more steps
    /// at high noise, which larger videos need.
    pub fn flow_shift(&self) -> f64 {
        if self.kind.is_multistep() { self.flow_shift } else { self.shift }
    }

    /// Sets the flow shift.
    pub fn with_flow_shift(mut self, flow_shift: f64) -> Self {
        (self.flow_shift, self.shift) = (flow_shift, flow_shift);
        self
    }

    /// The variant of the solver, where the method has variants.
    pub(super) fn solver(&self) -> SolverType {
        let default = match self.kind {
            SchedulerKind::DpmPlusPlus => SolverType::Midpoint,
            _ => SolverType::Bh2,
        };
        self.solver_type.unwrap_or(default)
    }

    /// The timesteps and noise levels of a run, before it.
    ///
    /// With a `strength`, a run begins at a clean sample with noise added, and only its last
    /// `trunc(strength N)` steps are run, as in diffusers' video-to-video pipelines: see
    /// [`FlowSchedule::start`].
    ///
    /// # Errors
    /// If an option or a step is out of range, or two noise levels are equal.
    pub fn schedule(
        &self,
        grid: SigmaGrid,
        steps: &Steps,
        strength: Option<f64>,
    ) -> Result<FlowSchedule, ScheduleError> {
        self.validate()?;
        FlowSchedule::new(self, grid, steps, strength)
    }

    /// The scheduler of one sample for one run.
    ///
    /// `noise` is the generator of the sample, from which its start noise has been drawn; only LCM
    /// draws more.
    ///
    /// # Errors
    /// If an option is out of range, or the schedule was changed to one that cannot be run.
    pub fn scheduler<B: BurnBackend>(
        &self,
        schedule: &FlowSchedule,
        noise: TorchGenerator,
    ) -> Result<Box<dyn Scheduler<B>>, ScheduleError> {
        self.validate()?;
        schedule.validate()?;
        let schedule = schedule.clone();
        Ok(match self.kind {
            SchedulerKind::UniPc => Box::new(UniPc::<B>::new(self, schedule)),
            SchedulerKind::Euler => Box::new(Euler::new(schedule)),
            SchedulerKind::DpmPlusPlus => Box::new(DpmPlusPlus::<B>::new(self, schedule)),
            SchedulerKind::Lcm => Box::new(Lcm::new(schedule, noise)),
        })
    }

    /// Checks every option that the method reads.
    ///
    /// # Errors
    /// If an option is out of range, or is one that is not supported.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_unsupported()?;
        if self.kind.is_multistep() {
            self.validate_solver()?;
        }
        let field = if self.kind.is_multistep() { "flow_shift" } else { "shift" };
        let shift = self.flow_shift();
        require(shift.is_finite() && shift > 0.0, field, shift, "more than 0")?;
        let terminal = self.shift_terminal.unwrap_or(0.0);
        let ok = (0.0..1.0).contains(&terminal);
        require(ok, "shift_terminal", terminal, "from 0 to less than 1")
    }

    fn validate_unsupported(&self) -> Result<(), ConfigError> {
        for (field, on) in [
            ("use_karras_sigmas", self.use_karras_sigmas),
            ("use_exponential_sigmas", self.use_exponential_sigmas),
            ("use_beta_sigmas", self.use_beta_sigmas),
            ("use_lu_lambdas", self.use_lu_lambdas),
            ("use_dynamic_shifting", self.use_dynamic_shifting),
            ("invert_sigmas", self.invert_sigmas),
            ("stochastic_sampling", self.stochastic_sampling),
            ("thresholding", self.thresholding),
        ] {
            require(!on, field, on, "false")?;
        }
        let factors = self.scale_factors.as_deref().unwrap_or_default();
        require(factors.is_empty(), "scale_factors", factors, "null")?;
        let steps = self.num_train_timesteps;
        require(steps == 1000, "num_train_timesteps", steps, "1000")
    }

    fn validate_solver(&self) -> Result<(), ConfigError> {
        let prediction = self.prediction_type.as_deref().unwrap_or("null");
        let expected = "flow_prediction";
        require(prediction == expected, "prediction_type", prediction, quoted(expected))?;
        require(self.use_flow_sigmas, "use_flow_sigmas", false, "true")?;
        let order = self.solver_order;
        require((1..=3).contains(&order), "solver_order", order, "1, 2 or 3")?;
        let (solver, name) = (self.solver(), <&str>::from(self.solver()));
        if self.kind == SchedulerKind::UniPc {
            require(self.predict_x0, "predict_x0", false, "true")?;
            let ok = matches!(solver, SolverType::Bh1 | SolverType::Bh2);
            return require(ok, "solver_type", name, "\"bh1\" or \"bh2\"");
        }
        let algorithm = self.algorithm_type.as_deref().unwrap_or("dpmsolver++");
        let expected = "dpmsolver++";
        require(algorithm == expected, "algorithm_type", algorithm, quoted(expected))?;
        let ok = matches!(solver, SolverType::Midpoint | SolverType::Heun);
        require(ok, "solver_type", name, "\"midpoint\" or \"heun\"")
    }
}

fn quoted(name: &str) -> String {
    format!("{name:?}")
}

fn by_name<T: Copy>(
    field: &'static str,
    found: &str,
    all: &[(&'static str, T)],
) -> Result<T, ConfigError> {
    let value = all.iter().find(|(name, _)| *name == found);
    let names = || all.iter().map(|(name, _)| quoted(name)).collect::<Vec<_>>().join(" or ");
    value.map(|(_, value)| *value).ok_or_else(|| ConfigError {
        field,
        found: quoted(found),
        expected: names(),
    })
}

fn name_of<T: Copy + PartialEq>(value: T, all: &[(&'static str, T)]) -> &'static str {
    all.iter().find(|(_, other)| *other == value).map_or("", |(name, _)| name)
}

/// The class of diffusers in the place of the method.
mod class_name {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::{CLASSES, SchedulerKind, by_name};

    pub(super) fn serialize<S: Serializer>(kind: &SchedulerKind, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(kind.class())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<SchedulerKind, D::Error> {
        let name = String::deserialize(from)?;
        by_name("_class_name", &name, &CLASSES).map_err(de::Error::custom)
    }
}
