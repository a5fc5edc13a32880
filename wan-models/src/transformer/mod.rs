//! The Wan diffusion transformer for text-to-video.
//!
//! Sources: `wan/modules/model.py` of the original Wan, whose precision rules hold here (norms,
//! modulation, time embedding and the residual stream in f32), and
//! `diffusers/models/transformers/transformer_wan.py`, whose names the checkpoint has.

mod block;
mod config;
mod infer;
mod names;
mod original;
mod patches;
mod rope;

use burn::tensor::activation::silu;
use burn::tensor::{DType, Tensor, TensorData};
use wan_core::{Backend, BurnBackend, Denoiser, TextConditioning};

use block::{Block, Context};
pub use config::WanTransformerConfig;
pub use original::OriginalConfig;
use patches::{patchify, unpatchify};
pub use rope::RotaryEmbedding;

use crate::Probe;
use crate::layers::{Linear, ModulatedNorm};
use crate::load::{Network, Scope};
use crate::probe::Trace;

/// The transformer.
#[derive(Debug, Clone)]
pub struct WanTransformer<B: BurnBackend> {
    patch_embedding: Linear<B>,
    time_in: Linear<B>,
    time_out: Linear<B>,
    time_proj: Linear<B>,
    text_in: Linear<B>,
    text_out: Linear<B>,
    blocks: Vec<Block<B>>,
    /// `[1, 2, inner]`
    scale_shift_table: Tensor<B, 3>,
    norm_out: ModulatedNorm,
    proj_out: Linear<B>,
    config: WanTransformerConfig,
}

impl<B: Backend> WanTransformer<B> {
    /// Loads the transformer; `config` must be valid.
    pub fn load(config: &WanTransformerConfig, scope: &Scope<B>) -> Self {
        let inner = config.inner_dim();
        let condition = scope.at("condition_embedder");
        let time = condition.in_f32();
        let block = |i| Block::load(config, &scope.at(format_args!("blocks.{i}")));
        let patch_values = config.out_channels * config.patch_size.iter().product::<usize>();
        let patch_embedding = load_patch_embedding(config, &scope.at("patch_embedding"));
        let time_in = Linear::load(&time.at("time_embedder.linear_1"), config.freq_dim, inner);
        let time_out = Linear::load(&time.at("time_embedder.linear_2"), inner, inner);
        let time_proj = Linear::load(&time.at("time_proj"), inner, 6 * inner);
        let text = condition.at("text_embedder");
        let text_in = Linear::load(&text.at("linear_1"), config.text_dim, inner);
        let text_out = Linear::load(&text.at("linear_2"), inner, inner);
        let blocks = (0..config.num_layers).map(block).collect();
        let scale_shift_table = scope.in_f32().tensor("scale_shift_table", [1, 2, inner]);
        let proj_out = Linear::load(&scope.at("proj_out"), inner, patch_values);
        Self {
            patch_embedding,
            time_in,
            time_out,
            time_proj,
            text_in,
            text_out,
            blocks,
            scale_shift_table,
            norm_out: ModulatedNorm::new(config.eps, proj_out.dtype()),
            proj_out,
            config: config.clone(),
        }
    }

    /// The config it was loaded with.
    pub fn config(&self) -> &WanTransformerConfig {
        &self.config
    }

    /// Predicts the velocity of `latents` `[B, C, T, H, W]` at one timestep a sample. The result
    /// has the shape of `latents` and is f32.
    ///
    /// # Panics
    /// If the patch size does not divide the latents' size, or they have more positions along an
    /// axis than `rope_max_seq_len`.
    pub fn forward(
        &self,
        latents: Tensor<B, 5>,
        timestep: &[f32],
        text: &TextConditioning<B>,
        probe: &mut impl Probe<B>,
    ) -> Tensor<B, 5> {
        let (grid, mut trace) = (self.grid(&latents), Trace::new(probe));
        let rope = RotaryEmbedding::new(self.config.attention_head_dim, grid, &latents.device());
        trace.see("rope.cos", || rope.cos.clone());
        trace.see("rope.sin", || rope.sin.clone());

        let x = self.patch_embedding.forward(patchify(latents, self.config.patch_size));
        trace.see("patch_embedding", || unpatchify(x.clone(), [1, 1, 1], grid));
        let (temb, modulation) = self.embed_time(timestep, trace.at("cond"));
        let context = self.embed_text(text, trace.at("cond"));

        let mut x = x.cast(DType::F32);
        for (i, block) in self.blocks.iter().enumerate() {
            let trace = trace.at(format_args!("block.{i}"));
            x = block.forward(x, &context, modulation.clone(), &rope, trace);
        }

        trace.see("norm_out", || self.norm_out.unmodulated(x.clone()));
        let modulation = self.scale_shift_table.clone() + temb;
        let [shift, scale] = [0, 1].map(|i| modulation.clone().narrow(1, i, 1));
        let x = self.proj_out.forward(self.norm_out.forward(x, shift, scale));
        unpatchify(x.cast(DType::F32), self.config.patch_size, grid)
    }

