//! The table of `docs/hardware.md`: what fits where, as planned. Ghost checkpoints stand for the models, see
//! `benches/ghosts/make_ghost.py`; nothing is computed.
//!
//! ```text
//! cargo run --release -p wan-benches --example hardware -- target/ghosts docs/hardware.md
//! ```
//!
//! Replaces what is between the two marks in the file.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;

use burn::backend::Flex;
use wan_pipeline::{MemoryPlan, Pipeline, Precision, Request, Residency};

const BEGIN: &str = "<!-- planned: begin -->\n";
const END: &str = "<!-- planned: end -->\n";

/// Folder of the ghost, and how the table calls it.
const MODELS: [(&str, &str); 4] = [
    ("1.3b", "Wan 2.1 1.3B, files in f32 (as published for diffusers)"),
    ("1.3b-bf16", "Wan 2.1 1.3B, files in bf16 (as repackaged)"),
    ("14b", "Wan 2.1 14B, files in f32 (as published for diffusers)"),
    ("14b-bf16", "Wan 2.1 14B, files in bf16 (as repackaged)"),
];

/// Width, height, frames.
const SIZES: [[usize; 3]; 5] =
    [[256, 256, 5], [480, 272, 33], [832, 480, 17], [832, 480, 81], [1280, 720, 81]];

/// In GB.
const LIMITS: [u64; 8] = [2, 4, 8, 12, 16, 24, 32, 64];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(ghosts), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("the folder of the ghosts and the file are missing".into());
    };
    let text = std::fs::read_to_string(&file)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("the first mark is missing")?;
    let (_, after) = rest.split_once(END).ok_or("the second mark is missing")?;
    let mut tables = String::new();
    for (folder, name) in MODELS {
        for precision in [Precision::F32, Precision::Bf16] {
            tables += &table(&Path::new(&ghosts).join(folder), name, precision)?;
        }
    }
    std::fs::write(&file, [before, BEGIN, &tables, END, after].concat())?;
    Ok(())
}

fn table(folder: &Path, name: &str, precision: Precision) -> Result<String, Box<dyn Error>> {
    let mut out = format!("\n### {name}, computing in {precision}\n\n| video | smallest limit |");
    for limit in LIMITS {
        write!(out, " {limit} GB |")?;
    }
    out += "\n|---|---|";
    out += &"---|".repeat(LIMITS.len());
    for [width, height, frames] in SIZES {
        let plan = |limit: u64| -> Result<MemoryPlan, wan_pipeline::Error> {
            let builder = Pipeline::<Flex>::builder(folder).precision(precision);
            let pipeline = builder.memory_limit(limit * 1_000_000_000).open()?;
            let request = Request::new("a cat on a windowsill").size(width, height).frames(frames);
            Ok(pipeline.memory(&[pipeline.plan(&request)?]))
        };
        let smallest = plan(LIMITS[0])?.smallest_limit() as f64 / 1e9;
        write!(out, "\n| {width}x{height}, {frames} frames | {smallest:.1} GB |")?;
        for limit in LIMITS {
            write!(out, " {} |", cell(&plan(limit)?))?;
        }
    }
    Ok(out + "\n")
}

/// How the transformer is held and frames are decoded; a dash where it does not fit.
fn cell(plan: &MemoryPlan) -> String {
    if plan.check().is_err() {
        return "-".into();
    }
    let weights = match plan.placement().transformer {
        Residency::Resident => "memory",
        Residency::Stored => "stored",
        Residency::Streamed => "disk",
    };
    let vae = plan.placement().vae;
    let tiles = vae.tiling.map(|tiling| format!(", tiles {}", tiling.size[0]));
    let halves = if vae.half_cache { ", f16" } else { "" };
    format!("{weights}{}{halves}", tiles.unwrap_or_default())
}
