//! What a stream takes does not depend on its length, and is what is planned.

#![cfg(target_os = "linux")]

use std::process::Command;

use wan_pipeline::backend::Flex;
use wan_pipeline::{Error, MemoryShortage, Observer, Pipeline, Precision, Request, StreamOptions};

/// Asks a process of this test for the peak of a stream: its blocks, the side of its frames, and the limit.
const STREAM: &str = "WAN_TEST_STREAM";

/// Peaks jitter by what the allocator keeps.
const MARGIN: usize = 4 << 20;

fn request(side: usize) -> Request {
    Request::new("a red circle moving right on a black background").size(side, side)
}

/// The window is full with the third block.
fn options() -> StreamOptions {
    StreamOptions::new().window(9).sink(1).noise_levels([1000.0]).endless()
}

/// Only for the tests below.
#[test]
fn measure() {
    let Ok(stream) = std::env::var(STREAM) else { return };
    let numbers: Vec<usize> = stream.split(' ').map(|number| number.parse().unwrap()).collect();
    let [blocks, side, limit] = numbers[..] else { panic!("{stream}") };
    let builder = Pipeline::<Flex>::builder("tiny-wan").precision(Precision::F32);
    let pipeline = builder.memory_limit(limit as u64).open().unwrap();
    let observer = &mut Observer::silent();
    let mut stream = pipeline.stream(&request(side), &options(), observer).unwrap();
    for _ in 0..blocks {
        assert!(stream.next(observer).unwrap().is_some());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: usize = line.split_whitespace().next().unwrap().parse().unwrap();
    println!("peak={} bytes", peak * 1024);
}

fn peak(blocks: usize, side: usize, limit: u64) -> usize {
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["memory::measure", "--exact", "--nocapture"]);
    test.env(STREAM, format!("{blocks} {side} {limit}"));
    let output = test.env("RAYON_NUM_THREADS", "1").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let peak = said.split("peak=").nth(1).unwrap_or_else(|| panic!("no peak in {said}"));
    peak.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_long_stream_takes_no_more_than_a_short_one() {
    let [short, long] = [4, 20].map(|blocks| peak(blocks, 96, 1 << 30));
    println!("{short} and {long} bytes");
    assert!(long < short + MARGIN, "{long} bytes, but {short} of 4 blocks");
}

#[test]
fn a_window_for_which_there_is_no_memory_is_refused() {
    let need = |window| {
        let shortage = shortage(256, &StreamOptions::new().window(window));
        println!("{shortage}");
        assert!(!shortage.to_string().contains("fewer frames"), "{shortage}");
        shortage.need().bytes()
    };
    let [short, long] = [6, 21].map(need);
    // Keys and values of 15 frames of 256 tokens in 4 blocks, 192 wide, in f32.
    let more = 15 * 256 * 4 * 2 * 192 * 4;
    assert!(long >= short + more, "{short} and {long}");
}

/// The error of a limit that is too small for anything.
fn shortage(side: usize, options: &StreamOptions) -> Box<MemoryShortage> {
    let builder = Pipeline::<Flex>::builder("tiny-wan").precision(Precision::F32);
    let pipeline = builder.memory_limit(1 << 20).open().unwrap();
    let observer = &mut Observer::new(|event| panic!("{event:?} before the error"));
    match pipeline.stream(&request(side), options, observer).map(drop) {
        Err(Error::Memory(shortage)) => shortage,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_stream_keeps_to_the_smallest_limit_that_is_told() {
    let limit = shortage(192, &options()).smallest_limit();
    let peak = peak(4, 192, limit + MARGIN as u64);
    println!("{peak} bytes of {limit}");
    assert!(peak < limit as usize + MARGIN, "{peak} bytes of {limit}");
    assert!(2 * peak > limit as usize, "{peak} bytes of {limit}");
}
