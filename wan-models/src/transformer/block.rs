use burn::tensor::{DType, Tensor};
use wan_core::backend::AttentionArgs;
use wan_core::{Backend, BurnBackend};

use super::{RotaryEmbedding, WanTransformerConfig};
use crate::Probe;
use crate::layers::{LayerNorm, Linear, ModulatedNorm, RmsNorm};
use crate::load::Scope;
use crate::probe::Trace;

/// The text after the text embedder, as every block attends to it.
pub(super) struct Context<B: BurnBackend> {
    /// `[B, L, inner]`
    pub(super) text: Tensor<B, 3>,
    /// `[1, 1, 1, L]`, see [`wan_core::TextConditioning::attention_bias`]
    pub(super) bias: Option<Tensor<B, 4>>,
}

/// Self-attention over the video, cross-attention to the text, feed-forward network; each after a norm
/// and added to the residual stream.
#[derive(Debug, Clone)]
pub(super) struct Block<B: BurnBackend> {
    /// `[1, 6, inner]`: what is added to the timestep's modulation.
    scale_shift_table: Tensor<B, 3>,
    norm1: ModulatedNorm,
    attn1: Attention<B>,
    norm2: Option<LayerNorm<B>>,
    attn2: Attention<B>,
    norm3: ModulatedNorm,
    ffn: FeedForward<B>,
}

impl<B: Backend> Block<B> {
    pub(super) fn load(config: &WanTransformerConfig, scope: &Scope<B>) -> Self {
        let (inner, eps) = (config.inner_dim(), config.eps);
        let scale_shift_table = scope.in_f32().tensor("scale_shift_table", [1, 6, inner]);
        let attn1 = Attention::load_rotated(config, &scope.at("attn1"));
        let attn2 = Attention::load(config, &scope.at("attn2"));
        let norm2 = || LayerNorm::load(&scope.at("norm2"), inner, eps, attn2.to_q.dtype());
        let norm2 = config.cross_attn_norm.then(norm2);
        let ffn = FeedForward::load(config, &scope.at("ffn"));
        let norm1 = ModulatedNorm::new(eps, attn1.to_q.dtype());
        let norm3 = ModulatedNorm::new(eps, ffn.input.dtype());
        Self { scale_shift_table, norm1, attn1, norm2, attn2, norm3, ffn }
    }

    /// `x` is the residual stream `[B, S, inner]` in f32, `time` the timestep's modulation
    /// `[B, 6, inner]`.
    pub(super) fn forward(
        &self,
        x: Tensor<B, 3>,
        context: &Context<B>,
        time: Tensor<B, 3>,
        rope: &RotaryEmbedding<B>,
        mut trace: Trace<'_, impl Probe<B>>,
    ) -> Tensor<B, 3> {
        let modulation = self.scale_shift_table.clone() + time;
        let [attention, feed_forward] = [0, 3].map(|first| Modulation::take(&modulation, first));

        trace.see("norm1", || self.norm1.unmodulated(x.clone()));
        let normed = self.norm1.forward(x.clone(), attention.shift, attention.scale);
        let y = self.attn1.forward(normed.clone(), normed, None, Some(rope));
        let x = B::wan_gated_residual(x, trace.seen("attn1", y), attention.gate);

        let normed = match &self.norm2 {
            Some(norm) => norm.forward(x.clone()),
            None => x.clone(),
        };
        let normed = trace.seen("norm2", normed);
        let y = self.attn2.forward(normed, context.text.clone(), context.bias.clone(), None);
        let x = x + trace.seen("attn2", y).cast(DType::F32);

        let normed = self.norm3.forward(x.clone(), feed_forward.shift, feed_forward.scale);
        let y = self.ffn.forward(normed);
        let x = B::wan_gated_residual(x, trace.seen("ffn", y), feed_forward.gate);
        trace.seen("output", x)
    }
}

/// How the timestep changes one branch of a block; each `[B, 1, inner]` in f32.
struct Modulation<B: BurnBackend> {
    shift: Tensor<B, 3>,
    scale: Tensor<B, 3>,
    gate: Tensor<B, 3>,
}

