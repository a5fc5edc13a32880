//! MP4 files, box by box and as our own decoder reads them.

use std::{
    env,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use wan_io::video::read_mp4;

use super::*;

#[test]
fn round_trip() {
    let folder = folder();
    let path = folder.path().join("a b 猫.mp4");
    // Some sides are no multiple of 16, so the decoder has to crop.
    for (width, height, fps, frames) in [
        (96, 64, "16", 53),
        (100, 54, "24000/1001", 53),
        (18, 34, "12.5", 30),
        (16, 16, "1", 9),
        (64, 128, "240", 53),
        (854, 480, "29.97", 1),
    ] {
        let spec = VideoSpec { width, height, fps: fps.parse().unwrap(), frames };
        write(&path, &spec, &Metadata::new("a cat")).unwrap();
        let video = read_mp4(&path).unwrap();
        assert_eq!(video.spec, spec);
        assert_eq!(video.frames.len(), frames as usize);
        for (index, found) in video.frames.iter().enumerate() {
            assert_alike(found, &spec, index as u32);
        }
    }
}

/// Compares a decoded frame with the one of [`frame`].
pub(crate) fn assert_alike(found: &[u8], spec: &VideoSpec, index: u32) {
    let expected = frame(spec, index);
    let brightness = psnr(&luma(found), &luma(&expected));
    assert!(brightness > 40.0, "{spec:?}, frame {index}: {brightness} dB");
    // MP4 holds colours at half the size.
    let colour = psnr(&halve(found, spec.width), &halve(&expected, spec.width));
    assert!(colour > 34.0, "{spec:?}, frame {index}: {colour} dB");
}

fn luma(rgb: &[u8]) -> Vec<u8> {
    let weigh = |p: &[u8]| 0.2126 * p[0] as f32 + 0.7152 * p[1] as f32 + 0.0722 * p[2] as f32;
    rgb.chunks_exact(3).map(|pixel| weigh(pixel).round() as u8).collect()
}

#[test]
fn large_areas_keep_their_colour() {
    let folder = folder();
    let path = folder.path().join("x.mp4");
    let spec = VideoSpec { frames: 1, ..SPEC };
    for colour in [[255, 255, 255], [0, 0, 0], [255, 0, 0], [10, 200, 90], [77, 77, 77]] {
        let mut writer = VideoWriter::create(&path, &spec, &Metadata::new("x")).unwrap();
        writer.write_frame(&colour.repeat(96 * 64)).unwrap();
        writer.finish().unwrap();
        let found = &read_mp4(&path).unwrap().frames[0];
        for (found, expected) in found.iter().zip(colour.repeat(96 * 64)) {
            assert!(found.abs_diff(expected) <= 3, "{found} is not {expected}");
        }
    }
}

/// The variable that names the file that [`writes_a_file_if_asked`] writes.
const ASKED: &str = "WAN_IO_TEST_WRITES";

/// The environment belongs to a whole process: this is what [`write_on`] runs in one of its own.
#[test]
fn writes_a_file_if_asked() {
    let Some(path) = env::var_os(ASKED) else { return };
    if let Err(error) = write(Path::new(&path), &SPEC, &Metadata::new("x")) {
        panic!("{error}");
    }
}

/// Writes a file with `SOURCE_DATE_EPOCH` set to `date`, or not set where that is empty. The error is
/// what was printed.
pub(crate) fn write_on(date: &str, path: &Path) -> Result<(), String> {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "mp4::writes_a_file_if_asked", "--nocapture"]).env(ASKED, path);
    match date {
        "" => command.env_remove("SOURCE_DATE_EPOCH"),
        date => command.env("SOURCE_DATE_EPOCH", date),
    };
    let output = command.output().unwrap();
    let printed = [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    if output.status.success() { Ok(()) } else { Err(printed.concat()) }
}

/// The creation times and the times of the last change in all three boxes, in seconds since 1970.
fn dates(file: &[u8]) -> Vec<u64> {
    let times = ["moov/mvhd", "moov/trak/tkhd", "moov/trak/mdia/mdhd"].map(|path| {
        let found = find(file, path);
        // The version tells whether there are 4 or 8 bytes for each.
        let bytes = if found[0] == 1 { 8 } else { 4 };
        [4, 4 + bytes].map(|at| number(&found[at..at + bytes]) as u64 - 2_082_844_800)
    });
    times.concat()
}

