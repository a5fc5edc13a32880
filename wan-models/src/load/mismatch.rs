//! What does not fit between a checkpoint and a model.

use std::fmt;

/// One way in which a checkpoint does not fit a model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// The model needs a tensor that the checkpoint has not.
    Missing {
        /// Its name.
        name: String,
        /// Its shape.
        expected: Vec<usize>,
    },
    /// The checkpoint has a tensor that the model does not know.
    Unexpected {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape.
    Shape {
        /// Its name.
        name: String,
        /// The shape in the checkpoint.
        found: Vec<usize>,
        /// The shape that the config asks for.
        expected: Vec<usize>,
    },
    /// A tensor is not of floating point numbers.
    DType {
        /// Its name.
        name: String,
        /// The dtype in the checkpoint.
        found: String,
    },
    /// A tensor has a number that is infinite or not a number, and
    /// [`require_finite`](ReadOptions::require_finite) was asked for.
    NotFinite {
        /// Its name.
        name: String,
        /// The place of the first such number.
        index: usize,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name, expected } => write!(f, "{name} {expected:?} is missing"),
            Self::Unexpected { name } => write!(f, "{name} is not part of this model"),
            Self::Shape { name, found, expected } => {
                write!(f, "{name} has shape {found:?}, but must have {expected:?}")
            }
            Self::DType { name, found } => {
                write!(f, "{name} has dtype {found}, but must have F32, F16 or BF16")
            }
            Self::NotFinite { name, index } => {
                write!(f, "{name} has at {index} a number that is infinite or not a number")
            }
        }
    }
}

/// A checkpoint that does not fit its config, with everything that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsError {
    /// Where the tensors come from.
    pub origin: String,
    /// Everything that is wrong, in the order of the model.
    pub mismatches: Vec<Mismatch>,
}

/// How many mismatches an error message spells out.
const MAX_LISTED: usize = 24;

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the tensors do not fit the config", self.origin)?;
        for mismatch in self.mismatches.iter().take(MAX_LISTED) {
            write!(f, "\n  {mismatch}")?;
        }
        match self.mismatches.len().saturating_sub(MAX_LISTED) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

impl std::error::Error for WeightsError {}
