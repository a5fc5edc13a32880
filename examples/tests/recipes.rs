//! Runs each recipe as a user does, in a folder of its own, and looks at what it says and leaves.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use wan_io::video::{
    DecodedVideo, FrameSink as _, Metadata, VideoSpec, VideoWriter, read_mp4, read_video,
};
use wan_mock_hub::Files;
use wan_mock_hub::models::grafts;

/// Runs an example, which cargo builds with the tests of this package; gives its standard output.
fn run(name: &str, folder: &Path) -> String {
    run_with(name, &[], folder)
}

/// Runs it with arguments.
fn run_with(name: &str, arguments: &[&OsStr], folder: &Path) -> String {
    let mut program = std::env::current_exe().unwrap();
    program.pop(); // the name of this test
    program.pop(); // deps
    program.push("examples");
    program.push(format!("{name}{}", std::env::consts::EXE_SUFFIX));
    assert!(program.is_file(), "{program:?} is not built: run `cargo test -p wan-examples`");
    let output = Command::new(program).args(arguments).current_dir(folder).output().unwrap();
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

/// The first frame is the picture, and the circle moves as it is asked to.
#[test]
fn image_to_video() {
    let (folder, said) = leaves("image_to_video", &["image_to_video.mp4"]);
    assert_eq!(said, "image_to_video.mp4: 97 frames\n");
    let video = read_mp4(&folder.path().join("image_to_video.mp4")).unwrap();
    let drawn = |i: usize| {
        let (x, y) = ((i % 64) as f64 + 0.5, (i / 64) as f64 + 0.5);
        if (x - 46.0).hypot(y - 32.0) < 10.0 { 255.0 } else { 0.0 }
    };
    let red = |frame: &[u8]| frame.iter().step_by(3).map(|&v| f64::from(v)).collect::<Vec<_>>();
    let errors = video.frames[0].iter().enumerate().map(|(i, &value)| {
        let expected = if i % 3 == 0 { drawn(i / 3) } else { 0.0 };
        (f64::from(value) - expected).powi(2)
    });
    let mean = errors.sum::<f64>() / video.frames[0].len() as f64;
    let psnr = 10.0 * (255.0 * 255.0 / mean).log10();
    let column = |frame: &[u8]| {
        let red = red(frame);
        let sum: f64 = red.iter().sum();
        red.iter().enumerate().map(|(i, v)| (i % 64) as f64 * v).sum::<f64>() / sum
    };
    let [first, last] = [0, 96].map(|frame| column(&video.frames[frame]));
    println!("first frame {psnr:.1} dB, from column {first:.1} to {last:.1}");
    assert!(psnr > 25.0, "{psnr} dB");
    assert!(last < first - 15.0, "from column {first} to {last}");
}

/// A model in a folder, grafted on the miniature.
fn grafted(graft: impl Fn(&Files) -> Files) -> tempfile::TempDir {
    let model = tempfile::tempdir().unwrap();
    grafts::make(&repository().join("tiny-wan/model"), model.path(), graft);
    model
}

/// Runs an example with a model and these files, which must leave one video of 17 frames; gives what it says beside it.
#[track_caller]
fn makes_a_video(name: &str, model: &Path, files: &[&Path]) -> (String, DecodedVideo) {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [model].into_iter().chain(files.iter().copied()).map(Path::as_os_str);
    let said = run_with(name, &arguments.collect::<Vec<_>>(), folder.path());
    let left = std::fs::read_dir(folder.path()).unwrap();
    assert_eq!(left.count(), 1, "{name}");
    let video = read_mp4(&folder.path().join(format!("{name}.mp4"))).unwrap();
    assert_eq!(video.frames.len(), 17);
    (said, video)
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Writes a picture or a video of these frames, by its ending.
fn write(path: &Path, [width, height]: [u32; 2], frames: &[Vec<u8>]) {
    let spec = VideoSpec { width, height, fps: 24.into(), frames: frames.len() as u32 };
    let mut writer = VideoWriter::create(path, &spec, &Metadata::default()).unwrap();
    frames.iter().for_each(|frame| writer.write_frame(frame).unwrap());
    writer.finish().unwrap();
}

/// How much more there is of a channel than of the others in a frame, on average, and at which column.
fn more_of(channel: usize, frame: &[u8], width: usize) -> [f64; 2] {
    let (pixels, _) = frame.as_chunks::<3>();
    let [mut amount, mut moment] = [0.0; 2];
    for (i, pixel) in pixels.iter().enumerate() {
        let others = pixel[(channel + 1) % 3].max(pixel[(channel + 2) % 3]);
        let more = f64::from(pixel[channel].saturating_sub(others));
        amount += more;
        moment += more * (i % width) as f64;
    }
    [amount / pixels.len() as f64, moment / amount.max(1.0)]
}

/// The video has a thing of this color on black, which moves right.
#[track_caller]
fn moves_right(video: &DecodedVideo, channel: usize) {
    let seen = |frame: usize| more_of(channel, &video.frames[frame], video.spec.width as usize);
    let [first, middle, last] = [0, 8, 16].map(seen);
    println!("amount and column: {first:.1?}, {middle:.1?}, {last:.1?}");
    for [amount, _] in [first, middle, last] {
        assert!(amount > 10.0, "there is none: {amount}");
    }
    assert!(first[1] < middle[1] && first[1] + 3.0 < last[1], "{first:?} {middle:?} {last:?}");
    let corners = video.frames.iter().flat_map(|frame| &frame[..3]);
    assert!(corners.copied().max().unwrap() < 40, "the background is black");
}

/// Each expert is loaded when its steps begin, and both together make the video.
#[test]
fn two_experts() {
    let model = grafted(grafts::two_experts);
    let (said, video) = makes_a_video("two_experts", model.path(), &[]);
    let lines: Vec<&str> = said.lines().collect();
    let [steps, loads @ ..] = &lines[..] else { panic!("{said}") };
    let counts: Vec<usize> = steps.split(' ').filter_map(|word| word.parse().ok()).collect();
    assert_eq!(**steps, format!("{} steps at high noise, {} at low", counts[0], counts[1]));
    assert!(counts[0] > 0 && counts[1] > 0 && counts[0] + counts[1] == 20, "{steps}");
    let transformers: Vec<&&str> =
        loads.iter().filter(|line| line.contains("transformer")).collect();
    assert_eq!(transformers, [&"loading the transformer", &"loading the second transformer"]);
    assert_eq!((video.spec.width, video.spec.height), (64, 64));
    moves_right(&video, 0);
}

/// The grafted model looks away from both pictures, and so makes what the prompt says; only the size follows from them.
#[test]
fn first_last_frame() {
    let encoder = grafts::read(&repository().join("tests/fixtures/pipeline_i2v/model"));
    let model = grafted(|model| grafts::first_last_frame(model, &encoder));
    let (_, video) = makes_a_video("first_last_frame", model.path(), &[]);
    assert_eq!((video.spec.width, video.spec.height), (64, 64));
    moves_right(&video, 2);

    let pictures = tempfile::tempdir().unwrap();
    let [first, last] = ["first.png", "last.png"].map(|name| pictures.path().join(name));
    write(&first, [160, 96], &[vec![90; 3 * 160 * 96]]);
    write(&last, [40, 40], &[vec![30; 3 * 40 * 40]]);
    let (_, video) = makes_a_video("first_last_frame", model.path(), &[&first, &last]);
    assert_eq!((video.spec.width, video.spec.height), (80, 48));
}

/// What the grafted control sees it draws into the video, as a trained one does better: the half that is kept has the
/// color of the source, the other has not.
#[test]
fn vace_inpaint() {
    let model = grafted(|model| grafts::vace(model, -0.35));
    let (_, video) = makes_a_video("vace_inpaint", model.path(), &[]);
    assert_eq!((video.spec.width, video.spec.height), (64, 64));

    let files = tempfile::tempdir().unwrap();
    let [source, mask] = ["source.mp4", "mask.png"].map(|name| files.path().join(name));
    for color in [[220, 20, 20], [0; 3]] {
        write(&source, [64, 64], &vec![color.repeat(64 * 64); 17]);
        for kept in [0, 1] {
            let mut halves = [[255; 3 * 32]; 2];
            halves[kept].fill(0);
            write(&mask, [64, 64], &[halves.concat().repeat(64)]);
            let (_, video) = makes_a_video("vace_inpaint", model.path(), &[&source, &mask]);
            let distances = [kept, 1 - kept].map(|half| distance(&video, half, color));
            println!("{color:?}, {kept}: kept and made are {distances:.1?} from it");
            assert!(distances[0] < 40.0 && distances[1] > 60.0, "{distances:?}");
        }
    }
}

/// How far the mean color of the left or the right half of a video of 64x64 is from another, a channel on average.
fn distance(video: &DecodedVideo, half: usize, color: [u8; 3]) -> f64 {
    let rows = || video.frames.iter().flat_map(|frame| frame.chunks_exact(3 * 64));
    let of = |channel: usize| {
        let values =
            rows().flat_map(|row| row[3 * 32 * half..][..3 * 32].iter().skip(channel).step_by(3));
        let mean =
            values.map(|&value| f64::from(value)).sum::<f64>() / (rows().count() * 32) as f64;
        (mean - f64::from(color[channel])).abs()
    };
    (of(0) + of(1) + of(2)) / 3.0
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

/// The first block has 9 frames, each other 12, of which the last has some too many.
#[test]
fn stream_video() {
    let (folder, said) = leaves("stream_video", &["stream_video.mp4"]);
    let expected = "block 1: 9 frames\nblock 2: 21 frames\nblock 3: 33 frames\nblock 4: 45 frames\n\
                    block 5: 57 frames\nblock 6: 60 frames\nstream_video.mp4: 60 frames\n";
    assert_eq!(said, expected);
    let video = read_mp4(&folder.path().join("stream_video.mp4")).unwrap();
    assert_eq!((video.spec.width, video.spec.height, video.frames.len()), (64, 64, 60));
    assert_ne!(video.frames[0], video.frames[59]);
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
