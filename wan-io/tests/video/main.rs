//! Video files as a user of the library sees them: round trips, errors, hostile files.

#[cfg(feature = "mp4")]
mod chromium;
#[cfg(feature = "mp4")]
mod ffmpeg;
#[cfg(feature = "mp4")]
mod mp4;
#[cfg(feature = "mp4")]
mod programs;

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use wan_io::files::WriteError;
use wan_io::video::{
    Format, FrameRate, FrameSink, Metadata, VideoError, VideoSpec, VideoWriter, read_metadata,
    read_png_folder,
};

const SPEC: VideoSpec = VideoSpec { width: 96, height: 64, fps: FrameRate::new(16), frames: 21 };

/// A coloured disc that moves over a slow gradient.
fn frame(spec: &VideoSpec, index: u32) -> Vec<u8> {
    let (width, height) = (spec.width as f32, spec.height as f32);
    let phase = index as f32 / spec.frames as f32;
    let (x0, y0) = (width * (0.2 + 0.6 * phase), height * 0.5);
    let radius = height * 0.25;
    let mut rgb = Vec::with_capacity(spec.frame_bytes());
    for y in 0..spec.height {
        for x in 0..spec.width {
            let (x, y) = (x as f32, y as f32);
            let distance = ((x - x0).powi(2) + (y - y0).powi(2)).sqrt();
            let disc = (radius - distance + 0.5).clamp(0.0, 1.0);
            let ground = [200.0 * x / width, 120.0, 255.0 * y / height];
            let colour = [230.0, 60.0 + 100.0 * phase, 40.0];
            for (ground, colour) in ground.into_iter().zip(colour) {
                rgb.push((ground + disc * (colour - ground)) as u8);
            }
        }
    }
    rgb
}

fn frames(spec: &VideoSpec) -> Vec<Vec<u8>> {
    (0..spec.frames).map(|index| frame(spec, index)).collect()
}

fn write(path: &Path, spec: &VideoSpec, metadata: &Metadata) -> Result<(), VideoError> {
    let mut writer = VideoWriter::create(path, spec, metadata)?;
    for frame in frames(spec) {
        writer.write_frame(&frame)?;
    }
    writer.finish()
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("wan video 影片 ").tempdir().unwrap()
}

