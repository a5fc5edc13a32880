//! CLIP's own text tower: causal, with learnt positions.
//!
//! Source: `transformers/models/clip/modeling_clip.py`.

use std::mem::take;

use burn::tensor::{DType, Tensor};
use wan_core::{Backend, BurnBackend, CancelToken, Cancelled, TextEncoder};

use super::activation::Activation;
use super::layers::{ClipLayer, Sizes, causal_mask, gather};
use super::{ClipError, ClipTextConfig, check_ids};
use crate::Probe;
use crate::layers::{LayerNorm, Linear};
use crate::load::{HostTable, Layers, Network, Scope};
use crate::probe::Trace;

/// CLIP's own text tower.
#[derive(Debug, Clone)]
pub struct ClipTextEncoder<B: BurnBackend> {
    token_embedding: HostTable,
    position_embedding: HostTable,
    layers: Layers<B, ClipLayer<B>>,
    final_layer_norm: LayerNorm<B>,
    text_projection: Option<Linear<B>>,
    config: ClipTextConfig,
}

impl<B: Backend> ClipTextEncoder<B> {
    /// Loads the tower; `config` must be valid.
    pub fn load(config: &ClipTextConfig, scope: &Scope<B>) -> Self {
        let width = config.hidden_size;
        let tower = scope.at("text_model");
        let table = |name, rows| tower.at("embeddings").table(name, rows, width);
        let layers = {
            let sizes = sizes(config);
            let load = move |scope: &Scope<B>, i| ClipLayer::load(&sizes, &scope.at(i));
            tower.at("encoder.layers").layers(config.num_hidden_layers, load)
        };
        let norm = tower.at("final_layer_norm");
        let projection = || {
            let scope = scope.at("text_projection");
            Linear::load_without_bias(&scope, width, config.projection_dim)
        };
        Self {
            token_embedding: table("token_embedding.weight", config.vocab_size),
            position_embedding: table("position_embedding.weight", config.max_position_embeddings),
            layers,
            final_layer_norm: LayerNorm::load(&norm, width, config.layer_norm_eps, DType::F32),
            text_projection: config.has_projection().then(projection),
            config: config.clone(),
        }
    }

    /// The sizes of the tower.
    pub fn config(&self) -> &ClipTextConfig {
        &self.config
    }

    /// The states `[1, S, hidden_size]` of texts of `S` ids, in f32. Each is encoded alone. Padding may be
    /// among the ids: behind the token that ends a text, it changes nothing before it.
    ///
    /// # Errors
    /// If an id is not in the vocabulary, a text has none or too many, weights cannot be read, or the work
    /// is cancelled.
    pub fn forward(
        &self,
        texts: &[&[u32]],
        cancel: &CancelToken,
        probe: &mut impl Probe<B>,
    ) -> Result<Vec<Tensor<B, 3>>, ClipError> {
        let device = self.final_layer_norm.device();
        let masks: Vec<_> = texts.iter().map(|ids| causal_mask(ids.len(), &device)).collect();
        let mut states = Vec::new();
        for ids in texts {
            states.push(Trace::new(probe).seen("hidden_states.0", self.embed_tokens(ids)?));
        }
        self.layers.for_each::<ClipError>(cancel, |i, layer| {
            let through = |(x, mask): (Tensor<B, 3>, &Tensor<B, 4>)| {
                cancel.check()?;
                let y = layer.forward(x, Some(mask.clone()));
                Ok(Trace::new(probe).seen(format_args!("hidden_states.{}", i + 1), y))
            };
            let pairs = take(&mut states).into_iter().zip(&masks);
            states = pairs.map(through).collect::<Result<_, Cancelled>>()?;
            Ok(())
        })?;
        Ok(states.into_iter().map(|x| self.final_layer_norm.forward(x)).collect())
    }

    /// The embeddings `[N, projection_dim]` of texts in f32: the state of the token that ends each,
    /// projected. Without a projection, `[N, hidden_size]`.
    ///
    /// # Errors
    /// As for [`forward`](Self::forward).
    ///
    /// # Panics
    /// If there are no texts.
    pub fn embed(&self, texts: &[&[u32]], cancel: &CancelToken) -> Result<Tensor<B, 2>, ClipError> {
        let states = self.forward(texts, cancel, &mut ())?;
        let pooled = states.into_iter().zip(texts).map(|(states, ids)| {
            let (at, width) = (end_of_text(ids, self.config.eos_token_id), states.dims()[2]);
            states.slice([0..1, at..at + 1, 0..width])
        });
        let pooled = Tensor::cat(pooled.collect(), 0);
        let projected = match &self.text_projection {
            Some(projection) => B::wan_cast(projection.forward(pooled), DType::F32),
            None => pooled,
        };
        Ok(projected.squeeze_dim(1))
    }

    fn embed_tokens(&self, ids: &[u32]) -> Result<Tensor<B, 3>, ClipError> {
        check_ids(ids, self.token_embedding.rows(), self.config.max_position_embeddings)?;
        let positions: Vec<u32> = (0..ids.len() as u32).collect();
        let tables = [(&self.token_embedding, ids), (&self.position_embedding, &positions)];
        let device = self.final_layer_norm.device();
        Ok(gather(&tables, self.config.hidden_size, &device)?)
    }
}

/// The place of the token that ends a text: the first one, or the first token if there is none. With
/// `eos_token_id` 2, as in the configs of old models, the place of the largest id.
fn end_of_text(ids: &[u32], eos_token_id: u32) -> usize {
    let end = match eos_token_id {
        2 => ids.iter().max().copied(),
        id => Some(id),
    };
    ids.iter().position(|id| Some(*id) == end).unwrap_or(0)
}

impl<B: Backend> Network<B> for ClipTextEncoder<B> {
    type Config = ClipTextConfig;

    fn load(config: &ClipTextConfig, scope: &Scope<B>) -> Self {
        Self::load(config, scope)
    }
}

impl<B: Backend> TextEncoder<B> for ClipTextEncoder<B> {
    type Error = ClipError;

    fn encode(
        &self,
        prompts: &[&[u32]],
        cancel: &CancelToken,
    ) -> Result<Vec<Tensor<B, 3>>, ClipError> {
        self.forward(prompts, cancel, &mut ())
    }
}

fn sizes(config: &ClipTextConfig) -> Sizes {
    Sizes {
        width: config.hidden_size,
        inner: config.intermediate_size,
        heads: config.num_attention_heads,
        eps: config.layer_norm_eps,
        activation: Activation::named(&config.hidden_act),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_ends_at_its_first_end_token_or_in_old_models_at_its_largest_id() {
        for (ids, eos, place) in [
            (&[0, 5, 98, 7, 98][..], 98, 2),
            (&[0, 5, 7], 98, 0),
            (&[0, 5, 98, 7, 98], 2, 2),
            (&[0, 2, 7], 2, 2),
            (&[9], 2, 0),
        ] {
            assert_eq!(end_of_text(ids, eos), place, "{ids:?}, {eos}");
        }
    }
}
