//! The umT5 encoder (Chung et al. 2023, "UniMax"): T5 version 1.1 with a table of relative
//! positions in every layer.
//!
//! Source: `transformers/models/umt5/modeling_umt5.py`, and `wan/modules/t5.py` of the original Wan.

mod config;
mod infer;
mod names;

use std::mem::take;

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::backend::AttentionArgs;
use wan_core::{Backend, BurnBackend, CancelToken, Cancelled, ReadingPace, TextEncoder};
use wan_io::files::FileError;

pub use config::Umt5Config;

use crate::Probe;
use crate::layers::{Linear, RmsNorm};
use crate::load::{HostTable, Layers, LoadError, Network, Scope, WeightsError};
use crate::probe::Trace;

/// Why a prompt cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Umt5Error {
    /// The embeddings of its tokens, or weights, cannot be read from the file.
    #[error(transparent)]
    File(#[from] FileError),
    /// Weights that are read during the pass are not those that were there when it was opened.
    #[error(transparent)]
    Weights(WeightsError),
    /// The caller asked to stop.
    #[error(transparent)]
    Cancelled(#[from] Cancelled),
    /// The tokenizer belongs to another model.
    #[error("token id {id} is not in the text encoder's vocabulary of {vocabulary}")]
    UnknownToken {
        /// The id.
        id: u32,
        /// How many embeddings there are.
        vocabulary: usize,
    },
    /// A prompt has no tokens, not even the one that ends it.
    #[error("a prompt has no tokens, but must have one at least, the end token")]
    NoTokens,
}

impl From<LoadError> for Umt5Error {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::File(error) => Self::File(error),
            LoadError::Weights(error) => Self::Weights(error),
            LoadError::Cancelled(cancelled) => Self::Cancelled(cancelled),
        }
    }
}

/// The encoder.
#[derive(Debug, Clone)]
pub struct Umt5Encoder<B: BurnBackend> {
    embeddings: HostTable,
    layers: Layers<B, Layer<B>>,
    final_norm: RmsNorm<B>,
    config: Umt5Config,
}

impl<B: Backend> Umt5Encoder<B> {
    /// Loads the encoder; `config` must be valid.
    pub fn load(config: &Umt5Config, scope: &Scope<B>) -> Self {
        let embeddings = scope.table("shared.weight", config.vocab_size, config.d_model);
        let scope = scope.at("encoder");
        let layers = {
            let config = config.clone();
            scope.layers(2 * config.num_layers, move |scope, i| Layer::load(&config, scope, i))
        };
        Self {
            embeddings,
            layers,
            final_norm: norm(&scope.at("final_layer_norm"), config, DType::F32),
            config: config.clone(),
        }
    }

    /// The hidden states `[1, S, d_model]` of prompts of `S` ids, in f32. A prompt is encoded alone and
    /// without padding, which would be masked out and change nothing.
    ///
    /// # Errors
    /// If an id is not in the vocabulary, a prompt has none, weights cannot be read, or the work is
    /// cancelled.
    pub fn forward(
        &self,
        prompts: &[&[u32]],
        cancel: &CancelToken,
        probe: &mut impl Probe<B>,
    ) -> Result<Vec<Tensor<B, 3>>, Umt5Error> {
        let mut states = Vec::new();
        for ids in prompts {
            states.push(Trace::new(probe).seen("embed_tokens", self.embed(ids)?));
        }
        let buckets: Vec<_> = prompts.iter().map(|ids| self.buckets(ids.len())).collect();
        self.layers.for_each::<Umt5Error>(cancel, |i, layer| {
            let through = |(x, buckets): (Tensor<B, 3>, &Vec<usize>)| {
                cancel.check()?;
                let mut trace = Trace::new(probe);
                let trace = trace.at(format_args!("block.{}", i / 2));
                Ok(layer.forward(x, buckets, trace))
            };
            let pairs = take(&mut states).into_iter().zip(&buckets);
            states = pairs.map(through).collect::<Result<_, Cancelled>>()?;
            Ok(())
        })?;
        Ok(states.into_iter().map(|x| self.final_norm.forward(x)).collect())
    }

    /// How the reading of layers has gone so far, where they are read in each pass.
    pub fn reading(&self) -> Option<ReadingPace> {
        self.layers.pace()
    }