/// A path for a folder of frames.
fn with_slash(path: PathBuf) -> PathBuf {
    let mut path = path.into_os_string();
    path.push("/");
    path.into()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// One target of every format that this build writes.
fn targets(folder: &Path) -> Vec<PathBuf> {
    let mut targets = vec![
        folder.join("a b 猫.gif"),
        folder.join("a b 猫.rgb"),
        with_slash(folder.join("a b 猫 frames")),
    ];
    if cfg!(feature = "mp4") {
        targets.push(folder.join("a b 猫.mp4"));
    }
    targets
}

fn rich_metadata() -> Metadata {
    let mut metadata = Metadata::new(format!(
        "一只猫在草地上奔跑 \"quoted\" 'single' \\ \n\t 🐈\u{200d}⬛ {}",
        "很长".repeat(10_000)
    ));
    metadata.negative_prompt = Some("色调艳丽，过曝".into());
    metadata.seed = Some(u64::MAX);
    metadata.num_inference_steps = Some(50);
    metadata.guidance_scale = Some(5.000_000_1);
    metadata.guidance = Some("cosine 7 → 1".into());
    metadata.strength = Some(0.6);
    metadata.video = Some("猫.mp4".into());
    metadata.flow_shift = Some(3.0);
    metadata.model = Some("Wan-AI/Wan2.1-T2V-14B".into());
    metadata.scheduler = Some("unipc".into());
    metadata.sigma_grid = Some("original".into());
    metadata.software = Some("wan-pipeline 0.1.0 é".into());
    metadata
}

/// What the file holds: the writer fills in the size, the rate and the length.
fn stored(metadata: &Metadata, spec: &VideoSpec) -> Metadata {
    let mut stored = metadata.clone();
    stored.width = Some(spec.width);
    stored.height = Some(spec.height);
    stored.fps = Some(spec.fps);
    stored.num_frames = Some(spec.frames);
    stored
}

fn damaged(error: &VideoError) -> bool {
    matches!(
        error,
        VideoError::Broken { .. } | VideoError::CutOff { .. } | VideoError::UnknownKind { .. }
    )
}

fn refused(path: &Path, spec: &VideoSpec) -> VideoError {
    VideoWriter::create(path, spec, &Metadata::new("x")).unwrap_err()
}

#[test]
fn metadata_survives_in_every_format_that_holds_any() {
    let folder = folder();
    let spec = VideoSpec { frames: 2, ..SPEC };
    for metadata in [rich_metadata(), Metadata::new("")] {
        for path in targets(folder.path()) {
            if path.is_dir() {
                fs::remove_dir_all(&path).unwrap();
            }
            write(&path, &spec, &metadata).unwrap();
            let found = read_metadata(&path).unwrap();
            if Format::from_path(&path).unwrap() == Format::Raw {
                assert_eq!(found, None);
            } else {
                assert_eq!(found, Some(stored(&metadata, &spec)), "{}", path.display());
            }
        }
    }
    // Every frame of a folder tells it, not only the first.
    let last = folder.path().join("a b 猫 frames/frame_00001.png");
    assert_eq!(read_metadata(&last).unwrap().unwrap().prompt, "");
}

#[test]
fn kinds_are_told_by_content_not_by_name() {
    let folder = folder();
    let gif = folder.path().join("x.gif");
    let renamed = folder.path().join("x.png");
    write(&gif, &SPEC, &Metadata::new("a cat")).unwrap();
    fs::rename(&gif, &renamed).unwrap();
    assert_eq!(read_metadata(&renamed).unwrap().unwrap().prompt, "a cat");
}

#[test]
fn files_without_our_metadata_hold_none_and_other_files_are_errors() {
    let folder = folder();
    let path = folder.path().join("x");
    for plain in [
        b"\0\0\0\x08ftyp\0\0\0\x08moov".as_slice(),
        b"GIF89a\x01\0\x01\0\0\0\0\x3B",
        b"GIF89a\x01\0\x01\0\0\0\0\x21\xFE\x05hello\0\x3B",
    ] {
        fs::write(&path, plain).unwrap();
        assert_eq!(read_metadata(&path).unwrap(), None);
    }
    for broken in [
        b"".as_slice(),
        b"hello, world",
        b"\0\0\0\x08ftyp",
        b"\0\0\0\x08ftyp\0\0\0\x01moov\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\0\0\0\x08ftyp\0\0\0\x07moov",
        b"GIF89a\x01\0",
        b"GIF89a\x01\0\x01\0\0\0\0\x21\xFE\x05hel",
        b"\x89PNG\r\n\x1a\n\0\0\0\x0d",
    ] {
        fs::write(&path, broken).unwrap();
        let error = read_metadata(&path).unwrap_err();
        assert!(damaged(&error), "{error}");
        assert!(error.to_string().contains("/x`"), "{error}");
    }
    let error = read_metadata(folder.path()).unwrap_err();
    assert!(error.to_string().contains("no PNG frames"), "{error}");
    let error = read_metadata(&folder.path().join("missing.mp4")).unwrap_err();
    assert!(matches!(error, VideoError::Io { .. }), "{error}");
}

#[test]
fn damaged_gif_and_png_metadata_never_panics() {
    let folder = folder();
    let spec = VideoSpec { width: 16, height: 16, fps: FrameRate::new(8), frames: 1 };
    for name in ["x.gif", "frames/"] {
        let target = folder.path().join(name);
        write(&target, &spec, &Metadata::new("a cat")).unwrap();
        let path = if target.is_dir() { target.join("frame_00000.png") } else { target };
        let file = fs::read(&path).unwrap();
        for at in 0..file.len() {
            fs::write(&path, &file[..at]).unwrap();
            let _ = read_metadata(&path);
            for change in [0xff, 0x01, 0x80] {
                let mut damaged = file.clone();
                damaged[at] ^= change;
                fs::write(&path, &damaged).unwrap();
                let _ = read_metadata(&path);
            }
        }
    }
}

#[test]
fn png_folder_and_raw_are_exact() {
    let folder = folder();
    let expected = frames(&SPEC);

    let path = with_slash(folder.path().join("frames"));
    write(&path, &SPEC, &Metadata::new("a cat")).unwrap();
    let video = read_png_folder(&path).unwrap();
    assert_eq!(video.spec, SPEC);
    assert!(video.frames == expected);
    assert_eq!(names(&path)[0], "frame_00000.png");
    assert_eq!(names(&path).len(), 21);

    let path = folder.path().join("x.rgb");
    write(&path, &SPEC, &Metadata::new("a cat")).unwrap();
    assert!(fs::read(&path).unwrap() == expected.concat());
    assert_eq!(names(folder.path()), ["frames", "x.rgb"]);
}

#[test]
fn any_png_is_read_as_rgb() {
    let folder = folder();
    let save = |name: &str, color, depth, data: &[u8]| {
        let file = fs::File::create(folder.path().join(name)).unwrap();
        let mut encoder = png::Encoder::new(file, 2, 1);
        encoder.set_color(color);
        encoder.set_depth(depth);
        if color == png::ColorType::Indexed {
            encoder.set_palette(vec![1, 2, 3, 4, 5, 6]);
        }
        let mut writer = encoder.write_header().unwrap();
        writer.write_image_data(data).unwrap();
    };
    use png::{BitDepth::*, ColorType::*};
    save("in-1.png", Grayscale, Eight, &[7, 9]);
    save("in-2.PNG", GrayscaleAlpha, Eight, &[7, 0, 9, 255]);
    save("in-10.png", Rgba, Eight, &[1, 2, 3, 0, 4, 5, 6, 255]);
    save("in-11.png", Rgb, Sixteen, &[1, 0, 2, 0, 3, 0, 4, 0, 5, 0, 6, 0]);
    save("in-12.png", Indexed, One, &[0b0100_0000]);
    fs::write(folder.path().join("notes.txt"), "not a frame").unwrap();

    let video = read_png_folder(folder.path()).unwrap();
    let (grey, colour) = (vec![7, 7, 7, 9, 9, 9], vec![1, 2, 3, 4, 5, 6]);
    let expected = [grey.clone(), grey, colour.clone(), colour.clone(), colour];
    assert_eq!(video.frames, expected);
    assert_eq!(video.spec, VideoSpec { width: 2, height: 1, fps: FrameRate::new(16), frames: 5 });

    let other = VideoSpec { frames: 1, ..SPEC };
    let path = with_slash(folder.path().join("one"));
    write(&path, &other, &Metadata::new("x")).unwrap();
    fs::rename(path.join("frame_00000.png"), folder.path().join("in-13.png")).unwrap();
    let error = read_png_folder(folder.path()).unwrap_err().to_string();
    assert!(error.contains("in-13.png") && error.contains("96x64"), "{error}");
    fs::write(folder.path().join("in-0.png"), "no PNG").unwrap();
    let error = read_png_folder(folder.path()).unwrap_err().to_string();
    assert!(error.contains("no MP4, GIF or PNG"), "{error}");
}

#[test]
fn gif_plays_all_frames_at_the_right_speed() {
    let folder = folder();
    let path = folder.path().join("x.gif");
    write(&path, &SPEC, &Metadata::new("a cat")).unwrap();

    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(fs::File::open(&path).unwrap()).unwrap();
    let (mut count, mut hundredths, mut worst) = (0, 0, f64::INFINITY);
    while let Some(shown) = decoder.read_next_frame().unwrap() {
        hundredths += u32::from(shown.delay);
        let rgb: Vec<u8> = shown.buffer.chunks_exact(4).flat_map(|p| &p[..3]).copied().collect();
        // Dithering is right in the mean, not pixel by pixel.
        worst = psnr(&quarter(&rgb), &quarter(&frame(&SPEC, count))).min(worst);
        count += 1;
    }
    assert_eq!(count, 21);
    assert_eq!(hundredths, 131); // 21 frames of 6.25/100 s
    assert_eq!(decoder.repeat(), gif::Repeat::Infinite);
    assert!(worst > 36.0, "{worst} dB");
}

#[test]
fn gif_keeps_few_colours_exactly() {
    let folder = folder();
    let path = folder.path().join("x.gif");
    let spec = VideoSpec { width: 16, height: 16, fps: FrameRate::new(8), frames: 1 };
    // 256 colours, many of them close together.
    let expected: Vec<u8> = (0..=255).flat_map(|i| [i / 2, 100 + i % 2, 7]).collect();
    let mut writer = VideoWriter::create(&path, &spec, &Metadata::new("x")).unwrap();
    writer.write_frame(&expected).unwrap();
    writer.finish().unwrap();

    let mut options = gif::DecodeOptions::new();
    options.set_color_output(gif::ColorOutput::RGBA);
    let mut decoder = options.read_info(fs::File::open(&path).unwrap()).unwrap();
    let shown = decoder.read_next_frame().unwrap().unwrap();
    let found: Vec<u8> = shown.buffer.chunks_exact(4).flat_map(|p| &p[..3]).copied().collect();
    assert_eq!(found, expected);
}

/// The means of 4x4 pixels of a frame as wide as [`SPEC`].
fn quarter(rgb: &[u8]) -> Vec<u8> {
    halve(&halve(rgb, SPEC.width), SPEC.width / 2)
}

/// The means of 2x2 pixels.
fn halve(rgb: &[u8], width: u32) -> Vec<u8> {
    let row = 3 * width as usize;
    let mean = |rows: &[u8], at: usize| {
        let four = [at, at + 3, at + row, at + row + 3].map(|at| u32::from(rows[at]));
        (four.iter().sum::<u32>() / 4) as u8
    };
    let columns = |rows| (0..row).filter(|at| at % 6 < 3).map(move |at| mean(rows, at));
    rgb.chunks_exact(2 * row).flat_map(columns).collect()
}

/// Likeness of two images in decibel: 40 is hard to tell apart.
fn psnr(a: &[u8], b: &[u8]) -> f64 {
    assert_eq!(a.len(), b.len());
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a.abs_diff(*b)).powi(2));
    10.0 * (255.0 * 255.0 * a.len() as f64 / squares.sum::<f64>()).log10()
}

