//! The memory that each further video of a batch takes: what its plan says, so that a batch can be made
//! as large as the device has room for.

#![cfg(target_os = "linux")]

use std::process::Command;

use wan_pipeline::backend::Flex;
use wan_pipeline::{Observer, Pipeline, Request};

/// Peaks jitter by what the allocator keeps.
const MARGIN: usize = 4 << 20;

/// Asks a process of this test for the peak of one batch: guidance, prompts and videos.
const BATCH: &str = "WAN_TEST_BATCH";

fn request(guidance: f64) -> Request {
    let request = Request::new("a red circle moving right on a black background");
    request.size(96, 96).frames(97).steps(5).guidance(guidance)
}

fn pipeline() -> Pipeline<Flex> {
    Pipeline::from_pretrained("tiny-wan").unwrap()
}

/// The peak of a batch in a process of its own, so that no memory of other batches is used again.
fn peak(guidance: f64, prompts: usize, videos: usize) -> usize {
    let mut test = Command::new(std::env::current_exe().unwrap());
    let batch = format!("{guidance} {prompts} {videos}");
    // One thread: with more, some passes of small videos are made at the same time.
    test.args(["measure", "--nocapture"]).env(BATCH, batch).env("RAYON_NUM_THREADS", "1");
    let output = test.output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let peak = said.split("peak=").nth(1).unwrap_or_else(|| panic!("no peak in {said}"));
    peak.split_whitespace().next().unwrap().parse().unwrap()
}

/// Only for [`peak`].
#[test]
fn measure() {
    let Ok(batch) = std::env::var(BATCH) else { return };
    let values: Vec<f64> = batch.split(' ').map(|value| value.parse().unwrap()).collect();
    let (prompts, videos) = (values[1] as usize, values[2] as usize);
    let mut requests = request(values[0]).with_seeds(0..videos as u64);
    for (i, request) in requests.iter_mut().enumerate() {
        request.prompt.push_str(&" and a blue square".repeat(i % prompts));
    }
    let pipeline = pipeline();
    let mut run = pipeline.start(&requests, &mut Observer::silent()).unwrap();
    std::fs::write("/proc/self/clear_refs", "5").unwrap(); // the peak begins anew
    run.run(&mut Observer::silent()).unwrap();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: usize = line.split_whitespace().next().unwrap().parse().unwrap();
    println!("peak={} bytes", peak * 1024);
}

#[test]
fn a_further_video_takes_what_its_plan_says() {
    for (guidance, prompts) in [(3.0, 1), (1.0, 1), (3.0, 8)] {
        let plan = pipeline().plan(&request(guidance)).unwrap();
        let [one, eight] = [1, 8].map(|videos| peak(guidance, prompts, videos));
        let (added, told) = (eight.saturating_sub(one), 7 * plan.bytes_in_batch() as usize);
        println!("guidance {guidance}, {prompts} prompts: {added} bytes more, {told} told");
        assert!(added <= told + MARGIN, "{added} bytes more, but {told} are told");
        assert!(2 * added >= told, "{added} bytes more, but {told} are told");
    }
}
