//! Batches, guidance, saving and resuming, previews and contact sheets, as a user of the program has
//! them.

use wan_io::video::read_video;

use crate::*;

const PROMPT: &str = "a red circle moving right on a black background";

/// The pixels of a raw video.
fn raw(folder: &Folder, name: &str) -> Vec<u8> {
    fs::read(folder.path(name)).unwrap()
}

/// The values of all latents in a file.
fn latents(folder: &Folder, name: &str) -> Vec<u8> {
    let bytes = fs::read(folder.path(name)).unwrap();
    SafeTensors::deserialize(&bytes).unwrap().tensor("latents").unwrap().data().to_vec()
}

#[test]
fn a_batch_has_every_combination() {
    let folder = Folder::new();
    let prompts = [PROMPT, "绿色圆形变小"];
    let lists = ["--seed", "1,2,3", "--guidance", "3,5", "--out", "v.rgb"];
    let said = folder.make(&[&prompts[..], &lists].concat());
    let names: Vec<String> = (1..=12).map(|i| format!("v-{i}.rgb")).collect();
    assert_eq!(said.lines().count(), 12);
    for (line, name) in said.lines().zip(&names) {
        assert!(line.starts_with(&format!("{name}: 5 frames of 32x32")), "{line}");
    }
    let mut names = names.iter();
    for prompt in prompts {
        for seed in ["1", "2", "3"] {
            for guidance in ["3", "5"] {
                let alone = ["--seed", seed, "--guidance", guidance, "--out", "alone.rgb"];
                folder.make(&[&[prompt], &alone[..]].concat());
                let name = names.next().unwrap();
                assert!(raw(&folder, name) == raw(&folder, "alone.rgb"), "{name} differs");
            }
        }
    }
}

#[test]
fn each_file_of_a_batch_says_how_it_was_made() {
    let folder = Folder::new();
    let lists = ["--seed", "1,2", "--guidance", "3,linear:6..1", "--out", "v.mp4"];
    folder.make(&[&[PROMPT], &lists[..]].concat());
    assert_eq!(folder.names(), ["v-1.mp4", "v-2.mp4", "v-3.mp4", "v-4.mp4"]);
    let expected = [(1, Some(3.0), None), (1, None, Some("cfg linear:6..1")), (2, Some(3.0), None)];
    for (name, (seed, scale, guidance)) in folder.names().iter().zip(expected) {
        let stored = read_metadata(&folder.path(name)).unwrap().unwrap();
        assert_eq!((stored.seed, stored.guidance_scale), (Some(seed), scale), "{name}");
        assert_eq!(stored.guidance.as_deref(), guidance, "{name}");
    }
    folder.make(&[PROMPT, "--seed", "1,2", "--out", "frames/"]);
    assert!(folder.path("frames-1").is_dir() && folder.path("frames-2").is_dir());
}

#[test]
fn guidance_has_a_text_form() {
    let folder = Folder::new();
    let of = |options: &[&str]| folder.latents(&[&[PROMPT], options].concat());
    let constant = of(&["--guidance", "4"]);
    assert_eq!(of(&["--guidance", "4x1+4x1"]), constant);
    assert_eq!(of(&["--guidance", "linear:4..4"]), constant);
    assert_eq!(of(&["--guidance", "4", "--guidance-interval", "0..1"]), constant);
    assert_eq!(of(&["--guidance", "1", "--guidance-rule", "apg"]), of(&["--guidance", "1"]));
    let mut different = vec![constant];
    for options in [
        &["--guidance", "4x1+1x1"][..],
        &["--guidance", "cosine:6..2"],
        &["--guidance", "4", "--guidance-rule", "cfg-zero-star"],
        &["--guidance", "4", "--guidance-rule", "apg"],
        &["--guidance", "4", "--guidance-rescale", "0.7"],
        &["--guidance", "4", "--guidance-interval", "0.5..1"],
        &["--guidance-rule", "apg"],
    ] {
        let latents = of(options);
        assert!(!different.contains(&latents), "{options:?} has no effect");
        different.push(latents);
    }
}

