//! From prompts to embeddings.

use std::collections::{HashMap, VecDeque};
use std::sync::PoisonError;

use burn::tensor::Tensor;
use wan_core::{Backend, TextEncoder};
use wan_io::counted;
use wan_io::text::clean_prompt;
use wan_models::umt5::Umt5Encoder;

use crate::events::PromptRef;
use crate::latents::host;
use crate::prompt_weights::WeightedPrompt;
use crate::{
    Embeddings, Error, Event, Observer, Pipeline, Plan, PromptEmbeds, Request, Role, Stage,
};

/// Prompts whose embeddings are kept: some megabytes of the largest model.
const CACHED_PROMPTS: usize = 32;

/// The content that the embeddings of a prompt depend on: its ids, and the weight of each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Content {
    ids: Vec<u32>,
    /// The bits of the weights; empty where all are 1.
    weights: Vec<u32>,
}

/// The embeddings of the last prompts, by content.
#[derive(Default)]
pub(crate) struct EmbedsCache {
    embeds: HashMap<Content, PromptEmbeds>,
    oldest_first: VecDeque<Content>,
}

impl EmbedsCache {
    fn insert(&mut self, content: Content, embeds: PromptEmbeds) {
        if self.oldest_first.len() == CACHED_PROMPTS
            && let Some(oldest) = self.oldest_first.pop_front()
        {
            self.embeds.remove(&oldest);
        }
        self.oldest_first.push_back(content.clone());
        self.embeds.insert(content, embeds);
    }
}

/// A prompt to encode.
struct Prompt<'a> {
    which: PromptRef,
    text: &'a str,
    weighting: bool,
    text_length: usize,
}

impl<B: Backend> Pipeline<B> {
    /// The embeddings of a request's prompt and, if its guidance needs it, of its negative prompt; to
    /// keep, or to use without a text encoder ([`Request::prompt_embeds`]).
    ///
    /// # Errors
    /// If the request cannot be fulfilled, the text encoder cannot be loaded, or the work is cancelled.
    pub fn embed(&self, request: &Request, observer: &mut Observer) -> Result<Embeddings, Error> {
        let plan = self.plan(request)?;
        let mut embeddings = self.embed_all(&[(&plan, request)], observer)?;
        Ok(embeddings.remove(0))
    }

    /// The embeddings of a batch: text encoders run once for all of it, and once for equal prompts.
    pub(crate) fn embed_all(
        &self,
        batch: &[(&Plan, &Request)],
        observer: &mut Observer,
    ) -> Result<Vec<Embeddings>, Error> {
        let mut prompts = Vec::new();
        for (request, (plan, given)) in batch.iter().enumerate() {
            if given.prompt_embeds.is_none() {
                prompts.push(Prompt::positive(request, plan));
            }
            if plan.needs_negative()? && given.negative_prompt_embeds.is_none() {
                prompts.push(Prompt::negative(request, plan));
            }
        }
        let plans: Vec<Plan> = batch.iter().map(|(plan, _)| (*plan).clone()).collect();
        let mut encoded = self.encode_prompts(&prompts, &plans, observer)?.into_iter();
        let mut next = || encoded.next().expect("one for each prompt");
        let mut embeddings = Vec::new();
        for (plan, given) in batch {
            let prompt = given.prompt_embeds.clone().unwrap_or_else(&mut next);
            let negative_prompt = match plan.needs_negative()? {
                true => Some(given.negative_prompt_embeds.clone().unwrap_or_else(&mut next)),
                false => given.negative_prompt_embeds.clone(),
            };
            embeddings.push(Embeddings { prompt, negative_prompt });
        }
        Ok(embeddings)
    }

    /// The embeddings of a negative prompt that turns out to be needed in the middle of a run.
    pub(crate) fn embed_negative(
        &self,
        video: usize,
        plan: &Plan,
        observer: &mut Observer,
    ) -> Result<PromptEmbeds, Error> {
        let (prompts, plans) = ([Prompt::negative(video, plan)], [plan.clone()]);
        Ok(self.encode_prompts(&prompts, &plans, observer)?.remove(0))
    }

