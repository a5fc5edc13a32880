//! XLM-RoBERTa (Conneau et al. 2019) as a text tower, for English, Chinese and a hundred other languages.
//!
//! Source: `transformers/models/xlm_roberta/modeling_xlm_roberta.py`, `modeling_altclip.py`,
//! `open_clip/hf_model.py`, and `wan/modules/xlm_roberta.py` of the original Wan.

use std::mem::take;

use burn::tensor::{DType, Tensor};
use wan_core::{Backend, BurnBackend, CancelToken, Cancelled, TextEncoder};

use super::activation::Activation;
use super::layers::{SelfAttention, Sizes, gather};
use super::{ClipError, Pooling, TextHead, XlmRobertaConfig, check_ids};
use crate::Probe;
use crate::layers::{LayerNorm, Linear};
use crate::load::{HostTable, Layers, Network, Scope};
use crate::probe::Trace;

/// XLM-RoBERTa as a text tower.
#[derive(Debug, Clone)]
pub struct XlmRobertaEncoder<B: BurnBackend> {
    word_embeddings: HostTable,
    position_embeddings: HostTable,
    token_type_embeddings: HostTable,
    norm: LayerNorm<B>,
    layers: Layers<B, RobertaLayer<B>>,
    head: Head<B>,
    config: XlmRobertaConfig,
}

impl<B: Backend> XlmRobertaEncoder<B> {
    /// Loads the tower; `config` must be valid.
    pub fn load(config: &XlmRobertaConfig, scope: &Scope<B>) -> Self {
        let (width, eps) = (config.hidden_size, config.layer_norm_eps);
        let tower = scope.at("text_model");
        let embeddings = tower.at("roberta.embeddings");
        let table = |name, rows| embeddings.table(name, rows, width);
        let layers = {
            let sizes = sizes(config);
            let load = move |scope: &Scope<B>, i| RobertaLayer::load(&sizes, &scope.at(i));
            tower.at("roberta.encoder.layers").layers(config.num_hidden_layers, load)
        };
        Self {
            word_embeddings: table("word_embeddings.weight", config.vocab_size),
            position_embeddings: table(
                "position_embeddings.weight",
                config.max_position_embeddings,
            ),
            token_type_embeddings: table("token_type_embeddings.weight", config.type_vocab_size),
            norm: LayerNorm::load(&embeddings.at("LayerNorm"), width, eps, DType::F32),
            layers,
            head: Head::load(config, scope),
            config: config.clone(),
        }
    }

    /// The sizes of the tower.
    pub fn config(&self) -> &XlmRobertaConfig {
        &self.config
    }

    /// The states `[1, S, hidden_size]` after the last layer of texts of `S` ids, in f32, before what is
    /// above the layers. A text is encoded alone and without padding, which would be masked out and change
    /// nothing.
    ///
    /// # Errors
    /// If an id is not in the vocabulary, a text has none or too many, weights cannot be read, or the work
    /// is cancelled.
    pub fn hidden_states(
        &self,
        texts: &[&[u32]],
        cancel: &CancelToken,
        probe: &mut impl Probe<B>,
    ) -> Result<Vec<Tensor<B, 3>>, ClipError> {
        let mut states = Vec::new();
        for ids in texts {
            states.push(Trace::new(probe).seen("hidden_states.0", self.embed_tokens(ids)?));
        }
        self.layers.for_each::<ClipError>(cancel, |i, layer| {
            let through = |x| {
                cancel.check()?;
                let y = layer.forward(x);
                Ok(Trace::new(probe).seen(format_args!("hidden_states.{}", i + 1), y))
            };
            states =
                take(&mut states).into_iter().map(through).collect::<Result<_, Cancelled>>()?;
            Ok(())
        })?;
        Ok(states)
    }

