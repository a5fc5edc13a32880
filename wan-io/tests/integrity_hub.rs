//! Checks of hub caches, whose snapshots are links to blobs named by their hash.
#![cfg(unix)]

use std::{
    fs,
    ops::ControlFlow,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use tempfile::TempDir;
use wan_io::integrity::{
    Digest, IntegrityError, Verify, check, known, markers_for, verify, verify_with,
};

const ABC_SHA: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
/// Of `hello\n`.
const HELLO_BLOB: &str = "ce013625030ba8dba906f756967f9e9ca394464a";
const MODEL: &str = "models--o--n";

/// A hub cache with one model, of a large file in a folder and a small one.
fn cache() -> TempDir {
    let cache = tempfile::tempdir().unwrap();
    add_model(cache.path(), MODEL);
    cache
}

fn add_model(cache: &Path, model: &str) {
    let model = cache.join(model);
    let snapshot = model.join("snapshots/c0ffee");
    fs::create_dir_all(snapshot.join("transformer")).unwrap();
    fs::create_dir_all(model.join("blobs")).unwrap();
    fs::create_dir_all(model.join("refs")).unwrap();
    fs::write(model.join("refs/main"), "c0ffee").unwrap();
    fs::write(model.join("blobs").join(ABC_SHA), "abc").unwrap();
    fs::write(model.join("blobs").join(HELLO_BLOB), "hello\n").unwrap();
    let (large, small) = (format!("../../../blobs/{ABC_SHA}"), format!("../../blobs/{HELLO_BLOB}"));
    symlink(large, snapshot.join("transformer/x.safetensors")).unwrap();
    symlink(small, snapshot.join("model_index.json")).unwrap();
}

fn snapshot(cache: &TempDir) -> PathBuf {
    cache.path().join(MODEL).join("snapshots/c0ffee")
}

fn blob(cache: &TempDir, name: &str) -> PathBuf {
    cache.path().join(MODEL).join("blobs").join(name)
}

/// Files, bytes and unknown files.
fn counts(path: &Path) -> (usize, u64, usize) {
    let report = verify(path).unwrap();
    (report.files, report.bytes, report.unknown.len())
}

#[test]
fn every_level_of_a_cache() {
    let cache = cache();
    let snapshot = snapshot(&cache);
    assert_eq!(counts(cache.path()), (2, 9, 0));
    assert_eq!(counts(&cache.path().join(MODEL)), (2, 9, 0));
    assert_eq!(counts(&snapshot), (2, 9, 0));
    assert_eq!(counts(&snapshot.join("transformer")), (1, 3, 0));
    assert_eq!(counts(&snapshot.join("transformer/x.safetensors")), (1, 3, 0));
    assert_eq!(counts(&snapshot.join("model_index.json")), (1, 6, 0));
    assert_eq!(counts(&blob(&cache, ABC_SHA)), (1, 3, 0));

    let markers = fs::read_dir(cache.path().join(MODEL).join(".wan-verified")).unwrap();
    assert_eq!(markers.count(), 2, "one for each blob, by whatever name it was found");
    add_model(cache.path(), "models--o--m");
    fs::create_dir(cache.path().join(".locks")).unwrap();
    assert_eq!(counts(cache.path()), (4, 18, 0));
}

#[test]
fn links_from_elsewhere_are_followed_to_the_blob() {
    let cache = cache();
    let elsewhere = tempfile::tempdir().unwrap();
    let at = |name| elsewhere.path().join(name);
    symlink(snapshot(&cache).join("model_index.json"), at("index")).unwrap();
    symlink("index", at("again")).unwrap();
    assert_eq!(counts(&at("again")), (1, 6, 0));
    symlink(cache.path().join(MODEL), at("model")).unwrap();
    assert_eq!(counts(&at("model")), (2, 9, 0));
    symlink(snapshot(&cache), at("snapshot")).unwrap();
    assert_eq!(counts(&at("snapshot")), (2, 9, 0));
    symlink("loop", at("loop")).unwrap();
    assert!(matches!(verify(&at("loop")), Err(IntegrityError::Io { .. })));
}

#[test]
fn a_blob_can_be_a_link_into_a_shared_folder() {
    let cache = cache();
    // Here names are other hashes, which must not be taken for the digest.
    let shared = cache.path().join("blobs/00");
    fs::create_dir_all(&shared).unwrap();
    let name = "00".repeat(32);
    fs::rename(blob(&cache, ABC_SHA), shared.join(&name)).unwrap();
    symlink(format!("../../blobs/00/{name}"), blob(&cache, ABC_SHA)).unwrap();

    let file = snapshot(&cache).join("transformer/x.safetensors");
    for path in [cache.path(), &cache.path().join(MODEL), &snapshot(&cache)] {
        assert_eq!(counts(path), (2, 9, 0));
    }
    assert_eq!(counts(&file), (1, 3, 0));
    let files = known(&snapshot(&cache), &["transformer/x.safetensors".into()]).unwrap();
    assert_eq!(files[0].digest, Digest::from_hex(ABC_SHA));

    fs::write(shared.join(&name), "abd").unwrap();
    assert!(matches!(verify(cache.path()), Err(IntegrityError::Digest { .. })));
}

#[test]
fn a_model_is_checked_once() {
    let cache = cache();
    let snapshot = snapshot(&cache);
    let names = ["transformer/x.safetensors", "model_index.json"].map(String::from);
    let (files, markers) = (known(&snapshot, &names).unwrap(), markers_for(&snapshot));
    let hashed = || {
        let mut hashed = 0;
        let progress = &mut |done, _| {
            hashed = done;
            ControlFlow::Continue(())
        };
        check(&files, Verify::OnDownload, &markers, progress).unwrap();
        hashed
    };
    assert_eq!([hashed(), hashed()], [9, 0]);
    assert!(markers.holds(&blob(&cache, ABC_SHA), &Digest::from_hex(ABC_SHA).unwrap()));
    assert!(cache.path().join(MODEL).join(".wan-verified").is_dir());
}

#[test]
fn broken_blobs_are_found_by_their_names_in_the_snapshot() {
    let cache = cache();
    let path = snapshot(&cache).join("model_index.json");
    fs::write(blob(&cache, HELLO_BLOB), "hell\n").unwrap();
    fs::remove_file(blob(&cache, ABC_SHA)).unwrap();
    for folder in [snapshot(&cache), cache.path().join(MODEL), cache.path().to_owned()] {
        let error = verify(&folder).unwrap_err();
        let IntegrityError::Several(errors) = error else { panic!("{error}") };
        assert_eq!(errors.len(), 2);
        assert!(matches!(&errors[0], IntegrityError::Digest { path: named, .. } if *named == path));
        let missing = snapshot(&cache).join("transformer/x.safetensors");
        assert!(matches!(&errors[1], IntegrityError::Missing { path } if *path == missing));
    }
}

#[test]
fn copies_and_odd_blobs_are_unknown_and_downloads_are_left_out() {
    let cache = cache();
    let copy = snapshot(&cache).join("copy.json");
    fs::write(&copy, "{}").unwrap();
    for name in [format!("{ABC_SHA}.incomplete"), format!("{ABC_SHA}.lock"), "x.part".into()] {
        fs::write(blob(&cache, &name), "?").unwrap();
    }
    fs::write(blob(&cache, "odd"), "?").unwrap();
    // A blob that no snapshot links to.
    let empty = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
    fs::write(blob(&cache, empty), "").unwrap();
    let report = verify(cache.path()).unwrap();
    assert_eq!((report.files, report.bytes), (3, 9));
    assert_eq!(report.unknown, [copy.clone(), blob(&cache, "odd")]);
    assert_eq!(verify(&snapshot(&cache)).unwrap().unknown, [copy]);
}

#[test]
fn a_cache_without_links_has_nothing_to_compare() {
    let cache = tempfile::tempdir().unwrap();
    let snapshot = cache.path().join(MODEL).join("snapshots/c0ffee");
    fs::create_dir_all(&snapshot).unwrap();
    assert!(matches!(verify(cache.path()), Err(IntegrityError::Nothing { .. })));
    fs::write(snapshot.join("model_index.json"), "{}").unwrap();
    let cancel = &mut |_, _| ControlFlow::Break(());
    assert!(matches!(verify_with(&snapshot, cancel), Err(IntegrityError::Nothing { .. })));
}

#[test]
fn a_list_in_a_snapshot_counts_more_than_the_blobs() {
    let cache = cache();
    let sums = snapshot(&cache).join("SHA256SUMS");
    fs::write(&sums, format!("{ABC_SHA}  model_index.json\n")).unwrap();
    assert!(matches!(verify(&snapshot(&cache)), Err(IntegrityError::Digest { .. })));
    // SHA-256 of `hello\n`.
    let hello = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03";
    fs::write(&sums, format!("{hello}  model_index.json\n")).unwrap();
    assert_eq!(counts(&snapshot(&cache)), (2, 9, 0));
}
