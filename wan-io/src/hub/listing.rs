//! The files of a revision of a repository.

use std::collections::BTreeMap;

use hf_hub::Repo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::HeaderMap;

use super::HubError;
use super::http::{Client, Retry, Subject, display_url, header};
use crate::integrity::Digest;

/// The most files in one repository.
const MAX_FILES: usize = 100_000;
/// The longest name of a file, in bytes.
const MAX_NAME: usize = 1024;

/// The files of a commit.
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: BTreeMap<String, Entry>,
}

/// A file: how large, and its checksum, which is its name in the cache.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Entry {
    pub(super) size: u64,
    pub(super) digest: Digest,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
}

#[derive(Deserialize)]
struct Node {
    #[serde(rename = "type")]
    kind: String,
    path: String,
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: String,
    size: u64,
}

/// Resolves a revision to its commit and lists the files of that commit.
pub(super) fn list(
    client: &Client,
    repo: &Repo,
    id: &str,
    retry: &mut Retry,
) -> Result<Listing, HubError> {
    let subject = Subject { repo: id, revision: repo.revision(), file: "" };
    let url = client.url(&format!("api/{}", repo.api_url()));
    let (bytes, _) = client.json(&url, subject, retry)?;
    let Info { sha: commit } = parse(&url, &bytes)?;
    if !is_commit(&commit) {
        let reason = format!("the commit is {commit:?}, but must be 40 hex digits");
        return Err(HubError::Answer { url, reason });
    }
    if is_commit(repo.revision()) && repo.revision() != commit {
        let reason = format!("the commit is {commit}, but {} was asked for", repo.revision());
        return Err(HubError::Answer { url, reason });
    }

    let mut files = BTreeMap::new();
    let mut page = Some(client.url(&format!("api/models/{id}/tree/{commit}?recursive=true")));
    let mut pages = 0;
    while let Some(url) = page {
        let (bytes, headers) = client.json(&url, subject, retry)?;
        let nodes: Vec<Node> = parse(&url, &bytes)?;
        for node in nodes.into_iter().filter(|node| node.kind == "file") {
            let (name, entry) = entry(&url, node)?;
            files.insert(name, entry);
        }
        pages += 1;
        if files.len() > MAX_FILES || pages > MAX_FILES {
            let reason = format!("more than {MAX_FILES} files");
            return Err(HubError::Answer { url: display_url(&url), reason });
        }
        page = next_page(client, &url, &headers)?;
    }
    Ok(Listing { commit, files })
}

/// Whether this is a commit in full.
pub(super) fn is_commit(text: &str) -> bool {
    matches!(Digest::from_hex(text), Some(Digest::GitBlob(_)))
}

/// Whether a name is that of a file below the folder it is put in, on every system.
pub(super) fn is_safe_name(name: &str) -> bool {
    let is_safe = |part: &str| {
        !matches!(part, "" | "." | "..") && !part.contains([':', '\\']) && part.len() <= 255
    };
    name.len() <= MAX_NAME && !name.contains(char::is_control) && name.split('/').all(is_safe)
}

fn entry(url: &str, node: Node) -> Result<(String, Entry), HubError> {
    let wrong = |reason: String| Err(HubError::Answer { url: display_url(url), reason });
    let Node { path, oid, size, lfs, .. } = node;
    if !is_safe_name(&path) {
        return wrong(format!("lists a file {path:?}, which could lead out of its folder"));
    }
    let (hex, size) = match &lfs {
        Some(lfs) => (&lfs.oid, lfs.size),
        None => (&oid, size),
    };
    match (Digest::from_hex(hex), lfs.is_some()) {
        (Some(digest @ Digest::Sha256(_)), true) | (Some(digest @ Digest::GitBlob(_)), false) => {
            Ok((path, Entry { size, digest }))
        }
        _ => wrong(format!("lists {path} with {hex:?}, which is no checksum")),
    }
}

/// The address of the next page: `Link: <address>; rel="next"`.
fn next_page(client: &Client, url: &str, headers: &HeaderMap) -> Result<Option<String>, HubError> {
    let Some(link) = header(headers, "link").filter(|link| link.contains("rel=\"next\"")) else {
        return Ok(None);
    };
    let next = link.trim().strip_prefix('<').and_then(|link| link.split('>').next());
    match next {
        Some(next) if client.is_hub(next) && next != url => Ok(Some(next.to_owned())),
        _ => {
            let reason = format!("the next page is {link:?}, which is not of the hub");
            Err(HubError::Answer { url: display_url(url), reason })
        }
    }
}

fn parse<T: DeserializeOwned>(url: &str, bytes: &[u8]) -> Result<T, HubError> {
    crate::files::from_json(bytes).map_err(|reason| {
        let reason = format!("it is not the JSON of a hub: {reason}");
        HubError::Answer { url: display_url(url), reason }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_their_folder() {
        for good in ["config.json", "a/b.c/d-e_f", "…", "a b", "..a", "a..b"] {
            assert!(is_safe_name(good), "{good}");
        }
        let long = "a".repeat(256);
        for bad in [
            "", ".", "..", "../a", "a/../b", "/a", "a/", "a//b", "a\\b", "C:", "a\0", "a\nb", &long,
        ] {
            assert!(!is_safe_name(bad), "{bad:?}");
        }
    }
}