    /// The states of texts as the reference's `last_hidden_state`: `[1, S, project_dim]` where each is
    /// transformed (AltCLIP), else `[1, S, hidden_size]`.
    ///
    /// # Errors
    /// As for [`hidden_states`](Self::hidden_states).
    pub fn forward(
        &self,
        texts: &[&[u32]],
        cancel: &CancelToken,
        probe: &mut impl Probe<B>,
    ) -> Result<Vec<Tensor<B, 3>>, ClipError> {
        let states = self.hidden_states(texts, cancel, probe)?;
        Ok(states.into_iter().map(|x| self.head.transform(x)).collect())
    }

    /// The embeddings `[N, projection_dim]` of texts in f32.
    ///
    /// # Errors
    /// As for [`hidden_states`](Self::hidden_states).
    ///
    /// # Panics
    /// If there are no texts.
    pub fn embed(&self, texts: &[&[u32]], cancel: &CancelToken) -> Result<Tensor<B, 2>, ClipError> {
        let states = self.forward(texts, cancel, &mut ())?;
        let pooled = states.into_iter().map(|states| self.pool(states)).collect();
        Ok(self.head.project(Tensor::cat(pooled, 0)).squeeze_dim(1))
    }

    /// The state that stands for a text, `[1, 1, D]`.
    fn pool(&self, states: Tensor<B, 3>) -> Tensor<B, 3> {
        match self.config.pooling() {
            Pooling::Mean => states.mean_dim(1),
            Pooling::FirstToken => {
                let width = states.dims()[2];
                states.slice([0..1, 0..1, 0..width])
            }
        }
    }

    fn embed_tokens(&self, ids: &[u32]) -> Result<Tensor<B, 3>, ClipError> {
        check_ids(ids, self.word_embeddings.rows(), self.config.max_tokens())?;
        let positions = positions(ids, self.config.pad_token_id);
        let tables = [
            (&self.word_embeddings, ids),
            (&self.token_type_embeddings, &vec![0; ids.len()]),
            (&self.position_embeddings, &positions),
        ];
        let embedded = gather(&tables, self.config.hidden_size, &self.norm.device())?;
        Ok(self.norm.forward(embedded))
    }
}

/// The rows of the table of positions: tokens are counted from the row behind that of padding; a token of
/// padding, which a text may spell out, is not counted.
fn positions(ids: &[u32], pad: u32) -> Vec<u32> {
    let mut last = pad;
    let position = |&id: &u32| {
        if id == pad {
            return pad;
        }
        last += 1;
        last
    };
    ids.iter().map(position).collect()
}

impl<B: Backend> Network<B> for XlmRobertaEncoder<B> {
    type Config = XlmRobertaConfig;

    fn load(config: &XlmRobertaConfig, scope: &Scope<B>) -> Self {
        Self::load(config, scope)
    }
}

impl<B: Backend> TextEncoder<B> for XlmRobertaEncoder<B> {
    type Error = ClipError;

    fn encode(
        &self,
        prompts: &[&[u32]],
        cancel: &CancelToken,
    ) -> Result<Vec<Tensor<B, 3>>, ClipError> {
        self.forward(prompts, cancel, &mut ())
    }
}

fn sizes(config: &XlmRobertaConfig) -> Sizes {
    Sizes {
        width: config.hidden_size,
        inner: config.intermediate_size,
        heads: config.num_attention_heads,
        eps: config.layer_norm_eps,
        activation: Activation::named(&config.hidden_act),
    }
}

/// A layer: attention and a feed-forward network, each added to its input and normed after.
#[derive(Debug)]
struct RobertaLayer<B: BurnBackend> {
    attention: SelfAttention<B>,
    attention_norm: LayerNorm<B>,
    intermediate: Linear<B>,
    output: Linear<B>,
    output_norm: LayerNorm<B>,
    activation: Activation,
}

