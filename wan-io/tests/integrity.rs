//! Checks of files and folders with `SHA256SUMS`, on real files.

use std::{
    fs::{self, File},
    io::Write as _,
    ops::ControlFlow,
    path::{MAIN_SEPARATOR, Path, PathBuf},
};

use tempfile::TempDir;
use wan_io::integrity::{
    Digest, Expected, Hasher, IntegrityError, Markers, Verify, check, known, markers_for, verify,
    verify_with,
};

const EMPTY_SHA: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
const EMPTY_BLOB: &str = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
const ABC_SHA: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
const AGAIN: &str = "delete it (and, if it is a link, what it links to) and download it again";

fn digest(hex: &str) -> Digest {
    Digest::from_hex(hex).unwrap()
}

fn sha256(content: &[u8]) -> Digest {
    let mut hasher = Hasher::new(&digest(EMPTY_SHA), content.len() as u64);
    hasher.update(content);
    hasher.finish()
}

fn expect(path: &Path, size: impl Into<Option<u64>>, hex: &str) -> Expected {
    Expected { path: path.to_owned(), size: size.into(), digest: Some(digest(hex)) }
}

fn quiet(_: u64, _: u64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn check_all(files: &[Expected], policy: Verify, markers: &Markers) -> Result<(), IntegrityError> {
    check(files, policy, markers, &mut quiet)
}

/// A folder with the files, and a `SHA256SUMS` of them.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut sums = String::new();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        sums += &format!("{}  {name}\n", sha256(content));
    }
    fs::write(folder.path().join("SHA256SUMS"), sums).unwrap();
    folder
}

/// Changes the content of a file, and nothing else.
fn corrupt(path: &Path, content: &[u8]) {
    let modified = path.metadata().unwrap().modified().unwrap();
    let mut file = File::options().write(true).open(path).unwrap();
    file.write_all(content).unwrap();
    file.set_modified(modified).unwrap();
}

#[test]
fn right_files_pass() {
    let folder = folder(&[("a", b""), ("b", b"abc")]);
    let (a, b) = (folder.path().join("a"), folder.path().join("b"));
    let files = [
        expect(&a, 0, EMPTY_SHA),
        expect(&a, None, EMPTY_BLOB),
        expect(&b, 3, ABC_SHA),
        Expected { path: b.clone(), size: Some(3), digest: None },
    ];
    let markers = Markers::new(folder.path().join("markers"));
    check_all(&files, Verify::Always, &markers).unwrap();
    assert!(markers.holds(&a, &digest(EMPTY_SHA)));
    assert!(markers.holds(&a, &digest(EMPTY_BLOB)));
    assert!(markers.holds(&b, &digest(ABC_SHA)));
    assert!(!markers.holds(&b, &digest(EMPTY_SHA)));
    assert_eq!(fs::read_dir(folder.path().join("markers")).unwrap().count(), 3);
}

#[test]
fn messages_name_path_found_and_expected() {
    let folder = folder(&[("a", b"abc")]);
    let (a, none) = (folder.path().join("a"), folder.path().join("none"));
    let markers = markers_for(folder.path());
    let message = |file: Expected| {
        let error = check_all(&[file], Verify::OnDownload, &markers).unwrap_err();
        error.to_string().replace(&format!("{}{MAIN_SEPARATOR}", folder.path().display()), "")
    };
    assert_eq!(
        message(expect(&a, 4, ABC_SHA)),
        format!("a: has 3 bytes, but must have 4; {AGAIN}")
    );
    assert_eq!(
        message(expect(&a, 3, EMPTY_SHA)),
        format!("a: has the SHA-256 {ABC_SHA}, but must have {EMPTY_SHA}; {AGAIN}")
    );
    assert_eq!(
        message(expect(&a, None, EMPTY_BLOB)),
        format!(
            "a: has the git SHA-1 f2ba8f84ab5c1bce84a7b441cb1959cfc7093b7f, but must have \
             {EMPTY_BLOB}; {AGAIN}"
        )
    );
    let missing = message(Expected { path: none, size: None, digest: None });
    assert_eq!(missing, "none: there is no such file; download it again");
    let itself = expect(&folder.path().join("."), None, ABC_SHA);
    assert!(message(itself).ends_with(": is not a file"));
    assert_eq!(IntegrityError::Cancelled.to_string(), "the check of the files was cancelled");
    let source = std::io::Error::other("the disk is gone");
    let error = IntegrityError::Io { path: "a".into(), source };
    assert_eq!(error.to_string(), "a: the disk is gone");
}

