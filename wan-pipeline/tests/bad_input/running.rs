//! What goes wrong while a video is made: it stops with a typed error, and no file is left.

use std::fs;
use std::path::Path;

use burn::tensor::Tensor;
use half::f16;
use wan_pipeline::backend::Flex;
use wan_pipeline::{
    CancelToken, Error, Event, Latents, LatentsWriter, Observer, Pipeline, Precision, Role,
    StateWriter, TensorFileError, VideoWriter,
};

use crate::model::{
    Model, TEXT_ENCODER_WEIGHTS, TRANSFORMER_WEIGHTS, VAE_WEIGHTS, says, smallest, tiny_wan,
};
use crate::requests::{is_one_sentence, not_yet};

/// Makes a small video with a file of each kind, as a careful user would.
fn write_video(
    pipeline: &Pipeline<Flex>,
    out: &Path,
    latents_out: &Path,
    observer: &mut Observer,
) -> Result<(), Error> {
    let request = smallest("a red circle growing").frames(5).steps(2);
    let plan = pipeline.plan(&request)?;
    let mut writer = VideoWriter::create(out, &plan.video_spec(), &plan.metadata())?;
    let latents_writer = LatentsWriter::create(latents_out)?;
    let latents = pipeline.denoise_batch(&[request], observer)?;
    pipeline.decode(&latents[0], &mut writer, observer)?;
    latents_writer.write(&latents, &[plan.metadata()])?;
    Ok(writer.finish()?)
}

/// The error of making a video of each kind, each of which must leave an empty folder. It is cancelled
/// at the events that `stops` says yes to.
#[track_caller]
fn error_of(pipeline: &Pipeline<Flex>, stops: impl Fn(&Event) -> bool) -> Vec<Error> {
    let folder = tempfile::tempdir().unwrap();
    let error_of = |out: &str| {
        let token = CancelToken::default();
        let observer = Observer::new(|event| {
            assert!(!token.is_cancelled(), "{event:?} after a cancellation");
            if stops(&event) {
                token.cancel();
            }
        });
        let (out, latents) = (folder.path().join(out), folder.path().join("latents.safetensors"));
        let error = write_video(pipeline, &out, &latents, &mut observer.cancelled_by(&token));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{} is left", out.display());
        error.expect_err("it must fail")
    };
    ["video.mp4", "video.gif", "video.rgb", "frames/"].map(error_of).into()
}

#[test]
fn weights_that_are_not_numbers() {
    for (file, tensor, stage) in [
        (TEXT_ENCODER_WEIGHTS, "encoder.final_layer_norm.weight", "encoding the prompt"),
        (TRANSFORMER_WEIGHTS, "proj_out.weight", "denoising, step 1 of 2"),
        (TRANSFORMER_WEIGHTS, "blocks.1.attn1.to_q.weight", "denoising, step 1 of 2"),
        (VAE_WEIGHTS, "decoder.conv_in.weight", "decoding"),
        (VAE_WEIGHTS, "decoder.conv_out.bias", "decoding"),
    ] {
        let model = Model::copy();
        let mut tensors = model.tensors(file);
        tensors.fill_with_nan(tensor);
        model.write(file, tensors.bytes());
        for error in error_of(&model.open().unwrap(), |_| false) {
            let ok = matches!(&error, Error::NotFinite { stage: found } if found == stage);
            assert!(ok, "{tensor}: {error:?}");
            says(&error, &[stage, "not finite", "weights"]);
        }
    }
}

/// Activations that f32 holds and f16 does not: refused where they arise, not a black video.
#[test]
fn activations_beyond_f16() {
    let model = Model::copy();
    let mut tensors = model.tensors(TRANSFORMER_WEIGHTS);
    tensors.fill("blocks.2.ffn.net.0.proj.bias", f16::from_f32(60_000.0));
    tensors.fill("blocks.2.ffn.net.2.weight", f16::ONE);
    model.write(TRANSFORMER_WEIGHTS, tensors.bytes());
    let open = |precision| Pipeline::<Flex>::builder(model.path()).precision(precision).open();
    let request = smallest("a red circle");
    open(Precision::F32).unwrap().generate(&request).unwrap();
    open(Precision::Bf16).unwrap().generate(&request).unwrap();
    let error = open(Precision::F16).unwrap().generate(&request).unwrap_err();
    says(&error, &["denoising, step 1 of ", "not finite", "precision is too small"]);
}

