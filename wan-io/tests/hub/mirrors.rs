//! Mirrors, which pass on what the hub says, and only a part of it.

use serde_json::{Value, json};
use wan_io::hub::{HubError, Token};
use wan_mock_hub::{Fault, On, git_blob, sha256};

use crate::*;

fn missing(status: u16) -> Fault {
    Fault::Status(status, Vec::new())
}

fn header(name: &str, value: &str) -> Fault {
    Fault::Headers(vec![(name.to_owned(), value.to_owned())])
}

/// A model with small files, and files that the hub has at its CDN.
fn check(setup: &Setup, what: &str) {
    for (file, bytes) in [(SMALL, small()), (LARGE, large())] {
        let result = setup.get(file);
        assert_eq!(
            result.unwrap_or_else(|error| panic!("{what}: {file}: {error}")),
            bytes,
            "{what}"
        );
    }
}

#[test]
fn next_pages_are_asked_of_the_mirror() {
    for origin in ["https://huggingface.co", "", "http://127.0.0.1:1", "//huggingface.co"] {
        let setup = Setup::with(model().private("secret"));
        setup.hub.page_size(1);
        setup.hub.page_links(origin);
        let options = HubOptions { token: Some(Token::from("secret")), ..setup.options() };
        assert_eq!(get(options, LARGE).unwrap(), large(), "{origin}");
        let requests = setup.hub.requests();
        let pages = requests.iter().filter(|request| request.path.contains("/tree/"));
        assert!(pages.count() >= 5, "{origin}");
        for request in requests {
            let expected = (request.origin == Origin::Hub).then_some("Bearer secret");
            assert_eq!(request.header("authorization"), expected, "{}", request.path);
        }
    }
}

#[test]
fn missing_list_of_files_is_made_up_for() {
    for status in [404, 405, 501] {
        let setup = Setup::new();
        setup.hub.fault("", On::Tree, missing(status), usize::MAX);
        let snapshot = setup.open().unwrap();
        assert!(snapshot.has(LARGE) && snapshot.has("README.md") && !snapshot.has("none"));
        check(&setup, &format!("{status}"));
        // What is in the cache is known by the same headers.
        setup.hub.clear_requests();
        check(&setup, "again");
        assert!(
            setup
                .hub
                .requests()
                .iter()
                .all(|request| request.method == "HEAD" || request.file.is_empty())
        );
    }
    let setup = Setup::new();
    setup.hub.resolve_cache(true);
    setup.hub.fault("", On::Tree, missing(404), usize::MAX);
    check(&setup, "small files at another address of the hub");
}

#[test]
fn list_without_checksums_is_made_up_for() {
    let files = [(SMALL, small()), (LARGE, large())];
    let tree = |row: &dyn Fn(&str, &[u8]) -> Value| {
        let rows: Vec<Value> = files.iter().map(|(name, bytes)| row(name, bytes)).collect();
        Fault::Body(Value::from(rows).to_string().into_bytes())
    };
    let rows = [
        (
            "null",
            tree(
                &|name, bytes| json!({ "type": "file", "path": name, "size": bytes.len(), "oid": null, "lfs": null }),
            ),
        ),
        ("no size", tree(&|name, _| json!({ "type": "file", "path": name }))),
        ("no type", tree(&|name, _| json!({ "path": name, "oid": "" }))),
        ("lfs without oid", tree(&|name, _| json!({ "type": "file", "path": name, "lfs": {} }))),
    ];
    for (what, fault) in rows {
        let setup = Setup::new();
        setup.hub.fault("", On::Tree, fault, usize::MAX);
        check(&setup, what);
    }
}

/// What git has of a large file is a pointer; its checksum is of no use without that of the file.
#[test]
fn list_without_the_checksums_of_large_files_is_made_up_for() {
    let bytes = vec![7; 3 << 20];
    let setup = Setup::with(model().file(LARGE, bytes.clone()));
    let pointer = json!([{ "type": "file", "path": LARGE, "oid": git_blob(b"pointer"), "size": bytes.len() }]);
    setup.hub.fault("", On::Tree, Fault::Body(pointer.to_string().into()), usize::MAX);
    assert_eq!(setup.get(LARGE).unwrap(), bytes);

    // Where it is the file's own, and the mirror answers no HEAD, it serves.
    let setup = Setup::with(model().lfs_from(usize::MAX).file(LARGE, bytes.clone()));
    setup.hub.fault(LARGE, On::Resolve, missing(405), 1);
    assert_eq!(setup.get(LARGE).unwrap(), bytes);
}

#[test]
fn what_a_mirror_lacks_is_said() {
    let rows = [
        (
            vec![("", On::Revision, missing(404))],
            "does not give the commit and the files of a revision",
        ),
        (
            vec![("", On::Tree, missing(404)), (LARGE, On::Resolve, header("X-Linked-Etag", ""))],
            "does not give size and checksum of the file",
        ),
        (
            vec![
                ("", On::Tree, missing(404)),
                (LARGE, On::Resolve, header("X-Linked-Etag", "\"v1\"")),
            ],
            "does not give size and checksum of the file",
        ),
    ];
    for (faults, expected) in rows {
        let setup = Setup::new();
        for (file, on, fault) in faults {
            setup.hub.fault(file, on, fault, usize::MAX);
        }
        let error = setup.get(LARGE).unwrap_err();
        assert!(matches!(error, HubError::Mirror { .. }), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!(files_below(&setup.cache()), Vec::<String>::new());
    }
    let setup = Setup::new();
    let commit = setup.open().unwrap().commit().to_owned();
    let info = Fault::Body(json!({ "sha": commit }).to_string().into());
    setup.hub.fault("", On::Revision, info, usize::MAX);
    setup.hub.fault("", On::Tree, missing(404), usize::MAX);
    let error = setup.get(LARGE).unwrap_err().to_string();
    assert!(error.contains("does not give the names of the files"), "{error}");
}

/// A wrong checksum in a header is found out as one in the list is.
#[test]
fn checksum_of_a_header_is_checked() {
    let setup = Setup::new();
    setup.hub.fault("", On::Tree, missing(404), usize::MAX);
    let other = sha256(b"other");
    setup.hub.fault(
        LARGE,
        On::Resolve,
        header("X-Linked-Etag", &format!("\"{other}\"")),
        usize::MAX,
    );
    let error = setup.get(LARGE).unwrap_err();
    assert!(matches!(error, HubError::Checksum { .. }), "{error}");
    assert_eq!(files_below(&setup.cache()), Vec::<String>::new());
}

#[test]
fn odd_names_of_files_that_are_not_fetched_do_no_harm() {
    let long = "n".repeat(300);
    let mut repo = model();
    for name in ["assets/demo 16:9.mp4", "a\\b", "tab\t.txt", "C:x", &long, "…/ü?#%.png", "con "]
    {
        repo = repo.file(name, "x");
    }
    let setup = Setup::with(repo);
    check(&setup, "odd names");
    setup.hub.fault("", On::Tree, missing(404), usize::MAX);
    check(&setup, "odd names among siblings");
}
