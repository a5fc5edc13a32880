//! Memory: what a run needs, stage by stage, and what there is for it.
//!
//! What a network needs is found by going through its layers without their numbers, with every tensor
//! held for as long as the CPU backend holds it: `transformer`, `vae` and `text` mirror the networks
//! of `wan-models`, and change when these do.

mod machine;
mod meter;
mod shortage;
mod text;
mod transformer;
mod vae;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use burn::tensor::DType;
use wan_core::{Backend, DeviceMemory, Tiling};
use wan_io::text::clean_prompt;
use wan_models::transformer::WanTransformerConfig;
use wan_models::umt5::Umt5Config;
use wan_models::vae::WanVaeConfig;

pub use machine::{AvailableMemory, MemoryLimit};
pub use shortage::{MemoryRemedy, MemoryShortage};

use crate::generate::groups;
use crate::{Latents, Pipeline, Plan};

/// What a process takes beside its tensors: stacks of threads, tables, packed operands.
const PROCESS: u64 = 8 << 20;

/// What the allocator takes beyond what is held, as measured: up to so much, and one byte in so many.
const SPARE: u64 = 48 << 20;
const GAPS: u64 = 50;

/// A part of a run, at whose end much of its memory is free again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Prompts become embeddings.
    EncodingPrompts,
    /// The video to start from becomes latents.
    EncodingVideo,
    /// Noise becomes latents.
    Denoising,
    /// Latents become frames.
    Decoding,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EncodingPrompts => "encoding the prompts",
            Self::EncodingVideo => "encoding the video",
            Self::Denoising => "denoising",
            Self::Decoding => "decoding",
        })
    }
}

/// What a stage needs, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageMemory {
    /// The stage.
    pub stage: Stage,
    /// The weights of the networks that are loaded by then.
    pub weights: u64,
    /// All else at the stage's peak: it grows with size, frames and videos.
    pub working: u64,
}

impl StageMemory {
    /// All of it.
    pub fn bytes(&self) -> u64 {
        self.weights + self.working
    }
}

/// What a run will take from the memory, beside what the process has now: see
/// [`Pipeline::memory`].
///
/// It is worked out for the CPU backend in f32, where the peak that is measured with glibc is within a tenth
/// of it, or within some ten MB where that is more. In 16 bits and on other backends it is an estimate.
#[derive(Debug, Clone)]
pub struct MemoryPlan {
    work: Workload,
    left_out: Vec<Stage>,
    place: Place,
    /// Whether the networks could compute in 16 bits.
    halvable: bool,
    /// Whether the videos are begun, so that their size and number cannot be changed.
    is_settled: bool,
}

/// The memory that a backend computes in.
#[derive(Debug, Clone, Copy)]
enum Place {
    Host,
    /// That of a device, where its driver tells how much there is.
    Device(Option<DeviceMemory>),
}

/// All that memory depends on.
#[derive(Debug, Clone)]
struct Workload {
    text: Option<Umt5Config>,
    transformer: Option<WanTransformerConfig>,
    vae: WanVaeConfig,
    /// Bytes of an element of the transformer's and the text encoder's matrices.
    element: usize,
    tiling: Option<Tiling>,
    /// Tokens of the longest prompt.
    prompt_tokens: usize,
    encodes_video: bool,
    /// Whether all frames stay in memory.
    keeps_frames: bool,
    /// Videos that go through the network together.
    runs: Vec<Run>,
    threads: usize,
}

/// Some videos that go through the network together.
#[derive(Debug, Clone)]
struct Run {
    /// Of each video, `[1, C, T, H, W]`.
    latent_shape: [usize; 5],
    videos: usize,
    /// Predictions of a step.
    passes: usize,
    /// How often the latents of a video are held, summed over the videos.
    latents: usize,
    /// Rows of embeddings of each different prompt, padding included.
    prompt_rows: Vec<usize>,
}

impl<B: Backend> Pipeline<B> {
    /// What the videos of some plans need, stage by stage. Nothing is loaded.
    ///
    /// A run that [is resumed](MemoryPlan::resumed) or starts from given embeddings does
    /// [without](MemoryPlan::without) some stages.
    pub fn memory(&self, plans: &[Plan]) -> MemoryPlan {
        let mut tokens = BTreeMap::new();
        for (prompt, length) in plans.iter().flat_map(prompts) {
            tokens.entry((prompt, length)).or_insert_with(|| self.tokens(prompt, length));
        }
        let run = |group: Vec<usize>| Run::of(group.into_iter().map(|i| &plans[i]), &tokens);
        let work = Workload {
            text: self.model.text_encoder.as_ref().map(|part| part.config.clone()),
            transformer: Some(self.model.transformer.config.clone()),
            prompt_tokens: tokens.values().copied().max().unwrap_or(0),
            encodes_video: plans.iter().any(|plan| plan.strength.is_some()),
            runs: groups(plans).into_iter().map(run).collect(),
            ..self.workload()
        };
        self.memory_plan(work)
    }

