//! Peaks of processes, as the kernel counts them.

#![cfg(target_os = "linux")]

use std::fs;
use std::process::Command;

use wan_pipeline::backend::Flex;
use wan_pipeline::{
    FrameSink, Guidance, Observer, Pipeline, Precision, Request, Stage, Tiling, VideoError,
};

use crate::wan22;

/// What a process of this test makes: see [`Job`].
const JOB: &str = "WAN_TEST_MEMORY";

/// Stands for the miniature model with a VAE of Wan 2.2.
const WITH_VAE22: &str = "tiny-wan+vae22";

/// Model, size, frames, videos, guidance, and the side of tiles or 0.
const JOBS: [&str; 8] = [
    "tiny-wan 256 256 9 1 3 0",
    "tiny-wan 384 256 5 1 3 0",
    "tiny-wan 64 64 33 4 3 0",
    "tiny-wan 256 256 5 1 1 128",
    "tiny-wan 512 512 1 1 1 0",
    "tiny-wan+vae22 480 480 9 1 3 0",
    "tiny-wan+vae22 512 256 5 1 1 128",
    "tiny-wan+vae22 768 768 1 1 1 0",
];

/// What an allocator takes more or less: it counts beside a miniature model.
const NOISE: i64 = 40 << 20;

struct Discard;

impl FrameSink for Discard {
    fn write_frame(&mut self, _: &[u8]) -> Result<(), VideoError> {
        Ok(())
    }
}

fn status(field: &str) -> i64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
    line.split_whitespace().next().unwrap().parse::<i64>().unwrap() << 10
}

/// Does a job and prints, for each stage, what was told and what was taken. Only for the tests below.
#[test]
fn measure() {
    let Ok(job) = std::env::var(JOB) else { return };
    let (model, numbers) = job.split_once(' ').unwrap();
    let numbers: Vec<usize> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
    let &[width, height, frames, videos, guidance, tile] = &numbers[..] else { panic!("{job}") };
    // Not what suits the processor: the same on all.
    let folder = tempfile::tempdir().unwrap();
    let builder = match model {
        WITH_VAE22 => Pipeline::<Flex>::builder("tiny-wan").vae(wan22::write(folder.path())),
        model => Pipeline::builder(model),
    };
    let mut builder = builder.precision(Precision::F32);
    if tile > 0 {
        builder = builder.vae_tiling(Tiling::square(tile));
    }
    let pipeline = builder.open().unwrap();
    let request = Request::new("a red circle moving right on a black background");
    let request = request.size(width, height).frames(frames).steps(1);
    let request = request.guidance(Guidance::cfg(guidance as f64));
    let requests = request.with_seeds(0..videos as u64);
    let observer = &mut Observer::silent();
    let plan = pipeline.memory(&pipeline.plan_batch(&requests).unwrap());
    let told = |stage| plan.stages().into_iter().find(|found| found.stage == stage).unwrap();
    let before = status("VmRSS:");
    let report = |stage| {
        let (told, taken) = (told(stage).bytes(), status("VmHWM:") - before);
        println!("{stage:?}={told}/{taken}");
        fs::write("/proc/self/clear_refs", "5").unwrap(); // the peak begins anew
    };
    pipeline.embed(&requests[0], observer).unwrap();
    report(Stage::EncodingPrompts);
    let mut run = pipeline.start(&requests, observer).unwrap();
    run.run(observer).unwrap();
    report(Stage::Denoising);
    for video in 0..run.videos() {
        pipeline.decode(&run.latents(video).unwrap(), &mut Discard, observer).unwrap();
    }
    report(Stage::Decoding);
}

/// What is told and taken by each stage of a job, in a process of its own.
fn stages(job: &str) -> Vec<(String, [i64; 2])> {
    let mut test = Command::new(std::env::current_exe().unwrap());
    let output = test
        .args(["measured::measure", "--exact", "--nocapture"])
        .env(JOB, job)
        .env("RAYON_NUM_THREADS", "2")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let stage = |line: &str| {
        let (stage, numbers) = line.split_once('=')?;
        let (told, taken) = numbers.split_once('/')?;
        Some((stage.to_owned(), [told.parse().ok()?, taken.parse().ok()?]))
    };
    said.lines().filter_map(stage).collect()
}

/// With other models than the miniature one: `WAN_TEST_MEMORY_JOBS='FOLDER 256 256 9 1 3 0;..'`.
#[test]
fn a_plan_is_near_the_peak() {
    let given = std::env::var("WAN_TEST_MEMORY_JOBS").unwrap_or_default();
    for job in JOBS.into_iter().chain(given.split_terminator(';')) {
        let stages = stages(job);
        assert_eq!(stages.len(), 3, "{job}");
        for (stage, [told, taken]) in &stages {
            println!("{job:28} {stage:16} {:5} MB told, {:5} taken", told >> 20, taken >> 20);
        }
        let most = |i: usize| stages.iter().map(|(_, both)| both[i]).max().unwrap();
        let (told, taken) = (most(0), most(1));
        assert!(told >= taken / 20 * 19 - NOISE, "{job}: {told} told, but {taken} taken");
        assert!(told <= taken / 10 * 11 + NOISE, "{job}: {told} told, but only {taken} taken");
    }
}
