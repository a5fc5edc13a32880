//! The umT5 encoder (Chung et al. 2023, "UniMax"): T5 version 1.1 with a table of relative
//! positions in every layer.
//!
//! Source: `transformers/models/umt5/modeling_umt5.py`, and `wan/modules/t5.py` of the original Wan.

mod config;
mod infer;
mod names;

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::backend::AttentionArgs;
use wan_core::{Backend, BurnBackend, TextEncoder};
use wan_io::files::FileError;

pub use config::Umt5Config;

use crate::Probe;
use crate::layers::{Linear, RmsNorm};
use crate::load::{HostTable, Network, Scope};
use crate::probe::Trace;

/// Why a prompt cannot be encoded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Umt5Error {
    /// The embeddings of its tokens cannot be read from the file.
    #[error(transparent)]
    File(#[from] FileError),
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

/// The encoder.
#[derive(Debug, Clone)]
pub struct Umt5Encoder<B: BurnBackend> {
    embeddings: HostTable,
    blocks: Vec<Block<B>>,
    final_norm: RmsNorm<B>,
    config: Umt5Config,
}

impl<B: Backend> Umt5Encoder<B> {
    /// Loads the encoder; `config` must be valid.
    pub fn load(config: &Umt5Config, scope: &Scope<B>) -> Self {
        let embeddings = scope.table("shared.weight", config.vocab_size, config.d_model);
        let scope = scope.at("encoder");
        let block = |i| Block::load(config, &scope.at(format_args!("block.{i}")));
        Self {
            embeddings,
            blocks: (0..config.num_layers).map(block).collect(),
            final_norm: norm(&scope.at("final_layer_norm"), config, DType::F32),
            config: config.clone(),
        }
    }

    /// The hidden states `[1, S, d_model]` of a prompt of `S` ids, in f32. A prompt is encoded alone and
    /// without padding, which would be masked out and change nothing.
    ///
    /// # Errors
    /// If an id is not in the vocabulary, there is none, or the file of the embeddings cannot be read.
    pub fn forward(
        &self,
        ids: &[u32],
        probe: &mut impl Probe<B>,
    ) -> Result<Tensor<B, 3>, Umt5Error> {
        let mut trace = Trace::new(probe);
        let mut x = trace.seen("embed_tokens", self.embed(ids)?);
        let buckets = self.buckets(ids.len());
        for (i, block) in self.blocks.iter().enumerate() {
            let mut trace = trace.at(format_args!("block.{i}"));
            let bias = block.position_bias(&buckets, ids.len());
            x = trace.seen("after_attention", block.attend(x, bias));
            x = trace.seen("output", block.feed_forward(x));
        }
        Ok(self.final_norm.forward(x))
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

    fn encode(&self, ids: &[u32]) -> Result<Tensor<B, 3>, Umt5Error> {
        self.forward(ids, &mut ())
    }
}

/// Attention and feed-forward network, each after a norm and added to the residual stream.
#[derive(Debug, Clone)]
struct Block<B: BurnBackend> {
    attention_norm: RmsNorm<B>,
    q: Linear<B>,
    k: Linear<B>,
    v: Linear<B>,
    o: Linear<B>,
    /// `[buckets, heads]`
    relative_attention_bias: Tensor<B, 2>,
    heads: usize,
    feed_forward_norm: RmsNorm<B>,
    gate: Linear<B>,
    linear: Linear<B>,
    output: Linear<B>,
}

impl<B: Backend> Block<B> {
    fn load(config: &Umt5Config, scope: &Scope<B>) -> Self {
        let (width, inner) = (config.d_model, config.num_heads * config.d_kv);
        let (attention, feed_forward) = (scope.at("layer.0"), scope.at("layer.1"));
        let (heads, dense) = (attention.at("SelfAttention"), feed_forward.at("DenseReluDense"));
        let bias_shape = [config.relative_attention_num_buckets, config.num_heads];
        let bias = heads.in_f32().tensor("relative_attention_bias.weight", bias_shape);
        let q = Linear::load_without_bias(&heads.at("q"), width, inner);
        let dtype = q.dtype();
        Self {
            attention_norm: norm(&attention.at("layer_norm"), config, dtype),
            q,
            k: Linear::load_without_bias(&heads.at("k"), width, inner),
            v: Linear::load_without_bias(&heads.at("v"), width, inner),
            o: Linear::load_without_bias(&heads.at("o"), inner, width),
            relative_attention_bias: bias,
            heads: config.num_heads,
            feed_forward_norm: norm(&feed_forward.at("layer_norm"), config, dtype),
            gate: Linear::load_without_bias(&dense.at("wi_0"), width, config.d_ff),
            linear: Linear::load_without_bias(&dense.at("wi_1"), width, config.d_ff),
            output: Linear::load_without_bias(&dense.at("wo"), config.d_ff, width),
        }
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

    /// umT5 does not scale the scores by `1 / sqrt(d)`.
    fn attend(&self, x: Tensor<B, 3>, bias: Tensor<B, 4>) -> Tensor<B, 3> {
        let [batch, length, _] = x.dims();
        let normed = self.attention_norm.forward(x.clone());
        let [q, k, v] = [&self.q, &self.k, &self.v].map(|linear| {
            let y = linear.forward(normed.clone());
            let width = y.dims()[2] / self.heads;
            y.reshape([batch, length, self.heads, width]).swap_dims(1, 2)
        });
        let attended = B::wan_attention(AttentionArgs::new(q, k, v, 1.0).bias(bias));
        let [_, heads, _, width] = attended.dims();
        let joined = attended.swap_dims(1, 2).reshape([batch, length, heads * width]);
        x + self.o.forward(joined).cast(DType::F32)
    }

    fn feed_forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let normed = self.feed_forward_norm.forward(x.clone());
        let gate = B::wan_gelu(self.gate.forward(normed.clone()));
        let linear = self.linear.forward(normed);
        let y = match self.output.dtype() {
            DType::F16 => self.scaled_output(gate, linear),
            _ => self.output.forward(gate * linear).cast(DType::F32),
        };
        x + y
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
