//! Memory: what a run needs, stage by stage, what there is for it, and how the parts of a model are held so
//! that it suffices.
//!
//! What a network needs is found by going through its layers without their numbers, with every tensor
//! held for as long as the CPU backend holds it: `transformer`, `vae` and `text` mirror the networks
//! of `wan-models`, and change when these do.

mod clip;
mod machine;
mod meter;
mod of_pipeline;
mod placement;
mod shortage;
mod table;
mod text;
mod time;
mod transformer;
mod vae;
mod work;

use std::fmt;

use wan_core::DeviceMemory;
use wan_core::backend::AttentionPlan;

pub use machine::{AvailableMemory, MemoryLimit};
pub use placement::Placement;
pub(crate) use placement::Wishes;
use shortage::Size;
pub use shortage::{MemoryRemedy, MemoryShortage};
pub use time::{Calibration, TimeEstimate};
use work::Workload;

/// A part of a run, at whose end much of its memory is free again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Prompts become embeddings.
    EncodingPrompts,
    /// The image encoder looks at images.
    EncodingImages,
    /// The video to start from, or frames that are known, become latents.
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
            Self::EncodingImages => "looking at the images",
            Self::EncodingVideo => "encoding the video",
            Self::Denoising => "denoising",
            Self::Decoding => "decoding",
        })
    }
}

/// What a stage needs, in bytes: of the memory that the backend computes in, which is that of the host where
/// it is the CPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageMemory {
    /// The stage.
    pub stage: Stage,
    /// The weights that are in this memory at a time.
    pub weights: u64,
    /// All else at the stage's peak: it grows with size, frames and videos.
    pub working: u64,
    /// What is in the host's memory, where the backend computes in another: weights that wait there or are
    /// on their way, frames.
    pub staged: u64,
    /// What is read from files in each pass through the network: a step has one, whatever the number of
    /// videos and of predictions. 0 where all weights stay in memory.
    pub read: u64,
}

impl StageMemory {
    /// All of the memory that the backend computes in.
    pub fn bytes(&self) -> u64 {
        self.weights + self.working
    }
}

/// What a run takes from the memory, and how the parts of the model are held for it: see
/// [`Pipeline::memory`](crate::Pipeline::memory).
///
/// It is worked out for the CPU backend in f32, where the peak that is measured with glibc is within a tenth
/// of it. In 16 bits and on other backends it is an estimate.
#[derive(Debug, Clone)]
pub struct MemoryPlan {
    work: Workload,
    wishes: Wishes,
    left_out: Vec<Stage>,
    place: Place,
    room: Room,
    /// Whether the networks could compute in 16 bits.
    halvable: bool,
    /// Whether the videos are begun, so that their size and number cannot be changed.
    is_settled: bool,
    placement: Placement,
}

/// The memory that a backend computes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Host,
    Device,
}

/// The memory that there is for a run.
#[derive(Debug, Clone)]
pub(crate) struct Room {
    /// What the process has beside the parts of the model.
    pub(crate) process: u64,
    /// What the parts of the model that are loaded now have.
    pub(crate) held: u64,
    /// What the process can still get, where it is known.
    pub(crate) available: Option<AvailableMemory>,
    /// What is free, where the limit that was set is more.
    pub(crate) excess: Option<AvailableMemory>,
}

/// Of the memory that is free, the part in so many that a run leaves to others.
const MARGIN: u64 = 32;

impl Room {
    /// For a process on this machine, with the limit that the caller has set.
    pub(crate) fn on_host(limit: Option<u64>, held: u64) -> Self {
        let used = machine::used();
        Self {
            process: used.saturating_sub(held),
            ..Self::within(limit, AvailableMemory::now(), used, held)
        }
    }

    /// On a device, of which the driver may tell the memory.
    pub(crate) fn on_device(limit: Option<u64>, memory: Option<DeviceMemory>, held: u64) -> Self {
        Self::within(limit, memory.map(AvailableMemory::of_device), held, held)
    }

    /// With a limit that the caller may have set, of which so much is used; else with what is free.
    fn within(limit: Option<u64>, free: Option<AvailableMemory>, used: u64, held: u64) -> Self {
        let Some(limit) = limit else {
            return Self { process: 0, held, available: free, excess: None };
        };
        let set = AvailableMemory::set(limit, used);
        let excess = free.filter(|free| free.bytes() < set.bytes());
        Self { process: 0, held, available: Some(set), excess }
    }

