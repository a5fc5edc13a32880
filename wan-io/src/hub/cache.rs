//! One repository in the standard cache: `blobs/<checksum>`, `snapshots/<commit>/<file>` as links to
//! them, `refs/<branch>` with a commit; the locks are beside the repositories.
//!
//! The file system may know less than that takes: without symbolic links a file in a snapshot is a hard
//! link, or the blob is moved there, as Python's client does; without locks there are none.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

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
    /// Why files in it cannot be symbolic links, once that has turned out, and whether it was told.
    no_links: OnceLock<String>,
    told: AtomicBool,
}

impl RepoCache {
    pub(super) fn new(root: &Path, repo: &Repo) -> Self {
        let cache = Cache::new(root.to_owned());
        Self {
            root: root.to_owned(),
            name: repo.folder_name(),
            repo: cache.repo(repo.clone()),
            no_links: OnceLock::new(),
            told: AtomicBool::new(false),
        }
    }

    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        self.repo.blob_path(&digest.to_string())
    }

    /// Where a blob grows until it is whole.
    pub(super) fn partial(&self, digest: &Digest) -> PathBuf {
        self.repo.blob_path(&format!("{digest}.incomplete"))
    }

    /// Makes such a file for this process alone, for where there are no locks.
    pub(super) fn own_partial(&self, digest: &Digest) -> Result<PathBuf, HubError> {
        let shared = self.partial(digest);
        let (folder, prefix) = (shared.parent().unwrap_or(&self.root), format!("{digest}."));
        let mut builder = tempfile::Builder::new();
        builder.prefix(&prefix).suffix(".incomplete");
        // As far as the umask allows, like any new file.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let made = builder.tempfile_in(folder).map_err(HubError::io(folder))?;
        made.into_temp_path().keep().map_err(|error| HubError::io(folder)(error.error))
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
        make_folder(file.parent().unwrap_or(&self.root))?;
        atomic::write(&file, commit.as_bytes()).map_err(|error| HubError::io(&file)(error.into()))
    }

    /// Makes the folder of the blobs.
    pub(super) fn make_blobs(&self) -> Result<(), HubError> {
        make_folder(&self.root.join(&self.name).join("blobs"))
    }

    /// Where a file of a commit is, by any of its names: in the snapshot, or only as a blob.
    pub(super) fn find(&self, commit: &str, names: &[&str], digest: &Digest) -> Option<PathBuf> {
        let snapshot = self.snapshot(commit);
        let pointers = names.iter().map(|name| snapshot.join(name));
        pointers.chain([self.blob(digest)]).find(|path| path.is_file())
    }

    /// Removes a file that is wrong, and the blob that it may be a link to.
    pub(super) fn remove(&self, wrong: &Path, digest: &Digest) -> Result<(), HubError> {
        for path in [wrong, &self.blob(digest)] {
            if path.symlink_metadata().is_ok() {
                fs::remove_file(path).map_err(HubError::io(path))?;
            }
        }
        Ok(())
    }

    /// Takes the lock of a blob, which Python's client takes too. While another holds it, `wait` is
    /// asked again and again whether to go on. `None` where the file system has no locks.
    pub(super) fn lock(
        &self,
        digest: &Digest,
        mut wait: impl FnMut() -> Result<(), HubError>,
    ) -> Result<Option<File>, HubError> {
        let folder = self.root.join(".locks").join(&self.name);
        make_folder(&folder)?;
        let path = folder.join(format!("{digest}.lock"));
        let file = File::options().create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(HubError::io(&path))?;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(file)),
                Err(TryLockError::WouldBlock) => wait()?,
                Err(TryLockError::Error(error)) if is_unknown_call(&error) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(HubError::io(path)(error)),
            }
        }
    }

    /// Gives the file with `digest` those of its names in a commit that it does not have.
    pub(super) fn link(
        &self,
        commit: &str,
        names: &[&str],
        digest: &Digest,
    ) -> Result<(), HubError> {
        for name in names {
            let pointer = self.snapshot(commit).join(name);
            if !pointer.is_file() {
                make_folder(pointer.parent().unwrap_or(&self.root))?;
                let up = "../".repeat(2 + name.matches('/').count());
                let target = format!("{up}blobs/{digest}");
                self.place(&pointer, &target, (commit, names), digest)?;
            }
        }
        Ok(())
    }

    /// Makes `pointer` a symbolic link to `target`, or the file itself.
    fn place(
        &self,
        pointer: &Path,
        target: &str,
        (commit, names): (&str, &[&str]),
        digest: &Digest,
    ) -> Result<(), HubError> {
        let blob = self.blob(digest);
        let mut reason = None;
        if self.no_links.get().is_none() && blob.is_file() {
            // Renamed over what is there, so that the name is never missing or half made.
            let mut link = |path: &Path| {
                symlink(target, path).inspect_err(|error| reason = Some(error.to_string()))
            };
            if atomic::place(pointer, &mut link).is_ok() {
                return Ok(());
            }
        }
        // The blob, or the file that it was moved to under another name.
        let moved = if blob.is_file() { None } else { self.find(commit, names, digest) };
        let source = moved.as_ref().unwrap_or(&blob);
        let markers = self.markers();
        let is_verified = markers.holds(source, digest);
        if atomic::place(pointer, |path| fs::hard_link(source, path)).is_err() {
            let placed = match &moved {
                None => fs::rename(&blob, pointer),
                Some(file) => atomic::place(pointer, |path| fs::copy(file, path).map(drop))
                    .map_err(io::Error::from),
            };
            match placed {
                // Another process moved it there, where there are no locks.
                Err(error) if error.kind() == io::ErrorKind::NotFound && pointer.is_file() => {}
                placed => placed.map_err(HubError::io(pointer))?,
            }
        }
        if let Some(reason) = reason {
            let _ = self.no_links.set(reason);
        }
        if is_verified {
            // Without the marker it is hashed again, no more.
            let _ = markers.record(pointer, digest);
        }
        Ok(())
    }

    /// Why files are no symbolic links, the first time that this is known.
    pub(super) fn news_of_links(&self) -> Option<&str> {
        let reason = self.no_links.get()?;
        (!self.told.swap(true, Ordering::Relaxed)).then_some(reason)
    }
}

