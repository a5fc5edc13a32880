//! The Wan diffusion transformer: the one of all tasks, whose branches for images and control videos are there where
//! its config says so.
//!
//! Sources: `wan/modules/model.py` of the original Wan, whose precision rules hold here (norms,
//! modulation, time embedding and the residual stream in f32), and
//! `diffusers/models/transformers/transformer_wan.py`, whose names the checkpoint has.

mod block;
mod causal;
mod config;
mod context;
mod image;
mod infer;
mod names;
mod original;
mod patches;
mod rope;
mod time;
mod vace;

use std::mem::take;

use burn::tensor::{DType, Tensor};
use wan_core::{
    Backend, Branch, BurnBackend, CancelToken, Cancelled, Conditioning, Denoiser, ForwardError,
    Pass, ReadingPace,
};

use block::{LAYERS, Layer, LayerInput};
use causal::CausalPass;
pub use causal::{CausalWindow, KvCache};
pub use config::WanTransformerConfig;
use context::{Embedded, RunContext};
use image::ImageEmbedder;
pub use original::OriginalConfig;
use patches::{patchify, unpatchify};
pub use rope::RotaryEmbedding;
use time::{Time, TimeEmbedder};
use vace::{Block, ControlEmbedder, Place, places};

use crate::Probe;
use crate::layers::{Linear, ModulatedNorm};
use crate::load::{Layers, LoadError, Network, Scope};
use crate::probe::Trace;

/// The transformer.
#[derive(Debug, Clone)]
pub struct WanTransformer<B: BurnBackend> {
    patch_embedding: Linear<B>,
    time: TimeEmbedder<B>,
    text_in: Linear<B>,
    text_out: Linear<B>,
    image: Option<ImageEmbedder<B>>,
    control: Option<ControlEmbedder<B>>,
    layers: Layers<B, Layer<B>>,
    /// Of each layer.
    places: Vec<Place>,
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
        let patch_values = config.out_channels * config.patch_size.iter().product::<usize>();
        let patches = scope.at("patch_embedding");
        let patch_embedding = load_patch_embedding(config, config.in_channels, &patches);
        let time = TimeEmbedder::load(config, &condition);
        let text = condition.at("text_embedder");
        let text_in = Linear::load(&text.at("linear_1"), config.text_dim, inner);
        let text_out = Linear::load(&text.at("linear_2"), inner, inner);
        let image = condition.at("image_embedder");
        let image = config.image_dim.map(|width| ImageEmbedder::load(config, width, &image));
        let is_vace = !config.vace_layers().is_empty();
        let control = is_vace.then(|| ControlEmbedder::load(config, scope));
        let places = places(config);
        let layers = {
            let (config, places) = (config.clone(), places.clone());
            scope.layers(places.len(), move |scope, i| Layer::load(&config, scope, places[i]))
        };
        let scale_shift_table = scope.in_f32().tensor("scale_shift_table", [1, 2, inner]);
        let proj_out = Linear::load(&scope.at("proj_out"), inner, patch_values);
        Self {
            patch_embedding,
            time,
            text_in,
            text_out,
            image,
            control,
            layers,
            places,
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
            let place = (i, self.places[i]);
            let through = |stream| Stream::through(stream, place, layer, cancel, probe);
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
            let x = self.embed_patches(pass, context, trace);
            let control = context.embedded.control.as_ref();
            let control = control.map(|control| control.tokens.clone() + x.clone());
            Stream { x, control, hint: None, causal: None, context, time }
        };
        passes.iter().zip(times).map(embed).collect()
    }

    /// The tokens of the latents of a pass, `[B, S, inner]` in f32.
    fn embed_patches(
        &self,
        pass: &Pass<B>,
        context: &RunContext<B>,
        trace: &mut Trace<'_, impl Probe<B>>,
    ) -> Tensor<B, 3> {
        let ([_, _, size @ ..], grid) = (pass.latents.dims(), context.grid);
        assert_eq!(self.grid(size), grid, "the grid of the latents, and that of the branch");
        let latents = match &context.embedded.channels {
            Some(channels) => Tensor::cat(vec![pass.latents.clone(), channels.clone()], 1),
            None => pass.latents.clone(),
        };
        let (found, expected) = (latents.dims()[1], self.config.in_channels);
        assert_eq!(found, expected, "channels of the latents and what they are conditioned on");
        let patches = patchify(latents, self.config.patch_size);
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
        let head = |Stream { x, context, time, .. }: Stream<B>| {
            trace.see("norm_out", || self.norm_out.unmodulated(x.clone()));
            let modulation = time.modulation_of_head(&self.scale_shift_table);
            let x = self.proj_out.forward(modulation.norm(&self.norm_out, x));
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
            let embedded = self.embed(conditioning, trace.at("cond"));
            Branch::new(RunContext::new(embedded, rope.clone(), grid, self.places.len()))
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
                None => {
                    let context = pass.branch.state::<RunContext<B>>();
                    let (tokens, device) =
                        (context.grid.iter().product(), self.scale_shift_table.device());
                    self.time.forward(&pass.timesteps, tokens, &device, &mut trace)
                }
            });
        }
        times
    }

    /// A conditioning after the embedders.
    ///
    /// # Panics
    /// If it has an image or a control video that the network has no embedder for.
    fn embed(
        &self,
        conditioning: &Conditioning<B>,
        mut trace: Trace<'_, impl Probe<B>>,
    ) -> Embedded<B> {
        let text = self.text_in.forward(conditioning.text.embeddings.clone());
        let text = trace.seen("text", self.text_out.forward(B::wan_gelu(text)));
        let image = conditioning.image.as_ref().map(|states| {
            let embedder = self.image.as_ref().expect("a network that attends to images");
            trace.seen("image", embedder.forward(states.clone()))
        });
        let control = conditioning.control.as_ref().map(|control| {
            let embedder = self.control.as_ref().expect("a network with blocks for control");
            embedder.forward(control, &self.config)
        });
        let (bias, channels) = (conditioning.text.attention_bias(), conditioning.channels.clone());
        Embedded { text, bias, image, channels, control }
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
                let keys = |stream: &Stream<B>| stream.context.keys_and_values(i, attention);
                streams.iter().for_each(|stream| drop(keys(stream)));
            }
            let place = (i, self.places[i]);
            let through = |stream| Stream::through(stream, place, layer, cancel, &mut ());
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
    /// That of the control video, if there is one.
    control: Option<Tensor<B, 3>>,
    /// What the control adds to `x` after the next block.
    hint: Option<Tensor<B, 3>>,
    /// Where frames before these are attended to.
    causal: Option<CausalPass<'a, B>>,
    context: &'a RunContext<B>,
    time: Time<B>,
}

