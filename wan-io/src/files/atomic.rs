//! Files and folders that appear under their final name only when they are whole.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile, TempDir};

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
    let target = Target::new(path)?;
    let made = target.builder(&target.prefix()).make_in(&target.parent, make);
    let made = made.map_err(WriteError::io("make a file beside", path))?.into_temp_path();
    made.persist(target.path()).map_err(|error| WriteError::io("put in place", path)(error.error))
}

/// A name in a folder that exists.
struct Target {
    /// As the caller wrote it, for messages.
    given: PathBuf,
    parent: PathBuf,
    name: OsString,
}

impl Target {
    fn new(path: &Path) -> Result<Self, WriteError> {
        let given = path.to_path_buf();
        let Some(name) = path.file_name().map(OsStr::to_os_string) else {
            return Err(WriteError::NoName { path: given });
        };
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        check_folder(&given, parent)?;
        // Absolute, so that a later change of the working directory moves nothing.
        let parent = std::path::absolute(parent)
            .map_err(WriteError::io("find the working directory for", path))?;
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
        builder.prefix(prefix).suffix(".partial");
        builder
    }

    /// An empty folder can be replaced by the finished one, unless it is a mount point. Removing
    /// it and making it again tells now what `commit` would find out after hours of work.
    fn check_replaceable(&self, folder: &Path) -> Result<(), WriteError> {
        let mut entries =
            fs::read_dir(folder).map_err(WriteError::io("look into the folder", &self.given))?;
        if entries.next().is_some() {
            return Err(WriteError::NotEmpty { path: self.given.clone() });
        }
        fs::remove_dir(folder)
            .and_then(|()| fs::create_dir(folder))
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

/// A file under a temporary name beside its final one; dropping it removes it.
pub(crate) struct AtomicFile {
    given: PathBuf,
    target: PathBuf,
    out: BufWriter<NamedTempFile>,
}

impl AtomicFile {
    /// Opens the temporary file.
    pub(crate) fn create(path: &Path) -> Result<Self, WriteError> {
        let place = Target::new(path)?;
        let (given, target) = (place.given.clone(), place.path());
        match fs::metadata(&target) {
            Ok(found) if found.is_dir() => return Err(WriteError::IsFolder { path: given }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Such as a name that is too long.
            Err(error) => return Err(WriteError::io("write", &given)(error)),
        }
        let prefix = place.prefix();
        let mut builder = place.builder(&prefix);
        // As far as the umask allows, like any new file.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder.tempfile_in(&place.parent);
        let file = file.map_err(WriteError::io("make a file beside", &given))?;
        Ok(Self { given, target, out: BufWriter::with_capacity(1 << 16, file) })
    }

    /// The path as the caller wrote it.
    pub(crate) fn path(&self) -> &Path {
        &self.given
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        self.out.write_all(bytes).map_err(WriteError::io("write", &self.given))
    }

    /// Overwrites the first bytes; nothing can be appended afterwards.
    #[cfg(feature = "mp4")]
    pub(crate) fn overwrite_start(&mut self, bytes: &[u8]) -> Result<(), WriteError> {
        io::Seek::rewind(&mut self.out).map_err(WriteError::io("write", &self.given))?;
        self.write(bytes)
    }

    /// Moves the file to its final name, in place of what stood there.
    pub(crate) fn commit(self) -> Result<(), WriteError> {
        let file = self
            .out
            .into_inner()
            .map_err(|error| WriteError::io("write", &self.given)(error.into_error()))?;
        file.persist(&self.target)
            .map(|_| ())
            .map_err(|error| WriteError::io("put in place", &self.given)(error.error))
    }
}

/// A folder under a temporary name beside its final one; dropping it removes it and all in it.
pub(crate) struct AtomicFolder {
    given: PathBuf,
    target: PathBuf,
    folder: TempDir,
}

impl AtomicFolder {
    /// Makes the temporary folder.
    pub(crate) fn create(path: &Path) -> Result<Self, WriteError> {
        let mut place = Target::new(path)?;
        let (given, mut target) = (place.given.clone(), place.path());
        match fs::metadata(&target) {
            Ok(found) if !found.is_dir() => return Err(WriteError::IsFile { path: given }),
            Ok(_) => {
                // The folder behind a link is the one that gets replaced.
                target =
                    fs::canonicalize(&target).map_err(WriteError::io("find the folder", &given))?;
                place.check_replaceable(&target)?;
                if let Some(parent) = target.parent() {
                    place.parent = parent.to_path_buf();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(WriteError::io("write", &given)(error)),
        }
        let folder = place.builder(&place.prefix()).tempdir_in(&place.parent);
        let folder = folder.map_err(WriteError::io("make a folder beside", &given))?;
        Ok(Self { given, target, folder })
    }

    /// The path as the caller wrote it.
    pub(crate) fn path(&self) -> &Path {
        &self.given
    }

    /// The path of a file inside, while the folder is not yet in place.
    pub(crate) fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Moves the folder to its final name.
    pub(crate) fn commit(self) -> Result<(), WriteError> {
        let put = WriteError::io("put in place", &self.given);
        // Unix renames over an empty folder by itself, Windows does not.
        match fs::remove_dir(&self.target) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(put(error)),
            _ => {}
        }
        fs::rename(self.folder.path(), &self.target).map_err(put)?;
        // Nothing is left to remove.
        let _ = self.folder.keep();
        Ok(())
    }
}