/// Makes a folder of the cache, with all folders above it.
pub(super) fn make_folder(folder: &Path) -> Result<(), HubError> {
    fs::create_dir_all(folder).map_err(|source| match HubError::io(folder)(source) {
        HubError::Io { path, source } | HubError::Cache { path, source, .. } => {
            HubError::Cache { path, verb: "made", source }
        }
        other => other,
    })
}

/// Whether the file system does not know what was asked for, such as a lock; some of those on networks
/// and in programs (FUSE) do not.
pub(super) fn is_unknown_call(error: &io::Error) -> bool {
    #[cfg(unix)]
    {
        use rustix::io::Errno;
        let unknown = [Errno::NOSYS, Errno::NOLCK, Errno::OPNOTSUPP, Errno::NOTSUP, Errno::INVAL];
        Errno::from_io_error(error).is_some_and(|errno| unknown.contains(&errno))
    }
    #[cfg(not(unix))]
    {
        error.kind() == io::ErrorKind::Unsupported
    }
}

#[cfg(unix)]
fn symlink(target: &str, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Symbolic links need a privilege on Windows.
#[cfg(not(unix))]
fn symlink(_: &str, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Bytes free for this user in `folder`. `None` where the system does not tell.
pub(super) fn free_space(folder: &Path) -> Option<u64> {
    #[cfg(unix)]
    {
        let stat = rustix::fs::statvfs(folder).ok()?;
        // File systems without a size of their own say that they have 0 of 0.
        let has_size = stat.f_blocks > 0 && stat.f_frsize > 0;
        has_size.then(|| stat.f_bavail.saturating_mul(stat.f_frsize))
    }
    #[cfg(not(unix))]
    {
        let _ = folder;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn free_space_that_is_not_told_is_not_0() {
        assert_eq!(free_space(Path::new("/proc")), None);
        assert!(free_space(&std::env::temp_dir()).is_some_and(|free| free > 0));
        assert_eq!(free_space(Path::new("/no such folder")), None);
    }
}
