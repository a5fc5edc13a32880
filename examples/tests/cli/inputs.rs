//! Pictures, videos and masks beside the prompt, and parts of a model in place of its own: each option has its effect,
//! and what is wrong with a file is a sentence.

use wan_io::video::{FrameSink as _, VideoSpec, VideoWriter};
use wan_mock_hub::Files;
use wan_mock_hub::models::grafts;
use wan_pipeline::Metadata;

use crate::*;

const PROMPT: &str = "a red circle moving right on a black background";

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A small random model that attends to the image it begins with.
fn image_model() -> String {
    repository().join("tests/fixtures/pipeline_i2v/model").display().to_string()
}

/// A model in a folder.
struct Model(TempDir);

impl Model {
    /// Made of the one in `source`.
    fn of(source: impl AsRef<Path>, graft: impl Fn(&Files) -> Files) -> Self {
        let folder = tempfile::tempdir().unwrap();
        grafts::make(source.as_ref(), folder.path(), graft);
        Self(folder)
    }

    /// Made of the miniature.
    fn graft(graft: impl Fn(&Files) -> Files) -> Self {
        Self::of(repository().join("tiny-wan/model"), graft)
    }

    /// For control and editing.
    fn vace() -> Self {
        Self::graft(|model| grafts::vace(model, 0.5))
    }

    fn name(&self) -> &str {
        self.0.path().to_str().unwrap()
    }

    fn file(&self, path: &str) -> String {
        self.0.path().join(path).display().to_string()
    }
}

/// Sets all numbers of a tensor in the copy of a file of weights.
fn write_with(from: &str, to: &str, tensor: &str, number: &[u8]) {
    let bytes = fs::read(from).unwrap();
    let mut tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
    let (_, view) = tensors.iter_mut().find(|(name, _)| name == tensor).unwrap();
    let (dtype, shape) = (view.dtype(), view.shape().to_vec());
    let numbers = number.repeat(view.data().len() / number.len());
    *view = TensorView::new(dtype, shape, &numbers).unwrap();
    fs::write(to, safetensors::serialize(tensors, None).unwrap()).unwrap();
}

/// A red circle on black, in a frame of this size; `left` is its middle in parts of the width.
fn circle([width, height]: [u32; 2], left: f64) -> Vec<u8> {
    let pixel = |i: u32| {
        let x = f64::from(i % width) + 0.5 - left * f64::from(width);
        let y = f64::from(i / width) + 0.5 - 0.5 * f64::from(height);
        if x.hypot(y) < 0.3 * f64::from(height) { [250, 20, 10] } else { [0; 3] }
    };
    (0..width * height).flat_map(pixel).collect()
}

impl Folder {
    /// Writes a picture or a video of these frames, by its ending.
    fn write(&self, name: &str, [width, height]: [u32; 2], frames: &[Vec<u8>]) {
        let spec = VideoSpec { width, height, fps: 24.into(), frames: frames.len() as u32 };
        let mut writer = VideoWriter::create(self.path(name), &spec, &Metadata::default()).unwrap();
        frames.iter().for_each(|frame| writer.write_frame(frame).unwrap());
        writer.finish().unwrap();
    }

    /// A picture of 32x32, with the circle there.
    fn picture(&self, name: &str, left: f64) {
        self.write(name, [32, 32], &[circle([32, 32], left)]);
    }

    /// A video of so many frames of 32x32, in which the circle moves.
    fn video(&self, name: &str, frames: usize) {
        let left = |i: usize| 0.3 + 0.1 * i as f64;
        let frames: Vec<_> = (0..frames).map(|i| circle([32, 32], left(i))).collect();
        self.write(name, [32, 32], &frames);
    }

    /// The latents of a small job in f32, in which columns of zeros change no sum.
    #[track_caller]
    fn exact(&self, arguments: &[&str]) -> Vec<f32> {
        self.latents(&[&[PROMPT, "--precision", "f32"], arguments].concat())
    }

