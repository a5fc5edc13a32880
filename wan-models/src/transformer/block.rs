use burn::tensor::{DType, Tensor};
use wan_core::backend::AttentionArgs;
use wan_core::{Backend, BurnBackend};

use super::causal::Past;
use super::context::{Embedded, KeysAndValues, RunContext};
use super::image::ImageKeys;
use super::time::Time;
use super::vace::Place;
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
    /// What is added to the residual stream of what came out of a block for the control.
    Hint(Linear<B>),
}

/// How many layers a block has.
pub(super) const LAYERS: usize = 3;

/// What a layer is given beside the residual stream.
pub(super) struct LayerInput<'a, B: BurnBackend> {
    pub(super) context: &'a RunContext<B>,
    pub(super) time: &'a Time<B>,
    /// The number of the layer among all.
    pub(super) layer: usize,
    /// What self-attention attends to before the tokens of the residual stream, in a causal pass.
    pub(super) past: Option<Past<'a, B>>,
}

impl<B: Backend> Layer<B> {
    /// Loads the layer of a place.
    pub(super) fn load(config: &WanTransformerConfig, scope: &Scope<B>, place: Place) -> Self {
        let (block, layer) = match place {
            Place::Layer(block, layer) => (block, layer),
            Place::Hint(i) => {
                let scope = scope.at(format_args!("vace_blocks.{i}.proj_out"));
                return Self::Hint(Linear::load(&scope, config.inner_dim(), config.inner_dim()));
            }
        };
        let scope = scope.at(block.name());
        match layer {
            0 => Self::SelfAttention(SelfAttention::load(config, &scope)),
            1 => Self::CrossAttention(CrossAttention::load(config, &scope)),
            _ => Self::FeedForward(FeedForward::load(config, &scope)),
        }
    }

    /// `x` is the residual stream `[B, S, inner]` in f32; so is the result, or the hint.
    pub(super) fn forward(
        &self,
        x: Tensor<B, 3>,
        input: LayerInput<B>,
        trace: Trace<'_, impl Probe<B>>,
    ) -> Tensor<B, 3> {
        match self {
            Self::SelfAttention(layer) => layer.forward(x, input, trace),
            Self::CrossAttention(layer) => layer.forward(x, input, trace),
            Self::FeedForward(layer) => layer.forward(x, input, trace),
            Self::Hint(layer) => B::wan_cast(layer.forward(x), DType::F32),
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
        input: LayerInput<B>,
        mut trace: Trace<'_, impl Probe<B>>,
    ) -> Tensor<B, 3> {
        let modulation = input.time.modulation(&self.scale_shift_table, 0);
        trace.see("norm1", || self.norm.unmodulated(x.clone()));
        let normed = modulation.norm(&self.norm, x.clone());
        let y = self.attention.forward_rotated(normed, &input.context.rope, input.past);
        modulation.add_gated(x, trace.seen("attn1", y))
    }
}

/// Cross-attention to the text, and in image-to-video models to an image: one after the other, added up.
#[derive(Debug)]
pub(super) struct CrossAttention<B: BurnBackend> {
    norm: Option<LayerNorm<B>>,
    attention: Attention<B>,
    image: Option<ImageKeys<B>>,
}

impl<B: Backend> CrossAttention<B> {
    fn load(config: &WanTransformerConfig, scope: &Scope<B>) -> Self {
        let attention = Attention::load(config, &scope.at("attn2"));
        let (inner, dtype) = (config.inner_dim(), attention.to_q.dtype());
        let norm = || LayerNorm::load(&scope.at("norm2"), inner, config.eps, dtype);
        let image = || ImageKeys::load(config, &scope.at("attn2"));
        Self {
            norm: config.cross_attn_norm.then(norm),
            image: config.image_dim.is_some().then(image),
            attention,
        }
    }

    fn forward(
        &self,
        x: Tensor<B, 3>,
        input: LayerInput<B>,
        mut trace: Trace<'_, impl Probe<B>>,
    ) -> Tensor<B, 3> {
        let normed = match &self.norm {
            Some(norm) => norm.forward(x.clone()),
            None => x.clone(),
        };
        let normed = trace.seen("norm2", normed);
        let LayerInput { context, layer, .. } = input;
        let (attended, bias) =
            (context.keys_and_values(layer, self), context.embedded.bias.clone());
        let y = self.attention.forward_to(normed, attended, bias);
        B::wan_add(x, trace.seen("attn2", y))
    }