    fn encode_prompts(
        &self,
        prompts: &[Prompt],
        plans: &[Plan],
        observer: &mut Observer,
    ) -> Result<Vec<PromptEmbeds>, Error> {
        let mut contents = Vec::new();
        for prompt in prompts {
            contents.push(self.tokenize(prompt, observer)?);
        }
        // From here on so that a thread that waits finds the encoder still loaded.
        let lease = self.text_encoder.lease();
        let mut cache = self.embeds.lock().unwrap_or_else(PoisonError::into_inner);
        // The cache may hold fewer prompts than the batch has.
        let mut known: HashMap<&Content, PromptEmbeds> = HashMap::new();
        let mut unknown: Vec<(PromptRef, &Content)> = Vec::new();
        for (prompt, content) in prompts.iter().zip(&contents) {
            if let Some(cached) = cache.embeds.get(content) {
                known.insert(content, cached.clone());
            } else if !unknown.iter().any(|(_, other)| *other == content) {
                unknown.push((prompt.which, content));
            }
        }
        for prompts in unknown.chunks(CACHED_PROMPTS) {
            let memory = self.memory(plans);
            self.make_room(Stage::EncodingPrompts, &memory);
            let residency = memory.placement().text_encoder;
            let load = || self.load_text_encoder(residency, observer);
            let encoder = lease.get_or_load_as(residency, load)?;
            for (&(prompt, content), encoded) in
                prompts.iter().zip(encode(&encoder, prompts, observer)?)
            {
                observer.emit(Event::Encoded { prompt, tokens: encoded.tokens() })?;
                cache.insert(content.clone(), encoded.clone());
                known.insert(content, encoded);
            }
            self.tell_of_slow_reading(Role::TextEncoder, encoder.reading(), observer)?;
        }
        Ok(contents.iter().map(|content| known[content].clone()).collect())
    }

    /// The ids of a prompt, cleaned as the references do, and their weights.
    fn tokenize(&self, prompt: &Prompt, observer: &mut Observer) -> Result<Content, Error> {
        let cleaned = clean_prompt(prompt.text);
        let weighted = match prompt.weighting {
            true => WeightedPrompt::parse(&cleaned)?,
            false => WeightedPrompt::plain(cleaned),
        };
        let tokenizer = self.model.tokenizer()?;
        let tokens = tokenizer.encode(&weighted.text, prompt.text_length)?;
        let (kept, dropped) = (tokens.ids.len(), tokens.dropped);
        if dropped > 0 {
            let which = prompt.which;
            tracing::warn!(
                "the {which} is {} too long: what is too much has no effect",
                counted(dropped as u64, "token")
            );
            observer.emit(Event::PromptCut { prompt: which, kept, dropped })?;
        }
        let weight = |&(start, end): &(usize, usize)| weighted.weight_of(&(start..end)).to_bits();
        let weights = match weighted.weights.iter().all(|(_, weight)| *weight == 1.0) {
            true => Vec::new(),
            false => tokens.offsets.iter().map(weight).collect(),
        };
        Ok(Content { ids: tokens.ids, weights })
    }
}

impl<'a> Prompt<'a> {
    fn positive(request: usize, plan: &'a Plan) -> Self {
        Self::new(PromptRef { request, negative: false }, &plan.prompt, plan)
    }

    fn negative(request: usize, plan: &'a Plan) -> Self {
        Self::new(PromptRef { request, negative: true }, &plan.negative_prompt, plan)
    }

    fn new(which: PromptRef, text: &'a str, plan: &Plan) -> Self {
        Self { which, text, weighting: plan.prompt_weighting, text_length: plan.text_length }
    }
}

/// Encodes prompts together, but each alone and without padding: masked positions would not change it.
fn encode<B: Backend>(
    encoder: &Umt5Encoder<B>,
    prompts: &[(PromptRef, &Content)],
    observer: &Observer,
) -> Result<Vec<PromptEmbeds>, Error> {
    let ids: Vec<&[u32]> = prompts.iter().map(|(_, content)| &content.ids[..]).collect();
    let states = encoder.encode(&ids, observer.cancel_token())?;
    let pairs = states.into_iter().zip(prompts);
    pairs.map(|(states, &(which, content))| weighted(states, content, which)).collect()
}

/// The embeddings of each token times its weight, as is usual for encoders of the T5 family.
fn weighted<B: Backend>(
    states: Tensor<B, 3>,
    content: &Content,
    which: PromptRef,
) -> Result<PromptEmbeds, Error> {
    let [_, tokens, width] = states.dims();
    let mut states = host(states);
    for (row, weight) in states.chunks_exact_mut(width).zip(&content.weights) {
        row.iter_mut().for_each(|value| *value *= f32::from_bits(*weight));
    }
    PromptEmbeds::new(states, [tokens, width]).map_err(|error| match error {
        Error::NotFinite { .. } => Error::NotFinite { stage: format!("encoding the {which}") },
        other => other,
    })
}
