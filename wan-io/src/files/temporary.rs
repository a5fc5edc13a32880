//! What outputs are before they are whole.
//!
//! On Linux a file has no name at all, so that the system removes it however the process ends. Folders,
//! and files where that does not work, stand under a temporary name beside the final one. They are locked
//! as long as their process lives; what is not locked is removed by the next one that writes the same
//! output.

use std::{
    ffi::{OsStr, OsString},
    fs,
    fs::{File, TryLockError},
    io,
    io::Seek,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tempfile::Builder;

use super::WriteError;

/// The end of temporary names.
const SUFFIX: &str = ".partial";

/// How many random characters temporary names have.
const RANDOM: usize = 6;

/// What has a temporary name in this process.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn unfinished() -> MutexGuard<'static, Vec<PathBuf>> {
    UNFINISHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Removes what this process has under temporary names: for a program that is about to exit at once,
/// without dropping its writers. They fail from then on.
pub fn remove_unfinished() {
    unfinished().iter().for_each(|path| remove(path));
}

/// Removes a file or a folder. Nothing depends on it, so errors are passed over.
fn remove(path: &Path) {
    if fs::remove_file(path).is_ok() {
        return;
    }
    // Another frame may come while the folder is emptied.
    for _ in 0..10 {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            _ => return,
        }
    }
}

/// A file or folder under a temporary name; dropping it removes it.
pub(super) struct Temporary(PathBuf);

impl Temporary {
    fn new(path: PathBuf) -> Self {
        unfinished().push(path.clone());
        Self(path)
    }

    /// Gives it its final name. Dropping it finds nothing any more then.
    pub(super) fn rename(self, target: &Path) -> io::Result<()> {
        fs::rename(&self.0, target)
    }
}

impl AsRef<Path> for Temporary {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        remove(&self.0);
        unfinished().retain(|path| *path != self.0);
    }
}

/// Marks what has just been made as in use. It is made anew (`AlreadyExists`) where another process
/// took it for abandoned before that.
fn claim(file: &File, path: &Path) -> io::Result<()> {
    match file.try_lock() {
        // Without locks nobody can take it for abandoned.
        Err(TryLockError::Error(_)) => Ok(()),
        Ok(()) if path.exists() => Ok(()),
        Ok(()) | Err(TryLockError::WouldBlock) => Err(io::ErrorKind::AlreadyExists.into()),
    }
}

pub(super) fn new_file(path: &Path) -> io::Result<File> {
    // As far as the umask allows, like any new file.
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    claim(&file, path).map(|()| file)
}

/// The handle is for the lock; some systems have none for folders.
pub(super) fn new_folder(path: &Path) -> io::Result<Option<File>> {
    fs::create_dir(path)?;
    match File::open(path) {
        Ok(folder) => claim(&folder, path).map(|()| Some(folder)),
        Err(_) => Ok(None),
    }
}

/// A file without a name, which can be given one.
#[cfg(target_os = "linux")]
pub(super) fn unnamed_file(folder: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    let flags = rustix::fs::OFlags::TMPFILE.bits().cast_signed();
    let file =
        File::options().read(true).write(true).mode(0o666).custom_flags(flags).open(folder)?;
    // For the moment in which it will have a temporary name. Some file systems have no locks.
    let _ = file.try_lock();
    Ok(file)
}

#[cfg(not(target_os = "linux"))]
pub(super) fn unnamed_file(_: &Path) -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Gives an unnamed file a name that nothing has.
#[cfg(target_os = "linux")]
fn link(file: &File, path: &Path) -> io::Result<()> {
    use std::os::fd::AsRawFd;

    use rustix::fs::{AtFlags, CWD, linkat};

    let open = format!("/proc/self/fd/{}", file.as_raw_fd());
    Ok(linkat(CWD, open, CWD, path, AtFlags::SYMLINK_FOLLOW)?)
}

#[cfg(not(target_os = "linux"))]
fn link(_: &File, _: &Path) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// A name in a folder that exists.
pub(super) struct Target {
    /// As the caller wrote it, for messages.
    pub(super) given: PathBuf,
    pub(super) parent: PathBuf,
    name: OsString,
}

