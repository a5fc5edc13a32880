//! Files and folders that appear under their final name only when they are whole.
//!
//! On Linux a file has no name at all before, so that the system removes it however the process ends.
//! Folders, and files where that does not work, stand under a temporary name. They are locked as long as
//! their process lives; what is not locked is removed by the next one that writes the same output.

use std::{
    ffi::{OsStr, OsString},
    fs,
    fs::{File, TryLockError},
    io,
    io::{BufWriter, Seek, Write},
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tempfile::Builder;

use super::destination::{Destination, open_stream};

/// The end of temporary names.
const SUFFIX: &str = ".partial";

/// How many random characters temporary names have.
const RANDOM: usize = 6;

/// Why a file or folder cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The path ends without a name.
    #[error("cannot write `{path}`: the path has no name at its end")]
    NoName {
        /// The path as given.
        path: PathBuf,
    },
    /// The folder that should hold the file does not exist.
    #[error("cannot write `{path}`: the folder `{parent}` does not exist; make it first")]
    NoParent {
        /// The path as given.
        path: PathBuf,
        /// The missing folder.
        parent: PathBuf,
    },
    /// The path leads through something that is not a folder.
    #[error("cannot write `{path}`: `{parent}` is not a folder")]
    ParentNotFolder {
        /// The path as given.
        path: PathBuf,
        /// The file that stands where a folder is needed.
        parent: PathBuf,
    },
    /// A file should be written where a folder stands.
    #[error("cannot write the file `{path}`: a folder of that name exists")]
    IsFolder {
        /// The path as given.
        path: PathBuf,
    },
    /// A folder should be written where a file stands.
    #[error("cannot write the folder `{path}`: a file of that name exists")]
    IsFile {
        /// The path as given.
        path: PathBuf,
    },
    /// Frames are only written into a new or an empty folder.
    #[error("cannot write frames into `{path}`: the folder is not empty")]
    NotEmpty {
        /// The path as given.
        path: PathBuf,
    },
    /// Nobody reads a named pipe, so that opening it would wait.
    #[error(
        "cannot write `{path}`: no program reads this pipe yet; start the one that reads it first"
    )]
    NoReader {
        /// The path as given.
        path: PathBuf,
    },
    /// The file system refused.
    #[error("cannot {action} `{path}`: {source}")]
    Io {
        /// The step that failed, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

impl WriteError {
    /// For `map_err` on an I/O call.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_path_buf(), source }
    }
}

/// The cause alone where there is one, for callers that name the path themselves.
impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Io { source, .. } => source,
            other => Self::other(other),
        }
    }
}

/// Writes a small file in one go.
pub(crate) fn write(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let mut file = AtomicFile::create(path)?;
    file.write(bytes)?;
    file.commit()
}

/// Puts in place of `path` the entry that `make` makes at the temporary path it is given, such as a
/// link.
#[cfg(feature = "hub")]
pub(crate) fn place(
    path: &Path,
    make: impl FnMut(&Path) -> io::Result<()>,
) -> Result<(), WriteError> {
    let target = Target::new(path, path)?;
    let made = target.builder(&target.prefix()).make_in(&target.parent, make);
    let made = made.map_err(WriteError::io("make a file beside", path))?.into_temp_path();
    made.persist(target.path()).map_err(|error| WriteError::io("put in place", path)(error.error))
}

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
struct Temporary(PathBuf);

impl Temporary {
    fn new(path: PathBuf) -> Self {
        unfinished().push(path.clone());
        Self(path)
    }

