//! The config of a transformer from the shapes of its tensors.

use std::sync::Arc;

use super::names::LAYOUTS;
use super::{OriginalConfig, WanTransformerConfig};
use crate::config::ConfigError;
use crate::load::{CheckpointError, NetworkConfig, Shapes, TensorSource};

/// The width of a head in all published models, of which files without a config do not tell.
const HEAD_DIM: usize = 128;

impl NetworkConfig for WanTransformerConfig {
    fn is_kind(class_name: &str, _: &str) -> bool {
        ["WanTransformer3DModel", "WanModel"].contains(&class_name)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.validate()
    }

    fn canonical_names(
        source: Arc<dyn TensorSource>,
    ) -> Result<Arc<dyn TensorSource>, CheckpointError> {
        LAYOUTS.recognise(source)
    }

    /// The config of a model in the original layout.
    ///
    /// # Errors
    /// If the tensors whose shapes tell the rest are not there; [`validate`](Self::validate) still
    /// has to check the values.
    fn from_original(
        config: &OriginalConfig,
        tensors: &dyn TensorSource,
    ) -> Result<Self, CheckpointError> {
        Ok(Self {
            num_attention_heads: config.num_heads,
            attention_head_dim: config.dim / config.num_heads.max(1),
            in_channels: config.in_dim,
            out_channels: config.out_dim,
            freq_dim: config.freq_dim,
            ffn_dim: config.ffn_dim,
            num_layers: config.num_layers,
            eps: config.eps,
            ..Self::from_shapes(tensors, config.dim, config.num_heads)?
        })
    }

    /// The config that the shapes of a checkpoint tell, for files without one.
    ///
    /// # Errors
    /// If the tensors that tell it are not there, or the width is no multiple of the 128 that a head
    /// has in all published models.
    fn infer(tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        let [width, ..] = Shapes(tensors).of::<5>("patch_embedding.weight")?;
        if !width.is_multiple_of(HEAD_DIM) {
            return Err(CheckpointError::Heads { origin: tensors.origin(), width });
        }
        Self::from_shapes(tensors, width, width / HEAD_DIM)
    }
}

impl WanTransformerConfig {
    fn from_shapes(
        tensors: &dyn TensorSource,
        width: usize,
        heads: usize,
    ) -> Result<Self, CheckpointError> {
        let shapes = Shapes(tensors);
        let [_, in_channels, pt, ph, pw] = shapes.of("patch_embedding.weight")?;
        let [values, _] = shapes.of("proj_out.weight")?;
        let [ffn_dim, _] = shapes.of("blocks.0.ffn.net.0.proj.weight")?;
        let [_, text_dim] = shapes.of("condition_embedder.text_embedder.linear_1.weight")?;
        let [_, freq_dim] = shapes.of("condition_embedder.time_embedder.linear_1.weight")?;
        let qk_norm = shapes.has("blocks.0.attn1.norm_q.weight");
        let pixels = pt.saturating_mul(ph).saturating_mul(pw).max(1);
        Ok(Self {
            class_name: "WanTransformer3DModel".into(),
            patch_size: [pt, ph, pw],
            num_attention_heads: heads,
            attention_head_dim: width / heads.max(1),
            in_channels,
            out_channels: values / pixels,
            text_dim,
            freq_dim,
            ffn_dim,
            num_layers: shapes.count(|i| format!("blocks.{i}.scale_shift_table")),
            cross_attn_norm: shapes.has("blocks.0.norm2.weight"),
            qk_norm: qk_norm.then(|| "rms_norm_across_heads".into()),
            eps: 1e-6,
            image_dim: None,
            added_kv_proj_dim: None,
            rope_max_seq_len: 1024,
            pos_embed_seq_len: None,
        })
    }
}
