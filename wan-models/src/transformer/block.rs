use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};
use wan_core::{Backend, BurnBackend};

use super::{RotaryEmbedding, WanTransformerConfig};
use crate::Probe;
use crate::layers::Linear;
use crate::load::Scope;

/// The text after the text embedder, as every block attends to it.
pub(super) struct Context<B: BurnBackend> {
    /// `[B, L, inner]`
    pub(super) text: Tensor<B, 3>,
    /// `[1, 1, 1, L]`, see [`wan_core::TextConditioning::attention_bias`]
    pub(super) bias: Option<Tensor<B, 4>>,
}

/// Self-attention over the video, cross-attention to the text, feed-forward network.
#[derive(Module, Debug)]
pub(super) struct Block<B: BurnBackend> {
    /// `[1, 6, inner]`: what is added to the timestep's modulation.
    scale_shift_table: Param<Tensor<B, 3>>,
    attn1: Attention<B>,
    attn2: Attention<B>,
    norm2: Option<LayerNorm<B>>,
    ffn_in: Linear<B>,
    ffn_out: Linear<B>,
    eps: f64,
}

impl<B: Backend> Block<B> {
    pub(super) fn load(config: &WanTransformerConfig, scope: &Scope<B>) -> Self {
        let inner = config.inner_dim();
        let table = scope.in_f32().tensor("scale_shift_table", [1, 6, inner]);
        let norm2 = || LayerNorm::load(&scope.at("norm2"), inner);
        Self {
            scale_shift_table: Param::from_tensor(table),
            attn1: Attention::load(config, &scope.at("attn1")),
            attn2: Attention::load(config, &scope.at("attn2")),
            norm2: config.cross_attn_norm.then(norm2),
            ffn_in: Linear::load(&scope.at("ffn.net.0.proj"), inner, config.ffn_dim),
            ffn_out: Linear::load(&scope.at("ffn.net.2"), config.ffn_dim, inner),
            eps: config.eps,
        }
    }

    /// `x` is the residual stream `[B, S, inner]` in f32, `time` the timestep's modulation
    /// `[B, 6, inner]`. `see` is told the outputs of the sub-modules.
    pub(super) fn forward(
        &self,
        x: Tensor<B, 3>,
        context: &Context<B>,
        time: Tensor<B, 3>,
        rope: &RotaryEmbedding<B>,
        probe: &mut impl Probe<B>,
        name: &str,
    ) -> Tensor<B, 3> {
        let modulation = self.scale_shift_table.val() + time;
        let [attention, feed_forward] = [0, 3].map(|first| Modulation::take(&modulation, first));

        let dtype = self.ffn_in.dtype();
        let plain = |x: &Tensor<B, 3>| B::wan_layer_norm(x.clone(), None, self.eps, DType::F32);
        probe.see(&format!("{name}.norm1"), || plain(&x));
        let normed = attention.norm(x.clone(), self.eps, dtype);
        let y = self.attn1.forward(normed.clone(), normed, None, Some(rope));
        probe.see(&format!("{name}.attn1"), || y.clone());
        let x = B::wan_gated_residual(x, y, attention.gate);

        let normed = match &self.norm2 {
            Some(norm) => norm.forward(x.clone(), self.eps, dtype),
            None => x.clone(),
        };
        probe.see(&format!("{name}.norm2"), || normed.clone());
        let y = self.attn2.forward(normed, context.text.clone(), context.bias.clone(), None);
        probe.see(&format!("{name}.attn2"), || y.clone());
        let x = x + y.cast(DType::F32);

        let normed = feed_forward.norm(x.clone(), self.eps, dtype);
        let y = self.ffn_out.forward(B::wan_gelu(self.ffn_in.forward(normed)));
        probe.see(&format!("{name}.ffn"), || y.clone());
        let x = B::wan_gated_residual(x, y, feed_forward.gate);
        probe.see(&format!("{name}.output"), || x.clone());
        x
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

    fn norm(&self, x: Tensor<B, 3>, eps: f64, dtype: DType) -> Tensor<B, 3> {
        B::wan_modulated_norm(x, self.shift.clone(), self.scale.clone(), eps, dtype)
    }
}

/// Attention with an RMS norm of queries and keys over all heads together.
#[derive(Module, Debug)]
struct Attention<B: BurnBackend> {
    to_q: Linear<B>,
    to_k: Linear<B>,
    to_v: Linear<B>,
    to_out: Linear<B>,
    norm_q: Param<Tensor<B, 1>>,
    norm_k: Param<Tensor<B, 1>>,
    heads: usize,
    eps: f64,
}

impl<B: Backend> Attention<B> {
    fn load(config: &WanTransformerConfig, scope: &Scope<B>) -> Self {
        let inner = config.inner_dim();
        let norm =
            |name: &str| Param::from_tensor(scope.in_f32().at(name).tensor("weight", [inner]));
        Self {
            to_q: Linear::load(&scope.at("to_q"), inner, inner),
            to_k: Linear::load(&scope.at("to_k"), inner, inner),
            to_v: Linear::load(&scope.at("to_v"), inner, inner),
            to_out: Linear::load(&scope.at("to_out.0"), inner, inner),
            norm_q: norm("norm_q"),
            norm_k: norm("norm_k"),
            heads: config.num_attention_heads,
            eps: config.eps,
        }
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
        let q = self.to_q.forward(x);
        let k = self.to_k.forward(source.clone());
        let v = self.to_v.forward(source);
        let dtype = q.dtype();
        let split = |y: Tensor<B, 3>| {
            let [batch, tokens, inner] = y.dims();
            y.reshape([batch, tokens, self.heads, inner / self.heads])
        };
        // Normed, and rotated if there are positions, without rounding in between.
        let place = |y: Tensor<B, 3>, weight: Tensor<B, 1>| match rope {
            Some(rope) => {
                let normed = B::wan_rms_norm(y, weight, self.eps, DType::F32);
                rope.rotate(split(normed), dtype)
            }
            None => split(B::wan_rms_norm(y, weight, self.eps, dtype)),
        };
        let (q, k) = (place(q, self.norm_q.val()), place(k, self.norm_k.val()));
        let [q, k, v] = [q, k, split(v)].map(|y| y.swap_dims(1, 2));
        let scale = 1.0 / ((inner / self.heads) as f64).sqrt();
        let attended = B::wan_attention(q, k, v, bias, scale);
        self.to_out.forward(attended.swap_dims(1, 2).reshape([batch, tokens, inner]))
    }
}

#[derive(Module, Debug)]
struct LayerNorm<B: BurnBackend> {
    weight: Param<Tensor<B, 1>>,
    bias: Param<Tensor<B, 1>>,
}

impl<B: Backend> LayerNorm<B> {
    fn load(scope: &Scope<B>, width: usize) -> Self {
        let tensor = |name| Param::from_tensor(scope.in_f32().tensor(name, [width]));
        Self { weight: tensor("weight"), bias: tensor("bias") }
    }

    fn forward(&self, x: Tensor<B, 3>, eps: f64, dtype: DType) -> Tensor<B, 3> {
        B::wan_layer_norm(x, Some((self.weight.val(), self.bias.val())), eps, dtype)
    }
}
