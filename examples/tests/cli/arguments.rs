//! What people type: names of models, seeds, prompts with a dash, options given twice.

use std::process::Output;

use wan_mock_hub::MockHub;
use wan_pipeline::Metadata;
use wan_pipeline::backend::CpuKernel;

use crate::*;

const PROMPT: &str = "a red circle moving right";

/// Runs a small job; gives the exit code and what it said.
fn run(folder: &Folder, arguments: &[&str]) -> (Option<i32>, String) {
    outcome(folder.run(&[arguments, &SMALL].concat()))
}

fn outcome(output: Output) -> (Option<i32>, String) {
    (output.status.code(), text(&output.stderr))
}

/// What the file of a small job says of how it was made, and what was said beside it.
#[track_caller]
fn made(folder: &Folder, arguments: &[&str]) -> (Metadata, String) {
    let (code, said) = run(folder, &[&["--out", "v.gif"], arguments].concat());
    assert_eq!(code, Some(0), "{arguments:?}: {said}");
    (read_metadata(&folder.path("v.gif")).unwrap().unwrap(), said)
}

/// A whole model in a folder of this name.
fn copy_model(folder: &Folder, name: &str) {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tiny-wan/model");
    for part in ["", "scheduler", "text_encoder", "tokenizer", "transformer", "vae"] {
        let target = folder.path(name).join(part);
        fs::create_dir_all(&target).unwrap();
        for entry in fs::read_dir(model.join(part)).unwrap() {
            let entry = entry.unwrap();
            if entry.file_type().unwrap().is_file() {
                fs::copy(entry.path(), target.join(entry.file_name())).unwrap();
            }
        }
    }
}

/// A folder that happens to be called like the built-in model.
#[test]
fn a_folder_does_not_hide_the_built_in_model() {
    let folder = Folder::new();
    fs::create_dir(folder.path("tiny-wan")).unwrap();
    let (of_name, _) = made(&folder, &[PROMPT]);
    assert_eq!(of_name.model.as_deref(), Some("tiny-wan"));
    fs::write(folder.path("tiny-wan/notes.txt"), "of videos").unwrap();
    fs::create_dir(folder.path("tiny-wan/target")).unwrap();
    for name in ["tiny-wan", "tiny-wan/"] {
        assert_eq!(made(&folder, &[PROMPT, "--model", name]).0, of_name, "{name}");
    }
    // A model in it is the one that is meant.
    copy_model(&folder, "tiny-wan");
    fs::write(folder.path("tiny-wan/model_index.json"), "damaged").unwrap();
    let (code, said) = run(&folder, &[PROMPT]);
    assert!(code == Some(1) && said.contains("tiny-wan/model_index.json"), "{said}");
}

#[test]
fn a_tilde_is_the_home_folder() {
    let folder = Folder::new();
    copy_model(&folder, "home/models/wan");
    let transformer = "--transformer=~/models/wan/transformer/diffusion_pytorch_model.safetensors";
    for arguments in [
        &["--model=~/models/wan", "--out=~/v.gif"][..],
        &["--model", "~/models/wan/", "--out", "~/v.gif"],
        &[transformer, "--out", "~/v.gif"],
    ] {
        let mut command = folder.command(&[&[PROMPT], arguments, &SMALL].concat());
        let output = command.env("HOME", folder.path("home")).output().unwrap();
        assert!(output.status.success(), "{}", text(&output.stderr));
        fs::remove_file(folder.path("home/v.gif")).unwrap();
    }
    // The slash at the end still makes a folder.
    let mut command = folder.command(&[&[PROMPT, "--out=~/frames/"], &SMALL[..]].concat());
    assert!(command.env("HOME", folder.path("home")).status().unwrap().success());
    assert!(folder.path("home/frames").is_dir());
    assert_eq!(folder.names(), ["home"]);
}

