//! The hub without faults answers as the real one does.

use crate::client::{get, get_with, send};
use serde_json::json;
use wan_mock_hub::{Files, MockHub, Origin, Repo, git_blob, sha256};

const CONFIG: &str = "{\"dim\": 1536}";

fn weights() -> Vec<u8> {
    (0..200u8).collect()
}

/// A hub with `owner/model`: a small file and an LFS file.
fn hub() -> (MockHub, Repo) {
    let hub = MockHub::start();
    let repo = Repo::new("owner/model").lfs_from(100);
    let repo = repo.file("config.json", CONFIG).file("vae/weights.safetensors", weights());
    hub.add(repo.clone());
    (hub, repo)
}

#[test]
fn a_revision_has_a_commit() {
    let (hub, repo) = hub();
    let api = format!("{}/api/models/owner/model", hub.endpoint());
    let commit = repo.commit().to_owned();
    assert_eq!(commit.len(), 40);
    for url in [api.clone(), format!("{api}/revision/main"), format!("{api}/revision/{commit}")] {
        let info = get(&url).json();
        assert_eq!(info["sha"], commit);
        let files = json!([
            { "rfilename": "config.json" },
            { "rfilename": "vae/weights.safetensors" },
        ]);
        assert_eq!(info["siblings"], files);
    }
    let missing = get(&format!("{api}/revision/refs%2Fpr%2F1"));
    assert_eq!((missing.status, missing.header("x-error-code")), (404, Some("RevisionNotFound")));
    hub.add(repo.branch("refs/pr/1", Files::new()));
    assert_eq!(get(&format!("{api}/revision/refs%2Fpr%2F1")).status, 200);
}

#[test]
fn the_tree_has_sizes_and_hashes() {
    let (hub, repo) = hub();
    let tree = format!("{}/api/models/owner/model/tree/{}", hub.endpoint(), repo.commit());
    let sha256 = sha256(&weights());
    let pointer =
        format!("version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize 200\n");
    let folder = json!({ "type": "directory", "oid": git_blob(b"vae"), "size": 0, "path": "vae" });
    let config = json!({
        "type": "file",
        "oid": git_blob(CONFIG.as_bytes()),
        "size": CONFIG.len(),
        "path": "config.json",
    });
    let weights = json!({
        "type": "file",
        "oid": git_blob(pointer.as_bytes()),
        "size": 200,
        "path": "vae/weights.safetensors",
        "lfs": { "oid": sha256, "size": 200, "pointerSize": pointer.len() },
    });
    assert_eq!(get(&tree).json(), json!([folder, config]));
    let all = get(&format!("{tree}?recursive=true&expand=false"));
    assert_eq!(all.json(), json!([folder, config, weights]));
    assert_eq!(all.header("link"), None);
}

#[test]
fn the_tree_comes_in_pages() {
    let (hub, _) = hub();
    hub.page_size(2);
    let url = format!("{}/api/models/owner/model/tree/main?recursive=true", hub.endpoint());
    let first = get(&url);
    let link = first.header("link").unwrap();
    let next = link.strip_prefix('<').unwrap().strip_suffix(">; rel=\"next\"").unwrap();
    assert!(next.contains("cursor=2%3D%3D"), "{next}");
    let second = get(next);
    assert_eq!(second.header("link"), None);
    let pages = [first.json(), second.json()];
    let paths: Vec<_> = pages.iter().flat_map(|page| page.as_array().unwrap().clone()).collect();
    let paths: Vec<_> = paths.iter().map(|entry| entry["path"].as_str().unwrap()).collect();
    assert_eq!(paths, ["vae", "config.json", "vae/weights.safetensors"]);
}

#[test]
fn a_small_file_comes_from_the_hub() {
    let (hub, repo) = hub();
    let url = format!("{}/owner/model/resolve/main/config.json", hub.endpoint());
    let whole = get(&url);
    assert_eq!((whole.status, whole.body.as_slice()), (200, CONFIG.as_bytes()));
    let etag = format!("\"{}\"", git_blob(CONFIG.as_bytes()));
    assert_eq!(whole.header("etag"), Some(etag.as_str()));
    assert_eq!(whole.header("x-repo-commit"), Some(repo.commit()));
    assert_eq!(whole.header("accept-ranges"), Some("bytes"));
    let head = send("HEAD", &url, &[]);
    assert_eq!((head.headers, head.body.len()), (whole.headers, 0));
}

#[test]
fn a_small_file_may_be_elsewhere_at_the_hub() {
    let (hub, repo) = hub();
    hub.resolve_cache(true);
    let answer = get(&format!("{}/owner/model/resolve/main/config.json", hub.endpoint()));
    assert_eq!((answer.status, answer.body.len()), (307, 0));
    let etag = format!("\"{}\"", git_blob(CONFIG.as_bytes()));
    assert_eq!(answer.header("x-linked-etag"), Some(etag.as_str()));
    assert_eq!(answer.header("x-repo-commit"), Some(repo.commit()));
    let location = answer.header("location").unwrap();
    assert!(location.starts_with("/api/resolve-cache/models/owner/model/"));
    let file = get(&format!("{}{location}", hub.endpoint()));
    assert_eq!((file.status, file.body.as_slice()), (200, CONFIG.as_bytes()));
}

