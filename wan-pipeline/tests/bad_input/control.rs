//! Guidance, noise levels, source videos, embeddings and batches that make no run.

use std::ffi::OsStr;

use wan_core::guidance::{Apg, CfgZeroStar, Guidance, GuidanceError, Schedule};
use wan_core::scheduler::{ScheduleError, SchedulerConfig, SchedulerKind, Steps};
use wan_io::video::VideoError;
use wan_pipeline::backend::Flex;
use wan_pipeline::{
    Error, ModelError, Pipeline, PromptEmbeds, Request, RequestError, SourceLatents, SourceVideo,
    TensorFileError,
};

use crate::model::{says, smallest, tiny_wan};
use crate::requests::{error_of, is_one_sentence, not_yet};

/// The width of the miniature model's text.
const WIDTH: usize = 128;

fn of_steps(steps: impl Into<Steps>) -> Request {
    smallest("a").steps(steps)
}

#[test]
fn guidance_that_cannot_be_followed() {
    let (nan, infinite) = (f64::NAN, f64::INFINITY);
    let cfg = |scales: &[f64]| Guidance::cfg(scales.to_vec());
    let apg = |eta, momentum, norm_threshold| {
        Guidance::new(Apg { eta, momentum, norm_threshold, clean: false }, 3.0)
    };
    let zero_star =
        |zero_init_steps| Guidance::new(CfgZeroStar { zero_init_steps }, Schedule::Constant(3.0));
    let plain = || Guidance::cfg(3.0);
    for (guidance, parts) in [
        (nan.into(), ["guidance is NaN,", "1 (no guidance) to 1000"]),
        (infinite.into(), ["guidance is inf,", "1 (no guidance)"]),
        ((-infinite).into(), ["guidance is -inf,", "1 (no guidance)"]),
        (0.0.into(), ["guidance is 0,", "1 (no guidance)"]),
        ((-1.0).into(), ["guidance is -1,", "1 (no guidance)"]),
        (1e30.into(), ["guidance is 1000000000000000000000000000000,", "to 1000"]),
        (cfg(&[]), ["has 0 scales", "the run has 4 steps"]),
        (cfg(&[3.0; 3]), ["has 3 scales", "the run has 4 steps"]),
        (cfg(&[3.0; 5]), ["has 5 scales", "the run has 4 steps"]),
        (cfg(&[3.0, nan, 3.0, 3.0]), ["guidance is NaN in step 2,", "1 (no guidance)"]),
        (cfg(&[3.0, 3.0, 3.0, -2.0]), ["guidance is -2 in step 4,", "1 (no guidance)"]),
        (Guidance::cfg(Schedule::Linear { from: 0.5, to: 3.0 }), ["guidance is 0.5 in step 1", ""]),
        (Guidance::cfg(Schedule::Cosine { from: 3.0, to: nan }), ["guidance is NaN in step", ""]),
        (plain().interval(0.5, 0.5), ["interval is 0.5 to 0.5,", "0 <= start < stop <= 1"]),
        (plain().interval(0.6, 0.2), ["interval is 0.6 to 0.2,", "start < stop"]),
        (plain().interval(-0.1, 0.5), ["interval is -0.1 to 0.5,", "0 <= start"]),
        (plain().interval(0.0, 1.5), ["interval is 0 to 1.5,", "stop <= 1"]),
        (plain().interval(nan, 1.0), ["interval is NaN to 1,", "fractions of the run"]),
        (plain().interval(0.1, 0.2), ["interval 0.1 to 0.2", "none of the 4 steps"]),
        (plain().rescale(2.0), ["rescale is 2,", "0 to 1"]),
        (plain().rescale(-0.1), ["rescale is -0.1,", "0 to 1"]),
        (plain().rescale(nan), ["rescale is NaN,", "0 to 1"]),
        (zero_star(4), ["zero_init_steps is 4,", "less than the 4 steps"]),
        (apg(nan, 0.0, 0.0), ["eta is NaN,", "finite"]),
        (apg(0.0, 1.5, 0.0), ["momentum is 1.5,", "-1 to 1"]),
        (apg(0.0, 0.0, -1.0), ["norm threshold is -1,", "0 (no limit)"]),
    ] {
        let error = error_of(&of_steps(4).guidance(guidance));
        assert!(matches!(error, Error::Request(RequestError::Guidance(_))), "{error:?}");
        says(&error, &parts);
    }
}

