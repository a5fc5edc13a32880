//! More memory needed than there is, in a sentence.

use std::fmt;

use super::work::Run;
use super::{AvailableMemory, MemoryLimit, MemoryPlan, StageMemory};

/// A run needs more memory than there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryShortage {
    need: StageMemory,
    available: u64,
    limit: MemoryLimit,
    is_certain: bool,
    remedies: Vec<MemoryRemedy>,
    suffices: bool,
    smallest_limit: u64,
}

/// A change after which a run needs less memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MemoryRemedy {
    /// Videos with fewer frames.
    FewerFrames,
    /// Videos of a smaller size.
    SmallerSize,
    /// A smaller batch.
    FewerVideos,
    /// Networks that compute in 16 bits.
    HalfPrecision,
    /// Embeddings made elsewhere, so that the text encoder is not loaded.
    SavedEmbeddings,
}

impl MemoryRemedy {
    const ALL: [Self; 5] = [
        Self::FewerFrames,
        Self::SmallerSize,
        Self::FewerVideos,
        Self::HalfPrecision,
        Self::SavedEmbeddings,
    ];

    /// The plan with this change, where it can be made.
    fn apply(self, plan: &MemoryPlan) -> Option<MemoryPlan> {
        let mut plan = plan.clone();
        match self {
            Self::HalfPrecision if plan.work.element > 2 && plan.halvable => plan.work.element = 2,
            Self::SavedEmbeddings => plan.work.text = None,
            // A stream takes the same, however long it is.
            Self::FewerFrames if plan.work.is_stream() => return None,
            Self::FewerFrames | Self::SmallerSize | Self::FewerVideos if !plan.is_settled => {
                plan.work.runs.iter_mut().for_each(|run| self.shrink(run));
            }
            _ => return None,
        }
        Some(plan)
    }

    fn shrink(self, run: &mut Run) {
        let [_, _, frames, height, width] = &mut run.latent_shape;
        match self {
            Self::FewerFrames => *frames = frames.div_ceil(2),
            Self::SmallerSize => {
                // Patches stay whole.
                (*height, *width) = ((*height / 4).max(1) * 2, (*width / 4).max(1) * 2);
            }
            _ => {
                (run.passes, run.latents) = (run.passes / run.videos, run.latents / run.videos);
                run.videos = 1;
            }
        }
    }
}

impl fmt::Display for MemoryRemedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::FewerFrames => "fewer frames",
            Self::SmallerSize => "a smaller size",
            Self::FewerVideos => "fewer videos at a time",
            Self::HalfPrecision => "a precision of 16 bits",
            Self::SavedEmbeddings => "saved embeddings in place of the text encoder",
        })
    }
}

impl MemoryPlan {
    pub(super) fn compare(&self, available: &AvailableMemory) -> Result<(), MemoryShortage> {
        let (need, room) = (self.peak(), self.room.bytes());
        if need.bytes() <= room {
            return Ok(());
        }
        let (ceiling, highest) = available.ceiling();
        let ceiling = ceiling.saturating_add(self.room.held);
        let weights = self.stages().into_iter().map(|stage| stage.weights).max();
        let is_certain = weights.unwrap_or(0) > ceiling;
        let (available, limit) = match is_certain {
            true => (ceiling, highest),
            false => (room, available.limit()),
        };
        let all = self.remedies();
        let is_enough = |remedy: &MemoryRemedy| {
            self.smallest_with(*remedy).is_some_and(|peak| peak <= available)
        };
        let enough: Vec<MemoryRemedy> = all.iter().copied().filter(is_enough).collect();
        let suffices = !enough.is_empty();
        let remedies = if suffices { enough } else { all };
        let smallest_limit = self.smallest_limit();
        Err(MemoryShortage {
            need,
            available,
            limit,
            is_certain,
            remedies,
            suffices,
            smallest_limit,
        })
    }

    /// The smallest limit with which the run would begin, in bytes of the whole process.
    pub fn smallest_limit(&self) -> u64 {
        self.room.process + self.peak_with(&self.smallest()).bytes()
    }

