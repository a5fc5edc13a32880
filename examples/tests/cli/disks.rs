//! Files that change under the program.

use std::fs;
use std::process::Stdio;

use crate::{Folder, text};

const VAE: &str = "vae/diffusion_pytorch_model.safetensors";

/// A copy of the miniature model in `model/`.
fn copy_model(folder: &Folder) {
    let original = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tiny-wan/model");
    let mut folders = vec![original.clone()];
    while let Some(from) = folders.pop() {
        let to = folder.path("model").join(from.strip_prefix(&original).unwrap());
        fs::create_dir_all(&to).unwrap();
        for entry in fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => drop(fs::copy(&path, to.join(path.file_name().unwrap())).unwrap()),
            }
        }
    }
}

/// A disk on the network that drops out in the middle of a run.
#[test]
fn weights_that_shrink_during_a_run_end_it_with_an_error() {
    let folder = Folder::new();
    copy_model(&folder);
    let arguments = ["a red circle", "--model", "model", "--frames", "5", "--steps", "50"];
    let mut command =
        folder.command(&[&arguments[..], &["--out", "v.mp4", "--save-state", "run"]].concat());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    // The run is saved after its first step; the VAE is loaded after the last one.
    while !folder.path("run").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before");
        std::thread::yield_now();
    }
    let vae = fs::File::options().write(true).open(folder.path("model").join(VAE)).unwrap();
    vae.set_len(1000).unwrap();
    let output = child.wait_with_output().unwrap();
    let err = text(&output.stderr);
    assert!(output.status.code().is_some_and(|code| code != 0), "{:?}: {err}", output.status);
    assert!(err.contains(VAE) && err.contains("bytes while it was in use"), "{err}");
    assert_eq!(folder.names(), ["model", "run"], "what was computed is kept: {err}");
}
