//! Everything that is constant over a run.

use std::sync::OnceLock;

use burn::tensor::Tensor;
use wan_core::{Backend, BurnBackend};

use super::RotaryEmbedding;
use super::block::CrossAttention;

/// A conditioning after the embedders.
pub(super) struct Embedded<B: BurnBackend> {
    /// The text, `[B, L, inner]`.
    pub(super) text: Tensor<B, 3>,
    /// `[1, 1, 1, L]`, see [`wan_core::TextConditioning::attention_bias`]
    pub(super) bias: Option<Tensor<B, 4>>,
    /// The states of images, `[B, N, inner]`.
    pub(super) image: Option<Tensor<B, 3>>,
    /// Channels beside those of the latents, `[B, C, T, H, W]`.
    pub(super) channels: Option<Tensor<B, 5>>,
    pub(super) control: Option<EmbeddedControl<B>>,
}

/// A control video after its embedder.
pub(super) struct EmbeddedControl<B: BurnBackend> {
    /// `[B, S, inner]`
    pub(super) tokens: Tensor<B, 3>,
    /// How strongly each of its blocks is felt.
    pub(super) scales: Vec<f32>,
}

/// The state of a [`Branch`](wan_core::Branch). Keys and values of a block are computed when it first
/// runs, while its weights are at hand.
pub(super) struct RunContext<B: BurnBackend> {
    pub(super) embedded: Embedded<B>,
    pub(super) rope: RotaryEmbedding<B>,
    /// Tokens along time, height and width.
    pub(super) grid: [usize; 3],
    /// One for each layer, of which those of cross-attention have some.
    keys_and_values: Vec<OnceLock<KeysAndValues<B>>>,
}

/// The keys and values that a block attends to, `[B, H, L, D]` each.
#[derive(Clone)]
pub(super) struct KeysAndValues<B: BurnBackend> {
    pub(super) text: [Tensor<B, 4>; 2],
    pub(super) image: Option<[Tensor<B, 4>; 2]>,
}

impl<B: Backend> RunContext<B> {
    pub(super) fn new(
        embedded: Embedded<B>,
        rope: RotaryEmbedding<B>,
        grid: [usize; 3],
        layers: usize,
    ) -> Self {
        let keys_and_values = (0..layers).map(|_| OnceLock::new()).collect();
        Self { embedded, rope, grid, keys_and_values }
    }

    /// What the cross-attention that is layer `i` attends to.
    pub(super) fn keys_and_values(
        &self,
        i: usize,
        attention: &CrossAttention<B>,
    ) -> KeysAndValues<B> {
        let compute = || attention.keys_and_values(&self.embedded);
        self.keys_and_values[i].get_or_init(compute).clone()
    }

    /// How strongly block `i` of the control is felt.
    pub(super) fn control_scale(&self, i: usize) -> f32 {
        self.embedded.control.as_ref().map_or(1.0, |control| control.scales[i])
    }
}