impl Target {
    /// `given` is for messages, `place` is where it leads to.
    pub(super) fn new(given: &Path, place: &Path) -> Result<Self, WriteError> {
        let given = given.to_path_buf();
        let Some(name) = place.file_name().map(OsStr::to_os_string) else {
            return Err(WriteError::NoName { path: given });
        };
        let parent = match place.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        check_folder(&given, parent)?;
        // Absolute, so that a later change of the working directory moves nothing.
        let parent = std::path::absolute(parent)
            .map_err(WriteError::io("find the working directory for", &given))?;
        Ok(Self { given, parent, name })
    }

    pub(super) fn path(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// `.video.mp4.` for `video.mp4`: hidden, and recognisable should a crash leave it behind.
    pub(super) fn prefix(&self) -> OsString {
        let mut prefix = OsString::from(".");
        if self.name.len() <= 200 {
            prefix.push(&self.name);
        } else {
            // Names have at most 255 bytes, and the temporary one is longer than the final one.
            prefix.push(self.name.to_string_lossy().chars().take(50).collect::<String>());
        }
        prefix.push(".");
        prefix
    }

    pub(super) fn builder<'a>(&self, prefix: &'a OsStr) -> Builder<'a, 'static> {
        let mut builder = Builder::new();
        builder.prefix(prefix).suffix(SUFFIX).rand_bytes(RANDOM);
        builder
    }

    /// Makes something under a temporary name, which `make` is given.
    pub(super) fn temporary<T>(
        &self,
        make: impl FnMut(&Path) -> io::Result<T>,
    ) -> io::Result<(Temporary, T)> {
        let made = self.builder(&self.prefix()).make_in(&self.parent, make)?;
        let (made, path) = made.into_parts();
        Ok((Temporary::new(path.keep()?), made))
    }

    /// Removes what earlier runs with this output have left because they were killed.
    pub(super) fn remove_abandoned(&self) {
        let entries = match cfg!(unix) {
            true => fs::read_dir(&self.parent),
            false => return, // Folders have no locks there.
        };
        for entry in entries.into_iter().flatten().flatten() {
            let (path, kind) = (entry.path(), entry.file_type());
            if !self.is_temporary(&entry.file_name()) {
                continue;
            }
            let opened = match kind {
                Ok(kind) if kind.is_dir() => File::open(&path),
                Ok(kind) if kind.is_file() => File::options().write(true).open(&path),
                _ => continue,
            };
            // The lock is held until it is gone.
            if let Ok(file) = opened
                && file.try_lock().is_ok()
            {
                remove(&path);
            }
        }
    }

    /// Whether a name is one that [`builder`](Self::builder) makes.
    fn is_temporary(&self, name: &OsStr) -> bool {
        let name = name.as_encoded_bytes().strip_prefix(self.prefix().as_encoded_bytes());
        let random = name.and_then(|name| name.strip_suffix(SUFFIX.as_bytes()));
        random.is_some_and(|r| r.len() == RANDOM && r.iter().all(u8::is_ascii_alphanumeric))
    }

    /// Puts an unnamed file in place, by way of a temporary name: links replace nothing.
    pub(super) fn put_in_place(&self, mut file: File) -> io::Result<()> {
        let (temporary, _held) = match self.temporary(|path| link(&file, path)) {
            Ok((temporary, ())) => (temporary, file),
            // Without /proc, or on a file system without links.
            Err(_) => {
                let (temporary, mut copy) = self.temporary(new_file)?;
                file.rewind()?;
                io::copy(&mut file, &mut copy)?;
                (temporary, copy)
            }
        };
        temporary.rename(&self.path())
    }

    /// An empty folder can be replaced by the finished one, unless it is a mount point. Removing
    /// it and making it again tells now what `commit` would find out after hours of work.
    pub(super) fn check_replaceable(&self) -> Result<(), WriteError> {
        let folder = self.path();
        let mut entries =
            fs::read_dir(&folder).map_err(WriteError::io("look into the folder", &self.given))?;
        if entries.next().is_some() {
            return Err(WriteError::NotEmpty { path: self.given.clone() });
        }
        fs::remove_dir(&folder)
            .and_then(|()| fs::create_dir(&folder))
            .map_err(WriteError::io("replace the empty folder", &self.given))
    }
}

/// `parent` must be a folder that exists.
fn check_folder(given: &Path, parent: &Path) -> Result<(), WriteError> {
    let (path, folder) = (given.to_path_buf(), parent.to_path_buf());
    match fs::metadata(parent) {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(WriteError::ParentNotFolder { path, parent: folder }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(WriteError::NoParent { path, parent: folder })
        }
        Err(error) => Err(WriteError::io("look into the folder", parent)(error)),
    }
}
