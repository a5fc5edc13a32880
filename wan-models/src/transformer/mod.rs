//! The Wan diffusion transformer for text-to-video.
//!
//! Sources: `wan/modules/model.py` of the original Wan, whose precision rules hold here (norms,
//! modulation, time embedding and the residual stream in f32), and
//! `diffusers/models/transformers/transformer_wan.py`, whose names the checkpoint has.

mod block;
mod config;
mod context;
mod infer;
mod names;
mod original;
mod patches;
mod rope;

use std::mem::take;

use burn::tensor::activation::silu;
use burn::tensor::{DType, Tensor, TensorData};
use wan_core::{
    Backend, Branch, BurnBackend, CancelToken, Cancelled, Conditioning, Denoiser, ForwardError,
    Pass, ReadingPace, TextConditioning,
};

use block::{LAYERS, Layer, LayerInput};
pub use config::WanTransformerConfig;
use context::{EmbeddedText, RunContext};
pub use original::OriginalConfig;
use patches::{patchify, unpatchify};
pub use rope::RotaryEmbedding;

use crate::Probe;
use crate::layers::{Linear, ModulatedNorm};
use crate::load::{Layers, LoadError, Network, Scope};
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
    layers: Layers<B, Layer<B>>,
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
        let patch_values = config.out_channels * config.patch_size.iter().product::<usize>();
        let patch_embedding = load_patch_embedding(config, &scope.at("patch_embedding"));
        let time_in = Linear::load(&time.at("time_embedder.linear_1"), config.freq_dim, inner);
        let time_out = Linear::load(&time.at("time_embedder.linear_2"), inner, inner);
        let time_proj = Linear::load(&time.at("time_proj"), inner, 6 * inner);
        let text = condition.at("text_embedder");
        let text_in = Linear::load(&text.at("linear_1"), config.text_dim, inner);
        let text_out = Linear::load(&text.at("linear_2"), inner, inner);
        let layers = config.num_layers * LAYERS;
        let layers = {
            let config = config.clone();
            scope.layers(layers, move |scope, i| Layer::load(&config, scope, i))
        };
        let scale_shift_table = scope.in_f32().tensor("scale_shift_table", [1, 2, inner]);
        let proj_out = Linear::load(&scope.at("proj_out"), inner, patch_values);
        Self {
            patch_embedding,
            time_in,
            time_out,
            time_proj,
            text_in,
            text_out,
            layers,
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

    /// The velocities of some passes, with a look at the intermediate tensors: see
    /// [`Denoiser::velocities`].
    ///
    /// # Errors
    /// Those of [`Denoiser::velocities`].
    ///
    /// # Panics
    /// If a branch is of another network or of another size of latents.
    pub fn velocities_probed(
        &self,
        passes: &[Pass<'_, B>],
        cancel: &CancelToken,
        probe: &mut impl Probe<B>,
    ) -> Result<Vec<Tensor<B, 5>>, ForwardError> {
        let mut streams = self.begin(passes, &mut Trace::new(probe));
        self.layers.for_each::<LoadError>(cancel, |i, layer| {
            let through = |stream| Stream::through(stream, i, layer, cancel, probe);
            streams = take(&mut streams).into_iter().map(through).collect::<Result<_, _>>()?;
            Ok(())
        })?;
        Ok(self.end(streams, &mut Trace::new(probe)))
    }

    /// The residual streams of some passes before the first block.
    fn begin<'a>(
        &self,
        passes: &'a [Pass<B>],
        trace: &mut Trace<'_, impl Probe<B>>,
    ) -> Vec<Stream<'a, B>> {
        let times = self.embed_times(passes, trace.at("cond"));
        let embed = |(pass, time): (&'a Pass<B>, Time<B>)| {
            let context = pass.branch.state::<RunContext<B>>();
            Stream { x: self.embed_patches(pass, context.grid, trace), context, time }
        };
        passes.iter().zip(times).map(embed).collect()
    }

    /// The tokens of the latents of a pass, `[B, S, inner]` in f32.
    fn embed_patches(
        &self,
        pass: &Pass<B>,
        grid: [usize; 3],
        trace: &mut Trace<'_, impl Probe<B>>,
    ) -> Tensor<B, 3> {
        let [_, _, size @ ..] = pass.latents.dims();
        assert_eq!(self.grid(size), grid, "the grid of the latents, and that of the branch");
        let patches = patchify(pass.latents.clone(), self.config.patch_size);
        let x = self.patch_embedding.forward(patches);
        trace.see("patch_embedding", || unpatchify(x.clone(), [1, 1, 1], grid));
        B::wan_cast(x, DType::F32)
    }

    /// The velocities that residual streams lead to after the last block.
    fn end(
        &self,
        streams: Vec<Stream<B>>,
        trace: &mut Trace<'_, impl Probe<B>>,
    ) -> Vec<Tensor<B, 5>> {
        let head = |Stream { x, context, time }: Stream<B>| {
            trace.see("norm_out", || self.norm_out.unmodulated(x.clone()));
            let modulation = self.scale_shift_table.clone() + time.embedding;
            let [shift, scale] = [0, 1].map(|i| modulation.clone().narrow(1, i, 1));
            let x = self.proj_out.forward(self.norm_out.forward(x, shift, scale));
            unpatchify(B::wan_cast(x, DType::F32), self.config.patch_size, context.grid)
        };
        streams.into_iter().map(head).collect()
    }

    /// The branches of some conditionings, with a look at the intermediate tensors: see
    /// [`Denoiser::branches`].
    ///
    /// # Panics
    /// If the patch size does not divide `size` (frames, rows and columns of the latents), or there are
    /// more positions along an axis than `rope_max_seq_len`.
    pub fn branches_probed(
        &self,
        conditionings: &[Conditioning<B>],
        size: [usize; 3],
        probe: &mut impl Probe<B>,
    ) -> Vec<Branch<B>> {
        let (grid, mut trace) = (self.grid(size), Trace::new(probe));
        let device = self.scale_shift_table.device();
        let rope = RotaryEmbedding::new(self.config.attention_head_dim, grid, &device);
        trace.see("rope.cos", || rope.cos.clone());
        trace.see("rope.sin", || rope.sin.clone());
        let branch = |conditioning: &Conditioning<B>| {
            let text = self.embed_text(&conditioning.text, trace.at("cond"));
            Branch::new(RunContext::new(text, rope.clone(), grid, self.config.num_layers))
        };
        conditionings.iter().map(branch).collect()
    }

    /// Elements of the residual stream of latents.
    fn stream_elements(&self, latents: &Tensor<B, 5>) -> usize {
        let [batch, _, size @ ..] = latents.dims();
        batch * self.grid(size).iter().product::<usize>() * self.config.inner_dim()
    }

    /// Tokens along time, height and width.
    fn grid(&self, sizes: [usize; 3]) -> [usize; 3] {
        for (size, patch) in sizes.into_iter().zip(self.config.patch_size) {
            assert!(size.is_multiple_of(patch), "a patch of {patch} does not divide {size}");
            let max = self.config.rope_max_seq_len;
            assert!(size / patch <= max, "{} positions, but at most {max}", size / patch);
        }
        std::array::from_fn(|i| sizes[i] / self.config.patch_size[i])
    }

    /// The time of each pass; that of equal timesteps is computed once.
    fn embed_times(&self, passes: &[Pass<B>], mut trace: Trace<'_, impl Probe<B>>) -> Vec<Time<B>> {
        let mut times: Vec<Time<B>> = Vec::new();
        for (i, pass) in passes.iter().enumerate() {
            let known = passes[..i].iter().position(|before| before.timesteps == pass.timesteps);
            times.push(match known {
                Some(known) => times[known].clone(),
                None => self.embed_time(&pass.timesteps, &mut trace),
            });
        }
        times
    }

    fn embed_time(&self, timesteps: &[f32], trace: &mut Trace<'_, impl Probe<B>>) -> Time<B> {
        let (batch, inner) = (timesteps.len(), self.config.inner_dim());
        let width = self.config.freq_dim;
        let sinusoid = TensorData::new(sinusoid(timesteps, width), [batch, width]);
        let device = self.scale_shift_table.device();
        let sinusoid: Tensor<B, 2> = Tensor::from_data(sinusoid, (&device, DType::F32));
        let hidden = silu(self.time_in.forward(trace.seen("sinusoid", sinusoid)));
        let temb = trace.seen("temb", self.time_out.forward(hidden));
        let modulation = self.time_proj.forward(silu(temb.clone()));
        let modulation = trace.seen("timestep_proj", modulation);
        Time {
            embedding: temb.reshape([batch, 1, inner]),
            modulation: modulation.reshape([batch, 6, inner]),
        }
    }

    fn embed_text(
        &self,
        text: &TextConditioning<B>,
        mut trace: Trace<'_, impl Probe<B>>,
    ) -> EmbeddedText<B> {
        let hidden = B::wan_gelu(self.text_in.forward(text.embeddings.clone()));
        let states = trace.seen("text", self.text_out.forward(hidden));
        EmbeddedText { states, bias: text.attention_bias() }
    }
}

