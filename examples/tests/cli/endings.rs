//! How a run ends: by a signal, a limit, a reader that goes away; and outputs that are no files.

use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Stdio};

use crate::*;

const PROMPT: &str = "a red circle moving right on a black background";

/// Some minutes of work.
const LONG: [&str; 8] = ["--frames", "17", "--width", "64", "--height", "64", "--steps", "1000"];

/// Starts a command and waits until this file is there.
fn start(mut command: Command, folder: &Folder, file: &str) -> Child {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !folder.path(file).exists() {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        std::thread::yield_now();
    }
    child
}

/// A long run that has opened its outputs.
fn start_long(folder: &Folder, out: &str) -> Child {
    let _ = fs::remove_file(folder.path("e")); // of a run before
    let files = ["--out", out, "--save-embeddings", "e"];
    start(folder.command(&[&[PROMPT], &LONG[..], &files].concat()), folder, "e")
}

fn send(child: &Child, signal: &str) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
}

/// `sh -c SCRIPT`, which finds the program and its arguments in `"$@"`.
fn shell(folder: &Folder, script: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.current_dir(folder.path("")).args(["-c", script, "sh"]).arg(program());
    command.args(arguments).args(["--backend", "flex"]);
    command
}

fn make_pipe(folder: &Folder, name: &str) {
    assert!(Command::new("mkfifo").arg(folder.path(name)).status().unwrap().success());
}

#[test]
fn a_signal_stops_tidies_up_and_says_so() {
    for (signal, code, out) in
        [("-INT", 130, "frames/"), ("-TERM", 143, "v.mp4"), ("-HUP", 129, "v.rgb")]
    {
        let folder = Folder::new();
        let child = start_long(&folder, out);
        send(&child, signal);
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{signal}: {said}");
        assert!(said.lines().any(|line| line.starts_with("stopping")), "{said}");
        let last = said.lines().last().unwrap();
        assert!(last.starts_with("stopped") && last.ends_with("no video was written"), "{said}");
        assert_eq!(folder.names(), ["e"], "{signal}");
    }
}

/// `nohup` turns SIGHUP off, and so it stays.
#[test]
fn a_signal_that_is_turned_off_stays_so() {
    let folder = Folder::new();
    let files = ["--out", "v.rgb", "--save-embeddings", "e"];
    let arguments = [&[PROMPT], &LONG[..], &files].concat();
    let script = "trap '' HUP; exec \"$@\"";
    let child = start(shell(&folder, script, &arguments), &folder, "e");
    send(&child, "-HUP");
    send(&child, "-TERM");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
}

/// While it denoises, a run has nothing on disk.
#[cfg(target_os = "linux")]
#[test]
fn a_killed_run_leaves_nothing() {
    for out in ["frames/", "v.gif"] {
        let folder = Folder::new();
        let mut child = start_long(&folder, out);
        send(&child, "-KILL");
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        assert_eq!(folder.names(), ["e"], "{out}");
    }
}