#[test]
fn all_that_is_wrong_is_told() {
    let folder = folder(&[("a", b"abc"), ("b", &[0; 3_000_000]), ("c", b"abc")]);
    let at = |name| folder.path().join(name);
    let files = [
        expect(&at("a"), None, EMPTY_SHA),
        expect(&at("none"), None, ABC_SHA),
        expect(&at("b"), None, ABC_SHA),
        expect(&at("c"), None, ABC_SHA),
        expect(&at("c"), 5, ABC_SHA),
    ];
    let error = check_all(&files, Verify::Always, &markers_for(folder.path())).unwrap_err();
    let text = error.to_string();
    let names: Vec<_> = text.lines().map(|line| line.split(": ").next().unwrap()).collect();
    let expected = ["a", "none", "b", "c"].map(|name| at(name).display().to_string());
    assert_eq!(names, expected);
    assert!(matches!(error, IntegrityError::Several(errors) if errors.len() == 4));
}

#[test]
fn a_marker_spares_the_second_hash() {
    let folder = folder(&[("a", b"abc")]);
    let a = folder.path().join("a");
    let (files, markers) = ([expect(&a, 3, ABC_SHA)], markers_for(folder.path()));
    check_all(&files, Verify::OnDownload, &markers).unwrap();

    corrupt(&a, b"abd");
    check_all(&files, Verify::OnDownload, &markers).unwrap();
    check_all(&files, Verify::Never, &markers).unwrap();
    let error = check_all(&files, Verify::Always, &markers).unwrap_err();
    assert!(matches!(error, IntegrityError::Digest { .. }));
    assert!(matches!(verify(&a), Err(IntegrityError::Digest { .. })));

    let later = a.metadata().unwrap().modified().unwrap() + std::time::Duration::from_nanos(1000);
    File::options().write(true).open(&a).unwrap().set_modified(later).unwrap();
    let error = check_all(&files, Verify::OnDownload, &markers).unwrap_err();
    assert!(matches!(error, IntegrityError::Digest { .. }));
}

#[test]
fn a_marker_is_of_one_size_inode_and_path() {
    let folder = folder(&[("a", b"abc"), ("b", b"abc"), ("c", b"abc")]);
    let at = |name| folder.path().join(name);
    let markers = Markers::new(at("markers"));
    markers.record(&at("a"), &digest(ABC_SHA)).unwrap();
    assert!(markers.clone().holds(&at("a"), &digest(ABC_SHA)));
    assert!(!markers.holds(&at("b"), &digest(ABC_SHA)));
    assert!(!markers.holds(&at("none"), &digest(ABC_SHA)));

    let modified = at("a").metadata().unwrap().modified().unwrap();
    let file = File::options().write(true).open(at("a")).unwrap();
    file.set_len(2).unwrap();
    file.set_modified(modified).unwrap();
    assert!(!markers.holds(&at("a"), &digest(ABC_SHA)));

    markers.record(&at("a"), &digest(ABC_SHA)).unwrap();
    assert!(markers.holds(&at("a"), &digest(ABC_SHA)), "a new note is put over the old one");
    if cfg!(unix) {
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        markers.record(&at("a"), &digest(ABC_SHA)).unwrap();
        let other = File::options().write(true).open(at("c")).unwrap();
        other.set_len(2).unwrap();
        other.set_modified(std::time::UNIX_EPOCH).unwrap();
        fs::rename(at("c"), at("a")).unwrap();
        assert!(!markers.holds(&at("a"), &digest(ABC_SHA)), "another file of the same name");
    }
}

