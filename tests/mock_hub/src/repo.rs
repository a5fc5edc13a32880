//! What the hub serves.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use sha1::Sha1;
use sha2::{Digest, Sha256};

/// The files of one commit: path inside the repo, content.
pub type Files = BTreeMap<String, Arc<Vec<u8>>>;

/// A model repository.
#[derive(Debug, Clone)]
pub struct Repo {
    /// `owner/name`.
    pub id: String,
    /// The token that opens the repo. Without it a private repo does not seem to exist, and a gated
    /// one lists its files but gives none of them.
    pub token: Option<String>,
    /// Whether the repo is visible to all, its files only with `token` (without one: to nobody).
    pub gated: bool,
    /// Branches and tags, each with its commit.
    pub revisions: Vec<(String, String)>,
    /// The files of each commit, by its 40 hex digits.
    pub commits: BTreeMap<String, Files>,
    /// Files of at least so many bytes are LFS files: the hub sends to the CDN for them.
    pub lfs_from: usize,
}

impl Repo {
    /// A public repo with an empty commit on `main`.
    pub fn new(id: &str) -> Self {
        let repo = Self {
            id: id.to_owned(),
            token: None,
            gated: false,
            revisions: Vec::new(),
            commits: BTreeMap::new(),
            lfs_from: 64 << 10,
        };
        repo.branch("main", Files::new())
    }

    /// A public repo with all files below a folder.
    ///
    /// # Panics
    ///
    /// When the folder cannot be read.
    pub fn from_folder(id: &str, folder: &Path) -> Self {
        Self::new(id).files(folder_files(folder))
    }

    /// Adds one file to the commit of `main`, which so becomes another commit.
    pub fn file(self, path: &str, bytes: impl Into<Vec<u8>>) -> Self {
        self.files([(path.to_owned(), Arc::new(bytes.into()))])
    }

    /// Adds files to the commit of `main`, which so becomes another commit.
    pub fn files(mut self, added: impl IntoIterator<Item = (String, Arc<Vec<u8>>)>) -> Self {
        let old = self.commit().to_owned();
        let mut files = self.commits[&old].clone();
        files.extend(added);
        self = self.branch("main", files);
        if self.revisions.iter().all(|(_, commit)| *commit != old) {
            self.commits.remove(&old);
        }
        self
    }

    /// Makes a branch, or moves it: its earlier commit stays.
    pub fn branch(mut self, name: &str, files: Files) -> Self {
        let commit = commit_of(&self.id, &files);
        self.commits.insert(commit.clone(), files);
        self.revisions.retain(|(other, _)| other != name);
        self.revisions.push((name.to_owned(), commit));
        self
    }

    /// Hides the repo from all who do not send this token.
    pub fn private(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    /// Shows the repo to all, but gives its files only with the token of [`Repo::private`], if
    /// there is one.
    pub fn gated(mut self) -> Self {
        self.gated = true;
        self
    }

    /// Sets from how many bytes on a file is an LFS file.
    pub fn lfs_from(mut self, bytes: usize) -> Self {
        self.lfs_from = bytes;
        self
    }

    /// The commit of `main`, 40 hex digits.
    pub fn commit(&self) -> &str {
        self.resolve("main").expect("every repo has main")
    }

    /// The commit that a branch, a tag or a whole commit id names.
    pub(crate) fn resolve(&self, revision: &str) -> Option<&str> {
        let branch = self.revisions.iter().find(|(name, _)| name == revision);
        let commit = branch.map_or(revision, |(_, commit)| commit);
        self.commits.get_key_value(commit).map(|(commit, _)| commit.as_str())
    }
}

/// A repo with the hashes of its files, taken once.
#[derive(Debug)]
pub(crate) struct Hosted {
    pub(crate) repo: Repo,
    pub(crate) blobs: BTreeMap<String, BTreeMap<String, Arc<Blob>>>,
}

/// A file as the hub knows it.
#[derive(Debug)]
pub(crate) struct Blob {
    pub(crate) bytes: Arc<Vec<u8>>,
    /// SHA-1 of what git stores: the file, or the pointer that stands for an LFS file.
    pub(crate) git_oid: String,
    pub(crate) lfs: Option<Lfs>,
}

/// What only an LFS file has.
#[derive(Debug)]
pub(crate) struct Lfs {
    pub(crate) sha256: String,
    pub(crate) pointer_size: usize,
}

impl Hosted {
    pub(crate) fn new(repo: Repo) -> Self {
        let blob = |bytes: &Arc<Vec<u8>>| Arc::new(Blob::new(bytes, repo.lfs_from));
        let files = |files: &Files| files.iter().map(|(p, b)| (p.clone(), blob(b))).collect();
        let blobs = repo.commits.iter().map(|(commit, all)| (commit.clone(), files(all))).collect();
        Self { repo, blobs }
    }
}

impl Blob {
    fn new(bytes: &Arc<Vec<u8>>, lfs_from: usize) -> Self {
        let bytes = Arc::clone(bytes);
        if bytes.len() < lfs_from {
            return Self { git_oid: git_blob(&bytes), bytes, lfs: None };
        }
        let sha256 = sha256(&bytes);
        let pointer = format!(
            "version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {}\n",
            bytes.len()
        );
        let lfs = Some(Lfs { sha256, pointer_size: pointer.len() });
        Self { git_oid: git_blob(pointer.as_bytes()), bytes, lfs }
    }
}

/// SHA-256 in hex digits.
pub fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// The SHA-1 by which git names a file's content, in hex digits.
pub fn git_blob(bytes: &[u8]) -> String {
    let hash = Sha1::new().chain_update(format!("blob {}\0", bytes.len())).chain_update(bytes);
    hex(&hash.finalize())
}

fn commit_of(id: &str, files: &Files) -> String {
    let mut hash = Sha1::new().chain_update(id);
    for (path, bytes) in files {
        hash.update(format!("\0{path}\0{}\0", bytes.len()));
        hash.update(bytes.as_slice());
    }
    hex(&hash.finalize())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// All files below a folder.
pub(crate) fn folder_files(folder: &Path) -> Files {
    let mut files = Files::new();
    read_folder(folder, "", &mut files);
    files
}

fn read_folder(folder: &Path, prefix: &str, files: &mut Files) {
    let entries = std::fs::read_dir(folder).expect("the model's folder can be listed");
    for entry in entries {
        let path = entry.expect("an entry").path();
        let name = path.file_name().expect("a name").to_str().expect("a name in UTF-8");
        if path.is_dir() {
            read_folder(&path, &format!("{prefix}{name}/"), files);
        } else {
            let bytes = std::fs::read(&path).expect("a file of the model can be read");
            files.insert(format!("{prefix}{name}"), Arc::new(bytes));
        }
    }
}
