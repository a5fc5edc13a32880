use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{ClipTextConfig, ClipVisionConfig, TextHead, XlmRobertaConfig};
use crate::config::{ConfigError, require, require_size};

/// `config.json` of a `CLIPModel` or an `AltCLIPModel`: both towers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "File")]
pub struct ClipConfig {
    /// `clip` or `altclip`.
    pub model_type: String,
    /// Width of the embeddings.
    pub projection_dim: usize,
    /// The text tower.
    pub text_config: TextConfig,
    /// The vision tower.
    pub vision_config: ClipVisionConfig,
}

/// The config of a text tower.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
#[non_exhaustive]
pub enum TextConfig {
    /// CLIP's own.
    Clip(ClipTextConfig),
    /// XLM-RoBERTa.
    XlmRoberta(XlmRobertaConfig),
}

impl Default for ClipConfig {
    fn default() -> Self {
        Self::new(TextConfig::Clip(ClipTextConfig::default()), ClipVisionConfig::default(), 512)
    }
}

impl ClipConfig {
    /// Both towers with their projections to embeddings of `projection_dim`.
    pub(super) fn new(
        mut text_config: TextConfig,
        mut vision_config: ClipVisionConfig,
        projection_dim: usize,
    ) -> Self {
        vision_config.projection_dim = projection_dim;
        vision_config.architectures = vec![ClipVisionConfig::PROJECTED.into()];
        let model_type = match &mut text_config {
            TextConfig::Clip(text) => {
                text.projection_dim = projection_dim;
                text.architectures = vec![ClipTextConfig::PROJECTED.into()];
                "clip"
            }
            TextConfig::XlmRoberta(text) => {
                text.projection_dim = projection_dim;
                if text.head() == TextHead::Transformation {
                    text.head = TextHead::ProjectedTransformation;
                }
                "altclip"
            }
        };
        Self { model_type: model_type.into(), projection_dim, text_config, vision_config }
    }

    /// # Errors
    /// The first field with a value that no model can have.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let (kind, expected) = match &self.text_config {
            TextConfig::Clip(_) => ("clip", "\"clip\" or \"altclip\""),
            TextConfig::XlmRoberta(_) => ("altclip", "\"altclip\""),
        };
        require(self.model_type == kind, "model_type", &self.model_type, expected)?;
        require_size("projection_dim", self.projection_dim, 1 << 15)?;
        self.text_config.validate()?;
        self.vision_config.validate()
    }
}

impl TextConfig {
    /// # Errors
    /// The first field with a value that no model can have.
    pub fn validate(&self) -> Result<(), ConfigError> {
        match self {
            Self::Clip(config) => config.validate(),
            Self::XlmRoberta(config) => config.validate(),
        }
    }

    /// Rows of the embedding table.
    pub fn vocab_size(&self) -> usize {
        match self {
            Self::Clip(config) => config.vocab_size,
            Self::XlmRoberta(config) => config.vocab_size,
        }
    }
}

/// The fields as they stand in the file: which defaults those of the towers have depends on the whole.
#[derive(Deserialize)]
#[serde(default)]
struct File {
    model_type: String,
    projection_dim: Option<usize>,
    text_config: Map<String, Value>,
    vision_config: Map<String, Value>,
}

impl Default for File {
    fn default() -> Self {
        let (projection_dim, text_config, vision_config) = Default::default();
        Self { model_type: "clip".into(), projection_dim, text_config, vision_config }
    }
}

impl TryFrom<File> for ClipConfig {
    type Error = String;

    fn try_from(file: File) -> Result<Self, String> {
        let (text_config, projection_dim) = match file.model_type.as_str() {
            "altclip" => {
                let alt = XlmRobertaConfig::ALT_CLIP.into();
                let mut fields = file.text_config;
                fields.entry("model_type").or_insert(alt);
                (TextConfig::XlmRoberta(tower("text_config", fields)?), 768)
            }
            _ => (TextConfig::Clip(tower("text_config", file.text_config)?), 512),
        };
        let vision_config = tower("vision_config", file.vision_config)?;
        let projection_dim = file.projection_dim.unwrap_or(projection_dim);
        let whole = Self::new(text_config, vision_config, projection_dim);
        Ok(Self { model_type: file.model_type, ..whole })
    }
}

/// The config of a tower; fields that are null count as left out.
fn tower<T: DeserializeOwned>(name: &str, mut fields: Map<String, Value>) -> Result<T, String> {
    fields.retain(|_, value| !value.is_null());
    serde_json::from_value(Value::Object(fields)).map_err(|error| format!("{name}: {error}"))
}
