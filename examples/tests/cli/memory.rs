//! Little memory: a run keeps to its limit, says so where it cannot, and ends in a sentence where memory runs
//! out all the same. Limits are those of a shell, which every Unix has.

#![cfg(target_os = "linux")]

use crate::*;

const PROMPT: &str = "a red circle moving right on a black background";

/// What the program exits with where memory runs out.
const OUT_OF_MEMORY: i32 = 12;

/// Runs the program with at most so many KiB of data.
fn limited(folder: &Folder, kib: u32, arguments: &[&str]) -> Command {
    let program = folder.command(arguments);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -d {kib}; exec \"$@\""), "sh"]);
    shell.arg(program.get_program()).args(program.get_args()).current_dir(folder.0.path());
    // One thread, so that the machine makes no difference.
    shell.env("RAYON_NUM_THREADS", "1");
    shell
}

/// KiB with which the program starts, but in which no weights have room.
const TINY: u32 = 16_000;

/// KiB that are enough for denoising this job, and not for decoding.
const TIGHT: u32 = 50_000;

/// KiB in which frames can be decoded in tiles, and not as a whole.
const IN_TILES: u32 = 80_000;

/// A job that needs more in decoding than before, as large on every processor.
const LARGE: [&str; 12] = [
    PROMPT,
    "--frames",
    "5",
    "--width",
    "256",
    "--height",
    "256",
    "--steps",
    "2",
    "--out",
    "v.rgb",
    "--precision=f32",
];

/// More than any machine has: what fits is not asked then.
const NO_LIMIT: [&str; 2] = ["--memory", "900TB"];

#[test]
fn what_does_not_fit_is_refused_with_what_would_help() {
    let folder = Folder::new();
    let output = limited(&folder, TIGHT, &LARGE).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let error = said.lines().find(|line| line.starts_with("error: ")).expect(&said);
    assert!(error.contains("decoding needs about "), "{error}");
    assert!(error.contains("free within the limit on the data of a process"), "{error}");
    assert!(error.contains("fewer frames would do"), "{error}");
    assert_eq!(folder.names(), [""; 0]);
}

#[test]
fn within_a_tight_limit_frames_are_cut() {
    let folder = Folder::new();
    let output = limited(&folder, IN_TILES, &LARGE).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let found = fs::read(folder.path("v.rgb")).unwrap();
    folder.run(&LARGE);
    let whole = fs::read(folder.path("v.rgb")).unwrap();
    assert_eq!(found.len(), whole.len());
    let differences = found.iter().zip(&whole).map(|(a, b)| u64::from(a.abs_diff(*b)));
    let sum: u64 = differences.sum();
    assert!(sum > 0 && sum < found.len() as u64, "{sum} in {} values", found.len());
}

#[test]
fn a_plan_is_printed_and_nothing_else_is_done() {
    let folder = Folder::new();
    let output =
        folder.command(&[&LARGE[..], &["--plan", "--memory", "4GB"]].concat()).output().unwrap();
    let plan = text(&output.stdout);
    assert!(output.status.success(), "{plan}");
    for words in [
        "encoding the prompts",
        "denoising",
        "decoding",
        "transformer: resident",
        "vae: whole frames",
        "attention: ",
        "the limit is 4.0 GB within the limit that was set",
        "time, about: ",
    ] {
        assert!(plan.contains(words), "{words}: {plan}");
    }
    assert_eq!(folder.names(), [""; 0]);
}

#[test]
fn sizes_that_are_none_are_told() {
    let folder = Folder::new();
    for size in ["eight", "8XB", "", "-1", "1.2.3GB"] {
        let memory = format!("--memory={size}");
        let output = folder.command(&[PROMPT, &memory]).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{size}: {said}");
        assert!(said.contains("is no size such as 8GB"), "{size}: {said}");
    }
    for size in ["0", "1MB", "1 MiB"] {
        let output = folder.command(&[PROMPT, "--memory", size]).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{size}: {said}");
        assert!(said.contains("; the smallest limit that would do is "), "{size}: {said}");
    }
}

