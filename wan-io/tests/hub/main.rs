//! The client of the hub against a hub on loopback that does what the real one does, and worse.

mod access;
mod disks;
mod downloads;
mod hostile;
mod mirrors;
mod network;
mod processes;
mod python;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use wan_io::hub::{Hub, HubError, HubEvent, HubOptions, Network, Snapshot};
use wan_io::integrity::Verify;
use wan_mock_hub::{MockHub, Origin, Repo, Request};

const MODEL: &str = "owner/model";
const SMALL: &str = "config.json";
const LARGE: &str = "transformer/weights.safetensors";

/// A hub with one model, and an empty cache.
struct Setup {
    hub: MockHub,
    folder: TempDir,
}

impl Setup {
    fn new() -> Self {
        Self::with(model())
    }

    fn with(repo: Repo) -> Self {
        let hub = MockHub::start();
        hub.add(repo);
        Self { hub, folder: tempfile::tempdir().unwrap() }
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn options(&self) -> HubOptions {
        HubOptions {
            endpoint: self.hub.endpoint(),
            cache: self.cache(),
            token: None,
            offline: false,
            verify: Verify::OnDownload,
            network: Network::default(),
        }
    }

    fn open(&self) -> Result<Snapshot, HubError> {
        open(self.options())
    }

    /// Opens the model and downloads a file.
    fn get(&self, file: &str) -> Result<Vec<u8>, HubError> {
        get(self.options(), file)
    }

    /// The requests for a file to where its bytes come from.
    fn transfers(&self, file: &str) -> Vec<Request> {
        let origin = if file == LARGE { Origin::Cdn } else { Origin::Hub };
        let is_it = |request: &Request| {
            request.method == "GET" && request.origin == origin && request.file == file
        };
        self.hub.requests().into_iter().filter(is_it).collect()
    }

    fn blob(&self, hex: &str) -> PathBuf {
        self.cache().join("models--owner--model/blobs").join(hex)
    }
}

fn open(options: HubOptions) -> Result<Snapshot, HubError> {
    Hub::new(options)?.open(MODEL, "main", &mut quiet)
}

fn get(options: HubOptions, file: &str) -> Result<Vec<u8>, HubError> {
    let snapshot = open(options)?;
    snapshot.fetch(&[file], &mut quiet)?;
    snapshot.finish()?;
    Ok(std::fs::read(snapshot.folder().join(file)).unwrap())
}

/// Opens the model and downloads a file; what was told meanwhile.
fn get_and_hear(options: HubOptions, file: &str) -> (Result<Vec<u8>, HubError>, Vec<HubEvent>) {
    let mut heard = Vec::new();
    let mut observer = |event: HubEvent| {
        heard.push(event);
        ControlFlow::Continue(())
    };
    let run = |observer: &mut dyn FnMut(HubEvent) -> ControlFlow<()>| {
        let snapshot = Hub::new(options)?.open(MODEL, "main", observer)?;
        snapshot.fetch(&[file], observer)?;
        snapshot.finish()?;
        Ok(std::fs::read(snapshot.folder().join(file)).unwrap())
    };
    let result = run(&mut observer);
    (result, heard)
}

fn quiet(_: HubEvent) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn small() -> Vec<u8> {
    br#"{"layers": 2}"#.to_vec()
}

fn large() -> Vec<u8> {
    let mut state = 1u32;
    let mut byte = || {
        state = state.wrapping_mul(1664525).wrapping_add(1013904223);
        (state >> 24) as u8
    };
    (0..300_000).map(|_| byte()).collect()
}

fn model() -> Repo {
    Repo::new(MODEL)
        .file(SMALL, small())
        .file(LARGE, large())
        .file("assets/logo.png", "a picture")
        .file("README.md", "# model")
}

/// All files below a folder, links included, that are neither locks nor unfinished.
fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(below) = folders.pop() {
        for entry in std::fs::read_dir(below).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.is_symlink() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                found.push(name);
            }
        }
    }
    found.retain(|name| !name.contains(".lock") && !name.ends_with(".incomplete"));
    found.sort();
    found
}
