//! The way in which a network is read.

use burn::tensor::DType;
use wan_core::CancelToken;

/// The way in which a network is read. A [`DType`] alone is one with the defaults.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReadOptions {
    /// The dtype of the network's matrices.
    pub dtype: DType,
    /// Whether values that are infinite or not a number are an error. Off by default.
    pub require_finite: bool,
    /// Stops the reading, before the next tensor.
    pub cancel: CancelToken,
}

impl ReadOptions {
    /// Matrices of this dtype, and the defaults.
    pub fn new(dtype: DType) -> Self {
        Self { dtype, require_finite: false, cancel: CancelToken::default() }
    }

    /// Sets [`require_finite`](Self::require_finite).
    #[must_use]
    pub fn require_finite(mut self, require: bool) -> Self {
        self.require_finite = require;
        self
    }

    /// Sets the token that [stops](Self::cancel) the reading.
    #[must_use]
    pub fn cancel(mut self, token: CancelToken) -> Self {
        self.cancel = token;
        self
    }
}

impl From<DType> for ReadOptions {
    fn from(dtype: DType) -> Self {
        Self::new(dtype)
    }
}