#[test]
fn damaged_markers_count_for_nothing() {
    let folder = folder(&[("a", b"abc")]);
    let a = folder.path().join("a");
    let markers = markers_for(folder.path());
    let marker = || fs::read_dir(folder.path().join(".wan-verified")).unwrap().next().unwrap();
    markers.record(&a, &digest(ABC_SHA)).unwrap();
    let path = marker().unwrap().path();
    let note = fs::read(&path).unwrap();
    for damaged in [vec![0; note.len()], Vec::new(), [note.as_slice(), b"\n"].concat()] {
        fs::write(&path, damaged).unwrap();
        assert!(!markers.holds(&a, &digest(ABC_SHA)));
    }
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert!(!markers.holds(&a, &digest(ABC_SHA)));
    check_all(&[expect(&a, 3, ABC_SHA)], Verify::OnDownload, &markers).unwrap();
}

#[test]
fn markers_that_cannot_be_written_are_no_error() {
    let folder = folder(&[("a", b"abc")]);
    let a = folder.path().join("a");
    // Holds for root too, whom no permission stops.
    let markers = Markers::new(a.join("markers"));
    check_all(&[expect(&a, 3, ABC_SHA)], Verify::OnDownload, &markers).unwrap();
    assert!(markers.record(&a, &digest(ABC_SHA)).is_err());
    assert!(!markers.holds(&a, &digest(ABC_SHA)));
}

#[test]
#[cfg(unix)]
fn a_read_only_folder_can_be_verified() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = folder(&[("a", b"abc")]);
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let report = verify(folder.path());
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    assert_eq!(report.unwrap().files, 1);
}

#[test]
fn never_looks_at_nothing() {
    let files = [expect(Path::new("/there/is/no/such/file"), 1, ABC_SHA)];
    let mut progress = |_, _| panic!("there is nothing to tell");
    check(&files, Verify::Never, &Markers::new(PathBuf::new()), &mut progress).unwrap();
}

#[test]
fn progress_grows_to_the_total() {
    let (big, small) = (vec![1; 5_000_000], vec![2; 1_500_000]);
    let folder = folder(&[("big", &big), ("small", &small), ("wrong", &small), ("empty", b"")]);
    fs::write(folder.path().join("wrong"), vec![3; 1_500_000]).unwrap();
    let mut told = Vec::new();
    let error = verify_with(folder.path(), &mut |done, total| {
        told.push((done, total));
        ControlFlow::Continue(())
    });
    assert!(matches!(error, Err(IntegrityError::Digest { .. })));
    assert_eq!(told.first(), Some(&(0, 8_000_000)));
    assert_eq!(told.last(), Some(&(8_000_000, 8_000_000)));
    assert!(told.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 == pair[1].1));
}

/// A file that takes minutes to hash, but no space.
#[cfg(unix)]
fn huge_file() -> (TempDir, [Expected; 1]) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("huge");
    File::create(&path).unwrap().set_len(1 << 40).unwrap();
    (folder, [expect(&path, 1 << 40, ABC_SHA)])
}

#[test]
#[cfg(unix)]
fn cancelling_ends_the_check() {
    let (folder, files) = huge_file();
    for least in [0, 1] {
        let mut progress = |done, _| match done >= least {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        };
        let markers = markers_for(folder.path());
        let error = check(&files, Verify::OnDownload, &markers, &mut progress).unwrap_err();
        assert!(matches!(error, IntegrityError::Cancelled));
    }
    assert!(!folder.path().join(".wan-verified").exists());
}

#[test]
#[cfg(unix)]
fn a_panic_in_progress_ends_the_check() {
    let (folder, files) = huge_file();
    let run = || {
        let mut progress = |_, _| panic!("of the caller");
        check(&files, Verify::Always, &markers_for(folder.path()), &mut progress)
    };
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
}