impl<B: Backend> Network<B> for WanTransformer<B> {
    type Config = WanTransformerConfig;

    fn load(config: &WanTransformerConfig, scope: &Scope<B>) -> Self {
        Self::load(config, scope)
    }
}

impl<B: Backend> Denoiser<B> for WanTransformer<B> {
    fn branches(&self, conditionings: &[Conditioning<B>], size: [usize; 3]) -> Vec<Branch<B>> {
        self.branches_probed(conditionings, size, &mut ())
    }

    fn velocities(
        &self,
        passes: &[Pass<'_, B>],
        cancel: &CancelToken,
    ) -> Result<Vec<Tensor<B, 5>>, ForwardError> {
        let elements = passes.iter().map(|pass| self.stream_elements(&pass.latents)).max();
        if passes.len() == 1 || elements > Some(SMALL_STREAM) {
            return self.velocities_probed(passes, cancel, &mut ());
        }
        let mut streams = self.begin(passes, &mut Trace::new(&mut ()));
        self.layers.for_each::<LoadError>(cancel, |i, layer| {
            if let Layer::CrossAttention(attention) = layer {
                // Before the threads divide: they would wait for each other here.
                let keys =
                    |stream: &Stream<B>| stream.context.keys_and_values(i / LAYERS, attention);
                streams.iter().for_each(|stream| drop(keys(stream)));
            }
            let through = |stream| Stream::through(stream, i, layer, cancel, &mut ());
            let through = B::wan_map(take(&mut streams), through);
            streams = through.into_iter().collect::<Result<_, _>>()?;
            Ok(())
        })?;
        Ok(self.end(streams, &mut Trace::new(&mut ())))
    }

    fn reading(&self) -> Option<ReadingPace> {
        self.layers.pace()
    }
}

/// Elements of a residual stream up to which passes go through a block at the same time, if the backend
/// gains by it: larger ones keep all threads busy alone, and together would take more memory.
const SMALL_STREAM: usize = 1 << 20;

/// A pass on its way through the layers.
struct Stream<'a, B: BurnBackend> {
    /// The residual stream, `[B, S, inner]` in f32.
    x: Tensor<B, 3>,
    context: &'a RunContext<B>,
    time: Time<B>,
}

impl<B: Backend> Stream<'_, B> {
    fn through(
        self,
        i: usize,
        layer: &Layer<B>,
        cancel: &CancelToken,
        probe: &mut impl Probe<B>,
    ) -> Result<Self, Cancelled> {
        cancel.check()?;
        let Self { x, context, time } = self;
        let (mut trace, block) = (Trace::new(probe), i / LAYERS);
        let input = LayerInput { context, time: time.modulation.clone(), block };
        let x = layer.forward(x, &input, trace.at(format_args!("block.{block}")));
        Ok(Self { x, context, time })
    }
}

/// The embedded timesteps of a pass.
#[derive(Debug, Clone)]
struct Time<B: BurnBackend> {
    /// Modulates the head, `[B, 1, inner]`.
    embedding: Tensor<B, 3>,
    /// Modulates the blocks, `[B, 6, inner]`.
    modulation: Tensor<B, 3>,
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
