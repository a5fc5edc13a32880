//! Videos as FFmpeg reads them, a second decoder beside our own.
//!
//! Without `ffmpeg` and `ffprobe` these tests pass with a note, unless `WAN_REQUIRE_FFMPEG` is set.

use std::process::Command;

use serde_json::{Value, json};
use wan_io::video::read_mp4;

use super::*;

/// Runs one of the two programs on a file; what it prints. A warning is a failure.
fn run(name: &str, path: &Path, before: &[&str], after: &[&str]) -> Option<Vec<u8>> {
    let program = programs::find(name, "WAN_REQUIRE_FFMPEG")?;
    let mut command = Command::new(program);
    let output =
        command.args(["-v", "warning"]).args(before).arg(path).args(after).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && errors.is_empty(), "{name} says: {errors}");
    Some(output.stdout)
}

/// All that `ffprobe` knows of a file.
fn probe(path: &Path) -> Option<Value> {
    let options = ["-show_streams", "-show_format", "-show_frames", "-count_frames", "-of", "json"];
    let text = run("ffprobe", path, &options, &[])?;
    Some(serde_json::from_slice(&text).unwrap())
}

/// The frames of a file as `ffmpeg` decodes them, one after the other.
fn decode(path: &Path, pixels: &str) -> Option<Vec<u8>> {
    let after = ["-f", "rawvideo", "-fps_mode", "passthrough", "-pix_fmt", pixels, "-"];
    run("ffmpeg", path, &["-i"], &after)
}

fn spec(width: u32, height: u32, fps: &str, frames: u32) -> VideoSpec {
    VideoSpec { width, height, fps: fps.parse().unwrap(), frames }
}