/// A schedule is for the steps that are run, of which a strength leaves fewer.
#[test]
fn a_guidance_schedule_counts_the_steps_that_are_run() {
    let request = of_steps(4).video(video(16, 16, 1)).strength(0.5);
    let with = |scales: usize| request.clone().guidance(Guidance::cfg(vec![3.0; scales]));
    let error = error_of(&with(4));
    says(&error, &["has 4 scales", "the run has 2 steps"]);
    tiny_wan().plan(&with(2)).unwrap();
}

/// The guidance of a run that goes on is checked in the same way, and stays as it was.
#[test]
fn guidance_that_is_changed_in_a_run() {
    let pipeline = tiny_wan();
    let mut observer = wan_pipeline::Observer::silent();
    let mut run = pipeline.start(&[of_steps(2)], &mut observer).unwrap();
    let error = run.set_guidance(Guidance::cfg(vec![3.0; 3])).unwrap_err();
    let ok = matches!(
        error,
        Error::Request(RequestError::Guidance(GuidanceError::ScheduleLength { .. }))
    );
    assert!(ok, "{error:?}");
    for error in [
        run.set_guidance_of(1, 3.0).unwrap_err(),
        run.latents(1).unwrap_err(),
        run.preview(7).unwrap_err(),
    ] {
        assert!(matches!(error, Error::Request(RequestError::NoSuchVideo { .. })), "{error:?}");
        says(&error, &["but the run has 1"]);
    }
    assert_eq!(run.plan(0).unwrap().guidance_scales(), [3.0, 3.0]);
}

#[test]
fn noise_levels_that_do_not_fall() {
    let nan = f64::NAN;
    let sigmas = |levels: &[f64]| Steps::Sigmas(levels.to_vec());
    let timesteps = |levels: &[f64]| Steps::Timesteps(levels.to_vec());
    for (steps, parts) in [
        (sigmas(&[]), ["steps is 0,", "1 to 1000"]),
        (sigmas(&vec![0.5; 1001]), ["steps is 1001,", "1 to 1000"]),
        (sigmas(&[0.5, 0.9]), ["sigma 1 is", "less than the one before it"]),
        (sigmas(&[0.9, 0.9]), ["sigma 1 is", "less than the one before it"]),
        (sigmas(&[0.9, nan]), ["sigma is NaN,", "more than 0 and at most 1"]),
        (sigmas(&[1.5, 0.5]), ["sigma is 1.5,", "at most 1"]),
        (sigmas(&[0.9, 0.0]), ["sigma is 0,", "more than 0"]),
        (sigmas(&[0.9, -0.5]), ["sigma is -0.5,", "more than 0"]),
        (timesteps(&[]), ["steps is 0,", "1 to 1000"]),
        (timesteps(&[1001.0, 500.0]), ["timestep is 1001,", "at most 1000"]),
        (timesteps(&[1000.0, 0.0]), ["timestep is 0,", "more than 0"]),
        (timesteps(&[1000.0, -1.0]), ["timestep is -1,", "more than 0"]),
        (timesteps(&[1000.0, nan]), ["timestep is NaN,", "more than 0"]),
        (timesteps(&[500.0, 757.0]), ["sigma 1 is", "less than the one before it"]),
    ] {
        let error = error_of(&of_steps(steps));
        assert!(matches!(error, Error::Request(RequestError::Schedule(_))), "{error:?}");
        says(&error, &parts);
    }
}

