//! Files and folders that appear under their final name only when they are whole.

use std::{
    fs,
    fs::File,
    io,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

#[cfg(feature = "mp4")]
use std::io::Seek;

use super::destination::{Destination, open_stream};
use super::temporary::{Target, Temporary, new_file, new_folder, unnamed_file};

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
        Ok(self.folder.insert(folder).path.as_ref().join(name))
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