/// A name with one slash could be that of a repository too.
#[test]
fn a_mistyped_folder_is_called_that() {
    let folder = Folder::new();
    fs::create_dir_all(folder.path("models/tiny-wan")).unwrap();
    let hub = MockHub::start();
    for (endpoint, offline, reason) in [
        (hub.endpoint().as_str(), "0", "no such public repository"),
        ("http://127.0.0.1:1", "0", "cannot be reached"),
        ("http://127.0.0.1:1", "1", "is not in the cache"),
    ] {
        for (name, meant) in [("models/tiny-wam", Some("models/tiny-wan")), ("Wan-AI/video", None)]
        {
            let mut command = folder.command(&[PROMPT, "--model", name]);
            command
                .env_remove("HF_HUB_CACHE")
                .env("HF_ENDPOINT", endpoint)
                .env("HF_HUB_OFFLINE", offline);
            let (code, said) = outcome(command.env("HF_HOME", folder.path("hf")).output().unwrap());
            let error = said.lines().last().unwrap();
            assert_eq!(code, Some(1), "{said}");
            assert!(error.contains(reason) && error.contains("nor is there a folder"), "{said}");
            let told =
                error.split_once("did you mean ").map(|(_, told)| told.trim_end_matches('?'));
            assert_eq!(told, meant, "{said}");
        }
    }
}

#[test]
fn single_parts_keep_the_default_model() {
    let folder = Folder::new();
    copy_model(&folder, "m");
    let expected = folder.latents(&[PROMPT]);
    for (option, file) in [
        ("--text-encoder", "m/text_encoder/model.safetensors"),
        ("--transformer", "m/transformer/diffusion_pytorch_model.safetensors"),
        ("--vae", "m/vae/diffusion_pytorch_model.safetensors"),
        ("--tokenizer", "m/tokenizer/tokenizer.json"),
    ] {
        assert_eq!(folder.latents(&[PROMPT, option, file]), expected, "{option}");
    }
}

#[test]
fn a_seed_is_drawn_said_and_stored() {
    let folder = Folder::new();
    let mut seeds = Vec::new();
    for arguments in [&["--seed", "-1"][..], &["--seed=-1"], &["--seed", "random"]] {
        let (stored, said) = made(&folder, &[&[PROMPT], arguments].concat());
        let seed = stored.seed.unwrap();
        assert!(said.lines().any(|line| line == format!("seed: {seed}")), "{said}");
        assert!(seed <= u32::MAX.into(), "all of it counts");
        let video = fs::read(folder.path("v.gif")).unwrap();
        made(&folder, &[PROMPT, "--seed", &seed.to_string()]);
        assert!(fs::read(folder.path("v.gif")).unwrap() == video, "{arguments:?}: {seed}");
        seeds.push(seed);
    }
    assert!(seeds[0] != seeds[1] || seeds[0] != seeds[2], "{seeds:?}");
    assert!(!made(&folder, &[PROMPT, "--seed", "7"]).1.contains("seed"), "7 is known");
}

#[test]
fn each_video_of_a_batch_draws_its_own_seed() {
    let folder = Folder::new();
    let lists = ["--seed", "3,random", "--grid", "sheet.png", "--out", "v.gif"];
    let (code, said) = run(&folder, &[&[PROMPT, "绿色圆形变小"], &lists[..]].concat());
    assert_eq!(code, Some(0), "{said}");
    let of = |i| read_metadata(&folder.path(&format!("v-{i}.gif"))).unwrap().unwrap().seed.unwrap();
    let seeds: Vec<u64> = (1..=4).map(of).collect();
    assert_eq!((seeds[0], seeds[2]), (3, 3));
    assert!(seeds[1] != seeds[3] && seeds[1] != 3, "{seeds:?}");
    let words: Vec<String> = seeds.iter().map(u64::to_string).collect();
    assert!(said.lines().any(|line| line == format!("seed: {}", words.join(", "))), "{said}");
}

