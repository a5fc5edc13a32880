//! Videos that others made: every kind that is read, and files that are wrong.

use std::{
    fs,
    path::{Path, PathBuf},
};

use gif::{DisposalMethod, Encoder, Frame};
use tempfile::TempDir;
use wan_io::video::{
    DecodedVideo, FrameRate, FrameSink, Metadata, VideoError, VideoSpec, VideoWriter, read_video,
};

const BLACK: [u8; 3] = [0, 0, 0];
const RED: [u8; 3] = [255, 0, 0];
const GREEN: [u8; 3] = [0, 255, 0];
const BLUE: [u8; 3] = [0, 0, 255];
/// The global palette of the files below.
const PALETTE: [[u8; 3]; 4] = [RED, GREEN, BLUE, [9, 9, 9]];

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("wan read 读 ").tempdir().unwrap()
}

fn encode(size: [u16; 2], frames: &[Frame]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, size[0], size[1], &PALETTE.concat()).unwrap();
    frames.iter().for_each(|frame| encoder.write_frame(frame).unwrap());
    drop(encoder);
    bytes
}

/// A frame of one colour, by its index.
fn patch([left, top, width, height]: [u16; 4], index: u8) -> Frame<'static> {
    let buffer = vec![index; usize::from(width) * usize::from(height)].into();
    Frame { left, top, width, height, buffer, delay: 5, ..Frame::default() }
}

fn written(folder: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, bytes).unwrap();
    path
}

fn read_gif(bytes: &[u8]) -> Result<DecodedVideo, VideoError> {
    let folder = folder();
    read_video(written(&folder, "x", bytes))
}

/// The frames of a GIF as colours.
fn pixels(size: [u16; 2], frames: &[Frame]) -> Vec<Vec<[u8; 3]>> {
    let video = read_gif(&encode(size, frames)).unwrap();
    assert_eq!([video.spec.width, video.spec.height], size.map(u32::from));
    assert_eq!(video.spec.frames as usize, video.frames.len());
    let colours = |rgb: &Vec<u8>| rgb.chunks_exact(3).map(|p| [p[0], p[1], p[2]]).collect();
    video.frames.iter().map(colours).collect()
}

#[test]
fn frames_of_a_gif_change_a_part_of_the_picture() {
    let found = pixels([3, 2], &[patch([0, 0, 3, 2], 0), patch([1, 1, 2, 1], 1)]);
    assert_eq!(found, [vec![RED; 6], vec![RED, RED, RED, RED, GREEN, GREEN]]);
}

#[test]
fn what_a_gif_leaves_open_is_black() {
    assert_eq!(pixels([2, 1], &[patch([1, 0, 1, 1], 2)]), [[BLACK, BLUE]]);
    let mut frame = patch([0, 0, 2, 1], 3);
    frame.transparent = Some(3);
    assert_eq!(pixels([2, 1], &[frame]), [[BLACK, BLACK]]);
}

#[test]
fn transparent_pixels_of_a_gif_show_what_was_there() {
    let mut frame = patch([0, 0, 3, 1], 1);
    frame.buffer = vec![1, 3, 1].into();
    frame.transparent = Some(3);
    let found = pixels([3, 1], &[patch([0, 0, 3, 1], 0), frame]);
    assert_eq!(found[1], [GREEN, RED, GREEN]);
}

#[test]
fn frames_of_a_gif_are_disposed_of_as_they_say() {
    for (dispose, left) in [
        (DisposalMethod::Any, GREEN),
        (DisposalMethod::Keep, GREEN),
        (DisposalMethod::Background, BLACK),
        (DisposalMethod::Previous, RED),
    ] {
        let mut middle = patch([1, 0, 1, 1], 1);
        middle.dispose = dispose;
        let frames = [patch([0, 0, 3, 1], 0), middle, patch([2, 0, 1, 1], 2)];
        let found = pixels([3, 1], &frames);
        assert_eq!(found[1], [RED, GREEN, RED], "{dispose:?}");
        assert_eq!(found[2], [RED, left, BLUE], "{dispose:?}");
    }
}

