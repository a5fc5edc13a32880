//! Requests for what the model cannot do.

use safetensors::Dtype;
use serde_json::json;
use wan_pipeline::{Error, FrameRate, Observer, Request, RequestError};

use crate::model::{Model, TRANSFORMER, TRANSFORMER_WEIGHTS, says, smallest, tiny_wan};

/// The error of a request: one sentence, before the first event, and the same from `plan`.
#[track_caller]
pub(crate) fn error_of(request: &Request) -> Error {
    let pipeline = tiny_wan();
    let error = pipeline.generate_with(request, &mut not_yet()).expect_err("this cannot be made");
    assert_eq!(pipeline.plan(request).unwrap_err().to_string(), error.to_string());
    is_one_sentence(&error);
    error
}

/// An observer of what must fail before anything is done.
pub(crate) fn not_yet() -> Observer<'static> {
    Observer::new(|event| panic!("{event:?} before the error"))
}

#[track_caller]
pub(crate) fn is_one_sentence(error: &Error) {
    println!("{error}");
    let message = error.to_string();
    assert!(!message.contains('\n') && !message.ends_with('.'), "{message:?}");
}

#[test]
fn numbers_of_frames() {
    for (frames, nearest) in [(0, "1 or 5"), (2, "1 or 5"), (82, "81 or 85"), (96, "93 or 97")] {
        let error = error_of(&Request::new("a").frames(frames));
        assert!(matches!(error, Error::Request(RequestError::Frames { .. })), "{error:?}");
        says(
            &error,
            &[&format!("frames is {frames}, but"), "1 more than a multiple of 4", nearest],
        );
    }
    for frames in [1_000_000_000, 1_000_000_001, 4097, usize::MAX] {
        let error = error_of(&Request::new("a").frames(frames));
        assert!(matches!(error, Error::Request(RequestError::Range { .. })), "{error:?}");
        says(&error, &["frames is ", "at most 4093"]);
    }
    says(&error_of(&Request::new("a").frames(1_000_000_000)), &["frames is 1000000000,"]);
}

/// Where a token covers two latent frames, there must be an even number of them: 5, 13, 21 .. frames.
#[test]
fn numbers_of_frames_with_tokens_of_two_latent_frames() {
    let model = Model::copy();
    model.set(TRANSFORMER, "patch_size", json!([2, 2, 2]));
    let mut tensors = model.tensors(TRANSFORMER_WEIGHTS);
    for (name, shape) in [
        ("patch_embedding.weight", vec![192, 16, 2, 2, 2]),
        ("proj_out.weight", vec![128, 192]),
        ("proj_out.bias", vec![128]),
    ] {
        let zeros = vec![0; 2 * shape.iter().product::<usize>()];
        tensors.0.insert(name.into(), (Dtype::F16, shape, zeros));
    }
    model.write(TRANSFORMER_WEIGHTS, tensors.bytes());
    let pipeline = model.open().unwrap();
    for (frames, nearest) in [(0, "5 or 13"), (1, "5 or 13"), (9, "5 or 13"), (14, "13 or 21")] {
        let error = pipeline.plan(&smallest("a").frames(frames)).unwrap_err();
        says(&error, &["5 more than a multiple of 8", nearest]);
    }
    for frames in [5, 13] {
        let video = pipeline.generate(&smallest("a").frames(frames)).unwrap();
        assert_eq!(video.frames().len(), frames);
    }
}

#[test]
fn sizes() {
    for (width, height, side, found, nearest) in [
        (63, 64, "width", 63, "48 or 64"),
        (65, 64, "width", 65, "64 or 80"),
        (72, 64, "width", 72, "64 or 80"),
        (0, 64, "width", 0, "16 or 32"),
        (1, 64, "width", 1, "16 or 32"),
        (64, 0, "height", 0, "16 or 32"),
        (64, 479, "height", 479, "464 or 480"),
    ] {
        let error = error_of(&Request::new("a").size(width, height));
        assert!(matches!(error, Error::Request(RequestError::Size { .. })), "{error:?}");
        let found = format!("{side} is {found}, but must be a multiple of 16: {nearest}");
        says(&error, &[&found]);
    }
    for (width, height, side) in
        [(16_400, 64, "width"), (64, 1 << 40, "height"), (64, usize::MAX, "height")]
    {
        let error = error_of(&Request::new("a").size(width, height));
        assert!(matches!(error, Error::Request(RequestError::Range { .. })), "{error:?}");
        says(&error, &[&format!("{side} is "), "at most 16384"]);
    }
}

/// Each side within what the model has positions for, but all frames together beyond any memory.
#[test]
fn a_video_that_no_memory_holds() {
    let error = error_of(&Request::new("a").size(16_384, 16_384).frames(4093));
    assert!(matches!(error, Error::Request(RequestError::Range { .. })), "{error:?}");
    says(&error, &["width x height x frames is 1098706321408", "at most 2147483648 pixels"]);
    let error = error_of(&Request::new("a").size(16_384, 16_384).frames(1));
    says(&error, &["width x height is 268435456", "at most 134217728 pixels"]);
}

fn rate(text: &str) -> FrameRate {
    text.parse().unwrap()
}

#[test]
fn numbers_out_of_range() {
    let new = || Request::new("a");
    let (nan, infinite) = (f64::NAN, f64::INFINITY);
    for (request, found, expected) in [
        (new().steps(0), "steps is 0,", "1 to 1000"),
        (new().steps(1001), "steps is 1001,", "1 to 1000"),
        (new().steps(usize::MAX), "steps is ", "1 to 1000"),
        (new().shift(nan), "shift is NaN,", "more than 0"),
        (new().shift(infinite), "shift is inf,", "more than 0"),
        (new().shift(0.0), "shift is 0,", "more than 0"),
        (new().shift(-0.0), "shift is -0,", "more than 0"),
        (new().shift(-3.0), "shift is -3,", "more than 0"),
        (new().fps(0), "fps is 0,", "1 to 240"),
        (new().fps(100_000), "fps is 100000,", "1 to 240"),
        (new().fps(rate("1/2")), "fps is 0.5,", "1 to 240"),
        (new().fps(rate("240.1")), "fps is 240.1,", "1 to 240"),
        (new().text_length(0), "text length is 0,", "2 to 4096"),
        (new().text_length(1), "text length is 1,", "2 to 4096"),
        (new().text_length(1 << 40), "text length is ", "2 to 4096"),
    ] {
        let error = error_of(&request);
        assert!(matches!(error, Error::Request(RequestError::Range { .. })), "{error:?}");
        says(&error, &[found, "but must be", expected]);
    }
}

/// A shift so extreme that steps have no length, which only the schedule itself shows.
#[test]
fn shifts_without_steps() {
    for shift in [1e-300, 1e12, 1e300] {
        let error = error_of(&Request::new("a").shift(shift));
        assert!(matches!(error, Error::Request(RequestError::Schedule(_))), "{error:?}");
        says(&error, &["sigma", "shift nearer to 1"]);
    }
}

/// The last values that are still right.
#[test]
fn the_edges_of_the_ranges() {
    let pipeline = tiny_wan();
    let new = || Request::new("a");
    for request in [
        new().steps(1),
        new().steps(1000),
        new().guidance(1.0),
        new().shift(0.01),
        new().shift(100.0),
        new().fps(1),
        new().fps(240),
        new().fps(rate("239.76")),
        new().frames(1),
        new().frames(4093),
        new().size(16, 16384),
        new().text_length(2),
        new().seed(u64::MAX),
    ] {
        pipeline.plan(&request).unwrap();
    }
}
