//! The way in which a network is read.

use std::fmt;

use burn::tensor::DType;
use wan_core::CancelToken;

/// Where the weights of a network's layers are between two uses. What is outside its layers, such as the
/// embedding of time, is always in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Residency {
    /// In the memory of the device, in the dtype that the network computes in.
    #[default]
    Resident,
    /// In the memory of the host as they are stored. A layer at a time is brought to the device and to the
    /// dtype that the network computes in, while the one before it computes.
    Stored,
    /// In their files. A layer at a time is read, while the one before it computes.
    Streamed,
}

impl fmt::Display for Residency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Resident => "resident",
            Self::Stored => "stored",
            Self::Streamed => "streamed",
        })
    }
}

/// The way in which a network is read. A [`DType`] alone is one with the defaults.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ReadOptions {
    /// The dtype of the network's matrices.
    pub dtype: DType,
    /// Where the weights of its layers are. In memory by default.
    pub residency: Residency,
    /// Whether values that are infinite or not a number are an error. Off by default.
    pub require_finite: bool,
    /// Stops the reading, before the next tensor.
    pub cancel: CancelToken,
}

impl ReadOptions {
    /// Matrices of this dtype, and the defaults.
    pub fn new(dtype: DType) -> Self {
        let (residency, cancel) = Default::default();
        Self { dtype, residency, require_finite: false, cancel }
    }

    /// Sets [`residency`](Self::residency).
    #[must_use]
    pub fn residency(mut self, residency: Residency) -> Self {
        self.residency = residency;
        self
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
