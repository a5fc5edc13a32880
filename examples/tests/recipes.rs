//! Runs each recipe as a user does, in a folder of its own, and looks at what it says and leaves.

use std::path::Path;
use std::process::Command;

use wan_io::video::{read_mp4, read_video};

/// Runs an example, which cargo builds with the tests of this package; gives its standard output.
fn run(name: &str, folder: &Path) -> String {
    let mut program = std::env::current_exe().unwrap();
    program.pop(); // the name of this test
    program.pop(); // deps
    program.push("examples");
    program.push(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(program.is_file(), "{program:?} is not built: run `cargo test -p wan-examples`");
    let output = Command::new(program).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Runs an example that must leave just these files; gives its standard output.
#[track_caller]
fn leaves(name: &str, files: &[&str]) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let said = run(name, folder.path());
    let entries = std::fs::read_dir(folder.path()).unwrap();
    let mut found: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    found.sort();
    assert_eq!(found, files, "{name}");
    (folder, said)
}

#[test]
fn batch_seeds() {
    let files = ["seed-1.mp4", "seed-2.mp4", "seed-3.mp4", "seed-4.mp4"];
    let (folder, said) = leaves("batch_seeds", &files);
    assert_eq!(said.lines().count(), 5, "{said}");
    let videos = files.map(|file| read_mp4(&folder.path().join(file)).unwrap().frames);
    for (i, video) in videos.iter().enumerate() {
        assert_eq!(video.len(), 17);
        assert!(!videos[..i].contains(video), "two seeds gave the same video");
    }
}

#[test]
fn dynamic_guidance() {
    let (folder, said) = leaves("dynamic_guidance", &["dynamic_guidance.mp4"]);
    let scales = "scales: [4.0, 4.0, 4.0, 4.0, 4.0, 4.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0]";
    assert!(said.starts_with(scales), "{said}");
    assert_eq!(said.lines().filter(|line| line.starts_with("step ")).count(), 12);
    assert_eq!(read_mp4(&folder.path().join("dynamic_guidance.mp4")).unwrap().frames.len(), 17);
}

/// The circle of the source is made blue, and moves as it did.
#[test]
fn video_to_video() {
    let (folder, _) = leaves("video_to_video", &["video_to_video.mp4"]);
    let video = read_mp4(&folder.path().join("video_to_video.mp4")).unwrap();
    assert_eq!((video.spec.width, video.spec.height, video.frames.len()), (64, 64, 33));
    let [red, _, blue] = [0, 1, 2].map(|channel| {
        let values = video.frames.iter().flat_map(|frame| frame.iter().skip(channel).step_by(3));
        values.map(|&value| f64::from(value)).sum::<f64>()
    });
    assert!(blue > 2.0 * red, "blue {blue}, red {red}");
}

#[test]
fn prompt_embeddings() {
    let (_folder, said) =
        leaves("prompt_embeddings", &["circle.safetensors", "prompt_embeddings.mp4"]);
    assert!(said.contains("tokens of width"), "{said}");
}

#[test]
fn preview() {
    let files = ["preview-3.gif", "preview-6.gif", "preview-9.gif"];
    let (folder, said) = leaves("preview", &files);
    assert_eq!(said.lines().collect::<Vec<_>>(), files);
    let last = read_video(folder.path().join("preview-9.gif")).unwrap();
    assert_eq!((last.spec.width, last.spec.height, last.frames.len()), (32, 32, 9));
    // Roughly, a white circle in the middle of an orange background.
    let frame = &last.frames[4];
    let pixels = frame.as_chunks::<3>().0;
    let [corner, middle] = [pixels[0], pixels[16 * 32 + 16]].map(|pixel| pixel.map(i32::from));
    assert!(corner[0] > 180 && corner[1] > 80 && corner[2] < 100, "{corner:?}");
    assert!(middle[0] > 180 && middle[2] > corner[2] + 60, "{middle:?} on {corner:?}");
}

/// Four takes, the best first; the file is that one.
#[test]
fn rank_with_clip() {
    let (folder, said) = leaves("rank_with_clip", &["best.mp4"]);
    let take = |line: &str| -> (u64, f64) {
        let (seed, similarity) = line.strip_prefix("seed ").unwrap().split_once(": ").unwrap();
        (seed.parse().unwrap(), similarity.parse().unwrap())
    };
    let takes: Vec<(u64, f64)> = said.lines().map(take).collect();
    assert!(takes.is_sorted_by(|a, b| a.1 >= b.1), "{said}");
    let mut seeds: Vec<u64> = takes.iter().map(|take| take.0).collect();
    seeds.sort_unstable();
    assert_eq!(seeds, [1, 2, 3, 4]);
    let video = read_mp4(&folder.path().join("best.mp4")).unwrap();
    assert_eq!((video.spec.width, video.spec.height, video.frames.len()), (64, 64, 17));
    let metadata = wan_io::video::read_metadata(&folder.path().join("best.mp4")).unwrap().unwrap();
    assert_eq!(metadata.seed, Some(takes[0].0), "{said}");
}

#[test]
fn cancel_and_resume() {
    let (_folder, said) =
        leaves("cancel_and_resume", &["cancel_and_resume.mp4", "run.safetensors"]);
    assert!(said.starts_with("run.safetensors: 2 of 8 steps\n"), "{said}");
}

#[test]
fn async_events() {
    let (folder, said) = leaves("async_events", &["first.mp4", "second.mp4"]);
    let expected =
        "step 1 of 4\nstep 2 of 4\nstep 3 of 4\nstep 4 of 4\n9 frames\nfirst.mp4, second.mp4\n";
    assert_eq!(said, expected);
    let [first, second] =
        ["first.mp4", "second.mp4"].map(|file| read_mp4(&folder.path().join(file)).unwrap());
    assert_ne!(first.frames, second.frames);
}
