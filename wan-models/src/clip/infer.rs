//! The configs of CLIP's networks from the shapes of their tensors.
//!
//! Shapes do not tell the activation: without a config it is GELU, as in OpenCLIP's models and the one that
//! Wan brings. OpenAI's have quick GELU; their files come with a config.

use std::sync::Arc;

use super::names::{TEXT, VISION, WHOLE, XLM_ROBERTA};
use super::parts::Parts;
use super::{ClipConfig, ClipTextConfig, ClipVisionConfig, TextConfig, TextHead, XlmRobertaConfig};
use crate::config::ConfigError;
use crate::load::{CheckpointError, Layouts, NetworkConfig, Shapes, TensorSource};

/// Widths of vision towers whose heads are not 64 wide, and how wide they are: ViT-H, g and bigG.
const HEADS: [(usize, usize); 3] = [(1280, 80), (1408, 88), (1664, 104)];
const HEAD: usize = 64;

/// The number of heads in published models of this width.
fn heads(tensors: &dyn TensorSource, width: usize) -> Result<usize, CheckpointError> {
    let head = HEADS.iter().find(|(known, _)| *known == width).map_or(HEAD, |(_, head)| *head);
    match width.is_multiple_of(head) {
        true => Ok(width / head),
        false => Err(CheckpointError::Heads { origin: tensors.origin(), width }),
    }
}

/// As many heads as a config says, where they divide the width that the tensors have.
fn fitting_heads(
    tensors: &dyn TensorSource,
    width: usize,
    known: usize,
) -> Result<usize, CheckpointError> {
    match known > 0 && width.is_multiple_of(known) {
        true => Ok(known),
        false => heads(tensors, width),
    }
}

fn canonical(
    layouts: &'static Layouts,
    source: Arc<dyn TensorSource>,
) -> Result<Arc<dyn TensorSource>, CheckpointError> {
    layouts.recognise(Arc::new(Parts::new(source)?))
}

impl NetworkConfig for ClipVisionConfig {
    fn is_kind(_: &str, model_type: &str) -> bool {
        ["clip_vision_model", "altclip_vision_model"].contains(&model_type)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.validate()
    }

    fn canonical_names(
        source: Arc<dyn TensorSource>,
    ) -> Result<Arc<dyn TensorSource>, CheckpointError> {
        canonical(&VISION, source)
    }

    fn infer(tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        let [width] = Shapes(tensors).of("vision_model.embeddings.class_embedding")?;
        Self::from_shapes(tensors, heads(tensors, width)?)
    }

    fn fitted(&self, tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        let [width] = Shapes(tensors).of("vision_model.embeddings.class_embedding")?;
        let heads = fitting_heads(tensors, width, self.num_attention_heads)?;
        Ok(Self {
            model_type: self.model_type.clone(),
            hidden_act: self.hidden_act.clone(),
            layer_norm_eps: self.layer_norm_eps,
            ..Self::from_shapes(tensors, heads)?
        })
    }
}

impl ClipVisionConfig {
    fn from_shapes(tensors: &dyn TensorSource, heads: usize) -> Result<Self, CheckpointError> {
        let shapes = Shapes(tensors);
        let embeddings = "vision_model.embeddings";
        let [width, channels, patch, _] =
            shapes.of(&format!("{embeddings}.patch_embedding.weight"))?;
        let [tokens, _] = shapes.of(&format!("{embeddings}.position_embedding.weight"))?;
        let layer = |i, name: &str| format!("vision_model.encoder.layers.{i}.{name}.weight");
        let [inner, _] = shapes.of(&layer(0, "mlp.fc1"))?;
        let projection = "visual_projection.weight";
        let (architectures, projection_dim) = match shapes.has(projection) {
            true => (vec![Self::PROJECTED.into()], shapes.of::<2>(projection)?[0]),
            false => (Vec::new(), Self::default().projection_dim),
        };
        Ok(Self {
            architectures,
            hidden_size: width,
            intermediate_size: inner,
            projection_dim,
            num_hidden_layers: shapes.count(|i| layer(i, "layer_norm1")),
            num_attention_heads: heads,
            num_channels: channels,
            image_size: tokens.saturating_sub(1).isqrt().saturating_mul(patch),
            patch_size: patch,
            hidden_act: "gelu".into(),
            ..Self::default()
        })
    }
}