#[test]
fn schedulers_that_disagree_or_do_not_exist() {
    let lcm = SchedulerConfig::new(SchedulerKind::Lcm);
    let request = of_steps(2).scheduler(SchedulerKind::Euler).scheduler_config(lcm.clone());
    let error = error_of(&request);
    assert!(matches!(error, Error::Request(RequestError::SchedulersDisagree { .. })), "{error:?}");
    says(&error, &["scheduler is euler", "lcm"]);
    tiny_wan().plan(&request.scheduler(SchedulerKind::Lcm)).unwrap();

    let mut config = SchedulerConfig::default();
    config.solver_order = 7;
    let error = error_of(&of_steps(2).scheduler_config(config));
    let ok = matches!(error, Error::Request(RequestError::Schedule(ScheduleError::Config(_))));
    assert!(ok, "{error:?}");
    says(&error, &["solver_order is 7,", "1, 2 or 3"]);
    for (shift, shown) in [(f64::NAN, "NaN"), (-1.0, "-1.0"), (0.0, "0.0")] {
        let config = SchedulerConfig::default().with_flow_shift(shift);
        says(
            &error_of(&of_steps(2).scheduler_config(config)),
            &[&format!("flow_shift is {shown},")],
        );
    }
}

/// A video in memory, all of one gray.
fn video(width: u32, height: u32, frames: usize) -> SourceVideo {
    let frame = vec![127; (width * height * 3) as usize];
    SourceVideo::from_frames(width, height, 24, vec![frame; frames]).unwrap()
}

#[test]
fn latents_to_start_from() {
    let latents =
        |shape: [usize; 5]| SourceLatents::new(vec![0.5; shape.iter().product()], shape).unwrap();
    let both = of_steps(2).video(video(16, 16, 1)).latents(latents([1, 16, 1, 2, 2]));
    let error = error_of(&both);
    assert!(matches!(error, Error::Request(RequestError::TwoSources)), "{error:?}");
    for shape in [[1, 48, 1, 2, 2], [1, 16, 2, 2, 2], [1, 16, 1, 4, 2]] {
        let error = error_of(&of_steps(2).latents(latents(shape)));
        let ok = matches!(error, Error::Request(RequestError::LatentsShape { .. }));
        assert!(ok, "{error:?}");
        says(&error, &[&format!("{shape:?}"), "[1, 16, 1, 2, 2]"]);
    }
    for (values, shape) in [
        (vec![0.0; 4], [1, 16, 1, 2, 2]),
        (vec![], [1, 16, 0, 2, 2]),
        (vec![0.0; 128], [2, 16, 1, 2, 2]),
        (vec![0.0; 64], [1, 16, 1, usize::MAX, 2]),
    ] {
        let error = SourceLatents::new(values, shape).unwrap_err();
        assert!(matches!(error, Error::TensorFile(_)), "{error:?}");
    }
    let error = SourceLatents::new(vec![f32::NAN; 64], [1, 16, 1, 2, 2]).unwrap_err();
    assert!(matches!(error, Error::NotFinite { .. }), "{error:?}");
}

#[test]
fn strengths() {
    let request = |strength: f64| of_steps(4).video(video(16, 16, 1)).strength(strength);
    for strength in [0.0, -0.0, 2.0, -1.0, 1.0000001, f64::NAN, f64::INFINITY] {
        let error = error_of(&request(strength));
        let ok = matches!(
            error,
            Error::Request(RequestError::Schedule(ScheduleError::Parameter { .. }))
        );
        assert!(ok, "{error:?}");
        says(&error, &[&format!("strength is {strength},"), "more than 0 and at most 1"]);
    }
    says(&error_of(&request(0.2)), &["strength is 0.2,", "none of the 4 steps", "1 / 4"]);
    let error = error_of(&of_steps(4).strength(0.5));
    let ok = matches!(error, Error::Request(RequestError::StrengthWithoutVideo { .. }));
    assert!(ok, "{error:?}");
    says(&error, &["strength is 0.5,", "no video"]);
    for (strength, steps) in [(0.25, 1), (0.5, 2), (1.0, 4)] {
        assert_eq!(tiny_wan().plan(&request(strength)).unwrap().steps(), steps);
    }
}

