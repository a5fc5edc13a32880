//! The config of the original repository.

use serde::Deserialize;

use crate::config::{ConfigError, require};
use crate::kind::CheckpointKind;

/// The classes of transformers in the original layout.
pub(super) const ORIGINAL_CLASSES: [&str; 3] = ["WanModel", "VaceWanModel", ORIGINAL_CAUSAL];
/// That of Self-Forcing and of what was made from it.
pub(super) const ORIGINAL_CAUSAL: &str = "CausalWanModel";

/// Types of models that are a transformer of this crate.
const MODEL_TYPES: [&str; 5] = ["t2v", "i2v", "flf2v", "ti2v", "vace"];

/// `config.json` of a `WanModel` in the original layout. The rest, such as the width of the text
/// states, follows from the tensors' shapes. Fields that it leaves out have the defaults of that class.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(default)]
pub struct OriginalConfig {
    /// `WanModel`, `VaceWanModel`, or `CausalWanModel`.
    #[serde(rename = "_class_name")]
    pub class_name: String,
    /// `t2v` for text-to-video, `i2v`, `flf2v`, `ti2v` or `vace`.
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
    /// The blocks before which a control video has a block of its own: VACE models only.
    pub vace_layers: Option<Vec<usize>>,
    /// Channels of the control video: VACE models only.
    pub vace_in_dim: Option<usize>,
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
            vace_layers: None,
            vace_in_dim: None,
        }
    }
}

impl OriginalConfig {
    /// Whether a class in a config is one of the original's.
    pub fn is_class(class_name: &str) -> bool {
        ORIGINAL_CLASSES.contains(&class_name)
    }

    /// Whether blocks attend to an image too, as those of the image-to-video models of Wan 2.1 do. The two experts
    /// of Wan 2.2 have the same type, and no such branch.
    pub fn attends_to_images(&self) -> bool {
        matches!(self.model_type.as_str(), "i2v" | "flf2v")
    }

    /// # Errors
    /// If it is the config of a model of another type, or the heads do not divide the width.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let class = &self.class_name;
        let expected = "\"WanModel\", \"VaceWanModel\" or \"CausalWanModel\"";
        require(Self::is_class(class), "_class_name", class, expected)?;
        let found = self.model_type.as_str();
        let expected = MODEL_TYPES.map(|name| format!("{name:?}")).join(", ");
        let expected = match CheckpointKind::of_model_type(found) {
            Some(kind) => format!("one of {expected}: this is {kind}, which is not supported yet"),
            None => format!("one of {expected}"),
        };
        require(MODEL_TYPES.contains(&found), "model_type", found, expected)?;
        let (heads, dim) = (self.num_heads, self.dim);
        let divides = heads > 0 && dim.is_multiple_of(heads);
        require(divides, "num_heads", heads, format!("a divisor of dim, {dim}"))
    }
}
