//! A hub, or someone between it and us, that means harm.

use wan_mock_hub::{Fault, On, git_blob, sha256};

use crate::*;

struct Row {
    what: &'static str,
    file: &'static str,
    on: On,
    fault: Fault,
    error: &'static str,
}

fn body(text: &str) -> Fault {
    Fault::Body(text.into())
}

fn header(name: &str, value: &str) -> Fault {
    Fault::Headers(vec![(name.to_owned(), value.to_owned())])
}

fn node(path: &str, oid: &str, size: &str) -> Fault {
    let path = serde_json::Value::from(path);
    body(&format!(r#"[{{"type":"file","path":{path},"oid":"{oid}","size":{size}}}]"#))
}

fn lfs(oid: &str) -> Fault {
    let git = git_blob(b"x");
    let lfs = format!(r#"{{"oid":"{oid}","size":9,"pointerSize":134}}"#);
    body(&format!(r#"[{{"type":"file","path":"{SMALL}","oid":"{git}","size":9,"lfs":{lfs}}}]"#))
}

fn rows(setup: &Setup) -> Vec<Row> {
    let row = |what, file, on, fault, error| Row { what, file, on, fault, error };
    let info = |what, fault, error| row(what, "", On::Revision, fault, error);
    let tree = |what, fault, error| row(what, "", On::Tree, fault, error);
    let hub = |what, fault, error| row(what, LARGE, On::Resolve, fault, error);
    let cdn = |what, fault, error| row(what, LARGE, On::Cdn, fault, error);
    let oid = git_blob(b"x");
    let to = |address: &str| Fault::Redirect(address.to_owned());
    let endpoint = setup.hub.endpoint();
    let own = format!("{endpoint}/{MODEL}/resolve/main/{LARGE}");
    let commit = setup.open().unwrap().commit().to_owned();
    let this_page = format!("/api/models/{MODEL}/tree/{commit}?recursive=true");
    let next = |address: &str| header("Link", &format!("<{address}>; rel=\"next\""));
    vec![
        info("a page instead of JSON", body("<html>hello</html>"), "not the JSON of a hub"),
        info("no commit", body("{}"), "missing field `sha`"),
        info("short commit", body(r#"{"sha":"abc"}"#), "must be 40 hex digits"),
        info("commit as a path", body(r#"{"sha":"../../../pwn"}"#), "must be 40 hex digits"),
        info("commit as a number", body(r#"{"sha":7}"#), "sha: invalid type"),
        info("JSON that nests for ever", body(&"[".repeat(1 << 20)), "not the JSON of a hub"),
        info("redirect to another origin and back", to("ftp://x/y"), "a redirect to \"ftp://x/y\""),
        info("redirect into the file system", to("file:///etc/passwd"), "a redirect to \"file:"),
        info("redirect to a user's name", to("http://a@b/"), "a redirect to \"http://a@b/\""),
        tree("a page instead of JSON", body("<html>"), "not the JSON of a hub"),
        tree("an object", body("{}"), "not the JSON of a hub"),
        tree("checksum as a path", node(SMALL, "../../pwn", "1"), "which is no checksum"),
        tree("checksum in capitals", node(SMALL, &oid.to_uppercase(), "1"), "which is no checksum"),
        tree("checksum of the wrong kind", lfs(&oid), "which is no checksum"),
        tree("LFS checksum as a path", lfs("../../../pwn"), "which is no checksum"),
        tree("negative size", node(SMALL, &oid, "-1"), "size: invalid value"),
        tree("size beyond all", node(SMALL, &oid, "99999999999999999999"), "size: invalid"),
        tree("next page without an address", header("Link", "rel=\"next\""), "is no other page"),
        tree("next page is this page", next(&this_page), "which is no other page"),
        tree("a million headers", header("X-Bomb", &"x".repeat(1 << 20)), "cannot be trusted"),
        hub("ETag as a path", header("X-Linked-Etag", "\"../../../pwn\""), "x-linked-etag is"),
        hub("another ETag", header("X-Linked-Etag", &sha256(b"x")), "x-linked-etag is"),
        hub("another size", header("X-Linked-Size", "1"), "x-linked-size is \"1\""),
        hub("another commit", header("X-Repo-Commit", &oid), "x-repo-commit is"),
        hub("no Location", header("Location", ""), "a redirect without a Location"),
        hub("redirect to itself", to(&own), "more than 5 redirects"),
        hub("redirect without a scheme", to("//127.0.0.1:1/x"), "a redirect to \"//127.0.0.1"),
        cdn("a refusal with a text", Fault::Status(403, vec![]), "the hub answers 403"),
        cdn("other bytes", Fault::WrongBytes, "nothing of it was kept"),
        cdn("a short body", Fault::Short(27), "nothing of it was kept"),
        cdn("a long body", Fault::Body(vec![0; 400_000]), "nothing of it was kept"),
        cdn("a range that nobody asked for", Fault::Status(206, vec![]), "was not asked for"),
        cdn("no content", Fault::Status(204, vec![]), "was not asked for"),
    ]
}

#[test]
fn hostile_answers_are_refused_and_leave_nothing() {
    let count = rows(&Setup::new()).len();
    assert!(count >= 25);
    for index in 0..count {
        let setup = Setup::new();
        let Row { what, file, on, fault, error } = rows(&setup).swap_remove(index);
        setup.hub.fault(file, on, fault, usize::MAX);
        let wanted = if file.is_empty() { SMALL } else { file };
        let found = setup.get(wanted).expect_err(what).to_string();
        assert!(found.contains(error), "{what}: {found}");
        assert!(!found.contains('\0') && found.len() < 2000, "{what}: {found}");
        assert_eq!(files_below(setup.folder.path()), Vec::<String>::new(), "{what}");
    }
}

/// Names are looked at where they are fetched: a repository may have others that no system takes.
#[test]
fn name_that_leads_out_of_its_folder_is_never_fetched() {
    let long = "n".repeat(300);
    let names = [
        "../../pwn",
        "a/../../pwn",
        "/etc/pwn",
        "..\\pwn",
        "C:pwn",
        "pwn\0.json",
        "",
        &long,
        "a\nb",
    ];
    for name in names {
        let setup = Setup::new();
        let odd =
            serde_json::json!({ "type": "file", "path": name, "oid": git_blob(b"x"), "size": 1 });
        let row = |oid: &str| serde_json::json!({ "type": "file", "path": SMALL, "oid": oid, "size": small().len() });
        let tree = serde_json::json!([odd, row(&git_blob(&small()))]).to_string();
        setup.hub.fault("", On::Tree, body(&tree), usize::MAX);
        let error = setup.get(name).expect_err(name).to_string();
        assert!(error.contains("could lead out of its folder"), "{name:?}: {error}");
        assert!(!error.contains('\0') && error.len() < 2000, "{error}");
        assert_eq!(files_below(setup.folder.path()), Vec::<String>::new(), "{name:?}");
        assert_eq!(setup.get(SMALL).unwrap(), small(), "{name:?}");
    }
}
