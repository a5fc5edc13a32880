use serde::{Deserialize, Serialize};

use super::activation;
use crate::config::{ConfigError, require, require_eps, require_size};

/// `config.json` of a `CLIPVisionModel`, or `vision_config` in that of a whole CLIP. Fields that it leaves
/// out have the defaults of `CLIPVisionConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClipVisionConfig {
    /// The classes that the weights are of. That with a projection also gives embeddings.
    pub architectures: Vec<String>,
    /// `clip_vision_model` or `altclip_vision_model`.
    pub model_type: String,
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
    /// Channels of an image.
    pub num_channels: usize,
    /// Height and width of an image.
    pub image_size: usize,
    /// Height and width of a patch.
    pub patch_size: usize,
    /// The activation of the feed-forward network: `quick_gelu` or `gelu`.
    pub hidden_act: String,
    /// Epsilon of the norms.
    pub layer_norm_eps: f64,
}

impl Default for ClipVisionConfig {
    fn default() -> Self {
        Self {
            architectures: Vec::new(),
            model_type: "clip_vision_model".into(),
            hidden_size: 768,
            intermediate_size: 3072,
            projection_dim: 512,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            num_channels: 3,
            image_size: 224,
            patch_size: 32,
            hidden_act: "quick_gelu".into(),
            layer_norm_eps: 1e-5,
        }
    }
}

impl ClipVisionConfig {
    /// The class with a projection.
    pub(super) const PROJECTED: &str = "CLIPVisionModelWithProjection";

    /// Whether there is a projection of the class token to the space that images share with texts.
    pub fn has_projection(&self) -> bool {
        self.architectures.iter().any(|class| class == Self::PROJECTED)
    }

    /// Tokens of an image: the class token and one for each patch.
    pub fn tokens(&self) -> usize {
        1 + (self.image_size / self.patch_size).pow(2)
    }

    /// # Errors
    /// The first field with a value that no model can have.
    pub fn validate(&self) -> Result<(), ConfigError> {
        require(
            ["clip_vision_model", "altclip_vision_model"].contains(&self.model_type.as_str()),
            "model_type",
            &self.model_type,
            "\"clip_vision_model\" or \"altclip_vision_model\"",
        )?;
        require_size("hidden_size", self.hidden_size, 1 << 15)?;
        require_size("intermediate_size", self.intermediate_size, 1 << 17)?;
        require_size("projection_dim", self.projection_dim, 1 << 15)?;
        require_size("num_hidden_layers", self.num_hidden_layers, 256)?;
        require_size("num_channels", self.num_channels, 16)?;
        require_size("image_size", self.image_size, 1 << 12)?;
        require_heads(self.num_attention_heads, self.hidden_size)?;
        let (patch, size) = (self.patch_size, self.image_size);
        let divides = patch > 0 && patch <= size && size.is_multiple_of(patch);
        require(divides, "patch_size", patch, format!("a divisor of image_size, which is {size}"))?;
        activation::require_known(&self.hidden_act)?;
        require_eps("layer_norm_eps", self.layer_norm_eps)
    }
}

/// Fails unless the width of the residual stream can be split into so many heads.
pub(super) fn require_heads(heads: usize, width: usize) -> Result<(), ConfigError> {
    let divides = (1..=256).contains(&heads) && width.is_multiple_of(heads);
    let expected = || format!("1 to 256 and a divisor of hidden_size, which is {width}");
    require(divides, "num_attention_heads", heads, expected())
}