    /// Gives it its final name. Dropping it finds nothing any more then.
    fn rename(self, target: &Path) -> io::Result<()> {
        fs::rename(&self.0, target)
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

fn new_file(path: &Path) -> io::Result<File> {
    // As far as the umask allows, like any new file.
    let file = File::options().read(true).write(true).create_new(true).open(path)?;
    claim(&file, path).map(|()| file)
}

/// The handle is for the lock; some systems have none for folders.
fn new_folder(path: &Path) -> io::Result<Option<File>> {
    fs::create_dir(path)?;
    match File::open(path) {
        Ok(folder) => claim(&folder, path).map(|()| Some(folder)),
        Err(_) => Ok(None),
    }
}

/// A file without a name, which can be given one.
#[cfg(target_os = "linux")]
fn unnamed_file(folder: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;

    let flags = rustix::fs::OFlags::TMPFILE.bits().cast_signed();
    let file =
        File::options().read(true).write(true).mode(0o666).custom_flags(flags).open(folder)?;
    // For the moment in which it will have a temporary name. Some file systems have no locks.
    let _ = file.try_lock();
    Ok(file)
}

#[cfg(not(target_os = "linux"))]
fn unnamed_file(_: &Path) -> io::Result<File> {
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
struct Target {
    /// As the caller wrote it, for messages.
    given: PathBuf,
    parent: PathBuf,
    name: OsString,
}

impl Target {
    /// `given` is for messages, `place` is where it leads to.
    fn new(given: &Path, place: &Path) -> Result<Self, WriteError> {
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

    fn path(&self) -> PathBuf {
        self.parent.join(&self.name)
    }

    /// `.video.mp4.` for `video.mp4`: hidden, and recognisable should a crash leave it behind.
    fn prefix(&self) -> OsString {
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

    fn builder<'a>(&self, prefix: &'a OsStr) -> Builder<'a, 'static> {
        let mut builder = Builder::new();
        builder.prefix(prefix).suffix(SUFFIX).rand_bytes(RANDOM);
        builder
    }

    /// Makes something under a temporary name, which `make` is given.
    fn temporary<T>(&self, make: impl FnMut(&Path) -> io::Result<T>) -> io::Result<(Temporary, T)> {
        let made = self.builder(&self.prefix()).make_in(&self.parent, make)?;
        let (made, path) = made.into_parts();
        Ok((Temporary::new(path.keep()?), made))
    }

    /// Removes what earlier runs with this output have left because they were killed.
    fn remove_abandoned(&self) {
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
    fn put_in_place(&self, mut file: File) -> io::Result<()> {
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
    fn check_replaceable(&self) -> Result<(), WriteError> {
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

/// A file that replaces the one of its name when it is whole, and until then is none; or a stream that
/// is written in place.
pub(crate) struct AtomicFile {
    given: PathBuf,
    out: BufWriter<File>,
    place: Place,
}

/// Where the bytes of a file are before it is whole, and where they go.
enum Place {
    /// In a file without a name.
    Unnamed(Target),
    /// In a file with a temporary name.
    Named(Temporary, Target),
    /// In the stream already.
    Stream,
    /// In a file that is copied to this stream.
    #[cfg(feature = "mp4")]
    Spool(File),
}

impl AtomicFile {
    /// Opens the file or the stream.
    pub(crate) fn create(path: &Path) -> Result<Self, WriteError> {
        let target = match Destination::of(path) {
            Destination::Stream(stream) => {
                return Ok(Self::new(path, open_stream(path, &stream)?, Place::Stream));
            }
            Destination::Entry(place) => Target::new(path, &place)?,
        };
        match fs::metadata(target.path()) {
            Ok(found) if found.is_dir() => return Err(WriteError::IsFolder { path: path.into() }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Such as a name that is too long, or links in a loop.
            Err(error) => return Err(WriteError::io("write", path)(error)),
        }
        target.remove_abandoned();
        match unnamed_file(&target.parent) {
            Ok(file) => Ok(Self::new(path, file, Place::Unnamed(target))),
            Err(_) => Self::named(target),
        }
    }

    fn named(target: Target) -> Result<Self, WriteError> {
        let made = target.temporary(new_file);
        let (temporary, file) =
            made.map_err(WriteError::io("make a file beside", &target.given))?;
        Ok(Self::new(&target.given.clone(), file, Place::Named(temporary, target)))
    }

    fn new(given: &Path, file: File, place: Place) -> Self {
        let out = BufWriter::with_capacity(1 << 16, file);
        Self { given: given.to_path_buf(), out, place }
    }

    /// Before anything is written: makes room for [`overwrite_start`](Self::overwrite_start), which
    /// streams do not have; they get all at once, at the end.
    #[cfg(feature = "mp4")]
    pub(crate) fn seekable(self) -> Result<Self, WriteError> {
        if !matches!(self.place, Place::Stream) {
            return Ok(self);
        }
        let spool = tempfile::tempfile()
            .map_err(WriteError::io("make a temporary file for", &self.given))?;
        let (stream, _) = self.out.into_parts();
        Ok(Self::new(&self.given, spool, Place::Spool(stream)))
    }

    /// The path as the caller wrote it.
    pub(crate) fn path(&self) -> &Path {
        &self.given
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        let written = self.out.write_all(bytes);
        // Who reads a stream waits for it.
        let flushed = written.and_then(|()| match self.place {
            Place::Stream => self.out.flush(),
            _ => Ok(()),
        });
        flushed.map_err(WriteError::io("write", &self.given))
    }

    /// Overwrites the first bytes of a [`seekable`](Self::seekable) file; nothing can be appended
    /// afterwards.
    #[cfg(feature = "mp4")]
    pub(crate) fn overwrite_start(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.out.rewind().map_err(WriteError::io("write", &self.given))?;
        self.write(bytes)
    }

    /// Moves the file to its final name, in place of what stood there; completes a stream.
    pub(crate) fn commit(self) -> Result<(), WriteError> {
        let Self { given, out, place } = self;
        let file = out
            .into_inner()
            .map_err(|error| WriteError::io("write", &given)(error.into_error()))?;
        match place {
            Place::Unnamed(target) => {
                target.put_in_place(file).map_err(WriteError::io("put in place", &given))
            }
            Place::Named(temporary, target) => {
                temporary.rename(&target.path()).map_err(WriteError::io("put in place", &given))
            }
            Place::Stream => Ok(()),
            #[cfg(feature = "mp4")]
            Place::Spool(mut stream) => {
                let mut file = file;
                let copied = file.rewind().and_then(|()| io::copy(&mut file, &mut stream));
                copied.map(drop).map_err(WriteError::io("write", &given))
            }
        }
    }
}

/// A folder that appears under its name when it is whole. From its first file on it is under a temporary
/// name beside that; dropping it removes it and all in it.
pub(crate) struct AtomicFolder {
    target: Target,
    folder: Option<OpenFolder>,
}

struct OpenFolder {
    path: Temporary,
    /// Says that the folder is in use.
    _lock: Option<File>,
}

impl AtomicFolder {
    /// Tries whether the folder can be made.
    pub(crate) fn create(path: &Path) -> Result<Self, WriteError> {
        let target = match Destination::of(path) {
            Destination::Entry(place) => Target::new(path, &place)?,
            Destination::Stream(_) => return Err(WriteError::IsFile { path: path.into() }),
        };
        match fs::metadata(target.path()) {
            Ok(found) if !found.is_dir() => return Err(WriteError::IsFile { path: path.into() }),
            Ok(_) => target.check_replaceable()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(WriteError::io("write", path)(error)),
        }
        target.remove_abandoned();
        OpenFolder::make(&target)?;
        Ok(Self { target, folder: None })
    }

    /// The path as the caller wrote it.
    pub(crate) fn path(&self) -> &Path {
        &self.target.given
    }

    /// The path of a file inside, while the folder is not yet in place.
    pub(crate) fn join(&mut self, name: &str) -> Result<PathBuf, WriteError> {
        let folder = match self.folder.take() {
            Some(folder) => folder,
            None => OpenFolder::make(&self.target)?,
        };
        Ok(self.folder.insert(folder).path.0.join(name))
    }

    /// Moves the folder to its final name.
    pub(crate) fn commit(self) -> Result<(), WriteError> {
        let folder = match self.folder {
            Some(folder) => folder,
            None => OpenFolder::make(&self.target)?,
        };
        let put = WriteError::io("put in place", &self.target.given);
        let path = self.target.path();
        // Unix renames over an empty folder by itself, Windows does not.
        match fs::remove_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(put(error)),
            _ => {}
        }
        folder.path.rename(&path).map_err(put)
    }
}

impl OpenFolder {
    fn make(target: &Target) -> Result<Self, WriteError> {
        let made = target.temporary(new_folder);
        let (path, lock) = made.map_err(WriteError::io("make a folder beside", &target.given))?;
        Ok(Self { path, _lock: lock })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// A file as on systems on which it needs a temporary name.
    fn named(path: &Path) -> AtomicFile {
        let target = Target::new(path, path).unwrap();
        target.remove_abandoned();
        AtomicFile::named(target).unwrap()
    }

    #[test]
    fn a_file_with_a_temporary_name_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.mp4");
        let file = named(&path);
        assert_eq!(names(folder.path()).len(), 1);
        drop(file);
        assert!(names(folder.path()).is_empty());
        let mut file = named(&path);
        file.write(b"new").unwrap();
        file.commit().unwrap();
        assert_eq!(names(folder.path()), ["v.mp4"]);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    /// Where the system cannot give an unnamed file a name, it is copied.
    #[test]
    fn a_file_that_cannot_be_linked_is_copied() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v.mp4");
        let target = Target::new(&path, &path).unwrap();
        let lost = folder.path().join("lost");
        fs::write(&lost, "new").unwrap();
        let file = File::open(&lost).unwrap();
        fs::remove_file(&lost).unwrap(); // there is no way back to a name
        target.put_in_place(file).unwrap();
        assert_eq!(names(folder.path()), ["v.mp4"]);
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[cfg(unix)]
    #[test]
    fn what_a_killed_run_left_is_removed_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let kept =
            [".v.mp4.a-b-c-.partial", ".v.mp4.old.partial", ".w.mp4.abcdef.partial", "v.mp4"];
        for name in [&kept[..], &[".v.mp4.abcdef.partial"]].concat() {
            fs::write(at(name), "left").unwrap();
        }
        fs::create_dir(at(".v.mp4.ABC123.partial")).unwrap();
        fs::write(at(".v.mp4.ABC123.partial/frame_00000.png"), "left").unwrap();
        drop(AtomicFile::create(&at("v.mp4")).unwrap());
        assert_eq!(names(folder.path()), kept);
    }

    #[cfg(unix)]
    #[test]
    fn two_runs_of_one_output_leave_each_other_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (file, frames) = (folder.path().join("v.mp4"), folder.path().join("frames"));
        let (mut first, mut second) = (named(&file), named(&file));
        let mut one = AtomicFolder::create(&frames).unwrap();
        fs::write(one.join("frame").unwrap(), "one").unwrap();
        let mut two = AtomicFolder::create(&frames).unwrap();
        fs::write(two.join("frame").unwrap(), "two").unwrap();
        assert_eq!(names(folder.path()).len(), 4);
        first.write(b"one").unwrap();
        second.write(b"two").unwrap();
        first.commit().unwrap();
        second.commit().unwrap();
        one.commit().unwrap();
        assert!(two.commit().is_err(), "the folder is not empty any more");
        assert_eq!(names(folder.path()), ["frames", "v.mp4"]);
        assert_eq!(fs::read(file).unwrap(), b"two");
        assert_eq!(fs::read(frames.join("frame")).unwrap(), b"one");
    }
}
