//! Outputs that are no regular files: pipes, devices, sockets and links.
#![cfg(target_os = "linux")]

use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use tempfile::TempDir;
use wan_io::files::{Destination, WriteError};
use wan_io::video::{FrameRate, FrameSink, Metadata, VideoError, VideoSpec, VideoWriter};

const SPEC: VideoSpec = VideoSpec { width: 64, height: 32, fps: FrameRate::new(16), frames: 3 };

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn pipe(path: PathBuf) -> PathBuf {
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    path
}

fn frame(number: u32) -> Vec<u8> {
    vec![40 * number as u8; SPEC.frame_bytes()]
}

fn create(path: &Path) -> Result<VideoWriter, VideoError> {
    VideoWriter::create(path, &SPEC, &Metadata::new("a cat"))
}

fn fill(mut writer: VideoWriter) -> Result<(), VideoError> {
    (0..SPEC.frames).try_for_each(|number| writer.write_frame(&frame(number)))?;
    writer.finish()
}

/// Waits until the pipe has a reader.
fn create_read(path: &Path) -> VideoWriter {
    loop {
        match create(path) {
            Err(VideoError::Write(WriteError::NoReader { .. })) => thread::yield_now(),
            opened => return opened.unwrap(),
        }
    }
}

#[test]
fn a_pipe_gets_each_frame_as_it_comes() {
    let folder = folder();
    let path = pipe(folder.path().join("frames"));
    let (sender, received) = mpsc::channel();
    let reader = thread::spawn({
        let path = path.clone();
        move || {
            let mut pipe = File::open(path).unwrap();
            for _ in 0..SPEC.frames {
                let mut frame = vec![0; SPEC.frame_bytes()];
                pipe.read_exact(&mut frame).unwrap();
                sender.send(frame).unwrap();
            }
            pipe.read_to_end(&mut Vec::new()).unwrap()
        }
    });
    let mut writer = create_read(&path);
    for number in 0..SPEC.frames {
        writer.write_frame(&frame(number)).unwrap();
        assert!(received.recv().unwrap() == frame(number), "frame {number}");
    }
    writer.finish().unwrap();
    assert_eq!(reader.join().unwrap(), 0, "nothing follows the frames");
    assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
    assert_eq!(names(folder.path()), ["frames"]);
}

/// What a pipe of this ending gets, and a file that has got the same video.
fn through_a_pipe(folder: &Path, ending: &str) -> (Vec<u8>, PathBuf) {
    let path = pipe(folder.join(format!("pipe.{ending}")));
    let file = folder.join(format!("file.{ending}"));
    fill(create(&file).unwrap()).unwrap();
    let reader = thread::spawn({
        let path = path.clone();
        move || fs::read(path).unwrap()
    });
    fill(create_read(&path)).unwrap();
    (reader.join().unwrap(), file)
}

#[test]
fn a_pipe_gets_what_a_file_would_get() {
    let folder = folder();
    for ending in ["rgb", "gif"] {
        let (read, file) = through_a_pipe(folder.path(), ending);
        assert!(read == fs::read(file).unwrap(), "{ending}");
    }
}

/// Its head is known last, so it comes at once, at the end.
#[cfg(feature = "mp4")]
#[test]
fn a_pipe_can_get_an_mp4() {
    let folder = folder();
    let (read, file) = through_a_pipe(folder.path(), "mp4");
    let copy = folder.path().join("copy.mp4");
    fs::write(&copy, read).unwrap();
    let decode = |path: &Path| wan_io::video::read_mp4(path).unwrap();
    assert!(decode(&copy) == decode(&file));
}

#[test]
fn a_pipe_that_nobody_reads_is_an_error_and_stays() {
    let folder = folder();
    let path = pipe(folder.path().join("v.rgb"));
    let error = create(&path).unwrap_err();
    assert!(matches!(error, VideoError::Write(WriteError::NoReader { .. })), "{error}");
    assert!(error.to_string().contains("v.rgb`: no program reads this pipe"), "{error}");
    assert!(fs::metadata(&path).unwrap().file_type().is_fifo());
}

#[test]
fn a_reader_that_goes_away_is_an_error() {
    let folder = folder();
    let path = pipe(folder.path().join("v.rgb"));
    let reader = thread::spawn({
        let path = path.clone();
        move || drop(File::open(path).unwrap())
    });
    let writer = create_read(&path);
    reader.join().unwrap();
    let error = fill(writer).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("v.rgb`: Broken pipe"), "{message}");
    assert_eq!(names(folder.path()), ["v.rgb"]);
}