impl<B: Backend> RobertaLayer<B> {
    fn load(sizes: &Sizes, scope: &Scope<B>) -> Self {
        let Sizes { width, inner, eps, activation, .. } = *sizes;
        let attention = scope.at("attention");
        let names = ["self.query", "self.key", "self.value", "output.dense"];
        let norm = |scope: &Scope<B>| {
            LayerNorm::load(&scope.at("output.LayerNorm"), width, eps, DType::F32)
        };
        Self {
            attention: SelfAttention::load(sizes, &attention, names),
            attention_norm: norm(&attention),
            intermediate: Linear::load(&scope.at("intermediate.dense"), width, inner),
            output: Linear::load(&scope.at("output.dense"), inner, width),
            output_norm: norm(scope),
            activation,
        }
    }

    /// `[1, S, D]` in f32.
    fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let attended = self.attention.forward(x.clone(), None);
        let x = self.attention_norm.forward(B::wan_add(x, attended));
        let inner = self.activation.forward(self.intermediate.forward(x.clone()));
        self.output_norm.forward(B::wan_add(x, self.output.forward(inner)))
    }
}

/// What is above the layers.
#[derive(Debug, Clone)]
enum Head<B: BurnBackend> {
    None,
    Linear(Linear<B>),
    Mlp(Linear<B>, Linear<B>),
    Transformation { norm: LayerNorm<B>, layer: Linear<B>, projection: Option<Linear<B>> },
}

impl<B: Backend> Head<B> {
    fn load(config: &XlmRobertaConfig, scope: &Scope<B>) -> Self {
        let (width, embedding) = (config.hidden_size, config.projection_dim);
        let (tower, head) = (scope.at("text_model"), config.head());
        let projection = tower.at("proj");
        let without_bias =
            |name, input, output| Linear::load_without_bias(&projection.at(name), input, output);
        match head {
            TextHead::None => Self::None,
            TextHead::Linear { bias: true } => {
                Self::Linear(Linear::load(&projection, width, embedding))
            }
            TextHead::Linear { bias: false } => {
                Self::Linear(Linear::load_without_bias(&projection, width, embedding))
            }
            TextHead::Mlp => {
                let inner = (width + embedding) / 2;
                Self::Mlp(without_bias("0", width, inner), without_bias("2", inner, embedding))
            }
            TextHead::Transformation | TextHead::ProjectedTransformation => {
                let layer = Linear::load(&tower.at("transformation"), width, config.project_dim);
                let (norm, eps) = (tower.at("pre_LN"), config.layer_norm_eps);
                let projection = || {
                    let scope = scope.at("text_projection");
                    Linear::load_without_bias(&scope, config.project_dim, embedding)
                };
                let is_projected = head == TextHead::ProjectedTransformation;
                Self::Transformation {
                    norm: LayerNorm::load(&norm, width, eps, layer.dtype()),
                    layer,
                    projection: is_projected.then(projection),
                }
            }
        }
    }

    /// What is done to the state of each token, `[1, S, D]` in f32.
    fn transform(&self, states: Tensor<B, 3>) -> Tensor<B, 3> {
        match self {
            Self::Transformation { norm, layer, .. } => {
                B::wan_cast(layer.forward(norm.forward(states)), DType::F32)
            }
            _ => states,
        }
    }

    /// From the states that stand for texts, `[N, 1, D]`, to their embeddings.
    fn project(&self, pooled: Tensor<B, 3>) -> Tensor<B, 3> {
        let projected = match self {
            Self::None | Self::Transformation { projection: None, .. } => pooled,
            Self::Linear(projection) => projection.forward(pooled),
            Self::Transformation { projection: Some(projection), .. } => projection.forward(pooled),
            Self::Mlp(first, second) => {
                second.forward(Activation::Gelu.forward(first.forward(pooled)))
            }
        };
        B::wan_cast(projected, DType::F32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_begin_behind_padding_which_is_not_counted() {
        assert_eq!(positions(&[0, 7, 9, 2], 1), [2, 3, 4, 5]);
        assert_eq!(positions(&[0, 1, 9, 2], 1), [2, 1, 3, 4]);
        assert_eq!(positions(&[5, 5], 0), [1, 2]);
    }
}