#[test]
fn bad_properties_are_refused_before_any_work() {
    let folder = folder();
    let check = |name: &str, spec: VideoSpec, field: &str, value: &str| {
        let path = folder.path().join(name);
        let error = refused(&path, &spec);
        let VideoError::Spec { field: found, .. } = &error else {
            panic!("{error}");
        };
        assert_eq!(*found, field);
        let message = error.to_string();
        assert!(message.contains(&format!("{field} is {value}, but must be ")), "{message}");
        assert!(message.contains(name), "{message}");
    };
    for name in ["x.gif", "x.rgb", "x/"] {
        check(name, VideoSpec { fps: FrameRate::new(0), ..SPEC }, "fps", "0");
        check(name, VideoSpec { fps: "0.999".parse().unwrap(), ..SPEC }, "fps", "0.999");
        check(name, VideoSpec { frames: 0, ..SPEC }, "frames", "0");
        check(name, VideoSpec { width: 0, ..SPEC }, "width", "0");
        check(name, VideoSpec { height: 0, ..SPEC }, "height", "0");
        check(name, VideoSpec { width: u32::MAX, ..SPEC }, "width", "4294967295");
        check(name, VideoSpec { frames: u32::MAX, ..SPEC }, "frames", "4294967295");
    }
    check("x.gif", VideoSpec { fps: FrameRate::new(60), ..SPEC }, "fps", "60");
    check("x.gif", VideoSpec { fps: "50.1".parse().unwrap(), ..SPEC }, "fps", "50.1");
    check("x.rgb", VideoSpec { fps: "5001/5".parse().unwrap(), ..SPEC }, "fps", "1000.2");
    if cfg!(feature = "mp4") {
        check("x.mp4", VideoSpec { fps: FrameRate::new(0), ..SPEC }, "fps", "0");
        check("x.mp4", VideoSpec { frames: 0, ..SPEC }, "frames", "0");
        check("x.mp4", VideoSpec { width: 97, ..SPEC }, "width", "97");
        check("x.mp4", VideoSpec { height: 63, ..SPEC }, "height", "63");
        check("x.mp4", VideoSpec { width: 14, ..SPEC }, "width", "14");
        let large = VideoSpec { width: 3842, height: 2160, ..SPEC };
        check("x.mp4", large, "size", "3842x2160");
        let large = VideoSpec { width: 2162, height: 2162, ..SPEC };
        check("x.mp4", large, "size", "2162x2162");
    }
    assert!(names(folder.path()).is_empty());
}

