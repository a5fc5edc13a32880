//! Too little memory: a word before the run, and a sentence where it runs out all the same. Limits are
//! those of a shell, which every Unix has.

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
const TIGHT: u32 = 130_000;

/// A job that needs some 200 MB in decoding, and little before.
const LARGE: [&str; 11] = [
    PROMPT, "--frames", "5", "--width", "256", "--height", "256", "--steps", "2", "--out", "v.rgb",
];

#[test]
fn what_may_not_fit_is_warned_of() {
    let folder = Folder::new();
    let output = limited(&folder, TIGHT, &LARGE).output().unwrap();
    let said = text(&output.stderr);
    let warning = said.lines().find(|line| line.starts_with("warning: ")).expect(&said);
    assert!(warning.contains("decoding needs about "), "{warning}");
    assert!(warning.contains("free within the limit on the data of a process"), "{warning}");
    for remedy in ["fewer frames", "a smaller size"] {
        assert!(warning.contains(remedy), "{remedy}: {warning}");
    }
    assert!(!warning.contains("16 bits"), "it would not help: {warning}");
}

#[test]
fn what_fits_is_not_warned_of() {
    let folder = Folder::new();
    let output = limited(&folder, 600_000, &LARGE).output().unwrap();
    assert!(output.status.success());
    assert!(!text(&output.stderr).contains("warning: "), "{}", text(&output.stderr));
}

#[test]
fn where_memory_runs_out_it_is_said() {
    let folder = Folder::new();
    let output = limited(&folder, TIGHT, &LARGE).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(OUT_OF_MEMORY), "{said}");
    let end = said.lines().find(|line| line.starts_with("error: ")).expect(&said);
    assert!(end.contains("memory has run out: ") && end.contains("fewer frames"), "{end}");
    assert!(!said.contains("memory allocation of"), "{said}");
    assert_eq!(folder.names(), [""; 0], "nothing is left");
}

#[test]
fn the_steps_that_were_saved_are_named_and_go_on() {
    let folder = Folder::new();
    let saving = [&LARGE[..], &["--save-state", "s.safetensors"]].concat();
    let output = limited(&folder, TIGHT, &saving).output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(OUT_OF_MEMORY), "{said}");
    assert!(said.contains("--resume s.safetensors goes on"), "{said}");
    assert_eq!(folder.names(), ["s.safetensors"]);
    folder.run(&["--resume", "s.safetensors", "--out", "resumed.rgb"]);
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
    let saving = [&LARGE[..], &["--save-state", "s.safetensors"]].concat();
    let output = limited(&folder, TINY, &saving).env("WAN_MEMORY_CHECK", "off").output().unwrap();
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
    assert!(said.contains("there can be at most") && said.contains("WAN_MEMORY_CHECK"), "{said}");
    assert_eq!(folder.names(), [""; 0]);
}
