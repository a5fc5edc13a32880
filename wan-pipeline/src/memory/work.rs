//! What memory depends on, and how much of it each stage needs.

use std::collections::{BTreeMap, BTreeSet};

use wan_core::backend::AttentionPlan;
use wan_models::clip::ClipVisionConfig;
use wan_models::load::Residency;
use wan_models::transformer::WanTransformerConfig;
use wan_models::umt5::Umt5Config;
use wan_models::vae::WanVaeConfig;

use super::{Place, Placement, Stage, StageMemory, clip, text, transformer, vae};
use crate::Plan;

/// What a process takes beside its tensors: stacks of threads, tables, packed operands.
const PROCESS: u64 = 8 << 20;

/// What the allocator takes beyond what is held, as measured: up to so much, and one byte in so many.
const SPARE: u64 = 48 << 20;
const GAPS: u64 = 50;

/// What it keeps mapped for the threads that read layers ahead, also when the layers are gone: glibc has heaps of
/// 64 MiB for each thread, and up to two were seen.
const HEAPS_OF_READERS: u64 = 128 << 20;

/// All that memory depends on.
#[derive(Debug, Clone)]
pub(crate) struct Workload {
    pub(crate) text: Option<Part<Umt5Config>>,
    /// The image encoder, where images are looked at.
    pub(crate) image: Option<ClipVisionConfig>,
    pub(crate) transformer: Option<Part<WanTransformerConfig>>,
    /// Bytes of a transformer that is loaded and not part of the work.
    pub(crate) other_transformer: u64,
    pub(crate) vae: WanVaeConfig,
    /// Bytes of an element of the text encoder's matrices.
    pub(crate) text_element: usize,
    /// Bytes of an element of the transformer's matrices.
    pub(crate) element: usize,
    /// Bytes of an element of the VAE's convolutions.
    pub(crate) vae_element: usize,
    /// Tokens of each different prompt.
    pub(crate) prompts: Vec<usize>,
    pub(crate) encodes_video: bool,
    /// Whether all frames stay in memory.
    pub(crate) keeps_frames: bool,
    /// Videos that go through the network together.
    pub(crate) runs: Vec<Run>,
    pub(crate) threads: usize,
}

/// A network whose weights may be held in different ways.
#[derive(Debug, Clone)]
pub(crate) struct Part<C> {
    pub(crate) config: C,
    /// Bytes of an element of its matrices in the file.
    pub(crate) stored: usize,
}

/// Some videos that go through the network together.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// Of each video, `[1, C, T, H, W]`.
    pub(crate) latent_shape: [usize; 5],
    pub(crate) videos: usize,
    /// Predictions of a step.
    pub(crate) passes: usize,
    /// How often the latents of a video are held, summed over the videos.
    pub(crate) latents: usize,
    /// Rows of embeddings of each different prompt, padding included.
    pub(crate) prompt_rows: Vec<usize>,
    pub(crate) steps: usize,
    pub(crate) attention: AttentionPlan,
    /// Of a stream, whose shape is that of a block: the latent frames that a block attends to.
    pub(crate) window: Option<usize>,
}

/// The weights of a network in the memory that is computed in, in that of the host where it is another, and
/// read from files in a pass.
#[derive(Debug, Clone, Copy, Default)]
struct Weights {
    computed: u64,
    staged: u64,
    read: u64,
}

/// The sizes of a network's weights: what is always in memory, and each layer in turn.
pub(super) struct Sizes {
    pub(super) ends: u64,
    pub(super) layers: Vec<u64>,
    /// Of all layers as they are stored.
    pub(super) stored: u64,
}

impl Sizes {
    pub(super) fn all(&self) -> u64 {
        self.ends + self.layers.iter().sum::<u64>()
    }

    /// The layer that computes and the next.
    fn two_layers(&self) -> u64 {
        let pairs = self.layers.windows(2).map(|pair| pair[0] + pair[1]);
        pairs.max().unwrap_or_else(|| self.layers.iter().sum())
    }

    /// Between passes.
    fn kept(&self, residency: Residency, place: Place) -> Weights {
        let (computed, staged) = match (residency, place) {
            (Residency::Resident, _) => (self.all(), 0),
            (Residency::Stored, Place::Host) => (self.ends + self.stored, 0),
            (Residency::Stored, Place::Device) => (self.ends, self.stored),
            (Residency::Streamed, _) => (self.ends, 0),
        };
        Weights { computed, staged, read: 0 }
    }

    /// During a pass.
    fn used(&self, residency: Residency, place: Place) -> Weights {
        let mut weights = self.kept(residency, place);
        if residency != Residency::Resident {
            weights.computed += self.two_layers();
            weights.staged += if place == Place::Device { self.two_layers() } else { 0 };
        }
        weights.read = if residency == Residency::Streamed { self.stored } else { 0 };
        weights
    }
}