#[test]
fn bad_places_are_refused_before_any_work() {
    let folder = folder();
    fs::create_dir(folder.path().join("taken.gif")).unwrap();
    fs::create_dir(folder.path().join("full")).unwrap();
    fs::write(folder.path().join("full/note.txt"), "x").unwrap();
    fs::write(folder.path().join("file"), "x").unwrap();
    let before = names(folder.path());
    let at = |name: &str| folder.path().join(name);
    let check = |path: PathBuf, expected: &str| {
        let error = refused(&path, &SPEC);
        let message = error.to_string();
        assert!(message.contains(expected), "{message}");
        assert!(message.contains(&format!("`{}`", path.display())), "{message}");
        error
    };

    let error = check(at("missing/x.gif"), "does not exist");
    assert!(matches!(error, VideoError::Write(WriteError::NoParent { .. })));
    let error = check(with_slash(at("missing/frames")), "does not exist");
    assert!(matches!(error, VideoError::Write(WriteError::NoParent { .. })));
    let error = check(at("file/x.gif"), "is not a folder");
    assert!(matches!(error, VideoError::Write(WriteError::ParentNotFolder { .. })));
    let error = check(at("taken.gif"), "a folder of that name exists");
    assert!(matches!(error, VideoError::Write(WriteError::IsFolder { .. })));
    let error = check(with_slash(at("file")), "a file of that name exists");
    assert!(matches!(error, VideoError::Write(WriteError::IsFile { .. })));
    let error = check(with_slash(at("full")), "the folder is not empty");
    assert!(matches!(error, VideoError::Write(WriteError::NotEmpty { .. })));
    let error = check(at("x.mov"), "`.mov`: use `.mp4`, `.gif`, `.rgb`");
    assert!(matches!(error, VideoError::UnknownEnding { .. }));
    if cfg!(target_os = "linux") {
        let long = format!("{}.gif", "猫".repeat(100));
        assert!(matches!(check(at(&long), "long"), VideoError::Write(WriteError::Io { .. })));
    }
    assert_eq!(names(folder.path()), before);
}