    /// What the run may take, the parts that are loaded included.
    fn bytes(&self) -> u64 {
        let Some(available) = &self.available else { return u64::MAX };
        let free = available.bytes();
        let margin = if available.limit() == MemoryLimit::Set { 0 } else { free / MARGIN };
        (free - margin).saturating_add(self.held)
    }
}

impl MemoryPlan {
    pub(crate) fn new(
        work: Workload,
        wishes: Wishes,
        place: Place,
        room: Room,
        halvable: bool,
    ) -> Self {
        let placement = Placement::default();
        let (left_out, is_settled) = (Vec::new(), false);
        let plan = Self { work, wishes, left_out, place, room, halvable, is_settled, placement };
        plan.placed()
    }

    /// With the parts placed anew, after a change.
    fn placed(mut self) -> Self {
        self.placement = self.choose();
        self
    }

    /// How the parts of the model are held: the fastest way that fits the memory, or the smallest if none
    /// does.
    pub fn placement(&self) -> &Placement {
        &self.placement
    }

    /// What each stage needs, in the order of the run.
    pub fn stages(&self) -> Vec<StageMemory> {
        self.stages_with(&self.placement)
    }

    fn stages_with(&self, placement: &Placement) -> Vec<StageMemory> {
        let mut stages = self.work.stages(placement, self.place);
        stages.retain(|stage| !self.left_out.contains(&stage.stage));
        stages
    }

    /// The stage that needs most.
    pub fn peak(&self) -> StageMemory {
        self.peak_with(&self.placement)
    }

    fn peak_with(&self, placement: &Placement) -> StageMemory {
        let none = Stage::Decoding;
        let nothing = StageMemory { stage: none, weights: 0, working: 0, staged: 0, read: 0 };
        let stages = self.stages_with(placement);
        stages.into_iter().max_by_key(StageMemory::bytes).unwrap_or(nothing)
    }

    /// What the process takes in all at the peak: the run, and what it had before beside the parts of the
    /// model. Of the host's memory where the backend computes in it, else of the device's.
    pub fn bytes(&self) -> u64 {
        self.room.process + self.peak().bytes()
    }

    /// How the attention of each group of videos that go through the network together is cut into pieces.
    pub fn attention(&self) -> Vec<AttentionPlan> {
        self.work.runs.iter().map(|run| run.attention).collect()
    }

    /// Of a run that is resumed: prompts and the video to start from are encoded, and all but the way in
    /// which it is computed is settled.
    #[must_use]
    pub fn resumed(mut self) -> Self {
        self.left_out.extend([Stage::EncodingPrompts, Stage::EncodingVideo]);
        self.is_settled = true;
        self.placed()
    }

    /// Without a stage that is not run, such as [`Stage::EncodingPrompts`] where all embeddings are given.
    #[must_use]
    pub fn without(mut self, stage: Stage) -> Self {
        self.left_out.push(stage);
        self.placed()
    }

    /// With a single stage.
    pub(crate) fn only(mut self, stage: Stage) -> Self {
        let all = [Stage::EncodingPrompts, Stage::EncodingVideo, Stage::Denoising, Stage::Decoding];
        self.left_out.extend(all.into_iter().filter(|other| *other != stage));
        self.placed()
    }

    pub(crate) fn settled(mut self) -> Self {
        self.is_settled = true;
        self
    }

    /// With all frames kept in memory until the last video is decoded, as
    /// [`Pipeline::generate`](crate::Pipeline::generate) returns them.
    #[must_use]
    pub fn keeping_frames(mut self) -> Self {
        self.work.keeps_frames = true;
        self.placed()
    }

    /// The limit that the run keeps to, in bytes of the whole process (on a GPU: of its memory), and what sets
    /// it; `None` where the system does not tell.
    pub fn limit(&self) -> Option<(u64, MemoryLimit)> {
        let available = self.room.available.as_ref()?;
        Some((self.room.process.saturating_add(self.room.bytes()), available.limit()))
    }

    /// A sentence, if the limit that was set is more than the memory that is free.
    pub fn excess(&self) -> Option<String> {
        let free = self.room.excess.as_ref()?;
        let (limit, _) = self.limit()?;
        let most = free.bytes().saturating_add(self.room.process).saturating_add(self.room.held);
        Some(format!(
            "the memory limit of {} is more than the {} that this process can have {}",
            Size(limit),
            Size(most),
            free.limit()
        ))
    }

