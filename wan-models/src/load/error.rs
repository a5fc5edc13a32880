//! Errors of loading.

use wan_core::{Cancelled, ForwardError};
use wan_io::files::FileError;

use super::WeightsError;

/// The reasons why a network is not loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The checkpoint does not fit the config.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// A file of the checkpoint cannot be read, or has changed since it was opened.
    #[error(transparent)]
    File(#[from] FileError),
    /// The [token](super::ReadOptions::cancel) was cancelled.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
}

impl From<LoadError> for ForwardError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            other => Self::Weights(Box::new(other)),
        }
    }
}