/// While frames are written, a folder has a temporary name.
#[test]
fn what_a_run_leaves_that_is_killed_while_it_decodes() {
    let folder = Folder::new();
    let size = ["--frames", "97", "--width", "64", "--height", "64", "--steps", "1"];
    let latents = ["--out", "v.rgb", "--save-latents", "l"];
    let output = folder.run(&[&[PROMPT], &size[..], &latents].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let hidden = |name: &String| name.starts_with(".frames.");
    let begun = || {
        let folders = folder.names().into_iter().filter(hidden);
        folders.filter(|name| folder.path(name).join("frame_00000.png").exists()).count()
    };
    let decode = || {
        let before = begun();
        let mut command = folder.command(&["--latents", "l", "--out", "frames/"]);
        let mut child = command.spawn().unwrap();
        while begun() == before {
            assert!(child.try_wait().unwrap().is_none(), "it has ended");
        }
        send(&child, "-STOP");
        child
    };
    let (mut killed, mut stopped) = (decode(), decode());
    send(&killed, "-KILL");
    killed.wait().unwrap();
    assert_eq!(begun(), 2);
    folder.make(&[PROMPT, "--out", "frames.gif"]);
    assert_eq!(begun(), 2, "they are of another output");
    folder.make(&[PROMPT, "--out", "frames/"]);
    assert_eq!(begun(), 1, "the other is in use");
    // It is told at its end that the folder is not empty any more.
    send(&stopped, "-CONT");
    assert_eq!(stopped.wait().unwrap().code(), Some(1));
    assert_eq!(folder.names(), ["frames", "frames.gif", "l", "v.rgb"]);
}

#[test]
fn a_killed_run_goes_on_from_its_last_state() {
    let folder = Folder::new();
    let options = ["--out", "v.rgb", "--save-state", "run"];
    let mut child =
        start(folder.command(&[&[PROMPT], &LONG[..], &options].concat()), &folder, "run");
    send(&child, "-KILL");
    child.wait().unwrap();
    assert_eq!(folder.names(), ["run"]);
    let output = folder.run(&["--resume", "run", "--save-state", "again", "--stop-after", "0"]);
    let said = text(&output.stderr);
    assert!(output.status.success() && said.contains("of 1000 steps saved in again"), "{said}");
}

#[test]
fn a_run_that_is_done_leaves_no_state() {
    let folder = Folder::new();
    fs::write(folder.path("state"), "of another run").unwrap();
    symlink("state", folder.path("run")).unwrap();
    folder.make(&[PROMPT, "--out", "v.rgb", "--save-state", "run"]);
    assert_eq!(folder.names(), ["run", "v.rgb"]);
    assert!(folder.path("run").is_symlink() && !folder.path("run").exists());
}

#[test]
fn a_limit_on_file_sizes_is_an_error() {
    for out in ["v.rgb", "frames/", "v.mp4"] {
        let folder = Folder::new();
        let arguments = [&[PROMPT, "--out", out], &SMALL[..]].concat();
        let output = shell(&folder, "ulimit -f 0; exec \"$@\"", &arguments).output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let error = said.lines().last().unwrap();
        assert!(error.starts_with("error: ") && error.contains(out), "{said}");
        assert_eq!(folder.names(), [""; 0], "{out}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let folder = Folder::new();
    // A prompt that is warned of, and the line at the end.
    let prompt = "a red circle moving right ".repeat(200);
    let arguments = [&[prompt.as_str(), "--out", "v.rgb"], &SMALL[..]].concat();
    let mut command = folder.command(&arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop((child.stdout.take(), child.stderr.take()));
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(folder.names(), ["v.rgb"]);
    // The video itself is another matter.
    let arguments = [&[PROMPT, "--out", "-"], &SMALL[..]].concat();
    let mut command = folder.command(&arguments);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("cannot write `/dev/stdout`: Broken pipe"), "{said}");
}

#[test]
fn standard_output_gets_the_video_and_nothing_else() {
    let folder = Folder::new();
    folder.make(&[PROMPT, "--out", "v.rgb"]);
    let raw = fs::read(folder.path("v.rgb")).unwrap();
    for out in ["-", "/dev/stdout"] {
        let output = folder.run(&[&[PROMPT, "--out", out], &SMALL[..]].concat());
        let said = text(&output.stderr);
        assert!(output.status.success(), "{said}");
        assert!(output.stdout == raw, "{out}: {} bytes", output.stdout.len());
        assert!(said.contains("standard output: 5 frames of 32x32 at 24 fps\n"), "{said}");
    }
    if cfg!(target_os = "linux") {
        // The file that it goes to says the kind, and what it holds already stays.
        let script = "printf before > v.gif; exec \"$@\" >> v.gif";
        let arguments = [&[PROMPT, "--out", "-"], &SMALL[..]].concat();
        assert!(shell(&folder, script, &arguments).status().unwrap().success());
        assert!(fs::read(folder.path("v.gif")).unwrap().starts_with(b"beforeGIF89a"));
        let arguments = [&[PROMPT, "--out", "/dev/stdout"], &SMALL[..]].concat();
        assert!(shell(&folder, "exec \"$@\" > v.mp4", &arguments).status().unwrap().success());
        assert_eq!(read_mp4(&folder.path("v.mp4")).unwrap().frames.len(), 5);
    }
    let names = folder.names();
    for (arguments, part) in [
        (&["--seed", "1,2"][..], "takes one video, not 2"),
        (&["--preview", "1"], "--preview"),
        (&["--save-latents", "/dev/stdout"], "both name"),
    ] {
        let output = folder.run(&[&[PROMPT, "--out", "-"], arguments, &SMALL].concat());
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{said}");
        assert!(said.contains(part), "{said}");
    }
    assert_eq!(folder.names(), names);
}

#[test]
fn a_pipe_is_written_once_it_is_read() {
    let folder = Folder::new();
    make_pipe(&folder, "pipe");
    let command = || {
        let mut command = folder.command(&[&[PROMPT, "--out", "pipe"], &SMALL[..]].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        said.read_line(&mut line).unwrap();
        assert_eq!(line, "waiting for a program that reads pipe\n");
        (child, said)
    };
    let (mut child, mut said) = command();
    send(&child, "-TERM");
    let mut rest = String::new();
    said.read_to_string(&mut rest).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(143), "{rest}");

    let (child, _said) = command();
    assert_eq!(fs::read(folder.path("pipe")).unwrap().len(), 5 * 32 * 32 * 3);
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stdout), "pipe: 5 frames of 32x32 at 24 fps\n");
    assert!(folder.path("pipe").metadata().unwrap().file_type().is_fifo());
    assert_eq!(folder.names(), ["pipe"]);
}

#[test]
fn a_link_stays_and_its_file_is_replaced() {
    let folder = Folder::new();
    fs::create_dir(folder.path("videos")).unwrap();
    fs::write(folder.path("videos/real.gif"), "old").unwrap();
    symlink("videos/real.gif", folder.path("latest.gif")).unwrap();
    let said = folder.make(&[PROMPT, "--out", "latest.gif"]);
    assert!(said.starts_with("latest.gif: 5 frames"), "{said}");
    assert!(folder.path("latest.gif").is_symlink());
    assert!(fs::read(folder.path("videos/real.gif")).unwrap().starts_with(b"GIF89a"));
    let names = folder.names();
    for other in [["--grid", "videos/real.gif"], ["--save-latents", "videos/../latest.gif"]] {
        let arguments = [&[PROMPT, "--out", "latest.gif"], &other[..], &SMALL].concat();
        let output = folder.run(&arguments);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(1) && said.contains("both name"), "{said}");
    }
    assert_eq!(folder.names(), names);
}