impl Workload {
    pub(super) fn stages(&self, placement: &Placement, place: Place) -> Vec<StageMemory> {
        let mut stages: Vec<StageMemory> =
            self.encoding_prompts(placement, place).into_iter().collect();
        stages.extend(self.encoding_images());
        stages.extend(self.encoding_video(placement));
        stages.extend(self.denoising(placement, place));
        stages.push(self.decoding(placement, place));
        let streams =
            [placement.text_encoder, placement.transformer].contains(&Residency::Streamed);
        let readers = if streams && place == Place::Host { HEAPS_OF_READERS } else { 0 };
        for stage in &mut stages {
            let spare = stage.working / GAPS + (stage.working / 2).min(SPARE);
            stage.working += PROCESS + spare + readers;
        }
        stages
    }

    fn encoding_prompts(&self, placement: &Placement, place: Place) -> Option<StageMemory> {
        let text = self.text.as_ref()?;
        let sizes = text::sizes(&text.config, self.text_element, text.stored);
        let weights = sizes.used(placement.text_encoder, place);
        let working = text::encoding(&text.config, &self.prompts, self.text_element);
        Some(weights.stage(Stage::EncodingPrompts, working))
    }

    fn encoding_images(&self) -> Option<StageMemory> {
        let image = self.image.as_ref()?;
        let computed = clip::weights(image, self.element);
        let weights = Weights { computed, ..Weights::default() };
        Some(weights.stage(Stage::EncodingImages, clip::working(image, self.element)))
    }

    fn encoding_video(&self, placement: &Placement) -> Option<StageMemory> {
        let Self { vae, .. } = self;
        let working = self.most(|run| {
            vae::encoding(vae, run.video(vae), placement.vae, self.vae_element, self.threads)
        });
        let weights = Weights { computed: self.vae_bytes(), ..Weights::default() };
        self.encodes_video.then(|| weights.stage(Stage::EncodingVideo, working))
    }

    fn denoising(&self, placement: &Placement, place: Place) -> Option<StageMemory> {
        let transformer = &self.transformer.as_ref()?.config;
        let step = |run: &Run| {
            let tokens = run.tokens(transformer);
            self.between_steps(run)
                + transformer::step(transformer, tokens, run.passes, self.threads, self.element)
                + self.attending_to_past(run)
                + self.decoder_of_stream(run, placement).map_or(0, |decoder| decoder.remembered)
        };
        let mut weights = self.transformer_sizes()?.used(placement.transformer, place);
        let with_vae = self.encodes_video || self.is_stream();
        weights.computed += if with_vae { self.vae_bytes() } else { 0 };
        Some(weights.stage(Stage::Denoising, self.most(step)))
    }

    fn decoding(&self, placement: &Placement, place: Place) -> StageMemory {
        let decode = |run: &Run| {
            let [_, _, size @ ..] = run.latent_shape;
            let decoding = match self.decoder_of_stream(run, placement) {
                Some(decoder) => decoder.peak,
                None => {
                    vae::decoding(&self.vae, size, placement.vae, self.vae_element, self.threads)
                }
            };
            self.between_steps(run) + decoding
        };
        let frames = self.runs.iter().filter(|_| self.keeps_frames).map(|run| run.rgb(&self.vae));
        let frames: u64 = frames.sum();
        let mut weights = match placement.drops_transformer {
            true => Weights::default(),
            false => self.kept_transformer(placement.transformer, place),
        };
        weights.computed += self.vae_bytes();
        let mut working = self.most(decode);
        match place {
            Place::Host => working += frames,
            Place::Device => weights.staged += frames,
        }
        weights.stage(Stage::Decoding, working)
    }

    fn most(&self, bytes: impl Fn(&Run) -> u64) -> u64 {
        self.runs.iter().map(bytes).max().unwrap_or(0)
    }

    fn transformer_sizes(&self) -> Option<Sizes> {
        let Part { config, stored } = self.transformer.as_ref()?;
        Some(transformer::sizes(config, self.element, *stored))
    }

    fn kept_transformer(&self, residency: Residency, place: Place) -> Weights {
        match self.transformer_sizes() {
            Some(sizes) => sizes.kept(residency, place),
            None => Weights { computed: self.other_transformer, ..Weights::default() },
        }
    }

    /// What a transformer that is loaded takes between passes, of the memory that is computed in.
    pub(crate) fn transformer_bytes(&self, residency: Residency, place: Place) -> u64 {
        self.kept_transformer(residency, place).computed
    }

    /// What a VAE that is loaded takes.
    pub(crate) fn vae_bytes(&self) -> u64 {
        self.vae_element as u64 * vae::parameters(&self.vae)
    }

    /// What a run holds while it is not in the network, also until its videos are decoded.
    fn between_steps(&self, run: &Run) -> u64 {
        let latents: u64 = run.latent_shape.iter().map(|&side| side as u64).product();
        let latents = 4 * latents * run.latents as u64;
        let Some(Part { config, .. }) = &self.transformer else { return latents };
        // Each prompt has keys and values of the image of its own.
        let image = self
            .image
            .as_ref()
            .map_or(0, |image| config.pos_embed_seq_len.unwrap_or(image.tokens()));
        let rows = run.prompt_rows.iter().map(|rows| rows + image);
        let prompts: u64 = rows.map(|rows| transformer::prompt(config, rows, self.element)).sum();
        let tables = transformer::rotary_tables(config, run.tokens(config));
        latents + prompts + tables + self.kept_by_stream(run)
    }

