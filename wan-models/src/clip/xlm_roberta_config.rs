use serde::{Deserialize, Serialize};

use super::activation;
use super::vision_config::require_heads;
use crate::config::{ConfigError, require, require_eps, require_size};

/// `config.json` of an `XLMRobertaModel` or an `AltCLIPTextModel`, or `text_config` in that of an
/// `AltCLIPModel`. Fields that it leaves out have the defaults of `AltCLIPTextConfig`, which are the sizes of
/// XLM-RoBERTa large.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct XlmRobertaConfig {
    /// `xlm-roberta` or `altclip_text_model`.
    pub model_type: String,
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Inner width of the feed-forward network.
    pub intermediate_size: usize,
    /// Number of layers.
    pub num_hidden_layers: usize,
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Rows of the table of positions, of which texts begin after `pad_token_id`.
    pub max_position_embeddings: usize,
    /// Kinds of segments; all texts are of the first.
    pub type_vocab_size: usize,
    /// The activation of the feed-forward network: `gelu`.
    pub hidden_act: String,
    /// Epsilon of the norms.
    pub layer_norm_eps: f64,
    /// The token of padding.
    pub pad_token_id: u32,
    /// Width of the states of an `AltCLIPTextModel`.
    pub project_dim: usize,
    /// Width of the embeddings; not in the file.
    pub projection_dim: usize,
    /// What is above the layers; not in the file: the tensors tell it, and the model that it is a part of.
    pub head: TextHead,
    /// Which state stands for a text; not in the file.
    pub pooling: Pooling,
}

/// The state that stands for a text, where it is not the head that says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean over the tokens (`mean_pooler` in OpenCLIP, and Wan's).
    #[default]
    Mean,
    /// That of the first token (`cls_last_hidden_state_pooler`).
    FirstToken,
}

/// The layers above the states of an XLM-RoBERTa.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TextHead {
    /// None: the states, and their mean over the tokens.
    #[default]
    None,
    /// A matrix on the state that stands for the text (`linear` in OpenCLIP).
    Linear {
        /// Whether it has a bias, as that of M-CLIP.
        bias: bool,
    },
    /// Two matrices with GELU in between on that state (`mlp` in OpenCLIP, and Wan's).
    Mlp,
    /// A norm and a layer on the state of each token, of which the first stands for the text
    /// (`AltCLIPTextModel`).
    Transformation,
    /// That, and a matrix on the first token (`AltCLIPModel`).
    ProjectedTransformation,
}

impl Default for XlmRobertaConfig {
    fn default() -> Self {
        Self {
            model_type: "xlm-roberta".into(),
            vocab_size: 250_002,
            hidden_size: 1024,
            intermediate_size: 4096,
            num_hidden_layers: 24,
            num_attention_heads: 16,
            max_position_embeddings: 514,
            type_vocab_size: 1,
            hidden_act: "gelu".into(),
            layer_norm_eps: 1e-5,
            pad_token_id: 1,
            project_dim: 768,
            projection_dim: 768,
            head: TextHead::None,
            pooling: Pooling::Mean,
        }
    }
}

impl XlmRobertaConfig {
    /// The model type of AltCLIP's text tower.
    pub(super) const ALT_CLIP: &str = "altclip_text_model";

    /// What is above the layers: as it is said, or as the model type says.
    pub fn head(&self) -> TextHead {
        match self.head {
            TextHead::None if self.model_type == Self::ALT_CLIP => TextHead::Transformation,
            head => head,
        }
    }

    /// The state that stands for a text: as it is said, or as the head says.
    pub fn pooling(&self) -> Pooling {
        match self.head() {
            TextHead::Transformation | TextHead::ProjectedTransformation => Pooling::FirstToken,
            _ => self.pooling,
        }
    }

    /// The most tokens of a text.
    pub fn max_tokens(&self) -> usize {
        self.max_position_embeddings - 1 - self.pad_token_id as usize
    }

    /// # Errors
    /// The first field with a value that no model can have.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let kind = self.model_type.as_str();
        let known = ["xlm-roberta", Self::ALT_CLIP].contains(&kind);
        require(known, "model_type", kind, "\"xlm-roberta\" or \"altclip_text_model\"")?;
        require_size("vocab_size", self.vocab_size, 1 << 22)?;
        require_size("hidden_size", self.hidden_size, 1 << 15)?;
        require_size("intermediate_size", self.intermediate_size, 1 << 17)?;
        require_size("num_hidden_layers", self.num_hidden_layers, 256)?;
        require_size("type_vocab_size", self.type_vocab_size, 1 << 10)?;
        require_size("project_dim", self.project_dim, 1 << 15)?;
        require_size("projection_dim", self.projection_dim, 1 << 15)?;
        require_heads(self.num_attention_heads, self.hidden_size)?;
        let pad = self.pad_token_id as usize;
        let first = pad.saturating_add(2);
        let (positions, most) = (self.max_position_embeddings, 1 << 16);
        let fits = (first..=most).contains(&positions);
        require(
            fits,
            "max_position_embeddings",
            positions,
            format!("{first} (pad_token_id + 2) to {most}"),
        )?;
        activation::require_known(&self.hidden_act)?;
        require_eps("layer_norm_eps", self.layer_norm_eps)
    }
}