/// Whatever is missing on a machine, it is a sentence.
#[test]
fn a_backend_without_its_driver_is_a_sentence() {
    let folder = Folder::new();
    for backend in ["cuda", "wgpu", "ndarray"] {
        let arguments = [&[PROMPT, "--backend", backend], &SMALL[..]].concat();
        let mut command = folder.command(&arguments);
        for name in ["VK_ICD_FILENAMES", "VK_DRIVER_FILES"] {
            command.env(name, "/dev/null");
        }
        let output = command.env("CUDA_VISIBLE_DEVICES", "").output().unwrap();
        let said = text(&output.stderr);
        match output.status.code() {
            Some(0) => assert_eq!(backend, "ndarray", "{said}"),
            code => {
                assert_eq!(code, Some(1), "{said}");
                let reason = format!("error: {backend} is not available: ");
                assert!(said.starts_with(&reason) && said.lines().count() == 1, "{said}");
            }
        }
    }
}

/// Mesa looks for a desktop session, and says so where there is none.
#[cfg(feature = "wgpu")]
#[test]
fn drivers_are_silent() {
    if !crate::has_wgpu() {
        return;
    }
    let folder = Folder::new();
    let arguments = [&[PROMPT, "--backend", "wgpu"], &SMALL[..]].concat();
    let mut command = folder.command(&arguments);
    for name in ["XDG_RUNTIME_DIR", "NODEVICE_SELECT", "MESA_VK_IGNORE_CONFORMANCE_WARNING"] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    let foreign = said.lines().find(|line| !line.contains(" elapsed"));
    assert_eq!(foreign, None, "{said}");
}