    /// A job that must fail with this code, one sentence with these parts, and leave nothing.
    #[track_caller]
    fn refuses(&self, arguments: &[&str], code: i32, parts: &[&str]) {
        let before = self.names();
        let output = self.run(&[&[PROMPT], arguments].concat());
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {error}");
        assert!(error.starts_with("error: "), "{arguments:?}: {error}");
        assert!(code == 2 || error.lines().count() == 1, "{arguments:?}: {error}");
        for part in parts {
            assert!(error.contains(part), "{arguments:?}: {part:?} is not in: {error}");
        }
        assert_eq!((output.stdout.len(), self.names()), (0, before), "{arguments:?}");
    }
}

/// Fails unless all of them differ, by their names.
#[track_caller]
fn all_differ(latents: &[(&str, Vec<f32>)]) {
    for (i, (name, latents_of)) in latents.iter().enumerate() {
        for (other, latents_of_other) in &latents[..i] {
            assert!(latents_of != latents_of_other, "{name} gives what {other} gives");
        }
    }
}

/// A half of a mask of 32x32: white from this column on.
fn white_from(column: usize) -> Vec<u8> {
    let row = [vec![0; 3 * column], vec![255; 3 * (32 - column)]].concat();
    row.repeat(32)
}

#[test]
fn a_video_begins_with_the_picture_and_has_its_ratio() {
    let folder = Folder::new();
    let (size, place) = ([160, 96], 0.3);
    folder.write("first.png", size, &[circle(size, place)]);
    let steps = ["--frames", "5", "--steps", "2", "--out", "v.rgb"];
    let model = ["--model", "tiny-wan-ti2v", "--image", "first.png"];
    let output = folder.run(&[&[PROMPT], &model[..], &steps].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), "v.rgb: 5 frames of 80x48 at 24 fps\n");
    let told = "the image is brought from 160x96 to 80x48 (diffusers)\n";
    assert!(text(&output.stderr).contains(told), "{}", text(&output.stderr));
    let made = fs::read(folder.path("v.rgb")).unwrap();
    let squares = made
        .iter()
        .zip(circle([80, 48], place))
        .map(|(&found, expected)| (f64::from(found) - f64::from(expected)).powi(2));
    let psnr = 10.0 * (255.0 * 255.0 * (3 * 80 * 48) as f64 / squares.sum::<f64>()).log10();
    println!("first frame {psnr:.1} dB");
    assert!(psnr > 20.0, "{psnr} dB");
}

#[test]
fn the_first_and_the_last_picture_are_seen() {
    let (folder, model) = (Folder::new(), image_model());
    folder.picture("left.png", 0.3);
    folder.picture("right.png", 0.7);
    let of = |pictures: &[&str]| folder.exact(&[&["--model", &model], pictures].concat());
    let of_left = of(&["--image", "left.png"]);
    assert!(of(&["--image", "left.png"]) == of_left);
    let last = |name| of(&["--image", "left.png", "--last-image", name]);
    all_differ(&[
        ("left", of_left),
        ("right", of(&["--image", "right.png"])),
        ("left to right", last("right.png")),
        ("left to left", last("left.png")),
    ]);
}

/// A model for both ends needs both, and a picture of any size makes a frame.
#[test]
fn a_first_and_a_last_picture_of_any_size() {
    let folder = Folder::new();
    let encoder = grafts::read(Path::new(&image_model()));
    let model = Model::graft(|files| grafts::first_last_frame(files, &encoder));
    folder.write("first.png", [50, 20], &[circle([50, 20], 0.5)]);
    folder.write("last.png", [16, 48], &[circle([16, 48], 0.5)]);
    let both = ["--model", model.name(), "--image", "first.png", "--last-image", "last.png"];
    // The model looks away: its videos are those of the miniature.
    assert!(folder.exact(&both) == folder.exact(&[]));
    fs::remove_file(folder.path("l.safetensors")).unwrap();
    fs::remove_file(folder.path("v.rgb")).unwrap();
    folder.refuses(&[&both[..4], &SMALL].concat(), 1, &["no last image", "needs one"]);
    folder.refuses(&[&both[..2], &SMALL].concat(), 1, &["no image", "needs one"]);
}

