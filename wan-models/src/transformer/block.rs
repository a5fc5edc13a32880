use burn::tensor::{DType, Tensor};
use wan_core::backend::AttentionArgs;
use wan_core::{Backend, BurnBackend};

use super::context::RunContext;
use super::{RotaryEmbedding, WanTransformerConfig};
use crate::Probe;
use crate::layers::{LayerNorm, Linear, ModulatedNorm, RmsNorm};
use crate::load::Scope;
use crate::probe::Trace;

/// The layers of a block: self-attention over the video, cross-attention to the text, feed-forward network;
/// each after a norm and added to the residual stream.
///
/// Where weights are streamed, they come a layer at a time.
#[derive(Debug)]
pub(super) enum Layer<B: BurnBackend> {
    SelfAttention(SelfAttention<B>),
    CrossAttention(CrossAttention<B>),
    FeedForward(FeedForward<B>),
}

/// How many layers a block has.
pub(super) const LAYERS: usize = 3;

/// What a layer is given beside the residual stream.
pub(super) struct LayerInput<'a, B: BurnBackend> {
    pub(super) context: &'a RunContext<B>,
    /// The timestep's modulation, `[B, 6, inner]`.
    pub(super) time: Tensor<B, 3>,
    /// The block that the layer is of.
    pub(super) block: usize,
}

impl<B: Backend> Layer<B> {
    /// Loads layer `i` of all blocks.
    pub(super) fn load(config: &WanTransformerConfig, scope: &Scope<B>, i: usize) -> Self {
        let scope = scope.at(format_args!("blocks.{}", i / LAYERS));
        match i % LAYERS {
            0 => Self::SelfAttention(SelfAttention::load(config, &scope)),
            1 => Self::CrossAttention(CrossAttention::load(config, &scope)),
            _ => Self::FeedForward(FeedForward::load(config, &scope)),
        }
    }

    /// `x` is the residual stream `[B, S, inner]` in f32.
    pub(super) fn forward(
        &self,
        x: Tensor<B, 3>,
        input: &LayerInput<B>,
        trace: Trace<'_, impl Probe<B>>,
    ) -> Tensor<B, 3> {
        match self {
            Self::SelfAttention(layer) => layer.forward(x, input, trace),
            Self::CrossAttention(layer) => layer.forward(x, input, trace),
            Self::FeedForward(layer) => layer.forward(x, input, trace),
        }
    }
}

/// Self-attention over the video.
#[derive(Debug)]
pub(super) struct SelfAttention<B: BurnBackend> {
    /// `[1, 6, inner]`: what is added to the timestep's modulation, the first three rows here.
    scale_shift_table: Tensor<B, 3>,
    norm: ModulatedNorm,
    attention: Attention<B>,
}

impl<B: Backend> SelfAttention<B> {
    fn load(config: &WanTransformerConfig, scope: &Scope<B>) -> Self {
        let attention = Attention::load_rotated(config, &scope.at("attn1"));
        Self {
            scale_shift_table: load_table(config, scope),
            norm: ModulatedNorm::new(config.eps, attention.to_q.dtype()),
            attention,
        }
    }

    fn forward(
        &self,
        x: Tensor<B, 3>,
        input: &LayerInput<B>,
        mut trace: Trace<'_, impl Probe<B>>,
    ) -> Tensor<B, 3> {
        let modulation = Modulation::take(&self.scale_shift_table, &input.time, 0);
        trace.see("norm1", || self.norm.unmodulated(x.clone()));
        let normed = self.norm.forward(x.clone(), modulation.shift, modulation.scale);
        let y = self.attention.forward_rotated(normed, &input.context.rope);
        B::wan_gated_residual(x, trace.seen("attn1", y), modulation.gate)
    }
}

/// Cross-attention to the text.
#[derive(Debug)]
pub(super) struct CrossAttention<B: BurnBackend> {
    norm: Option<LayerNorm<B>>,
    attention: Attention<B>,
}

