//! What a stream takes does not depend on its length, and is what is planned.

#![cfg(target_os = "linux")]

use std::process::Command;

use wan_pipeline::backend::Flex;
use wan_pipeline::{Error, Observer, Pipeline, Request, StreamOptions};

/// Asks a process of this test for the peak of a stream of so many blocks.
const BLOCKS: &str = "WAN_TEST_BLOCKS";

/// Peaks jitter by what the allocator keeps.
const MARGIN: usize = 4 << 20;

fn request() -> Request {
    Request::new("a red circle moving right on a black background").size(96, 96)
}

/// The window is full with the third block.
fn options() -> StreamOptions {
    StreamOptions::new().window(9).sink(1).noise_levels([1000.0]).endless()
}

/// Only for the test below.
#[test]
fn measure() {
    let Ok(blocks) = std::env::var(BLOCKS) else { return };
    let pipeline = Pipeline::<Flex>::from_pretrained("tiny-wan").unwrap();
    let observer = &mut Observer::silent();
    let mut stream = pipeline.stream(&request(), &options(), observer).unwrap();
    for _ in 0..blocks.parse().unwrap() {
        assert!(stream.next(observer).unwrap().is_some());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: usize = line.split_whitespace().next().unwrap().parse().unwrap();
    println!("peak={} bytes", peak * 1024);
}

fn peak(blocks: usize) -> usize {
    let mut test = Command::new(std::env::current_exe().unwrap());
    test.args(["memory::measure", "--exact", "--nocapture"]).env(BLOCKS, blocks.to_string());
    let output = test.env("RAYON_NUM_THREADS", "1").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let peak = said.split("peak=").nth(1).unwrap_or_else(|| panic!("no peak in {said}"));
    peak.split_whitespace().next().unwrap().parse().unwrap()
}

#[test]
fn a_long_stream_takes_no_more_than_a_short_one() {
    let [short, long] = [4, 40].map(peak);
    println!("{short} and {long} bytes");
    assert!(long < short + MARGIN, "{long} bytes, but {short} of 4 blocks");
}

#[test]
fn a_window_for_which_there_is_no_memory_is_refused() {
    let stream = |limit: u64, options: StreamOptions| {
        let builder = Pipeline::<Flex>::builder("tiny-wan").memory_limit(limit);
        let pipeline = builder.open().unwrap();
        let observer = &mut Observer::new(|event| panic!("{event:?} before the error"));
        match pipeline.stream(&request().size(256, 256), &options, observer).map(drop) {
            Err(Error::Memory(shortage)) => shortage,
            other => panic!("{other:?}"),
        }
    };
    let need = |window| {
        let shortage = stream(1 << 20, StreamOptions::new().window(window));
        println!("{shortage}");
        assert!(!shortage.to_string().contains("fewer frames"), "{shortage}");
        shortage.need().bytes()
    };
    let [short, long] = [6, 21].map(need);
    // Keys and values of 15 frames of 256 tokens in 4 blocks, 192 wide, in f32 or bf16.
    let more = 15 * 256 * 4 * 2 * 192 * 2;
    assert!(long >= short + more, "{short} and {long}");
}