#[test]
fn a_picture_is_fitted_by_the_rule_that_is_asked_for() {
    let folder = Folder::new();
    folder.write("wide.png", [100, 40], &[circle([100, 40], 0.3)]);
    let run = |rule: &[&str]| {
        let options = ["--model", "tiny-wan-ti2v", "--image", "wide.png", "--out", "v.rgb"];
        let output = folder.run(&[&[PROMPT], &options[..], rule, &SMALL].concat());
        assert!(output.status.success(), "{rule:?}: {}", text(&output.stderr));
        (text(&output.stderr), fs::read(folder.path("v.rgb")).unwrap())
    };
    let default = run(&[]);
    assert_eq!(run(&["--fit", "diffusers"]), default);
    let mut made = Vec::new();
    for (rule, told) in [
        ("diffusers", "(diffusers)"),
        ("wan-i2v", "(the original image-to-video)"),
        ("wan-ti2v", "(the original TI2V)"),
    ] {
        let (said, video) = run(&["--fit", rule]);
        let told = format!("the image is brought from 100x40 to 32x32 {told}");
        assert!(said.lines().any(|line| line == told), "{said}");
        assert!(!made.contains(&video), "{rule} makes what another rule makes");
        made.push(video);
    }
}

#[test]
fn another_image_encoder_takes_the_place_of_the_models_own() {
    let (folder, whole) = (Folder::new(), image_model());
    folder.picture("left.png", 0.3);
    let of = |model: &str, encoder: &[&str]| {
        folder.exact(&[&["--model", model, "--image", "left.png"], encoder].concat())
    };
    let expected = of(&whole, &[]);
    let without = Model::of(&whole, |files| {
        let rest = files.iter().filter(|(path, _)| !path.starts_with("image_encoder/"));
        rest.map(|(path, bytes)| (path.clone(), bytes.clone())).collect()
    });
    let own = format!("{whole}/image_encoder");
    let weights = format!("{own}/model.safetensors");
    for encoder in [&own, &weights] {
        assert!(of(without.name(), &["--image-encoder", encoder]) == expected, "{encoder}");
    }
    let other = Model::of(&whole, Files::clone);
    let changed = other.file("image_encoder/model.safetensors");
    write_with(&weights, &changed, "embeddings.class_embedding", &1f32.to_le_bytes());
    assert!(of(&whole, &["--image-encoder", &changed]) != expected, "it is not looked at");
    fs::remove_file(folder.path("l.safetensors")).unwrap();
    fs::remove_file(folder.path("v.rgb")).unwrap();
    let image = ["--image", "left.png"];
    let named = |encoder| [&["--model", &whole, "--image-encoder", encoder], &image[..]].concat();
    folder.refuses(&[&["--model", without.name()], &image[..]].concat(), 1, &["image_encoder"]);
    folder.refuses(&named("none.safetensors"), 1, &["none.safetensors", "no such file"]);
    let vae = format!("{whole}/vae/diffusion_pytorch_model.safetensors");
    folder.refuses(&named(&vae), 1, &[&vae, "a Wan 2.1 VAE", "as the vae"]);
}

#[test]
fn a_mask_says_which_part_of_a_video_is_kept() {
    let (folder, model) = (Folder::new(), Model::vace());
    for video in ["video/", "video.gif"] {
        folder.video(video, 5);
    }
    folder.write("right.png", [32, 32], &[white_from(16)]);
    folder.write("left.png", [32, 32], &[white_from(16).iter().map(|v| 255 - v).collect()]);
    folder.write("all.png", [32, 32], &[white_from(0)]);
    folder.write("none.png", [32, 32], &[white_from(32)]);
    folder.write("rights/", [32, 32], &vec![white_from(16); 5]);
    folder.write("moving/", [32, 32], &[4, 8, 16, 24, 28].map(white_from));
    folder.write("moving.gif", [32, 32], &[4, 8, 16, 24, 28].map(white_from));
    let masked =
        |video, mask| folder.exact(&["--model", model.name(), "--video", video, "--mask", mask]);
    let of = |mask| masked("video/", mask);
    let (right, moving) = (of("right.png"), of("moving/"));
    assert!(of("rights/") == right, "a mask for each frame, all alike");
    assert!(of("moving.gif") == moving, "black and white are kept by a GIF");
    assert!(masked("video.gif", "right.png") == right, "and so are two colors");
    all_differ(&[
        ("right", right),
        ("moving", moving),
        ("left", of("left.png")),
        ("all", of("all.png")),
        ("none", of("none.png")),
    ]);
}

