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
    use wan_pipeline::{Pipeline, Precision, Request, Residency, Stage, Task};

    use super::*;

    /// The models that are published open, and are planned on machines of some sizes.
    #[test]
    fn models_open_and_are_planned() {
        for (name, limit, transformer) in [
            ("wan2.1-t2v-1.3b", 4_000_000_000, Residency::Streamed),
            ("wan2.1-t2v-1.3b", 12_000_000_000, Residency::Resident),
            ("wan2.1-t2v-14b", 8_000_000_000, Residency::Streamed),
            ("wan2.2-t2v-a14b", 8_000_000_000, Residency::Streamed),
            ("wan2.2-ti2v-5b", 8_000_000_000, Residency::Streamed),
        ] {
            let Some(folder) = make(&[name]) else { return };
            let builder = Pipeline::<Flex>::builder(folder.path().join("model"));
            let builder = builder.precision(Precision::F32); // not what suits the processor
            let pipeline = builder.memory_limit(limit).open().unwrap();
            let request = Request::new("a cat").size(256, 256).frames(5).steps(4);
            let plan = pipeline.plan(&request).unwrap();
            let memory = pipeline.memory(&[plan]);
            println!("{name}\n{memory}");
            memory.check().unwrap();
            assert_eq!(memory.placement().text_encoder, Residency::Streamed);
            assert_eq!(memory.placement().transformer, transformer, "{name}");
            let read =
                memory.stages().iter().find(|stage| stage.stage == Stage::Denoising).unwrap().read;
            assert_eq!(read > 0, transformer == Residency::Streamed, "{name}: {read}");
        }
    }

    /// What is made of each, and the defaults that it is made with.
    #[test]
    fn models_are_known_by_name_and_marks() {
        for (name, task, preset) in [
            ("wan2.1-t2v-1.3b", Task::TextToVideo, "Wan2.1-T2V-1.3B"),
            ("wan2.1-t2v-14b", Task::TextToVideo, "Wan2.1-T2V-14B"),
            ("wan2.2-t2v-a14b", Task::TextToVideo, "Wan2.2-T2V-A14B"),
            ("wan2.2-i2v-a14b", Task::ImageToVideo, "Wan2.2-I2V-A14B"),
            ("wan2.2-ti2v-5b", Task::TextImageToVideo, "Wan2.2-TI2V-5B"),
        ] {
            let Some(folder) = make(&[name]) else { return };
            let pipeline = Pipeline::<Flex>::from_pretrained(folder.path().join("model")).unwrap();
            assert_eq!((pipeline.spec().task, pipeline.preset().name), (task, preset));
            assert_eq!(pipeline.spec().boundary.is_some(), name.ends_with("a14b"), "{name}");
        }
    }
}