/// Without the checks of the steps it is found at the end.
#[test]
fn finite_checks_can_be_left_out() {
    let model = Model::copy();
    let mut tensors = model.tensors(TRANSFORMER_WEIGHTS);
    tensors.fill_with_nan("proj_out.weight");
    model.write(TRANSFORMER_WEIGHTS, tensors.bytes());
    let pipeline = Pipeline::<Flex>::builder(model.path()).skip_finite_checks(true).open().unwrap();
    let error = pipeline.generate(&smallest("a red circle")).unwrap_err();
    says(&error, &["decoding", "not finite"]);
}

#[test]
fn the_observer_can_cancel_at_any_event() {
    let pipeline = tiny_wan();
    let stops: [fn(&Event) -> bool; 11] = [
        |event| matches!(event, Event::Loading { role: Role::TextEncoder }),
        |event| matches!(event, Event::Loaded { role: Role::TextEncoder, .. }),
        |event| matches!(event, Event::Encoded { prompt, .. } if !prompt.negative),
        |event| matches!(event, Event::Encoded { prompt, .. } if prompt.negative),
        |event| matches!(event, Event::Loading { role: Role::Transformer }),
        |event| matches!(event, Event::Loaded { role: Role::Transformer, .. }),
        |event| matches!(event, Event::Step { done: 1, .. }),
        |event| matches!(event, Event::Loading { role: Role::Vae }),
        |event| matches!(event, Event::Loaded { role: Role::Vae, .. }),
        |event| matches!(event, Event::Frame { done: 1, .. }),
        |event| matches!(event, Event::Frame { done: 5, .. }),
    ];
    for (i, stop) in stops.into_iter().enumerate() {
        let errors = error_of(&pipeline, stop);
        assert!(errors.iter().all(|error| matches!(error, Error::Cancelled)), "{i}: {errors:?}");
    }
    // It still works afterwards.
    pipeline.generate(&smallest("a red circle")).unwrap();
}

/// A token that was cancelled before stops what begins later, also a run of one's own.
#[test]
fn a_cancelled_token_stops_everything() {
    let pipeline = tiny_wan();
    let token = CancelToken::default();
    let mut run =
        pipeline.start(&[smallest("a")], &mut Observer::silent().cancelled_by(&token)).unwrap();
    let before = run.latents(0).unwrap().to_vec();
    token.cancel();
    assert!(matches!(run.step(), Err(Error::Cancelled)));
    assert_eq!((run.done(), run.latents(0).unwrap().to_vec()), (0, before));
    let stopped = || not_yet().cancelled_by(&token);
    assert!(matches!(run.run(&mut stopped()), Err(Error::Cancelled)));
    let error = tiny_wan().generate_with(&smallest("a"), &mut stopped()).unwrap_err();
    assert!(matches!(error, Error::Cancelled), "{error:?}");
    // The run goes on where it was.
    run.set_cancel_token(&CancelToken::default());
    assert_eq!(run.step().unwrap().map(|step| step.done), Some(1));
}

/// The events of a whole run, in order.
#[test]
fn progress_is_told() {
    let mut told = Vec::new();
    let mut observer = Observer::new(|event| {
        told.push(match event {
            Event::Loading { role } => format!("loading {role}"),
            Event::Loaded { role, .. } => format!("loaded {role}"),
            Event::Encoded { prompt, .. } => format!("encoded {prompt}"),
            Event::Step { done, steps, .. } => format!("step {done}/{steps}"),
            Event::Frame { video: 0, done, frames } => format!("frame {done}/{frames}"),
            other => format!("{other:?}"),
        });
    });
    let request = smallest("a red circle").frames(9).steps(2);
    tiny_wan().generate_with(&request, &mut observer).unwrap();
    drop(observer);
    let mut expected = vec![
        "loading text encoder",
        "loaded text encoder",
        "encoded prompt",
        "encoded negative prompt",
        "loading transformer",
        "loaded transformer",
        "step 1/2",
        "step 2/2",
        "loading vae",
        "loaded vae",
    ];
    let frames: Vec<String> = (1..=9).map(|done| format!("frame {done}/9")).collect();
    expected.extend(frames.iter().map(String::as_str));
    assert_eq!(told, expected);
}