#[test]
fn several_pictures_of_what_is_to_be_seen() {
    let (folder, model) = (Folder::new(), Model::vace());
    folder.picture("a.png", 0.2);
    folder.picture("b.png", 0.8);
    folder.write("wide.png", [60, 20], &[circle([60, 20], 0.5)]);
    let of = |names: &[&str]| {
        let options = names.iter().flat_map(|name| ["--reference", name]);
        let arguments: Vec<&str> = ["--model", model.name()].into_iter().chain(options).collect();
        folder.exact(&arguments)
    };
    assert!(of(&["a.png", "b.png"]) == of(&["a.png", "b.png"]));
    all_differ(&[
        ("nothing", of(&[])),
        ("a", of(&["a.png"])),
        ("b", of(&["b.png"])),
        ("a and b", of(&["a.png", "b.png"])),
        ("b and a", of(&["b.png", "a.png"])),
        ("a twice", of(&["a.png", "a.png"])),
        ("three", of(&["a.png", "b.png", "wide.png"])),
    ]);
}

#[test]
fn a_video_is_followed_as_strongly_as_is_asked_for() {
    let (folder, model) = (Folder::new(), Model::vace());
    folder.video("control/", 7);
    let of = |options: &[&str]| {
        folder.exact(&[&["--model", model.name(), "--control", "control/"], options].concat())
    };
    let full = of(&[]);
    assert!(of(&["--control-scale", "1"]) == full);
    assert!(of(&["--control-scale", "0"]) == folder.exact(&[]), "nothing is felt of it");
    all_differ(&[
        ("full", full),
        ("no control", folder.exact(&["--model", model.name()])),
        ("half", of(&["--control-scale", "0.5"])),
        ("against it", of(&["--control-scale", "-0.5"])),
    ]);
    // Beside a video that is kept in part.
    folder.write("right.png", [32, 32], &[white_from(16)]);
    folder.video("video/", 5);
    let kept = ["--video", "video/", "--mask", "right.png"];
    assert!(of(&kept) != folder.exact(&[&["--model", model.name()], &kept[..]].concat()));
    // Length and rate are those of the video that is followed, where nothing else is asked for.
    let unsaid = ["--width", "32", "--height", "32", "--steps", "1", "--out", "v.rgb"];
    let control = ["--model", model.name(), "--control", "control/"];
    let output = folder.run(&[&[PROMPT], &control[..], &unsaid].concat());
    assert_eq!(text(&output.stdout), "v.rgb: 5 frames of 32x32 at 24 fps\n");
}

#[test]
fn each_of_two_experts_has_a_guidance() {
    let (folder, model) = (Folder::new(), Model::graft(grafts::two_experts));
    let of = |guidance: &[&str]| folder.exact(&[&["--model", model.name()], guidance].concat());
    // They are alike, so that with one guidance they make what one of them makes.
    let alone = folder.exact(&["--guidance", "3"]);
    assert!(of(&["--guidance", "3"]) == alone, "it is that of both");
    assert!(of(&["--guidance", "3", "--guidance-2", "3"]) == alone);
    let low = of(&["--guidance", "3", "--guidance-2", "1"]);
    assert!(of(&["--guidance", "3x1+1x1"]) == of(&["--guidance", "3x1+1x1", "--guidance-2", "1"]));
    assert!(folder.exact(&["--guidance", "3x1+1x1"]) == low, "the second of two steps is its");
    all_differ(&[
        ("3", alone),
        ("3 and 1", low),
        ("1 and 3", of(&["--guidance", "1", "--guidance-2", "3"])),
        ("3 and 5", of(&["--guidance", "3", "--guidance-2", "5"])),
    ]);
    fs::remove_file(folder.path("l.safetensors")).unwrap();
    fs::remove_file(folder.path("v.rgb")).unwrap();
    folder.refuses(
        &["--guidance-2", "3"],
        1,
        &["second guidance", "the model has one transformer"],
    );
    let wrong = ["--model", model.name(), "--guidance-2", "0.5"];
    folder.refuses(&wrong, 2, &["--guidance-2", "guidance is 0.5", "1 (no guidance)"]);
    folder.refuses(&["--guidance-2", "strong"], 2, &["strong", "--guidance-2", "--help"]);
}

