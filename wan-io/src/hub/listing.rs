//! The files of a revision of a repository.

use std::collections::BTreeMap;

use hf_hub::{Repo, RepoType};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::http::{HeaderMap, StatusCode};

use super::HubError;
use super::http::{Client, Retry, Subject, display_url, header, with_retries};
use crate::integrity::Digest;

/// The most files in one repository.
const MAX_FILES: usize = 100_000;
/// From this size on a file may be one that git has only a pointer to, whose checksum some mirrors list.
const LFS_FROM: u64 = 1 << 20;
/// The longest name of a file, in bytes.
const MAX_NAME: usize = 1024;

/// The files of a commit.
pub(super) struct Listing {
    pub(super) commit: String,
    pub(super) files: BTreeMap<String, Listed>,
}

/// A file: how large, and its checksum, which is its name in the cache.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Entry {
    pub(super) size: u64,
    pub(super) digest: Digest,
}

/// A file as the hub lists it. A mirror may know only its name.
#[derive(Default)]
pub(super) struct Listed {
    oid: Option<String>,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Info {
    sha: String,
    siblings: Option<Vec<Sibling>>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
}

#[derive(Deserialize)]
struct Node {
    #[serde(rename = "type")]
    kind: Option<String>,
    path: String,
    oid: Option<String>,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    oid: Option<String>,
    size: Option<u64>,
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
    let Info { sha: commit, siblings } = match client.json(&url, subject, retry) {
        Ok((bytes, _)) => parse(&url, &bytes)?,
        Err(error) if is_missing(&error) => {
            let lacks = format!("the commit and the files of a revision ({error})");
            return Err(HubError::Mirror { url: client.url(""), lacks });
        }
        Err(error) => return Err(error),
    };
    if !is_commit(&commit) {
        let reason = format!("the commit is {commit:?}, but must be 40 hex digits");
        return Err(HubError::Answer { url, reason });
    }
    if is_commit(repo.revision()) && repo.revision() != commit {
        let reason = format!("the commit is {commit}, but {} was asked for", repo.revision());
        return Err(HubError::Answer { url, reason });
    }
    let files = match (tree(client, id, &commit, subject, retry), siblings) {
        (Err(error), Some(siblings)) if is_missing(&error) => {
            siblings.into_iter().map(|file| (file.rfilename, Listed::default())).collect()
        }
        (Err(error), None) if is_missing(&error) => {
            let lacks =
                format!("the names of the files: there is no list ({error}), and no siblings");
            return Err(HubError::Mirror { url, lacks });
        }
        (files, _) => files?,
    };
    Ok(Listing { commit, files })
}

/// All pages of the list of files.
fn tree(
    client: &Client,
    id: &str,
    commit: &str,
    subject: Subject,
    retry: &mut Retry,
) -> Result<BTreeMap<String, Listed>, HubError> {
    let mut files = BTreeMap::new();
    let mut page = Some(tree_url(client, id, commit));
    let mut pages = 0;
    while let Some(url) = page {
        let (bytes, headers) = client.json(&url, subject, retry)?;
        let nodes: Vec<Node> = parse(&url, &bytes)?;
        for Node { kind, path, oid, size, lfs } in nodes {
            if kind.is_none_or(|kind| kind == "file") {
                files.insert(path, Listed { oid, size, lfs });
            }
        }
        pages += 1;
        if files.len() > MAX_FILES || pages > MAX_FILES {
            let reason = format!("more than {MAX_FILES} files");
            return Err(HubError::Answer { url: display_url(&url), reason });
        }
        page = next_page(client, &url, &headers)?;
    }
    Ok(files)
}

fn tree_url(client: &Client, id: &str, commit: &str) -> String {
    client.url(&format!("api/models/{id}/tree/{commit}?recursive=true"))
}

/// Whether an answer is that of a server which does not know the question.
fn is_missing(error: &HubError) -> bool {
    matches!(error, HubError::Status { status: 404 | 405 | 501, .. })
}

/// Size and checksum of a file that is to be fetched: as listed, or else from the headers of the file.
///
/// # Errors
/// If its name could lead out of its folder, what is listed is no checksum, or nothing tells it.
pub(super) fn entry(
    client: &Client,
    id: &str,
    commit: &str,
    name: &str,
    listed: &Listed,
    retry: &mut Retry,
) -> Result<Entry, HubError> {
    let wrong = |reason: String| HubError::Answer {
        url: display_url(&tree_url(client, id, commit)),
        reason,
    };
    if !is_safe_name(name) {
        return Err(wrong(format!("lists a file {name:?}, which could lead out of its folder")));
    }
    let not = |hex: &str| wrong(format!("lists {name} with {hex:?}, which is no checksum"));
    let Listed { oid, size, lfs } = listed;
    if let Some(Lfs { oid: Some(hex), size: Some(size) }) = lfs {
        return match Digest::from_hex(hex) {
            Some(digest @ Digest::Sha256(_)) => Ok(Entry { size: *size, digest }),
            _ => Err(not(hex)),
        };
    }
    let oid = oid.as_deref().filter(|hex| !hex.is_empty());
    let of_git = match oid.map(|hex| (Digest::from_hex(hex), hex)) {
        Some((Some(digest @ Digest::GitBlob(_)), _)) if lfs.is_none() => {
            size.map(|size| Entry { size, digest })
        }
        Some((_, hex)) if lfs.is_none() => return Err(not(hex)),
        _ => None,
    };
    match of_git {
        Some(entry) if entry.size < LFS_FROM => Ok(entry),
        _ => {
            let url = file_url(client, id, commit, name);
            let subject = Subject { repo: id, revision: commit, file: name };
            let answer = with_retries(|| client.head(&url, subject), retry);
            match (answer, of_git) {
                (Ok((status, headers)), _) => {
                    let size = size.filter(|_| lfs.is_none());
                    described(status, &headers, size).or(of_git).ok_or_else(|| HubError::Mirror {
                        url: display_url(&url),
                        lacks: "size and checksum of the file: neither the list of files nor the \
                            headers X-Linked-Etag or ETag have a SHA-256 or a git SHA-1"
                            .into(),
                    })
                }
                (Err(error), Some(entry)) if is_missing(&error) => Ok(entry),
                (Err(error), _) => Err(error),
            }
        }
    }
}

/// Size and checksum of a file by the headers of an answer about it. Those of a redirect are of what it
/// leads to only where they are `X-Linked-`.
fn described(status: StatusCode, headers: &HeaderMap, listed_size: Option<u64>) -> Option<Entry> {
    let number = |name: &str| header(headers, name)?.trim().parse().ok();
    let (etag, size) = match header(headers, "x-linked-etag") {
        Some(etag) => (etag, number("x-linked-size").or(listed_size)),
        None if status == StatusCode::OK => {
            let size = number("x-linked-size").or(listed_size).or(number("content-length"));
            (header(headers, "etag")?, size)
        }
        None => return None,
    };
    Some(Entry { size: size?, digest: Digest::from_hex(unquoted(etag.trim()))? })
}

/// The address of a file.
pub(super) fn file_url(client: &Client, id: &str, commit: &str, file: &str) -> String {
    let repo = Repo::with_revision(id.to_owned(), RepoType::Model, commit.to_owned());
    let (id, revision) = (repo.url(), repo.url_revision());
    client.url(&format!("{id}/resolve/{revision}/{}", percent_encoded(file)))
}

/// `W/"text"` and `"text"` without the quotes.
pub(super) fn unquoted(etag: &str) -> &str {
    let etag = etag.strip_prefix("W/").unwrap_or(etag);
    etag.strip_prefix('"').and_then(|etag| etag.strip_suffix('"')).unwrap_or(etag)
}

fn percent_encoded(path: &str) -> String {
    let mut encoded = String::with_capacity(path.len());
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => {
                encoded.push(byte.into());
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
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

/// The address of the next page at the endpoint: `Link: <address>; rel="next"`.
fn next_page(client: &Client, url: &str, headers: &HeaderMap) -> Result<Option<String>, HubError> {
    let is_next = |text: &str| text.contains("rel=\"next\"") || text.contains("rel=next");
    let mut links = headers.get_all("link").iter().filter_map(|value| value.to_str().ok());
    let Some(link) = links.find(|link| is_next(link)) else { return Ok(None) };
    let mut addresses = link.split('<').skip(1).filter_map(|link| link.split_once('>'));
    let next = addresses.find(|(_, parameters)| is_next(parameters)).map(|(address, _)| address);
    match next.map(|next| client.at_endpoint(url, next)) {
        Some(next) if next != url => Ok(Some(next)),
        _ => {
            let reason = format!("the next page is {link:?}, which is no other page");
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