    /// What decoding finished latents needs, one video after the other and without a run.
    pub fn memory_to_decode(&self, latents: &[Latents<B>]) -> MemoryPlan {
        let run = |latents: &Latents<B>| Run {
            latent_shape: latents.shape(),
            videos: 1,
            passes: 0,
            latents: 1,
            prompt_rows: Vec::new(),
        };
        let runs = latents.iter().map(run).collect();
        let plan = self.memory_plan(Workload { runs, ..self.workload() });
        MemoryPlan { is_settled: true, ..plan }
    }

    fn memory_plan(&self, work: Workload) -> MemoryPlan {
        MemoryPlan {
            work,
            left_out: Vec::new(),
            is_settled: false,
            place: match ["flex", "ndarray"].contains(&B::name(&self.device).as_str()) {
                true => Place::Host,
                false => Place::Device(B::device_memory(&self.device)),
            },
            halvable: B::supports_dtype(&self.device, DType::BF16),
        }
    }

    fn workload(&self) -> Workload {
        Workload {
            text: None,
            transformer: None,
            vae: self.model.vae.config.clone(),
            element: self.dtypes().networks.size(),
            tiling: self.tiling,
            prompt_tokens: 0,
            encodes_video: false,
            keeps_frames: false,
            runs: Vec::new(),
            threads: std::thread::available_parallelism().map_or(1, |threads| threads.get()),
        }
    }

    fn tokens(&self, prompt: &str, text_length: usize) -> usize {
        let tokenizer = self.model.tokenizer().ok();
        let tokens =
            tokenizer.and_then(|known| known.encode(&clean_prompt(prompt), text_length).ok());
        tokens.map_or(text_length, |tokens| tokens.ids.len())
    }
}

/// The prompts that a plan needs, each with its greatest length in tokens.
fn prompts(plan: &Plan) -> impl Iterator<Item = (&str, usize)> {
    let negative = plan.needs_negative().unwrap_or(true).then_some(plan.negative_prompt());
    let prompts = std::iter::once(plan.prompt()).chain(negative);
    prompts.map(|prompt| (prompt, plan.text_length))
}

impl MemoryPlan {
    /// What each stage needs, in the order of the run: of the host's memory where the backend is the
    /// CPU, else of the device's.
    pub fn stages(&self) -> Vec<StageMemory> {
        let mut stages = self.work.stages();
        stages.retain(|stage| !self.left_out.contains(&stage.stage));
        stages
    }

    /// The stage that needs most.
    pub fn peak(&self) -> StageMemory {
        let nothing = StageMemory { stage: Stage::Decoding, weights: 0, working: 0 };
        self.stages().into_iter().max_by_key(StageMemory::bytes).unwrap_or(nothing)
    }

    /// Of a run that is resumed: prompts and the video to start from are encoded, and all but the way in
    /// which it is computed is settled.
    #[must_use]
    pub fn resumed(self) -> Self {
        let plan = self.without(Stage::EncodingPrompts).without(Stage::EncodingVideo);
        Self { is_settled: true, ..plan }
    }

    /// Without a stage that is not run, such as [`Stage::EncodingPrompts`] where all embeddings are given.
    #[must_use]
    pub fn without(mut self, stage: Stage) -> Self {
        self.left_out.push(stage);
        self
    }

    /// With all frames kept in memory until the last video is decoded, as
    /// [`Pipeline::generate`] returns them.
    #[must_use]
    pub fn keeping_frames(mut self) -> Self {
        self.work.keeps_frames = true;
        self
    }

    /// Compares the peak with the memory that there is now, where the system tells it: that of the host for
    /// a CPU backend, else that of the device, as it was when the plan was made.
    ///
    /// # Errors
    /// If there is less. It is an estimate unless the shortage [is certain](MemoryShortage::is_certain):
    /// a caller may go on.
    pub fn check(&self) -> Result<(), MemoryShortage> {
        let available = match self.place {
            Place::Host => AvailableMemory::now(),
            Place::Device(memory) => memory.map(AvailableMemory::of_device),
        };
        available.map_or(Ok(()), |available| self.compare(&available))
    }
}

