use std::f64::consts::PI;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::{GuidanceError, ScaleTextError};

/// The most steps that a text can list: a schedule has no more.
const MAX_STEPS: usize = 1000;

/// The guidance scale over the steps of a run.
///
/// As a text, for options and metadata, it is one of
///
/// | text | meaning |
/// |---|---|
/// | `5` | 5 in every step |
/// | `6x10+3x20` | 6 in ten steps, then 3 in twenty |
/// | `linear:7..1` | evenly from 7 in the first step to 1 in the last |
/// | `cosine:7..1` | the same along half a cosine: slow at both ends |
///
/// In JSON a constant is a number, and anything else is this text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "Form", try_from = "Form")]
#[non_exhaustive]
pub enum Schedule {
    /// One scale for all steps.
    Constant(f64),
    /// One scale a step; there must be as many as the run has steps.
    Steps(Vec<f64>),
    /// Evenly from the first step to the last.
    Linear {
        /// The scale of the first step.
        from: f64,
        /// The scale of the last step.
        to: f64,
    },
    /// Along half a cosine from the first step to the last.
    Cosine {
        /// The scale of the first step.
        from: f64,
        /// The scale of the last step.
        to: f64,
    },
}

impl From<f64> for Schedule {
    fn from(scale: f64) -> Self {
        Self::Constant(scale)
    }
}

impl From<Vec<f64>> for Schedule {
    fn from(scales: Vec<f64>) -> Self {
        Self::Steps(scales)
    }
}

/// Whether a scale is one: 1 is no guidance.
pub(super) fn is_scale(scale: f64) -> bool {
    (1.0..=1000.0).contains(&scale)
}

impl Schedule {
    /// The scale of each step, not checked.
    pub(super) fn resolve(&self, steps: usize) -> Result<Vec<f64>, GuidanceError> {
        let along = |from, to, shape: fn(f64) -> f64| {
            (0..steps).map(|step| between(from, to, shape(fraction(step, steps)))).collect()
        };
        Ok(match self {
            Self::Constant(scale) => vec![*scale; steps],
            Self::Steps(scales) if scales.len() == steps => scales.clone(),
            Self::Steps(scales) => {
                return Err(GuidanceError::ScheduleLength { found: scales.len(), steps });
            }
            Self::Linear { from, to } => along(*from, *to, |t| t),
            Self::Cosine { from, to } => along(*from, *to, |t| (1.0 - (PI * t).cos()) / 2.0),
        })
    }
}

/// 0 in the first step, 1 in the last.
fn fraction(step: usize, steps: usize) -> f64 {
    if steps > 1 { step as f64 / (steps - 1) as f64 } else { 0.0 }
}

/// Exact at both ends: a scale that should be 1 must not be a little more, which would cost a pass.
fn between(from: f64, to: f64, t: f64) -> f64 {
    if t == 1.0 { to } else { from + (to - from) * t }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Constant(scale) => write!(f, "{scale}"),
            Self::Linear { from, to } => write!(f, "linear:{from}..{to}"),
            Self::Cosine { from, to } => write!(f, "cosine:{from}..{to}"),
            Self::Steps(scales) => {
                let parts = scales.chunk_by(|a, b| a == b);
                let parts: Vec<_> = parts.map(|p| format!("{}x{}", p[0], p.len())).collect();
                f.write_str(&parts.join("+"))
            }
        }
    }
}

impl FromStr for Schedule {
    type Err = ScaleTextError;

    fn from_str(text: &str) -> Result<Self, ScaleTextError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ScaleTextError::Empty);
        }
        match text.split_once(':') {
            Some(("linear", ends)) => {
                parse_ends("linear", ends).map(|(from, to)| Self::Linear { from, to })
            }
            Some(("cosine", ends)) => {
                parse_ends("cosine", ends).map(|(from, to)| Self::Cosine { from, to })
            }
            Some((found, _)) => Err(ScaleTextError::Unknown { found: found.into() }),
            None if text.contains(['x', '+']) => parse_steps(text).map(Self::Steps),
            None => parse_scale(text).map(Self::Constant),
        }
    }
}

fn parse_scale(text: &str) -> Result<f64, ScaleTextError> {
    let scale = text.parse().ok().filter(|scale| is_scale(*scale));
    scale.ok_or_else(|| ScaleTextError::Scale { found: text.into() })
}

fn parse_ends(name: &'static str, text: &str) -> Result<(f64, f64), ScaleTextError> {
    let ends = text.split_once("..").filter(|(from, to)| !from.is_empty() && !to.is_empty());
    let (from, to) = ends.ok_or_else(|| ScaleTextError::Ends { name, found: text.into() })?;
    Ok((parse_scale(from)?, parse_scale(to)?))
}

fn parse_steps(text: &str) -> Result<Vec<f64>, ScaleTextError> {
    let mut scales = Vec::new();
    for part in text.split('+') {
        let halves = part.split_once('x').filter(|(scale, steps)| {
            !scale.is_empty() && !steps.is_empty() && steps.bytes().all(|b| b.is_ascii_digit())
        });
        let (scale, steps) = halves.ok_or_else(|| ScaleTextError::Part { found: part.into() })?;
        let scale = parse_scale(scale)?;
        let left = MAX_STEPS - scales.len();
        // What does not parse has too many digits.
        let steps = steps.parse().ok().filter(|steps| (1..=left).contains(steps));
        let error = || ScaleTextError::Steps { found: part.into(), max: MAX_STEPS };
        scales.extend(std::iter::repeat_n(scale, steps.ok_or_else(error)?));
    }
    Ok(scales)
}

/// A [`Schedule`] in JSON.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Form {
    Number(f64),
    Text(String),
}

impl From<Schedule> for Form {
    fn from(schedule: Schedule) -> Self {
        match schedule {
            Schedule::Constant(scale) => Self::Number(scale),
            other => Self::Text(other.to_string()),
        }
    }
}

impl TryFrom<Form> for Schedule {
    type Error = ScaleTextError;

    fn try_from(form: Form) -> Result<Self, ScaleTextError> {
        match form {
            Form::Number(scale) => Ok(Self::Constant(scale)),
            Form::Text(text) => text.parse(),
        }
    }
}