#[cfg(unix)]
#[test]
fn folders_without_the_right_to_write_are_refused() {
    use std::os::unix::fs::PermissionsExt;
    let folder = folder();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    if fs::write(folder.path().join("probe"), "").is_ok() {
        println!("SKIPPED folders_without_the_right_to_write_are_refused: this user may write");
        return;
    }
    for path in targets(folder.path()) {
        let error = refused(&path, &SPEC);
        assert!(matches!(error, VideoError::Write(WriteError::Io { .. })), "{error}");
        assert!(error.to_string().contains(&path.display().to_string()));
    }
}

#[cfg(not(feature = "mp4"))]
#[test]
fn mp4_names_the_missing_feature() {
    let folder = folder();
    let error = refused(&folder.path().join("x.mp4"), &SPEC);
    assert!(matches!(error, VideoError::FeatureOff { feature: "mp4", .. }));
}

#[test]
fn nothing_stands_under_the_final_name_before_finish() {
    let folder = folder();
    for path in targets(folder.path()) {
        let mut writer = VideoWriter::create(&path, &SPEC, &Metadata::new("x")).unwrap();
        for frame in frames(&SPEC) {
            writer.write_frame(&frame).unwrap();
            // On Linux files have no name yet.
            let hidden = |name: &String| name.starts_with(".a b 猫") && name.ends_with(".partial");
            let names = names(folder.path());
            assert!(names.len() <= 1 && names.iter().all(hidden), "{names:?}");
        }
        drop(writer);
        assert!(names(folder.path()).is_empty(), "{}", path.display());
    }
}

