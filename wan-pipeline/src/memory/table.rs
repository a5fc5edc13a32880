//! A plan as a table.

use std::fmt;

use super::shortage::Size;
use super::{MemoryPlan, Place, Placement, Stage, StageMemory};

/// For people: a row for each stage, and what was decided.
impl fmt::Display for MemoryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let memory = match self.place {
            Place::Host => "memory",
            Place::Device => "device memory",
        };
        writeln!(
            f,
            "{:22}{:>10}{:>12}{:>10}{:>10}{:>12}",
            "stage", "weights", "other", "all", "host", "read a pass"
        )?;
        let process = self.room.process;
        for stage in self.stages() {
            let StageMemory { stage: name, weights, working, staged, read } = stage;
            let (all, host) = match self.place {
                Place::Host => (process + stage.bytes(), process + stage.bytes()),
                Place::Device => (stage.bytes(), staged),
            };
            let [weights, working, all, host, read] =
                [weights, working, all, host, read].map(|bytes| Size(bytes).to_string());
            writeln!(
                f,
                "{:22}{weights:>10}{working:>12}{all:>10}{host:>10}{read:>12}",
                name.to_string()
            )?;
        }
        let Placement { text_encoder, transformer, drops_transformer, vae } = self.placement;
        let runs = |stage| self.stages().iter().any(|found| found.stage == stage);
        if runs(Stage::EncodingPrompts) {
            writeln!(f, "text encoder: {text_encoder}")?;
        }
        if runs(Stage::Denoising) {
            let dropped = if drops_transformer { ", dropped before decoding" } else { "" };
            writeln!(f, "transformer: {transformer}{dropped}")?;
            for pieces in self.attention() {
                let (heads, rows) = (pieces.heads, pieces.rows);
                writeln!(f, "attention: at most {rows} rows of queries, {heads} heads at a time")?;
            }
        }
        match vae.tiling {
            None => write!(f, "vae: whole frames")?,
            Some(tiling) => write!(f, "vae: tiles of {}x{}", tiling.size[1], tiling.size[0])?,
        }
        writeln!(f, "{}", if vae.half_cache { ", remembered in 16 bits" } else { "" })?;
        write!(f, "peak: {} of {memory}", Size(self.bytes()))?;
        match self.limit() {
            Some((limit, kind)) => write!(f, "; the limit is {} {kind}", Size(limit)),
            None => write!(f, "; how much there is cannot be told here"),
        }
    }
}
