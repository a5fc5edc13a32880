//! What the client of the crate `hf-hub` does where a hub or a network fails. `wan-io` takes care of
//! transfers itself because of this; should one of these tests fail with a later version, that
//! reason is gone.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Command;

use hf_hub::api::sync::{ApiBuilder, ApiError, ApiRepo};
use tempfile::TempDir;
use wan_mock_hub::{Fault, MockHub, On, Repo};

const FILE: &str = "weights.safetensors";
const CONTENT: &[u8] = b"0123456789";

/// A hub with one LFS file, and a cache for it: a folder in a folder of its own.
struct Setup {
    hub: MockHub,
    folder: TempDir,
}

impl Setup {
    fn new() -> Self {
        let hub = MockHub::start();
        hub.add(Repo::new("owner/model").lfs_from(1).file(FILE, CONTENT));
        Self { hub, folder: TempDir::new().unwrap() }
    }

    fn client(&self) -> ApiRepo {
        let builder = ApiBuilder::from_cache(hf_hub::Cache::new(self.cache()));
        let builder = builder.with_progress(false).with_endpoint(self.hub.endpoint());
        builder.build().unwrap().model("owner/model".to_owned())
    }

    fn cache(&self) -> PathBuf {
        self.folder.path().join("cache")
    }

    fn download(&self) -> Result<Vec<u8>, ApiError> {
        self.client().download(FILE).map(|path| std::fs::read(path).unwrap())
    }

    /// A fault for the download itself: a request for the size comes before it.
    fn fault_of_download(&self, fault: Fault) {
        self.hub.fault(FILE, On::Cdn, Fault::Headers(Vec::new()), 1);
        self.hub.fault(FILE, On::Cdn, fault, 1);
    }
}

#[test]
fn it_gets_a_file() {
    assert_eq!(Setup::new().download().unwrap(), CONTENT);
}

#[test]
fn wrong_bytes_are_no_error() {
    let setup = Setup::new();
    setup.fault_of_download(Fault::WrongBytes);
    let wrong: Vec<u8> = CONTENT.iter().map(|byte| byte ^ 0x5a).collect();
    assert_eq!(setup.download().unwrap(), wrong);
}

#[test]
fn a_short_body_is_no_error() {
    let setup = Setup::new();
    setup.fault_of_download(Fault::Short(4));
    assert_eq!(setup.download().unwrap(), b"0123");
}

/// A server may answer a request of a range with everything: that is then added to what is there.
#[test]
fn a_whole_body_is_appended_to_the_partial_file() {
    let setup = Setup::new();
    setup.fault_of_download(Fault::DropAfter(4));
    setup.download().unwrap_err();
    setup.fault_of_download(Fault::IgnoreRange);
    assert_eq!(setup.download().unwrap(), b"01230123456789");
}

/// The same with a range that starts elsewhere.
#[test]
fn another_range_is_appended_to_the_partial_file() {
    let setup = Setup::new();
    setup.fault_of_download(Fault::DropAfter(4));
    setup.download().unwrap_err();
    setup.fault_of_download(Fault::WrongRange(8));
    assert_eq!(setup.download().unwrap(), b"012389");
}

/// The hub's name for a content becomes a path, whatever it is.
#[test]
fn an_etag_leads_out_of_the_cache() {
    let setup = Setup::new();
    let etag = ("X-Linked-Etag".to_owned(), "\"../../../out\"".to_owned());
    setup.hub.fault(FILE, On::Resolve, Fault::Headers(vec![etag]), usize::MAX);
    setup.download().unwrap();
    assert_eq!(std::fs::read(setup.folder.path().join("out")).unwrap(), CONTENT);
}

/// So does the commit; the link that is made there leads nowhere, which is a panic.
#[test]
fn a_commit_leads_out_of_the_cache() {
    let setup = Setup::new();
    let commit = ("X-Repo-Commit".to_owned(), "../../../out".to_owned());
    setup.hub.fault(FILE, On::Resolve, Fault::Headers(vec![commit]), usize::MAX);
    std::panic::catch_unwind(AssertUnwindSafe(|| setup.download())).unwrap_err();
    assert!(setup.folder.path().join("out").join(FILE).is_symlink());
}

/// A server that is busy says when to come again; the client does not.
#[test]
fn a_busy_hub_is_an_error_at_once() {
    let setup = Setup::new();
    let headers = vec![("Retry-After".to_owned(), "0".to_owned())];
    setup.hub.fault(FILE, On::Resolve, Fault::Status(429, headers), 1);
    setup.download().unwrap_err();
    assert_eq!(setup.hub.requests().len(), 1);
}

/// Of the variables that every other client knows, `from_env` reads but `HF_HOME` and
/// `HF_ENDPOINT`. Runs itself in a process that has them.
#[test]
fn the_token_and_the_cache_of_the_environment_are_not_read() {
    const CHILD: &str = "WAN_MOCK_HUB_CHILD";
    if std::env::var_os(CHILD).is_some() {
        let api = ApiBuilder::from_env().with_progress(false).build().unwrap();
        api.model("owner/model".to_owned()).download(FILE).unwrap();
        return;
    }
    let setup = Setup::new();
    let (home, cache) = (setup.folder.path().join("home"), setup.cache());
    let this = "hf_hub::the_token_and_the_cache_of_the_environment_are_not_read";
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", this])
        .env(CHILD, "1")
        .env("HF_ENDPOINT", setup.hub.endpoint())
        .env("HF_HOME", &home)
        .env("HF_HUB_CACHE", &cache)
        .env("HF_TOKEN", "secret")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
    assert!(setup.hub.requests().iter().all(|request| request.header("authorization").is_none()));
    let model = Path::new("models--owner--model");
    assert!(home.join("hub").join(model).exists() && !cache.exists());
}
