//! The layouts of Wan transformers: diffusers, the original repository, and either of them below
//! `model.diffusion_model.` in single files that other programs make.

use std::sync::Arc;

use serde::Deserialize;

use super::WanTransformerConfig;
use crate::config::{ConfigError, require};
use crate::load::{CheckpointError, Renamed, Shapes, TensorSource, replace_start, split_index};

/// What single files put before every name.
const PREFIX: &str = "model.diffusion_model.";

/// The width of a head in all published models, of which files without a config do not tell.
const HEAD_DIM: usize = 128;

/// Names of diffusers and of the original (`wan/modules/model.py`).
const NAMES: &[(&str, &str)] = &[
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("proj_out", "head.head"),
    ("scale_shift_table", "head.modulation"),
];

/// The same inside a block. The numbers of the norms differ: the original counts the norm before the
/// feed-forward network as the second, diffusers that before cross-attention.
const NAMES_IN_BLOCK: &[(&str, &str)] = &[
    ("attn1.to_q", "self_attn.q"),
    ("attn1.to_k", "self_attn.k"),
    ("attn1.to_v", "self_attn.v"),
    ("attn1.to_out.0", "self_attn.o"),
    ("attn1", "self_attn"),
    ("attn2.to_q", "cross_attn.q"),
    ("attn2.to_k", "cross_attn.k"),
    ("attn2.to_v", "cross_attn.v"),
    ("attn2.to_out.0", "cross_attn.o"),
    ("attn2", "cross_attn"),
    ("norm2", "norm3"),
    ("norm3", "norm2"),
    ("ffn.net.0.proj", "ffn.0"),
    ("ffn.net.2", "ffn.2"),
    ("scale_shift_table", "modulation"),
];

/// The weights of a transformer in any layout, under the names that [`super::WanTransformer`] asks
/// for.
///
/// # Errors
/// If no layout has these names.
pub fn checkpoint(source: Arc<dyn TensorSource>) -> Result<Arc<dyn TensorSource>, CheckpointError> {
    let has = |name: String| source.tensor(&name).is_some();
    for prefix in ["", PREFIX] {
        if has(format!("{prefix}blocks.0.attn1.to_q.weight")) {
            return Ok(match prefix {
                "" => source,
                _ => Arc::new(Renamed { source, map: Box::new(|name| format!("{PREFIX}{name}")) }),
            });
        }
        if has(format!("{prefix}blocks.0.self_attn.q.weight")) {
            let map = move |name: &str| format!("{prefix}{}", original_name(name));
            return Ok(Arc::new(Renamed { source, map: Box::new(map) }));
        }
    }
    Err(CheckpointError::NotThisModel {
        origin: source.origin(),
        model: "a Wan transformer",
        expected: "blocks.0.attn1.to_q.weight or blocks.0.self_attn.q.weight".into(),
    })
}

fn original_name(name: &str) -> String {
    match split_index(name, "blocks.") {
        Some((i, rest)) => format!("blocks.{i}.{}", replace_start(rest, NAMES_IN_BLOCK)),
        None => replace_start(name, NAMES),
    }
}

/// `config.json` of a `WanModel` in the original layout. What it does not say, such as the width of
/// the text states, the tensors' shapes do.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct OriginalConfig {
    /// Always `WanModel`.
    #[serde(rename = "_class_name")]
    pub class_name: String,
    /// `t2v` for text-to-video.
    pub model_type: String,
    /// Width of the residual stream.
    pub dim: usize,
    /// Inner width of the feed-forward networks.
    pub ffn_dim: usize,
    /// Width of the sinusoidal timestep features.
    pub freq_dim: usize,
    /// Channels of the latents that go in.
    pub in_dim: usize,
    /// Channels of the velocity that comes out.
    pub out_dim: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Epsilon of the norms.
    pub eps: f64,
}

impl OriginalConfig {
    /// # Errors
    /// If it is not the config of a text-to-video model, or the heads do not divide the width.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let class = &self.class_name;
        require(class == "WanModel", "_class_name", class, "\"WanModel\"")?;
        let kind = &self.model_type;
        let expected = "\"t2v\": other models than text-to-video are not supported yet";
        require(kind == "t2v", "model_type", kind, expected)?;
        let (heads, dim) = (self.num_heads, self.dim);
        let divides = heads > 0 && dim.is_multiple_of(heads);
        require(divides, "num_heads", heads, format!("a divisor of dim, {dim}"))
    }
}

impl WanTransformerConfig {
    /// The config of a model in the original layout.
    ///
    /// # Errors
    /// If the tensors whose shapes tell the rest are not there; [`validate`](Self::validate) still
    /// has to check the values.
    pub fn from_original(
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
    pub fn infer(tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        let [width, ..] = Shapes(tensors).of::<5>("patch_embedding.weight")?;
        if !width.is_multiple_of(HEAD_DIM) {
            return Err(CheckpointError::Heads { origin: tensors.origin(), width });
        }
        Self::from_shapes(tensors, width, width / HEAD_DIM)
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
