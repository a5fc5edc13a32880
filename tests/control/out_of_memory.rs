//! A device that runs out of memory while frames are decoded.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind, set_hook, take_hook};
use std::sync::Once;

use wan_pipeline::{Error, Event, FrameSink, Latents, Observer, Plan, VideoError};

use crate::counting::{self, before_conv3d, calls, calls_of};
use crate::support::{silent, small};

/// Wider than a tile, which is 256 pixels.
const WIDTH: usize = 288;
const FRAMES: usize = 9;

thread_local! {
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Keeps the panics of this thread, which are meant, out of the output while it works.
fn quietly<T>(work: impl FnOnce() -> T) -> T {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |panic| {
            if !QUIET.get() {
                loud(panic);
            }
        }));
    });
    QUIET.set(true);
    let result = catch_unwind(AssertUnwindSafe(work));
    QUIET.set(false);
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Keeps frames, and counts them.
struct Sink {
    frames: Vec<Vec<u8>>,
}

impl FrameSink for Sink {
    fn write_frame(&mut self, rgb: &[u8]) -> Result<(), VideoError> {
        self.frames.push(rgb.to_vec());
        Ok(())
    }
}

/// Decodes a video where each convolution of frames wider than `widest` panics with `message`, after as
/// many have passed.
fn decode(
    widest: usize,
    passed: usize,
    message: &'static str,
) -> (Result<(), Error>, Sink, Vec<Event>) {
    let pipeline = counting::pipeline();
    let plan = plan(&pipeline);
    let latents = latents(&pipeline, &plan);
    let first = calls().conv3d;
    before_conv3d(move |calls, width| {
        let wide = width > widest && calls.conv3d - first > passed;
        assert!(!wide, "{message}");
    });
    let (mut sink, mut events) = (Sink { frames: Vec::new() }, Vec::new());
    let mut observer = Observer::new(|event| events.push(event));
    let result = quietly(|| pipeline.decode(&latents, &mut sink, &mut observer));
    drop(observer);
    before_conv3d(|_, _| {});
    (result, sink, events)
}

type Counting = counting::Counting<wan_pipeline::backend::Flex>;

fn plan(pipeline: &wan_pipeline::Pipeline<Counting>) -> Plan {
    pipeline.plan(&small("").size(WIDTH, 32).frames(FRAMES)).unwrap()
}

fn latents(pipeline: &wan_pipeline::Pipeline<Counting>, plan: &Plan) -> Latents<Counting> {
    let request = small("a red circle").size(WIDTH, 32).frames(FRAMES).steps(1).guidance(1.0);
    assert_eq!(pipeline.plan(&request).unwrap().latent_shape(), plan.latent_shape());
    pipeline.denoise_batch(&[request], &mut silent()).unwrap().remove(0)
}

fn tiles(events: &[Event]) -> usize {
    events.iter().filter(|event| matches!(event, Event::DecodingInTiles { .. })).count()
}

#[test]
fn decoding_begins_again_in_tiles() {
    let ((result, whole, events), all) = calls_of(|| decode(usize::MAX, 0, ""));
    let all = all.conv3d;
    result.unwrap();
    assert_eq!((whole.frames.len(), tiles(&events)), (FRAMES, 0));
    for passed in [0, all / 2, all - 1] {
        let (result, sink, events) = decode(256, passed, "hip error: Out Of Memory (12 GiB)");
        result.unwrap();
        assert_eq!((sink.frames.len(), tiles(&events)), (FRAMES, 1), "{passed}");
        let place = events.iter().position(|event| matches!(event, Event::DecodingInTiles { .. }));
        let before = place.unwrap();
        let written: Vec<usize> = events
            .iter()
            .filter_map(|event| match event {
                Event::Frame { done, frames: FRAMES, video: 0 } => Some(*done),
                _ => None,
            })
            .collect();
        assert_eq!(written, (1..=FRAMES).collect::<Vec<_>>(), "{passed}: each frame once");
        let frames_before =
            events[..before].iter().filter(|event| matches!(event, Event::Frame { .. })).count();
        println!("{frames_before} frames were written before, after {passed} convolutions");
        assert_eq!(frames_before > 0, passed > 0);
        assert!(sink.frames[..frames_before] == whole.frames[..frames_before]);
        // Seams differ a little.
        let far = sink
            .frames
            .concat()
            .iter()
            .zip(&whole.frames.concat())
            .filter(|(a, b)| a.abs_diff(**b) > 48)
            .count();
        assert!(far * 20 < whole.frames.concat().len(), "{passed}: {far} values are far off");
        let reason = events.iter().find_map(|event| match event {
            Event::DecodingInTiles { reason } => Some(reason),
            _ => None,
        });
        assert!(reason.unwrap().contains("12 GiB"));
    }
}

#[test]
fn where_tiles_are_too_large_too_it_is_an_error() {
    let (result, sink, events) = decode(0, 0, "CUDA_ERROR_OUT_OF_MEMORY");
    let error = result.unwrap_err();
    assert!(matches!(&error, Error::OutOfMemory { stage, .. } if stage == "decoding"), "{error:?}");
    assert!(error.to_string().contains("CUDA_ERROR_OUT_OF_MEMORY"), "{error}");
    assert_eq!((sink.frames.len(), tiles(&events)), (0, 1));
}

#[test]
fn another_panic_goes_on() {
    let panic = catch_unwind(AssertUnwindSafe(|| decode(0, 0, "index 7 is out of range")));
    let panic = panic.err().expect("it was swallowed");
    assert!(panic.downcast_ref::<String>().unwrap().contains("index 7"));
}
