//! The hub with faults disturbs what it is asked to, as often as it is asked to.

use crate::client::{get, get_with, read, request, send};
use wan_mock_hub::{Fault, MockHub, On, Repo};

const CONTENT: &[u8] = b"0123456789";

fn hub() -> (MockHub, String) {
    let hub = MockHub::start();
    hub.add(Repo::new("owner/model").file("a/file", CONTENT));
    let url = format!("{}/owner/model/resolve/main/a/file", hub.endpoint());
    (hub, url)
}

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn a_fault_is_used_up() {
    let (hub, url) = hub();
    hub.fault("a/file", On::Resolve, Fault::Status(500, Vec::new()), 2);
    hub.fault("a/file", On::Resolve, Fault::Status(503, Vec::new()), usize::MAX);
    hub.fault("other", On::Resolve, Fault::Status(400, Vec::new()), usize::MAX);
    let statuses = || [(); 4].map(|()| get(&url).status);
    assert_eq!(statuses(), [500, 500, 503, 503]);
    hub.clear_faults();
    assert_eq!(statuses(), [200; 4]);
}

#[test]
fn statuses_and_headers() {
    let (hub, url) = hub();
    let busy = Fault::Status(429, vec![pair("Retry-After", "3")]);
    hub.fault("a/file", On::Resolve, busy, 1);
    let answer = get(&url);
    assert_eq!((answer.status, answer.header("retry-after")), (429, Some("3")));
    assert!(answer.json()["error"].is_string());
    let hostile = vec![pair("ETag", "\"../../x\""), pair("x-repo-commit", ""), pair("A", "b")];
    hub.fault("a/file", On::Resolve, Fault::Headers(hostile), 1);
    let answer = get(&url);
    assert_eq!(answer.header("etag"), Some("\"../../x\""));
    assert_eq!((answer.header("x-repo-commit"), answer.header("a")), (None, Some("b")));
    assert_eq!(answer.body, CONTENT);
    hub.fault("a/file", On::Resolve, Fault::Redirect(url.clone()), 1);
    let answer = get(&url);
    assert_eq!((answer.status, answer.header("location")), (302, Some(url.as_str())));
}

#[test]
fn the_cdn_speaks_xml() {
    let hub = MockHub::start();
    hub.add(Repo::new("owner/model").lfs_from(1).file("a/file", CONTENT));
    let url = format!("{}/owner/model/resolve/main/a/file", hub.endpoint());
    hub.fault("a/file", On::Cdn, Fault::Status(403, Vec::new()), 1);
    let location = get(&url).header("location").unwrap().to_owned();
    let answer = get(&location);
    assert_eq!((answer.status, answer.header("content-type")), (403, Some("application/xml")));
    assert!(answer.body.starts_with(b"<?xml"));
    assert_eq!(get(&location).body, CONTENT);
}

#[test]
fn bodies() {
    let (hub, url) = hub();
    for (fault, length, body) in [
        (Fault::DropAfter(4), "10", b"0123".to_vec()),
        (Fault::WrongBytes, "10", CONTENT.iter().map(|byte| byte ^ 0x5a).collect()),
        (Fault::Short(3), "3", b"012".to_vec()),
        (Fault::Body(b"[[".to_vec()), "2", b"[[".to_vec()),
    ] {
        hub.fault("a/file", On::Resolve, fault, 1);
        // HEAD has no body to disturb, and leaves the fault for GET.
        assert_eq!(send("HEAD", &url, &[]).header("content-length"), Some("10"));
        let answer = get(&url);
        assert_eq!((answer.status, answer.header("content-length")), (200, Some(length)));
        assert_eq!(answer.body, body);
    }
    hub.fault("", On::Revision, Fault::Body(b"no JSON".to_vec()), 1);
    assert_eq!(get(&format!("{}/api/models/owner/model", hub.endpoint())).body, b"no JSON");
}

#[test]
fn ranges() {
    let (hub, url) = hub();
    let range = || get_with(&url, &[("Range", "bytes=6-")]);
    hub.fault("a/file", On::Resolve, Fault::IgnoreRange, 1);
    assert_eq!(get(&url).status, 200);
    let answer = range();
    assert_eq!((answer.status, answer.header("content-range")), (200, None));
    assert_eq!(answer.body, CONTENT);
    hub.fault("a/file", On::Resolve, Fault::WrongRange(2), 1);
    let answer = range();
    assert_eq!((answer.status, answer.header("content-range")), (206, Some("bytes 2-9/10")));
    assert_eq!(answer.body, b"23456789");
    assert_eq!(range().body, b"6789");
}

#[test]
fn a_stalled_answer_goes_on_when_released() {
    let (hub, url) = hub();
    hub.fault("a/file", On::Resolve, Fault::Stall(4), 1);
    let stream = request("GET", &url, &[]);
    hub.wait_for(|request| request.file == "a/file");
    // Another answer is not held up.
    assert_eq!(get(&url).body, CONTENT);
    hub.release();
    assert_eq!(read(stream).body, CONTENT);
}

#[test]
fn a_stalled_answer_ends_with_the_hub() {
    let (hub, url) = hub();
    hub.fault("a/file", On::Resolve, Fault::Stall(4), 1);
    let stream = request("GET", &url, &[]);
    hub.wait_for(|request| request.file == "a/file");
    drop(hub);
    assert!(read(stream).body.starts_with(b"0123"));
}

#[test]
fn the_port_is_closed_with_the_hub() {
    let (hub, url) = hub();
    drop(hub);
    let host = url.strip_prefix("http://").unwrap().split('/').next().unwrap();
    assert!(std::net::TcpStream::connect(host).is_err());
}
