//! Pictures: files of every kind against Pillow's reading of them, sizes and resizing against the reference
//! codes, masks against diffusers, and files that are wrong.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use sha2::{Digest, Sha256};
use wan_io::files::ModelFiles;
use wan_io::image::{
    ClipPreprocess, ClipResize, Filter, Fit, FitRule, Image, ImageError, MAX_PIXELS, Mask, Pixels,
    latent_mask,
};

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/image").join(path)
}

fn pictures(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/pictures").join(path)
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn list<T: DeserializeOwned>(value: &Value) -> Vec<T> {
    Vec::deserialize(value).unwrap()
}

fn open(name: &str) -> Image {
    Image::open(fixture("files").join(name)).unwrap()
}

/// Calls `check` with the shape and bytes of each tensor of the fixture whose name begins with `start`, and
/// with the rest of the name; there must be `count`.
fn each_output(start: &str, count: usize, mut check: impl FnMut(&str, &[usize], &[u8])) {
    let bytes = fs::read(fixture("outputs.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut seen = 0;
    for (name, tensor) in tensors.tensors() {
        if let Some(rest) = name.strip_prefix(start) {
            check(rest, tensor.shape(), tensor.data());
            seen += 1;
        }
    }
    assert_eq!(seen, count, "{start}");
}

fn difference(
    found: impl IntoIterator<Item = f32>,
    expected: impl IntoIterator<Item = f32>,
) -> f32 {
    let (found, expected): (Vec<_>, Vec<_>) =
        (found.into_iter().collect(), expected.into_iter().collect());
    assert_eq!(found.len(), expected.len());
    let differences = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |max, d| if d.is_nan() { f32::INFINITY } else { max.max(d) })
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

#[track_caller]
fn assert_close(name: &str, found: &Pixels, shape: &[usize], expected: &[u8], tolerance: f32) {
    let [.., 3, height, width] = *shape else { panic!("{name}: {shape:?}") };
    assert_eq!([found.height as usize, found.width as usize], [height, width], "{name}");
    let error = difference(found.values.iter().copied(), floats(expected));
    println!("{name:32} error {error:.1e}, allowed {tolerance:.1e}");
    assert!(error <= tolerance, "{name}: {error}");
}

#[test]
fn decoded_pixels_are_those_of_the_reference() {
    each_output("decoded.", 12, |file, shape, expected| {
        let image = open(file);
        assert_eq!([image.height() as usize, image.width() as usize, 3], shape, "{file}");
        let differences = image.rgb8().iter().zip(expected).map(|(a, b)| a.abs_diff(*b));
        let largest = differences.max().unwrap();
        println!("{file:32} differs by {largest}");
        // Inverse cosine transforms may round otherwise.
        let allowed = if file.ends_with(".jpg") { 3 } else { 0 };
        assert!(largest <= allowed, "{file}: {largest}");
        assert!(!image.is_animated());
    });
}

#[test]
fn files_are_read_as_pillow_reads_them() {
    let mut files = 0;
    for entry in fs::read_dir(pictures("")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name.ends_with(".read.png") || name.ends_with(".json") {
            continue;
        }
        files += 1;
        let image = Image::open(&path).unwrap();
        let expected = Image::open(pictures(&format!("{name}.read.png"))).unwrap();
        assert_eq!(
            [image.width(), image.height()],
            [expected.width(), expected.height()],
            "{name}"
        );
        // Chroma of half the size is continued otherwise beyond the right and the lower edge.
        let is_halved = ["progressive.jpg", "restart.jpg"].contains(&name);
        let is_edge = |at: usize| {
            let (row, column) = (at / 3 / image.width() as usize, at / 3 % image.width() as usize);
            row + 1 == image.height() as usize || column + 1 == image.width() as usize
        };
        let pairs = image.rgb8().iter().zip(expected.rgb8()).enumerate();
        let inner = pairs.filter(|(at, _)| !is_halved || !is_edge(*at));
        let largest = inner.map(|(_, (a, b))| a.abs_diff(*b)).max().unwrap();
        println!("{name:32} differs by {largest}");
        let allowed = if name.ends_with(".jpg") { 3 } else { 0 };
        assert!(largest <= allowed, "{name}: {largest}");
        let animated = ["animated.webp", "animated_chunks.png", "default_picture.png"];
        assert_eq!(image.is_animated(), animated.contains(&name), "{name}");
    }
    assert!(files > 10);
}

#[test]
fn sizes_are_those_of_the_references() {
    for case in json(&fixture("config.json"))["sizes"].as_array().unwrap() {
        let image: [u32; 2] = list(&case["image"]).try_into().unwrap();
        let area = case["max_area"].as_u64().unwrap();
        for (name, rule, factor) in [
            ("diffusers_docs_factor16", FitRule::Diffusers, 16),
            ("diffusers_docs_factor32", FitRule::Diffusers, 32),
            ("wan_i2v", FitRule::WanImageToVideo, 16),
            ("wan_ti2v_factor32", FitRule::WanTi2v, 32),
        ] {
            let expected = case[name].as_array().map(|_| list::<u32>(&case[name]));
            let found = rule.size(image, area, factor).map(Vec::from);
            assert_eq!(found, expected, "{name}: {image:?} at {area}");
        }
    }
}

/// The size of a frame of a picture of the fixture.
fn frame_size(rule: &str, file: &str) -> [u32; 2] {
    let config = json(&fixture("config.json"));
    list(&config["pixel_cases"][file][rule]).try_into().unwrap()
}

#[test]
fn resizing_has_the_bits_of_pillow() {
    each_output("docs_resize.", 3, |file, shape, expected| {
        let [width, height] = frame_size("docs", file);
        assert_eq!(shape, [height as usize, width as usize, 3]);
        let resized = open(file).resize(width, height, Filter::Bicubic).unwrap();
        assert!(resized.rgb8() == expected, "{file}");
    });
    let image = Image::open(pictures("animated.webp")).unwrap();
    let mask = Mask::from(&image);
    let expected = json(&pictures("expected.json"));
    let digest = |bytes: &[u8]| {
        let digest = Sha256::digest(bytes);
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    assert_eq!(digest(mask.values()), expected["luma"]);
    for case in expected["resized"].as_array().unwrap() {
        let [width, height]: [u32; 2] = list(&case["size"]).try_into().unwrap();
        let filter = match case["filter"].as_str().unwrap() {
            "nearest" => Filter::Nearest,
            "bilinear" => Filter::Bilinear,
            "bicubic" => Filter::Bicubic,
            "lanczos" => Filter::Lanczos,
            other => panic!("{other}"),
        };
        let resized = image.resize(width, height, filter).unwrap();
        assert_eq!(digest(resized.rgb8()), case["rgb"], "{case}");
        let resized = mask.resize(width, height, filter).unwrap();
        assert_eq!(digest(resized.values()), case["mask"], "{case}");
    }
}

#[test]
fn frames_are_those_of_the_references() {
    each_output("pipeline_lanczos.", 3, |file, shape, expected| {
        let [width, height] = frame_size("docs", file);
        let found = open(file).resize(width, height, Filter::Lanczos).unwrap().pixels();
        assert_close(file, &found, shape, expected, 1e-6);
    });
    let max_area = json(&fixture("config.json"))["max_area"].as_u64().unwrap();
    let fit = |rule, factor| Fit { rule, max_area, factor };
    each_output("docs_resize.", 3, |file, _, expected| {
        let found = fit(FitRule::Diffusers, 16).pixels(&open(file)).unwrap();
        assert_eq!([found.width, found.height], frame_size("docs", file));
        let [width, height] = [found.width, found.height];
        let expected = Image::from_rgb8(width, height, expected.to_vec()).unwrap().pixels();
        assert_eq!(found, expected);
    });
    each_output("wan_i2v.", 3, |file, shape, expected| {
        let found = fit(FitRule::WanImageToVideo, 16).pixels(&open(file)).unwrap();
        assert_close(file, &found, shape, expected, 1e-5);
        assert!(found.values.iter().any(|value| value.abs() > 1.0), "overshoots are cut off");
    });
    each_output("wan_ti2v.", 3, |file, shape, expected| {
        let [width, height] = frame_size("wan_ti2v", file);
        let found = open(file).cover(width, height).unwrap().pixels();
        assert_close(file, &found, shape, expected, 1e-6);
    });
    // The same by way of the rule: the area and factor are those of the size.
    let wide = Fit { rule: FitRule::WanTi2v, max_area: 96 * 64, factor: 32 };
    let found = wide.pixels(&open("rgb.png")).unwrap();
    assert_eq!(found, open("rgb.png").cover(96, 64).unwrap().pixels());
}

/// A `preprocessor_config.json` with the given fields.
fn clip(fields: &str) -> ClipPreprocess {
    serde_json::from_str(&format!("{{{fields}}}")).unwrap()
}

#[test]
fn clip_sees_what_it_sees_in_the_references() {
    let side = json(&fixture("config.json"))["clip_size"].as_u64().unwrap() as u32;
    let edge = format!(r#""size": {{"shortest_edge": {side}}}, "crop_size": {side}"#);
    each_output("clip.", 3, |file, shape, expected| {
        let found = clip(&edge).pixels(&open(file)).unwrap();
        assert_close(file, &found, shape, expected, 1e-5);
    });
    each_output("clip_wan.", 3, |file, shape, expected| {
        let found = ClipPreprocess::original(side).pixels(&open(file)).unwrap();
        assert_close(file, &found, shape, expected, 1e-5);
    });
    let rows = |mut pixels: Pixels| {
        let values = pixels.values;
        let plane = values.chunks_exact(224 * 224);
        let rows = plane.flat_map(|p| [0, 1, 57, 112, 223].map(|row| &p[224 * row..][..224]));
        (pixels.height, pixels.values) = (5, rows.flatten().copied().collect());
        pixels
    };
    each_output("clip224.rows.", 2, |file, shape, expected| {
        let found = rows(ClipPreprocess::default().pixels(&open(file)).unwrap());
        assert_close(file, &found, shape, expected, 1e-5);
    });
    each_output("clip_wan224.rows.", 2, |file, shape, expected| {
        let found = rows(ClipPreprocess::original(224).pixels(&open(file)).unwrap());
        assert_close(file, &found, shape, expected, 1e-5);
    });
}

#[test]
fn preprocessor_configs_are_read_in_all_their_forms() {
    let (edge, exact) = (ClipResize::ShortestEdge, ClipResize::Exact);
    let (bicubic, bilinear) = (Filter::Bicubic, Filter::Bilinear);
    for (fields, resize, crop) in [
        ("", Some(edge(224, bicubic)), Some([224, 224])),
        (r#""size": 64, "crop_size": 48"#, Some(edge(64, bicubic)), Some([48, 48])),
        (
            r#""size": {"height": 3, "width": 4}, "resample": 2, "do_center_crop": false"#,
            Some(exact([4, 3], bilinear)),
            None,
        ),
        (
            r#""do_resize": false, "size": 0, "crop_size": {"height": 3, "width": 4}"#,
            None,
            Some([4, 3]),
        ),
        (
            r#""image_processor_type": "CLIPImageProcessorFast", "do_convert_rgb": true"#,
            Some(edge(224, bicubic)),
            Some([224, 224]),
        ),
    ] {
        let found = clip(fields);
        assert_eq!((found.resize, found.crop), (resize, crop), "{fields}");
    }
    let plain =
        clip(r#""do_rescale": false, "do_normalize": false, "do_resize": false, "crop_size": 1"#);
    let image = Image::from_rgb8(2, 1, vec![1, 20, 255, 0, 0, 0]).unwrap();
    assert_eq!(plain.pixels(&image).unwrap().values, [1.0, 20.0, 255.0]);
    let halves = clip(
        r#""rescale_factor": 0.5, "image_mean": [1, 2, 3], "image_std": [1, 2, 4], "size": 1, "crop_size": 1"#,
    );
    let image = Image::from_rgb8(1, 1, vec![10, 20, 30]).unwrap();
    assert_eq!(halves.pixels(&image).unwrap().values, [4.0, 4.0, 3.0]);
}

#[test]
fn wrong_preprocessor_configs_name_file_and_field() {
    let folder = tempfile::tempdir().unwrap();
    let name = "preprocessor_config.json";
    for (fields, expected) in [
        (r#""size": 0"#, "size has a side of 0, but must have 1 to 4096"),
        (r#""crop_size": {"height": 5000, "width": 4}"#, "crop_size has a side of 5000"),
        (r#""crop_size": {"shortest_edge": 4}"#, "crop_size has a shortest_edge"),
        (r#""size": {"longest_edge": 4}"#, "size: expected a number, {\"shortest_edge\": ..} or"),
        (r#""size": -4"#, "size: expected a number"),
        (r#""resample": 5"#, "resample is 5, but must be 0 (nearest), 1"),
        (r#""image_std": [1, 0, 1]"#, "image_std is [1.0, 0.0, 1.0], but must"),
        (r#""image_mean": [1, 0]"#, "image_mean: "),
        (r#""image_processor_type": "SiglipImageProcessor""#, "is `SiglipImageProcessor`, but"),
        (r#""feature_extractor_type": "ViTFeatureExtractor""#, "is `ViTFeatureExtractor`, but"),
    ] {
        fs::write(folder.path().join(name), format!("{{{fields}}}")).unwrap();
        let files = ModelFiles::folder(folder.path()).unwrap();
        let error = files.json::<ClipPreprocess>(name).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(expected), "{fields}: {error}");
    }
}

/// A picture of one colour.
fn plain(width: u32, height: u32) -> Image {
    Image::from_rgb8(width, height, vec![9; 3 * (width * height) as usize]).unwrap()
}

#[test]
fn what_does_not_fit_is_refused() {
    let fit = |rule| Fit { rule, max_area: 480 * 832, factor: 16 };
    for rule in [FitRule::Diffusers, FitRule::WanImageToVideo, FitRule::WanTi2v] {
        for (width, height) in [(9000, 1), (1, 9000)] {
            let error = fit(rule).pixels(&plain(width, height)).unwrap_err();
            assert!(matches!(error, ImageError::TooNarrow { factor: 16, .. }), "{error}");
            assert!(error.to_string().contains(&format!("{width}x{height}")), "{error}");
        }
        assert!(fit(rule).size(&plain(1, 1)).is_ok());
        for (max_area, factor) in [(0, 16), (480 * 832, 0), (100, 16), (u64::MAX, u32::MAX)] {
            let fit = Fit { rule, max_area, factor };
            let refused = fit.pixels(&plain(2, 2)).unwrap_err();
            let known =
                matches!(refused, ImageError::TooNarrow { .. } | ImageError::TooLarge { .. });
            assert!(known, "{refused}");
        }
    }
    let image = plain(3, 2);
    let error = image.resize(0, 5, Filter::Bicubic).unwrap_err();
    assert!(matches!(error, ImageError::Empty { width: 0, height: 5, .. }), "{error}");
    for error in [
        image.resize(1 << 14, (1 << 13) + 1, Filter::Nearest).unwrap_err(),
        image.resize_as_torch(u32::MAX, u32::MAX).unwrap_err(),
        ClipPreprocess::default().pixels(&plain(900_000, 1)).unwrap_err(),
    ] {
        assert!(matches!(error, ImageError::TooLarge { limit: MAX_PIXELS, .. }), "{error}");
    }
    let error = clip(r#""size": 8, "crop_size": 9"#).pixels(&image).unwrap_err();
    assert!(
        matches!(error, ImageError::Crop { width: 12, height: 8, crop_width: 9, .. }),
        "{error}"
    );
    let error = Image::from_rgb8(2, 2, vec![0; 11]).unwrap_err();
    assert!(matches!(error, ImageError::Length { expected: 12, found: 11, .. }), "{error}");
    let error = Image::from_rgb8(2, 0, vec![]).unwrap_err();
    assert!(matches!(error, ImageError::Empty { .. }), "{error}");
}

#[test]
fn masks_are_those_of_diffusers() {
    let expected = json(&pictures("expected.json"));
    let mask = Mask::open(pictures("animated.webp")).unwrap();
    let resized = mask.resize(48, 32, Filter::Lanczos).unwrap();
    assert_eq!(resized.values(), list::<u8>(&expected["video_mask_48x32"]));
    let halves = Mask::from(&Image::from_rgb8(2, 1, vec![127, 127, 127, 128, 128, 128]).unwrap());
    assert_eq!(halves.to_binary(), [0.0, 1.0]);
    assert_eq!(halves.to_f32(), [127.0 / 255.0, 128.0 / 255.0]);
}

fn gray_frames(values: &[u8], [width, height]: [u32; 2]) -> Vec<Mask> {
    let frames = values.chunks_exact((width * height) as usize);
    let rgb = frames.map(|frame| frame.iter().flat_map(|&value| [value; 3]).collect());
    rgb.map(|rgb| Mask::from(&Image::from_rgb8(width, height, rgb).unwrap())).collect()
}

#[test]
fn masks_on_the_grid_of_latents_are_those_of_diffusers() {
    let expected = json(&pictures("expected.json"));
    let frames = gray_frames(&list::<u8>(&expected["frames"]), [24, 16]);
    assert_eq!(frames.len(), 7);
    let found = latent_mask(&frames, 8, 4).unwrap();
    assert_eq!(found.shape, [64, 2, 2, 3]);
    let values: Vec<u8> = found.values.iter().map(|value| (value * 255.0).round() as u8).collect();
    assert_eq!(values, list::<u8>(&expected["latents_of_frames"]));
    for (count, indices) in expected["frames_of_latents"].as_object().unwrap() {
        let count: usize = count.parse().unwrap();
        let numbered = (0..count).flat_map(|frame| [(frame / 256) as u8, frame as u8]);
        let frames = gray_frames(&numbered.collect::<Vec<u8>>(), [2, 1]);
        let found = latent_mask(&frames, 1, 4).unwrap().values;
        let found =
            found.chunks_exact(2).map(|pair| (pair[0] * 65_280.0 + pair[1] * 255.0) as usize);
        assert_eq!(found.collect::<Vec<_>>(), list::<usize>(indices), "{count} frames");
    }
}

#[test]
fn masks_off_the_grid_are_refused() {
    let mask = |width, height| Mask::from(&plain(width, height));
    for (frames, spatial, expected) in [
        (vec![], 8, "frame 0 is missing"),
        (vec![mask(16, 8), mask(8, 16)], 8, "frame 1 is 8x16, but must be 16x8 as that of frame 0"),
        (vec![mask(16, 12)], 8, "frame 0 is 16x12, but must be of sides that are multiples of 8"),
        (vec![mask(16, 12)], 0, "frame 0 is 16x12, but must"),
    ] {
        let error = latent_mask(&frames, spatial, 4).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(latent_mask(&[mask(8, 8)], 8, 0).unwrap().shape, [64, 1, 1, 1]);
}

fn read_error(bytes: &[u8]) -> ImageError {
    let folder = tempfile::Builder::new().prefix("wan picture 图 ").tempdir().unwrap();
    let path = folder.path().join("cat.png");
    fs::write(&path, bytes).unwrap();
    let error = Image::open(&path).unwrap_err();
    assert!(error.to_string().starts_with(&path.display().to_string()), "{error}");
    error
}

#[test]
fn what_is_no_picture_is_called_what_it_is() {
    for (bytes, expected) in [
        (b"".as_slice(), "is empty, what a download or copy"),
        (&[0; 600], "is nothing but zeros where it begins"),
        (b"hello", "is no picture; a PNG, JPEG or WebP is needed"),
        (b"\x89PNG", "is no picture"),
        (b"GIF89a", "is a GIF; a PNG"),
        (b"BM\x36\0", "is a BMP"),
        (b"\0\0\0\x20ftypavif", "is an AVIF picture"),
        (b"\0\0\0\x20ftypavis", "is an AVIF picture"),
        (b"\0\0\0\x18ftypheic", "is a HEIC picture"),
        (b"\0\0\0\x18ftypmif1", "is a HEIF or AVIF picture"),
        (b"\0\0\0\x20ftypisom", "is a video"),
        (b"RIFF\0\0\0\0AVI LIST", "is an AVI video"),
        (b"II*\0\x08\0\0\0", "is a TIFF or a raw picture"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "is a JPEG XL"),
        (b"<?xml version=\"1.0\"?>\n<svg width=\"9\">", "is an SVG drawing"),
        (b"<!DOCTYPE html><html>", "is a web page; download the file itself"),
        (b"version https://git-lfs.github.com/spec/v1\nsize 7\n", "is a Git LFS pointer"),
    ] {
        let error = read_error(bytes);
        assert!(matches!(error, ImageError::UnknownKind { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{expected}: {error}");
    }
    let folder = tempfile::tempdir().unwrap();
    for (path, expected) in [
        (folder.path().join("missing.png"), "there is no such file"),
        (folder.path().to_path_buf(), "is not a file"),
    ] {
        let error = Image::open(path).unwrap_err();
        assert!(matches!(error, ImageError::File(_)), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}

/// Each file of the fixture, and of what Pillow wrote.
fn all_files() -> Vec<(String, Vec<u8>)> {
    let folders = [fixture("files"), pictures("")];
    let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
    let paths = entries.map(|entry| entry.unwrap().path());
    let paths = paths.filter(|path| path.extension().is_some_and(|ending| ending != "json"));
    paths.map(|path| (path.display().to_string(), fs::read(&path).unwrap())).collect()
}

#[test]
fn files_that_are_cut_off_are_never_pictures() {
    for (path, bytes) in all_files() {
        let step = bytes.len() / 40 + 1;
        let ends = (12..bytes.len()).step_by(step).chain([bytes.len() - 1]);
        for end in ends.chain(bytes.len().saturating_sub(9)..bytes.len()) {
            let error = Image::decode(&bytes[..end]).unwrap_err();
            assert!(matches!(error, ImageError::CutOff { .. }), "{path} at {end}: {error}");
            assert!(error.to_string().contains("is cut off: it"), "{error}");
        }
    }
}

#[test]
fn damaged_files_are_pictures_or_errors() {
    for (path, bytes) in all_files() {
        let step = bytes.len() / 60 + 1;
        for at in (12..bytes.len()).step_by(step) {
            for value in [0, 0x7F, 0xFF] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                match Image::decode(&damaged) {
                    Ok(image) => {
                        let pixels = image.width() as usize * image.height() as usize;
                        assert_eq!(image.rgb8().len(), 3 * pixels, "{path} at {at}");
                    }
                    Err(error) => assert!(error.to_string().starts_with("the picture in memory: ")),
                }
            }
        }
    }
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let mut bytes = (data.len() as u32).to_be_bytes().to_vec();
    let body = [kind, data].concat();
    let crc = body.iter().fold(!0_u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xEDB8_8320 * (crc & 1)))
    });
    bytes.extend(body);
    bytes.extend((!crc).to_be_bytes());
    bytes
}

/// A PNG of which there is nothing but what it claims.
fn png_of(width: u32, height: u32) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[16, 6, 0, 0, 0]].concat();
    let mut bytes = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in [(b"IHDR", header.as_slice()), (b"IDAT", &[]), (b"IEND", &[])] {
        bytes.extend(chunk(kind, data));
    }
    bytes
}

/// A JPEG of the fixture with another size in its header.
fn jpeg_of(width: u16, height: u16) -> Vec<u8> {
    let mut bytes = fs::read(fixture("files/gray.jpg")).unwrap();
    let at = bytes.windows(2).position(|marker| marker == [0xFF, 0xC0]).unwrap();
    bytes[at + 5..at + 7].copy_from_slice(&height.to_be_bytes());
    bytes[at + 7..at + 9].copy_from_slice(&width.to_be_bytes());
    bytes
}

/// A WebP with a canvas of its own size.
fn webp_of(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = fs::read(pictures("exif.webp")).unwrap();
    assert_eq!(&bytes[12..16], b"VP8X");
    bytes[24..27].copy_from_slice(&(width - 1).to_le_bytes()[..3]);
    bytes[27..30].copy_from_slice(&(height - 1).to_le_bytes()[..3]);
    bytes
}

#[test]
fn a_few_bytes_do_not_take_gigabytes() {
    for (bytes, size) in [
        (png_of(1 << 30, 1 << 30), "1073741824x1073741824"),
        (png_of(1 << 14, (1 << 13) + 1), "16384x8193"),
        (jpeg_of(65_535, 65_535), "65535x65535"),
        (webp_of(1 << 14, 1 << 14), "16384x16384"),
    ] {
        let error = read_error(&bytes);
        assert!(matches!(error, ImageError::TooLarge { limit: MAX_PIXELS, .. }), "{error}");
        assert!(error.to_string().contains(size), "{error}");
    }
    // Below the limit, the pixels are missed.
    for bytes in [png_of(8192, 8192), webp_of(8192, 8192)] {
        let error = read_error(&bytes);
        let known = matches!(error, ImageError::CutOff { .. } | ImageError::Broken { .. });
        assert!(known, "{error}");
    }
}

#[test]
fn sides_of_zero_are_refused() {
    for bytes in [png_of(0, 5), png_of(5, 0), jpeg_of(0, 5), jpeg_of(5, 0)] {
        let error = read_error(&bytes);
        let known = matches!(error, ImageError::Empty { .. } | ImageError::Broken { .. });
        assert!(known, "{error}");
    }
}

#[test]
fn kinds_of_jpeg_that_are_not_read_are_named() {
    let with_frame = |marker: u8, precision: u8| {
        let mut bytes = fs::read(fixture("files/gray.jpg")).unwrap();
        let at = bytes.windows(2).position(|marker| marker == [0xFF, 0xC0]).unwrap();
        bytes[at + 1] = marker;
        bytes[at + 4] = precision;
        bytes
    };
    for (bytes, expected) in [
        (with_frame(0xC9, 8), "coded as SOF9 (lossless, hierarchical or arithmetic)"),
        (with_frame(0xC3, 8), "coded as SOF3"),
        (with_frame(0xC0, 12), "12 bits"),
    ] {
        let error = read_error(&bytes);
        assert!(matches!(error, ImageError::Broken { kind: "JPEG", .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
}
