//! The config of the original repository.

use serde::Deserialize;

use crate::config::{ConfigError, require};
use crate::kind::CheckpointKind;

/// `config.json` of a `WanModel` in the original layout. The rest, such as the width of the text
/// states, follows from the tensors' shapes. Fields that it leaves out have the defaults of that class.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
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

impl Default for OriginalConfig {
    fn default() -> Self {
        Self {
            class_name: "WanModel".into(),
            model_type: "t2v".into(),
            dim: 2048,
            ffn_dim: 8192,
            freq_dim: 256,
            in_dim: 16,
            out_dim: 16,
            num_heads: 16,
            num_layers: 32,
            eps: 1e-6,
        }
    }
}

impl OriginalConfig {
    /// # Errors
    /// If it is not the config of a text-to-video model, or the heads do not divide the width.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let class = &self.class_name;
        require(class == "WanModel", "_class_name", class, "\"WanModel\"")?;
        let found = &self.model_type;
        let expected = match CheckpointKind::of_model_type(found) {
            Some(kind) => format!("\"t2v\": this is {kind}, which is not supported yet"),
            None => "\"t2v\": other models than text-to-video are not supported yet".into(),
        };
        require(found == "t2v", "model_type", found, expected)?;
        let (heads, dim) = (self.num_heads, self.dim);
        let divides = heads > 0 && dim.is_multiple_of(heads);
        require(divides, "num_heads", heads, format!("a divisor of dim, {dim}"))
    }
}