impl Workload {
    fn stages(&self) -> Vec<StageMemory> {
        let Self { vae, tiling, threads, .. } = self;
        let vae_weights = 4 * vae::parameters(vae);
        let mut stages = Vec::new();
        if let Some(text) = &self.text {
            let working = text::encoding(text, self.prompt_tokens, self.element);
            let weights = text::weights(text, self.element);
            stages.push(StageMemory { stage: Stage::EncodingPrompts, weights, working });
        }
        let most = |bytes: &dyn Fn(&Run) -> u64| self.runs.iter().map(bytes).max().unwrap_or(0);
        if self.encodes_video {
            let working = most(&|run: &Run| vae::encoding(vae, run.video(vae), *tiling));
            let weights = vae_weights;
            stages.push(StageMemory { stage: Stage::EncodingVideo, weights, working });
        }
        let mut weights = if self.encodes_video { vae_weights } else { 0 };
        if let Some(transformer) = &self.transformer {
            weights += transformer::weights(transformer, self.element);
            let step = |run: &Run| {
                let tokens = run.tokens(transformer);
                self.between_steps(run)
                    + transformer::step(transformer, tokens, run.passes, *threads, self.element)
            };
            let working = most(&step);
            stages.push(StageMemory { stage: Stage::Denoising, weights, working });
        }
        if !self.encodes_video {
            weights += vae_weights;
        }
        let decode = |run: &Run| {
            let [_, _, size @ ..] = run.latent_shape;
            self.between_steps(run) + vae::decoding(vae, size, *tiling)
        };
        let kept = self.runs.iter().filter(|_| self.keeps_frames).map(|run| run.rgb(vae));
        let working = most(&decode) + kept.sum::<u64>();
        stages.push(StageMemory { stage: Stage::Decoding, weights, working });
        let around = |working: u64| PROCESS + working / GAPS + (working / 2).min(SPARE);
        stages.iter_mut().for_each(|stage| stage.working += around(stage.working));
        stages
    }

    /// What a run holds while it is not in the network, also until its videos are decoded.
    fn between_steps(&self, run: &Run) -> u64 {
        let latents: u64 = run.latent_shape.iter().map(|&side| side as u64).product();
        let latents = 4 * latents * run.latents as u64;
        let Some(transformer) = &self.transformer else { return latents };
        let rows = run.prompt_rows.iter();
        let prompts: u64 =
            rows.map(|&rows| transformer::prompt(transformer, rows, self.element)).sum();
        latents + prompts + transformer::rotary_tables(transformer, run.tokens(transformer))
    }
}