/// The tests of wan-io have every name that cannot be written.
#[test]
fn outputs_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let full = folder.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("note"), "kept").unwrap();
    let pipeline = tiny_wan();
    let good = "latents.safetensors";
    for (out, latents, parts) in [
        ("video.mov", good, ["video.mov", "`.mov`", "`.mp4`, `.gif`"]),
        ("no/video.mp4", good, ["no/video.mp4", "the folder", "does not exist"]),
        ("full/", good, ["full/", "frames", "not empty"]),
        ("video.mp4", "no/l.safetensors", ["no/l.safetensors", "the folder", "does not exist"]),
        ("video.mp4", "full", ["full", "a folder of that name", "exists"]),
    ] {
        let [out_path, latents_path] = [out, latents].map(|name| folder.path().join(name));
        let error =
            write_video(&pipeline, &out_path, &latents_path, &mut not_yet()).expect_err(out);
        is_one_sentence(&error);
        assert!(matches!(error, Error::Video(_) | Error::Write(_)), "{error:?}");
        says(&error, &parts);
        assert_eq!(names(folder.path()), ["full"], "{out}");
        assert_eq!(fs::read(full.join("note")).unwrap(), b"kept");
    }
    let error = StateWriter::create(folder.path().join("no/run")).err().unwrap();
    assert!(matches!(error, Error::Write(_)), "{error:?}");
    says(&error, &["no/run", "does not exist"]);
}

fn names(folder: &Path) -> Vec<std::ffi::OsString> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect()
}

fn zeros(shape: [usize; 5]) -> Tensor<Flex, 5> {
    Tensor::zeros(shape, &Default::default())
}

#[test]
fn latents_of_another_model_or_of_two_videos() {
    let pipeline = tiny_wan();
    let mut sink = pipeline.generate(&smallest("a")).unwrap();
    let latents = |shape| Latents::from_tensor(zeros(shape));
    let mut decode = |latents: &_| pipeline.decode(latents, &mut sink, &mut not_yet());
    for (error, found, expected) in [
        (latents([2, 16, 1, 2, 2]).unwrap_err(), "[2, 16, 1, 2, 2]", "[1, C, T, H, W]"),
        (latents([1, 16, 0, 2, 2]).unwrap_err(), "[1, 16, 0, 2, 2]", "[1, C, T, H, W]"),
        (
            decode(&latents([1, 48, 1, 2, 2]).unwrap()).unwrap_err(),
            "[1, 48, 1, 2, 2]",
            "[1, 16, T, H, W]",
        ),
    ] {
        assert!(matches!(error, Error::TensorFile(TensorFileError::Shape { .. })), "{error:?}");
        says(&error, &[found, expected]);
    }
}

/// No video, and videos of two sizes: nothing stands under the name.
#[test]
fn latents_that_cannot_be_one_file() {
    let folder = tempfile::tempdir().unwrap();
    let latents = [[1, 16, 1, 2, 2], [1, 16, 1, 2, 4]]
        .map(|shape| Latents::from_tensor(zeros(shape)).unwrap());
    for (latents, expected) in [(&latents[..0], "one video at least"), (&latents, "as the first")] {
        let writer = LatentsWriter::create(folder.path().join("l.safetensors")).unwrap();
        let error = writer.write(latents, &[]).unwrap_err();
        assert!(matches!(error, Error::TensorFile(TensorFileError::Shape { .. })), "{error:?}");
        says(&error, &["latents", expected]);
        assert!(names(folder.path()).is_empty(), "{expected}");
    }
}
