use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, require, require_eps, require_null, require_size};
use crate::kind::CheckpointKind;

/// `config.json` of a `WanTransformer3DModel`. Fields that it leaves out have the defaults of that class,
/// which are the sizes of Wan 2.1 T2V 14B.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WanTransformerConfig {
    /// Always `WanTransformer3DModel`.
    #[serde(rename = "_class_name")]
    pub class_name: String,
    /// How many latent frames, rows and columns make one token.
    pub patch_size: [usize; 3],
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Width of one attention head.
    pub attention_head_dim: usize,
    /// Channels of the latents that go in.
    pub in_channels: usize,
    /// Channels of the velocity that comes out.
    pub out_channels: usize,
    /// Width of the text encoder's states.
    pub text_dim: usize,
    /// Width of the sinusoidal timestep features.
    pub freq_dim: usize,
    /// Inner width of the feed-forward networks.
    pub ffn_dim: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Whether the norm before cross-attention has weights (otherwise there is none).
    pub cross_attn_norm: bool,
    /// The norm of queries and keys; `rms_norm_across_heads` is the only one.
    pub qk_norm: String,
    /// Epsilon of the norms.
    pub eps: f64,
    /// Width of an image encoder's states: image-to-video models only.
    pub image_dim: Option<usize>,
    /// Width of the extra keys and values for images: image-to-video models only.
    pub added_kv_proj_dim: Option<usize>,
    /// Positions that the rotary embedding has along each axis.
    pub rope_max_seq_len: usize,
    /// Image tokens of first-and-last-frame models.
    pub pos_embed_seq_len: Option<usize>,
}

/// The tensors whose shapes tell the channels.
const PATCHES: &str = "patch_embedding.weight";
const HEAD: &str = "proj_out.weight";

impl Default for WanTransformerConfig {
    fn default() -> Self {
        Self {
            class_name: "WanTransformer3DModel".into(),
            patch_size: [1, 2, 2],
            num_attention_heads: 40,
            attention_head_dim: 128,
            in_channels: 16,
            out_channels: 16,
            text_dim: 4096,
            freq_dim: 256,
            ffn_dim: 13824,
            num_layers: 40,
            cross_attn_norm: true,
            qk_norm: "rms_norm_across_heads".into(),
            eps: 1e-6,
            image_dim: None,
            added_kv_proj_dim: None,
            rope_max_seq_len: 1024,
            pos_embed_seq_len: None,
        }
    }
}

impl WanTransformerConfig {
    /// Width of the residual stream.
    pub fn inner_dim(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// The kind of model that has this config, if it tells: see [`CheckpointKind`].
    pub fn kind(&self) -> Option<CheckpointKind> {
        let of_class = CheckpointKind::of_class(&self.class_name);
        of_class.or_else(|| CheckpointKind::detect(self.marks(), |name| self.shape(name)))
    }

    /// The names of those tensors of the model that tell its kind.
    fn marks(&self) -> impl Iterator<Item = &'static str> {
        let image = self.image_dim.or(self.added_kv_proj_dim).is_some();
        let marks = [
            (true, "blocks.0.attn1.to_q.weight"),
            (true, PATCHES),
            (true, HEAD),
            (image, "condition_embedder.image_embedder.norm1.weight"),
            (self.pos_embed_seq_len.is_some(), "condition_embedder.image_embedder.pos_embed"),
        ];
        marks.into_iter().filter(|(has, _)| *has).map(|(_, name)| name)
    }

    /// The shapes that the marks would have with a width and patches of 1.
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match name {
            PATCHES => Some(vec![1, self.in_channels, 1, 1, 1]),
            HEAD => Some(vec![self.out_channels, 1]),
            _ => None,
        }
    }

    /// # Errors
    /// The first field with a value that no text-to-video model can have.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let class = &self.class_name;
        let kind = CheckpointKind::of_class(class);
        let why = kind.map_or_else(String::new, |kind| format!(": {}", not_supported(kind)));
        let expected = format!("\"WanTransformer3DModel\"{why}");
        require(class == "WanTransformer3DModel", "_class_name", class, expected)?;
        for size in self.patch_size {
            require(
                (1..=16).contains(&size),
                "patch_size",
                self.patch_size,
                "three sizes of 1 to 16",
            )?;
        }
        require_size("num_attention_heads", self.num_attention_heads, 256)?;
        let head = self.attention_head_dim;
        require(
            (6..=1024).contains(&head) && head.is_multiple_of(2),
            "attention_head_dim",
            head,
            "an even number of 6 to 1024",
        )?;
        require_size("in_channels", self.in_channels, 1024)?;
        require_size("out_channels", self.out_channels, 1024)?;
        require_size("text_dim", self.text_dim, 1 << 15)?;
        let freq = self.freq_dim;
        require(
            (2..=1 << 14).contains(&freq) && freq.is_multiple_of(2),
            "freq_dim",
            freq,
            "an even number of 2 to 16384",
        )?;
        require_size("ffn_dim", self.ffn_dim, 1 << 17)?;
        require_size("num_layers", self.num_layers, 256)?;
        let norm = &self.qk_norm;
        require(norm == "rms_norm_across_heads", "qk_norm", norm, "\"rms_norm_across_heads\"")?;
        require_eps("eps", self.eps)?;
        require_size("rope_max_seq_len", self.rope_max_seq_len, 1 << 20)?;
        let other = "models that are conditioned on more than text are not supported yet".into();
        let why = self.kind().map_or(other, not_supported);
        require_null("image_dim", self.image_dim, &why)?;
        require_null("added_kv_proj_dim", self.added_kv_proj_dim, &why)?;
        require_null("pos_embed_seq_len", self.pos_embed_seq_len, &why)?;
        let (found, out) = (self.in_channels, self.out_channels);
        require(found == out, "in_channels", found, format!("{out}, as out_channels: {why}"))
    }
}

fn not_supported(kind: CheckpointKind) -> String {
    format!("this is {kind}, which is not supported yet")
}