#[test]
fn a_failed_write_removes_all_and_stays_failed() {
    let folder = folder();
    for path in targets(folder.path()) {
        let mut writer = VideoWriter::create(&path, &SPEC, &Metadata::new("x")).unwrap();
        writer.write_frame(&frame(&SPEC, 0)).unwrap();
        let error = writer.write_frame(&[0; 100]).unwrap_err();
        let message = error.to_string();
        let expected = "has 100 bytes, but 96x64 rgb24 is 18432 bytes";
        assert!(message.contains(expected) && message.contains("frame 1"), "{message}");
        assert!(matches!(error, VideoError::FrameLength { .. }));
        assert!(names(folder.path()).is_empty());
        let error = writer.write_frame(&frame(&SPEC, 1)).unwrap_err();
        assert!(matches!(error, VideoError::GivenUp { .. }), "{error}");
        let error = writer.finish().unwrap_err();
        assert!(matches!(error, VideoError::GivenUp { .. }), "{error}");
    }
}

#[test]
fn the_number_of_frames_is_exact() {
    let folder = folder();
    let spec = VideoSpec { frames: 2, ..SPEC };
    for path in targets(folder.path()) {
        let mut writer = VideoWriter::create(&path, &spec, &Metadata::new("x")).unwrap();
        writer.write_frame(&frame(&spec, 0)).unwrap();
        let error = writer.finish().unwrap_err();
        assert!(matches!(error, VideoError::TooFewFrames { found: 1, expected: 2, .. }));

        let mut writer = VideoWriter::create(&path, &spec, &Metadata::new("x")).unwrap();
        writer.write_frame(&frame(&spec, 0)).unwrap();
        writer.write_frame(&frame(&spec, 1)).unwrap();
        let error = writer.write_frame(&frame(&spec, 1)).unwrap_err();
        assert!(matches!(error, VideoError::TooManyFrames { expected: 2, .. }));
        assert!(writer.finish().is_err());
        assert!(names(folder.path()).is_empty(), "{}", path.display());
    }
}

#[test]
fn an_older_file_stays_until_the_new_one_is_whole() {
    let folder = folder();
    for path in targets(folder.path()) {
        if Format::from_path(&path).unwrap() == Format::PngFolder {
            fs::create_dir(&path).unwrap(); // An empty one may be filled.
            write(&path, &SPEC, &Metadata::new("x")).unwrap();
            assert_eq!(names(&path).len(), 21);
            fs::remove_dir_all(&path).unwrap();
            continue;
        }
        fs::write(&path, "old").unwrap();
        drop(VideoWriter::create(&path, &SPEC, &Metadata::new("x")).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"old");
        write(&path, &SPEC, &Metadata::new("x")).unwrap();
        assert!(fs::read(&path).unwrap().len() > 3);
        fs::remove_file(&path).unwrap();
    }
}

#[cfg(unix)]
#[test]
fn permissions_are_those_of_any_new_file() {
    use std::os::unix::fs::PermissionsExt;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = folder();
    fs::write(folder.path().join("file"), "").unwrap();
    fs::create_dir(folder.path().join("folder")).unwrap();
    for path in targets(folder.path()) {
        write(&path, &SPEC, &Metadata::new("x")).unwrap();
        let like = if path.is_dir() { "folder" } else { "file" };
        assert_eq!(mode(&path), mode(&folder.path().join(like)));
    }
}

#[test]
fn names_of_the_longest_length_work() {
    let folder = folder();
    let path = folder.path().join(format!("{}.rgb", "x".repeat(251)));
    write(&path, &SPEC, &Metadata::new("x")).unwrap();
    assert!(path.exists());
}

#[test]
fn a_writer_can_move_to_another_thread_as_a_sink() {
    let folder = folder();
    let path = folder.path().join("x.rgb");
    let spec = VideoSpec { frames: 1, ..SPEC };
    let writer = VideoWriter::create(&path, &spec, &Metadata::new("x")).unwrap();
    let write = move || {
        let mut writer = writer;
        let sink: &mut (dyn FrameSink + Send) = &mut writer;
        sink.write_frame(&frame(&spec, 0)).map(|()| writer)
    };
    let writer = std::thread::spawn(write).join().unwrap().unwrap();
    writer.finish().unwrap();
    assert!(path.exists());
}
