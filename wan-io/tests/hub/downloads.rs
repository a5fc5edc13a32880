//! What is downloaded, where it goes, and what happens when the connection is bad.

use wan_io::hub::{HubError, HubEvent};
use wan_io::integrity::{IntegrityError, Verify};
use wan_mock_hub::{Fault, Files, On, git_blob, sha256};

use crate::*;

fn headers(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn files_come_into_the_standard_cache_and_only_those_asked_for() {
    let setup = Setup::new();
    let snapshot = setup.open().unwrap();
    assert!(snapshot.has(SMALL) && snapshot.has("README.md") && !snapshot.has("none"));
    snapshot.fetch(&[SMALL, LARGE], &mut quiet).unwrap();
    snapshot.finish().unwrap();

    let (commit, root) = (snapshot.commit().to_owned(), setup.cache().join("models--owner--model"));
    let (small_blob, large_blob) = (git_blob(&small()), sha256(&large()));
    let link = |name: &str| std::fs::read_link(snapshot.folder().join(name)).unwrap();
    assert_eq!(snapshot.folder(), root.join("snapshots").join(&commit));
    assert_eq!(link(SMALL), PathBuf::from(format!("../../blobs/{small_blob}")));
    assert_eq!(link(LARGE), PathBuf::from(format!("../../../blobs/{large_blob}")));
    assert_eq!(std::fs::read(root.join("blobs").join(large_blob)).unwrap(), large());
    assert_eq!(std::fs::read_to_string(root.join("refs/main")).unwrap(), commit);
    let files: Vec<String> = files_below(&root);
    assert_eq!(files.iter().filter(|name| name.starts_with("blobs")).count(), 2, "{files:?}");
    let asked: Vec<String> = setup.hub.requests().into_iter().map(|request| request.file).collect();
    assert!(!asked.iter().any(|file| file.contains("assets") || file.contains("README")));
}

#[test]
fn what_is_in_the_cache_is_not_downloaded_again() {
    let setup = Setup::new();
    setup.get(LARGE).unwrap();
    setup.hub.clear_requests();
    assert_eq!(setup.get(LARGE).unwrap(), large());
    assert!(setup.hub.requests().iter().all(|request| request.path.starts_with("/api/")));
}

#[test]
fn all_files_are_of_the_commit_that_was_resolved_first() {
    let setup = Setup::new();
    let snapshot = setup.open().unwrap();
    let moved: Files = [(SMALL.to_owned(), b"{}".to_vec().into())].into();
    setup.hub.add(model().branch("main", moved));
    snapshot.fetch(&[SMALL], &mut quiet).unwrap();
    assert_eq!(std::fs::read(snapshot.folder().join(SMALL)).unwrap(), small());
    assert_ne!(setup.open().unwrap().commit(), snapshot.commit());
    assert_eq!(setup.get(SMALL).unwrap(), b"{}");
}

#[test]
fn branch_tag_and_commit_are_revisions() {
    let pr: Files = [(SMALL.to_owned(), b"{\"pr\": 1}".to_vec().into())].into();
    let setup = Setup::with(model().branch("refs/pr/1", pr));
    let hub = Hub::new(setup.options()).unwrap();
    let commit = setup.open().unwrap().commit().to_owned();
    let by_commit = hub.open(MODEL, &commit, &mut quiet).unwrap();
    assert_eq!(by_commit.commit(), commit);
    let snapshot = hub.open(MODEL, "refs/pr/1", &mut quiet).unwrap();
    assert_ne!(snapshot.commit(), commit);
    snapshot.fetch(&[SMALL], &mut quiet).unwrap();
    snapshot.finish().unwrap();
    let reference = setup.cache().join("models--owner--model/refs/refs/pr/1");
    assert_eq!(std::fs::read_to_string(reference).unwrap(), snapshot.commit());
    let error = hub.open(MODEL, "v9", &mut quiet).unwrap_err();
    assert_eq!(error.to_string(), "owner/model: has no branch, tag or commit \"v9\"");
}

#[test]
fn long_list_of_files_comes_in_pages() {
    let setup = Setup::new();
    setup.hub.page_size(2);
    assert_eq!(setup.get(LARGE).unwrap(), large());
    let trees = setup.hub.requests().iter().filter(|r| r.path.contains("/tree/")).count();
    assert!(trees > 2, "{trees}");
}

#[test]
fn empty_file_and_two_names_of_one_content() {
    let repo = model().file("empty.txt", "").file("copy.safetensors", large());
    let setup = Setup::with(repo.file("name with space+ü.txt", "x"));
    let snapshot = setup.open().unwrap();
    let names = ["empty.txt", LARGE, "copy.safetensors", "name with space+ü.txt"];
    snapshot.fetch(&names, &mut quiet).unwrap();
    let read = |name: &str| std::fs::read(snapshot.folder().join(name)).unwrap();
    assert_eq!((read("empty.txt"), read("name with space+ü.txt")), (vec![], b"x".to_vec()));
    assert_eq!((read(LARGE), read("copy.safetensors")), (large(), large()));
    let cdn = setup.hub.requests().iter().filter(|r| r.origin == Origin::Cdn).count();
    assert_eq!(cdn, 1);
}

#[test]
fn download_goes_on_wherever_it_was_cut() {
    let bytes: Vec<u8> = (0..=255).collect();
    let setup = Setup::with(model().lfs_from(200).file("cut.bin", bytes.clone()));
    let blob = setup.blob(&sha256(&bytes));
    std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
    for cut in 0..=bytes.len() + 1 {
        let mut part = bytes.clone();
        part.resize(cut, 0);
        std::fs::write(blob.with_extension("incomplete"), part).unwrap();
        setup.hub.clear_requests();
        assert_eq!(setup.get("cut.bin").unwrap(), bytes, "cut at {cut}");
        let requests = setup.hub.requests();
        let range = requests.iter().find(|request| request.origin == Origin::Cdn);
        let range = range.map(|request| request.header("range").unwrap_or("all").to_owned());
        let expected = match cut {
            256 => None,
            0 | 257 => Some("all".to_owned()),
            _ => Some(format!("bytes={cut}-")),
        };
        assert_eq!(range, expected, "cut at {cut}");
        std::fs::remove_file(&blob).unwrap();
    }
}

#[test]
fn dropped_connection_is_continued() {
    for (file, on, bytes) in [(LARGE, On::Cdn, large()), (SMALL, On::Resolve, small())] {
        let setup = Setup::new();
        let cut = bytes.len() as u64 / 3;
        setup.hub.fault(file, on, Fault::DropAfter(cut), 1);
        let mut reasons = Vec::new();
        let snapshot = setup.open().unwrap();
        let mut observer = |event: HubEvent| {
            if let HubEvent::Retrying { file, reason, .. } = event {
                reasons.push(format!("{file}: {reason}"));
            }
            ControlFlow::Continue(())
        };
        snapshot.fetch(&[file], &mut observer).unwrap();
        assert_eq!(std::fs::read(snapshot.folder().join(file)).unwrap(), bytes);
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        let transfers = setup.transfers(file);
        assert_eq!(transfers.len(), 2);
        assert_eq!(transfers[1].header("range"), Some(format!("bytes={cut}-").as_str()));
    }
}

#[test]
fn server_that_answers_a_range_otherwise_is_understood() {
    let after_a_cut = [Fault::IgnoreRange, Fault::WrongRange(7), Fault::Status(416, headers(&[]))];
    for fault in after_a_cut {
        let setup = Setup::new();
        let shown = format!("{fault:?}");
        setup.hub.fault(LARGE, On::Cdn, Fault::DropAfter(100_000), 1);
        setup.hub.fault(LARGE, On::Cdn, fault, 1);
        assert_eq!(setup.get(LARGE).unwrap(), large(), "{shown}");
    }
}

#[test]
fn passing_errors_are_tried_again() {
    let wait = [("Retry-After", "0")];
    for (status, on) in [(429, On::Cdn), (503, On::Cdn), (500, On::Resolve), (408, On::Resolve)] {
        let setup = Setup::new();
        setup.hub.fault(LARGE, on, Fault::Status(status, headers(&wait)), 1);
        assert_eq!(setup.get(LARGE).unwrap(), large(), "{status}");
    }
    for (file, on) in [("", On::Revision), ("", On::Tree)] {
        let setup = Setup::new();
        setup.hub.fault(file, on, Fault::Status(502, headers(&wait)), 1);
        assert_eq!(setup.get(SMALL).unwrap(), small());
    }
}

#[test]
fn hub_that_is_asked_too_often_is_left_in_peace() {
    let setup = Setup::new();
    setup.hub.fault("", On::Revision, Fault::Status(429, headers(&[("Retry-After", "3600")])), 9);
    let error = setup.get(SMALL).unwrap_err();
    assert!(matches!(error, HubError::RateLimited { seconds: Some(3600), .. }), "{error}");
    assert!(error.to_string().contains("asks to wait 3600 s"), "{error}");
    assert_eq!(setup.hub.requests().len(), 1);

    let setup = Setup::new();
    setup.hub.fault(LARGE, On::Cdn, Fault::Status(429, headers(&[("Retry-After", "0")])), 99);
    assert!(matches!(setup.get(LARGE).unwrap_err(), HubError::RateLimited { .. }));
    assert!(setup.transfers(LARGE).len() < 10);
}

#[test]
fn wait_that_the_hub_asks_for_is_told_and_taken() {
    for (file, on, subject) in [
        ("", On::Revision, "the list of files"),
        ("", On::Tree, "the list of files"),
        (LARGE, On::Cdn, LARGE),
    ] {
        let setup = Setup::new();
        let limit = |left| Fault::Status(429, headers(&[("RateLimit", left)]));
        // More often than a request is tried that fails.
        setup.hub.fault(file, on, limit("\"api\";r=0;t=0"), 4);
        let (result, heard) = get_and_hear(setup.options(), LARGE);
        assert_eq!(result.unwrap(), large(), "{on:?}");
        let retries = heard.iter().filter(|event| match event {
            HubEvent::Retrying { file, reason, wait } => {
                file == subject && reason.contains("asks to wait 0 s") && wait.is_zero()
            }
            _ => false,
        });
        assert_eq!(retries.count(), 4, "{on:?}: {heard:?}");
    }
}

#[test]
fn wait_can_be_cancelled() {
    for (file, on) in [("", On::Tree), (LARGE, On::Cdn)] {
        let setup = Setup::new();
        let limit = Fault::Status(429, headers(&[("RateLimit", "\"api\";r=0;t=300")]));
        setup.hub.fault(file, on, limit, usize::MAX);
        let mut waits = Vec::new();
        let mut observer = |event: HubEvent| match event {
            HubEvent::Retrying { wait, .. } => {
                waits.push(wait);
                ControlFlow::Continue(())
            }
            HubEvent::Pausing { .. } => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        };
        let hub = Hub::new(setup.options()).unwrap();
        let opened = hub.open(MODEL, "main", &mut observer);
        let result = opened.and_then(|snapshot| snapshot.fetch(&[LARGE], &mut observer));
        assert!(matches!(result, Err(HubError::Cancelled)), "{result:?}");
        assert_eq!(waits, [std::time::Duration::from_secs(300)]);
    }
}

#[test]
fn wrong_bytes_are_downloaded_once_more_and_then_refused() {
    let setup = Setup::new();
    setup.hub.fault(LARGE, On::Cdn, Fault::WrongBytes, 1);
    let (result, heard) = get_and_hear(setup.options(), LARGE);
    assert_eq!(result.unwrap(), large());
    assert_eq!(setup.transfers(LARGE).len(), 2);
    let reason = heard.iter().find_map(|event| match event {
        HubEvent::Retrying { reason, .. } => Some(reason.as_str()),
        _ => None,
    });
    let reason = reason.unwrap();
    assert!(reason.starts_with("it arrived with the checksum "), "{reason}");
    assert!(!reason.contains("twice"), "{reason}");

    let setup = Setup::new();
    setup.hub.fault(LARGE, On::Cdn, Fault::WrongBytes, usize::MAX);
    let error = setup.get(LARGE).unwrap_err();
    let wrong: Vec<u8> = large().iter().map(|byte| byte ^ 0x5a).collect();
    assert_eq!(
        error.to_string(),
        format!(
            "owner/model: {LARGE} arrived with the checksum {}, but the hub says {}, twice; \
             nothing of it was kept",
            sha256(&wrong),
            sha256(&large())
        )
    );
    assert_eq!(setup.transfers(LARGE).len(), 2);
    assert_eq!(files_below(&setup.cache()), Vec::<String>::new());
}

#[test]
fn wrong_bytes_before_a_cut_are_found_out() {
    let setup = Setup::new();
    let blob = setup.blob(&sha256(&large()));
    std::fs::create_dir_all(blob.parent().unwrap()).unwrap();
    std::fs::write(blob.with_extension("incomplete"), vec![1; 1000]).unwrap();
    assert_eq!(setup.get(LARGE).unwrap(), large());
    let ranges: Vec<_> =
        setup.transfers(LARGE).iter().map(|r| r.header("range").map(str::to_owned)).collect();
    assert_eq!(ranges, [Some("bytes=1000-".to_owned()), None]);
}

#[test]
fn short_body_is_refused_and_so_is_a_long_one() {
    for (fault, found) in [
        (Fault::Short(1000), "1000 bytes"),
        (Fault::Body(vec![0; 300_001]), "300001 bytes"),
        (Fault::Headers(headers(&[("Content-Length", "")])), ""),
    ] {
        let setup = Setup::new();
        setup.hub.fault(LARGE, On::Cdn, fault, usize::MAX);
        match setup.get(LARGE) {
            Ok(bytes) => assert_eq!((bytes, found), (large(), "")), // an unknown length is no fault
            Err(error) => {
                assert!(matches!(error, HubError::Size { .. }), "{error}");
                assert!(error.to_string().contains(found) && !found.is_empty(), "{error}");
                assert_eq!(files_below(&setup.cache()), Vec::<String>::new());
            }
        }
    }
}

#[test]
fn broken_file_in_the_cache_is_replaced() {
    let setup = Setup::new();
    setup.get(LARGE).unwrap();
    std::fs::write(setup.blob(&sha256(&large())), vec![0; 300_000]).unwrap();
    assert_eq!(setup.get(LARGE).unwrap(), large());

    // Without the hub it can only be refused.
    std::fs::write(setup.blob(&sha256(&large())), vec![0; 300_000]).unwrap();
    let offline = HubOptions { offline: true, ..setup.options() };
    let error = get(offline.clone(), LARGE).unwrap_err();
    assert!(matches!(error, HubError::Integrity(IntegrityError::Digest { .. })), "{error}");
    assert!(error.to_string().contains(&sha256(&large())), "{error}");
    let never = HubOptions { verify: Verify::Never, ..offline };
    assert_eq!(get(never, LARGE).unwrap(), vec![0; 300_000]);
}

#[test]
fn progress_tells_bytes_and_rate() {
    let setup = Setup::new();
    let snapshot = setup.open().unwrap();
    let mut last = None;
    let mut observer = |event: HubEvent| {
        if let HubEvent::Downloading { file, file_done, file_size, done, total, bytes_per_second } =
            event
        {
            assert!(file_done <= file_size && done <= total && bytes_per_second > 0.0);
            assert_eq!(total, 300_013);
            last = Some((file.to_owned(), done));
        }
        ControlFlow::Continue(())
    };
    snapshot.fetch(&[SMALL, LARGE], &mut observer).unwrap();
    assert_eq!(last.unwrap().1, 300_013);
}

#[test]
fn observer_can_cancel_and_what_came_is_kept() {
    let setup = Setup::new();
    setup.hub.fault(LARGE, On::Cdn, Fault::DropAfter(100_000), 1);
    let snapshot = setup.open().unwrap();
    let mut observer = |event: HubEvent| match event {
        HubEvent::Retrying { .. } => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    let result = snapshot.fetch(&[LARGE], &mut observer);
    assert!(matches!(result, Err(HubError::Cancelled)), "{result:?}");
    assert_eq!(setup.get(LARGE).unwrap(), large());
}

#[test]
fn disk_that_is_too_small_is_told_before_the_first_byte() {
    let setup = Setup::new();
    let tree = format!(
        r#"[{{"type":"file","path":"{SMALL}","oid":"{}","size":{}}}]"#,
        git_blob(&small()),
        1u64 << 60
    );
    setup.hub.fault("", On::Tree, Fault::Body(tree.into()), 1);
    let error = setup.get(SMALL).unwrap_err();
    assert!(matches!(error, HubError::DiskFull { needed, .. } if needed == 1 << 60), "{error}");
    assert!(setup.transfers(SMALL).is_empty());
}

#[test]
fn missing_file_names_the_commit() {
    let setup = Setup::new();
    let commit = setup.open().unwrap().commit().to_owned();
    let error = setup.get("none.bin").unwrap_err().to_string();
    assert_eq!(error, format!("owner/model: has no file none.bin in commit {commit}"));
}
