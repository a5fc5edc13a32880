//! A text tower of either kind.

use burn::tensor::Tensor;
use wan_core::{Backend, BurnBackend, CancelToken, TextEncoder};

use super::{ClipError, ClipTextEncoder, TextConfig, TextHead, XlmRobertaEncoder};
use crate::load::Scope;

/// A text tower of either kind. As a [`TextEncoder`] it gives its states for cross-attention; how wide they
/// are, and how many tokens a text may have, is the tower's matter.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum TextTower<B: BurnBackend> {
    /// CLIP's own.
    Clip(ClipTextEncoder<B>),
    /// XLM-RoBERTa.
    XlmRoberta(XlmRobertaEncoder<B>),
}

impl<B: Backend> TextTower<B> {
    /// Loads a tower; `config` must be valid.
    pub fn load(config: &TextConfig, scope: &Scope<B>) -> Self {
        match config {
            TextConfig::Clip(config) => Self::Clip(ClipTextEncoder::load(config, scope)),
            TextConfig::XlmRoberta(config) => {
                Self::XlmRoberta(XlmRobertaEncoder::load(config, scope))
            }
        }
    }

    /// The embeddings `[N, projection_dim]` of texts in f32.
    ///
    /// # Errors
    /// If an id is not in the vocabulary, a text has none or too many, weights cannot be read, or the work
    /// is cancelled.
    ///
    /// # Panics
    /// If there are no texts.
    pub fn embed(&self, texts: &[&[u32]], cancel: &CancelToken) -> Result<Tensor<B, 2>, ClipError> {
        match self {
            Self::Clip(tower) => tower.embed(texts, cancel),
            Self::XlmRoberta(tower) => tower.embed(texts, cancel),
        }
    }

    /// The width of the states that [`encode`](TextEncoder::encode) gives.
    pub fn width(&self) -> usize {
        match self {
            Self::Clip(tower) => tower.config().hidden_size,
            Self::XlmRoberta(tower) => match tower.config().head() {
                TextHead::Transformation | TextHead::ProjectedTransformation => {
                    tower.config().project_dim
                }
                _ => tower.config().hidden_size,
            },
        }
    }

    /// The most tokens of a text, those around it included.
    pub fn max_tokens(&self) -> usize {
        match self {
            Self::Clip(tower) => tower.config().max_position_embeddings,
            Self::XlmRoberta(tower) => tower.config().max_tokens(),
        }
    }
}

impl<B: Backend> TextEncoder<B> for TextTower<B> {
    type Error = ClipError;

    fn encode(
        &self,
        prompts: &[&[u32]],
        cancel: &CancelToken,
    ) -> Result<Vec<Tensor<B, 3>>, ClipError> {
        match self {
            Self::Clip(tower) => tower.encode(prompts, cancel),
            Self::XlmRoberta(tower) => tower.encode(prompts, cancel),
        }
    }
}
