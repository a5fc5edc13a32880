//! The branch of image-to-video models for the states of an image encoder.

use burn::tensor::activation::gelu;
use burn::tensor::{DType, Tensor};
use wan_core::{Backend, BurnBackend};

use super::WanTransformerConfig;
use crate::layers::{LayerNorm, Linear, RmsNorm};
use crate::load::Scope;

/// Epsilon of the embedder's norms, which is torch's default and in no config.
const EPS: f64 = 1e-5;

/// Brings the states of an image encoder to the width of the network.
#[derive(Debug, Clone)]
pub(super) struct ImageEmbedder<B: BurnBackend> {
    /// `[1, N, image_dim]`: which of two frames a state is of.
    positions: Option<Tensor<B, 3>>,
    norm_in: LayerNorm<B>,
    linear_in: Linear<B>,
    linear_out: Linear<B>,
    norm_out: LayerNorm<B>,
}

impl<B: Backend> ImageEmbedder<B> {
    /// `width` is that of the states.
    pub(super) fn load(config: &WanTransformerConfig, width: usize, scope: &Scope<B>) -> Self {
        let inner = config.inner_dim();
        let linear_in = Linear::load(&scope.at("ff.net.0.proj"), width, width);
        let linear_out = Linear::load(&scope.at("ff.net.2"), width, inner);
        let position = |rows| scope.in_f32().tensor("pos_embed", [1, rows, width]);
        Self {
            positions: config.pos_embed_seq_len.map(position),
            norm_in: LayerNorm::load(&scope.at("norm1"), width, EPS, linear_in.dtype()),
            norm_out: LayerNorm::load(&scope.at("norm2"), inner, EPS, linear_out.dtype()),
            linear_in,
            linear_out,
        }
    }

    /// States `[B, N, image_dim]` to `[B, N, inner]`.
    ///
    /// # Panics
    /// If there are positions, and not as many as states.
    pub(super) fn forward(&self, states: Tensor<B, 3>) -> Tensor<B, 3> {
        let mut x = B::wan_cast(states, DType::F32);
        if let Some(positions) = &self.positions {
            assert_eq!(x.dims()[1], positions.dims()[1], "states of images, and their positions");
            x = x + positions.clone();
        }
        // The exact GELU: that of the text has the tanh approximation.
        let hidden = gelu(self.linear_in.forward(self.norm_in.forward(x)));
        self.norm_out.forward(self.linear_out.forward(hidden))
    }
}

/// The layers of a cross-attention that make keys and values of an image.
#[derive(Debug)]
pub(super) struct ImageKeys<B: BurnBackend> {
    pub(super) to_k: Linear<B>,
    pub(super) to_v: Linear<B>,
    pub(super) norm_k: RmsNorm<B>,
}

impl<B: Backend> ImageKeys<B> {
    pub(super) fn load(config: &WanTransformerConfig, scope: &Scope<B>) -> Self {
        let inner = config.inner_dim();
        let linear = |name| Linear::load(&scope.at(name), inner, inner);
        let (to_k, to_v) = (linear("add_k_proj"), linear("add_v_proj"));
        let norm_k = RmsNorm::load(&scope.at("norm_added_k"), inner, config.eps, to_k.dtype());
        Self { to_k, to_v, norm_k }
    }
}
