//! The memory of the runs of a pipeline.

use std::collections::BTreeMap;

use burn::tensor::DType;
use wan_core::Backend;
use wan_io::text::clean_prompt;
use wan_models::load::{NetworkConfig, Residency};

use super::machine::threads;
use super::work::{Part, Run, Workload, prompts};
use super::{MemoryPlan, Place, Room, Stage};
use crate::components::Component;
use crate::generate::groups;
use crate::{Latents, Pipeline, Plan, StreamPlan};

/// Matrices in the middle of the networks: how they are stored tells how the file is.
const TEXT_MATRIX: &str = "encoder.block.0.layer.0.SelfAttention.q.weight";
const TRANSFORMER_MATRIX: &str = "blocks.0.attn1.to_q.weight";

/// Parts of no more bytes than these stay loaded: to read them again would take more than is gained.
const SMALL: u64 = 16 << 20;

impl<B: Backend> Pipeline<B> {
    /// What the videos of some plans need of memory, stage by stage, and how the parts of the model are held
    /// for them. Nothing is loaded.
    ///
    /// The limit is the one of [the builder](crate::PipelineBuilder::memory_limit), else what is free now.
    /// A run that [is resumed](MemoryPlan::resumed) or starts from given embeddings does
    /// [without](MemoryPlan::without) some stages.
    pub fn memory(&self, plans: &[Plan]) -> MemoryPlan {
        let mut tokens = BTreeMap::new();
        for (prompt, length) in plans.iter().flat_map(prompts) {
            tokens.entry((prompt, length)).or_insert_with(|| self.tokens(prompt, length));
        }
        let config = &self.model.transformer.config;
        let attention = |shape| B::attention_plan(&self.device, shape);
        let run = |group: Vec<usize>| {
            Run::of(group.into_iter().map(|i| &plans[i]), &tokens, config, attention)
        };
        let text = self.model.text_encoder.as_ref();
        let image = self.model.image_encoder.as_ref();
        let work = Workload {
            text: text.map(|part| Part::of(part, TEXT_MATRIX)),
            image: image.map(|encoder| encoder.vision.config.clone()),
            transformer: Some(Part::of(&self.model.transformer, TRANSFORMER_MATRIX)),
            prompts: tokens.values().copied().collect(),
            encodes_video: plans.iter().any(|plan| plan.encoded_frames > 0),
            runs: groups(plans).into_iter().map(run).collect(),
            ..self.workload()
        };
        self.memory_plan(work)
    }

    /// What a stream needs of memory: see [`memory`](Self::memory). Its [time](Self::estimate_time) is that of a block.
    pub fn memory_to_stream(&self, stream: &StreamPlan) -> MemoryPlan {
        let mut plan = self.memory(std::slice::from_ref(&stream.block));
        let (config, window) = (&self.model.transformer.config, stream.window.window);
        for run in &mut plan.work.runs {
            let rows = run.tokens(config);
            let seen = rows / run.latent_shape[2] * window;
            let shape = [1, config.num_attention_heads, rows, seen];
            (run.window, run.attention) = (Some(window), B::attention_plan(&self.device, shape));
            run.steps += 1; // the pass whose keys and values are kept
        }
        plan.placed()
    }

    /// What decoding finished latents needs, one video after the other and without a run. A transformer that
    /// is loaded stays where there is room.
    pub fn memory_to_decode(&self, latents: &[Latents<B>]) -> MemoryPlan {
        let runs = latents.iter().map(|latents| Run::decoded(latents.shape())).collect();
        let loaded = self.transformer.form();
        let other_transformer = loaded.map_or(0, |(_, form)| self.transformer_bytes(form));
        self.memory_plan(Workload { runs, other_transformer, ..self.workload() }).settled()
    }

    fn memory_plan(&self, work: Workload) -> MemoryPlan {
        let (place, limit, held) = (self.place(), self.memory_limit, self.held());
        let room = match place {
            Place::Host => Room::on_host(limit, held),
            Place::Device => Room::on_device(limit, B::device_memory(&self.device), held),
        };
        let halvable = B::supports_dtype(&self.device, DType::BF16);
        MemoryPlan::new(work, self.wishes, place, room, halvable)
    }

    fn place(&self) -> Place {
        match ["flex", "ndarray"].contains(&B::name(&self.device).as_str()) {
            true => Place::Host,
            false => Place::Device,
        }
    }

    /// The bytes of the parts that stay loaded between runs.
    fn held(&self) -> u64 {
        self.held_transformer() + self.held_vae()
    }

    fn held_transformer(&self) -> u64 {
        self.transformer.form().map_or(0, |(_, form)| self.transformer_bytes(form))
    }

    fn held_vae(&self) -> u64 {
        self.vae.form().map_or(0, |()| self.workload().vae_bytes())
    }

    fn transformer_bytes(&self, form: Residency) -> u64 {
        let transformer = Some(Part::of(&self.model.transformer, TRANSFORMER_MATRIX));
        Workload { transformer, ..self.workload() }.transformer_bytes(form, self.place())
    }

    /// Lets go of large parts that stay loaded from earlier runs and are not needed in a stage, if the stage
    /// would take more with them than the whole run takes: so the memory of later runs is that of the first.
    pub(crate) fn make_room(&self, stage: Stage, whole: &MemoryPlan) {
        let most = whole.peak().bytes();
        let need = whole.clone().only(stage).peak().bytes();
        let uses_vae = match stage {
            Stage::EncodingPrompts | Stage::EncodingImages => false,
            // And so counted.
            Stage::Denoising => whole.work.encodes_video || whole.work.is_stream(),
            Stage::EncodingVideo | Stage::Decoding => true,
        };
        let uses_transformer = matches!(stage, Stage::Denoising | Stage::Decoding);
        let vae = || if uses_vae { 0 } else { self.held_vae() };
        let transformer = || if uses_transformer { 0 } else { self.held_transformer() };
        let is_too_much = || need.saturating_add(vae()).saturating_add(transformer()) > most;
        if vae() > SMALL && is_too_much() {
            self.vae.unload();
        }
        if transformer() > SMALL && is_too_much() {
            self.transformer.unload();
        }
    }

    fn workload(&self) -> Workload {
        Workload {
            text: None,
            image: None,
            transformer: None,
            other_transformer: 0,
            vae: self.model.vae.config.clone(),
            text_element: self.dtypes().text_encoder.size(),
            element: self.dtypes().transformer.size(),
            vae_element: self.dtypes().vae.size(),
            prompts: Vec::new(),
            encodes_video: false,
            keeps_frames: false,
            runs: Vec::new(),
            threads: threads(),
        }
    }

    fn tokens(&self, prompt: &str, text_length: usize) -> usize {
        let tokenizer = self.model.tokenizer().ok();
        let tokens =
            tokenizer.and_then(|known| known.encode(&clean_prompt(prompt), text_length).ok());
        tokens.map_or(text_length, |tokens| tokens.ids.len())
    }
}

impl<C: NetworkConfig + Clone> Part<C> {
    /// Of a network that has a matrix of this name.
    fn of(component: &Component<C>, matrix: &str) -> Self {
        let stored = component.tensors.tensor(matrix);
        let stored = stored.map_or(4, |tensor| tensor.dtype.bitsize() / 8);
        Self { config: component.config.clone(), stored }
    }
}
