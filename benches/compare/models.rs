//! The second table of `docs/models.md`: the least memory for each model's default video, as planned. Ghost
//! checkpoints stand for the models, see `benches/ghosts/make_ghost.py`; nothing is computed.
//!
//! ```text
//! python3 benches/ghosts/make_ghost.py all target/ghosts/diffusers
//! python3 benches/ghosts/make_ghost.py --original all target/ghosts/original
//! cargo run --release -p wan-benches --example models -- target/ghosts docs/models.md
//! ```
//!
//! Replaces what is between the two marks in the file.

use std::error::Error;
use std::path::Path;

use burn::backend::Flex;
use wan_pipeline::presets;
use wan_pipeline::{Image, Pipeline, Precision, Preset, Request, SourceVideo, Task};

const BEGIN: &str = "<!-- memory: begin -->\n";
const END: &str = "<!-- memory: end -->\n";

/// Folders of the ghosts, and how the table calls them.
const LAYOUTS: [(&str, &str); 2] =
    [("diffusers", "files for diffusers"), ("original", "original files")];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(ghosts), Some(file)) = (arguments.next(), arguments.next()) else {
        return Err("the folder of the ghosts and the file are missing".into());
    };
    let text = std::fs::read_to_string(&file)?;
    let (before, rest) = text.split_once(BEGIN).ok_or("the first mark is missing")?;
    let (_, after) = rest.split_once(END).ok_or("the second mark is missing")?;
    let table = table(Path::new(&ghosts))?;
    std::fs::write(&file, [before, BEGIN, &table, END, after].concat())?;
    Ok(())
}

fn table(ghosts: &Path) -> Result<String, Box<dyn Error>> {
    let names = LAYOUTS.map(|(_, name)| name).join(" | ");
    let mut out = format!("\n| model | video | {names} |\n|---|---|---|---|\n");
    let is_published = |preset: &&Preset| !preset.name.starts_with("tiny-");
    for preset in presets::ALL.iter().filter(is_published) {
        let Preset { name, width, height, num_frames, .. } = *preset;
        let mut limits = Vec::new();
        for (layout, _) in LAYOUTS {
            let folder = ghosts.join(layout).join(name.to_lowercase());
            limits.push(match folder.exists() {
                true => format!("{:.1} GB", smallest_limit(&folder, preset)? as f64 / 1e9),
                false => "-".into(),
            });
        }
        let limits = limits.join(" | ");
        out += &format!("| {name} | {width}x{height}, {num_frames} frames | {limits} |\n");
    }
    Ok(out)
}

/// The least memory within which the model makes its default video in bf16.
fn smallest_limit(folder: &Path, preset: &Preset) -> Result<u64, Box<dyn Error>> {
    let builder = Pipeline::<Flex>::builder(folder).precision(Precision::Bf16);
    let pipeline = builder.memory_limit(2_000_000_000).open()?;
    assert_eq!(pipeline.preset().name, preset.name);
    let plan = pipeline.plan(&request(preset)?)?;
    Ok(pipeline.memory(&[plan]).smallest_limit())
}

/// The default video of a model, with what the model cannot do without.
fn request(preset: &Preset) -> Result<Request, Box<dyn Error>> {
    let Preset { width, height, num_frames, .. } = *preset;
    let request = Request::new("a cat on a windowsill").size(width, height).frames(num_frames);
    let image = || Image::from_rgb8(16, 16, vec![128; 3 * 16 * 16]);
    let video = || SourceVideo::from_frames(16, 16, 24, vec![vec![128; 3 * 16 * 16]; num_frames]);
    Ok(match preset.task {
        Task::ImageToVideo => request.image(image()?),
        Task::FirstLastFrameToVideo => request.image(image()?).last_image(image()?),
        Task::Control | Task::FunControl => request.control(video()?),
        Task::Edit => request.video(video()?),
        _ => request,
    })
}
