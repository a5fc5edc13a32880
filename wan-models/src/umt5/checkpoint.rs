//! The layouts of umT5 encoders: transformers, and the original repository's `.pth`.

use std::sync::Arc;

use super::Umt5Config;
use crate::load::{CheckpointError, Renamed, Shapes, TensorSource, replace_start, split_index};

/// Names of transformers and of the original (`wan/modules/t5.py`).
const NAMES: &[(&str, &str)] =
    &[("shared", "token_embedding"), ("encoder.final_layer_norm", "norm")];

/// The same inside a block.
const NAMES_IN_BLOCK: &[(&str, &str)] = &[
    ("layer.0.SelfAttention.relative_attention_bias", "pos_embedding.embedding"),
    ("layer.0.SelfAttention", "attn"),
    ("layer.0.layer_norm", "norm1"),
    ("layer.1.DenseReluDense.wi_0", "ffn.gate.0"),
    ("layer.1.DenseReluDense.wi_1", "ffn.fc1"),
    ("layer.1.DenseReluDense.wo", "ffn.fc2"),
    ("layer.1.layer_norm", "norm2"),
];

/// The weights of an encoder in any layout, under the names that [`super::Umt5Encoder`] asks for.
///
/// # Errors
/// If no layout has these names.
pub fn checkpoint(source: Arc<dyn TensorSource>) -> Result<Arc<dyn TensorSource>, CheckpointError> {
    if source.tensor("shared.weight").is_some() {
        return Ok(source);
    }
    if source.tensor("token_embedding.weight").is_some() {
        return Ok(Arc::new(Renamed { source, map: Box::new(original_name) }));
    }
    Err(CheckpointError::NotThisModel {
        origin: source.origin(),
        model: "a umT5 encoder",
        expected: "shared.weight or token_embedding.weight".into(),
    })
}

fn original_name(name: &str) -> String {
    match split_index(name, "encoder.block.") {
        Some((i, rest)) => format!("blocks.{i}.{}", replace_start(rest, NAMES_IN_BLOCK)),
        None => replace_start(name, NAMES),
    }
}

impl Umt5Config {
    /// The config that the shapes of a checkpoint tell; the original layout has no other.
    ///
    /// # Errors
    /// If the tensors that tell it are not there; [`validate`](Self::validate) still has to check
    /// the values.
    pub fn infer(tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        let shapes = Shapes(tensors);
        let [vocab_size, d_model] = shapes.of("shared.weight")?;
        let attention = "encoder.block.0.layer.0.SelfAttention";
        let [buckets, heads] = shapes.of(&format!("{attention}.relative_attention_bias.weight"))?;
        let [inner, _] = shapes.of(&format!("{attention}.q.weight"))?;
        let [d_ff, _] = shapes.of("encoder.block.0.layer.1.DenseReluDense.wi_0.weight")?;
        Ok(Self {
            model_type: "umt5".into(),
            vocab_size,
            d_model,
            d_kv: inner / heads.max(1),
            d_ff,
            num_layers: shapes.count(|i| format!("encoder.block.{i}.layer.0.layer_norm.weight")),
            num_heads: heads,
            relative_attention_num_buckets: buckets,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: "gated-gelu".into(),
        })
    }
}
