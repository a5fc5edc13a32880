//! Models of other kinds, grafted on the miniature: what is known of them must come out, and a run of theirs can be
//! saved and resumed.

use std::path::Path;

use tempfile::TempDir;
use wan_mock_hub::Files;
use wan_mock_hub::models::grafts;
use wan_pipeline::backend::Flex;
use wan_pipeline::{
    Guidance, Image, Pipeline, Precision, Request, Residency, SourceLatents, SourceMask,
    SourceVideo, Task,
};

use crate::support::{bits, latents_of, says, silent, small};

/// A model in a folder of its own.
struct Grafted(TempDir);

impl Grafted {
    fn new(graft: impl Fn(&Files) -> Files) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tiny-wan/model");
        grafts::make(&model, folder.path(), graft);
        Self(folder)
    }

    fn open(&self) -> Pipeline<Flex> {
        self.open_as(Residency::Resident)
    }

    fn open_as(&self, residency: Residency) -> Pipeline<Flex> {
        let builder = Pipeline::builder(self.0.path()).precision(Precision::F32);
        builder.transformer_residency(residency).open().unwrap()
    }
}

/// The model that the others are made of. In f32, in which columns of zeros change no sum.
fn tiny_wan() -> Pipeline<Flex> {
    Pipeline::builder("tiny-wan").precision(Precision::F32).open().unwrap()
}

fn picture(width: u32, height: u32, rgb: [u8; 3]) -> Image {
    Image::from_rgb8(width, height, rgb.repeat((width * height) as usize)).unwrap()
}

fn video(frames: usize, rgb: [u8; 3]) -> SourceVideo {
    SourceVideo::from_frames(32, 32, 24, vec![rgb.repeat(32 * 32); frames]).unwrap()
}

/// The request of [`small`] of 32x32 and 5 frames.
fn request() -> Request {
    small("a red circle moving right").size(32, 32).frames(5)
}

/// The latents of a run are those of a run that is saved after a step and resumed.
#[track_caller]
fn check_resume(model: &Grafted, request: &Request) {
    let (pipeline, folder) = (model.open(), tempfile::tempdir().unwrap());
    let expected = latents_of(&pipeline, request);
    let file = folder.path().join("run.safetensors");
    for stop in [1, 2] {
        let mut run = pipeline.start(std::slice::from_ref(request), &mut silent()).unwrap();
        (0..stop).for_each(|_| assert!(run.step().unwrap().is_some()));
        run.save(&file).unwrap();
        let fresh = model.open();
        let mut resumed = fresh.resume(&file, &mut silent()).unwrap();
        resumed.run(&mut silent()).unwrap();
        assert!(bits(&resumed.finish()[0]) == expected, "after {stop} steps");
    }
}

/// With the same weights twice a run is that of one transformer, also where layers are read in each pass.
#[test]
fn two_experts_that_are_one() {
    let model = Grafted::new(grafts::two_experts);
    let request = request().guidance(3.0).guidance_2(3.0).steps(4);
    let mut alone = request.clone();
    alone.guidance_2 = None;
    let expected = latents_of(&tiny_wan(), &alone);
    for residency in [Residency::Resident, Residency::Streamed] {
        let pipeline = model.open_as(residency);
        let plan = pipeline.plan(&request).unwrap();
        let switch = plan.steps_at_high_noise();
        assert!(switch > 0 && switch < plan.steps(), "{switch} of {}", plan.steps());
        assert!(latents_of(&pipeline, &request) == expected, "{residency}");
    }
    // And each has a guidance of its own.
    let others = [request.clone().guidance_2(1.0), request.clone().guidance(1.0)];
    let pipeline = model.open();
    for other in &others {
        assert!(latents_of(&pipeline, other) != expected);
    }
    let plan = pipeline.plan(&others[0]).unwrap();
    let switch = plan.steps_at_high_noise();
    let (high, low) = (vec![3.0; switch], vec![1.0; plan.steps() - switch]);
    assert_eq!(plan.guidance_scales(), [high, low].concat());
    for guidance in [Guidance::cfg(3.0), Guidance::apg(3.0)] {
        check_resume(&model, &request.clone().guidance(guidance.clone()).guidance_2(guidance));
    }
}

#[test]
fn an_image_that_is_not_seen() {
    let model = Grafted::new(grafts::image_to_video);
    let pipeline = model.open();
    assert_eq!(pipeline.spec().task, Task::ImageToVideo);
    let image = picture(32, 32, [200, 30, 30]);
    let begun = request().image(image.clone());
    assert!(latents_of(&pipeline, &begun) == latents_of(&tiny_wan(), &request()));
    check_resume(&model, &begun);
    let both = begun.last_image(picture(20, 50, [0, 0, 255]));
    assert!(latents_of(&pipeline, &both) == latents_of(&tiny_wan(), &request()));
}

