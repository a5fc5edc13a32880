//! One cache for Python's `huggingface_hub` and us.
//!
//! The interpreter is `WAN_PYTHON`, or the one that `.ci/install-huggingface-hub` installs. Without it
//! these tests pass with a note, unless `WAN_REQUIRE_PYTHON` is set.

use std::process::Command;

use crate::*;

fn python() -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python/bin/python");
    let python = std::env::var_os("WAN_PYTHON").map_or(installed, PathBuf::from);
    if python.exists() {
        return Some(python);
    }
    assert!(std::env::var_os("WAN_REQUIRE_PYTHON").is_none(), "no {}", python.display());
    eprintln!("skipped: there is no {}; .ci/install-huggingface-hub brings it", python.display());
    None
}

/// Runs a script with the cache and the hub of this test; its output, without the space around it.
fn run(python: &Path, setup: &Setup, offline: bool, script: &str) -> String {
    let output = Command::new(python)
        .args(["-c", script])
        .env("HF_ENDPOINT", setup.hub.endpoint())
        .env("HF_HUB_CACHE", setup.cache())
        .env("HF_HOME", setup.folder.path().join("home"))
        .env("HF_HUB_OFFLINE", if offline { "1" } else { "0" })
        .env("HF_HUB_DISABLE_XET", "1")
        .env_remove("HF_TOKEN")
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn python_reads_what_we_wrote() {
    let (Some(python), setup) = (python(), Setup::new()) else { return };
    let snapshot = setup.open().unwrap();
    snapshot.fetch(&[SMALL, LARGE], &mut quiet).unwrap();
    snapshot.finish().unwrap();
    setup.hub.clear_requests();

    let script = format!(
        "from huggingface_hub import hf_hub_download, scan_cache_dir\n\
         import hashlib\n\
         path = hf_hub_download('{MODEL}', '{LARGE}')\n\
         cache = scan_cache_dir()\n\
         (repo,) = cache.repos\n\
         (revision,) = repo.revisions\n\
         print(path, hashlib.sha256(open(path, 'rb').read()).hexdigest(), cache.warnings,\n\
         \x20     repo.repo_id, repo.nb_files, revision.commit_hash, sorted(revision.refs))"
    );
    let path = snapshot.folder().join(LARGE);
    let hash = wan_mock_hub::sha256(&large());
    let expected = format!("{} {hash} [] {MODEL} 2 {} ['main']", path.display(), snapshot.commit());
    assert_eq!(run(&python, &setup, true, &script), expected);
    assert_eq!(setup.hub.requests().len(), 0);

    // Online it asks the hub, and finds that nothing is to be downloaded.
    let script = format!(
        "from huggingface_hub import hf_hub_download\n\
         print(hf_hub_download('{MODEL}', '{LARGE}'))"
    );
    assert_eq!(run(&python, &setup, false, &script), path.display().to_string());
    assert_eq!(setup.transfers(LARGE).len(), 0);
}

#[test]
fn we_read_what_python_wrote() {
    let (Some(python), setup) = (python(), Setup::new()) else { return };
    let script = format!(
        "from huggingface_hub import snapshot_download\n\
         print(snapshot_download('{MODEL}', allow_patterns=['{SMALL}', '{LARGE}']))"
    );
    let folder = run(&python, &setup, false, &script);
    setup.hub.clear_requests();

    let offline = HubOptions { offline: true, verify: Verify::Always, ..setup.options() };
    let snapshot = open(offline).unwrap();
    snapshot.fetch(&[SMALL, LARGE], &mut quiet).unwrap();
    assert_eq!(snapshot.folder().display().to_string(), folder);
    assert_eq!(std::fs::read(snapshot.folder().join(LARGE)).unwrap(), large());
    assert_eq!(setup.hub.requests().len(), 0);

    assert_eq!(setup.get(LARGE).unwrap(), large());
    assert_eq!(setup.transfers(LARGE).len(), 0, "online too nothing is downloaded again");
    let report = wan_io::verify(&setup.cache()).unwrap();
    assert_eq!(report.files, 2);
}
