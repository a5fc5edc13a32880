//! Runs the example `text_to_video` as a user does, each time in a folder of its own.

mod arguments;
mod control;
mod disks;
#[cfg(unix)]
mod endings;
mod hub;
mod inputs;
mod lines;
mod memory;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use tempfile::TempDir;
use wan_io::video::{read_mp4, read_png_folder};
use wan_pipeline::read_metadata;

/// The smallest job that moves: 5 frames of 32x32.
const SMALL: [&str; 8] = ["--frames", "5", "--width", "32", "--height", "32", "--steps", "2"];

/// The example, which cargo builds with the tests of this package.
fn program() -> PathBuf {
    let mut path = std::env::current_exe().unwrap();
    path.pop(); // the name of this test
    path.pop(); // deps
    path.push("examples");
    path.push(format!("text_to_video{}", std::env::consts::EXE_SUFFIX));
    assert!(path.is_file(), "{path:?} is not built: run `cargo test -p wan-examples`");
    path
}

/// An empty working directory.
struct Folder(TempDir);

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path()).unwrap();
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name();
        let mut names: Vec<_> = entries.map(|e| name(e).to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    /// Runs it on the CPU unless `arguments` name another backend, so that the result is that of any
    /// machine.
    fn run(&self, arguments: &[impl AsRef<OsStr>]) -> Output {
        self.command(arguments).output().unwrap()
    }

    fn command(&self, arguments: &[impl AsRef<OsStr>]) -> Command {
        let mut command = Command::new(program());
        command.current_dir(self.0.path()).args(arguments);
        if !arguments.iter().any(|argument| argument.as_ref() == "--backend") {
            command.args(["--backend", "flex"]);
        }
        command
    }

    /// Runs a small job that must go well; gives stdout.
    #[track_caller]
    fn make(&self, arguments: &[&str]) -> String {
        let all = [arguments, &SMALL].concat();
        let output = self.run(&all);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{arguments:?}: {err}");
        out
    }

    /// The latents of a small job with these arguments.
    #[track_caller]
    fn latents(&self, arguments: &[&str]) -> Vec<f32> {
        let options = ["--out", "v.rgb", "--save-latents", "l.safetensors"];
        self.make(&[arguments, &options].concat());
        let bytes = fs::read(self.path("l.safetensors")).unwrap();
        let file = SafeTensors::deserialize(&bytes).unwrap();
        assert_eq!(file.names(), ["latents"]);
        let latents = file.tensor("latents").unwrap();
        assert_eq!((latents.dtype(), latents.shape()), (Dtype::F32, &[1, 16, 2, 4, 4][..]));
        let values = latents.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
        values.collect()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn writes_a_video_and_says_where() {
    let folder = Folder::new();
    let out = folder.make(&["a red circle moving right on a black background"]);
    assert_eq!(out, "video.mp4: 5 frames of 32x32 at 24 fps\n");
    assert_eq!(folder.names(), ["video.mp4"]);
    let spec = read_mp4(&folder.path("video.mp4")).unwrap().spec;
    assert_eq!((spec.width, spec.height, spec.fps, spec.frames), (32, 32, 24.into(), 5));
}

#[test]
fn the_ending_decides_the_kind() {
    let folder = Folder::new();
    for out in ["x.gif", "x.rgb", "frames/", "X.MP4"] {
        let said = folder.make(&["a red circle", "--out", out, "--fps", "10"]);
        assert_eq!(said, format!("{out}: 5 frames of 32x32 at 10 fps\n"));
    }
    assert_eq!(folder.names(), ["X.MP4", "frames", "x.gif", "x.rgb"]);
    assert!(fs::read(folder.path("x.gif")).unwrap().starts_with(b"GIF89a"));
    let raw = fs::read(folder.path("x.rgb")).unwrap();
    assert_eq!(raw.len(), 5 * 32 * 32 * 3);
    let png = read_png_folder(&folder.path("frames")).unwrap();
    assert_eq!(png.frames.concat(), raw, "PNG frames lose nothing");
    assert_eq!(read_mp4(&folder.path("X.MP4")).unwrap().frames.len(), 5);
}

#[test]
fn rates_may_be_fractions() {
    let folder = Folder::new();
    for (given, shown) in
        [("23.976", "23.976"), ("30000/1001", "29.97"), ("16.0", "16"), ("12.5", "12.5")]
    {
        for out in ["x.mp4", "x.gif"] {
            let said = folder.make(&["a red circle", "--out", out, "--fps", given]);
            assert_eq!(said, format!("{out}: 5 frames of 32x32 at {shown} fps\n"));
            let stored = read_metadata(&folder.path(out)).unwrap().unwrap();
            assert_eq!(stored.fps, Some(given.parse().unwrap()));
        }
        assert_eq!(read_mp4(&folder.path("x.mp4")).unwrap().spec.fps.to_string(), shown);
    }
}

#[test]
fn a_file_that_is_there_is_replaced() {
    let folder = Folder::new();
    fs::write(folder.path("video.mp4"), "old").unwrap();
    folder.make(&["a red circle"]);
    assert_eq!(folder.names(), ["video.mp4"]);
    assert!(read_mp4(&folder.path("video.mp4")).is_ok());
}

#[test]
fn how_it_was_made_can_be_read_back() {
    let folder = Folder::new();
    let prompt = "一个红色的圆形在黑色背景上向右移动 \"🐈\"\\";
    for out in ["video.mp4", "video.gif", "frames/"] {
        folder.make(&[
            prompt,
            "--out",
            out,
            "--negative",
            "静止",
            "--seed",
            "18446744073709551615",
            "--guidance",
            "2.5",
            "--shift",
            "4",
            "--fps",
            "12",
            "--scheduler",
            "euler",
            "--sigma-grid",
            "diffusers",
        ]);
        let stored = read_metadata(&folder.path(out)).unwrap().expect("metadata");
        assert_eq!(stored.prompt, prompt);
        assert_eq!(stored.negative_prompt.as_deref(), Some("静止"));
        assert_eq!(stored.seed, Some(u64::MAX));
        assert_eq!(stored.num_inference_steps, Some(2));
        assert_eq!((stored.guidance_scale, stored.flow_shift), (Some(2.5), Some(4.0)));
        assert_eq!((stored.width, stored.height), (Some(32), Some(32)));
        assert_eq!((stored.num_frames, stored.fps), (Some(5), Some(12.into())));
        assert_eq!(stored.model.as_deref(), Some("tiny-wan"));
        assert_eq!(stored.scheduler.as_deref(), Some("euler"));
        assert_eq!(stored.sigma_grid.as_deref(), Some("diffusers"));
    }
}

#[test]
fn the_seed_decides_the_latents() {
    let folder = Folder::new();
    let of_seed = |seed| folder.latents(&["a red circle moving right", "--seed", seed]);
    let latents = of_seed("42");
    assert!(latents.iter().all(|value| value.is_finite()));
    assert_eq!(folder.names(), ["l.safetensors", "v.rgb"]);
    assert_eq!(of_seed("42"), latents);
    assert_eq!(folder.latents(&["a red circle moving right"]), latents, "42 is the default");
    assert_ne!(of_seed("43"), latents);
}

#[test]
fn options_change_the_result() {
    let folder = Folder::new();
    let prompt = "a red circle moving right";
    let latents = folder.latents(&[prompt]);
    let same = |arguments: &[&str]| folder.latents(arguments) == latents;
    assert!(same(&[prompt, "--fps", "8"]));
    assert!(same(&[prompt, "--scheduler", "unipc", "--sigma-grid", "wan", "--backend", "flex"]));
    assert!(same(&[prompt, "--guidance", "3", "--shift", "3", "--negative", ""]));
    assert!(!same(&["一个绿色的三角形变大"]));
    for option in [
        ["--scheduler", "euler"],
        ["--sigma-grid", "diffusers"],
        ["--guidance", "4"],
        ["--guidance", "1"],
        ["--shift", "8"],
        ["--negative", "a blue square"],
    ] {
        assert!(!same(&[prompt, option[0], option[1]]), "{option:?}");
    }
}

/// Without guidance, there is nothing that a negative prompt could do.
#[test]
fn guidance_1_has_no_negative_pass() {
    let folder = Folder::new();
    let latents = folder.latents(&["a red circle", "--guidance", "1"]);
    let negative = ["a red circle", "--guidance", "1", "--negative", "a blue square"];
    assert_eq!(folder.latents(&negative), latents);
}

#[cfg(feature = "ndarray")]
#[test]
fn backends_agree() {
    let folder = Folder::new();
    let of = |backend| {
        folder.latents(&["a red circle moving right", "--precision", "f32", "--backend", backend])
    };
    let (flex, ndarray) = (of("flex"), of("ndarray"));
    let difference = flex.iter().zip(&ndarray).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    println!("largest difference {difference:.1e}, allowed 1e-3");
    assert!(difference < 1e-3);
}

#[test]
fn auto_takes_a_backend_and_says_why() {
    let folder = Folder::new();
    let output = folder.run(&[&["a red circle", "--backend", "auto"], &SMALL[..]].concat());
    let err = text(&output.stderr);
    assert!(output.status.success(), "{err}");
    let reason = err.lines().find_map(|line| line.strip_prefix("backend: ")).expect("a reason");
    assert!(["cuda: ", "wgpu: ", "flex: "].iter().any(|name| reason.starts_with(name)), "{reason}");
}

/// The same bits, whatever the number of threads and however often.
#[test]
fn the_number_of_threads_changes_nothing() {
    let folder = Folder::new();
    let mut made = Vec::new();
    for threads in ["1", "2", "3", "8", "8"] {
        let name = format!("{}.rgb", made.len());
        let arguments = ["a red circle moving right", "--out", &name, "--save-latents", "latents"];
        let size = ["--frames", "9", "--width", "48", "--height", "32", "--steps", "3"];
        let mut command = folder.command(&[&arguments[..], &size].concat());
        let output = command.env("RAYON_NUM_THREADS", threads).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        made.push(["latents", &name].map(|name| fs::read(folder.path(name)).unwrap()));
    }
    assert!(made.iter().all(|files| *files == made[0]), "they differ");
}

/// Whether there is a device for wgpu, as there must be where `WAN_REQUIRE_WGPU` says so.
#[cfg(feature = "wgpu")]
fn has_wgpu() -> bool {
    let mut backends = wan_pipeline::backends().into_iter();
    let wgpu =
        backends.find(|backend| backend.choice == wan_pipeline::BackendChoice::Wgpu).unwrap();
    if let Err(error) = &wgpu.devices {
        assert!(std::env::var_os("WAN_REQUIRE_WGPU").is_none(), "{error}");
        println!("skipped: {error}");
    }
    wgpu.devices.is_ok()
}

/// On one device of a GPU backend too, once it has been tuned.
#[cfg(feature = "wgpu")]
#[test]
fn wgpu_repeats_itself() {
    if !has_wgpu() {
        return;
    }
    let folder = Folder::new();
    let of = || folder.latents(&["a red circle moving right", "--backend", "wgpu"]);
    let (first, second) = (of(), of());
    assert!(first.iter().zip(&second).all(|(a, b)| a.to_bits() == b.to_bits()), "they differ");
}

/// A precision that a backend has not is an error that says which it has.
#[cfg(feature = "ndarray")]
#[test]
fn a_precision_that_is_not_there() {
    let folder = Folder::new();
    let arguments = ["a red circle", "--backend", "ndarray", "--precision", "bf16"];
    let output = folder.run(&[&arguments[..], &SMALL].concat());
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert_eq!(err, "error: ndarray cannot compute in bf16 on this device, only in f32\n");
}

#[test]
fn a_long_prompt_is_cut_with_a_warning() {
    let folder = Folder::new();
    let prompt = "a red circle moving right ".repeat(200);
    let output = folder.run(&[&[prompt.as_str()], &SMALL[..]].concat());
    assert!(output.status.success());
    let warning = text(&output.stderr);
    assert!(
        warning.starts_with("warning: the prompt is too long: the first 512 tokens"),
        "{warning}"
    );
    assert_eq!(text(&output.stdout).lines().count(), 1);
}

#[test]
fn any_prompt_works() {
    let folder = Folder::new();
    for prompt in ["", " ", "🐈‍⬛", "\u{1b}[31m\u{7}", "\u{202e}دائرة حمراء", "a\nb\tc"]
    {
        folder.make(&[prompt]);
        let stored = read_metadata(&folder.path("video.mp4")).unwrap().unwrap();
        assert_eq!(stored.prompt, prompt);
    }
}

#[test]
fn help_explains_every_option_with_its_default() {
    let output = Folder::new().run(&["--help"]);
    assert!(output.status.success());
    let help = text(&output.stdout);
    let mut sections = BTreeMap::new();
    for section in help.split("\n      --").skip(1) {
        let name = section.split([' ', '\n']).next().unwrap();
        sections.insert(name, section);
    }
    for (option, default) in [
        ("out", "video.mp4"),
        ("model", "tiny-wan"),
        ("revision", "main"),
        ("verify", "once"),
        ("negative", "the model's"),
        ("steps", "tiny-wan 20"),
        ("guidance", "tiny-wan 3"),
        ("shift", "tiny-wan 3"),
        ("seed", "42"),
        ("frames", "tiny-wan 97"),
        ("width", "tiny-wan 64"),
        ("height", "tiny-wan 64"),
        ("fps", "tiny-wan 24"),
        ("scheduler", "unipc"),
        ("sigma-grid", "wan"),
        ("guidance-2", "that of --guidance"),
        ("strength", "0.8"),
        ("fit", "diffusers"),
        ("control-scale", "1"),
        ("backend", "auto"),
        ("device", "0"),
        ("precision", "auto"),
    ] {
        let section = sections.get(option).unwrap_or_else(|| panic!("--{option} is not in {help}"));
        let section = section.split_whitespace().collect::<Vec<_>>().join(" ");
        let told = section.split_once("[default: ").map(|(_, told)| told);
        assert!(told.is_some_and(|told| told.contains(default)), "{section}");
    }
    // What is none unless it is given says what it is.
    for (option, what) in [
        ("image", "First frame"),
        ("last-image", "Last frame"),
        ("video", "Video to start from"),
        ("mask", "The parts of --video that are made anew"),
        ("reference", "may be given several times"),
        ("control", "Video whose structure is followed"),
        ("transformer-2", "the second of two experts"),
        ("image-encoder", "a CLIP"),
    ] {
        let section = sections.get(option).unwrap_or_else(|| panic!("--{option} is not in {help}"));
        let section = section.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(section.contains(what), "{section}");
    }
    for choice in [".mp4", ".gif", "folder of PNG", "diffusers", "euler", "--save-latents"] {
        assert!(help.contains(choice), "{choice}");
    }
}

#[test]
fn wrong_usage_exits_with_2() {
    let folder = Folder::new();
    for arguments in [
        &[][..],
        &["--steps", "5"],
        &["a", "--stepz", "5"],
        &["a", "-x"],
        &["a", "--steps"],
        &["a", "--steps", "abc"],
        &["a", "--steps", "1.5"],
        &["a", "--steps", "-5"],
        &["a", "--frames", "99999999999999999999999"],
        &["a", "--seed", "-2"],
        &["a", "--seed", "18446744073709551616"],
        &["a", "--seed", "any"],
        &["a", "--guidance", "strong"],
        &["a", "--guidance", "NaN"],
        &["a", "--guidance", "inf"],
        &["a", "--guidance", "0"],
        &["a", "--guidance", "-1"],
        &["a", "--guidance", "6x0"],
        &["a", "--guidance", "6x2+"],
        &["a", "--guidance", "linear:7"],
        &["a", "--guidance", "5,"],
        &["a", "--fps", "4294967296"],
        &["a", "--fps", "24,5"],
        &["a", "--fps", "24000/0"],
        &["a", "--scheduler", "heun"],
        &["a", "--sigma-grid", "karras"],
        &["a", "--verify", "sometimes"],
        &["a", "--backend", "tpu"],
        &["a", "--out", ""],
    ] {
        let output = folder.run(arguments);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {err}");
        assert!(err.starts_with("error: ") && err.contains("--help"), "{arguments:?}: {err}");
        assert_eq!((output.stdout.len(), folder.names()), (0, vec![]), "{arguments:?}");
    }
}

/// A model that loads, but whose first denoising step fails with an error of its own.
fn model_that_cannot_denoise() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tiny-wan/model");
    for part in ["", "scheduler", "text_encoder", "tokenizer", "transformer", "vae"] {
        fs::create_dir_all(folder.path().join(part)).unwrap();
        for entry in fs::read_dir(original.join(part)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), folder.path().join(part).join(entry.file_name())).unwrap();
            }
        }
    }
    let weights = folder.path().join("transformer/diffusion_pytorch_model.safetensors");
    let bytes = fs::read(&weights).unwrap();
    let mut tensors = SafeTensors::deserialize(&bytes).unwrap().tensors();
    let nan = 0x7e00u16.to_le_bytes().repeat(64);
    let bias = tensors.iter_mut().find(|(name, _)| name == "proj_out.bias").unwrap();
    bias.1 = TensorView::new(Dtype::F16, vec![64], &nan).unwrap();
    fs::write(weights, safetensors::serialize(tensors, None).unwrap()).unwrap();
    folder
}

