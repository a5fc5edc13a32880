//! Pictures, videos and masks that a model does not take, or cannot do without, or that are not what they should be.

use std::path::Path;

use serde_json::json;
use wan_pipeline::backend::Flex;
use wan_pipeline::{Error, Image, Pipeline, Request, RequestError, SourceMask, SourceVideo, Task};

use crate::model::{INDEX, Model, says, smallest};

fn picture(width: u32, height: u32) -> Image {
    Image::from_rgb8(width, height, vec![7; 3 * (width * height) as usize]).unwrap()
}

fn video(side: u32, frames: usize) -> SourceVideo {
    let frame = vec![9; 3 * (side * side) as usize];
    SourceVideo::from_frames(side, side, 24, vec![frame; frames]).unwrap()
}

/// A request of 5 frames of 16x16.
fn request() -> Request {
    smallest("a red circle").frames(5)
}

#[track_caller]
fn refused(pipeline: &Pipeline<Flex>, request: &Request, parts: &[&str]) -> RequestError {
    let error = pipeline.plan(request).expect_err("it cannot be done");
    says(&error, parts);
    match error {
        Error::Request(error) => error,
        other => panic!("{other:?}"),
    }
}

/// The miniature as a model for text alone.
fn for_text() -> Pipeline<Flex> {
    let model = Model::copy();
    model.set(INDEX, "expand_timesteps", json!(false));
    model.open().unwrap()
}

#[test]
fn inputs_that_a_model_does_not_take() {
    let pipeline = for_text();
    assert_eq!(pipeline.spec().task, Task::TextToVideo);
    let mask = SourceMask::from(&picture(16, 16));
    for (request, input, models) in [
        (request().image(picture(16, 16)), "an image", "Wan 2.1 I2V"),
        (request().image(picture(16, 16)).last_image(picture(16, 16)), "an image", "I2V-A14B"),
        (request().video(video(16, 5)).mask(mask), "a mask", "VACE"),
        (request().references([picture(8, 8)]), "a reference", "VACE"),
        (request().control(video(16, 5)), "a control video", "Fun-Control"),
        (request().control_scale(0.5), "a scale of a control video", "VACE"),
    ] {
        let error = refused(&pipeline, &request, &[input, "a model for text-to-video", models]);
        assert!(matches!(error, RequestError::NotTaken { .. }), "{error:?}");
    }
    refused(&pipeline, &request().guidance_2(3.0), &["second guidance", "one transformer"]);
}

#[test]
fn a_model_for_text_and_image() {
    let model = Model::copy();
    model.set(INDEX, "expand_timesteps", json!(true));
    let pipeline = model.open().unwrap();
    assert_eq!(pipeline.spec().task, Task::TextImageToVideo);
    let begun = request().image(picture(16, 16));
    let both = begun.clone().last_image(picture(16, 16));
    refused(&pipeline, &both, &["a last image", "text-and-image-to-video", "FLF2V"]);
    refused(&pipeline, &begun.clone().frames(1), &["frames is 1", "at least 5"]);
    let narrow = Request::new("a cat").image(picture(10_000, 1));
    refused(&pipeline, &narrow, &["10000x1 pixels", "multiples of 16", "give the size"]);
    pipeline.plan(&narrow.clone().size(32, 16)).unwrap();
    refused(&pipeline, &narrow.height(usize::MAX / 16 * 16), &["height is", "at most"]);
    // What is not asked for has no effect.
    pipeline.plan(&request()).unwrap();
}

/// The small random model of a fixture, which begins with an image.
#[test]
fn a_model_that_begins_with_an_image() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pipeline_i2v/model");
    let pipeline = Pipeline::<Flex>::from_pretrained(folder).unwrap();
    assert_eq!(pipeline.spec().task, Task::ImageToVideo);
    let error = refused(&pipeline, &request(), &["no image", "image-to-video"]);
    assert!(matches!(error, RequestError::Missing { .. }), "{error:?}");
    refused(&pipeline, &request().last_image(picture(16, 16)), &["a last image and no first one"]);
}

/// Whatever lies where the image encoder should is refused when the model is opened.
#[test]
fn an_image_encoder_that_is_missing_or_another() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/pipeline_i2v/model");
    let model = Model::copy_of_image_model(&folder);
    let config = "image_encoder/config.json";
    let error = model.error_with_field(config, "hidden_size", &json!(24));
    says(&error, &["hidden_size", config]);
    let error = model.error_with_field(config, "patch_size", &json!(0));
    says(&error, &["patch_size is 0", config]);
    std::fs::remove_file(model.file("image_encoder/model.safetensors")).unwrap();
    says(&model.error(), &["image_encoder/model.safetensors"]);
    std::fs::remove_dir_all(model.file("image_encoder")).unwrap();
    says(&model.error(), &["image_encoder/config.json"]);
    let error = model.error_with_field(INDEX, "image_encoder", &json!(["x", "UNet"]));
    says(&error, &[INDEX, "image_encoder", "\"UNet\"", "\"CLIPVisionModel\""]);
}