#[test]
fn a_gif_may_be_interlaced_and_have_palettes_of_its_frames() {
    let mut frame = patch([0, 0, 1, 8], 0);
    // The order of rows in an interlaced frame: every 8th, the 4ths between, the 2nds, the rest.
    frame.buffer = vec![0, 4, 2, 6, 1, 3, 5, 7].into();
    frame.interlaced = true;
    frame.palette = Some((0..8).flat_map(|i| [i, 10 * i, 7]).collect());
    let expected: Vec<[u8; 3]> = (0..8).map(|i| [i, 10 * i, 7]).collect();
    assert_eq!(pixels([1, 8], &[frame]), [expected]);
}

#[test]
fn frames_of_a_gif_are_cut_at_the_borders() {
    let frames = [patch([1, 1, 9, 9], 0), patch([70, 80, 2, 2], 1), patch([0, 0, 1, 1], 2)];
    let found = pixels([2, 2], &frames);
    assert_eq!(found[1], [BLACK, BLACK, BLACK, RED]);
    assert_eq!(found[2], [BLUE, BLACK, BLACK, RED]);
}

#[test]
fn delays_of_a_gif_give_its_rate() {
    let fps = |delays: &[u16]| {
        let frame = |&delay| Frame { delay, ..patch([0, 0, 1, 1], 0) };
        let frames: Vec<Frame> = delays.iter().map(frame).collect();
        read_gif(&encode([1, 1], &frames)).unwrap().spec.fps
    };
    assert_eq!(fps(&[4, 4, 4]), 25);
    assert_eq!(fps(&[6, 6, 7, 6]), 16);
    assert_eq!(fps(&[0, 0]), 10);
    assert_eq!(fps(&[u16::MAX]), 1);
    assert_eq!(fps(&[8; 25]).to_string(), "12.5");
}

const SPEC: VideoSpec = VideoSpec { width: 32, height: 16, fps: FrameRate::new(8), frames: 3 };

/// Pictures of less than 256 colours, which a GIF holds exactly.
fn picture(index: u32) -> Vec<u8> {
    let pixel = |at: u32| [(at % 32 + index) as u8 * 4, (at / 256) as u8 * 90, 33];
    (0..SPEC.width * SPEC.height).flat_map(pixel).collect()
}

fn write(path: &Path, spec: &VideoSpec, metadata: &Metadata) -> Result<(), VideoError> {
    let mut writer = VideoWriter::create(path, spec, metadata)?;
    (0..spec.frames).try_for_each(|index| writer.write_frame(&picture(index)))?;
    writer.finish()
}

#[test]
fn every_kind_is_read_under_any_name() {
    let folder = folder();
    let check = |name: &str, frames: u32, exact: bool| {
        let (path, renamed) = (folder.path().join(name), folder.path().join("renamed"));
        let spec = VideoSpec { frames, ..SPEC };
        write(&path, &spec, &Metadata::new("a cat")).unwrap();
        fs::rename(&path, &renamed).unwrap();
        let video = read_video(&renamed).unwrap();
        assert_eq!(video.spec, spec, "{name}");
        let expected: Vec<_> = (0..frames).map(picture).collect();
        assert!(!exact || video.frames == expected, "{name}");
        if renamed.is_dir() { fs::remove_dir_all(renamed) } else { fs::remove_file(renamed) }
            .unwrap();
    };
    check("x.gif", 3, true);
    check("one.gif", 1, true);
    check("x.png", 1, true);
    check("x/", 3, true);
    if cfg!(feature = "mp4") {
        check("x.mp4", 3, false);
    }
}