#[test]
fn every_scheduler_makes_another_video() {
    let folder = Folder::new();
    let mut different: Vec<Vec<f32>> = Vec::new();
    for scheduler in ["unipc", "euler", "dpm++", "lcm"] {
        let latents = folder.latents(&[PROMPT, "--scheduler", scheduler]);
        assert!(!different.contains(&latents), "{scheduler}");
        let stored = read_metadata(&folder.path("v.rgb")).ok().flatten();
        assert!(stored.is_none_or(|stored| stored.scheduler.as_deref() == Some(scheduler)));
        different.push(latents);
    }
}

/// As models of few steps are run.
#[test]
fn timesteps_of_ones_own() {
    let folder = Folder::new();
    let run = |steps: [&str; 2]| {
        let options = ["--scheduler", "lcm", "--guidance", "1", "--out", "v.gif"];
        let size = ["--frames", "5", "--width", "32", "--height", "32"];
        folder.run(&[&[PROMPT], &options[..], &size, &steps].concat())
    };
    let made = |steps| {
        let output = run(steps);
        assert!(output.status.success(), "{}", text(&output.stderr));
        fs::read(folder.path("v.gif")).unwrap()
    };
    let few = made(["--timesteps", "1000,757,522"]);
    let stored = read_metadata(&folder.path("v.gif")).unwrap().unwrap();
    assert_eq!(stored.num_inference_steps, Some(3));
    assert!(made(["--steps", "3"]) != few, "they have no effect");
    for (timesteps, code) in [("522,757", 1), ("1001,500", 1), ("nan", 1), ("1000,now", 2), ("", 2)]
    {
        let output = run(["--timesteps", timesteps]);
        assert_eq!(output.status.code(), Some(code), "{timesteps}: {}", text(&output.stderr));
    }
}

#[test]
fn a_video_to_start_from() {
    let folder = Folder::new();
    for source in ["source/", "source.mp4", "source.gif"] {
        folder.make(&[PROMPT, "--out", source, "--fps", "10"]);
    }
    let run = |source: &str, strength: &str| {
        let output = folder.run(&[
            "a blue circle moving right on a black background",
            "--video",
            source,
            "--strength",
            strength,
            "--steps",
            "4",
            "--out",
            "v.gif",
        ]);
        assert!(output.status.success(), "{source}: {}", text(&output.stderr));
        // Size, length and rate are those of the source.
        assert_eq!(text(&output.stdout), "v.gif: 5 frames of 32x32 at 10 fps\n");
        raw(&folder, "v.gif")
    };
    let of_folder = run("source/", "0.5");
    assert_ne!(run("source/", "0.75"), of_folder);
    run("source.mp4", "0.5");
    run("source.gif", "0.5");
    let stored = read_metadata(&folder.path("v.gif")).unwrap().unwrap();
    assert_eq!((stored.strength, stored.num_inference_steps), (Some(0.5), Some(4)));
}

