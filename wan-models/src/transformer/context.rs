//! Everything that is constant over a run.

use std::sync::OnceLock;

use burn::tensor::Tensor;
use wan_core::{Backend, BurnBackend};

use super::RotaryEmbedding;
use super::block::CrossAttention;

/// The text after the text embedder.
pub(super) struct EmbeddedText<B: BurnBackend> {
    /// `[B, L, inner]`
    pub(super) states: Tensor<B, 3>,
    /// `[1, 1, 1, L]`, see [`wan_core::TextConditioning::attention_bias`]
    pub(super) bias: Option<Tensor<B, 4>>,
}

/// The state of a [`Branch`](wan_core::Branch). Keys and values of a block are computed when it first
/// runs, while its weights are at hand.
pub(super) struct RunContext<B: BurnBackend> {
    pub(super) text: EmbeddedText<B>,
    pub(super) rope: RotaryEmbedding<B>,
    /// Tokens along time, height and width.
    pub(super) grid: [usize; 3],
    /// One for each block.
    keys_and_values: Vec<OnceLock<[Tensor<B, 4>; 2]>>,
}

impl<B: Backend> RunContext<B> {
    pub(super) fn new(
        text: EmbeddedText<B>,
        rope: RotaryEmbedding<B>,
        grid: [usize; 3],
        blocks: usize,
    ) -> Self {
        let keys_and_values = (0..blocks).map(|_| OnceLock::new()).collect();
        Self { text, rope, grid, keys_and_values }
    }

    /// The keys and values of the text in block `i`, `[B, H, L, D]` each.
    pub(super) fn keys_and_values(
        &self,
        i: usize,
        attention: &CrossAttention<B>,
    ) -> [Tensor<B, 4>; 2] {
        let compute = || attention.keys_and_values(self.text.states.clone());
        self.keys_and_values[i].get_or_init(compute).clone()
    }
}