impl NetworkConfig for ClipTextConfig {
    fn is_kind(_: &str, model_type: &str) -> bool {
        model_type == "clip_text_model"
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.validate()
    }

    fn canonical_names(
        source: Arc<dyn TensorSource>,
    ) -> Result<Arc<dyn TensorSource>, CheckpointError> {
        canonical(&TEXT, source)
    }

    fn infer(tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        let [_, width] = Shapes(tensors).of("text_model.embeddings.token_embedding.weight")?;
        Self::from_shapes(tensors, heads(tensors, width)?)
    }

    fn fitted(&self, tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        let [_, width] = Shapes(tensors).of("text_model.embeddings.token_embedding.weight")?;
        let heads = fitting_heads(tensors, width, self.num_attention_heads)?;
        Ok(Self {
            model_type: self.model_type.clone(),
            hidden_act: self.hidden_act.clone(),
            layer_norm_eps: self.layer_norm_eps,
            eos_token_id: self.eos_token_id,
            ..Self::from_shapes(tensors, heads)?
        })
    }
}

impl ClipTextConfig {
    fn from_shapes(tensors: &dyn TensorSource, heads: usize) -> Result<Self, CheckpointError> {
        let shapes = Shapes(tensors);
        let embeddings = "text_model.embeddings";
        let [vocab_size, width] = shapes.of(&format!("{embeddings}.token_embedding.weight"))?;
        let [positions, _] = shapes.of(&format!("{embeddings}.position_embedding.weight"))?;
        let layer = |i, name: &str| format!("text_model.encoder.layers.{i}.{name}.weight");
        let [inner, _] = shapes.of(&layer(0, "mlp.fc1"))?;
        let projection = "text_projection.weight";
        let (architectures, projection_dim) = match shapes.has(projection) {
            true => (vec![Self::PROJECTED.into()], shapes.of::<2>(projection)?[0]),
            false => (Vec::new(), Self::default().projection_dim),
        };
        Ok(Self {
            architectures,
            vocab_size,
            hidden_size: width,
            intermediate_size: inner,
            projection_dim,
            num_hidden_layers: shapes.count(|i| layer(i, "layer_norm1")),
            num_attention_heads: heads,
            max_position_embeddings: positions,
            hidden_act: "gelu".into(),
            // The last token of the vocabulary, as in all published models.
            eos_token_id: vocab_size.saturating_sub(1) as u32,
            ..Self::default()
        })
    }
}

impl NetworkConfig for XlmRobertaConfig {
    fn is_kind(_: &str, model_type: &str) -> bool {
        ["xlm-roberta", Self::ALT_CLIP].contains(&model_type)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.validate()
    }

    fn canonical_names(
        source: Arc<dyn TensorSource>,
    ) -> Result<Arc<dyn TensorSource>, CheckpointError> {
        canonical(&XLM_ROBERTA, source)
    }

    fn infer(tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        let [_, width] = Shapes(tensors).of(WORDS)?;
        Self::from_shapes(tensors, heads(tensors, width)?)
    }

    fn fitted(&self, tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        let [_, width] = Shapes(tensors).of(WORDS)?;
        let heads = fitting_heads(tensors, width, self.num_attention_heads)?;
        Ok(Self {
            model_type: self.model_type.clone(),
            hidden_act: self.hidden_act.clone(),
            layer_norm_eps: self.layer_norm_eps,
            pad_token_id: self.pad_token_id,
            pooling: self.pooling,
            ..Self::from_shapes(tensors, heads)?
        })
    }
}

