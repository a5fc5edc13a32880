//! Differences between a checkpoint and the network of a config.

use std::fmt;

/// One difference between a checkpoint and the network of a config. Names are those in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// A tensor the network needs is missing from the checkpoint.
    Missing {
        /// The tensor.
        name: String,
        /// The shape that the config asks for.
        expected: Vec<usize>,
    },
    /// A tensor of the checkpoint is not part of the network.
    Unexpected {
        /// The tensor.
        name: String,
    },
    /// A tensor has a shape that does not follow from the config.
    Shape {
        /// The tensor.
        name: String,
        /// The shape in the checkpoint.
        found: Vec<usize>,
        /// The shape that the config asks for.
        expected: Vec<usize>,
    },
    /// The elements of a tensor are not floating-point values of 32, 16 or 8 bits.
    DType {
        /// The tensor.
        name: String,
        /// The dtype in the checkpoint.
        found: String,
    },
    /// A tensor is larger than the device lets a tensor be, in the dtype that is computed in.
    TooLarge {
        /// The tensor.
        name: String,
        /// Its bytes on the device.
        bytes: u64,
        /// The most that the device allows.
        limit: u64,
    },
    /// A tensor has a value that is infinite or not a number, and
    /// [`require_finite`](super::ReadOptions::require_finite) is set.
    NotFinite {
        /// The tensor.
        name: String,
        /// The row-major index of the first such value.
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
                write!(f, "{name} has dtype {found}, but must have F32, F16, BF16 or F8")
            }
            Self::TooLarge { name, bytes, limit } => write!(
                f,
                "{name} takes {bytes} bytes, but a tensor on this device can have {limit} at most"
            ),
            Self::NotFinite { name, index } => {
                write!(f, "{name} has at {index} a number that is infinite or not a number")
            }
        }
    }
}

/// A checkpoint that does not fit its config or the device, with every difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsError {
    /// The file or index of the tensors.
    pub origin: String,
    /// All differences: in the order of the network, then the tensors that are not part of it.
    pub mismatches: Vec<Mismatch>,
}

/// The most mismatches that an error message spells out.
const MAX_LISTED: usize = 5;

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let listed = self.mismatches.iter().take(MAX_LISTED).map(Mismatch::to_string);
        let listed = listed.collect::<Vec<_>>().join("; ");
        let is_too_large = |mismatch: &Mismatch| matches!(mismatch, Mismatch::TooLarge { .. });
        let what = if self.mismatches.iter().all(is_too_large) { "device" } else { "config" };
        write!(f, "{}: the tensors do not fit the {what}: {listed}", self.origin)?;
        match self.mismatches.len().saturating_sub(MAX_LISTED) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for WeightsError {}
