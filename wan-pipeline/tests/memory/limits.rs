//! A run keeps to its plan: it ends well in a process that may have a twentieth more, and no more.

#![cfg(target_os = "linux")]

use std::process::{Command, Output};

use wan_pipeline::backend::Flex;
use wan_pipeline::{FrameSink, Observer, Pipeline, Precision, Request, VideoError};

use crate::ghosts;

/// What a process of this test makes: the folder of a model, its precision, width, height, frames and the limit in
/// bytes, or 0 for none.
const JOB: &str = "WAN_TEST_LIMIT";

struct Discard;

impl FrameSink for Discard {
    fn write_frame(&mut self, _: &[u8]) -> Result<(), VideoError> {
        Ok(())
    }
}

/// Plans a job and prints what it takes, or does it where the data of the process is limited. Only for the
/// test below.
#[test]
fn run() {
    let Ok(job) = std::env::var(JOB) else { return };
    let [model, precision, width, height, frames, limit] =
        job.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let number = |text: &str| text.parse::<usize>().unwrap();
    // Not what suits the processor: the same on all.
    let precision = if precision == "bf16" { Precision::Bf16 } else { Precision::F32 };
    let mut builder = Pipeline::<Flex>::builder(model).precision(precision);
    if number(limit) > 0 {
        builder = builder.memory_limit(number(limit) as u64);
    }
    let pipeline = builder.open().unwrap();
    let request = Request::new("a red circle moving right on a black background");
    let request = request.size(number(width), number(height)).frames(number(frames)).steps(1);
    let plan = pipeline.plan(&request).unwrap();
    let memory = pipeline.memory(&[plan]);
    if std::env::var_os("WAN_TEST_ONLY_PLAN").is_some() {
        println!("\n{memory}");
        println!("bytes={}", memory.bytes());
        return;
    }
    let observer = &mut Observer::silent();
    let latents = pipeline.denoise_batch(&[request], observer).unwrap();
    pipeline.decode(&latents[0], &mut Discard, observer).unwrap();
    println!("done");
}

fn child(job: &str, data: Option<u64>) -> Command {
    let mut shell = Command::new("sh");
    let limit = data.map_or("unlimited".into(), |bytes| (bytes >> 10).to_string());
    shell.args(["-c", &format!("ulimit -d {limit}; exec \"$@\""), "sh"]);
    shell.arg(std::env::current_exe().unwrap()).args(["limits::run", "--exact", "--nocapture"]);
    shell.env(JOB, job).env("RAYON_NUM_THREADS", "2");
    shell
}

fn said(output: &Output) -> String {
    [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes)).concat()
}

fn keeps_to_its_plan(job: &str) {
    let planned = child(job, None).env("WAN_TEST_ONLY_PLAN", "1").output().unwrap();
    let planned = said(&planned);
    let bytes = planned.lines().find_map(|line| line.strip_prefix("bytes=")).expect(&planned);
    let bytes: u64 = bytes.parse().unwrap();
    let output = child(job, Some(bytes / 20 * 21)).output().unwrap();
    let (ok, said) = (output.status.success(), said(&output));
    assert!(
        ok && said.contains("done"),
        "{job}: in {bytes} bytes and a twentieth: {planned}{said}"
    );
}

#[test]
fn the_miniature_model() {
    for job in ["f32 64 64 33 0", "f32 256 256 9 0", "bf16 256 256 9 0"] {
        keeps_to_its_plan(&format!("tiny-wan {job}"));
    }
}

/// The widths of the 1.3B model, in four layers.
#[test]
fn the_widths_of_the_model_of_1_3b() {
    let Some(folder) = ghosts::make(&["--layers", "4", "wan2.1-t2v-1.3b"]) else { return };
    for precision in ["f32", "bf16"] {
        let model = folder.path().join("model");
        keeps_to_its_plan(&format!("{} {precision} 256 256 5 0", model.display()));
    }
}

/// The published model, whose weights are zero here: all in memory, and in streams.
#[test]
fn the_model_of_1_3b() {
    let Some(folder) = ghosts::make(&["wan2.1-t2v-1.3b"]) else { return };
    let model = folder.path().join("model");
    for job in ["f32 256 256 5 0", "f32 256 256 5 4000000000", "bf16 256 256 5 2500000000"] {
        keeps_to_its_plan(&format!("{} {job}", model.display()));
    }
}