/// A bad value of each option is an error of its own, one sentence, found before denoising: with this
/// model, a step would give another one. The tests of wan-pipeline have more values.
#[test]
fn bad_values_exit_with_1_before_anything_is_done() {
    let model = model_that_cannot_denoise();
    let model = model.path().to_str().unwrap();
    let folder = Folder::new();
    fs::write(folder.path("file"), "kept").unwrap();
    for name in ["there", "there.mp4"] {
        fs::create_dir(folder.path(name)).unwrap();
    }
    fs::create_dir(folder.path("full")).unwrap();
    fs::write(folder.path("full/note"), "kept").unwrap();
    let before = folder.names();
    for (arguments, parts) in [
        (&[][..], &["denoising", "not finite"][..]), // the control: all is well up to there
        (&["--frames", "82"], &["frames is 82,", "81 or 85"]),
        (&["--width", "63"], &["width is 63,", "multiple of 16", "48 or 64"]),
        (&["--height", "24"], &["height is 24,", "16 or 32"]),
        (&["--steps", "1001"], &["steps is 1001,", "1 to 1000"]),
        (&["--guidance", "3x19"], &["has 19 scales", "the run has 20 steps"]),
        (&["--shift", "NaN"], &["shift is NaN,", "more than 0"]),
        (&["--shift", "-3"], &["shift is -3,", "more than 0"]),
        (&["--shift", "1e300"], &["sigma", "shift nearer to 1"]),
        (&["--fps", "100000"], &["fps is 100000,", "1 to 240"]),
        (&["--fps", "60", "--out", "x.gif"], &["x.gif", "fps is 60,", "1 to 50"]),
        (&["--out", "x.mov"], &["x.mov", ".mov", ".mp4", ".gif", "/"]),
        (&["--out", "video"], &["video", "no ending", ".mp4"]),
        (&["--out", "there"], &["there", "no ending", "`/`"]),
        (&["--out", "there.mp4"], &["there.mp4", "a folder of that name exists"]),
        (&["--out", "no/such/x.mp4"], &["no/such/x.mp4", "no/such", "does not exist"]),
        (&["--out", "no/such/"], &["no/such/", "does not exist"]),
        (&["--out", "file/x.mp4"], &["file/x.mp4", "`file` is not a folder"]),
        (&["--out", "file/"], &["file/", "a file of that name exists"]),
        (&["--out", "full/"], &["full/", "not empty"]),
        (&["--save-latents", "no/l.safetensors"], &["no/l.safetensors", "`no` does not exist"]),
        (&["--save-latents", "there"], &["there", "a folder of that name exists"]),
        (&["--model", "tiny-wam"], &["\"tiny-wam\"", "tiny-wan"]),
        (&["--model", "there"], &["there/model_index.json", "no such file"]),
        (&["--model", "file"], &["file", "is a file", "--transformer"]),
    ] {
        let mut all = vec!["a red circle"];
        for default in
            [["--model", model], ["--frames", "1"], ["--width", "16"], ["--height", "16"]]
        {
            if !arguments.contains(&default[0]) {
                all.extend(default);
            }
        }
        all.extend(arguments);
        let output = folder.run(&all);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {err}");
        assert!(err.starts_with("error: ") && err.lines().count() == 1, "{arguments:?}: {err}");
        for part in parts {
            assert!(err.contains(part), "{arguments:?}: {part:?} is not in: {err}");
        }
        assert_eq!((output.stdout.len(), folder.names()), (0, before.clone()), "{arguments:?}");
    }
    assert_eq!(fs::read(folder.path("file")).unwrap(), b"kept");
    assert_eq!(fs::read_dir(folder.path("full")).unwrap().count(), 1);
}

#[cfg(unix)]
#[test]
fn a_folder_that_cannot_be_written() {
    use std::os::unix::fs::PermissionsExt;

    let folder = Folder::new();
    fs::create_dir(folder.path("locked")).unwrap();
    let lock = |mode| fs::set_permissions(folder.path("locked"), PermissionsExt::from_mode(mode));
    lock(0o500).unwrap();
    if fs::write(folder.path("locked/probe"), "").is_ok() {
        println!("skipped: this user may write anywhere");
        return;
    }
    let model = model_that_cannot_denoise();
    let model = model.path().to_str().unwrap();
    for arguments in
        [["--out", "locked/x.mp4"], ["--out", "locked/frames/"], ["--save-latents", "locked/l"]]
    {
        let output = folder.run(&["a red circle", "--model", model, arguments[0], arguments[1]]);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {err}");
        assert!(err.contains(arguments[1]) && err.contains("denied"), "{err}");
        assert_eq!(folder.names(), ["locked"]);
    }
    lock(0o700).unwrap();
}
