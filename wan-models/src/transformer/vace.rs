//! The blocks of VACE models that a control video goes through, and in which order they run.
//!
//! Source: `transformer_wan_vace.py` of diffusers. There all of them run before the blocks of the network; since they
//! depend on none of these, here each runs when its hint is needed, so that one hint is held at a time.

use burn::tensor::{DType, Tensor};
use wan_core::{Backend, BurnBackend, Control};

use super::block::LAYERS;
use super::context::EmbeddedControl;
use super::patches::patchify;
use super::{WanTransformerConfig, load_patch_embedding};
use crate::layers::Linear;
use crate::load::Scope;

/// A block of the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block {
    /// Of those that the residual stream goes through.
    Main(usize),
    /// Of those that the control video goes through.
    Control(usize),
}

/// The place of a layer in the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// A layer of a block, by its number in it.
    Layer(Block, usize),
    /// The layer that makes a hint of what came out of a block of the control.
    Hint(usize),
}

/// The places of all layers, in the order in which they run.
pub(super) fn places(config: &WanTransformerConfig) -> Vec<Place> {
    let hinted = config.vace_layers();
    let layers = |block| (0..LAYERS).map(move |layer| Place::Layer(block, layer));
    let mut places = Vec::new();
    for i in 0..config.num_layers {
        if let Some(control) = hinted.iter().position(|&layer| layer == i) {
            places.extend(layers(Block::Control(control)));
            places.push(Place::Hint(control));
        }
        places.extend(layers(Block::Main(i)));
    }
    places
}

impl Block {
    /// How its tensors' names begin.
    pub(super) fn name(self) -> String {
        match self {
            Self::Main(i) => format!("blocks.{i}"),
            Self::Control(i) => format!("vace_blocks.{i}"),
        }
    }
}

/// Brings a control video to the width of the network.
#[derive(Debug, Clone)]
pub(super) struct ControlEmbedder<B: BurnBackend> {
    patch_embedding: Linear<B>,
    proj_in: Linear<B>,
}

impl<B: Backend> ControlEmbedder<B> {
    pub(super) fn load(config: &WanTransformerConfig, scope: &Scope<B>) -> Self {
        let (inner, channels) = (config.inner_dim(), config.vace_channels());
        let patches = scope.at("vace_patch_embedding");
        Self {
            patch_embedding: load_patch_embedding(config, channels, &patches),
            proj_in: Linear::load(&scope.at("vace_blocks.0.proj_in"), inner, inner),
        }
    }

    pub(super) fn forward(
        &self,
        control: &Control<B>,
        config: &WanTransformerConfig,
    ) -> EmbeddedControl<B> {
        let patches = patchify(control.latents.clone(), config.patch_size);
        let tokens: Tensor<B, 3> = self.proj_in.forward(self.patch_embedding.forward(patches));
        let scales = (0..config.vace_layers().len()).map(|i| control.scale(i)).collect();
        EmbeddedControl { tokens: B::wan_cast(tokens, DType::F32), scales }
    }
}
