use serde::{Deserialize, Serialize};

use super::activation;
use super::vision_config::require_heads;
use crate::config::{ConfigError, require, require_eps, require_size};

/// `config.json` of a `CLIPTextModel`, or `text_config` in that of a whole CLIP. Fields that it leaves out
/// have the defaults of `CLIPTextConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClipTextConfig {
    /// The classes that the weights are of. That with a projection also gives embeddings.
    pub architectures: Vec<String>,
    /// Always `clip_text_model`.
    pub model_type: String,
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Inner width of the feed-forward network.
    pub intermediate_size: usize,
    /// Width of the embeddings.
    pub projection_dim: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// The most tokens of a text.
    pub max_position_embeddings: usize,
    /// The activation of the feed-forward network: `quick_gelu` or `gelu`.
    pub hidden_act: String,
    /// Epsilon of the norms.
    pub layer_norm_eps: f64,
    /// The token that ends a text, at whose first place its embedding is taken. 2 stands in the configs of
    /// models that were published before it counted: there it is the place of the largest id.
    pub eos_token_id: u32,
}

impl Default for ClipTextConfig {
    fn default() -> Self {
        Self {
            architectures: Vec::new(),
            model_type: "clip_text_model".into(),
            vocab_size: 49_408,
            hidden_size: 512,
            intermediate_size: 2048,
            projection_dim: 512,
            num_hidden_layers: 12,
            num_attention_heads: 8,
            max_position_embeddings: 77,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
            eos_token_id: 49_407,
        }
    }
}

impl ClipTextConfig {
    /// The class with a projection.
    pub(super) const PROJECTED: &str = "CLIPTextModelWithProjection";

    /// Whether there is a projection to the space that texts share with images.
    pub fn has_projection(&self) -> bool {
        self.architectures.iter().any(|class| class == Self::PROJECTED)
    }

    /// # Errors
    /// The first field with a value that no model can have.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let kind = &self.model_type;
        require(kind == "clip_text_model", "model_type", kind, "\"clip_text_model\"")?;
        require_size("vocab_size", self.vocab_size, 1 << 22)?;
        require_size("hidden_size", self.hidden_size, 1 << 15)?;
        require_size("intermediate_size", self.intermediate_size, 1 << 17)?;
        require_size("projection_dim", self.projection_dim, 1 << 15)?;
        require_size("num_hidden_layers", self.num_hidden_layers, 256)?;
        require_size("max_position_embeddings", self.max_position_embeddings, 1 << 16)?;
        require_heads(self.num_attention_heads, self.hidden_size)?;
        activation::require_known(&self.hidden_act)?;
        require_eps("layer_norm_eps", self.layer_norm_eps)
    }
}