#[test]
fn a_large_file_comes_from_the_cdn() {
    let (hub, repo) = hub();
    let url = format!("{}/owner/model/resolve/main/vae/weights.safetensors", hub.endpoint());
    for method in ["HEAD", "GET"] {
        let answer = send(method, &url, &[]);
        assert_eq!((answer.status, answer.body.len()), (302, 0));
        let etag = format!("\"{}\"", sha256(&weights()));
        assert_eq!(answer.header("x-linked-etag"), Some(etag.as_str()));
        assert_eq!(answer.header("x-linked-size"), Some("200"));
        assert_eq!(answer.header("x-repo-commit"), Some(repo.commit()));
        let location = answer.header("location").unwrap();
        assert!(location.starts_with(&hub.cdn()));
        assert_eq!(get(location).body, weights());
    }
    let last = hub.requests().pop().unwrap();
    assert_eq!((last.origin, last.status), (Origin::Cdn, 200));
    assert_eq!(last.file, "vae/weights.safetensors");
}

/// The address of the LFS file at the CDN.
fn cdn_url(hub: &MockHub) -> String {
    let url = format!("{}/owner/model/resolve/main/vae/weights.safetensors", hub.endpoint());
    get(&url).header("location").unwrap().to_owned()
}

#[test]
fn ranges() {
    let (hub, _) = hub();
    let url = cdn_url(&hub);
    let range = |range: &str| get_with(&url, &[("Range", range)]);
    for (asked, part, content_range) in [
        ("bytes=150-", 150..200, "bytes 150-199/200"),
        ("bytes=0-0", 0..1, "bytes 0-0/200"),
        ("bytes=10-19", 10..20, "bytes 10-19/200"),
        ("bytes=190-500", 190..200, "bytes 190-199/200"),
        ("bytes=-5", 195..200, "bytes 195-199/200"),
    ] {
        let answer = range(asked);
        assert_eq!((answer.status, answer.header("content-range")), (206, Some(content_range)));
        assert_eq!(answer.body, weights()[part]);
    }
    let beyond = range("bytes=200-");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */200")));
    assert_eq!(range("bytes=0-1,5-6").status, 200);
}

#[test]
fn a_range_of_another_content_is_the_whole() {
    let (hub, _) = hub();
    let url = cdn_url(&hub);
    let etag = get(&url).header("etag").unwrap().to_owned();
    let same = get_with(&url, &[("Range", "bytes=150-"), ("If-Range", &etag)]);
    assert_eq!(same.status, 206);
    let other = get_with(&url, &[("Range", "bytes=150-"), ("If-Range", "\"other\"")]);
    assert_eq!((other.status, other.body), (200, weights()));
}

#[test]
fn the_cdn_refuses_tokens_and_unsigned_addresses() {
    let (hub, _) = hub();
    let url = cdn_url(&hub);
    assert_eq!(get_with(&url, &[("Authorization", "Bearer t")]).status, 400);
    let logged = hub.requests().pop().unwrap();
    assert_eq!((logged.status, logged.header("authorization")), (400, Some("Bearer t")));
    assert_eq!(get(url.split_once('?').unwrap().0).status, 403);
}

#[test]
fn what_is_missing() {
    let (hub, repo) = hub();
    let hub = hub.endpoint();
    let file = get(&format!("{hub}/owner/model/resolve/main/vae/config.json"));
    assert_eq!((file.status, file.header("x-error-code")), (404, Some("EntryNotFound")));
    assert_eq!(file.header("x-repo-commit"), Some(repo.commit()));
    assert!(file.header("x-error-message").is_some() && file.header("x-request-id").is_some());
    let other = get(&format!("{hub}/api/models/owner/other"));
    assert_eq!((other.status, other.header("x-error-code")), (401, Some("RepoNotFound")));
    assert_eq!(get(&format!("{hub}/robots.txt")).status, 404);
}

#[test]
fn a_private_repo_needs_its_token() {
    let (hub, repo) = hub();
    hub.add(repo.private("secret"));
    for path in ["api/models/owner/model", "owner/model/resolve/main/config.json"] {
        let url = format!("{}/{path}", hub.endpoint());
        for answer in [get(&url), get_with(&url, &[("Authorization", "Bearer wrong")])] {
            assert_eq!((answer.status, answer.header("x-error-code")), (401, Some("RepoNotFound")));
        }
        assert_eq!(get_with(&url, &[("Authorization", "Bearer secret")]).status, 200);
    }
}

#[test]
fn a_gated_repo_is_visible_but_gives_no_files() {
    let (hub, repo) = hub();
    hub.add(repo.private("secret").gated());
    let info = get(&format!("{}/api/models/owner/model", hub.endpoint()));
    assert_eq!((info.status, &info.json()["gated"]), (200, &json!("auto")));
    let url = format!("{}/owner/model/resolve/main/config.json", hub.endpoint());
    let with_token = |token: &str| get_with(&url, &[("Authorization", &format!("Bearer {token}"))]);
    for (answer, status) in [(get(&url), 401), (with_token("other"), 403)] {
        assert_eq!((answer.status, answer.header("x-error-code")), (status, Some("GatedRepo")));
    }
    assert_eq!(with_token("secret").status, 200);
}

#[test]
fn a_moved_branch_leaves_its_old_commit() {
    let (hub, repo) = hub();
    let old = repo.commit().to_owned();
    let repo = repo.branch("main", Files::new());
    assert_ne!(repo.commit(), old);
    hub.add(repo);
    let file = |revision: &str| {
        get(&format!("{}/owner/model/resolve/{revision}/config.json", hub.endpoint())).status
    };
    assert_eq!((file("main"), file(&old)), (404, 200));
}