#[test]
fn source_videos_that_do_not_fit() {
    for (request, parts) in [
        (
            of_steps(2).video(video(32, 16, 1)),
            ["1 frame of 32x16", "the video to make has 1 frame of 16x16"],
        ),
        (
            of_steps(2).frames(9).video(video(16, 16, 8)),
            ["8 frames of 16x16", "the video to make has 9 frames of 16x16"],
        ),
    ] {
        let error = error_of(&request);
        assert!(matches!(error, Error::Request(RequestError::SourceVideo { .. })), "{error:?}");
        says(&error, &parts);
    }
    // Its own size, where no other is asked for, must be one that the model can make.
    let error = error_of(&Request::new("a").video(video(24, 16, 1)));
    assert!(matches!(error, Error::Request(RequestError::Size { .. })), "{error:?}");
    says(&error, &["width is 24,", "16 or 32"]);
    // A longer one is cut at the end.
    let plan = tiny_wan().plan(&Request::new("a").video(video(16, 32, 8))).unwrap();
    let spec = plan.video_spec();
    assert_eq!((spec.width, spec.height, spec.frames, spec.fps), (16, 32, 5, 24.into()));
}

#[test]
fn source_videos_that_are_none() {
    let frame = vec![0; 16 * 16 * 3];
    let error = SourceVideo::from_frames(16, 16, 24, vec![]).unwrap_err();
    assert!(matches!(error, Error::Video(VideoError::NoFrames { .. })), "{error:?}");
    is_one_sentence(&error);
    let frames = vec![frame.clone(), frame[1..].to_vec()];
    let error = SourceVideo::from_frames(16, 16, 24, frames).unwrap_err();
    assert!(matches!(error, Error::Video(VideoError::FrameLength { .. })), "{error:?}");
    says(&error, &["frame 1", "767 bytes", "16x16", "768"]);
    is_one_sentence(&error);

    let folder = tempfile::tempdir().unwrap();
    for (name, content) in [("none", None), ("empty.mp4", Some("")), ("text.mp4", Some("a text"))] {
        let path = folder.path().join(name);
        content.inspect(|content| std::fs::write(&path, content).unwrap());
        let error = SourceVideo::open(&path).unwrap_err();
        assert!(matches!(error, Error::Video(_)), "{error:?}");
        is_one_sentence(&error);
        says(&error, &[name]);
    }
    let error = SourceVideo::open(folder.path().join(OsStr::new("no/such"))).unwrap_err();
    assert!(matches!(error, Error::Video(_)), "{error:?}");
}

fn embeds(tokens: usize, width: usize) -> PromptEmbeds {
    PromptEmbeds::new(vec![0.5; tokens * width], [tokens, width]).unwrap()
}

#[test]
fn embeddings_that_do_not_fit() {
    for (request, which) in [
        (smallest("").prompt_embeds(embeds(3, 64)), "prompt_embeds have a width of 64"),
        (
            smallest("").negative_prompt_embeds(embeds(3, 4096)),
            "negative_prompt_embeds have a width of 4096",
        ),
    ] {
        let error = error_of(&request);
        assert!(matches!(error, Error::Request(RequestError::EmbedsWidth { .. })), "{error:?}");
        says(&error, &[which, "reads text of width 128"]);
    }
    for (request, which) in [
        (smallest("").prompt_embeds(embeds(513, WIDTH)), "prompt_embeds have 513 tokens"),
        (
            smallest("").negative_prompt_embeds(embeds(17, WIDTH)).text_length(16),
            "negative_prompt_embeds have 17 tokens",
        ),
    ] {
        let error = error_of(&request);
        assert!(matches!(error, Error::Request(RequestError::EmbedsLength { .. })), "{error:?}");
        says(&error, &[which, "the text length is"]);
    }
    tiny_wan().plan(&smallest("").prompt_embeds(embeds(512, WIDTH))).unwrap();
}