    /// Compares the peak with the limit.
    ///
    /// # Errors
    /// If it is more, however the parts of the model are held.
    pub fn check(&self) -> Result<(), MemoryShortage> {
        self.room.available.as_ref().map_or(Ok(()), |available| self.compare(available))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use wan_core::{Tiling, VaeMemory};
    use wan_models::load::Residency;
    use wan_models::vae::WanVaeConfig;

    use super::work::{Part, Run};
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
        let part = Part { config: serde_json::from_value(text).unwrap(), stored: 4 };
        Workload {
            text: Some(part),
            image: None,
            transformer: Some(Part {
                config: serde_json::from_value(transformer).unwrap(),
                stored: 2,
            }),
            other_transformer: 0,
            vae: serde_json::from_value(vae).unwrap(),
            text_element: 4,
            element: 4,
            vae_element: 4,
            prompts: vec![100, 100],
            encodes_video: false,
            keeps_frames: false,
            runs: vec![Run {
                latent_shape,
                videos: 1,
                passes: 2,
                latents: 7,
                prompt_rows: vec![101; 2],
                steps: 50,
                attention: AttentionPlan { heads: 1, rows: 256 },
                window: None,
            }],
            threads: 8,
        }
    }

    /// The VAE of Wan 2.2 TI2V-5B.
    fn vae22() -> WanVaeConfig {
        WanVaeConfig {
            base_dim: 160,
            decoder_base_dim: Some(256),
            z_dim: 48,
            is_residual: true,
            in_channels: 12,
            out_channels: 12,
            patch_size: Some(2),
            ..WanVaeConfig::default()
        }
    }

    fn plan(work: Workload) -> MemoryPlan {
        within(work, None)
    }

    /// In so many GB, where a limit is set.
    fn within(work: Workload, gigabytes: Option<f64>) -> MemoryPlan {
        let available = gigabytes.map(|limit| AvailableMemory::set((limit * 1e9) as u64, 0));
        let room = Room { process: 0, held: 0, available, excess: None };
        MemoryPlan::new(work, Wishes::default(), Place::Host, room, true)
    }

    #[test]
    fn weights_are_those_of_the_published_models() {
        let Workload { text, transformer, vae, .. } = wan();
        let (text, transformer) = (text.unwrap().config, transformer.unwrap().config);
        assert_eq!(transformer::sizes(&transformer, 4, 4).all(), 4 * 1_418_996_800);
        assert_eq!(vae::parameters(&vae), 126_892_531);
        assert_eq!(vae::parameters(&vae22()), 704_688_668);
        // Without 256,384 rows of 4096.
        assert_eq!(text::weights(&text, 4), 4 * (5_680_910_336 - 1_050_148_864));
    }

    fn residencies(plan: &MemoryPlan) -> [Residency; 2] {
        [plan.placement().text_encoder, plan.placement().transformer]
    }

    #[test]
    fn the_fastest_placement_that_fits_is_chosen() {
        use Residency::*;

        let denoising = |limit| within(wan(), limit).without(Stage::Decoding);
        let need = |limit| denoising(limit).stages()[1].bytes() as f64 / 1e9;
        for (limit, expected) in [
            (None, Resident),
            (Some(need(None)), Resident),
            (Some(need(None) - 0.01), Stored),
            (Some(need(None) - 1.5), Stored),
            (Some(need(None) - 3.5), Streamed),
        ] {
            let plan = denoising(limit);
            assert_eq!(residencies(&plan), [Streamed, expected], "{limit:?}");
            assert_eq!(plan.check(), Ok(()), "{limit:?}");
            let read = plan.stages()[1].read;
            assert_eq!(read > 0, expected == Streamed, "{limit:?}: {read}");
        }
        // In f32 in the file, nothing is gained by keeping what is stored.
        let mut work = wan();
        work.transformer.as_mut().unwrap().stored = 4;
        let plan = within(work, Some(need(None) - 0.01)).without(Stage::Decoding);
        assert_eq!(residencies(&plan), [Streamed, Streamed]);
    }

    #[test]
    fn the_caller_decides_where_it_wants_to() {
        let wishes = Wishes {
            text_encoder: Some(Residency::Resident),
            transformer: Some(Residency::Streamed),
            tiling: Some(Tiling::square(64)),
        };
        let plan = MemoryPlan { wishes, ..plan(wan()) }.placed();
        assert_eq!(residencies(&plan), [Residency::Resident, Residency::Streamed]);
        assert_eq!(plan.placement().vae.tiling, Some(Tiling::square(64)));
        assert!(plan.stages()[0].weights > 18_000_000_000);
    }