impl<B: Backend> Stream<'_, B> {
    /// Through a layer, of which the number and the place are given.
    fn through(
        mut self,
        (number, place): (usize, Place),
        layer: &Layer<B>,
        cancel: &CancelToken,
        probe: &mut impl Probe<B>,
    ) -> Result<Self, Cancelled> {
        cancel.check()?;
        let mut trace = Trace::new(probe);
        let (context, time) = (self.context, &self.time);
        let input = LayerInput { context, time, layer: number, past: None };
        match (place, self.control.take()) {
            (Place::Layer(Block::Main(i), part), control) => {
                let past = self.causal.as_mut().map(|causal| causal.of_block(i));
                let input = LayerInput { past, ..input };
                let x = layer.forward(self.x, input, trace.at(format_args!("block.{i}")));
                self.x = match self.hint.take_if(|_| part + 1 == LAYERS) {
                    Some(hint) => x + hint,
                    None => x,
                };
                self.control = control;
            }
            (Place::Layer(Block::Control(i), part), Some(control)) => {
                let control = layer.forward(control, input, Trace::new(&mut ()));
                if part + 1 == LAYERS {
                    trace.see(format_args!("vace_block.{i}.control"), || control.clone());
                }
                self.control = Some(control);
            }
            (Place::Hint(i), Some(control)) => {
                let hint = layer.forward(control.clone(), input, Trace::new(&mut ()));
                trace.see(format_args!("vace_block.{i}.hint"), || hint.clone());
                self.hint = Some(hint * self.context.control_scale(i));
                self.control = Some(control);
            }
            (_, None) => {} // a VACE model without a control video is that which it was made from
        }
        Ok(self)
    }
}

/// The convolution over patches as a matrix product: its kernel `[inner, C, pt, ph, pw]` with the
/// channels of a pixel together, as [`patchify`] has them.
fn load_patch_embedding<B: Backend>(
    config: &WanTransformerConfig,
    channels: usize,
    scope: &Scope<B>,
) -> Linear<B> {
    let (inner, [pt, ph, pw]) = (config.inner_dim(), config.patch_size);
    let kernel = scope.tensor("weight", [inner, channels, pt, ph, pw]);
    let [rows, channels, pt, ph, pw] = kernel.dims(); // placeholders while a checkpoint is checked
    let kernel = kernel.permute([0, 2, 3, 4, 1]).reshape([rows, pt * ph * pw * channels]);
    Linear::new(kernel, Some(scope.tensor("bias", [inner])))
}
