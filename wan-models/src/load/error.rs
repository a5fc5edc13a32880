//! Errors of loading.

use wan_core::Cancelled;

use super::WeightsError;

/// The reasons why a network is not loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The checkpoint does not fit the config.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The [token](super::ReadOptions::cancel) was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}
