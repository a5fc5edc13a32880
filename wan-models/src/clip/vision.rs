//! The vision tower: a vision transformer (Dosovitskiy et al. 2020) with a norm before its layers.
//!
//! Source: `transformers/models/clip/modeling_clip.py`, and `VisionTransformer` in `wan/modules/clip.py` of
//! the original Wan.

use burn::tensor::{DType, Tensor};
use wan_core::{Backend, BurnBackend, CancelToken};

use super::activation::Activation;
use super::layers::{ClipLayer, Sizes};
use super::{ClipError, ClipVisionConfig};
use crate::Probe;
use crate::layers::{LayerNorm, Linear};
use crate::load::{Layers, Network, Scope};
use crate::probe::Trace;

/// The vision tower.
#[derive(Debug, Clone)]
pub struct ClipVisionEncoder<B: BurnBackend> {
    /// A convolution whose stride is the size of its kernel: a product on patches.
    patch_embedding: Linear<B>,
    /// `[D]`
    class_embedding: Tensor<B, 1>,
    /// `[tokens, D]`
    position_embedding: Tensor<B, 2>,
    /// So spelled in checkpoints.
    pre_layrnorm: LayerNorm<B>,
    layers: Layers<B, ClipLayer<B>>,
    post_layernorm: LayerNorm<B>,
    visual_projection: Option<Linear<B>>,
    config: ClipVisionConfig,
}

impl<B: Backend> ClipVisionEncoder<B> {
    /// Loads the tower; `config` must be valid.
    pub fn load(config: &ClipVisionConfig, scope: &Scope<B>) -> Self {
        let (width, patch, channels) = (config.hidden_size, config.patch_size, config.num_channels);
        let tower = scope.at("vision_model");
        let embeddings = tower.at("embeddings");
        let stored = [width, channels, patch, patch];
        let kernel = embeddings.at("patch_embedding");
        let kernel = kernel.reshaped("weight", &stored, [width, channels * patch * patch]);
        let positions = [config.tokens(), width];
        let in_f32 = embeddings.in_f32();
        let norm =
            |name| LayerNorm::load(&tower.at(name), width, config.layer_norm_eps, DType::F32);
        let layers = {
            let sizes = sizes(config);
            let load = move |scope: &Scope<B>, i| ClipLayer::load(&sizes, &scope.at(i));
            tower.at("encoder.layers").layers(config.num_hidden_layers, load)
        };
        let projection = || {
            let scope = scope.at("visual_projection");
            Linear::load_without_bias(&scope, width, config.projection_dim)
        };
        Self {
            patch_embedding: Linear::new(kernel, None),
            class_embedding: in_f32.tensor("class_embedding", [width]),
            position_embedding: in_f32.tensor("position_embedding.weight", positions),
            pre_layrnorm: norm("pre_layrnorm"),
            layers,
            post_layernorm: norm("post_layernorm"),
            visual_projection: config.has_projection().then(projection),
            config: config.clone(),
        }
    }

    /// The sizes of the tower.
    pub fn config(&self) -> &ClipVisionConfig {
        &self.config
    }

    /// The states `[N, tokens, hidden_size]` of images `[N, 3, H, W]` in f32 after all layers but the
    /// `skipped` last ones, without the norm behind them: `hidden_states[-1 - skipped]` of the reference.
    /// Wan 2.1's image-to-video conditions on those of the last layer but one.
    ///
    /// # Errors
    /// If the images have another size, weights cannot be read, or the work is cancelled.
    pub fn hidden_states(
        &self,
        pixels: Tensor<B, 4>,
        skipped: usize,
        cancel: &CancelToken,
        probe: &mut impl Probe<B>,
    ) -> Result<Tensor<B, 3>, ClipError> {
        let mut trace = Trace::new(probe);
        let embedded = self.embed_patches(pixels)?;
        let mut x = trace.seen("hidden_states.0", self.pre_layrnorm.forward(embedded));
        let last = self.config.num_hidden_layers.saturating_sub(skipped);
        self.layers.for_each::<ClipError>(cancel, |i, layer| {
            if i < last {
                cancel.check()?;
                let y = layer.forward(x.clone(), None);
                x = trace.seen(format_args!("hidden_states.{}", i + 1), y);
            }
            Ok(())
        })?;
        Ok(x)
    }

    /// The embeddings `[N, projection_dim]` of images `[N, 3, H, W]` in f32: the class token after the last
    /// layer, normed and projected. Without a projection, `[N, hidden_size]`.
    ///
    /// # Errors
    /// As for [`hidden_states`](Self::hidden_states).
    pub fn embed(
        &self,
        pixels: Tensor<B, 4>,
        cancel: &CancelToken,
        probe: &mut impl Probe<B>,
    ) -> Result<Tensor<B, 2>, ClipError> {
        let states = self.hidden_states(pixels, 0, cancel, probe)?;
        let [images, _, width] = states.dims();
        let class = states.slice([0..images, 0..1, 0..width]);
        let pooled = Trace::new(probe).seen("pooler_output", self.post_layernorm.forward(class));
        let projected = match &self.visual_projection {
            Some(projection) => B::wan_cast(projection.forward(pooled), DType::F32),
            None => pooled,
        };
        Ok(projected.squeeze_dim(1))
    }

    /// The class token and the patches with their positions, `[N, tokens, D]` in f32.
    fn embed_patches(&self, pixels: Tensor<B, 4>) -> Result<Tensor<B, 3>, ClipError> {
        let (size, channels) = (self.config.image_size, self.config.num_channels);
        let found = pixels.dims();
        if found[0] == 0 || found[1..] != [channels, size, size] {
            return Err(ClipError::ImageShape { found, expected: [channels, size, size] });
        }
        let patches = self.patch_embedding.forward(patchify(pixels, self.config.patch_size));
        let patches = B::wan_cast(patches, DType::F32);
        let [images, _, width] = patches.dims();
        let class = self.class_embedding.clone().reshape([1, 1, width]);
        let tokens = Tensor::cat(vec![class.expand([images, 1, width]), patches], 1);
        Ok(tokens + self.position_embedding.clone().unsqueeze())
    }
}

impl<B: Backend> Network<B> for ClipVisionEncoder<B> {
    type Config = ClipVisionConfig;

    fn load(config: &ClipVisionConfig, scope: &Scope<B>) -> Self {
        Self::load(config, scope)
    }
}

fn sizes(config: &ClipVisionConfig) -> Sizes {
    Sizes {
        width: config.hidden_size,
        inner: config.intermediate_size,
        heads: config.num_attention_heads,
        eps: config.layer_norm_eps,
        activation: Activation::named(&config.hidden_act),
    }
}

/// Cuts images `[N, C, H, W]` into patches, row by row: `[N, patches, C * p * p]`.
fn patchify<B: Backend>(pixels: Tensor<B, 4>, patch: usize) -> Tensor<B, 3> {
    let [images, channels, height, width] = pixels.dims();
    let [rows, columns] = [height / patch, width / patch];
    let cut = pixels.reshape([images, channels, rows, patch, columns, patch]);
    let patches = cut.permute([0, 2, 4, 1, 3, 5]);
    patches.reshape([images, rows * columns, channels * patch * patch])
}
