//! Folders with the configs, names, shapes and dtypes of published models, and holes for values.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

/// A folder of models, made by the script of the benchmarks. `None` without Python, which is a failure
/// where `WAN_REQUIRE_PYTHON` is 1.
pub(crate) fn make(arguments: &[&str]) -> Option<TempDir> {
    let folder = tempfile::tempdir().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../benches/ghosts/make_ghost.py");
    let mut python = Command::new("python3");
    python.arg(script).args(arguments).arg(folder.path().join("model"));
    match python.output() {
        Ok(output) if output.status.success() => Some(folder),
        failed if std::env::var("WAN_REQUIRE_PYTHON").is_ok_and(|value| value == "1") => {
            panic!("WAN_REQUIRE_PYTHON is set, but {failed:?}")
        }
        failed => {
            println!("skipped: {failed:?}");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use wan_pipeline::backend::{Flex, cpu_threads};
    use wan_pipeline::{
        Image, Pipeline, Precision, Preset, Request, Residency, SourceVideo, Stage, StageMemory,
        Task, presets,
    };

    use super::*;

    /// A published model.
    struct Published {
        name: &'static str,
        task: Task,
        /// The preset that is found without its name: that of the first model with the same marks.
        by_marks: &'static str,
        layouts: &'static [Layout],
        /// A limit on the memory, in bytes, and how the transformer is held within it.
        limit: u64,
        transformer: Residency,
    }

    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Layout {
        Diffusers,
        Original,
    }
    use Layout::{Diffusers, Original};

    const fn large(name: &'static str, task: Task) -> Published {
        let layouts: &[Layout] = &[Diffusers, Original];
        let (limit, transformer) = (8_000_000_000, Residency::Streamed);
        Published { name, task, by_marks: name, layouts, limit, transformer }
    }

    const fn small(name: &'static str, task: Task) -> Published {
        let (limit, transformer) = (12_000_000_000, Residency::Resident);
        Published { limit, transformer, ..large(name, task) }
    }

    /// Every model that has a preset.
    static PUBLISHED: [Published; 15] = [
        small("Wan2.1-T2V-1.3B", Task::TextToVideo),
        large("Wan2.1-T2V-14B", Task::TextToVideo),
        large("Wan2.1-I2V-14B-480P", Task::ImageToVideo),
        Published {
            by_marks: "Wan2.1-I2V-14B-480P",
            ..large("Wan2.1-I2V-14B-720P", Task::ImageToVideo)
        },
        large("Wan2.1-FLF2V-14B-720P", Task::FirstLastFrameToVideo),
        small("Wan2.1-VACE-1.3B", Task::Control),
        large("Wan2.1-VACE-14B", Task::Control),
        large("Wan2.2-T2V-A14B", Task::TextToVideo),
        large("Wan2.2-I2V-A14B", Task::ImageToVideo),
        large("Wan2.2-TI2V-5B", Task::TextImageToVideo),
        Published { layouts: &[Original], ..small("Wan2.1-Fun-1.3B-InP", Task::ImageToVideo) },
        Published {
            by_marks: "Wan2.1-I2V-14B-480P",
            layouts: &[Original],
            ..large("Wan2.1-Fun-14B-InP", Task::ImageToVideo)
        },
        Published { layouts: &[Original], ..small("Wan2.1-Fun-1.3B-Control", Task::FunControl) },
        Published { layouts: &[Original], ..large("Wan2.1-Fun-14B-Control", Task::FunControl) },
        Published { layouts: &[Diffusers], ..large("Lucy-Edit-Dev", Task::Edit) },
    ];

    /// Folders of all ghosts in a layout, below `model`.
    fn make_all(layout: Layout) -> Option<TempDir> {
        match layout {
            Diffusers => make(&["all"]),
            Original => make(&["--original", "all"]),
        }
    }

    fn in_layout(layout: Layout) -> impl Iterator<Item = &'static Published> {
        PUBLISHED.iter().filter(move |published| published.layouts.contains(&layout))
    }

    /// A video of a few small frames.
    fn request(task: Task) -> Request {
        request_of(task, [256, 256], 5).steps(4)
    }

    /// A video from what the model cannot do without.
    fn request_of(task: Task, [width, height]: [usize; 2], frames: usize) -> Request {
        let request = Request::new("a cat").size(width, height).frames(frames);
        let image = || Image::from_rgb8(16, 16, vec![128; 3 * 16 * 16]).unwrap();
        let video =
            || SourceVideo::from_frames(16, 16, 24, vec![vec![128; 3 * 16 * 16]; frames]).unwrap();
        match task {
            Task::ImageToVideo => request.image(image()),
            Task::FirstLastFrameToVideo => request.image(image()).last_image(image()),
            Task::Control | Task::FunControl => request.control(video()),
            Task::Edit => request.video(video()),
            _ => request,
        }
    }

    /// The models that are published open in each layout, and are planned on machines of some sizes.
    #[test]
    fn models_open_and_are_planned() {
        for layout in [Diffusers, Original] {
            let Some(folder) = make_all(layout) else { return };
            for published in in_layout(layout) {
                let Published { name, task, limit, transformer, .. } = *published;
                let path = folder.path().join("model").join(name.to_lowercase());
                // Not the precision that suits the processor.
                let builder = Pipeline::<Flex>::builder(path).precision(Precision::F32);
                let pipeline = builder.memory_limit(limit).open().unwrap();
                let plan = pipeline.plan(&request(task)).unwrap();
                let memory = pipeline.memory(&[plan]);
                println!("{name}, {layout:?}\n{memory}");
                memory.check().unwrap();
                assert_eq!(memory.placement().text_encoder, Residency::Streamed);
                assert_eq!(memory.placement().transformer, transformer, "{name}, {layout:?}");
                let denoising = |stage: &&StageMemory| stage.stage == Stage::Denoising;
                let read = memory.stages().iter().find(denoising).unwrap().read;
                let streams = transformer == Residency::Streamed;
                assert_eq!(read > 0, streams, "{name}, {layout:?}: {read}");
            }
        }
    }

    /// The smallest model where there is little memory: its transformer comes from the disk.
    #[test]
    fn the_smallest_model_is_planned_in_little_memory() {
        let Some(folder) = make(&["wan2.1-t2v-1.3b"]) else { return };
        let builder = Pipeline::<Flex>::builder(folder.path().join("model"));
        let builder = builder.precision(Precision::F32);
        let pipeline = builder.memory_limit(4_000_000_000).open().unwrap();
        let memory = pipeline.memory(&[pipeline.plan(&request(Task::TextToVideo)).unwrap()]);
        memory.check().unwrap();
        assert_eq!(memory.placement().transformer, Residency::Streamed);
    }

    /// What is made of each, and the defaults that it is made with: by the name of its folder, and without.
    #[test]
    fn models_are_known_by_name_and_marks() {
        for layout in [Diffusers, Original] {
            let Some(folder) = make_all(layout) else { return };
            for published in in_layout(layout) {
                let Published { name, task, by_marks, .. } = *published;
                let named = folder.path().join("model").join(name.to_lowercase());
                let nameless = folder.path().join("model/downloaded");
                let open = |path: &Path| Pipeline::<Flex>::from_pretrained(path).unwrap();
                let pipeline = open(&named);
                assert_eq!((pipeline.spec().task, pipeline.preset().name), (task, name));
                let is_two = name.ends_with("A14B");
                assert_eq!(pipeline.spec().boundary.is_some(), is_two, "{name}, {layout:?}");
                drop(pipeline);
                std::fs::rename(named, &nameless).unwrap();
                assert_eq!(open(&nameless).preset().name, by_marks, "{name}, {layout:?}");
                std::fs::remove_dir_all(nameless).unwrap();
            }
        }
    }

    /// The least memory within which a model makes its default video in bf16.
    fn smallest_limit(folder: &Path, preset: &Preset) -> u64 {
        let builder = Pipeline::<Flex>::builder(folder).precision(Precision::Bf16);
        let pipeline = builder.memory_limit(2_000_000_000).open().unwrap();
        let Preset { task, width, height, num_frames, .. } = *preset;
        let plan = pipeline.plan(&request_of(task, [width, height], num_frames)).unwrap();
        pipeline.memory(&[plan]).smallest_limit()
    }

    /// With two threads: each has memory of its own.
    #[test]
    fn the_table_of_the_least_memory_is_that_of_the_plans() {
        if cpu_threads() != 2 {
            return println!("skipped: RAYON_NUM_THREADS is not 2, nor the number of cores");
        }
        let (Some(diffusers), Some(original)) = (make_all(Diffusers), make_all(Original)) else {
            return;
        };
        let mut expected = String::from(
            "\n| model | video | files for diffusers | original files |\n|---|---|---|---|\n",
        );
        for Published { name, layouts, .. } in &PUBLISHED {
            let preset = presets::ALL.iter().find(|preset| preset.name == *name).unwrap();
            let limit = |layout, folder: &TempDir| {
                if !layouts.contains(&layout) {
                    return "-".to_owned();
                }
                let folder = folder.path().join("model").join(name.to_lowercase());
                format!("{:.1} GB", smallest_limit(&folder, preset) as f64 / 1e9)
            };
            let limits = [limit(Diffusers, &diffusers), limit(Original, &original)].join(" | ");
            let Preset { width, height, num_frames, .. } = preset;
            let video = format!("{width}x{height}, {num_frames} frames");
            expected += &format!("| {name} | {video} | {limits} |\n");
        }
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/models.md");
        let text = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
        let (_, found) = text.split_once("<!-- memory: begin -->\n").unwrap();
        let (found, _) = found.split_once("<!-- memory: end -->\n").unwrap();
        // The limit is one of the whole process, and a process of tests has other data beside.
        let is_near = |(found, expected): (&str, &str)| match (found.parse(), expected.parse()) {
            (Ok::<f64, _>(found), Ok::<f64, _>(expected)) => (found - expected).abs() < 0.15,
            _ => found == expected,
        };
        let (found, words) = (found.split_whitespace(), expected.split_whitespace());
        let is_same = found.clone().count() == words.clone().count();
        assert!(
            is_same && found.zip(words).all(is_near),
            "{path} must have this between its marks:\n{expected}"
        );
    }

    /// The table has a row for each preset but that of the miniature.
    #[test]
    fn every_preset_has_a_ghost() {
        let presets = wan_pipeline::presets::ALL.iter().map(|preset| preset.name);
        let presets = presets.filter(|name| !name.starts_with("tiny-wan"));
        let ghosts = PUBLISHED.iter().map(|published| published.name);
        let sorted = |names: Vec<&'static str>| std::collections::BTreeSet::from_iter(names);
        assert_eq!(sorted(presets.collect()), sorted(ghosts.collect()));
    }
}