#[test]
fn a_first_and_a_last_image_that_are_not_seen() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pipeline_i2v/model");
    let encoder = grafts::read(&fixture);
    let model = Grafted::new(|files: &Files| grafts::first_last_frame(files, &encoder));
    let pipeline = model.open();
    assert_eq!(pipeline.spec().task, Task::FirstLastFrameToVideo);
    let request = request().image(picture(32, 32, [200, 30, 30]));
    assert!(pipeline.plan(&request).is_err(), "it needs both");
    let request = request.last_image(picture(32, 32, [0, 0, 200]));
    let expected = latents_of(&tiny_wan(), &self::request());
    assert!(latents_of(&pipeline, &request) == expected);
    assert!(latents_of(&model.open_as(Residency::Streamed), &request) == expected);
    check_resume(&model, &request);
}

#[test]
fn a_video_to_follow_that_is_not_seen() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/pipeline_i2v/model");
    let encoder = grafts::read(&fixture);
    let model = Grafted::new(|files: &Files| grafts::fun_control(files, &encoder));
    let pipeline = model.open();
    assert_eq!(pipeline.spec().task, Task::FunControl);
    let expected = latents_of(&tiny_wan(), &request());
    let image = picture(20, 50, [200, 30, 30]);
    let followed = request().control(video(5, [255; 3]));
    for request in [request(), followed.clone(), followed.clone().image(image)] {
        assert!(latents_of(&pipeline, &request) == expected, "{request:?}");
        check_resume(&model, &request);
    }
    let last = picture(20, 50, [0, 0, 200]);
    let both = followed.image(last.clone()).last_image(last);
    says(&pipeline.plan(&both).expect_err("it has no last one"), &["a last image", "FLF2V"]);
    // A video to start from does not make up for a control video that is too short.
    let short = request().control(video(1, [255; 3])).video(video(5, [9; 3])).strength(0.5);
    let error = pipeline.plan(&short).expect_err("it is too short");
    says(&error, &["the control video has 1 frame", "5"]);
}

#[test]
fn a_video_to_change_that_is_not_seen() {
    let model = Grafted::new(grafts::edit);
    let pipeline = model.open();
    assert_eq!(pipeline.spec().task, Task::Edit);
    let changed = request().video(video(9, [200, 30, 30]));
    let found = latents_of(&pipeline, &changed);
    assert!(found == latents_of(&tiny_wan(), &request()));
    check_resume(&model, &changed);
    says(&pipeline.plan(&request()).expect_err("there is none"), &["no video", "video editing"]);
    let short = request().video(video(4, [9; 3]));
    let error = pipeline.plan(&short).expect_err("it is too short");
    says(&error, &["the video to change has 4 frames", "5"]);
}

#[test]
fn masks_and_videos_that_do_not_belong_together() {
    let pipeline = Grafted::new(|model: &Files| grafts::vace(model, 0.0)).open();
    let mask = SourceMask::from(&picture(32, 32, [255; 3]));
    let many = vec![picture(8, 8, [1; 3]); 65];
    for (request, parts) in [
        (request().mask(mask), ["a mask and no video", "made anew"]),
        (request().video(video(5, [9; 3])), ["no mask", "a control video"]),
        (request().control_scale(f64::NAN), ["control scale is NaN", "finite"]),
        (request().references(many), ["references is 65", "at most 64"]),
    ] {
        says(&pipeline.plan(&request).expect_err("it cannot be done"), &parts);
    }
}

/// Pictures are read as Pillow reads them, also in CMYK; but what moves is no picture.
#[test]
fn pictures_of_unusual_kinds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wan-io/tests/data/pictures");
    let image = |name| Image::open(folder.join(name)).unwrap();
    let first = Grafted::new(grafts::image_to_video).open();
    first.plan(&request().image(image("cmyk.jpg"))).unwrap();
    let vace = Grafted::new(|model: &Files| grafts::vace(model, 0.0)).open();
    for name in ["animated.webp", "animated_chunks.png"] {
        let still = || picture(8, 8, [1; 3]);
        for (pipeline, request) in [
            (&first, request().image(image(name))),
            (&first, request().image(still()).last_image(image(name))),
            (&vace, request().references([still(), image(name)])),
            (&vace, request().video(video(5, [9; 3])).mask(SourceMask::from(&image(name)))),
        ] {
            let error = pipeline.plan(&request).expect_err("it moves");
            says(&error, &[name, "an animation", "a still image"]);
        }
    }
}

