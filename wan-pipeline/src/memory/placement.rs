//! The way in which the parts of a model are held, and the choice of it.

use wan_core::{Tiling, VaeMemory};
use wan_models::load::Residency;

use super::{MemoryPlan, Place, Stage, text};

/// A text encoder of less is loaded as a whole; a larger one comes layer by layer. It is needed once in a
/// run, so nothing is gained by having all of it in memory.
const SMALL_TEXT_ENCODER: u64 = 64 << 20;

/// How the parts of a model are held in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Placement {
    /// The weights of the text encoder.
    pub text_encoder: Residency,
    /// The weights of the transformer.
    pub transformer: Residency,
    /// Whether the transformer is let go before frames are decoded. The next run loads it again.
    pub drops_transformer: bool,
    /// How frames pass through the VAE: as a whole, unless that takes too much.
    pub vae: VaeMemory,
}

/// What the caller has decided.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Wishes {
    pub(crate) text_encoder: Option<Residency>,
    pub(crate) transformer: Option<Residency>,
    pub(crate) tiling: Option<Tiling>,
}

impl MemoryPlan {
    /// The fastest placement that fits the room, or the smallest one.
    pub(super) fn choose(&self) -> Placement {
        self.choose_within(self.room.bytes())
    }

    pub(super) fn choose_within(&self, room: u64) -> Placement {
        let mut placement =
            Placement { text_encoder: self.text_residency(), ..Placement::default() };
        let transformers = self.transformer_residencies();
        let candidates =
            transformers.iter().map(|&transformer| Placement { transformer, ..placement });
        placement = self.first_that_fits(candidates.collect(), &[Stage::Denoising], room);
        let stages = [Stage::EncodingVideo, Stage::Decoding];
        let candidates = self.vae_memories().into_iter().flat_map(|vae| {
            let place = |drops_transformer| Placement { vae, drops_transformer, ..placement };
            // The next block of a stream needs it again.
            let ways = [false, true].into_iter().filter(|drops| !(*drops && self.work.is_stream()));
            ways.map(place).collect::<Vec<_>>()
        });
        self.first_that_fits(candidates.collect(), &stages, room)
    }

    /// The placement that needs least.
    pub(super) fn smallest(&self) -> Placement {
        self.choose_within(0)
    }

    /// The first of some placements with which some stages fit; if none does, the one that needs least.
    fn first_that_fits(&self, candidates: Vec<Placement>, of: &[Stage], room: u64) -> Placement {
        let need = |placement: &Placement| {
            let stages = self.stages_with(placement).into_iter();
            let stages = stages.filter(|stage| of.contains(&stage.stage));
            stages.map(|stage| stage.bytes()).max().unwrap_or(0)
        };
        let needs: Vec<u64> = candidates.iter().map(need).collect();
        let fits = needs.iter().position(|&need| need <= room);
        let smallest = || (0..needs.len()).min_by_key(|&i| needs[i]);
        fits.or_else(smallest).map_or(self.placement, |i| candidates[i])
    }

    fn text_residency(&self) -> Residency {
        let Some(text) = &self.work.text else { return Residency::Resident };
        let small = text::weights(&text.config, self.work.element) < SMALL_TEXT_ENCODER;
        let best = if small { Residency::Resident } else { Residency::Streamed };
        self.wishes.text_encoder.unwrap_or(best)
    }

    /// The ways to hold the transformer, the fastest first.
    fn transformer_residencies(&self) -> Vec<Residency> {
        if let Some(wish) = self.wishes.transformer {
            return vec![wish];
        }
        let stored = self.work.transformer.as_ref().map(|part| part.stored);
        // Only where they are smaller there than in the dtype that is computed in, or in other memory.
        let worth_it = self.place == Place::Device || stored < Some(self.work.element);
        let mut ways = vec![Residency::Resident];
        ways.extend(worth_it.then_some(Residency::Stored));
        ways.push(Residency::Streamed);
        ways
    }

    /// The ways in which frames pass through the VAE, the best first: what is remembered in 16 bits changes
    /// values less than tiles do.
    fn vae_memories(&self) -> Vec<VaeMemory> {
        let smaller = || [256, 192, 128].map(Tiling::square).into_iter().map(Some);
        let tilings: Vec<_> = match self.wishes.tiling {
            Some(tiling) => vec![Some(tiling)],
            None => std::iter::once(None).chain(smaller()).collect(),
        };
        let ways =
            |tiling| [false, true].map(|half| VaeMemory::new().tiling(tiling).half_cache(half));
        tilings.into_iter().flat_map(ways).collect()
    }
}
