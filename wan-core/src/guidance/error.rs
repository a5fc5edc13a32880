use crate::words::plural;

/// A value of a [`Guidance`](super::Guidance) that is out of its range or does not fit the run.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum GuidanceError {
    /// A scale is not a number from 1 to 1000.
    #[error("guidance is {found}{}, but must be 1 (no guidance) to 1000", in_step(.step))]
    Scale {
        /// The step of a schedule, from 0; `None` for a constant scale.
        step: Option<usize>,
        /// The value found.
        found: f64,
    },
    /// A schedule gives scales for another number of steps.
    #[error(
        "the guidance schedule has {found} scale{}, but the run has {steps} step{}",
        plural(.found), plural(.steps)
    )]
    ScheduleLength {
        /// The scales found.
        found: usize,
        /// Steps of the run.
        steps: usize,
    },
    /// An interval that is empty, reversed or not within the run.
    #[error(
        "the guidance interval is {start} to {stop}, but must be two fractions of the run, \
         0 <= start < stop <= 1"
    )]
    Interval {
        /// Its start.
        start: f64,
        /// Its end.
        stop: f64,
    },
    /// An interval so short that no step lies in it.
    #[error(
        "the guidance interval {start} to {stop} has none of the {steps} step{} of the run in it",
        plural(.steps)
    )]
    IntervalWithoutSteps {
        /// Its start.
        start: f64,
        /// Its end.
        stop: f64,
        /// Steps of the run.
        steps: usize,
    },
    /// The zero steps of CFG-Zero* leave nothing to predict.
    #[error(
        "zero_init_steps is {found}, but must be less than the {steps} step{} of the run",
        plural(.steps)
    )]
    ZeroInitSteps {
        /// The value found.
        found: usize,
        /// Steps of the run.
        steps: usize,
    },
    /// A parameter is out of its range.
    #[error("{name} is {found}, but must be {expected}")]
    Range {
        /// The parameter.
        name: &'static str,
        /// The value found.
        found: f64,
        /// The values that are allowed.
        expected: &'static str,
    },
}

fn in_step(step: &Option<usize>) -> String {
    step.map(|step| format!(" in step {}", step + 1)).unwrap_or_default()
}

/// A text that is no [`Schedule`](super::Schedule) of guidance scales.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ScaleTextError {
    /// The text is empty.
    #[error(
        "the guidance scale is empty, but must be a scale such as 5, or a schedule such as \
         6x10+3x20, linear:7..1 or cosine:7..1"
    )]
    Empty,
    /// A scale is not a number from 1 to 1000.
    #[error("guidance is {found}, but must be 1 (no guidance) to 1000")]
    Scale {
        /// The text found.
        found: String,
    },
    /// A part of a list is not a scale with its number of steps.
    #[error("{found:?} must be a scale, an x and a number of steps, as in 6x10+3x20")]
    Part {
        /// The part found.
        found: String,
    },
    /// A number of steps is not 1 to 1000, or all parts together have more.
    #[error("the number of steps in {found:?} must be 1 to {max} in all, as in 6x10+3x20")]
    Steps {
        /// The part found.
        found: String,
        /// The most steps of a schedule.
        max: usize,
    },
    /// A range has no two ends.
    #[error("{found:?} must be two scales with two dots between, as in {name}:7..1")]
    Ends {
        /// `linear` or `cosine`
        name: &'static str,
        /// The text found.
        found: String,
    },
    /// A word before the colon that names no schedule.
    #[error("there is no guidance schedule {found:?}, but linear:7..1 and cosine:7..1")]
    Unknown {
        /// The word found.
        found: String,
    },
}