impl<B: Backend> Modulation<B> {
    /// Rows `first` to `first + 2` of `[B, 6, inner]`.
    fn take(rows: &Tensor<B, 3>, first: usize) -> Self {
        let [shift, scale, gate] = [0, 1, 2].map(|i| rows.clone().narrow(1, first + i, 1));
        Self { shift, scale, gate }
    }
}

/// Attention with an RMS norm of queries and keys over all heads together.
#[derive(Debug, Clone)]
struct Attention<B: BurnBackend> {
    to_q: Linear<B>,
    to_k: Linear<B>,
    to_v: Linear<B>,
    to_out: Linear<B>,
    norm_q: RmsNorm<B>,
    norm_k: RmsNorm<B>,
    heads: usize,
}

impl<B: Backend> Attention<B> {
    fn load(config: &WanTransformerConfig, scope: &Scope<B>) -> Self {
        Self::load_with(config, scope, None)
    }

    /// For positions: queries and keys are normed to f32, since they are rotated before they are
    /// rounded.
    fn load_rotated(config: &WanTransformerConfig, scope: &Scope<B>) -> Self {
        Self::load_with(config, scope, Some(DType::F32))
    }

    /// `normed` is the dtype of queries and keys after their norm, if it is not the one of `to_q`.
    fn load_with(config: &WanTransformerConfig, scope: &Scope<B>, normed: Option<DType>) -> Self {
        let inner = config.inner_dim();
        let linear = |name| Linear::load(&scope.at(name), inner, inner);
        let (to_q, to_k, to_v, to_out) =
            (linear("to_q"), linear("to_k"), linear("to_v"), linear("to_out.0"));
        let dtype = normed.unwrap_or(to_q.dtype());
        let norm = |name| RmsNorm::load(&scope.at(name), inner, config.eps, dtype);
        let (norm_q, norm_k) = (norm("norm_q"), norm("norm_k"));
        Self { to_q, to_k, to_v, to_out, norm_q, norm_k, heads: config.num_attention_heads }
    }

    /// Queries are from `x` `[B, S, inner]`, keys and values from `source` `[B, L, inner]`.
    fn forward(
        &self,
        x: Tensor<B, 3>,
        source: Tensor<B, 3>,
        bias: Option<Tensor<B, 4>>,
        rope: Option<&RotaryEmbedding<B>>,
    ) -> Tensor<B, 3> {
        let [batch, tokens, inner] = x.dims();
        let q = self.norm_q.forward(self.to_q.forward(x));
        let k = self.norm_k.forward(self.to_k.forward(source.clone()));
        let v = self.to_v.forward(source);
        let [q, k] = [q, k].map(|y| match rope {
            Some(rope) => rope.rotate(self.split(y), v.dtype()),
            None => self.split(y),
        });
        let [q, k, v] = [q, k, self.split(v)].map(|y| y.swap_dims(1, 2));
        let scale = 1.0 / ((inner / self.heads) as f64).sqrt();
        let attended = B::wan_attention(AttentionArgs::new(q, k, v, scale).bias(bias));
        self.to_out.forward(attended.swap_dims(1, 2).reshape([batch, tokens, inner]))
    }

    /// `[B, S, inner]` to `[B, S, H, D]`.
    fn split(&self, y: Tensor<B, 3>) -> Tensor<B, 4> {
        let [batch, tokens, inner] = y.dims();
        y.reshape([batch, tokens, self.heads, inner / self.heads])
    }
}

/// Two linear layers with GELU between them.
#[derive(Debug, Clone)]
struct FeedForward<B: BurnBackend> {
    input: Linear<B>,
    output: Linear<B>,
}

impl<B: Backend> FeedForward<B> {
    fn load(config: &WanTransformerConfig, scope: &Scope<B>) -> Self {
        let inner = config.inner_dim();
        Self {
            input: Linear::load(&scope.at("net.0.proj"), inner, config.ffn_dim),
            output: Linear::load(&scope.at("net.2"), config.ffn_dim, inner),
        }
    }

    fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        self.output.forward(B::wan_gelu(self.input.forward(x)))
    }
}
