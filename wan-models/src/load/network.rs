//! The traits that a network and its config implement to be loaded.

use std::sync::Arc;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wan_core::Backend;

use super::{CheckpointError, Scope, TensorSource};
use crate::config::ConfigError;
use crate::transformer::OriginalConfig;

/// A network that [`load`](super::load) reads from a checkpoint.
pub trait Network<B: Backend>: Sized {
    /// The sizes of the network.
    type Config: NetworkConfig;

    /// Asks for all tensors of the network; `config` must be valid.
    ///
    /// It runs once without data, to compare the checkpoint with the config. Tensors are
    /// placeholders of shape `[1, ..]` then, and also after the reading was cancelled or has
    /// failed: they can be passed on, cast, permuted and reshaped to sizes taken from their own,
    /// but not joined or compared.
    fn load(config: &Self::Config, scope: &Scope<B>) -> Self;
}

/// A network's config, which mirrors its JSON file, or is told by the tensors where there is none. The
/// default has the values of fields that the file leaves out.
pub trait NetworkConfig: Default + Serialize + DeserializeOwned {
    /// Whether a `config.json` with these values of `_class_name` and `model_type` (empty if absent)
    /// is of this network, in any layout.
    fn is_kind(class_name: &str, model_type: &str) -> bool;

    /// # Errors
    /// The first field with a value that no supported network can have.
    fn validate(&self) -> Result<(), ConfigError>;

    /// The tensors of a checkpoint in any known layout, under the names that the network asks for.
    ///
    /// # Errors
    /// If no layout has these names.
    fn canonical_names(
        source: Arc<dyn TensorSource>,
    ) -> Result<Arc<dyn TensorSource>, CheckpointError>;

    /// The config that the shapes of the tensors tell, for files without one. It still has to be
    /// [validated](Self::validate).
    ///
    /// # Errors
    /// If the tensors that tell it are missing or do not tell it.
    fn infer(tensors: &dyn TensorSource) -> Result<Self, CheckpointError>;

    /// This config with the values that the shapes of the tensors tell in place of its own. It still has
    /// to be [validated](Self::validate).
    ///
    /// # Errors
    /// If the tensors that tell them are missing or do not tell them.
    fn fitted(&self, tensors: &dyn TensorSource) -> Result<Self, CheckpointError>;

    /// The config of a network in a model in the original layout, whose own `config.json` is
    /// `original`. It still has to be [validated](Self::validate).
    ///
    /// # Errors
    /// If the tensors that tell the rest are missing.
    fn from_original(
        original: &OriginalConfig,
        tensors: &dyn TensorSource,
    ) -> Result<Self, CheckpointError> {
        let _ = original;
        Self::infer(tensors)
    }
}
