//! Models from a hub on loopback, under the names that they have in the real one.

use std::process::Output;

use wan_mock_hub::{Fault, MockHub, On, Origin, models};

use crate::*;

const ORIGINAL: &str = "Wan-AI/Wan2.1-T2V-14B";
const DIFFUSERS: &str = "Wan-AI/Wan2.1-T2V-14B-Diffusers";
const TOKEN: &str = "hf_secret";

fn tiny_wan() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tiny-wan/model")
}

/// A hub that has the miniature model in both layouts, for those with the token.
fn hub() -> MockHub {
    let hub = MockHub::start();
    hub.add(models::original(&tiny_wan(), ORIGINAL).private(TOKEN));
    hub.add(models::diffusers(&tiny_wan(), DIFFUSERS).private(TOKEN));
    hub
}

/// Runs a small job with a model of the hub; the cache is in the folder.
fn run(folder: &Folder, endpoint: &str, model: &str, more: &[(&str, &str)]) -> Output {
    let mut command = Command::new(program());
    command.current_dir(folder.0.path());
    command.args(["a red circle growing", "--model", model, "--revision", "main"]).args(SMALL);
    command.args(["--out", "v.rgb", "--save-latents", "l.safetensors", "--precision", "f32"]);
    for name in ["HF_HUB_CACHE", "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        command.env_remove(name);
    }
    for name in
        ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"]
    {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    command.env("HF_ENDPOINT", endpoint).env("HF_HOME", folder.path("home")).env("HF_TOKEN", TOKEN);
    command.envs(more.iter().copied());
    command.output().unwrap()
}

/// The latents and the raw frames that a run must have written, whose files are taken away. (The file of
/// the latents also has the model's name.)
#[track_caller]
fn take_results(folder: &Folder, output: &Output) -> (Vec<u8>, Vec<u8>) {
    assert!(output.status.success(), "{}", text(&output.stderr));
    let take = |name: &str| {
        let bytes = fs::read(folder.path(name)).unwrap();
        fs::remove_file(folder.path(name)).unwrap();
        bytes
    };
    let file = take("l.safetensors");
    let latents =
        SafeTensors::deserialize(&file).unwrap().tensor("latents").unwrap().data().to_vec();
    (latents, take("v.rgb"))
}

fn local() -> (Vec<u8>, Vec<u8>) {
    let folder = Folder::new();
    let output = run(&folder, "http://127.0.0.1:1", tiny_wan().to_str().unwrap(), &[]);
    take_results(&folder, &output)
}

/// The most that a value of a pixel differs.
fn difference(a: &[u8], b: &[u8]) -> u8 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a.abs_diff(*b)).max().unwrap()
}

#[test]
fn repository_makes_the_same_video_as_the_folder() {
    let (latents, frames) = local();
    let hub = hub();
    // The original layout implies the scale of the latents; the copy of the miniature model there has
    // it in the weights of its VAE, so its pixels may be rounded otherwise.
    for (model, pixels, files) in [(DIFFUSERS, 0, 9), (ORIGINAL, 1, 7)] {
        let folder = Folder::new();
        hub.clear_requests();
        let output = run(&folder, &hub.endpoint(), model, &[]);
        let said = text(&output.stderr);
        assert!(said.contains(&format!("{model}: main is commit ")), "{said}");
        let found = take_results(&folder, &output);
        assert!(found.0 == latents, "{model}: the latents differ");
        assert!(difference(&found.1, &frames) <= pixels, "{model}: the frames differ");

        let requests = hub.requests();
        assert!(requests.iter().any(|request| request.origin == Origin::Cdn));
        for request in &requests {
            let expected = (request.origin == Origin::Hub).then_some("Bearer hf_secret");
            assert_eq!(request.header("authorization"), expected, "{}", request.path);
            for unused in ["assets", "examples", "README", ".gitattributes"] {
                assert!(!request.file.contains(unused), "{}", request.path);
            }
        }
        let names: std::collections::BTreeSet<_> = requests
            .iter()
            .map(|request| request.file.as_str())
            .filter(|f| !f.is_empty())
            .collect();
        assert_eq!(names.len(), files, "{names:?}");

        // Again: nothing is downloaded. Offline: nothing is asked.
        hub.clear_requests();
        let again = run(&folder, &hub.endpoint(), model, &[]);
        assert!(take_results(&folder, &again) == found);
        assert!(hub.requests().iter().all(|request| request.file.is_empty()));
        hub.clear_requests();
        let offline = run(&folder, &hub.endpoint(), model, &[("HF_HUB_OFFLINE", "1")]);
        assert!(take_results(&folder, &offline) == found);
        assert_eq!(hub.requests().len(), 0);
    }
}

