//! The answers of a sound hub.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};

use crate::http::{Answer, Head, percent_encode};
use crate::repo::{Blob, Hosted, Repo, git_blob, sha256};
use crate::route::{Route, parameter};

/// What the hub knows: all that an answer depends on.
#[derive(Debug)]
pub(crate) struct Content {
    pub(crate) hub: String,
    pub(crate) cdn: String,
    pub(crate) page_size: usize,
    /// The origin in links to next pages, if it is not the hub.
    pub(crate) page_links: Option<String>,
    /// The tokens that the hub knows, if it refuses others for whatever repo.
    pub(crate) tokens: Option<Vec<String>>,
    /// Whether the hub redirects to itself for small files.
    pub(crate) resolve_cache: bool,
    repos: BTreeMap<String, Hosted>,
    /// The files at the CDN, by the signature in their address.
    links: BTreeMap<String, Link>,
}

#[derive(Debug, Clone)]
struct Link {
    file: String,
    blob: Arc<Blob>,
}

impl Content {
    pub(crate) fn new(hub: String, cdn: String) -> Self {
        let (repos, links) = (BTreeMap::new(), BTreeMap::new());
        let (page_links, tokens, resolve_cache) = (None, None, false);
        Self { hub, cdn, page_size: 1000, page_links, tokens, resolve_cache, repos, links }
    }

    pub(crate) fn add(&mut self, repo: Repo) {
        let hosted = Hosted::new(repo);
        for (commit, files) in &hosted.blobs {
            for (file, blob) in files {
                let link = Link { file: file.clone(), blob: Arc::clone(blob) };
                self.links.insert(signature(&hosted.repo.id, commit, file), link);
            }
        }
        self.repos.insert(hosted.repo.id.clone(), hosted);
    }

    /// The path of the file asked for, inside its repo; empty for all but files.
    pub(crate) fn file(&self, route: &Route) -> String {
        match route {
            Route::Resolve { file, .. } => file.clone(),
            Route::Cdn { signature } => {
                self.links.get(signature).map(|link| link.file.clone()).unwrap_or_default()
            }
            _ => String::new(),
        }
    }

    pub(crate) fn answer(&self, head: &Head, route: &Route) -> Answer {
        if !matches!(head.method.as_str(), "GET" | "HEAD") {
            return Answer::error(405, false);
        }
        let is_known = |tokens: &[String]| match head.token() {
            Some(token) => tokens.iter().any(|known| known == token),
            None => true,
        };
        if !matches!(route, Route::Cdn { .. }) && !self.tokens.as_deref().is_none_or(is_known) {
            let message = "Invalid credentials in Authorization header";
            return Answer::json(401, &json!({ "error": message }))
                .with("X-Error-Message", message);
        }
        let answer = match route {
            Route::Revision { id, revision } => {
                self.commit(head, id, revision).map(|(hosted, commit)| info(hosted, commit))
            }
            Route::Tree { id, revision, query } => {
                self.commit(head, id, revision).map(|(hosted, commit)| {
                    let origin = self.page_links.as_ref().unwrap_or(&self.hub);
                    let address = format!("{origin}/api/models/{id}/tree");
                    let address = format!("{address}/{}", percent_encode(revision));
                    tree(&hosted.blobs[commit], query, self.page_size, &address)
                })
            }
            Route::Resolve { id, revision, file, cached } => {
                self.commit(head, id, revision).and_then(|at| self.resolve(head, at, file, *cached))
            }
            Route::Cdn { signature } => Ok(self.deliver(head, signature)),
            Route::Unknown => Err(Answer::error(404, false)),
        };
        answer.unwrap_or_else(|error| error)
    }