#[test]
fn a_run_is_stopped_and_resumed() {
    let folder = Folder::new();
    let options = ["--seed", "1,2", "--scheduler", "dpm++", "--guidance-rule", "apg"];
    let whole = ["--out", "whole.rgb", "--save-latents", "whole", "--steps", "4"];
    let size = ["--frames", "5", "--width", "32", "--height", "32"];
    let output = folder.run(&[&[PROMPT], &options[..], &whole, &size].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let stop = ["--save-state", "run", "--stop-after", "2", "--steps", "4", "--out", "v.rgb"];
    let output = folder.run(&[&[PROMPT], &options[..], &stop, &size].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("2 of 4 steps saved in run"));
    assert_eq!(folder.names(), ["run", "whole", "whole-1.rgb", "whole-2.rgb"]);
    let resume = ["--resume", "run", "--out", "v.rgb", "--save-latents", "resumed"];
    let output = folder.run(&resume);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(latents(&folder, "resumed") == latents(&folder, "whole"), "the latents differ");
    for i in [1, 2] {
        let [resumed, whole] = ["v", "whole"].map(|name| raw(&folder, &format!("{name}-{i}.rgb")));
        assert!(resumed == whole, "the pixels of video {i} differ");
    }
}

/// A run of many steps, and the lines that it says.
#[cfg(unix)]
struct Running {
    child: std::process::Child,
    said: std::io::BufReader<std::process::ChildStderr>,
}

#[cfg(unix)]
impl Running {
    /// Starts it with these arguments and waits for its first preview: it is denoising then.
    fn start(folder: &Folder, arguments: &[&str]) -> Self {
        let long = ["--frames", "17", "--width", "64", "--height", "64", "--steps", "500"];
        let preview = ["--preview", "1", "--out", "v.gif"];
        let mut command = folder.command(&[&[PROMPT], &long[..], &preview, arguments].concat());
        let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
        let said = std::io::BufReader::new(child.stderr.take().unwrap());
        let preview = folder.path("v-preview.gif");
        while !preview.exists() {
            assert!(child.try_wait().unwrap().is_none(), "it has ended");
            std::thread::yield_now();
        }
        fs::remove_file(preview).unwrap();
        Self { child, said }
    }

    fn interrupt(&self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    }

    /// Waits for its end: the exit code, and what it has said since the last time.
    fn wait(mut self) -> (Option<i32>, String) {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut self.said, &mut said).unwrap();
        (self.child.wait().unwrap().code(), said)
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_leaves_its_state() {
    let folder = Folder::new();
    let running = Running::start(&folder, &["--save-state", "run", "--save-latents", "l"]);
    running.interrupt();
    let (code, said) = running.wait();
    assert_eq!(code, Some(130), "{said}");
    // A slow run has said how far it is before.
    let lines: Vec<&str> = said.lines().skip_while(|line| line.contains(" elapsed")).collect();
    assert_eq!(lines[0], "stopping; Ctrl-C again ends at once");
    assert!(lines[1].contains("of 500 steps saved in run: --resume run goes on"), "{said}");
    assert!(lines[2].starts_with("stopped while denoising, after "), "{said}");
    let left: Vec<String> =
        folder.names().into_iter().filter(|name| name != "v-preview.gif").collect();
    assert_eq!(left, ["run"]);
    let resumed = folder.run(&["--resume", "run", "--save-state", "again", "--stop-after", "0"]);
    assert!(resumed.status.success(), "{}", text(&resumed.stderr));
    assert!(folder.path("again").exists());
}

#[cfg(unix)]
#[test]
fn an_interrupted_run_without_a_state_leaves_nothing() {
    let folder = Folder::new();
    let running = Running::start(&folder, &[]);
    running.interrupt();
    let (code, said) = running.wait();
    assert_eq!(code, Some(130), "{said}");
    assert!(said.ends_with(" of 500 steps; no video was written\n"), "{said}");
    assert!(folder.names().iter().all(|name| name == "v-preview.gif"), "{:?}", folder.names());
}

#[cfg(unix)]
#[test]
fn a_second_interrupt_ends_at_once() {
    use std::io::BufRead;

    let folder = Folder::new();
    // One step takes seconds: the first interrupt is heeded by the next block at the earliest.
    let large = ["--width", "256", "--height", "256", "--frames", "97"];
    let out = ["--out", "frames/", "--save-embeddings", "e"];
    let mut command = folder.command(&[&[PROMPT], &large[..], &out].concat());
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufReader::new(child.stderr.take().unwrap());
    while !folder.path("e").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it has ended");
        std::thread::yield_now();
    }
    let interrupt = || {
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    };
    interrupt();
    let mut line = String::new();
    while line != "stopping; Ctrl-C again ends at once\n" {
        line.clear();
        assert!(said.read_line(&mut line).unwrap() > 0, "it does not say that it stops");
    }
    interrupt();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    assert_eq!(folder.names(), ["e"], "not even a hidden folder is left");
}

#[test]
fn latents_are_decoded() {
    let folder = Folder::new();
    let options = ["--seed", "1,2", "--fps", "12", "--save-latents", "l"];
    let size = ["--frames", "5", "--width", "64", "--height", "32", "--steps", "2"];
    let output = folder.run(&[&[PROMPT, "--out", "v.rgb"], &options[..], &size].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    let decode = |options: &[&str]| {
        let output = folder.run(&[&["--latents", "l", "--out", "d.rgb"], options].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let said = decode(&[]);
    assert_eq!(said.lines().last().unwrap(), "d-2.rgb: 5 frames of 64x32 at 12 fps");
    for i in [1, 2] {
        assert!(raw(&folder, &format!("d-{i}.rgb")) == raw(&folder, &format!("v-{i}.rgb")));
    }
    decode(&["--vae-tile", "64"]);
    assert!(raw(&folder, "d-1.rgb") == raw(&folder, "v-1.rgb"), "one tile is the whole frame");
    let said = decode(&["--vae-tile", "32", "--fps", "5"]);
    assert!(said.contains("at 5 fps"), "{said}");
    let [tiled, whole] = ["d-1.rgb", "v-1.rgb"].map(|name| raw(&folder, name));
    assert!(tiled != whole && tiled.len() == whole.len());
    let mean: f64 = tiled.iter().zip(&whole).map(|(a, b)| f64::from(a.abs_diff(*b))).sum::<f64>()
        / whole.len() as f64;
    assert!(mean < 25.0, "{mean}");
    let output = folder.run(&["--latents", "l", "--out", "d.gif"]);
    assert!(output.status.success());
    let stored = read_metadata(&folder.path("d-2.gif")).unwrap().unwrap();
    assert_eq!((stored.prompt.as_str(), stored.seed), (PROMPT, Some(2)));
}

#[test]
fn embeddings_are_saved_and_taken() {
    let folder = Folder::new();
    let expected = folder.latents(&[PROMPT, "--negative", "静止", "--save-embeddings", "e"]);
    assert_eq!(folder.latents(&["--embeddings", "e"]), expected);
    // Those of the negative prompt are there if any guidance needs them.
    folder.make(&[PROMPT, "--guidance", "1,3", "--save-embeddings", "e", "--out", "v.rgb"]);
    let output = folder.run(&[&["--embeddings", "e", "--guidance", "3"], &SMALL[..]].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    folder.make(&[PROMPT, "--guidance", "1", "--save-embeddings", "e", "--out", "v.rgb"]);
    let folder_names = folder.names();
    let output = folder.run(&[&["--embeddings", "e", "--guidance", "3"], &SMALL[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("without its text encoder"), "{}", text(&output.stderr));
    assert_eq!(folder.names(), folder_names);
}

#[test]
fn previews() {
    let folder = Folder::new();
    folder.make(&[PROMPT, "--preview", "2", "--out", "v.mp4", "--seed", "1,2"]);
    let names = ["v-1-preview.gif", "v-1.mp4", "v-2-preview.gif", "v-2.mp4"];
    assert_eq!(folder.names(), names);
    let preview = read_video(folder.path("v-1-preview.gif")).unwrap();
    assert_eq!((preview.spec.width, preview.spec.height, preview.frames.len()), (16, 16, 2));
    folder.make(&[PROMPT, "--preview", "3", "--out", "none.mp4"]);
    assert!(!folder.path("none-preview.gif").exists(), "there are only two steps");
}

#[test]
fn one_frame_is_a_picture() {
    let folder = Folder::new();
    let options = ["--frames", "1", "--width", "32", "--height", "48", "--steps", "2"];
    let out = ["--out", "cat.png", "--preview", "1"];
    let output = folder.run(&[&["一只猫"], &options[..], &out].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(folder.names(), ["cat-preview.png", "cat.png"]);
    let picture = read_video(folder.path("cat.png")).unwrap();
    assert_eq!((picture.spec.width, picture.spec.height, picture.frames.len()), (32, 48, 1));
    assert_eq!(read_metadata(&folder.path("cat.png")).unwrap().unwrap().prompt, "一只猫");
    let preview = read_video(folder.path("cat-preview.png")).unwrap();
    assert_eq!((preview.spec.width, preview.spec.height), (16, 24));
    fails(&folder, &[&["a cat", "--out", "five.png"], &SMALL[..]].concat(), 1, &["five.png"]);
}

#[test]
fn a_contact_sheet() {
    let folder = Folder::new();
    let prompts = [PROMPT, "一个绿色的圆形在白色背景上变小"];
    let lists = ["--seed", "1,2", "--guidance", "3,5", "--out", "v.rgb"];
    for (sheet, frames) in [("sheet.mp4", 5), ("sheet.gif", 5), ("sheet.png", 1)] {
        let said = folder.make(&[&prompts[..], &lists, &["--grid", sheet]].concat());
        let read = read_video(folder.path(sheet)).unwrap();
        let (width, height) = (read.spec.width, read.spec.height);
        let line = match frames {
            1 => format!("{sheet}: 1 frame of {width}x{height}"),
            _ => format!("{sheet}: {frames} frames of {width}x{height} at 24 fps"),
        };
        assert_eq!(said.lines().last(), Some(line.as_str()));
        assert_eq!(read.frames.len(), frames);
        if sheet == "sheet.png" {
            // Every frame is somewhere in it, in its row and column.
            let place = |video: &[u8]| {
                let row = |y: usize| &video[y * 32 * 3..(y + 1) * 32 * 3];
                let wide = 3 * width as usize;
                let mut places = (0..height as usize - 32)
                    .flat_map(|top| (0..width as usize - 32).map(move |left| (top, left)));
                places.find(|(top, left)| {
                    (0..32).all(|y| {
                        let start = (top + y) * wide + 3 * left;
                        read.frames[0][start..start + 96] == *row(y)
                    })
                })
            };
            let places: Vec<(usize, usize)> = (1..=8)
                .map(|i| place(&raw(&folder, &format!("v-{i}.rgb"))).expect("in the sheet"))
                .collect();
            for (row, places) in places.chunks(4).enumerate() {
                assert!(places.windows(2).all(|pair| pair[0].0 == pair[1].0), "{places:?}");
                assert!(places.windows(2).all(|pair| pair[0].1 < pair[1].1), "{places:?}");
                assert!(row == 0 || places[0].0 > 32, "{places:?}");
            }
        }
    }
    if let Some(kept) = std::env::var_os("WAN_KEEP_SHEET") {
        fs::copy(folder.path("sheet.png"), kept).unwrap();
    }
}

/// A sheet of a run that goes on, or of latents, has its rows too.
#[test]
fn a_contact_sheet_of_what_was_saved() {
    let folder = Folder::new();
    let prompts = [PROMPT, "绿色圆形变小"];
    let options = ["--seed", "1,2", "--out", "v.rgb", "--grid", "whole.png"];
    folder.make(&[&prompts[..], &options, &["--save-latents", "l"]].concat());
    let stop = ["--save-state", "run", "--stop-after", "1", "--seed", "1,2", "--out", "v.rgb"];
    folder.make(&[&prompts[..], &stop].concat());
    for (option, file) in [("--latents", "l"), ("--resume", "run")] {
        let output = folder.run(&[option, file, "--out", "d.rgb", "--grid", "again.png"]);
        assert!(output.status.success(), "{option}: {}", text(&output.stderr));
        let [whole, again] =
            ["whole.png", "again.png"].map(|name| read_video(folder.path(name)).unwrap());
        assert!(again.frames == whole.frames, "{option}: the sheets differ");
    }
}

#[test]
fn bad_usage() {
    let folder = Folder::new();
    fs::write(folder.path("file"), "no run, no latents").unwrap();
    folder.make(&[PROMPT, "--save-latents", "l.safetensors", "--out", "v.rgb"]);
    fs::remove_file(folder.path("v.rgb")).unwrap();
    let both = |a: &str, b: &str| format!("{a} and {b} both name");
    for (arguments, parts) in [
        (&["a", "--out", "x.gif", "--grid", "x.gif"][..], &[both("--out", "--grid").as_str()][..]),
        (&["a", "--grid", "x.gif", "--save-latents", "./x.gif"], &["both name"]),
        (&["a", "--save-state", "x", "--save-latents", "x"], &["both name"]),
        (&["a", "--out", "v.mp4", "--preview", "1", "--grid", "v-preview.gif"], &["both name"]),
        (&["--resume", "file"], &["file"]),
        (&["--resume", "l.safetensors"], &["l.safetensors", "latents", "run"]),
        (&["--resume", "none"], &["none"]),
        (&["--latents", "file"], &["file"]),
        (&["--embeddings", "l.safetensors"], &["l.safetensors", "latents", "embeddings"]),
        (&["a", "--video", "file"], &["file"]),
        (&["a", "b", "--save-embeddings", "e"], &["--save-embeddings", "one prompt, not 2"]),
        (&["a", "--guidance", "6x3"], &["3 scales", "2 steps"]),
        (&["a", "--guidance-rescale", "1.5"], &["rescale is 1.5", "0 to 1"]),
        (&["a", "--guidance-interval", "0.6..0.1"], &["0.6 to 0.1"]),
        (&["a", "--guidance", "3", "--guidance-rule", "cfg-zero-star", "--steps", "1"], &["steps"]),
        (&["a", "--grid", "x.mov"], &["x.mov", ".mov"]),
        (&["a", "--grid", "no/x.png"], &["no/x.png", "does not exist"]),
        (&["a", "--save-state", "no/run"], &["no/run", "does not exist"]),
        (&["a", "--save-embeddings", "no/e"], &["no/e", "does not exist"]),
        (&["a", "--prompt-weighting", "--negative", "(b:x)"], &["(b:x)", "(words:1.3)"]),
    ] {
        let sized: &[&str] = match arguments[0] {
            "a" if !arguments.contains(&"--steps") => &SMALL,
            "a" => &SMALL[..6],
            "--embeddings" => &SMALL,
            _ => &[],
        };
        fails(&folder, &[arguments, sized].concat(), 1, parts);
    }
    for (arguments, part) in [
        (&["a", "--seed", "1,two"][..], "two"),
        (&["a", "--seed", "1,"], "--seed"),
        (&["a", "--guidance", "6x0"], "6x0"),
        (&["a", "--guidance", "wave:1..2"], "wave"),
        (&["a", "--guidance-interval", "0.5"], "0.1..0.6"),
        (&["a", "--strength", "0.5"], "--video"),
        (&["a", "--preview", "0"], "0"),
        (&["a", "--stop-after", "2"], "--save-state"),
        (&["a", "--resume", "run"], "--resume"),
        (&["--resume", "run", "--seed", "3"], "--resume"),
        (&["--resume", "run", "--guidance", "3"], "--resume"),
        (&["--resume", "run", "--steps", "3"], "--resume"),
        (&["--latents", "l", "--steps", "3"], "--latents"),
        (&["--latents", "l", "--resume", "run"], "--resume"),
        (&["--embeddings", "e", "--save-embeddings", "f"], "--embeddings"),
        (&["a", "--embeddings", "e"], "--embeddings"),
        (&["--negative", "a", "--embeddings", "e"], "--embeddings"),
    ] {
        fails(&folder, arguments, 2, &[part, "--help"]);
    }
}

/// Runs a job that must fail with this code, one sentence with these parts, and leave nothing.
#[track_caller]
fn fails(folder: &Folder, arguments: &[&str], code: i32, parts: &[&str]) {
    let before = folder.names();
    let output = folder.run(arguments);
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}");
    assert!(err.starts_with("error: "), "{arguments:?}: {err}");
    assert!(code == 2 || err.lines().count() == 1, "{arguments:?}: {err}");
    for part in parts {
        assert!(err.contains(part), "{arguments:?}: {part:?} is not in: {err}");
    }
    assert_eq!((output.stdout.len(), folder.names()), (0, before), "{arguments:?}");
}

/// Of three takes the best is written, as its seed gives it alone; a CLIP that is none is refused first.
#[test]
fn of_several_takes_the_best_is_written() {
    let folder = Folder::new();
    let arguments = ["a red circle", "--best-of", "3", "--seed", "7", "--out", "best.mp4"];
    let output = folder.run(&[&arguments[..], &SMALL].concat());
    let said = text(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert_eq!(folder.names(), ["best.mp4"]);
    let seeds: Vec<u64> = said
        .lines()
        .filter_map(|line| line.strip_prefix("seed ")?.split_once(": ")?.0.parse().ok())
        .collect();
    let mut sorted = seeds.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, [7, 8, 9], "{said}");
    folder.make(&["a red circle", "--seed", &seeds[0].to_string(), "--out", "alone.mp4"]);
    let read = |name: &str| read_mp4(&folder.path(name)).unwrap().frames;
    assert_eq!(read("best.mp4"), read("alone.mp4"));

    for (arguments, said) in [
        (["a red circle", "--best-of", "2", "--clip", "tiny-wan"], "tiny-wan:config.json"),
        (["a red circle", "--best-of", "2", "--grid", "grid.mp4"], "--grid"),
        (["a red circle", "--seed", "1", "--clip", "tiny-clip"], "--best-of"),
    ] {
        let output = folder.run(&[&arguments[..], &SMALL].concat());
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains(said), "{}", text(&output.stderr));
    }
}

/// The frames of a stream do not depend on how many follow; what has no effect on one is refused.
#[test]
fn a_stream_is_written_block_by_block() {
    let folder = Folder::new();
    let small = ["a red circle", "--stream", "--width", "32", "--height", "32"];
    let stream = |rest: &[&str]| {
        let arguments = [&small[..], &["--block", "2", "--window", "3"], rest].concat();
        let output = folder.run(&arguments);
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let levels = ["--noise-levels", "1000,500"];
    let said = stream(&[&["--frames", "20", "--out", "long.rgb"], &levels[..]].concat());
    assert!(said.starts_with("long.rgb: 20 frames of 32x32"), "{said}");
    stream(&[&["--frames", "13", "--out", "short.rgb"], &levels[..]].concat());
    let [long, short] = ["long.rgb", "short.rgb"].map(|name| raw(&folder, name));
    assert_eq!((long.len(), short.len()), (20 * 32 * 32 * 3, 13 * 32 * 32 * 3));
    assert!(long.starts_with(&short));
    stream(&["--frames", "5", "--seed", "1,2", "--sink", "1", "--shift", "3", "--out", "v.mp4"]);
    assert!(stream(&["--plan"]).contains("time, about: "));

    // A block of pure noise that is denoised in one step is an ordinary video.
    let one = [&small[..], &["--frames", "5", "--noise-levels", "1000", "--block", "2"]].concat();
    assert!(folder.run(&[&one[..], &["--out", "one.rgb"]].concat()).status.success());
    let ordinary = ["--timesteps", "1000", "--scheduler", "lcm", "--guidance", "1"];
    let size = ["--frames", "5", "--width", "32", "--height", "32", "--out", "ordinary.rgb"];
    let ordinary = folder.run(&[&["a red circle"], &ordinary[..], &size].concat());
    assert!(ordinary.status.success(), "{}", text(&ordinary.stderr));
    assert!(raw(&folder, "one.rgb") == raw(&folder, "ordinary.rgb"));

    for (arguments, parts) in [
        (&["--guidance", "3"][..], &["guidance", "without guidance"][..]),
        (&["--steps", "3"], &["a number of steps", "its own options"]),
        (&["--scheduler", "euler"], &["a scheduler"]),
        (&["--window", "2"], &["window", "at least 3"]),
        (&["--noise-levels", "500,1000"], &["noise level", "less than 500"]),
        (&["--frames", "0"], &["frames", "1 or more"]),
    ] {
        fails(&folder, &[&small[..], arguments].concat(), 1, parts);
    }
    for (arguments, part) in [
        (&["a", "--window", "6"][..], "--stream"),
        (&["a", "--stream", "--save-latents", "l"], "--stream"),
        (&["a", "--stream", "--best-of", "2"], "--stream"),
        (&["a", "--stream", "--resume", "run"], "--resume"),
    ] {
        fails(&folder, arguments, 2, &[part, "--help"]);
    }
}