#[test]
fn model_that_cannot_be_had_is_an_error_and_no_file() {
    let hub = hub();
    let damage = hub.endpoint();
    let rows = [
        (ORIGINAL, ("HF_TOKEN", "hf_other"), "that the token from HF_TOKEN has not expired"),
        ("Wan-AI/none", ("HF_TOKEN", TOKEN), "no such public repository"),
        (ORIGINAL, ("HF_HUB_OFFLINE", "1"), "is not in the cache"),
        (ORIGINAL, ("HF_ENDPOINT", "hub"), "must be http(s)://host"),
        (
            ORIGINAL,
            ("HTTP_PROXY", "garbage::"),
            "the proxy \"garbage::\" (HTTP_PROXY) is no address",
        ),
        (DIFFUSERS, ("HF_TOKEN", TOKEN), "arrived with the checksum"),
    ];
    let wrong = "transformer/diffusion_pytorch_model.safetensors";
    hub.fault(wrong, On::Cdn, Fault::WrongBytes, usize::MAX);
    for (model, variable, expected) in rows {
        let folder = Folder::new();
        let output = run(&folder, &damage, model, &[variable]);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let error = said.lines().last().unwrap();
        assert!(error.starts_with("error: ") && error.contains(expected), "{said}");
        assert!(!said.contains("hf_"), "a token is shown: {said}");
        assert!(!folder.path("v.rgb").exists() && !folder.path("l.safetensors").exists());
    }
}

#[test]
fn old_token_is_left_out_and_the_cache_serves_without_the_hub() {
    let hub = MockHub::start();
    hub.add(models::diffusers(&tiny_wan(), DIFFUSERS));
    hub.know_tokens(&["hf_good"]);
    let folder = Folder::new();
    let output = run(&folder, &hub.endpoint(), DIFFUSERS, &[("HF_TOKEN", "hf_old")]);
    let said = text(&output.stderr);
    assert!(said.contains("without the token from HF_TOKEN: Invalid credentials"), "{said}");
    assert!(!said.contains("hf_"), "a token is shown: {said}");
    let found = take_results(&folder, &output);

    let blank =
        [("HF_HUB_OFFLINE", "1"), ("HF_TOKEN", " "), ("HTTPS_PROXY", ""), ("SSL_CERT_FILE", " ")];
    assert!(take_results(&folder, &run(&folder, "   ", DIFFUSERS, &blank)) == found);
}

#[test]
fn authority_of_an_office_is_trusted_where_a_variable_names_it() {
    let hub = MockHub::start_tls();
    hub.add(models::diffusers(&tiny_wan(), DIFFUSERS));
    let folder = Folder::new();
    let output = run(&folder, &hub.endpoint(), DIFFUSERS, &[]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("certificate") && said.contains("SSL_CERT_FILE"), "{said}");

    fs::write(folder.path("office.pem"), hub.authority()).unwrap();
    let named = [("SSL_CERT_FILE", folder.path("office.pem"))];
    let named = named.each_ref().map(|(name, path)| (*name, path.to_str().unwrap()));
    take_results(&folder, &run(&folder, &hub.endpoint(), DIFFUSERS, &named));
}

/// A model whose configs cannot be used is refused before gigabytes are downloaded.
#[test]
fn configs_are_checked_before_weights_are_downloaded() {
    let hub = MockHub::start();
    let repo = models::diffusers(&tiny_wan(), DIFFUSERS);
    hub.add(repo.file("transformer/config.json", r#"{"num_layers": 0}"#));
    let folder = Folder::new();
    let output = run(&folder, &hub.endpoint(), DIFFUSERS, &[]);
    let said = text(&output.stderr);
    assert!(!output.status.success() && said.contains("transformer/config.json"), "{said}");
    assert!(hub.requests().iter().all(|request| request.origin == Origin::Hub));
}

/// The parts as single files, in a folder that is no model.
#[test]
fn single_files_make_the_same_video_as_the_folder() {
    let (latents, frames) = local();
    let folder = Folder::new();
    let repo = models::original(&tiny_wan(), ORIGINAL);
    for (name, bytes) in &repo.commits[repo.commit()] {
        let path = folder.path("files").join(name.replace('/', "-"));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes.as_slice()).unwrap();
    }
    let transformer = tiny_wan().join("transformer/diffusion_pytorch_model.safetensors");
    let small_options =
        ["--out=v.rgb", "--save-latents=l.safetensors", "--shift=3", "--precision=f32"];
    let index = "files/diffusion_pytorch_model.safetensors.index.json";
    for transformer in [index, transformer.to_str().unwrap()] {
        let parts = [
            ["--transformer", transformer],
            ["--text-encoder", "files/models_t5_umt5-xxl-enc-bf16.pth"],
            ["--vae", "files/Wan2.1_VAE.pth"],
            ["--tokenizer", "files/google-umt5-xxl-tokenizer.json"],
        ];
        let all = [&["a red circle growing"], &SMALL[..], &small_options, parts.as_flattened()];
        let found = take_results(&folder, &folder.run(&all.concat()));
        assert!(found.0 == latents, "{transformer}: the latents differ");
        assert!(difference(&found.1, &frames) <= 1, "{transformer}: the frames differ");
        let without_vae = [&["a red circle growing"], &parts.as_flattened()[..4]].concat();
        let output = folder.run(&without_vae);
        assert!(text(&output.stderr).contains("no file is named for the vae"));
    }
}