    /// The repo and the commit that a revision names, if the sender may see them.
    fn commit<'a>(&'a self, head: &Head, id: &str, revision: &str) -> Result<At<'a>, Answer> {
        let hidden = || refusal(401, "RepoNotFound", "Repository not found");
        let hosted = self.repos.get(id).ok_or_else(hidden)?;
        let repo = &hosted.repo;
        if !repo.gated && repo.token.is_some() && repo.token.as_deref() != head.token() {
            return Err(hidden());
        }
        let message = format!("Invalid rev id: {revision}");
        let missing = || refusal(404, "RevisionNotFound", &message);
        Ok((hosted, repo.resolve(revision).ok_or_else(missing)?))
    }

    fn resolve(
        &self,
        head: &Head,
        (hosted, commit): At,
        file: &str,
        cached: bool,
    ) -> Result<Answer, Answer> {
        let repo = &hosted.repo;
        if repo.gated && (repo.token.is_none() || repo.token.as_deref() != head.token()) {
            let status = if head.token().is_some() { 403 } else { 401 };
            let message = format!("Access to model {} is restricted.", repo.id);
            return Err(refusal(status, "GatedRepo", &message));
        }
        let missing = || refusal(404, "EntryNotFound", "Entry not found");
        let blob = hosted.blobs[commit].get(file);
        let blob = blob.ok_or_else(|| missing().with("X-Repo-Commit", commit))?;
        let git_etag = format!("\"{}\"", blob.git_oid);
        if blob.lfs.is_none() && (cached || !self.resolve_cache) {
            let answer = Answer::content(head, &blob.bytes, &git_etag);
            return Ok(answer.with("X-Repo-Commit", commit));
        }
        let (status, location, linked_etag) = match &blob.lfs {
            Some(lfs) => {
                let location = self.location(&repo.id, commit, file, &lfs.sha256);
                (302, location, format!("\"{}\"", lfs.sha256))
            }
            None => {
                let file = file.split('/').map(percent_encode).collect::<Vec<_>>().join("/");
                let id = &repo.id;
                let location = format!("/api/resolve-cache/models/{id}/{commit}/{file}");
                (307, location, git_etag.clone())
            }
        };
        Ok(Answer::new(status)
            .with("Location", &location)
            .with("X-Repo-Commit", commit)
            .with("X-Linked-Etag", &linked_etag)
            .with("X-Linked-Size", &blob.bytes.len().to_string())
            .with("ETag", &git_etag)
            .with("Accept-Ranges", "bytes"))
    }

    fn location(&self, id: &str, commit: &str, file: &str, sha256: &str) -> String {
        let name = file.rsplit('/').next().unwrap_or(file);
        let shown = percent_encode(&format!("inline; filename=\"{name}\";"));
        let signature = signature(id, commit, file);
        let query = format!("response-content-disposition={shown}&Signature={signature}");
        format!("{}/repos/{}/{sha256}?{query}", self.cdn, &signature[..2])
    }

    fn deliver(&self, head: &Head, signature: &str) -> Answer {
        // The storage takes either the signed address or a header, and refuses both together.
        if head.header("authorization").is_some() {
            return Answer::error(400, true);
        }
        match self.links.get(signature) {
            Some(link) => Answer::content(head, &link.blob.bytes, &cdn_etag(&link.blob)),
            None => Answer::error(403, true),
        }
    }
}

/// A repo and one of its commits.
type At<'a> = (&'a Hosted, &'a str);

/// The CDN's own name for a content: no hash that a client could compute.
fn cdn_etag(blob: &Blob) -> String {
    format!("\"{}\"", &sha256(blob.git_oid.as_bytes())[..32])
}

fn signature(id: &str, commit: &str, file: &str) -> String {
    sha256(format!("{id}\0{commit}\0{file}").as_bytes())
}

fn refusal(status: u16, code: &str, message: &str) -> Answer {
    Answer::json(status, &json!({ "error": message }))
        .with("X-Error-Code", code)
        .with("X-Error-Message", message)
        .with("X-Request-Id", &format!("Root=1-{}", &sha256(message.as_bytes())[..24]))
}

fn info(hosted: &Hosted, commit: &str) -> Answer {
    let repo = &hosted.repo;
    let files = hosted.blobs[commit].keys();
    let siblings: Vec<Value> = files.map(|file| json!({ "rfilename": file })).collect();
    let gated = if repo.gated { json!("auto") } else { json!(false) };
    Answer::json(
        200,
        &json!({
            "id": repo.id,
            "modelId": repo.id,
            "sha": commit,
            "siblings": siblings,
            "private": repo.token.is_some() && !repo.gated,
            "gated": gated,
        }),
    )
}

/// One page of the list of files.
fn tree(
    files: &BTreeMap<String, Arc<Blob>>,
    query: &str,
    page_size: usize,
    address: &str,
) -> Answer {
    let recursive = parameter(query, "recursive").is_some_and(|value| value == "true");
    let all = entries(files, recursive);
    let cursor = parameter(query, "cursor").unwrap_or_default();
    let start = cursor.trim_end_matches('=').parse().unwrap_or(0).min(all.len());
    let end = (start + page_size).min(all.len());
    let answer = Answer::json(200, &Value::from(&all[start..end]));
    if end == all.len() {
        return answer;
    }
    let kept = query.split('&').filter(|pair| !pair.is_empty() && !pair.starts_with("cursor="));
    // The real cursors are base64: they end in signs that must stay encoded.
    let next = format!("cursor={}", percent_encode(&format!("{end}==")));
    let query = kept.chain([next.as_str()]).collect::<Vec<_>>().join("&");
    answer.with("Link", &format!("<{address}?{query}>; rel=\"next\""))
}

fn entries(files: &BTreeMap<String, Arc<Blob>>, recursive: bool) -> Vec<Value> {
    let parents = files.keys().flat_map(|file| file.match_indices('/').map(|(at, _)| &file[..at]));
    let folders: BTreeSet<&str> = parents.collect();
    let wanted = |path: &&str| recursive || !path.contains('/');
    let folder = |path: &str| json!({ "type": "directory", "oid": git_blob(path.as_bytes()), "size": 0, "path": path });
    let folders = folders.into_iter().filter(wanted).map(folder);
    let files = files.iter().filter(|(path, _)| wanted(&path.as_str()));
    folders.chain(files.map(|(path, blob)| entry(path, blob))).collect()
}

fn entry(path: &str, blob: &Blob) -> Value {
    let size = blob.bytes.len();
    let mut entry = json!({ "type": "file", "oid": blob.git_oid, "size": size, "path": path });
    if let Some(lfs) = &blob.lfs {
        entry["lfs"] = json!({ "oid": lfs.sha256, "size": size, "pointerSize": lfs.pointer_size });
    }
    entry
}
