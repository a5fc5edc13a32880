//! The config of a transformer from the shapes of its tensors.

use std::sync::Arc;

use super::config::{CAUSAL_CLASS, CLASS, VACE_CLASS};
use super::names::LAYOUTS;
use super::original::{ORIGINAL_CAUSAL, ORIGINAL_CLASSES};
use super::{OriginalConfig, WanTransformerConfig};
use crate::config::ConfigError;
use crate::load::{CheckpointError, NetworkConfig, Shapes, TensorSource};

/// The width of a head in all published models, of which files without a config do not tell.
const HEAD_DIM: usize = 128;

impl NetworkConfig for WanTransformerConfig {
    fn is_kind(class_name: &str, _: &str) -> bool {
        [CLASS, VACE_CLASS, CAUSAL_CLASS].contains(&class_name)
            || ORIGINAL_CLASSES.contains(&class_name)
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
        let inferred = Self::from_shapes(tensors, config.dim, config.num_heads)?;
        let class_name = match config.class_name == ORIGINAL_CAUSAL {
            true => CAUSAL_CLASS.into(),
            false => inferred.class_name.clone(),
        };
        Ok(Self {
            class_name,
            num_attention_heads: config.num_heads,
            attention_head_dim: config.dim / config.num_heads.max(1),
            in_channels: config.in_dim,
            out_channels: config.out_dim,
            freq_dim: config.freq_dim,
            ffn_dim: config.ffn_dim,
            num_layers: config.num_layers,
            eps: config.eps,
            vace_layers: config.vace_layers.clone().or(inferred.vace_layers.clone()),
            vace_in_channels: config.vace_in_dim.or(inferred.vace_in_channels),
            ..inferred
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

    fn fitted(&self, tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        let [width, ..] = Shapes(tensors).of::<5>("patch_embedding.weight")?;
        let no_heads = || CheckpointError::Heads { origin: tensors.origin(), width };
        let heads = self.heads_of(width).ok_or_else(no_heads)?;
        let inferred = Self::from_shapes(tensors, width, heads)?;
        Ok(Self {
            eps: self.eps,
            rope_max_seq_len: self.rope_max_seq_len,
            vace_layers: match inferred.has_as_many_control_blocks_as(self) {
                true => self.vace_layers.clone(),
                false => inferred.vace_layers.clone(),
            },
            ..inferred
        })
    }
}

impl WanTransformerConfig {
    /// The number of heads of a network of this width: this config's, or as many as have the width that
    /// a head has in it.
    fn heads_of(&self, width: usize) -> Option<usize> {
        let (heads, head_dim) = (self.num_attention_heads, self.attention_head_dim);
        let divides = |size: usize| size > 0 && width.is_multiple_of(size);
        divides(heads).then_some(heads).or_else(|| divides(head_dim).then(|| width / head_dim))
    }

    fn has_as_many_control_blocks_as(&self, other: &Self) -> bool {
        self.vace_layers().len() == other.vace_layers().len()
    }

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
        let pixels = pt.saturating_mul(ph).saturating_mul(pw).max(1);
        let num_layers = shapes.count(|i| format!("blocks.{i}.scale_shift_table"));
        let image = "condition_embedder.image_embedder";
        let image_norm = shapes.find::<1>(&format!("{image}.norm1.weight"))?;
        let image_dim = image_norm.map(|[dim]| dim);
        let positions = shapes.find::<3>(&format!("{image}.pos_embed"))?;
        let control = shapes.count(|i| format!("vace_blocks.{i}.scale_shift_table"));
        let vace_in_channels = match control {
            0 => None,
            _ => Some(shapes.of::<5>("vace_patch_embedding.weight")?[1]),
        };
        Ok(Self {
            class_name: if control > 0 { VACE_CLASS } else { CLASS }.into(),
            patch_size: [pt, ph, pw],
            num_attention_heads: heads,
            attention_head_dim: width / heads.max(1),
            in_channels,
            out_channels: values / pixels,
            text_dim,
            freq_dim,
            ffn_dim,
            num_layers,
            cross_attn_norm: shapes.has("blocks.0.norm2.weight"),
            image_dim,
            added_kv_proj_dim: image_dim.map(|_| width),
            pos_embed_seq_len: positions.map(|[_, tokens, _]| tokens),
            vace_layers: (control > 0).then(|| evenly(control, num_layers)),
            vace_in_channels,
            ..Self::default()
        })
    }
}

/// The blocks with a block for control before them, of which there are so many: in all published models they stand
/// at equal distances.
fn evenly(control: usize, layers: usize) -> Vec<usize> {
    (0..control).map(|i| i * layers.div_ceil(control)).collect()
}