impl Run {
    /// Of plans that go through the network together, with the tokens of their prompts.
    fn of<'a>(
        plans: impl Iterator<Item = &'a Plan>,
        tokens: &BTreeMap<(&str, usize), usize>,
    ) -> Self {
        let plans: Vec<&Plan> = plans.collect();
        let different: BTreeSet<_> = plans.iter().flat_map(|plan| prompts(plan)).collect();
        Self {
            latent_shape: plans[0].latent_shape,
            videos: plans.len(),
            passes: plans.iter().map(|plan| plan.passes()).sum(),
            latents: plans.iter().map(|plan| plan.copies_of_latents()).sum(),
            // One row more for all that pads it.
            prompt_rows: different.iter().map(|prompt| tokens[prompt] + 1).collect(),
        }
    }

    fn tokens(&self, transformer: &WanTransformerConfig) -> usize {
        let [_, _, size @ ..] = self.latent_shape;
        size.iter().zip(transformer.patch_size).map(|(size, patch)| size / patch).product()
    }

    /// The bytes of all frames.
    fn rgb(&self, vae: &WanVaeConfig) -> u64 {
        3 * self.videos as u64 * self.video(vae).iter().map(|&n| n as u64).product::<u64>()
    }

    /// Frames, height and width in pixels.
    fn video(&self, vae: &WanVaeConfig) -> [usize; 3] {
        let [_, _, frames, height, width] = self.latent_shape;
        let factor = vae.spatial_factor();
        [(frames - 1) * vae.temporal_factor() + 1, height * factor, width * factor]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Wan 2.1 1.3B, for a video of 81 frames of 832x480.
    fn wan() -> Workload {
        let transformer = json!({
            "_class_name": "WanTransformer3DModel", "patch_size": [1, 2, 2],
            "num_attention_heads": 12, "attention_head_dim": 128, "in_channels": 16,
            "out_channels": 16, "text_dim": 4096, "freq_dim": 256, "ffn_dim": 8960,
            "num_layers": 30, "cross_attn_norm": true, "qk_norm": "rms_norm_across_heads",
            "eps": 1e-6,
        });
        let text = json!({
            "model_type": "umt5", "vocab_size": 256_384, "d_model": 4096, "d_kv": 64, "d_ff": 10_240,
            "num_layers": 24, "num_heads": 64, "relative_attention_num_buckets": 32,
            "layer_norm_epsilon": 1e-6, "feed_forward_proj": "gated-gelu",
        });
        let vae = json!({
            "_class_name": "AutoencoderKLWan", "base_dim": 96, "z_dim": 16, "dim_mult": [1, 2, 4, 4],
            "num_res_blocks": 2, "attn_scales": [], "temperal_downsample": [false, true, true],
            "latents_mean": vec![0.0; 16], "latents_std": vec![1.0; 16],
        });
        let latent_shape = [1, 16, 21, 60, 104];
        Workload {
            text: Some(serde_json::from_value(text).unwrap()),
            transformer: Some(serde_json::from_value(transformer).unwrap()),
            vae: serde_json::from_value(vae).unwrap(),
            element: 4,
            tiling: None,
            prompt_tokens: 100,
            encodes_video: false,
            keeps_frames: false,
            runs: vec![Run {
                latent_shape,
                videos: 1,
                passes: 2,
                latents: 7,
                prompt_rows: vec![101; 2],
            }],
            threads: 8,
        }
    }

    fn plan(work: Workload) -> MemoryPlan {
        let (place, left_out) = (Place::Host, Vec::new());
        MemoryPlan { work, left_out, place, halvable: true, is_settled: false }
    }

    #[test]
    fn weights_are_those_of_the_published_models() {
        let Workload { text, transformer, vae, .. } = wan();
        assert_eq!(transformer::weights(&transformer.unwrap(), 4), 4 * 1_418_996_800);
        assert_eq!(vae::parameters(&vae), 126_892_531);
        // Without 256,384 rows of 4096.
        assert_eq!(text::weights(&text.unwrap(), 4), 4 * (5_680_910_336 - 1_050_148_864));
    }

    #[test]
    fn only_what_lowers_the_peak_is_a_remedy() {
        use MemoryRemedy::*;

        let mut work = wan();
        // The text encoder is the peak.
        assert_eq!(plan(work.clone()).peak().stage, Stage::EncodingPrompts);
        assert_eq!(plan(work.clone()).remedies(), [HalfPrecision, SavedEmbeddings]);
        work.text = None;
        let decoding = plan(work.clone());
        assert_eq!(decoding.peak().stage, Stage::Decoding);
        // Each tile remembers its own frames, so that tiles save nothing here.
        assert_eq!(decoding.remedies(), [SmallerSize, HalfPrecision]);
        assert_eq!(decoding.resumed().remedies(), [HalfPrecision]);
        // So many videos that their streams are the peak.
        (work.runs[0].videos, work.runs[0].passes) = (64, 128);
        let denoising = plan(work);
        assert_eq!(denoising.peak().stage, Stage::Denoising);
        assert_eq!(denoising.remedies(), [FewerFrames, SmallerSize, FewerVideos, HalfPrecision]);
    }

    #[test]
    fn the_memory_of_a_device_is_compared_where_it_is_told() {
        let on_device = |memory| MemoryPlan { place: Place::Device(memory), ..plan(wan()) };
        let peak = plan(wan()).peak().bytes();
        assert!(on_device(None).check().is_ok());
        assert!(on_device(Some(DeviceMemory { free: peak, total: peak })).check().is_ok());
        let busy = on_device(Some(DeviceMemory { free: peak / 2, total: peak })).check();
        let busy = busy.unwrap_err();
        assert!(
            !busy.is_certain() && busy.to_string().contains("are free on the device"),
            "{busy}"
        );
        let small = on_device(Some(DeviceMemory { free: 1 << 30, total: 1 << 30 })).check();
        assert!(small.unwrap_err().is_certain());
    }

    #[test]
    fn stages_that_are_not_run_need_nothing() {
        let whole = plan(wan());
        let without = whole.clone().without(Stage::EncodingPrompts);
        assert!(without.peak().bytes() < whole.peak().bytes());
        let stages: Vec<Stage> = without.stages().iter().map(|stage| stage.stage).collect();
        assert_eq!(stages, [Stage::Denoising, Stage::Decoding]);
        let frames = plan(wan()).keeping_frames().stages()[2].bytes() - whole.stages()[2].bytes();
        assert!((81 * 832 * 480 * 3..=85 * 832 * 480 * 3).contains(&frames), "{frames}");
    }

    #[test]
    fn weights_that_can_never_fit_are_certain() {
        let plan = plan(wan());
        let compare = |free: u64, ceiling: u64| {
            plan.compare(&AvailableMemory::of(MemoryLimit::Container, free << 30, ceiling << 30))
        };
        assert_eq!(compare(64, 64), Ok(()));
        assert!(!compare(8, 64).unwrap_err().is_certain());
        let certain = compare(8, 16).unwrap_err();
        assert_eq!((certain.is_certain(), certain.available()), (true, 16 << 30));
    }
}
