//! Caches on file systems that know less than others, or have no room.

use wan_io::hub::HubEvent;
use wan_io::integrity::verify;

use crate::*;

#[test]
fn a_cache_that_cannot_be_made_is_called_that() {
    let setup = Setup::new();
    let file = setup.folder.path().join("a file");
    std::fs::write(&file, "").unwrap();
    let options = HubOptions { cache: file.join("cache"), ..setup.options() };
    let error = get(options, SMALL).unwrap_err();
    assert!(matches!(error, HubError::Cache { verb: "made", .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.starts_with(file.to_str().unwrap()), "{message}");
    assert!(message.contains("cannot be made: ") && message.contains("HF_HOME"), "{message}");
    assert!(setup.transfers(SMALL).is_empty());
}

/// File systems that refuse calls, which `refuse.c` plays in a process of its own. It is compiled by
/// `CC` or `cc`; without one these tests pass with a note, unless `WAN_REQUIRE_CC` is set.
#[cfg(target_os = "linux")]
mod refused {
    use std::process::{Child, Command, Stdio};
    use std::sync::OnceLock;

    use wan_mock_hub::sha256;

    use super::*;

    const CHILD: &str = "WAN_HUB_TEST_DISK";
    const COPY: &str = "copy.safetensors";

    const EPERM: i32 = 1;
    const EIO: i32 = 5;
    const EINVAL: i32 = 22;
    const ENOSPC: i32 = 28;
    const EROFS: i32 = 30;
    const ENOLCK: i32 = 37;
    const ENOSYS: i32 = 38;
    const EOPNOTSUPP: i32 = 95;
    const EDQUOT: i32 = 122;

    fn library() -> Option<&'static Path> {
        static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
        LIBRARY.get_or_init(compile).as_deref()
    }

    fn compile() -> Option<PathBuf> {
        let compiler = std::env::var("CC").unwrap_or("cc".into());
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("librefuse.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hub/refuse.c");
        let mut command = Command::new(&compiler);
        command.args(["-shared", "-fPIC", "-o"]).args([&library, &source]).arg("-ldl");
        if command.status().is_ok_and(|status| status.success()) {
            return Some(library);
        }
        assert!(std::env::var_os("WAN_REQUIRE_CC").is_none(), "{compiler} does not compile");
        eprintln!("skipped: {compiler} does not compile");
        None
    }

    /// A model with two names of one content.
    fn setup() -> Setup {
        Setup::with(model().file(COPY, large()))
    }

    /// Downloads in a process whose file system refuses calls: `symlink=1,flock=38`.
    fn start(setup: &Setup, library: &Path, refused: &str, offline: bool) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "disks::refused::the_process_on_such_a_disk", "--nocapture"])
            .env(CHILD, "1")
            .env("LD_PRELOAD", library)
            .env("REFUSED", refused)
            .env("HF_ENDPOINT", setup.hub.endpoint())
            .env("HF_HUB_CACHE", setup.cache())
            .env("HF_HUB_OFFLINE", if offline { "1" } else { "0" })
            .stdout(Stdio::piped())
            .spawn()
            .unwrap()
    }

    /// How many events said that there are no links; or the error.
    fn end(child: Child) -> Result<usize, String> {
        let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
        let line = output.lines().find_map(|line| line.split_once("child: ")).expect(&output).1;
        line.parse().map_err(|_| line.to_owned())
    }

    fn run(setup: &Setup, library: &Path, refused: &str, offline: bool) -> Result<usize, String> {
        end(start(setup, library, refused, offline))
    }

    #[test]
    fn the_process_on_such_a_disk() {
        if std::env::var_os(CHILD).is_none() {
            return;
        }
        let mut told = 0;
        let mut observer = |event: HubEvent| {
            told += usize::from(matches!(event, HubEvent::NoLinks { .. }));
            ControlFlow::Continue(())
        };
        let mut load = || {
            let hub = Hub::new(HubOptions::from_env()?)?;
            let snapshot = hub.open(MODEL, "main", &mut observer)?;
            snapshot.fetch(&[SMALL], &mut observer)?;
            snapshot.fetch(&[SMALL, LARGE, COPY], &mut observer)?;
            snapshot.finish()
        };
        match load() {
            Ok(()) => println!("\nchild: {told}"),
            Err(error) => println!("\nchild: {error}"),
        }
    }

    /// The folder of the only snapshot, in which all files are right.
    #[track_caller]
    fn snapshot(setup: &Setup) -> PathBuf {
        let snapshot = setup.open().unwrap().folder();
        for (name, content) in [(SMALL, small()), (LARGE, large()), (COPY, large())] {
            assert!(std::fs::read(snapshot.join(name)).unwrap() == content, "{name}");
        }
        assert!(!files_below(&setup.cache()).iter().any(|name| name.contains(".partial")));
        snapshot
    }

    #[test]
    fn without_symbolic_links_files_are_linked_otherwise_or_moved() {
        let Some(library) = library() else { return };
        for errno in [EPERM, EIO, EINVAL, ENOSYS, EOPNOTSUPP] {
            for refused in [format!("symlink={errno}"), format!("symlink={errno},linkat={errno}")] {
                let setup = setup();
                assert_eq!(run(&setup, library, &refused, false), Ok(1), "{refused}");
                let snapshot = snapshot(&setup);
                assert!(!snapshot.join(LARGE).is_symlink() && !snapshot.join(SMALL).is_symlink());
                let is_moved = !setup.blob(&sha256(&large())).exists();
                assert_eq!(is_moved, refused.contains("linkat"), "{refused}");
                assert_eq!(setup.transfers(LARGE).len() + setup.transfers(COPY).len(), 1);
            }
        }
    }

    #[test]
    fn files_that_are_no_links_are_found_and_checked_again() {
        let Some(library) = library() else { return };
        for refused in ["symlink=1", "symlink=1,linkat=1"] {
            let setup = setup();
            run(&setup, library, refused, false).unwrap();
            setup.hub.clear_requests();
            assert_eq!(run(&setup, library, refused, false), Ok(0), "the next start, {refused}");
            assert_eq!(run(&setup, library, refused, true), Ok(0), "without the hub, {refused}");
            assert!(setup.hub.requests().iter().all(|request| request.path.starts_with("/api/")));
            let snapshot = snapshot(&setup);
            let report = verify(&snapshot).unwrap();
            assert_eq!((report.files, report.unknown.len()), (3, 0), "{refused}");

            std::fs::write(snapshot.join(LARGE), vec![0; 300_000]).unwrap();
            let error = run(&setup, library, refused, true).unwrap_err();
            assert!(error.contains(LARGE) && error.contains(&sha256(&large())), "{error}");
            run(&setup, library, refused, false).unwrap();
            super::refused::snapshot(&setup);
        }
    }

    #[test]
    fn without_locks_and_fsync_downloads_go_on() {
        let Some(library) = library() else { return };
        for call in ["flock", "fsync"] {
            for errno in [ENOSYS, ENOLCK, EOPNOTSUPP, EINVAL] {
                let setup = setup();
                assert_eq!(
                    run(&setup, library, &format!("{call}={errno}"), false),
                    Ok(0),
                    "{call}"
                );
                snapshot(&setup);
            }
            let setup = setup();
            let error = run(&setup, library, &format!("{call}={EIO}"), false).unwrap_err();
            assert!(error.contains("os error 5") && error.starts_with('/'), "{call}: {error}");
        }
    }

    #[test]
    fn without_locks_several_may_download_at_once_and_a_cut_one_goes_on() {
        let Some(library) = library() else { return };
        let setup = setup();
        let partial = setup.blob(&format!("{}.incomplete", sha256(&large())));
        std::fs::create_dir_all(partial.parent().unwrap()).unwrap();
        std::fs::write(&partial, &large()[..1000]).unwrap();
        let children: Vec<_> =
            (0..4).map(|_| start(&setup, library, "flock=38,symlink=1,linkat=1", false)).collect();
        for child in children {
            end(child).unwrap();
        }
        snapshot(&setup);
        let ranges = setup
            .transfers(LARGE)
            .into_iter()
            .filter_map(|request| request.header("range").map(str::to_owned));
        assert!(ranges.eq(["bytes=1000-"]), "who came first went on");
        let blobs = std::fs::read_dir(partial.parent().unwrap()).unwrap();
        let left: Vec<_> = blobs.map(|entry| entry.unwrap().file_name()).collect();
        let unfinished = left.iter().any(|name| name.to_str().unwrap().contains("incomplete"));
        assert!(!unfinished, "{left:?}");
    }

    #[test]
    fn a_full_disk_is_called_that() {
        let Some(library) = library() else { return };
        for errno in [ENOSPC, EDQUOT] {
            for call in ["write", "fsync", "mkdir"] {
                let setup = setup();
                let error = run(&setup, library, &format!("{call}={errno}"), false).unwrap_err();
                assert!(error.contains("continued when there is room"), "{call}: {error}");
            }
        }
    }

    /// A model that someone else keeps, such as on a share of a cluster.
    #[test]
    fn a_cache_that_is_read_only_is_used() {
        let Some(library) = library() else { return };
        let setup = setup();
        run(&setup, library, "", false).unwrap();
        let model = setup.cache().join("models--owner--model");
        std::fs::remove_dir_all(model.join(".wan-verified")).unwrap();
        let refused = ["symlink", "linkat", "rename", "mkdir", "open"];
        let refused = refused.map(|call| format!("{call}={EROFS}")).join(",");
        assert_eq!(run(&setup, library, &refused, true), Ok(0));
        std::fs::remove_file(model.join("refs/main")).unwrap();
        assert_eq!(run(&setup, library, &refused, false), Ok(0));
        assert!(!model.join(".wan-verified").exists() && !model.join("refs/main").exists());

        // What is missing cannot come.
        std::fs::remove_dir_all(&model).unwrap();
        let error = run(&setup, library, &refused, false).unwrap_err();
        assert!(error.contains("cannot be made: Read-only file system"), "{error}");
    }
}
