//! One repository in the standard cache: `blobs/<checksum>`, `snapshots/<commit>/<file>` as links to
//! them, `refs/<branch>` with a commit; the locks are beside the repositories.

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use hf_hub::{Cache, CacheRepo, Repo};

use super::HubError;
use super::listing::is_commit;
use crate::files::atomic;
use crate::integrity::{Digest, Markers};

pub(super) struct RepoCache {
    /// The folder of all repositories.
    pub(super) root: PathBuf,
    name: String,
    repo: CacheRepo,
}

impl RepoCache {
    pub(super) fn new(root: &Path, repo: &Repo) -> Self {
        let cache = Cache::new(root.to_owned());
        Self { root: root.to_owned(), name: repo.folder_name(), repo: cache.repo(repo.clone()) }
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.repo.blob_path(&digest.to_string())
    }

    /// Where a blob grows until it is whole.
    pub(super) fn partial(&self, digest: &Digest) -> PathBuf {
        self.repo.blob_path(&format!("{digest}.incomplete"))
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.repo.pointer_path(commit)
    }

    pub(super) fn markers(&self) -> Markers {
        Markers::new(self.root.join(&self.name).join(".wan-verified"))
    }

    fn reference(&self, revision: &str) -> PathBuf {
        self.root.join(&self.name).join("refs").join(revision)
    }

    /// The commit of a revision, if the cache knows it.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let file = self.reference(revision);
        let commit = fs::read_to_string(file).ok()?.trim().to_owned();
        is_commit(&commit).then_some(commit)
    }

    /// Notes that a revision is a commit.
    pub(super) fn set_commit(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if self.commit(revision).as_deref() == Some(commit) {
            return Ok(());
        }
        let file = self.reference(revision);
        let write = |folder: &Path| {
            fs::create_dir_all(folder)?;
            Ok(atomic::write(&file, commit.as_bytes())?)
        };
        write(file.parent().unwrap_or(&self.root)).map_err(HubError::io(&file))
    }

    /// Takes the lock of a blob, which Python's client takes too. While another holds it, `wait` is
    /// asked again and again whether to go on.
    pub(super) fn lock(
        &self,
        digest: &Digest,
        mut wait: impl FnMut() -> Result<(), HubError>,
    ) -> Result<File, HubError> {
        let folder = self.root.join(".locks").join(&self.name);
        fs::create_dir_all(&folder).map_err(HubError::io(&folder))?;
        let path = folder.join(format!("{digest}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(HubError::io(&path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(file),
                Err(TryLockError::WouldBlock) => wait()?,
                Err(TryLockError::Error(error)) => return Err(HubError::io(path)(error)),
            }
        }
    }

    /// Makes `file` of a commit a link to its blob.
    pub(super) fn link(&self, commit: &str, file: &str, digest: &Digest) -> Result<(), HubError> {
        let pointer = self.snapshot(commit).join(file);
        let up = "../".repeat(2 + file.matches('/').count());
        let target = format!("{up}blobs/{digest}");
        if fs::read_link(&pointer).is_ok_and(|found| found == Path::new(&target)) {
            return Ok(());
        }
        let folder = pointer.parent().unwrap_or(&self.root);
        let place = |folder: &Path| {
            fs::create_dir_all(folder)?;
            // Renamed over what is there, so that the name is never missing or half made.
            let make = |path: &Path| link_or_copy(&target, &self.blob(digest), path);
            Ok(atomic::place(&pointer, make)?)
        };
        place(folder).map_err(HubError::io(&pointer))
    }
}

#[cfg(unix)]
fn link_or_copy(target: &str, _: &Path, link: &Path) -> std::io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Links need a privilege on Windows; Python's client copies there too.
#[cfg(not(unix))]
fn link_or_copy(_: &str, blob: &Path, link: &Path) -> std::io::Result<()> {
    fs::copy(blob, link).map(drop)
}

/// Bytes free for this user where `folder` is or will be. `None` where the system does not tell.
pub(super) fn free_space(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let existing = folder.ancestors().find(|folder| folder.exists())?;
        let stat = rustix::fs::statvfs(existing).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}