/// As in torch, whose generators take the low 32 bits.
#[test]
fn a_seed_that_is_cut_is_said_to_be() {
    let folder = Folder::new();
    let (_, said) = made(&folder, &[PROMPT, "--seed", "4294967338"]);
    let warning = "warning: of a seed the low 32 bits count: 4294967338 gives the video of 42";
    assert!(said.lines().any(|line| line == warning), "{said}");
    let (stored, said) = made(&folder, &[PROMPT, "--seed", "4294967295"]);
    assert!(stored.seed == Some(4_294_967_295) && !said.contains("warning"), "{said}");
}

#[test]
fn a_prompt_may_begin_with_a_dash() {
    let folder = Folder::new();
    for prompt in ["- a red circle", "-- a red circle --", "-5 degrees, snow", "—a red circle"] {
        assert_eq!(made(&folder, &[prompt, "--seed", "-1"]).0.prompt, prompt);
        assert_eq!(made(&folder, &["--seed", "3", prompt]).0.prompt, prompt);
    }
}

/// What could be an option is none unless it is said to be a prompt, in a way that can be pasted.
#[test]
fn the_tip_for_a_prompt_with_a_dash_works() {
    let folder = Folder::new();
    for prompt in ["--help me", "--steps 5", "-blurry", "-it's cold"] {
        let (code, said) = run(&folder, &[prompt]);
        assert_eq!(code, Some(2), "{said}");
        let tip = format!("-- '{}'", prompt.replace('\'', r"'\''"));
        assert!(said.contains(&tip), "{tip} is not in: {said}");
        let output = folder
            .run(&[&SMALL[..], &["--out", "v.gif", "--backend", "flex", "--", prompt]].concat());
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(read_metadata(&folder.path("v.gif")).unwrap().unwrap().prompt, prompt);
    }
    // A mistyped option is answered with the right one.
    let (code, said) = run(&folder, &[PROMPT, "--framez", "5"]);
    assert!(
        code == Some(2) && said.contains("--frames") && !said.contains("prompt that"),
        "{said}"
    );
}

#[test]
fn values_may_begin_with_a_dash() {
    let folder = Folder::new();
    for negative in ["-blurry", "- blurry, static", "--", "--steps"] {
        let (stored, _) = made(&folder, &[PROMPT, "--negative", negative]);
        assert_eq!(stored.negative_prompt.as_deref(), Some(negative));
    }
    assert_eq!(made(&folder, &[PROMPT, "--negative=-x"]).0.negative_prompt.as_deref(), Some("-x"));
    folder.make(&[PROMPT, "--out", "-v.gif"]);
    assert_eq!(folder.names(), ["-v.gif", "v.gif"]);
}

#[test]
fn of_a_repeated_option_the_last_counts() {
    let folder = Folder::new();
    let twice = [
        ["--seed", "1", "--seed", "2"],
        ["--guidance", "2", "--guidance", "4"],
        ["--negative", "a", "--negative", "b"],
        ["--fps", "8", "--fps", "12"],
        ["--scheduler", "euler", "--scheduler", "unipc"],
        ["--sigma-grid", "diffusers", "--sigma-grid", "wan"],
        ["--model", "none", "--model", "tiny-wan"],
        ["--out", "w.gif", "--out", "v.gif"],
        ["--shift", "2", "--shift", "4"],
    ];
    let once: Vec<&str> = twice.iter().flat_map(|option| option[2..].iter().copied()).collect();
    let (expected, _) = made(&folder, &[&[PROMPT], &once[..]].concat());
    let (found, _) = made(&folder, &[&[PROMPT], twice.as_flattened()].concat());
    assert_eq!((found, folder.names()), (expected, vec!["v.gif".to_owned()]));
    let flags = ["--prompt-weighting", "--prompt-weighting"];
    made(&folder, &[&[PROMPT], &flags[..]].concat());
}