#[test]
fn a_png_is_one_picture() {
    let folder = folder();
    let path = folder.path().join("x.png");
    let error = VideoWriter::create(&path, &SPEC, &Metadata::new("x")).unwrap_err();
    assert!(matches!(error, VideoError::OnePicture { frames: 3, .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("3 frames") && message.contains("x/`"), "{message}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn what_is_no_video_is_named() {
    let folder = folder();
    for (start, expected) in [
        (b"\x1A\x45\xDF\xA3 and more".as_slice(), "a WebM or Matroska file"),
        (b"RIFF\0\0\0\0AVI LIST", "an AVI file"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "a WebP file"),
        (b"\xFF\xD8\xFF\xE0", "a JPEG file"),
        (b"", "empty"),
        (b"hello, world", "no MP4, GIF or PNG file"),
    ] {
        let error = read_video(written(&folder, "x.mp4", start)).unwrap_err();
        assert!(matches!(error, VideoError::UnknownKind { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(expected) && message.contains("x.mp4`"), "{message}");
    }
    let error = read_video(written(&folder, "x.rgb", b"GIF")).unwrap_err();
    assert!(matches!(error, VideoError::NoSize { .. }), "{error}");
    let error = read_video(folder.path().join("missing.gif")).unwrap_err();
    assert!(matches!(error, VideoError::Io { .. }), "{error}");
    let error = read_video(folder.path()).unwrap_err();
    assert!(matches!(error, VideoError::NoFrames { .. }), "{error}");
}

#[test]
fn frames_of_two_sizes_are_refused() {
    let folder = folder();
    for (name, width) in [("1.png", 32), ("2.png", 16)] {
        let spec = VideoSpec { width, frames: 1, ..SPEC };
        let mut writer =
            VideoWriter::create(folder.path().join(name), &spec, &Metadata::new("x")).unwrap();
        writer.write_frame(&vec![7; spec.frame_bytes()]).unwrap();
        writer.finish().unwrap();
    }
    let error = read_video(folder.path()).unwrap_err();
    assert!(matches!(error, VideoError::FrameSize { width: 16, height: 16, .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("2.png") && message.contains("32x16"), "{message}");
}

#[test]
fn rates_that_are_none_are_not_taken_from_metadata() {
    let folder = folder();
    for fps in ["0", "4294967295"] {
        let comment = format!(r#"{{"prompt":"x","fps":{fps}}}"#);
        let mut bytes = Vec::new();
        let mut encoder = Encoder::new(&mut bytes, 1, 1, &PALETTE.concat()).unwrap();
        let extension = gif::Extension::Comment.into();
        encoder.write_raw_extension(extension, &[comment.as_bytes()]).unwrap();
        encoder.write_frame(&patch([0, 0, 1, 1], 0)).unwrap();
        drop(encoder);
        assert_eq!(read_video(written(&folder, "x.gif", &bytes)).unwrap().spec.fps, 20);
    }
}

/// A GIF without palettes, or a frame with an index beyond its palette, shows nothing there.
#[test]
fn hostile_gifs_are_errors_or_pictures() {
    let canvas = |size: [u16; 2]| {
        let [width, height] = size.map(u16::to_le_bytes);
        [b"GIF89a", &width[..], &height[..], &[0x80, 0, 0], &[1, 2, 3, 4, 5, 6]].concat()
    };
    let frame = |size: [u16; 2]| {
        let [width, height] = size.map(u16::to_le_bytes);
        // One pixel of index 1: clear, 1, end.
        [b"\x2C\0\0\0\0", &width[..], &height[..], b"\0\x02\x02\x4C\x01\0"].concat()
    };
    let file = |size, frames: &[Vec<u8>]| [&canvas(size)[..], &frames.concat(), b"\x3B"].concat();

    let video = read_gif(&file([1, 1], &[frame([1, 1])])).unwrap();
    assert_eq!(video.frames, [[4, 5, 6]]);
    let error = read_gif(&file([1, 1], &[])).unwrap_err();
    assert!(matches!(error, VideoError::NoFrames { .. }), "{error}");
    for size in [[0, 1], [1, 0], [16_385, 1], [65_535, 65_535]] {
        let error = read_gif(&file(size, &[frame([1, 1])])).unwrap_err();
        assert!(matches!(error, VideoError::Broken { .. }), "{error}");
        let expected = format!("{}x{}", size[0], size[1]);
        assert!(error.to_string().contains(&expected), "{error}");
    }
    // A frame of 4 billion pixels, of which one is there.
    let error = read_gif(&file([1, 1], &[frame([65_535, 65_535])])).unwrap_err();
    assert!(matches!(error, VideoError::Broken { .. }), "{error}");
    assert!(error.to_string().contains("more than 268435456 pixels"), "{error}");
    // A frame of which most pixels are missing.
    assert!(read_gif(&file([9, 9], &[frame([9, 9])])).is_err());
    // A frame without pixels is a frame all the same, if the file says so.
    if let Ok(video) = read_gif(&file([1, 1], &[frame([0, 0])])) {
        assert_eq!(video.frames, [[0, 0, 0]]);
    }
    // Without any palette.
    let bare = [&b"GIF89a\x01\0\x01\0\0\0\0"[..], &frame([1, 1]), b"\x3B"].concat();
    assert!(read_gif(&bare).is_err());
}

/// Six frames would take 4.8 GB; no more than four may be made.
#[test]
#[cfg(target_pointer_width = "64")]
fn a_small_gif_cannot_claim_all_memory() {
    let one = patch([0, 0, 1, 1], 0);
    let mut bytes = encode([16_384, 16_384], &vec![one; 400]);
    // The pictures are counted before they are made: the first is as large as allowed for one.
    assert!(bytes.len() < 20_000);
    bytes[6..10].copy_from_slice(&[0, 0x40, 0, 0x40]);
    let folder = folder();
    let path = written(&folder, "x.gif", &bytes);
    let error = read_video(path).unwrap_err();
    assert!(matches!(error, VideoError::TooLarge { .. }), "{error}");
}

fn small_files(folder: &TempDir) -> Vec<(&'static str, Vec<u8>)> {
    let mut middle = patch([1, 0, 2, 2], 1);
    middle.dispose = DisposalMethod::Previous;
    middle.transparent = Some(0);
    middle.palette = Some(PALETTE.concat());
    let foreign = encode([3, 2], &[patch([0, 0, 3, 2], 0), middle, patch([0, 0, 1, 1], 2)]);
    let mut files = vec![("foreign.gif", foreign)];
    for (name, frames) in [("own.gif", 2), ("own.png", 1)] {
        let path = folder.path().join(name);
        write(&path, &VideoSpec { frames, ..SPEC }, &Metadata::new("a cat")).unwrap();
        files.push((name, fs::read(path).unwrap()));
    }
    files
}

#[test]
fn files_that_are_cut_off_are_errors() {
    let folder = folder();
    for (name, whole) in small_files(&folder) {
        for length in 12..whole.len() {
            let Err(error) = read_video(written(&folder, "cut", &whole[..length])) else {
                panic!("{name} cut at {length} is read")
            };
            let cut = matches!(error, VideoError::CutOff { .. } | VideoError::Broken { .. });
            assert!(cut, "{name} cut at {length}: {error}");
        }
        let error = read_video(written(&folder, "cut", &whole[..whole.len() / 2])).unwrap_err();
        assert!(matches!(error, VideoError::CutOff { .. }), "{name}: {error}");
    }
}

#[test]
fn any_byte_may_be_wrong() {
    let folder = folder();
    for (name, whole) in small_files(&folder) {
        for at in 0..whole.len() {
            for change in [0xff, 0x01, 0x80] {
                // Canvases of gigabytes are tested above.
                if name.ends_with("gif") && (6..10).contains(&at) && change != 0x01 {
                    continue;
                }
                let mut damaged = whole.clone();
                damaged[at] ^= change;
                if let Ok(video) = read_video(written(&folder, "damaged", &damaged)) {
                    assert_eq!(video.frames.len(), video.spec.frames as usize);
                    let whole = |frame: &Vec<u8>| frame.len() == video.spec.frame_bytes();
                    assert!(video.frames.iter().all(whole));
                }
            }
        }
    }
}
