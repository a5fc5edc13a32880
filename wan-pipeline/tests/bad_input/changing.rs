//! Weights that change while a pipeline is open: an error that names the file, never a signal; and nothing
//! is left on disk.

use std::fs::{self, File};
use std::path::Path;
use std::time::{Duration, SystemTime};

use wan_io::files::FileError;
use wan_models::umt5::Umt5Error;
use wan_pipeline::backend::Flex;
use wan_pipeline::{
    Error, Event, ModelError, Observer, Pipeline, Residency, Role, StateWriter, VideoWriter,
};

use crate::model::{
    Model, TEXT_ENCODER_WEIGHTS, TRANSFORMER_WEIGHTS, VAE_WEIGHTS, says, smallest, tiny_wan,
};

const WEIGHTS: [&str; 3] = [TEXT_ENCODER_WEIGHTS, TRANSFORMER_WEIGHTS, VAE_WEIGHTS];

fn cut_off(path: &Path) {
    File::options().write(true).open(path).unwrap().set_len(1000).unwrap();
}

/// Copies zeros over a file of the same size. The clock of a file system may be too coarse to show that.
fn overwrite(path: &Path) {
    fs::write(path, vec![0; path.metadata().unwrap().len() as usize]).unwrap();
    let later = SystemTime::now() + Duration::from_secs(60);
    File::options().write(true).open(path).unwrap().set_modified(later).unwrap();
}

#[test]
fn before_a_part_is_loaded() {
    type Change = fn(&Path);
    let changes: [(Change, &str); 2] =
        [(cut_off, " to 1000 bytes while it was in use"), (overwrite, "was changed while it was")];
    for (change, message) in changes {
        for file in WEIGHTS {
            let model = Model::copy();
            let pipeline = model.open().unwrap();
            change(&model.file(file));
            let error = pipeline.generate(&smallest("a red circle")).err().unwrap();
            let is_file = matches!(&error, Error::Model(ModelError::File(_)));
            assert!(is_file, "{error:?}");
            says(&error, &[model.file(file).to_str().unwrap(), message]);
        }
    }
}

#[test]
fn the_vae_shrinks_during_denoising() {
    let (model, folder) = (Model::copy(), tempfile::tempdir().unwrap());
    let pipeline = model.open().unwrap();
    let request = smallest("a red circle").steps(2);
    let plan = pipeline.plan(&request).unwrap();
    let (out, spec) = (folder.path().join("v.mp4"), plan.video_spec());
    let mut writer = VideoWriter::create(out, &spec, &plan.metadata()).unwrap();
    let mut observer = Observer::new(|event| {
        if matches!(event, Event::Step { done: 1, .. }) {
            cut_off(&model.file(VAE_WEIGHTS));
        }
    });
    let latents = pipeline.denoise_batch(&[request], &mut observer).unwrap();
    let error = pipeline.decode(&latents[0], &mut writer, &mut observer).unwrap_err();
    says(&error, &[VAE_WEIGHTS, "shrank from"]);
    drop(writer);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// The embeddings of a prompt's tokens are read from the file when they are needed.
#[test]
fn the_text_encoder_shrinks_after_it_is_loaded() {
    let model = Model::copy();
    let pipeline = model.open().unwrap();
    let mut observer = Observer::new(|event| {
        if matches!(event, Event::Loaded { role: Role::TextEncoder, .. }) {
            cut_off(&model.file(TEXT_ENCODER_WEIGHTS));
        }
    });
    let error = pipeline.embed(&smallest("a red circle"), &mut observer).unwrap_err();
    let Error::Model(ModelError::TextEncoder(Umt5Error::File(cause))) = &error else {
        panic!("{error:?}")
    };
    assert!(matches!(cause, FileError::Shrank { .. }), "{error:?}");
    says(&error, &[TEXT_ENCODER_WEIGHTS, "to 1000 bytes"]);
}

/// Weights that are read in each step: the run is as before the step, and can be saved and go on.
#[test]
fn the_transformer_changes_while_it_is_streamed() {
    type Change = fn(&Path);
    let changes: [(Change, &str); 2] =
        [(cut_off, " to 1000 bytes while it was in use"), (overwrite, "was changed while it was")];
    let request = smallest("a red circle").steps(2);
    for (change, message) in changes {
        let model = Model::copy();
        let streamed = || {
            let builder = Pipeline::<Flex>::builder(model.path());
            builder.transformer_residency(Residency::Streamed).open().unwrap()
        };
        let pipeline = streamed();
        let mut run =
            pipeline.start(std::slice::from_ref(&request), &mut Observer::silent()).unwrap();
        run.step().unwrap();
        let latents = run.latents(0).unwrap().to_vec();
        let (file, whole) = (model.file(TRANSFORMER_WEIGHTS), model.read(TRANSFORMER_WEIGHTS));
        change(&file);
        let error = run.step().unwrap_err();
        assert!(matches!(&error, Error::Model(ModelError::File(_))), "{error:?}");
        says(&error, &[file.to_str().unwrap(), message]);
        assert_eq!(run.done(), 1);
        assert!(run.latents(0).unwrap().to_vec() == latents);
        // With the right file a new pipeline goes on from there.
        fs::write(&file, whole).unwrap();
        let pipeline = streamed();
        let mut again =
            pipeline.start(std::slice::from_ref(&request), &mut Observer::silent()).unwrap();
        again.step().unwrap();
        again.step().unwrap();
        let expected =
            tiny_wan().denoise_batch(std::slice::from_ref(&request), &mut Observer::silent());
        assert!(again.latents(0).unwrap().to_vec() == expected.unwrap()[0].to_vec());
    }
}

/// The state of a run says which weights it is of: the file is read for that.
#[test]
fn the_transformer_shrinks_before_a_run_is_saved() {
    let (model, folder) = (Model::copy(), tempfile::tempdir().unwrap());
    let pipeline = model.open().unwrap();
    let request = smallest("a red circle");
    let mut run = pipeline.start(&[request], &mut Observer::silent()).unwrap();
    run.step().unwrap();
    cut_off(&model.file(TRANSFORMER_WEIGHTS));
    let writer = StateWriter::create(folder.path().join("run")).unwrap();
    let error = run.save_to(writer).unwrap_err();
    says(&error, &[TRANSFORMER_WEIGHTS, "shrank from"]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// As package managers and caches replace files: the open one stays whole.
#[cfg(unix)]
#[test]
fn a_file_that_is_deleted_or_replaced_is_no_change() {
    let request = smallest("a red circle").frames(5);
    let expected = tiny_wan().generate(&request).unwrap();
    let changes: [fn(&Path); 2] = [
        |path| fs::remove_file(path).unwrap(),
        |path| {
            fs::write(path.with_extension("new"), "another file").unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        },
    ];
    for change in changes {
        let model = Model::copy();
        let pipeline = model.open().unwrap();
        WEIGHTS.iter().for_each(|file| change(&model.file(file)));
        let video = pipeline.generate(&request).unwrap();
        assert!(video.frames().eq(expected.frames()));
    }
}
