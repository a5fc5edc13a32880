//! How a model is read.

use burn::tensor::DType;

/// How a model is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// The dtype of its matrices.
    pub dtype: DType,
    /// Refuse numbers that are infinite or not a number.
    pub require_finite: bool,
}

impl From<DType> for ReadOptions {
    fn from(dtype: DType) -> Self {
        Self { dtype, require_finite: false }
    }
}
