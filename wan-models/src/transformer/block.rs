use burn::tensor::{DType, Tensor};
use wan_core::backend::AttentionArgs;
use wan_core::{Backend, BurnBackend};

use super::context::Context;
use super::{RotaryEmbedding, WanTransformerConfig};
use crate::Probe;
use crate::layers::{LayerNorm, Linear, ModulatedNorm, RmsNorm};
use crate::load::Scope;
use crate::probe::Trace;

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
        mut trace: Trace<'_, impl Probe<B>>,
    ) -> Tensor<B, 3> {
        let modulation = self.scale_shift_table.clone() + time;
        let [attention, feed_forward] = [0, 3].map(|first| Modulation::take(&modulation, first));

        trace.see("norm1", || self.norm1.unmodulated(x.clone()));
        let normed = self.norm1.forward(x.clone(), attention.shift, attention.scale);
        let y = self.attn1.forward_rotated(normed, &context.rope);
        let x = B::wan_gated_residual(x, trace.seen("attn1", y), attention.gate);

        let normed = match &self.norm2 {
            Some(norm) => norm.forward(x.clone()),
            None => x.clone(),
        };
        let normed = trace.seen("norm2", normed);
        let y = self.attn2.forward_to(normed, context.text.clone(), context.bias.clone());
        let x = x + trace.seen("attn2", y).cast(DType::F32);

        let normed = self.norm3.forward(x.clone(), feed_forward.shift, feed_forward.scale);
        let y = self.ffn.forward(normed);
        let x = B::wan_gated_residual(x, trace.seen("ffn", y), feed_forward.gate);
        trace.seen("output", x)
    }

    /// The keys and values of cross-attention to text `[B, L, inner]`, `[B, H, L, D]` each.
    pub(super) fn keys_and_values(&self, text: Tensor<B, 3>) -> [Tensor<B, 4>; 2] {
        let keys = self.attn2.norm_k.forward(self.attn2.to_k.forward(text.clone()));
        [keys, self.attn2.to_v.forward(text)].map(|y| self.attn2.split(y).swap_dims(1, 2))
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

    /// Self-attention among tokens `[B, S, inner]` with positions.
    fn forward_rotated(&self, x: Tensor<B, 3>, rope: &RotaryEmbedding<B>) -> Tensor<B, 3> {
        let q = self.norm_q.forward(self.to_q.forward(x.clone()));
        let k = self.norm_k.forward(self.to_k.forward(x.clone()));
        let v = self.to_v.forward(x);
        let [q, k] = [q, k].map(|y| rope.rotate(self.split(y), v.dtype()));
        let [q, k, v] = [q, k, self.split(v)].map(|y| y.swap_dims(1, 2));
        self.attend(q, [k, v], None)
    }

    /// Cross-attention of tokens `[B, S, inner]` to keys and values `[B, H, L, D]`.
    fn forward_to(
        &self,
        x: Tensor<B, 3>,
        keys_and_values: [Tensor<B, 4>; 2],
        bias: Option<Tensor<B, 4>>,
    ) -> Tensor<B, 3> {
        let q = self.norm_q.forward(self.to_q.forward(x));
        self.attend(self.split(q).swap_dims(1, 2), keys_and_values, bias)
    }

    /// `q` is `[B, H, S, D]`; the result `[B, S, inner]`.
    fn attend(
        &self,
        q: Tensor<B, 4>,
        [k, v]: [Tensor<B, 4>; 2],
        bias: Option<Tensor<B, 4>>,
    ) -> Tensor<B, 3> {
        let [batch, heads, tokens, width] = q.dims();
        let scale = 1.0 / (width as f64).sqrt();
        let attended = B::wan_attention(AttentionArgs::new(q, k, v, scale).bias(bias));
        self.to_out.forward(attended.swap_dims(1, 2).reshape([batch, tokens, heads * width]))
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