#[test]
fn embeddings_that_are_none() {
    for (count, shape) in
        [(0, [0, WIDTH]), (0, [3, 0]), (5, [2, 3]), (6, [usize::MAX, 2]), (6, [3, 3])]
    {
        let error = PromptEmbeds::new(vec![0.0; count], shape).unwrap_err();
        assert!(matches!(error, Error::TensorFile(TensorFileError::Shape { .. })), "{error:?}");
        says(&error, &["embeddings", &format!("{shape:?}"), &format!("{count} elements")]);
    }
    for value in [f32::NAN, f32::INFINITY] {
        let error = PromptEmbeds::new(vec![0.0, value], [1, 2]).unwrap_err();
        assert!(matches!(error, Error::NotFinite { .. }), "{error:?}");
    }
}

#[test]
fn a_prompt_without_a_text_encoder() {
    let builder = Pipeline::<Flex>::builder("tiny-wan").without_text_encoder();
    let pipeline = builder.open().unwrap();
    let embeds = embeds(3, WIDTH);
    // The negative prompt, which guidance needs, is one too.
    for request in [smallest("a"), smallest("").prompt_embeds(embeds.clone())] {
        let error = pipeline.generate_with(&request, &mut not_yet()).unwrap_err();
        assert!(matches!(error, Error::Model(ModelError::LeftOut { .. })), "{error:?}");
        is_one_sentence(&error);
        says(&error, &["text encoder", "a prompt without embeddings"]);
    }
    let request = smallest("").prompt_embeds(embeds.clone());
    pipeline.generate(&request.clone().guidance(1.0)).unwrap();
    pipeline.generate(&request.negative_prompt_embeds(embeds)).unwrap();
}

#[test]
fn batches_that_cannot_be_made() {
    let pipeline = tiny_wan();
    let observer = &mut not_yet();
    for error in [
        pipeline.generate_batch_with(&[], observer).unwrap_err(),
        pipeline.denoise_batch(&[], observer).unwrap_err(),
        pipeline.start(&[], observer).err().unwrap(),
    ] {
        assert!(matches!(error, Error::Request(RequestError::EmptyBatch)), "{error:?}");
        is_one_sentence(&error);
    }
    // The error of the last is found before the first is begun.
    let batch = [smallest("a"), smallest("b"), smallest("c").frames(2)];
    let error = pipeline.generate_batch_with(&batch, observer).unwrap_err();
    assert!(matches!(error, Error::Request(RequestError::Frames { .. })), "{error:?}");
}

#[test]
fn requests_that_do_not_form_one_run() {
    let pipeline = tiny_wan();
    let first = || of_steps(2);
    for (other, found) in [
        (first().frames(5), "5 frames"),
        (first().size(32, 16), "32x16"),
        (first().steps(3), "3 steps"),
        (first().shift(5.0), "shift 5"),
        (first().scheduler(SchedulerKind::Euler), "euler"),
        (first().video(video(16, 16, 1)).strength(0.5), "1 step "),
    ] {
        let error = pipeline.start(&[first(), other], &mut not_yet()).err().unwrap();
        let ok = matches!(error, Error::Request(RequestError::NotOneRun { request: 1, .. }));
        assert!(ok, "{error:?}");
        is_one_sentence(&error);
        says(&error, &["request 1", found, "the first has 16x16, 1 frame, 2 steps of unipc"]);
    }
}

#[test]
fn weights_of_words_that_are_none() {
    let pipeline = tiny_wan();
    for prompt in ["a (red:) cat", "a (red:x) cat", "(a:-1)", "(a:NaN)", "(a:11)", "((a:1):2)"] {
        for request in [
            smallest(prompt).prompt_weighting(true),
            smallest("a").negative_prompt(prompt).prompt_weighting(true),
        ] {
            let error = pipeline.generate_with(&request, &mut not_yet()).unwrap_err();
            let ok = matches!(error, Error::Request(RequestError::PromptWeight { .. }));
            assert!(ok, "{prompt}: {error:?}");
            is_one_sentence(&error);
            says(&error, &["(words:1.3)", "0 to 10"]);
        }
        pipeline.plan(&smallest(prompt)).unwrap(); // brackets are text unless they are asked for
    }
}