impl<B: Backend> CrossAttention<B> {
    fn load(config: &WanTransformerConfig, scope: &Scope<B>) -> Self {
        let attention = Attention::load(config, &scope.at("attn2"));
        let (inner, dtype) = (config.inner_dim(), attention.to_q.dtype());
        let norm = || LayerNorm::load(&scope.at("norm2"), inner, config.eps, dtype);
        Self { norm: config.cross_attn_norm.then(norm), attention }
    }

    fn forward(
        &self,
        x: Tensor<B, 3>,
        input: &LayerInput<B>,
        mut trace: Trace<'_, impl Probe<B>>,
    ) -> Tensor<B, 3> {
        let normed = match &self.norm {
            Some(norm) => norm.forward(x.clone()),
            None => x.clone(),
        };
        let normed = trace.seen("norm2", normed);
        let LayerInput { context, block, .. } = input;
        let (text, bias) = (context.keys_and_values(*block, self), context.text.bias.clone());
        let y = self.attention.forward_to(normed, text, bias);
        x + B::wan_cast(trace.seen("attn2", y), DType::F32)
    }

    /// The keys and values of a text `[B, L, inner]`, `[B, H, L, D]` each.
    pub(super) fn keys_and_values(&self, text: Tensor<B, 3>) -> [Tensor<B, 4>; 2] {
        let attention = &self.attention;
        let keys = attention.norm_k.forward(attention.to_k.forward(text.clone()));
        [keys, attention.to_v.forward(text)].map(|y| attention.split(y).swap_dims(1, 2))
    }
}

/// Two linear layers with GELU between them.
#[derive(Debug)]
pub(super) struct FeedForward<B: BurnBackend> {
    /// `[1, 6, inner]`: what is added to the timestep's modulation, the last three rows here.
    scale_shift_table: Tensor<B, 3>,
    norm: ModulatedNorm,
    input: Linear<B>,
    output: Linear<B>,
}

impl<B: Backend> FeedForward<B> {
    fn load(config: &WanTransformerConfig, scope: &Scope<B>) -> Self {
        let (inner, ffn) = (config.inner_dim(), config.ffn_dim);
        let input = Linear::load(&scope.at("ffn.net.0.proj"), inner, ffn);
        Self {
            scale_shift_table: load_table(config, scope),
            norm: ModulatedNorm::new(config.eps, input.dtype()),
            input,
            output: Linear::load(&scope.at("ffn.net.2"), ffn, inner),
        }
    }

    fn forward(
        &self,
        x: Tensor<B, 3>,
        input: &LayerInput<B>,
        mut trace: Trace<'_, impl Probe<B>>,
    ) -> Tensor<B, 3> {
        let modulation = Modulation::take(&self.scale_shift_table, &input.time, 3);
        let normed = self.norm.forward(x.clone(), modulation.shift, modulation.scale);
        let y = self.output.forward(B::wan_gelu(self.input.forward(normed)));
        let x = B::wan_gated_residual(x, trace.seen("ffn", y), modulation.gate);
        trace.seen("output", x)
    }
}

fn load_table<B: Backend>(config: &WanTransformerConfig, scope: &Scope<B>) -> Tensor<B, 3> {
    scope.in_f32().tensor("scale_shift_table", [1, 6, config.inner_dim()])
}

/// How the timestep changes one branch of a block; each `[B, 1, inner]` in f32.
struct Modulation<B: BurnBackend> {
    shift: Tensor<B, 3>,
    scale: Tensor<B, 3>,
    gate: Tensor<B, 3>,
}

impl<B: Backend> Modulation<B> {
    /// Rows `first` to `first + 2` of a table `[1, 6, inner]` and the timestep's modulation
    /// `[B, 6, inner]` together.
    fn take(table: &Tensor<B, 3>, time: &Tensor<B, 3>, first: usize) -> Self {
        let rows = table.clone().narrow(1, first, 3) + time.clone().narrow(1, first, 3);
        let [shift, scale, gate] = [0, 1, 2].map(|i| rows.clone().narrow(1, i, 1));
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
