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
    use wan_pipeline::backend::Flex;
    use wan_pipeline::{
        Image, Pipeline, Precision, Request, Residency, SourceVideo, Stage, StageMemory, Task,
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

    /// A video of a few small frames, from what the model cannot do without.
    fn request(task: Task) -> Request {
        let request = Request::new("a cat").size(256, 256).frames(5).steps(4);
        let image = || Image::from_rgb8(16, 16, vec![128; 3 * 16 * 16]).unwrap();
        let video =
            || SourceVideo::from_frames(16, 16, 24, vec![vec![128; 3 * 16 * 16]; 5]).unwrap();
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