#[test]
fn devices_are_written_in_place() {
    fill(create(Path::new("/dev/null")).unwrap()).unwrap();
    let error = create(Path::new("/dev/full")).and_then(fill).unwrap_err();
    let message = error.to_string();
    assert!(message.contains("`/dev/full`: No space left"), "{message}");
    for device in ["/dev/null", "/dev/full"] {
        assert!(fs::metadata(device).unwrap().file_type().is_char_device());
    }
    let error = create(Path::new("/dev/null/")).unwrap_err();
    assert!(matches!(error, VideoError::Write(WriteError::IsFile { .. })), "{error}");
}

#[test]
fn a_socket_is_connected_to() {
    let folder = folder();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let reader = thread::spawn(move || {
        let mut bytes = Vec::new();
        listener.accept().unwrap().0.read_to_end(&mut bytes).unwrap();
        bytes
    });
    fill(create(&path).unwrap()).unwrap();
    assert!(reader.join().unwrap() == [frame(0), frame(1), frame(2)].concat());
}

#[test]
fn links_are_followed_and_stay() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("videos")).unwrap();
    fs::write(at("videos/old.rgb"), "old").unwrap();
    symlink("videos/old.rgb", at("link.rgb")).unwrap();
    symlink("../link.rgb", at("videos/chain.rgb")).unwrap();
    symlink(at("videos/new.rgb"), at("dangling.rgb")).unwrap();
    symlink("videos/frames", at("frames")).unwrap();
    symlink("/dev/null", at("null.rgb")).unwrap();
    for (link, target) in [
        ("link.rgb", "videos/old.rgb"),
        ("videos/chain.rgb", "videos/old.rgb"),
        ("dangling.rgb", "videos/new.rgb"),
        ("frames/", "videos/frames"),
        ("null.rgb", "/dev/null"),
    ] {
        fs::write(at("videos/old.rgb"), "old").unwrap();
        let writer = create(&at(link)).unwrap();
        assert_eq!(fs::read(at("videos/old.rgb")).unwrap(), b"old", "{link}");
        fill(writer).unwrap();
        assert!(at(link.trim_end_matches('/')).is_symlink(), "{link}");
        assert!(!at(target).is_symlink() && at(target).exists(), "{link}");
        if target.ends_with(".rgb") {
            assert_eq!(fs::read(at(target)).unwrap().len(), 3 * SPEC.frame_bytes(), "{link}");
        }
    }
    let left = ["dangling.rgb", "frames", "link.rgb", "null.rgb", "videos"];
    assert_eq!(names(folder.path()), left);
    assert_eq!(names(&at("videos")), ["chain.rgb", "frames", "new.rgb", "old.rgb"]);
    assert_eq!(names(&at("videos/frames")).len(), 3);
}

#[test]
fn links_that_lead_nowhere_are_errors() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    symlink("b.rgb", at("a.rgb")).unwrap();
    symlink("a.rgb", at("b.rgb")).unwrap();
    symlink("no/such.rgb", at("c.rgb")).unwrap();
    let message = create(&at("a.rgb")).unwrap_err().to_string();
    assert!(message.contains("a.rgb`: Too many levels"), "{message}");
    let error = create(&at("c.rgb")).unwrap_err();
    assert!(matches!(error, VideoError::Write(WriteError::NoParent { .. })), "{error}");
    assert_eq!(names(folder.path()), ["a.rgb", "b.rgb", "c.rgb"]);
}

#[test]
fn one_place_under_two_names_is_known() {
    let folder = folder();
    let at = |name: &str| folder.path().join(name);
    fs::create_dir(at("videos")).unwrap();
    symlink("videos", at("here")).unwrap();
    symlink("here/v.mp4", at("latest.mp4")).unwrap();
    let is_same =
        |a: PathBuf, b: PathBuf| Destination::of(&a).place() == Destination::of(&b).place();
    for other in ["videos/v.mp4", "here/v.mp4", "here/../videos/./v.mp4"] {
        assert!(is_same(at("latest.mp4"), at(other)), "{other}");
    }
    assert!(!is_same(at("latest.mp4"), at("videos/w.mp4")));
    assert!(Destination::of(Path::new("/dev/fd/1")).is_stdout());
    assert!(!Destination::of(Path::new("/dev/null")).is_stdout());
    assert!(Destination::of(Path::new("/dev/null")).is_stream());
}