    /// The keys and values of a conditioning.
    pub(super) fn keys_and_values(&self, embedded: &Embedded<B>) -> KeysAndValues<B> {
        let Attention { to_k, to_v, norm_k, .. } = &self.attention;
        let heads = |y: Tensor<B, 3>| self.attention.split(y).swap_dims(1, 2);
        let pair = |[to_k, to_v]: [&Linear<B>; 2], norm_k: &RmsNorm<B>, x: &Tensor<B, 3>| {
            [norm_k.forward(to_k.forward(x.clone())), to_v.forward(x.clone())].map(heads)
        };
        let image = self.image.as_ref().zip(embedded.image.as_ref());
        KeysAndValues {
            text: pair([to_k, to_v], norm_k, &embedded.text),
            image: image.map(|(keys, x)| pair([&keys.to_k, &keys.to_v], &keys.norm_k, x)),
        }
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
        input: LayerInput<B>,
        mut trace: Trace<'_, impl Probe<B>>,
    ) -> Tensor<B, 3> {
        let modulation = input.time.modulation(&self.scale_shift_table, 3);
        let normed = modulation.norm(&self.norm, x.clone());
        let y = self.output.forward(B::wan_gelu(self.input.forward(normed)));
        let x = modulation.add_gated(x, trace.seen("ffn", y));
        trace.seen("output", x)
    }
}

fn load_table<B: Backend>(config: &WanTransformerConfig, scope: &Scope<B>) -> Tensor<B, 3> {
    scope.in_f32().tensor("scale_shift_table", [1, 6, config.inner_dim()])
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

    /// Self-attention among tokens `[B, S, inner]` with positions, and to what is before them.
    fn forward_rotated(
        &self,
        x: Tensor<B, 3>,
        rope: &RotaryEmbedding<B>,
        mut past: Option<Past<B>>,
    ) -> Tensor<B, 3> {
        let q = self.norm_q.forward(self.to_q.forward(x.clone()));
        let k = self.norm_k.forward(self.to_k.forward(x.clone()));
        let v = self.to_v.forward(x);
        let [q, k, v] = [q, k, v].map(|y| self.split(y));
        if let Some(past) = &mut past {
            past.keep(&k, &v);
        }
        let rope = past.as_ref().map_or(rope, Past::rotation);
        let [q, k] = [q, k].map(|y| rope.rotate(y, v.dtype()));
        let [k, v] = match past {
            Some(past) => past.before([k, v]),
            None => [k, v],
        };
        let [q, k, v] = [q, k, v].map(|y| y.swap_dims(1, 2));
        self.to_out.forward(attend(q, [k, v], None))
    }

    /// Cross-attention of tokens `[B, S, inner]`; `bias` is that of the text.
    fn forward_to(
        &self,
        x: Tensor<B, 3>,
        KeysAndValues { text, image }: KeysAndValues<B>,
        bias: Option<Tensor<B, 4>>,
    ) -> Tensor<B, 3> {
        let q = self.norm_q.forward(self.to_q.forward(x));
        let q = self.split(q).swap_dims(1, 2);
        let attended = match image {
            None => attend(q, text, bias),
            Some(image) => B::wan_add(attend(q.clone(), text, bias), attend(q, image, None)),
        };
        self.to_out.forward(attended)
    }

    /// `[B, S, inner]` to `[B, S, H, D]`.
    fn split(&self, y: Tensor<B, 3>) -> Tensor<B, 4> {
        let [batch, tokens, inner] = y.dims();
        y.reshape([batch, tokens, self.heads, inner / self.heads])
    }
}

/// Queries `[B, H, S, D]` attend to keys and values; the result is `[B, S, H * D]`.
fn attend<B: Backend>(
    q: Tensor<B, 4>,
    [k, v]: [Tensor<B, 4>; 2],
    bias: Option<Tensor<B, 4>>,
) -> Tensor<B, 3> {
    let [batch, heads, tokens, width] = q.dims();
    let scale = 1.0 / (width as f64).sqrt();
    let attended = B::wan_attention(AttentionArgs::new(q, k, v, scale).bias(bias));
    attended.swap_dims(1, 2).reshape([batch, tokens, heads * width])
}