    /// Whether a video is decoded while it is made.
    pub(super) fn is_stream(&self) -> bool {
        self.runs.iter().any(|run| run.window.is_some())
    }

    /// The keys and values that a stream keeps, those of the last block among them before they are added, and the
    /// rotary tables of its window.
    fn kept_by_stream(&self, run: &Run) -> u64 {
        let (Some(tokens), Some(Part { config, .. })) = (self.window(run), &self.transformer)
        else {
            return 0;
        };
        transformer::keys_and_values(config, tokens, self.element)
            + transformer::rotary_tables(config, tokens)
    }

    /// What a layer holds beside to attend to its window: keys that are rotated, then joined with those of the block,
    /// and values.
    fn attending_to_past(&self, run: &Run) -> u64 {
        let (Some(tokens), Some(Part { config, .. })) = (self.window(run), &self.transformer)
        else {
            return 0;
        };
        3 * (tokens * config.inner_dim() * self.element) as u64
    }

    /// Tokens of the window of a stream.
    pub(super) fn window(&self, run: &Run) -> Option<usize> {
        let (window, config) = (run.window?, &self.transformer.as_ref()?.config);
        let [_, _, block, ..] = run.latent_shape;
        Some(run.tokens(config) / block * window)
    }

    fn decoder_of_stream(&self, run: &Run, placement: &Placement) -> Option<vae::Streaming> {
        let [_, _, _, size @ ..] = run.latent_shape;
        let streaming =
            || vae::streaming(&self.vae, size, placement.vae, self.vae_element, self.threads);
        run.window.map(|_| streaming())
    }
}

impl Weights {
    fn stage(self, stage: Stage, working: u64) -> StageMemory {
        let Self { computed: weights, staged, read, .. } = self;
        StageMemory { stage, weights, working, staged, read }
    }
}

impl Run {
    /// Of plans that go through the network together, with the tokens of their prompts and the pieces of
    /// attention for so many tokens.
    pub(crate) fn of<'a>(
        plans: impl Iterator<Item = &'a Plan>,
        tokens: &BTreeMap<(&str, usize), usize>,
        transformer: &WanTransformerConfig,
        attention: impl Fn([usize; 4]) -> AttentionPlan,
    ) -> Self {
        let plans: Vec<&Plan> = plans.collect();
        let different: BTreeSet<_> = plans.iter().flat_map(|plan| prompts(plan)).collect();
        let mut run = Self {
            latent_shape: plans[0].latent_shape,
            videos: plans.len(),
            passes: plans.iter().map(|plan| plan.passes()).sum(),
            latents: plans.iter().map(|plan| plan.copies_of_latents()).sum(),
            // One row more for all that pads it.
            prompt_rows: different.iter().map(|prompt| tokens[prompt] + 1).collect(),
            steps: plans[0].steps(),
            attention: AttentionPlan { heads: 1, rows: 1 },
            window: None,
        };
        let rows = run.tokens(transformer);
        run.attention = attention([1, transformer.num_attention_heads, rows, rows]);
        run
    }

    /// Of latents that are only decoded.
    pub(crate) fn decoded(latent_shape: [usize; 5]) -> Self {
        let attention = AttentionPlan { heads: 1, rows: 1 };
        let (videos, passes, latents, steps, prompt_rows) = (1, 0, 1, 0, Vec::new());
        let window = None;
        Self { latent_shape, videos, passes, latents, prompt_rows, steps, attention, window }
    }

    pub(crate) fn tokens(&self, transformer: &WanTransformerConfig) -> usize {
        let [_, _, size @ ..] = self.latent_shape;
        size.iter().zip(transformer.patch_size).map(|(size, patch)| size / patch).product()
    }

    /// The bytes of all frames.
    fn rgb(&self, vae: &WanVaeConfig) -> u64 {
        3 * self.videos as u64 * self.video(vae).iter().map(|&n| n as u64).product::<u64>()
    }

    /// Frames, height and width in pixels.
    pub(crate) fn video(&self, vae: &WanVaeConfig) -> [usize; 3] {
        let [_, _, frames, height, width] = self.latent_shape;
        let factor = vae.spatial_factor();
        [(frames - 1) * vae.temporal_factor() + 1, height * factor, width * factor]
    }
}

/// The prompts that a plan needs, each with its greatest length in tokens.
pub(crate) fn prompts(plan: &Plan) -> impl Iterator<Item = (&str, usize)> {
    let negative = plan.needs_negative().unwrap_or(true).then_some(plan.negative_prompt());
    let prompts = std::iter::once(plan.prompt()).chain(negative);
    prompts.map(|prompt| (prompt, plan.text_length))
}