#[test]
fn where_memory_runs_out_it_is_said() {
    let folder = Folder::new();
    let output = limited(&folder, TIGHT, &[&LARGE[..], &NO_LIMIT].concat()).output().unwrap();
    let said = text(&output.stderr);
    assert!(said.contains("warning: the memory limit of "), "{said}");
    assert_eq!(output.status.code(), Some(OUT_OF_MEMORY), "{said}");
    let end = said.lines().find(|line| line.starts_with("error: ")).expect(&said);
    assert!(end.contains("memory has run out: ") && end.contains("fewer frames"), "{end}");
    assert!(!said.contains("memory allocation of"), "{said}");
    assert_eq!(folder.names(), [""; 0], "nothing is left");
}

#[test]
fn the_steps_that_were_saved_are_named_and_go_on() {
    let folder = Folder::new();
    let saving = [&LARGE[..], &NO_LIMIT, &["--save-state", "s.safetensors"]].concat();
    let output = limited(&folder, TIGHT, &saving).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(OUT_OF_MEMORY), "{said}");
    assert!(said.contains("--resume s.safetensors goes on"), "{said}");
    assert_eq!(folder.names(), ["s.safetensors"]);
    folder.run(&["--resume", "s.safetensors", "--out", "resumed.rgb", "--precision", "f32"]);
    folder.run(&LARGE);
    let [whole, resumed] =
        ["v.rgb", "resumed.rgb"].map(|name| fs::read(folder.path(name)).unwrap());
    assert!(whole == resumed, "the resumed video differs");
}

#[test]
fn an_older_file_is_not_taken_for_what_was_saved() {
    let folder = Folder::new();
    fs::write(folder.path("s.safetensors"), "of another day").unwrap();
    let yesterday = std::time::SystemTime::now() - std::time::Duration::from_secs(86_400);
    let file = fs::File::options().write(true).open(folder.path("s.safetensors")).unwrap();
    file.set_modified(yesterday).unwrap();
    let saving = [&LARGE[..], &NO_LIMIT, &["--save-state", "s.safetensors"]].concat();
    let output = limited(&folder, TINY, &saving).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(OUT_OF_MEMORY), "{said}");
    assert!(!said.contains("--resume"), "{said}");
}

#[test]
fn what_cannot_fit_is_refused() {
    let folder = Folder::new();
    let output = limited(&folder, TINY, &LARGE).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("within the limit on the data of a process"), "{said}");
    assert!(said.contains("; the smallest limit that would do is "), "{said}");
    assert_eq!(folder.names(), [""; 0]);
}

/// Weights that are read in each step, or kept as they are stored, give the same frames.
#[test]
fn weights_may_be_anywhere() {
    let folder = Folder::new();
    let job = [PROMPT, "--frames", "5", "--steps", "2"];
    folder.run(&[&job[..], &["--out", "memory.rgb"]].concat());
    let expected = fs::read(folder.path("memory.rgb")).unwrap();
    for place in ["memory", "stored", "disk"] {
        folder.run(&[&job[..], &["--weights", place, "--out", "v.rgb"]].concat());
        assert!(fs::read(folder.path("v.rgb")).unwrap() == expected, "{place}");
    }
}

/// A time that one kernel was measured to take is not told of another.
#[test]
fn times_are_measured_for_each_kernel() {
    let (folder, cache) = (Folder::new(), Folder::new());
    for kernel in [&[][..], &["--cpu-kernel", "portable"]] {
        let mut command = folder.command(&[&[PROMPT, "--plan"], kernel].concat());
        let output = command.env("XDG_CACHE_HOME", cache.0.path()).output().unwrap();
        let said = text(&output.stdout);
        assert!(output.status.success() && said.contains("time, about: "), "{said}");
    }
    let measured = fs::read_to_string(cache.path("wan-pipeline/calibration.json")).unwrap();
    let of_portable = measured.lines().filter(|line| line.contains(" portable "));
    assert_eq!(of_portable.count(), 1, "{measured}");
}