/// A file of several pictures is no video of one frame.
#[test]
fn animations_that_would_be_videos_of_one_frame() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../wan-io/tests/data/pictures");
    let error = SourceVideo::open(folder.join("animated_chunks.png")).expect_err("it moves");
    says(&error, &["animated_chunks.png", "an animation", "a folder of PNG"]);
}

/// Noise is added to a video, or to latents, and its first frame is a picture's all the same.
#[test]
fn a_picture_before_a_video_to_start_from() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tiny-wan-ti2v/model");
    let pipeline: Pipeline<Flex> =
        Pipeline::builder(folder).precision(Precision::F32).open().unwrap();
    let begun = request().image(picture(32, 32, [200, 30, 30]));
    let expected = latents_of(&pipeline, &begun);
    // Of each channel the first of two frames of 4x4.
    let first_frame = |latents: &[u32]| -> Vec<u32> {
        latents.chunks(32).flat_map(|channel| &channel[..16]).copied().collect()
    };
    let made = pipeline.denoise_batch(std::slice::from_ref(&begun), &mut silent()).unwrap();
    for request in [
        begun.clone().video(video(5, [9; 3])).strength(0.5),
        begun.clone().latents(SourceLatents::from(&made[0])).strength(0.5),
    ] {
        let found = latents_of(&pipeline, &request);
        assert!(found != expected, "{request:?}");
        assert_eq!(first_frame(&found), first_frame(&expected), "{request:?}");
    }
}

/// Models that change a video do not start from it.
#[test]
fn strengths_of_models_that_change_videos() {
    let vace = Grafted::new(|model: &Files| grafts::vace(model, 0.0)).open();
    let edit = Grafted::new(grafts::edit).open();
    let changed = || request().video(video(5, [9; 3])).strength(0.5);
    let masked = changed().mask(SourceMask::from(&picture(32, 32, [255; 3])));
    for (pipeline, request) in [(&vace, masked), (&edit, changed())] {
        let error = pipeline.plan(&request).expect_err("it has no strength");
        says(&error, &["a strength", "text-to-video"]);
    }
}

/// The size of a video follows from that of its picture.
#[test]
fn sizes_from_pictures() {
    let model = Grafted::new(grafts::image_to_video);
    let pipeline = model.open();
    let size = |width, height, request: Request| {
        let request = request.image(picture(width, height, [9; 3]));
        let spec = pipeline.plan(&request.frames(5)).unwrap().video_spec();
        (spec.width, spec.height)
    };
    let prompt = || Request::new("a red circle");
    assert_eq!(size(300, 300, prompt()), (64, 64));
    assert_eq!(size(1, 1, prompt()), (64, 64));
    assert_eq!(size(1600, 900, prompt()), (80, 48));
    assert_eq!(size(900, 1600, prompt()), (48, 80));
    assert_eq!(size(1600, 900, prompt().width(160)), (160, 96));
    assert_eq!(size(1600, 900, prompt().height(48)), (80, 48));
    assert_eq!(size(1600, 900, prompt().size(32, 48)), (32, 48));
}

#[test]
fn a_control_that_is_not_felt_and_one_that_is() {
    let expected = latents_of(&tiny_wan(), &request());
    let unfelt = Grafted::new(|model: &Files| grafts::vace(model, 0.0));
    let felt = Grafted::new(|model: &Files| grafts::vace(model, 0.5));
    let half = [[0; 3 * 16], [255; 3 * 16]].concat().repeat(32);
    let mask = SourceMask::from(&Image::from_rgb8(32, 32, half).unwrap());
    let reference = picture(40, 24, [0, 255, 0]);
    for request in [
        request(),
        request().control(video(5, [255; 3])),
        request().video(video(9, [10, 200, 10])).mask(mask.clone()),
        request().references([reference.clone(), picture(8, 8, [255; 3])]),
    ] {
        let pipeline = unfelt.open();
        assert_eq!(pipeline.spec().task, Task::Control);
        let found = latents_of(&pipeline, &request);
        if request.references.is_empty() {
            assert!(found == expected, "{request:?}");
        }
        let pipeline = felt.open();
        let changed = latents_of(&pipeline, &request);
        assert_eq!(changed.len(), expected.len());
        assert!(changed != found, "{request:?}");
        let scaled = latents_of(&pipeline, &request.clone().control_scale(0.5));
        assert!(scaled != changed, "{request:?}");
        let streamed = latents_of(&felt.open_as(Residency::Streamed), &request);
        assert!(streamed == changed, "{request:?}");
        check_resume(&felt, &request);
    }
}