/// Sizes that are multiples of 16 and not, the smallest, one frame, and all kinds of rates; and what
/// FFmpeg is to say of the rate, of the ticks a second and a frame, and of the level.
fn cases() -> [(VideoSpec, &'static str, u32, u32, u8); 9] {
    [
        (spec(96, 64, "16", 21), "16/1", 16_000, 1000, 11),
        (spec(18, 34, "24000/1001", 30), "24000/1001", 24_000, 1001, 11),
        (spec(100, 54, "29.97", 7), "30000/1001", 30_000, 1001, 11),
        (spec(832, 480, "12.5", 3), "25/2", 12_500, 1000, 22),
        (spec(854, 480, "59.94", 2), "60000/1001", 60_000, 1001, 31),
        (spec(480, 832, "240", 5), "240/1", 240_000, 1000, 42),
        (spec(16, 16, "1", 3), "1/1", 1000, 1000, 11),
        (spec(98, 66, "24", 1), "24/1", 24_000, 1000, 11),
        (spec(34, 18, "100/3", 101), "100/3", 33_300, 999, 11),
    ]
}

#[test]
fn ffprobe_tells_what_was_written() {
    let folder = folder();
    let path = folder.path().join("a b 猫.mp4");
    for (spec, rate, timescale, ticks, level) in cases() {
        write(&path, &spec, &rich_metadata()).unwrap();
        let Some(probed) = probe(&path) else { return };
        let case = format!("{spec:?}: {}", probed["streams"]);
        let [stream] = probed["streams"].as_array().unwrap().as_slice() else { panic!("{case}") };
        for (field, expected) in [
            ("codec_name", json!("h264")),
            ("profile", json!("High")),
            ("level", json!(level)),
            ("width", json!(spec.width)),
            ("height", json!(spec.height)),
            ("pix_fmt", json!("yuv420p")),
            ("color_range", json!("tv")),
            ("color_space", json!("bt709")),
            ("color_transfer", json!("bt709")),
            ("color_primaries", json!("bt709")),
            ("has_b_frames", json!(0)),
            ("r_frame_rate", json!(rate)),
            ("avg_frame_rate", json!(rate)),
            ("time_base", json!(format!("1/{timescale}"))),
            ("start_pts", json!(0)),
            ("duration_ts", json!(spec.frames * ticks)),
            ("nb_frames", json!(spec.frames.to_string())),
            ("nb_read_frames", json!(spec.frames.to_string())),
        ] {
            assert_eq!(stream[field], expected, "{field} of {case}");
        }
        let frames = probed["frames"].as_array().unwrap();
        let times: Vec<_> = frames.iter().map(|frame| frame["pts"].as_u64().unwrap()).collect();
        let expected: Vec<_> = (0..spec.frames).map(|index| u64::from(index * ticks)).collect();
        assert_eq!(times, expected, "{case}");
        let tags = &probed["format"]["tags"];
        let comment: Metadata = serde_json::from_str(tags["comment"].as_str().unwrap()).unwrap();
        assert_eq!(comment, stored(&rich_metadata(), &spec));
        assert_eq!(tags["encoder"], json!(rich_metadata().software));
    }
}

#[test]
fn ffprobe_tells_the_date() {
    let folder = folder();
    let path = folder.path().join("x.mp4");
    mp4::write_on("1234567890", &path).unwrap();
    let Some(probed) = probe(&path) else { return };
    let date = json!("2009-02-13T23:31:30.000000Z");
    assert_eq!(probed["format"]["tags"]["creation_time"], date);
    assert_eq!(probed["streams"][0]["tags"]["creation_time"], date);
}

#[test]
fn two_decoders_give_the_same_pixels() {
    let folder = folder();
    let path = folder.path().join("x.mp4");
    for (spec, ..) in cases() {
        write(&path, &spec, &Metadata::new("x")).unwrap();
        let Some(planes) = decode(&path, "yuv420p") else { return };
        let ours = read_mp4(&path).unwrap();
        let frame_bytes = spec.frame_bytes() / 2;
        assert_eq!(planes.len(), frame_bytes * spec.frames as usize, "{spec:?}");
        for (index, (planes, ours)) in planes.chunks_exact(frame_bytes).zip(ours.frames).enumerate()
        {
            // The planes are equal if the colours are, but for their rounding.
            let theirs = rgb(planes, spec.width as usize, spec.height as usize);
            let most = theirs.iter().zip(&ours).map(|(a, &b)| (a - f32::from(b)).abs());
            let most = most.fold(0.0, f32::max);
            assert!(most < 0.51, "{spec:?}, frame {index}: {most}");
            mp4::assert_alike(&ours, &spec, index as u32);
        }
    }
}

/// YUV 4:2:0 as RGB: the inverse of ITU-R BT.709-6, in floating point.
fn rgb(planes: &[u8], width: usize, height: usize) -> Vec<f32> {
    let (y, colours) = planes.split_at(width * height);
    let (u, v) = colours.split_at(width * height / 4);
    let pixel = |at: usize| {
        let colour = (at / width / 2) * (width / 2) + at % width / 2;
        let y = (f32::from(y[at]) - 16.0) / 219.0;
        let [u, v] = [u, v].map(|plane| (f32::from(plane[colour]) - 128.0) / 224.0);
        let (r, b) = (y + 1.5748 * v, y + 1.8556 * u);
        let g = (y - 0.2126 * r - 0.0722 * b) / 0.7152;
        [r, g, b].map(|value| (255.0 * value).clamp(0.0, 255.0))
    };
    (0..width * height).flat_map(pixel).collect()
}

#[test]
fn ffmpeg_shows_the_colours_that_were_written() {
    let folder = folder();
    let path = folder.path().join("x.mp4");
    let spec = VideoSpec { frames: 1, ..SPEC };
    for colour in
        [[255, 0, 0], [0, 255, 0], [0, 0, 255], [128, 128, 128], [255, 255, 255], [10, 200, 90]]
    {
        let frame = colour.repeat((spec.width * spec.height) as usize);
        let mut writer = VideoWriter::create(&path, &spec, &Metadata::new("x")).unwrap();
        writer.write_frame(&frame).unwrap();
        writer.finish().unwrap();
        let Some(found) = decode(&path, "rgb24") else { return };
        assert_eq!(found.len(), frame.len());
        let most = found.iter().zip(&frame).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
        assert!(most <= 4, "{colour:?} became {:?}", &found[..3]);
    }
}

#[test]
fn a_gif_of_a_fractional_rate_takes_the_right_time() {
    let folder = folder();
    let path = folder.path().join("x.gif");
    let spec = spec(16, 16, "23.976", 60);
    write(&path, &spec, &Metadata::new("x")).unwrap();
    let Some(probed) = probe(&path) else { return };
    let stream = &probed["streams"][0];
    assert_eq!((&stream["time_base"], &stream["duration_ts"]), (&json!("1/100"), &json!(250)));
    assert_eq!(probed["frames"].as_array().unwrap().len(), 60);
}