    /// The embeddings `[1, S, d_model]` of `ids` in f32, read from the host.
    fn embed(&self, ids: &[u32]) -> Result<Tensor<B, 3>, Umt5Error> {
        if ids.is_empty() {
            return Err(Umt5Error::NoTokens);
        }
        let vocabulary = self.embeddings.rows();
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(Umt5Error::UnknownToken { id, vocabulary });
        }
        let shape = [1, ids.len(), self.config.d_model];
        let embedded = TensorData::new(self.embeddings.gather(ids)?, shape);
        Ok(Tensor::from_data(embedded, (&self.final_norm.device(), DType::F32)))
    }

    /// The bucket of every pair of positions, `[S * S]`, rows are queries.
    fn buckets(&self, length: usize) -> Vec<usize> {
        let pairs =
            (0..length as i64).flat_map(|query| (0..length as i64).map(move |key| key - query));
        pairs.map(|relative| relative_position_bucket(relative, &self.config)).collect()
    }
}

impl<B: Backend> Network<B> for Umt5Encoder<B> {
    type Config = Umt5Config;

    fn load(config: &Umt5Config, scope: &Scope<B>) -> Self {
        Self::load(config, scope)
    }
}

impl<B: Backend> TextEncoder<B> for Umt5Encoder<B> {
    type Error = Umt5Error;

    fn encode(
        &self,
        prompts: &[&[u32]],
        cancel: &CancelToken,
    ) -> Result<Vec<Tensor<B, 3>>, Umt5Error> {
        self.forward(prompts, cancel, &mut ())
    }
}

/// The layers of a block: attention and feed-forward network, each after a norm and added to the residual
/// stream.
#[derive(Debug)]
enum Layer<B: BurnBackend> {
    Attention(Attention<B>),
    FeedForward(FeedForward<B>),
}

impl<B: Backend> Layer<B> {
    /// Loads layer `i` of all blocks.
    fn load(config: &Umt5Config, scope: &Scope<B>, i: usize) -> Self {
        let scope = scope.at(format_args!("block.{}.layer.{}", i / 2, i % 2));
        match i % 2 {
            0 => Self::Attention(Attention::load(config, &scope)),
            _ => Self::FeedForward(FeedForward::load(config, &scope)),
        }
    }

    /// `x` is the residual stream `[1, S, d_model]` in f32, `buckets` are those of `S * S` pairs.
    fn forward(
        &self,
        x: Tensor<B, 3>,
        buckets: &[usize],
        mut trace: Trace<'_, impl Probe<B>>,
    ) -> Tensor<B, 3> {
        match self {
            Self::Attention(layer) => trace.seen("after_attention", layer.forward(x, buckets)),
            Self::FeedForward(layer) => trace.seen("output", layer.forward(x)),
        }
    }
}

/// Self-attention with a bias for relative positions.
#[derive(Debug)]
struct Attention<B: BurnBackend> {
    norm: RmsNorm<B>,
    q: Linear<B>,
    k: Linear<B>,
    v: Linear<B>,
    o: Linear<B>,
    /// `[buckets, heads]`
    relative_attention_bias: Tensor<B, 2>,
    heads: usize,
}

impl<B: Backend> Attention<B> {
    fn load(config: &Umt5Config, scope: &Scope<B>) -> Self {
        let (width, inner) = (config.d_model, config.num_heads * config.d_kv);
        let heads = scope.at("SelfAttention");
        let bias_shape = [config.relative_attention_num_buckets, config.num_heads];
        let bias = heads.in_f32().tensor("relative_attention_bias.weight", bias_shape);
        let q = Linear::load_without_bias(&heads.at("q"), width, inner);
        Self {
            norm: norm(&scope.at("layer_norm"), config, q.dtype()),
            q,
            k: Linear::load_without_bias(&heads.at("k"), width, inner),
            v: Linear::load_without_bias(&heads.at("v"), width, inner),
            o: Linear::load_without_bias(&heads.at("o"), inner, width),
            relative_attention_bias: bias,
            heads: config.num_heads,
        }
    }