    #[test]
    fn for_decoding_the_transformer_goes_before_frames_are_cut() {
        let mut work = wan();
        work.text = None;
        let whole = within(work.clone(), None);
        let need = whole.stages()[1].bytes() as f64 / 1e9;
        let placement = *within(work, Some(need - 0.01)).placement();
        assert_eq!((placement.drops_transformer, placement.vae), (true, VaeMemory::new()));
    }

    #[test]
    fn a_limit_that_does_not_do_is_refused_with_the_smallest_that_does() {
        for limit in [0.0, 0.001, 0.5] {
            let shortage = within(wan(), Some(limit)).check().unwrap_err();
            let smallest = shortage.smallest_limit();
            assert!(smallest > 500_000_000 && smallest < 12_000_000_000, "{shortage}");
            let gigabytes = smallest as f64 / 1e9;
            assert_eq!(within(wan(), Some(gigabytes + 1e-9)).check(), Ok(()), "{limit}");
            assert!(within(wan(), Some(gigabytes - 0.01)).check().is_err(), "{limit}");
        }
    }

    #[test]
    fn only_what_lowers_the_smallest_peak_is_a_remedy() {
        use MemoryRemedy::*;

        let mut work = wan();
        work.text = None;
        // So many videos that their streams are the peak.
        (work.runs[0].videos, work.runs[0].passes) = (64, 128);
        let denoising = plan(work.clone());
        assert_eq!(denoising.peak().stage, Stage::Denoising);
        assert_eq!(denoising.remedies(), [FewerFrames, SmallerSize, FewerVideos]);
        assert!(denoising.resumed().remedies().is_empty());
        work = wan();
        (work.runs[0].latent_shape, work.runs[0].passes) = ([1, 16, 2, 8, 8], 1);
        assert!(plan(work).remedies().contains(&SavedEmbeddings));
    }

    #[test]
    fn the_memory_of_a_device_is_compared_where_it_is_told() {
        let on_device = |memory| {
            let room = Room::on_device(None, memory, 0);
            MemoryPlan::new(wan(), Wishes::default(), Place::Device, room, true)
        };
        assert_eq!(on_device(None).check(), Ok(()));
        let peak = on_device(None).peak().bytes();
        let roomy = on_device(Some(DeviceMemory { free: 2 * peak, total: 2 * peak }));
        assert_eq!(roomy.placement(), on_device(None).placement());
        let busy = on_device(Some(DeviceMemory { free: 1 << 29, total: peak })).check();
        let busy = busy.unwrap_err();
        assert!(
            !busy.is_certain() && busy.to_string().contains("are free on the device"),
            "{busy}"
        );
        // What is streamed passes through the memory of the host.
        let small = on_device(Some(DeviceMemory { free: 4 << 30, total: 4 << 30 }));
        assert!(small.stages()[1].staged > 0, "{small}");
    }

    #[test]
    fn stages_that_are_not_run_need_nothing() {
        let whole = plan(wan());
        let without = whole.clone().without(Stage::EncodingPrompts);
        let stages: Vec<Stage> = without.stages().iter().map(|stage| stage.stage).collect();
        assert_eq!(stages, [Stage::Denoising, Stage::Decoding]);
        let frames = plan(wan()).keeping_frames().stages()[2].bytes() - whole.stages()[2].bytes();
        assert!((81 * 832 * 480 * 3..=85 * 832 * 480 * 3).contains(&frames), "{frames}");
    }

    #[test]
    fn weights_that_can_never_fit_are_certain() {
        let compare = |free: u64, ceiling: u64| {
            let available = AvailableMemory::of(MemoryLimit::Container, free << 20, ceiling << 20);
            let room = Room { process: 0, held: 0, available: Some(available), excess: None };
            MemoryPlan::new(wan(), Wishes::default(), Place::Host, room, true).check()
        };
        assert_eq!(compare(65_536, 65_536), Ok(()));
        assert!(!compare(300, 65_536).unwrap_err().is_certain());
        let certain = compare(300, 400).unwrap_err();
        assert_eq!((certain.is_certain(), certain.available()), (true, 400 << 20));
    }

    #[test]
    fn a_limit_beyond_what_is_free_is_told() {
        let free = AvailableMemory::of(MemoryLimit::Machine, 8_000_000_000, 8_000_000_000);
        let said = |limit| {
            let room = Room::within(Some(limit), Some(free.clone()), 0, 0);
            MemoryPlan::new(wan(), Wishes::default(), Place::Host, room, true).excess()
        };
        assert_eq!(said(8_000_000_000), None);
        let excess = said(64_000_000_000).unwrap();
        assert!(excess.contains("64.0 GB") && excess.contains("8.0 GB"), "{excess}");
    }
}