#[test]
fn a_folder_with_sums() {
    let files: [(&str, &[u8]); 3] =
        [("a", b"abc"), ("transformer/x.safetensors", b"x"), ("e", b"")];
    let folder = folder(&files);
    let at = |name| folder.path().join(name);
    fs::write(at("new"), "?").unwrap();
    fs::write(at("transformer/new"), "?").unwrap();
    for _ in 0..2 {
        let report = wan_io::verify(folder.path()).unwrap();
        assert_eq!((report.files, report.bytes), (3, 4));
        assert_eq!(report.unknown, [at("new"), at("transformer/new")]);
    }
    assert!(markers_for(folder.path()).holds(&at("a"), &digest(ABC_SHA)));
    assert_eq!(verify(&at("a")).unwrap().files, 1);

    fs::write(at("transformer/x.safetensors"), "y").unwrap();
    fs::remove_file(at("e")).unwrap();
    let error = verify(folder.path()).unwrap_err();
    let IntegrityError::Several(errors) = error else { panic!("{error}") };
    assert!(matches!(&errors[0], IntegrityError::Missing { path } if *path == at("e")));
    assert!(matches!(&errors[1], IntegrityError::Digest { .. }));
}

#[test]
fn known_has_one_entry_for_each_name() {
    let folder = folder(&[("a", b"abc"), ("b/c", b"")]);
    let names = ["b/c", "none", "a"].map(String::from);
    let files = known(folder.path(), &names).unwrap();
    let paths = names.each_ref().map(|name| folder.path().join(name));
    let digests = [Some(digest(EMPTY_SHA)), None, Some(digest(ABC_SHA))];
    for ((file, path), digest) in files.iter().zip(paths).zip(digests) {
        assert_eq!(*file, Expected { path, size: None, digest });
    }
    assert_eq!(files.len(), 3);
}

#[test]
fn broken_sums_are_an_error() {
    let folder = folder(&[("a", b"abc")]);
    let sums = folder.path().join("SHA256SUMS");
    fs::write(&sums, format!("{ABC_SHA}  a\n{ABC_SHA}  ../b\n")).unwrap();
    let errors = [
        verify(folder.path()).unwrap_err(),
        verify(&folder.path().join("a")).unwrap_err(),
        known(folder.path(), &["a".into()]).unwrap_err(),
    ];
    for error in errors {
        let expected = format!(
            "{}, line 2: the name must be a relative path, without empty parts, . and ..",
            sums.display()
        );
        assert_eq!(error.to_string(), expected);
        assert!(matches!(error, IntegrityError::Sums { line: 2, .. }));
    }
    fs::remove_file(&sums).unwrap();
    fs::create_dir(&sums).unwrap();
    assert!(
        matches!(verify(folder.path()), Err(IntegrityError::NotAFile { path }) if path == sums)
    );
}

#[test]
fn nothing_to_compare_with_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("a");
    fs::write(&file, "abc").unwrap();
    for path in [folder.path(), &file] {
        let error = verify(path).unwrap_err();
        assert!(error.to_string().contains("there is nothing to compare with"), "{error}");
        assert!(matches!(error, IntegrityError::Nothing { path: named } if named == path));
    }
    let none = folder.path().join("none");
    assert!(matches!(verify(&none), Err(IntegrityError::Missing { path }) if path == none));
}

#[test]
#[cfg(unix)]
fn pipes_do_not_block() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    let is_named =
        |error: IntegrityError| matches!(error, IntegrityError::NotAFile { path } if path == pipe);
    assert!(is_named(verify(&pipe).unwrap_err()));
    fs::write(folder.path().join("SHA256SUMS"), format!("{ABC_SHA}  pipe")).unwrap();
    assert!(is_named(verify(folder.path()).unwrap_err()));
    let markers = markers_for(folder.path());
    let files = [expect(&pipe, None, ABC_SHA)];
    assert!(is_named(check_all(&files, Verify::OnDownload, &markers).unwrap_err()));
}