    /// umT5 does not scale the scores by `1 / sqrt(d)`.
    fn forward(&self, x: Tensor<B, 3>, buckets: &[usize]) -> Tensor<B, 3> {
        let [batch, length, _] = x.dims();
        let normed = self.norm.forward(x.clone());
        let [q, k, v] = [&self.q, &self.k, &self.v].map(|linear| {
            let y = linear.forward(normed.clone());
            let width = y.dims()[2] / self.heads;
            y.reshape([batch, length, self.heads, width]).swap_dims(1, 2)
        });
        let bias = self.position_bias(buckets, length);
        let attended = B::wan_attention(AttentionArgs::new(q, k, v, 1.0).bias(bias));
        let [_, heads, _, width] = attended.dims();
        let joined = attended.swap_dims(1, 2).reshape([batch, length, heads * width]);
        B::wan_add(x, self.o.forward(joined))
    }

    /// `[1, H, S, S]`
    fn position_bias(&self, buckets: &[usize], length: usize) -> Tensor<B, 4> {
        let table = self.relative_attention_bias.clone();
        let indices: Vec<i32> = buckets.iter().map(|&bucket| bucket as i32).collect();
        let indices = TensorData::new(indices, [buckets.len()]);
        let indices = Tensor::from_data(indices, (&table.device(), DType::I32));
        let bias = table.select(0, indices).reshape([1, length, length, self.heads]);
        bias.permute([0, 3, 1, 2])
    }
}

/// Two linear layers, one after GELU, whose product goes through a third.
#[derive(Debug)]
struct FeedForward<B: BurnBackend> {
    norm: RmsNorm<B>,
    gate: Linear<B>,
    linear: Linear<B>,
    output: Linear<B>,
}

impl<B: Backend> FeedForward<B> {
    fn load(config: &Umt5Config, scope: &Scope<B>) -> Self {
        let (width, dense) = (config.d_model, scope.at("DenseReluDense"));
        let gate = Linear::load_without_bias(&dense.at("wi_0"), width, config.d_ff);
        Self {
            norm: norm(&scope.at("layer_norm"), config, gate.dtype()),
            gate,
            linear: Linear::load_without_bias(&dense.at("wi_1"), width, config.d_ff),
            output: Linear::load_without_bias(&dense.at("wo"), config.d_ff, width),
        }
    }

    fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let normed = self.norm.forward(x.clone());
        let gate = self.gate.forward(normed.clone());
        let linear = self.linear.forward(normed);
        let y = match self.output.dtype() {
            DType::F16 => self.scaled_output(B::wan_gelu(gate), linear),
            _ => self.output.forward(B::wan_gated_gelu(gate, linear)),
        };
        B::wan_add(x, y)
    }

    /// The products of the gate go beyond 65,504, where f16 ends, and so do the outputs that they sum
    /// up to. So each row is divided by its largest product before it is rounded to f16, and the
    /// output multiplied with it after.
    fn scaled_output(&self, gate: Tensor<B, 3>, linear: Tensor<B, 3>) -> Tensor<B, 3> {
        let products = gate.cast(DType::F32) * linear.cast(DType::F32);
        let largest = products.clone().abs().max_dim(2).clamp_min(1.0);
        self.output.forward(products / largest.clone()).cast(DType::F32) * largest
    }
}

/// A norm whose output is in `dtype`.
fn norm<B: Backend>(scope: &Scope<B>, config: &Umt5Config, dtype: DType) -> RmsNorm<B> {
    RmsNorm::load(scope, config.d_model, config.layer_norm_epsilon, dtype)
}

/// The bucket of a distance `key - query`: the upper half of the buckets is for keys behind the
/// query; near distances have a bucket each, far ones share them logarithmically.
pub fn relative_position_bucket(relative: i64, config: &Umt5Config) -> usize {
    let half = config.relative_attention_num_buckets / 2;
    let exact = half / 2;
    let offset = if relative > 0 { half } else { 0 };
    let distance = relative.unsigned_abs() as usize;
    if distance < exact {
        return offset + distance;
    }
    // In f32, as the reference: a bucket may begin exactly at a whole number.
    let range = (config.relative_attention_max_distance as f64 / exact as f64).ln() as f32;
    let steps = (distance as f32 / exact as f32).ln() / range * (half - exact) as f32;
    offset + (exact + steps as usize).min(half - 1)
}