    /// Tokens along time, height and width.
    fn grid(&self, latents: &Tensor<B, 5>) -> [usize; 3] {
        let [_, _, sizes @ ..] = latents.dims();
        for (size, patch) in sizes.into_iter().zip(self.config.patch_size) {
            assert!(size.is_multiple_of(patch), "a patch of {patch} does not divide {size}");
            let max = self.config.rope_max_seq_len;
            assert!(size / patch <= max, "{} positions, but at most {max}", size / patch);
        }
        std::array::from_fn(|i| sizes[i] / self.config.patch_size[i])
    }

    /// The time embedding `[B, 1, inner]`, which modulates the head, and its projection
    /// `[B, 6, inner]`, which modulates the blocks.
    fn embed_time(
        &self,
        timestep: &[f32],
        mut trace: Trace<'_, impl Probe<B>>,
    ) -> (Tensor<B, 3>, Tensor<B, 3>) {
        let (batch, inner, width) = (timestep.len(), self.config.inner_dim(), self.config.freq_dim);
        let sinusoid = TensorData::new(sinusoid(timestep, width), [batch, width]);
        let device = self.scale_shift_table.device();
        let sinusoid: Tensor<B, 2> = Tensor::from_data(sinusoid, (&device, DType::F32));
        let hidden = silu(self.time_in.forward(trace.seen("sinusoid", sinusoid)));
        let temb = trace.seen("temb", self.time_out.forward(hidden));
        let modulation = self.time_proj.forward(silu(temb.clone()));
        let modulation = trace.seen("timestep_proj", modulation);
        (temb.reshape([batch, 1, inner]), modulation.reshape([batch, 6, inner]))
    }

    fn embed_text(
        &self,
        text: &TextConditioning<B>,
        mut trace: Trace<'_, impl Probe<B>>,
    ) -> Context<B> {
        let hidden = B::wan_gelu(self.text_in.forward(text.embeddings.clone()));
        let embedded = trace.seen("text", self.text_out.forward(hidden));
        Context { text: embedded, bias: text.attention_bias() }
    }
}

impl<B: Backend> Network<B> for WanTransformer<B> {
    type Config = WanTransformerConfig;

    fn load(config: &WanTransformerConfig, scope: &Scope<B>) -> Self {
        Self::load(config, scope)
    }
}

impl<B: Backend> Denoiser<B> for WanTransformer<B> {
    fn denoise(
        &self,
        latents: Tensor<B, 5>,
        timestep: &[f32],
        text: &TextConditioning<B>,
    ) -> Tensor<B, 5> {
        self.forward(latents, timestep, text, &mut ())
    }
}

/// The convolution over patches as a matrix product: its kernel `[inner, C, pt, ph, pw]` with the
/// channels of a pixel together, as [`patchify`] has them.
fn load_patch_embedding<B: Backend>(config: &WanTransformerConfig, scope: &Scope<B>) -> Linear<B> {
    let (inner, channels, [pt, ph, pw]) =
        (config.inner_dim(), config.in_channels, config.patch_size);
    let kernel = scope.tensor("weight", [inner, channels, pt, ph, pw]);
    let [rows, channels, pt, ph, pw] = kernel.dims(); // placeholders while a checkpoint is checked
    let kernel = kernel.permute([0, 2, 3, 4, 1]).reshape([rows, pt * ph * pw * channels]);
    Linear::new(kernel, Some(scope.tensor("bias", [inner])))
}

/// Sinusoidal features of each timestep: the cosines, then the sines, computed in f64 as the
/// original does.
fn sinusoid(timestep: &[f32], width: usize) -> Vec<f32> {
    let half = width / 2;
    let frequency = |i: usize| 10_000f64.powf(-(i as f64) / half as f64);
    let mut features = Vec::with_capacity(timestep.len() * width);
    for &t in timestep {
        features.extend((0..half).map(|i| (f64::from(t) * frequency(i)).cos() as f32));
        features.extend((0..half).map(|i| (f64::from(t) * frequency(i)).sin() as f32));
    }
    features
}
