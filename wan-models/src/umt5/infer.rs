//! The config of an encoder from the shapes of its tensors.

use std::sync::Arc;

use super::Umt5Config;
use super::names::LAYOUTS;
use crate::config::ConfigError;
use crate::load::{CheckpointError, NetworkConfig, Shapes, TensorSource};

impl NetworkConfig for Umt5Config {
    fn is_kind(_: &str, model_type: &str) -> bool {
        model_type == "umt5"
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.validate()
    }

    fn canonical_names(
        source: Arc<dyn TensorSource>,
    ) -> Result<Arc<dyn TensorSource>, CheckpointError> {
        LAYOUTS.recognise(source)
    }

    /// The config that the shapes of a checkpoint tell; the original layout has no other.
    ///
    /// # Errors
    /// If the tensors that tell it are not there; [`validate`](Self::validate) still has to check
    /// the values.
    fn infer(tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        let shapes = Shapes(tensors);
        let [vocab_size, d_model] = shapes.of("shared.weight")?;
        let attention = "encoder.block.0.layer.0.SelfAttention";
        let [buckets, heads] = shapes.of(&format!("{attention}.relative_attention_bias.weight"))?;
        let [inner, _] = shapes.of(&format!("{attention}.q.weight"))?;
        let [d_ff, _] = shapes.of("encoder.block.0.layer.1.DenseReluDense.wi_0.weight")?;
        Ok(Self {
            vocab_size,
            d_model,
            d_kv: inner / heads.max(1),
            d_ff,
            num_layers: shapes.count(|i| format!("encoder.block.{i}.layer.0.layer_norm.weight")),
            num_heads: heads,
            relative_attention_num_buckets: buckets,
            ..Self::default()
        })
    }

    fn fitted(&self, tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        Ok(Self {
            relative_attention_max_distance: self.relative_attention_max_distance,
            layer_norm_epsilon: self.layer_norm_epsilon,
            ..Self::infer(tensors)?
        })
    }
}