#[test]
fn the_date_is_that_of_writing_or_of_source_date_epoch() {
    let folder = folder();
    let path = folder.path().join("x.mp4");
    let written = |date: &str| {
        write_on(date, &path).unwrap();
        assert_eq!(read_mp4(&path).unwrap().spec, SPEC);
        fs::read(&path).unwrap()
    };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let before = now();
    let found = dates(&written(""));
    assert!(found.iter().all(|date| (before..=now()).contains(date)), "{found:?}");

    // 2^32 seconds after 1904 end in 2040, and take more bytes.
    for date in [0, 1_234_567_890, 2_212_122_495, 2_212_122_496, u32::MAX.into()] {
        let file = written(&date.to_string());
        assert_eq!(dates(&file), [date; 6]);
        assert!(file == written(&date.to_string()), "the same frames give the same bytes");
    }
    fs::remove_file(&path).unwrap();
    for date in ["-1", "tomorrow", "1.5", "4294967296"] {
        let error = write_on(date, &path).unwrap_err();
        assert!(error.contains(&format!("SOURCE_DATE_EPOCH is `{date}`")), "{error}");
        assert!(names(folder.path()).is_empty());
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |sum, &byte| sum << 8 | usize::from(byte))
}

/// Kind and payload of each box in a run of boxes.
fn boxes(mut data: &[u8]) -> Vec<(String, &[u8])> {
    let mut boxes = Vec::new();
    while !data.is_empty() {
        let kind = data[4..8].iter().map(|&byte| char::from(byte)).collect();
        let (header, size) = match number(&data[..4]) {
            1 => (16, number(&data[8..16])),
            size => (8, size),
        };
        boxes.push((kind, &data[header..size]));
        data = &data[size..];
    }
    boxes
}

/// The payload of a box, by the kinds of the boxes around it.
fn find<'a>(data: &'a [u8], path: &str) -> &'a [u8] {
    path.split('/').fold(data, |data, kind| {
        // Some boxes have fields of their own before the boxes inside.
        let fields = match kind {
            "avc1" => 8,           // in `stsd`
            "colr" | "avcC" => 78, // in `avc1`
            "ilst" => 4,           // in `meta`
            _ => 0,
        };
        let found = boxes(&data[fields..]).into_iter().find(|(k, _)| k == kind);
        found.unwrap_or_else(|| panic!("no `{kind}`")).1
    })
}

