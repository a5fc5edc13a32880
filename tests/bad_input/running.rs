//! What goes wrong while a video is made: it stops with a typed error, and no file is left.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use half::f16;
use wan_pipeline::backend::Flex;
use wan_pipeline::{Error, Event, LatentsWriter, Pipeline, Precision, VideoWriter};

use crate::model::{
    Model, TEXT_ENCODER_WEIGHTS, TRANSFORMER_WEIGHTS, VAE_WEIGHTS, says, smallest, tiny_wan,
};

/// Makes a small video with a file of each kind, as a careful user would.
fn write_video(
    pipeline: &Pipeline<Flex>,
    out: &Path,
    latents_out: &Path,
    observer: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Result<(), Error> {
    let settings = pipeline.settle(&smallest("a red circle growing").frames(5).steps(2))?;
    let (spec, metadata) = (pipeline.video_spec(&settings), pipeline.metadata(&settings));
    let mut writer = VideoWriter::create(out, &spec, &metadata)?;
    let latents_writer = LatentsWriter::create(latents_out)?;
    let latents = pipeline.denoise(&settings, observer)?;
    pipeline.decode(latents.clone(), &mut writer, observer)?;
    latents_writer.write(latents)?;
    Ok(writer.finish()?)
}

/// The error of making a video of each kind, each of which must leave an empty folder.
#[track_caller]
fn error_of(
    pipeline: &Pipeline<Flex>,
    observer: &mut dyn FnMut(Event) -> ControlFlow<()>,
) -> Vec<Error> {
    let folder = tempfile::tempdir().unwrap();
    let error_of = |out: &str| {
        let latents = folder.path().join("latents.safetensors");
        let error = write_video(pipeline, &folder.path().join(out), &latents, observer);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "{out} is left");
        error.expect_err(out)
    };
    ["video.mp4", "video.gif", "video.rgb", "frames/"].map(error_of).into()
}

fn go_on(_: Event) -> ControlFlow<()> {
    ControlFlow::Continue(())
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
        for error in error_of(&model.open().unwrap(), &mut go_on) {
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
    let stops: [fn(&Event) -> bool; 7] = [
        |event| matches!(event, Event::Loading { part: "text encoder" }),
        |event| matches!(event, Event::Loaded { part: "text encoder", .. }),
        |event| matches!(event, Event::Encoded { which: "prompt", .. }),
        |event| matches!(event, Event::Encoded { which: "negative prompt", .. }),
        |event| matches!(event, Event::Step { done: 1, .. }),
        |event| matches!(event, Event::Frame { done: 1, .. }),
        |event| matches!(event, Event::Frame { done: 5, .. }),
    ];
    for (i, stop) in stops.into_iter().enumerate() {
        let mut cancelled = 0;
        let mut observer = |event: Event| {
            if stop(&event) {
                cancelled += 1;
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        };
        let errors = error_of(&pipeline, &mut observer);
        assert!(errors.iter().all(|error| matches!(error, Error::Cancelled)), "{i}: {errors:?}");
        assert_eq!(cancelled, errors.len(), "{i}: nothing goes on after a cancellation");
    }
    // It still works afterwards.
    pipeline.generate(&smallest("a red circle")).unwrap();
}

/// The events of a whole run, in order.
#[test]
fn progress_is_told() {
    let mut told = Vec::new();
    let mut observer = |event: Event| {
        told.push(match event {
            Event::Loading { part } => format!("loading {part}"),
            Event::Loaded { part, .. } => format!("loaded {part}"),
            Event::Encoded { which, .. } => format!("encoded {which}"),
            Event::Step { done, steps, .. } => format!("step {done}/{steps}"),
            Event::Frame { done, frames } => format!("frame {done}/{frames}"),
            other => format!("{other:?}"),
        });
        ControlFlow::Continue(())
    };
    let request = smallest("a red circle").frames(9).steps(2);
    tiny_wan().generate_with(&request, &mut observer).unwrap();
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

#[test]
fn outputs_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "kept").unwrap();
    fs::create_dir(folder.path().join("there.mp4")).unwrap();
    let full = folder.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("note"), "kept").unwrap();
    let pipeline = tiny_wan();
    let mut observer = |event| panic!("{event:?} before the output was refused");
    let good = "latents.safetensors";
    for (out, latents, parts) in [
        ("video.mov", good, ["video.mov", "`.mov`", "`.mp4`, `.gif`"]),
        ("video", good, ["video", "no ending", "`.mp4`, `.gif`"]),
        ("no/video.mp4", good, ["no/video.mp4", "the folder", "does not exist"]),
        ("file/video.mp4", good, ["file/video.mp4", "file`", "is not a folder"]),
        ("there.mp4", good, ["there.mp4", "a folder of that name", "exists"]),
        ("file/", good, ["file/", "a file of that name", "exists"]),
        ("full/", good, ["full/", "frames", "not empty"]),
        ("video.mp4", "no/l.safetensors", ["no/l.safetensors", "the folder", "does not exist"]),
        ("video.mp4", "full", ["full", "a folder of that name", "exists"]),
    ] {
        let [out_path, latents_path] = [out, latents].map(|name| folder.path().join(name));
        let error = write_video(&pipeline, &out_path, &latents_path, &mut observer).expect_err(out);
        println!("{error}");
        assert!(matches!(error, Error::Video(_) | Error::Tensors(_)), "{error:?}");
        says(&error, &parts);
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["file", "full", "there.mp4"], "{out}");
        assert_eq!(fs::read(&file).unwrap(), b"kept");
    }
}

#[test]
fn latents_of_another_model_or_of_two_videos() {
    let pipeline = tiny_wan();
    let settings = pipeline.settle(&smallest("a")).unwrap();
    let mut sink = pipeline.generate(&smallest("a")).unwrap();
    for shape in [[1, 48, 1, 2, 2], [2, 16, 1, 2, 2]] {
        let noise = pipeline.noise(&[1, 2][..shape[0]], shape);
        let error = pipeline.decode(noise, &mut sink, &mut go_on).unwrap_err();
        assert!(matches!(error, Error::LatentShape { .. }), "{error:?}");
        says(&error, &[&format!("{shape:?}"), "[1, 16, T, H, W]"]);
    }
    pipeline
        .decode(pipeline.noise(&[1], pipeline.latent_shape(&settings)), &mut sink, &mut go_on)
        .unwrap();
}
