use serde::Deserialize;

use crate::config::{ConfigError, require, require_eps, require_null, require_size};

/// `config.json` of a `WanTransformer3DModel`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
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
    pub qk_norm: Option<String>,
    /// Epsilon of the norms.
    pub eps: f64,
    /// Width of an image encoder's states: image-to-video models only.
    pub image_dim: Option<usize>,
    /// Width of the extra keys and values for images: image-to-video models only.
    pub added_kv_proj_dim: Option<usize>,
    /// Positions that the rotary embedding has along each axis.
    #[serde(default = "default_positions")]
    pub rope_max_seq_len: usize,
    /// Image tokens of first-and-last-frame models.
    pub pos_embed_seq_len: Option<usize>,
}

fn default_positions() -> usize {
    1024
}

impl WanTransformerConfig {
    /// Width of the residual stream.
    pub fn inner_dim(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// # Errors
    /// The first field with a value that no text-to-video model can have.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let class = &self.class_name;
        require(
            class == "WanTransformer3DModel",
            "_class_name",
            class,
            "\"WanTransformer3DModel\"",
        )?;
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
        let norm = self.qk_norm.as_deref().unwrap_or("null");
        require(norm == "rms_norm_across_heads", "qk_norm", norm, "\"rms_norm_across_heads\"")?;
        require_eps("eps", self.eps)?;
        require_size("rope_max_seq_len", self.rope_max_seq_len, 1 << 20)?;
        let why = "image-to-video models are not supported yet";
        require_null("image_dim", self.image_dim, why)?;
        require_null("added_kv_proj_dim", self.added_kv_proj_dim, why)?;
        require_null("pos_embed_seq_len", self.pos_embed_seq_len, why)?;
        let (found, out) = (self.in_channels, self.out_channels);
        require(found == out, "in_channels", found, format!("{out}, as out_channels: {why}"))
    }
}
