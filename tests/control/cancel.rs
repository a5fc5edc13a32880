//! Work that is stopped: soon, without a result, and so that it can go on.

use std::sync::mpsc::channel;
use std::thread;

use wan_pipeline::{
    CancelToken, Error, Event, Latents, Observer, Role, SourceVideo, Tiling, Video,
};

use crate::counting::{self, before_attention, before_conv3d, calls, calls_of};
use crate::support::{bits, silent, small, tiny_wan};

fn is_cancelled<T>(result: Result<T, Error>) -> bool {
    matches!(result, Err(Error::Cancelled))
}

/// From another thread, in the middle of a step.
#[test]
fn a_run_that_was_stopped_can_go_on() {
    let pipeline = counting::pipeline();
    let request = small("a red circle").steps(4).guidance(wan_pipeline::Guidance::apg(3.0));
    let expected = pipeline.denoise_batch(std::slice::from_ref(&request), &mut silent()).unwrap();
    let token = CancelToken::default();
    let observer = &mut Observer::silent().cancelled_by(&token);
    let mut run = pipeline.start(&[request], observer).unwrap();
    run.step().unwrap();
    run.step().unwrap();
    let before = bits(&run.latents(0).unwrap());

    let ((ask, asked), (answer, answered)) = (channel(), channel());
    let other = thread::spawn(move || {
        asked.recv().unwrap();
        token.cancel();
        answer.send(()).unwrap();
    });
    let first = calls().attention;
    before_attention(move |calls, _| {
        if calls.attention == first + 3 {
            ask.send(()).unwrap();
            answered.recv().unwrap();
        }
    });
    assert!(is_cancelled(run.step()));
    other.join().unwrap();
    assert_eq!((run.done(), bits(&run.latents(0).unwrap())), (2, before));
    assert!(is_cancelled(run.step()), "a token stays cancelled");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.safetensors");
    run.save(&file).unwrap();
    let mut resumed = pipeline.resume(&file, &mut silent()).unwrap();
    resumed.run(&mut silent()).unwrap();
    assert_eq!(bits(&resumed.finish()[0]), bits(&expected[0]));
    run.set_cancel_token(&CancelToken::default());
    run.run(&mut silent()).unwrap();
    assert_eq!(bits(&run.finish()[0]), bits(&expected[0]));
}

/// Wherever a forward pass is cancelled, at most the block that runs is finished: two attentions.
#[test]
fn a_forward_pass_stops_after_its_block() {
    let pipeline = counting::pipeline();
    let request = small("a red circle");
    pipeline.denoise_batch(std::slice::from_ref(&request), &mut silent()).unwrap();
    for k in 1..=14 {
        let token = CancelToken::default();
        let observer = &mut Observer::silent().cancelled_by(&token);
        let mut run = pipeline.start(std::slice::from_ref(&request), observer).unwrap();
        let first = calls().attention;
        before_attention(move |calls, _| {
            if calls.attention == first + k {
                token.cancel();
            }
        });
        let (result, done) = calls_of(|| run.step());
        assert!(is_cancelled(result), "{k}");
        assert!((k..=k + 1).contains(&done.attention), "{k}: {done:?}");
    }
}

/// Decoding stops after the latent frame (of a tile) that it is at.
#[test]
fn decoding_stops_after_its_chunk() {
    let pipeline = |tiling: Option<Tiling>| {
        let builder = wan_pipeline::PipelineBuilder::new("tiny-wan");
        tiling.into_iter().fold(builder, |b, tiling| b.vae_tiling(tiling)).open().unwrap()
    };
    for tiling in [None, Some(Tiling::square(32))] {
        let pipeline: wan_pipeline::Pipeline<counting::Counting<wan_pipeline::backend::Flex>> =
            pipeline(tiling);
        let decode = |frames: usize, stop: Option<usize>| {
            let plan = pipeline.plan(&small("").size(64, 32).frames(frames)).unwrap();
            let zeros = burn::tensor::Tensor::zeros(plan.latent_shape(), pipeline.device());
            let latents = Latents::from_tensor(zeros).unwrap();
            let token = CancelToken::default();
            let observer = &mut Observer::silent().cancelled_by(&token);
            let first = calls().conv3d;
            before_conv3d(move |calls, _| {
                if Some(calls.conv3d - first) == stop {
                    token.cancel();
                }
            });
            let mut video = Video::new(&plan);
            calls_of(|| pipeline.decode(&latents, &mut video, observer))
        };
        decode(1, None).0.unwrap(); // loads the VAE
        let tiles = if tiling.is_some() { 3 } else { 1 };
        let (one, all) = (decode(1, None).1.conv3d, decode(9, None).1.conv3d);
        assert!(all > 2 * one, "{one} and {all}");
        let chunk = (decode(9, None).1.conv3d - decode(5, None).1.conv3d) / tiles;
        for stop in [1, one + 1, all / 2] {
            let (result, done) = decode(9, Some(stop));
            assert!(is_cancelled(result), "{tiling:?}: {stop}");
            assert!(done.conv3d < stop + chunk, "{tiling:?}: {stop}, {done:?}, {chunk} in a chunk");
        }
    }
}

/// Encoding stops after the frames (of a tile) that it is at.
#[test]
fn encoding_stops_after_its_chunk() {
    let pipeline = counting::pipeline();
    let start = |frames: usize, stop: Option<usize>| {
        let source = SourceVideo::from_frames(32, 32, 8, vec![vec![99; 32 * 32 * 3]; frames]);
        let request = small("a red circle").frames(frames).video(source.unwrap());
        let token = CancelToken::default();
        let observer = &mut Observer::silent().cancelled_by(&token);
        let first = calls().conv3d;
        before_conv3d(move |calls, _| {
            if Some(calls.conv3d - first) == stop {
                token.cancel();
            }
        });
        calls_of(|| pipeline.start(&[request], observer).map(drop))
    };
    start(1, None).0.unwrap();
    let [one, two, three] = [1, 5, 9].map(|frames| start(frames, None).1.conv3d);
    assert_eq!(three - two, two - one);
    let chunk = two - one;
    for stop in [1, one + 1, two] {
        let (result, done) = start(9, Some(stop));
        assert!(is_cancelled(result), "{stop}");
        assert!(done.conv3d < stop + chunk, "{stop}, {done:?}, {chunk} in a chunk");
    }
}

/// Also from within the event; and the next request loads what was not loaded.
#[test]
fn loading_stops() {
    let pipeline = tiny_wan();
    let request = small("a red circle").steps(1);
    for part in [Role::TextEncoder, Role::Transformer, Role::Vae] {
        let (token, mut after) = (CancelToken::default(), Vec::new());
        let cancel = token.clone();
        let observer = Observer::new(|event| {
            if matches!(&event, Event::Loading { role } if *role == part) {
                cancel.cancel();
            } else if cancel.is_cancelled() {
                after.push(event);
            }
        });
        let result = pipeline.generate_with(&request, &mut observer.cancelled_by(&token));
        assert!(is_cancelled(result), "{part}");
        assert_eq!(after, [], "{part}");
    }
    pipeline.generate(&request).unwrap();
}

#[test]
fn a_token_that_is_cancelled_before_stops_everything() {
    let token = CancelToken::default();
    token.cancel();
    let observer = &mut Observer::new(|event| panic!("{event:?}")).cancelled_by(&token);
    let pipeline = tiny_wan();
    assert!(is_cancelled(pipeline.generate_with(&small("a"), observer)));
    assert!(is_cancelled(pipeline.embed(&small("a"), observer)));
}