const WORDS: &str = "text_model.roberta.embeddings.word_embeddings.weight";

impl XlmRobertaConfig {
    fn from_shapes(tensors: &dyn TensorSource, heads: usize) -> Result<Self, CheckpointError> {
        let shapes = Shapes(tensors);
        let embeddings = "text_model.roberta.embeddings";
        let [vocab_size, width] = shapes.of(WORDS)?;
        let [positions, _] = shapes.of(&format!("{embeddings}.position_embeddings.weight"))?;
        let [types, _] = shapes.of(&format!("{embeddings}.token_type_embeddings.weight"))?;
        let layer = |i, name: &str| format!("text_model.roberta.encoder.layers.{i}.{name}.weight");
        let [inner, _] = shapes.of(&layer(0, "intermediate.dense"))?;
        let sizes = Self {
            vocab_size,
            hidden_size: width,
            intermediate_size: inner,
            num_hidden_layers: shapes.count(|i| layer(i, "intermediate.dense")),
            num_attention_heads: heads,
            max_position_embeddings: positions,
            type_vocab_size: types,
            ..Self::default()
        };
        sizes.with_head(&shapes)
    }

    /// With the head that the tensors tell, and the widths of its layers.
    fn with_head(self, shapes: &Shapes) -> Result<Self, CheckpointError> {
        let rows = |name: &str| Ok(shapes.of::<2>(name)?[0]);
        if shapes.has("text_model.transformation.weight") {
            let project_dim = rows("text_model.transformation.weight")?;
            let is_projected = shapes.has("text_projection.weight");
            let (head, projection_dim) = match is_projected {
                true => (TextHead::ProjectedTransformation, rows("text_projection.weight")?),
                false => (TextHead::Transformation, self.projection_dim),
            };
            let model_type = Self::ALT_CLIP.into();
            return Ok(Self { model_type, project_dim, projection_dim, head, ..self });
        }
        let (head, matrix) = if shapes.has("text_model.proj.0.weight") {
            (TextHead::Mlp, "text_model.proj.2.weight")
        } else if shapes.has("text_model.proj.weight") {
            let bias = shapes.has("text_model.proj.bias");
            (TextHead::Linear { bias }, "text_model.proj.weight")
        } else {
            return Ok(self);
        };
        Ok(Self { head, projection_dim: rows(matrix)?, ..self })
    }
}

impl NetworkConfig for ClipConfig {
    fn is_kind(_: &str, model_type: &str) -> bool {
        ["clip", "altclip"].contains(&model_type)
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.validate()
    }

    fn canonical_names(
        source: Arc<dyn TensorSource>,
    ) -> Result<Arc<dyn TensorSource>, CheckpointError> {
        canonical(&WHOLE, source)
    }

    fn infer(tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        let text = match Shapes(tensors).has(WORDS) {
            true => TextConfig::XlmRoberta(XlmRobertaConfig::infer(tensors)?),
            false => TextConfig::Clip(ClipTextConfig::infer(tensors)?),
        };
        Self::of_towers(text, ClipVisionConfig::infer(tensors)?, tensors)
    }

    fn fitted(&self, tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        let text = match &self.text_config {
            TextConfig::Clip(text) => TextConfig::Clip(text.fitted(tensors)?),
            TextConfig::XlmRoberta(text) => TextConfig::XlmRoberta(text.fitted(tensors)?),
        };
        Self::of_towers(text, self.vision_config.fitted(tensors)?, tensors)
    }
}

impl ClipConfig {
    fn of_towers(
        text: TextConfig,
        vision: ClipVisionConfig,
        tensors: &dyn TensorSource,
    ) -> Result<Self, CheckpointError> {
        let [projection_dim, _] = Shapes(tensors).of("visual_projection.weight")?;
        Ok(Self::new(text, vision, projection_dim))
    }
}
