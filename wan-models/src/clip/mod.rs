//! CLIP (Radford et al. 2021): texts and images in one space, where an image lies next to what is said of it.
//!
//! A [`ClipModel`] is a [text tower](TextTower) and a [vision tower](ClipVisionEncoder); each can also be
//! loaded alone. Text towers are CLIP's own, for English, and XLM-RoBERTa, which knows Chinese too: in
//! AltCLIP, OpenCLIP's `xlm-roberta-large-ViT-H-14`, and the file that Wan 2.1's image-to-video models bring.

mod activation;
mod config;
mod infer;
mod layers;
mod names;
mod parts;
mod text;
mod text_config;
mod tower;
mod vision;
mod vision_config;
mod xlm_roberta;
mod xlm_roberta_config;

use burn::tensor::Tensor;
use wan_core::{Backend, BurnBackend, Cancelled};
use wan_io::files::FileError;

pub use config::{ClipConfig, TextConfig};
pub use text::ClipTextEncoder;
pub use text_config::ClipTextConfig;
pub use tower::TextTower;
pub use vision::ClipVisionEncoder;
pub use vision_config::ClipVisionConfig;
pub use xlm_roberta::XlmRobertaEncoder;
pub use xlm_roberta_config::{Pooling, TextHead, XlmRobertaConfig};

use crate::load::{LoadError, Network, Scope, WeightsError};

/// Why a text or an image cannot be embedded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClipError {
    /// The embeddings of tokens, or weights, cannot be read from the file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Weights that are read during the pass are not those that were there when it was opened.
    #[error(transparent)]
    Weights(WeightsError),
    /// The caller asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The tokenizer belongs to another model.
    #[error("token id {id} is not in the text tower's vocabulary of {vocabulary}")]
    UnknownToken {
        /// The id.
        id: u32,
        /// How many embeddings there are.
        vocabulary: usize,
    },
    /// A text has no tokens, not even those around it.
    #[error("a text has no tokens, but must have one at least, the end token")]
    NoTokens,
    /// A text is longer than the tower has positions.
    #[error("a text has {found} tokens, but the text tower takes {limit} at most")]
    TooLong {
        /// Its tokens.
        found: usize,
        /// The most.
        limit: usize,
    },
    /// Images have not the size that the tower was made for.
    #[error("the images are {found:?} (N, C, H, W), but must be [1 or more, {}, {}, {}]", .expected[0], .expected[1], .expected[2])]
    ImageShape {
        /// `[N, C, H, W]`
        found: [usize; 4],
        /// `[C, H, W]`
        expected: [usize; 3],
    },
}

impl From<LoadError> for ClipError {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::File(error) => Self::File(error),
            LoadError::Weights(error) => Self::Weights(error),
            LoadError::Cancelled(cancelled) => Self::Cancelled(cancelled),
        }
    }
}

/// Both towers, and how sharply their agreement counts.
#[derive(Debug, Clone)]
pub struct ClipModel<B: BurnBackend> {
    /// The text tower.
    pub text: TextTower<B>,
    /// The vision tower.
    pub vision: ClipVisionEncoder<B>,
    /// `[1]`
    logit_scale: Tensor<B, 1>,
}

impl<B: Backend> ClipModel<B> {
    /// Loads both towers; `config` must be valid.
    pub fn load(config: &ClipConfig, scope: &Scope<B>) -> Self {
        Self {
            text: TextTower::load(&config.text_config, scope),
            vision: ClipVisionEncoder::load(&config.vision_config, scope),
            logit_scale: scope.in_f32().reshaped("logit_scale", &[], [1]),
        }
    }

    /// The factor from the cosine of two embeddings to a logit: `exp(logit_scale)`.
    pub fn logit_factor(&self) -> f32 {
        let scale = self.logit_scale.clone().into_data();
        scale.as_slice::<f32>().expect("it is loaded in f32")[0].exp()
    }
}

impl<B: Backend> Network<B> for ClipModel<B> {
    type Config = ClipConfig;

    fn load(config: &ClipConfig, scope: &Scope<B>) -> Self {
        Self::load(config, scope)
    }
}

/// Fails unless a text has tokens, no more than `limit`, and all in the vocabulary.
fn check_ids(ids: &[u32], vocabulary: usize, limit: usize) -> Result<(), ClipError> {
    if ids.is_empty() {
        return Err(ClipError::NoTokens);
    }
    if ids.len() > limit {
        return Err(ClipError::TooLong { found: ids.len(), limit });
    }
    match ids.iter().find(|&&id| id as usize >= vocabulary) {
        Some(&id) => Err(ClipError::UnknownToken { id, vocabulary }),
        None => Ok(()),
    }
}