#[test]
fn boxes_say_what_players_need() {
    let folder = folder();
    let path = folder.path().join("x.mp4");
    let spec = VideoSpec { frames: 70, ..SPEC };
    let mut metadata = Metadata::new("a 猫");
    metadata.software = Some("wan 1.2.3".into());
    write(&path, &spec, &metadata).unwrap();
    let file = fs::read(&path).unwrap();

    let order: Vec<String> = boxes(&file).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(order, ["ftyp", "moov", "free", "mdat"]);
    let free = find(&file, "free").len();
    assert!(free < 8 + 4 * 70 + 36, "{free} bytes of reserve");

    let trak = find(&file, "moov/trak");
    let mdhd = find(trak, "mdia/mdhd");
    assert_eq!(number(&mdhd[12..16]), 16_000, "timescale");
    assert_eq!(number(&mdhd[16..20]), 70_000, "duration");
    let mvhd = find(&file, "moov/mvhd");
    assert_eq!((number(&mvhd[12..16]), number(&mvhd[16..20])), (16_000, 70_000));
    let tkhd = find(trak, "tkhd");
    assert_eq!(number(&tkhd[76..80]) >> 16, 96);
    assert_eq!(number(&tkhd[80..84]) >> 16, 64);

    let stbl = find(trak, "mdia/minf/stbl");
    // Version, one entry: 70 samples of 1000 ticks.
    let stts = [[0; 4], [0, 0, 0, 1], 70u32.to_be_bytes(), 1000u32.to_be_bytes()];
    assert_eq!(find(stbl, "stts"), stts.concat());
    let stsz = find(stbl, "stsz");
    assert_eq!(number(&stsz[8..12]), 70, "samples");
    let sizes: Vec<usize> = stsz[12..].chunks_exact(4).map(number).collect();
    assert_eq!(sizes.iter().sum::<usize>(), find(&file, "mdat").len());
    let mdat = file.len() - find(&file, "mdat").len();
    assert_eq!(number(&find(stbl, "stco")[8..12]), mdat, "start of the samples");
    // A key frame every two seconds.
    let keys: Vec<usize> = find(stbl, "stss")[8..].chunks_exact(4).map(number).collect();
    assert_eq!(keys, [1, 33, 65]);

    let colour = find(stbl, "stsd/avc1/colr");
    assert_eq!(colour, b"nclx\0\x01\0\x01\0\x01\0");
    let avcc = find(stbl, "stsd/avc1/avcC");
    assert_eq!(avcc[1], 100, "High profile");
    let sequence = &avcc[8..8 + number(&avcc[6..8])];
    assert_eq!(avcc[1..4], sequence[1..4], "profile, constraints and level");
    check_colour_in_stream(sequence);
    assert!(!boxes(trak).iter().any(|(kind, _)| kind == "edts"), "the first frame is shown at 0");

    let list = find(&file, "moov/udta/meta/ilst");
    let text = |kind: &str| find(list, kind)[16..].to_vec();
    assert_eq!(text("©too"), b"wan 1.2.3");
    let json = String::from_utf8(text("©cmt")).unwrap();
    assert!(json.starts_with(r#"{"prompt":"a 猫","width":96,"#), "{json}");
}

/// In the sequence parameter set, the type of the video signal stands as these bits: present,
/// format 5 (unspecified), limited range, colour description present, and three times 1.
fn check_colour_in_stream(sequence: &[u8]) {
    let bits: String = sequence.iter().map(|byte| format!("{byte:08b}")).collect();
    let expected = format!("1{:03b}01{}", 5, "00000001".repeat(3));
    assert!(bits.contains(&expected), "{bits}");
}

#[test]
fn video_of_other_codecs_is_named() {
    let folder = folder();
    let path = folder.path().join("x.mp4");
    let (whole, _) = small_file(&path);
    let start = find(&whole, "ftyp").len() + 8; // The first `avc1` is the brand in `ftyp`.
    let place =
        |kind: &[u8]| start + whole[start..].windows(4).position(|found| found == kind).unwrap();
    let read = |at: usize, bytes: &[u8]| {
        let mut file = whole.clone();
        file[at..at + bytes.len()].copy_from_slice(bytes);
        fs::write(&path, &file).unwrap();
        read_mp4(&path).unwrap_err()
    };
    for (at, bytes, expected) in [
        (place(b"avc1"), b"mp4v".as_slice(), "video of the kind `mp4v`"),
        (place(b"avc1"), b"avc3", "H.264 with its parameters between the frames"),
        (place(b"avcC") + 5, &[244], "H.264 of the High 4:4:4 profile"),
        (place(b"avcC") + 5, &[110], "H.264 of the High 10 profile"),
    ] {
        let error = read(at, bytes);
        assert!(matches!(error, VideoError::Codec { .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains(expected) && message.contains("x.mp4`"), "{message}");
    }
    let error = read(place(b"vide"), b"soun").to_string();
    assert!(error.contains("it has 0 video tracks") || error.contains("sample"), "{error}");
}

#[test]
fn rates_of_other_programs_are_exact() {
    let folder = folder();
    let path = folder.path().join("x.mp4");
    let spec = VideoSpec { width: 32, height: 16, fps: FrameRate::new(30), frames: 5 };
    write(&path, &spec, &Metadata::new("x")).unwrap();
    let whole = fs::read(&path).unwrap();
    let with_ticks = |ticks: u32| {
        let mut file = whole.clone();
        let stts = file.windows(4).position(|kind| kind == b"stts").unwrap();
        file[stts + 16..stts + 20].copy_from_slice(&ticks.to_be_bytes());
        fs::write(&path, &file).unwrap();
        read_mp4(&path).map(|video| video.spec.fps.to_string())
    };
    for (ticks, fps) in [
        (1000, "30"),
        (1001, "29.97"),
        (2400, "12.5"),
        (900, "100/3"),
        (1100, "300/11"),
        (60_000, "0.5"),
        (1, "30000"),
    ] {
        assert_eq!(with_ticks(ticks).unwrap(), fps);
    }
    let error = with_ticks(0).unwrap_err().to_string();
    assert!(error.contains("shown for no time"), "{error}");
    assert!(with_ticks(u32::MAX).is_ok());
}

#[test]
fn foreign_files_are_errors() {
    let folder = folder();
    let path = folder.path().join("x.mp4");
    for bytes in [
        b"".as_slice(),
        b"hello, world, this is no MP4 file at all",
        b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x08moov",
        b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x01moov\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\0\0\0\x10ftypisom\0\0\0\0\0\0\0\x00moov",
    ] {
        fs::write(&path, bytes).unwrap();
        let error = read_mp4(&path).unwrap_err();
        assert!(damaged(&error), "{error}");
        assert!(error.to_string().contains("x.mp4"), "{error}");
    }
    let mut many = b"\0\0\0\x10ftypisom\0\0\0\0".to_vec();
    many.extend(b"\0\0\0\x08free".repeat(100_000));
    fs::write(&path, many).unwrap();
    let error = read_mp4(&path).unwrap_err();
    assert!(error.to_string().contains("too many boxes"), "{error}");
    let missing = read_mp4(&folder.path().join("missing.mp4"));
    assert!(matches!(missing, Err(VideoError::Io { .. })));
}

/// A small file, and the length of what comes before its samples.
fn small_file(path: &Path) -> (Vec<u8>, usize) {
    let spec = VideoSpec { width: 32, height: 16, fps: FrameRate::new(8), frames: 5 };
    write(path, &spec, &Metadata::new("a cat")).unwrap();
    let file = fs::read(path).unwrap();
    let head = file.len() - find(&file, "mdat").len();
    (file, head)
}

#[test]
fn cut_files_are_errors() {
    let folder = folder();
    let path = folder.path().join("x.mp4");
    let (file, head) = small_file(&path);
    let moov_end = head - 16 - find(&file, "free").len() - 8;
    let ends = [moov_end - 1, moov_end, head, file.len() - 1];
    for length in (0..file.len()).step_by(97).chain(ends) {
        fs::write(&path, &file[..length]).unwrap();
        assert!(read_mp4(&path).is_err(), "cut at {length}");
        // The metadata stands before the samples.
        let found = read_metadata(&path);
        if length < moov_end {
            assert!(found.is_err(), "cut at {length}");
        } else {
            assert_eq!(found.unwrap().unwrap().prompt, "a cat");
        }
    }
}

#[test]
fn damaged_files_never_panic() {
    let folder = folder();
    let path = folder.path().join("x.mp4");
    let (file, head) = small_file(&path);
    for at in (0..head).chain((head..file.len()).step_by(3)) {
        for change in [0xff, 0x01, 0x80] {
            let mut damaged = file.clone();
            damaged[at] ^= change;
            fs::write(&path, &damaged).unwrap();
            let _ = read_metadata(&path);
            if let Ok(video) = read_mp4(&path) {
                assert_eq!(video.frames.len(), video.spec.frames as usize);
                let whole = |frame: &Vec<u8>| frame.len() == video.spec.frame_bytes();
                assert!(video.frames.iter().all(whole));
            }
        }
    }
}

#[test]
fn claims_of_endless_video_are_refused() {
    let folder = folder();
    let path = folder.path().join("x.mp4");
    let (mut file, _) = small_file(&path);
    // 65534 x 65534 pixels, of which five frames would take 64 GB. The first `avc1` is the
    // brand in `ftyp`.
    let start = find(&file, "ftyp").len() + 8;
    let avc1 = file[start..].windows(4).position(|kind| kind == b"avc1").unwrap() + start;
    file[avc1 + 28..avc1 + 32].copy_from_slice(&[0xff, 0xfe, 0xff, 0xfe]);
    fs::write(&path, &file).unwrap();
    let error = read_mp4(&path).unwrap_err();
    assert!(matches!(error, VideoError::TooLarge { .. }), "{error}");
}