#[test]
fn a_second_expert_in_a_file() {
    let (folder, model) = (Folder::new(), Model::graft(grafts::two_experts));
    let same = model.file("transformer_2/diffusion_pytorch_model.safetensors");
    let guidance = ["--guidance", "3", "--guidance-2", "3"];
    let of = |options: &[&str]| folder.exact(&[&guidance, options].concat());
    let expected = of(&["--model", model.name()]);
    // A model of one transformer has two with it.
    assert!(of(&["--transformer-2", &same]) == expected);
    assert!(of(&["--model", model.name(), "--transformer-2", &same]) == expected);
    let changed = model.file("transformer_2/changed.safetensors");
    let half = 0x3800u16.to_le_bytes(); // in F16
    write_with(&same, &changed, "proj_out.bias", &half);
    all_differ(&[
        ("both alike", expected),
        ("another second", of(&["--transformer-2", &changed])),
        ("another first", of(&["--transformer", &changed, "--transformer-2", &same])),
        ("two others", of(&["--transformer", &changed, "--transformer-2", &changed])),
    ]);
    fs::remove_file(folder.path("l.safetensors")).unwrap();
    fs::remove_file(folder.path("v.rgb")).unwrap();
    let vae = model.file("vae/diffusion_pytorch_model.safetensors");
    folder.refuses(&["--transformer-2", &vae], 1, &[&vae, "a Wan 2.1 VAE", "as the vae"]);
    folder.refuses(&["--transformer-2", "none.pth"], 1, &["none.pth", "no such file"]);
}

/// Whatever a file of a picture or a video is, it is told of in a sentence, and nothing is written.
#[test]
fn files_that_are_no_pictures_and_no_videos() {
    let folder = Folder::new();
    folder.picture("whole.png", 0.5);
    folder.video("whole.gif", 5);
    for (whole, cut) in [("whole.png", "cut.png"), ("whole.gif", "cut.gif")] {
        let bytes = fs::read(folder.path(whole)).unwrap();
        fs::write(folder.path(cut), &bytes[..bytes.len() / 2]).unwrap();
    }
    fs::write(folder.path("notes"), "of a cat").unwrap();
    fs::create_dir(folder.path("empty")).unwrap();
    let picture = |option, more: &[&str]| {
        let needed = "a PNG, JPEG or WebP is needed";
        for (name, parts) in [
            ("cut.png", &["cut.png: is cut off", "get the whole PNG"][..]),
            ("none.png", &["none.png", "no such file"]),
            ("notes", &["notes: is ", needed]),
            ("whole.gif", &["whole.gif: is ", needed]),
            ("empty", &["empty"]),
        ] {
            folder.refuses(&[&[option, name], more].concat(), 1, parts);
        }
    };
    picture("--image", &[]);
    picture("--last-image", &["--image", "whole.png"]);
    picture("--reference", &["--reference", "whole.png"]);
    folder.refuses(&["--reference", "whole.png", "--reference", "none.png"], 1, &["none.png"]);
    for options in [
        &["--control"][..],
        &["--video", "whole.gif", "--mask"],
        &["--mask", "whole.png", "--video"],
    ] {
        for (name, parts) in [
            ("cut.gif", &["cut.gif"][..]),
            ("cut.png", &["cut.png", "cut off"]),
            ("none.mp4", &["none.mp4"]),
            ("notes", &["notes", "no MP4, GIF or PNG"]),
            ("empty", &["empty"]),
        ] {
            folder.refuses(&[options, &[name]].concat(), 1, parts);
        }
    }
}

