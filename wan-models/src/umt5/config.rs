use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, require, require_eps, require_size};

/// `config.json` of a `UMT5EncoderModel`. Fields that it leaves out have the defaults of `UMT5Config`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Umt5Config {
    /// Always `umt5`.
    pub model_type: String,
    /// Rows of the embedding table; may be more than the tokenizer has tokens.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Width of one attention head.
    pub d_kv: usize,
    /// Inner width of the feed-forward network.
    pub d_ff: usize,
    /// Number of layers.
    pub num_layers: usize,
    /// Number of attention heads.
    pub num_heads: usize,
    /// Buckets of relative positions, half of them for each direction.
    pub relative_attention_num_buckets: usize,
    /// The distance from which on all positions share the last bucket.
    pub relative_attention_max_distance: usize,
    /// Epsilon of the norms.
    pub layer_norm_epsilon: f64,
    /// The kind of feed-forward network; `gated-gelu` is the only one that umT5 has.
    pub feed_forward_proj: String,
}

impl Default for Umt5Config {
    fn default() -> Self {
        Self {
            model_type: "umt5".into(),
            vocab_size: 250_112,
            d_model: 512,
            d_kv: 64,
            d_ff: 1024,
            num_layers: 8,
            num_heads: 6,
            relative_attention_num_buckets: 32,
            relative_attention_max_distance: 128,
            layer_norm_epsilon: 1e-6,
            feed_forward_proj: "gated-gelu".into(),
        }
    }
}

impl Umt5Config {
    /// # Errors
    /// The first field with a value that no model can have.
    pub fn validate(&self) -> Result<(), ConfigError> {
        require(self.model_type == "umt5", "model_type", &self.model_type, "\"umt5\"")?;
        require_size("vocab_size", self.vocab_size, 1 << 22)?;
        require_size("d_model", self.d_model, 1 << 15)?;
        require_size("d_kv", self.d_kv, 1 << 12)?;
        require_size("d_ff", self.d_ff, 1 << 17)?;
        require_size("num_layers", self.num_layers, 256)?;
        require_size("num_heads", self.num_heads, 256)?;
        let buckets = self.relative_attention_num_buckets;
        require(
            (4..=1024).contains(&buckets) && buckets.is_multiple_of(4),
            "relative_attention_num_buckets",
            buckets,
            "a multiple of 4 up to 1024",
        )?;
        require(
            (buckets / 4 + 1..=1 << 20).contains(&self.relative_attention_max_distance),
            "relative_attention_max_distance",
            self.relative_attention_max_distance,
            format!(
                "{} (more than relative_attention_num_buckets / 4) to {}",
                buckets / 4 + 1,
                1 << 20
            ),
        )?;
        require_eps("layer_norm_epsilon", self.layer_norm_epsilon)?;
        let kind = &self.feed_forward_proj;
        require(kind == "gated-gelu", "feed_forward_proj", kind, "\"gated-gelu\"")
    }
}