    /// The changes that would help beside another placement: each lowers the smallest peak by a twentieth
    /// at least.
    pub fn remedies(&self) -> Vec<MemoryRemedy> {
        let most = self.peak_with(&self.smallest()).bytes() / 20 * 19;
        let helps =
            |remedy: &MemoryRemedy| self.smallest_with(*remedy).is_some_and(|peak| peak <= most);
        MemoryRemedy::ALL.into_iter().filter(helps).collect()
    }

    /// The smallest peak in bytes after a change, where it can be made.
    fn smallest_with(&self, remedy: MemoryRemedy) -> Option<u64> {
        let plan = remedy.apply(self)?;
        Some(plan.peak_with(&plan.smallest()).bytes())
    }
}

impl MemoryShortage {
    /// The stage that needs most, and what it needs.
    pub fn need(&self) -> &StageMemory {
        &self.need
    }

    /// The bytes that there are: free now or, if the shortage is certain, at best.
    pub fn available(&self) -> u64 {
        self.available
    }

    /// What limits them.
    pub fn limit(&self) -> MemoryLimit {
        self.limit
    }

    /// The smallest limit with which the run would begin, in bytes of the whole process.
    pub fn smallest_limit(&self) -> u64 {
        self.smallest_limit
    }

    /// Whether the weights alone are more than could ever be free, swap included: the run cannot succeed.
    pub fn is_certain(&self) -> bool {
        self.is_certain
    }

    /// The changes that would do, each by itself; if there is none, those that would at least help.
    pub fn remedies(&self) -> &[MemoryRemedy] {
        &self.remedies
    }
}

impl fmt::Display for MemoryShortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { need, available, limit, is_certain, remedies, suffices, smallest_limit } = self;
        let StageMemory { stage, weights, .. } = need;
        let all = Size(need.bytes());
        write!(
            f,
            "{stage} needs about {all} of memory, {} of it for weights, but ",
            Size(*weights)
        )?;
        match is_certain {
            true => write!(f, "there can be at most {} {limit}", Size(*available))?,
            false => write!(f, "{} are free {limit}", Size(*available))?,
        }
        write!(f, "; the smallest limit that would do is {}", Size(*smallest_limit))?;
        match &in_words(remedies)[..] {
            "" => Ok(()),
            remedies if *suffices => write!(f, ": {remedies} would do"),
            remedies => write!(f, ": {remedies} would help, but not by itself be enough"),
        }
    }
}

impl std::error::Error for MemoryShortage {}

/// `fewer frames, a smaller size or fewer videos at a time`
fn in_words(remedies: &[MemoryRemedy]) -> String {
    let words: Vec<String> = remedies.iter().map(ToString::to_string).collect();
    match words.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => words.concat(),
    }
}

/// Bytes in words.
pub(super) struct Size(pub(super) u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0..1_000_000_000 => write!(f, "{} MB", self.0.div_ceil(1_000_000)),
            _ => write!(f, "{:.1} GB", self.0 as f64 / 1e9),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Stage;

    fn said(certain: bool, remedies: &[MemoryRemedy]) -> String {
        let need = StageMemory {
            stage: Stage::Denoising,
            weights: 5_700_000_000,
            working: 12_800_000_000,
            staged: 0,
            read: 0,
        };
        let (available, limit) = (940_000_000, MemoryLimit::Container);
        let remedies = remedies.to_vec();
        let (is_certain, suffices) = (certain, !certain);
        let smallest_limit = 7_340_000_000;
        let shortage = MemoryShortage {
            need,
            available,
            limit,
            is_certain,
            remedies,
            suffices,
            smallest_limit,
        };
        shortage.to_string()
    }

    #[test]
    fn a_shortage_is_a_sentence() {
        use MemoryRemedy::{FewerFrames, SmallerSize};

        assert_eq!(
            said(false, &[FewerFrames, SmallerSize]),
            "denoising needs about 18.5 GB of memory, 5.7 GB of it for weights, but 940 MB are free \
             within the limit of the container (cgroup); the smallest limit that would do is 7.3 GB: \
             fewer frames or a smaller size would do"
        );
        assert!(said(true, &[SmallerSize]).ends_with(
            "but there can be at most 940 MB within the limit of the container (cgroup); the smallest \
             limit that would do is 7.3 GB: a smaller size would help, but not by itself be enough"
        ));
        assert!(said(false, &[]).ends_with("that would do is 7.3 GB"));
    }
}