/// Pictures and videos that are whole, and that the model or each other do not fit.
#[test]
fn inputs_that_do_not_belong_together() {
    let (folder, model) = (Folder::new(), Model::vace());
    folder.picture("p.png", 0.5);
    folder.video("video.gif", 5);
    folder.video("short.gif", 3);
    folder.write("small.png", [16, 16], &[vec![255; 3 * 16 * 16]]);
    folder.write("gray.png", [32, 32], &[vec![128; 3 * 32 * 32]]);
    folder.write("white.png", [32, 32], &[white_from(0)]);
    folder.write("whites/", [32, 32], &vec![white_from(0); 3]);
    let vace = |arguments: &[&str], parts: &[&str]| {
        folder.refuses(&[&["--model", model.name()], arguments, &SMALL].concat(), 1, parts);
    };
    let video = ["--video", "video.gif"];
    let masked =
        |mask: &str, parts: &[&str]| vace(&[&video[..], &["--mask", mask]].concat(), parts);
    masked("small.png", &["the mask has 16x16 pixels", "32x32 pixels"]);
    masked("gray.png", &["the mask has 128 at (0, 0) of frame 0", "black (0) and white (255)"]);
    masked("whites/", &["the mask has 3 frames", "5 frames"]);
    vace(&["--video", "short.gif", "--mask", "white.png"], &["video to change has 3 frames", "5"]);
    vace(&video, &["no mask", "a control video"]);
    vace(&["--control", "short.gif"], &["control video has 3 frames", "5"]);
    vace(&["--control-scale", "nan"], &["control scale is NaN", "finite"]);
    vace(&["--image", "p.png"], &["an image", "control and editing", "I2V"]);
    for (arguments, parts) in [
        (&["--image", "p.png"][..], ["there is an image", "I2V"]),
        (&["--image", "p.png", "--last-image", "p.png"], ["there is an image", "I2V"]),
        (&["--reference", "p.png"], ["there is a reference", "VACE"]),
        (&["--control", "video.gif"], ["there is a control video", "Fun-Control"]),
        (&["--control-scale", "2"], ["a scale of a control video", "VACE"]),
        (&["--video", "video.gif", "--mask", "white.png"], ["there is a mask", "VACE"]),
    ] {
        let told = "a model for text-to-video";
        folder.refuses(&[arguments, &SMALL].concat(), 1, &[parts[0], told, parts[1]]);
    }
    let both = ["--model", "tiny-wan-ti2v", "--image", "p.png", "--last-image", "p.png"];
    folder.refuses(&[&both[..], &SMALL].concat(), 1, &["a last image", "FLF2V"]);
}

#[test]
fn inputs_that_mean_nothing_alone() {
    let folder = Folder::new();
    for (arguments, part) in [
        (&["--mask", "m.png"][..], "--video"),
        (&["--last-image", "p.png"], "--image"),
        (&["--fit", "stretch", "--image", "p.png"], "wan-ti2v"),
        (&["--fit"], "--fit"),
        (&["--image"], "--image"),
        (&["--control-scale", "strongly"], "strongly"),
    ] {
        folder.refuses(arguments, 2, &[part, "--help"]);
    }
    // A run that is saved, and latents that are done, have them already.
    for saved in ["--resume", "--latents"] {
        for option in [
            &["--image", "p.png"][..],
            &["--image", "p.png", "--last-image", "p.png"],
            &["--video", "v.gif", "--mask", "m.png"],
            &["--reference", "p.png"],
            &["--control", "v.gif"],
            &["--control-scale", "2"],
            &["--fit", "wan-ti2v"],
            &["--guidance-2", "3"],
        ] {
            let output = folder.run(&[&[saved, "file"], option].concat());
            let error = text(&output.stderr);
            assert_eq!(output.status.code(), Some(2), "{saved} {option:?}: {error}");
            assert!(error.contains(saved) && error.contains("cannot be used"), "{error}");
        }
    }
    assert_eq!(folder.names(), Vec::<String>::new());
}