#[test]
fn a_negative_prompt_without_guidance_is_said_to_have_no_effect() {
    let folder = Folder::new();
    let warned = |arguments: &[&str]| {
        let (code, said) = run(&folder, &[&[PROMPT, "--out", "v.rgb"], arguments].concat());
        assert_eq!(code, Some(0), "{said}");
        let mut lines = said.lines().filter(|line| line.contains("no effect"));
        let warning = lines.next().map(str::to_owned);
        assert_eq!(lines.next(), None, "{said}");
        warning
    };
    let warning = "warning: without guidance (a scale of 1) the negative prompt has no effect";
    for off in ["1", "1x2", "linear:1..1"] {
        let found = warned(&["--negative", "blurry", "--guidance", off]);
        assert_eq!(found.as_deref(), Some(warning), "{off}");
    }
    let found = warned(&["--negative", "blurry", "--guidance", "1,3", "--seed", "1,2"]);
    assert_eq!(found, Some(format!("{warning} on video 1, 3 of 4")));
    for effective in [
        &["--negative", "blurry"][..],
        &["--negative", "blurry", "--guidance", "3x1+1x1"],
        &["--negative", "", "--guidance", "1"],
        &["--guidance", "1"],
    ] {
        assert_eq!(warned(effective), None, "{effective:?}");
    }
}

#[test]
fn counts_of_one() {
    let folder = Folder::new();
    let one = ["--frames", "1", "--width", "32", "--height", "32", "--steps", "1"];
    for (out, line) in [
        ("cat.png", "cat.png: 1 frame of 32x32\n"),
        ("one.gif", "one.gif: 1 frame of 32x32\n"),
        ("one.mp4", "one.mp4: 1 frame of 32x32\n"),
        ("one/", "one/: 1 frame of 32x32\n"),
    ] {
        let output = folder.run(&[&[PROMPT, "--seed", "7", "--out", out], &one[..]].concat());
        assert_eq!(text(&output.stdout), line, "{}", text(&output.stderr));
        let stored = read_metadata(&folder.path(out)).unwrap().unwrap();
        assert_eq!((stored.seed, stored.num_frames), (Some(7), Some(1)), "{out}");
    }
    let wrong = [PROMPT, "--guidance", "3x2"];
    let (_, said) = outcome(folder.run(&[&wrong[..], &one].concat()));
    assert!(said.contains("has 2 scales, but the run has 1 step\n"), "{said}");
    let stop = ["--save-state", "run", "--stop-after", "0", "--out", "v.gif"];
    let (_, said) = outcome(folder.run(&[&[PROMPT], &stop[..], &one].concat()));
    assert!(
        said.contains("stopped after 0 of 1 step,") && said.contains("0 of 1 step saved"),
        "{said}"
    );
}

/// What cannot be is answered before the model is opened.
#[test]
fn kernels_and_threads_of_the_cpu() {
    let folder = Folder::new();
    for (arguments, code, sentence) in [
        (["--cpu-kernel", "avx1024"], 2, "there is no CPU kernel \"avx1024\": they are amx,"),
        (["--threads", "0"], 1, "--threads: 0 threads cannot compute: 1 is the least"),
        (["--threads", "100000"], 1, "--threads: 100000 threads are more than the"),
        (["--threads", "two"], 2, "invalid value 'two'"),
    ] {
        let all = [&[PROMPT, "--out", "v.gif", "--backend", "flex"], &arguments[..]].concat();
        let (found, said) = run(&folder, &all);
        assert!(found == Some(code) && said.contains(sentence), "{arguments:?}: {said}");
    }
    for kernel in CpuKernel::ALL {
        let name = kernel.to_string();
        let common =
            [PROMPT, "--out", "v.gif", "--backend=flex", "--precision=bf16", "--threads=1"];
        let (code, said) = run(&folder, &[&common[..], &["--cpu-kernel", &name]].concat());
        match kernel.is_available() {
            true => assert_eq!(code, Some(0), "{kernel}: {said}"),
            false => {
                let sentence =
                    format!("--cpu-kernel: this processor cannot run the CPU kernel {name}");
                assert!(code == Some(1) && said.contains(&sentence), "{said}");
            }
        }
    }
}
