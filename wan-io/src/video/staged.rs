//! Files and folders that appear under their final name only when they are whole.

use std::{
    ffi::{OsStr, OsString},
    fs, io,
    io::{BufWriter, Write},
    path::{Path, PathBuf},
};

use tempfile::{Builder, NamedTempFile, TempDir};

use super::VideoError;

/// A name in a folder that exists.
pub(super) struct Target {
    /// As the caller wrote it, for messages.
    given: PathBuf,
    parent: PathBuf,
    name: OsString,
}

impl Target {
    pub(super) fn new(path: &Path) -> Result<Self, VideoError> {
        let unnamed =
            || VideoError::UnknownEnding { path: path.to_path_buf(), ending: "no name".into() };
        let name = path.file_name().ok_or_else(unnamed)?.to_os_string();
        let parent = match path.parent() {
            Some(parent) if parent != Path::new("") => parent,
            _ => Path::new("."),
        };
        match fs::metadata(parent) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(VideoError::ParentNotFolder {
                    path: path.to_path_buf(),
                    parent: parent.to_path_buf(),
                });
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(VideoError::NoParent {
                    path: path.to_path_buf(),
                    parent: parent.to_path_buf(),
                });
            }
            Err(error) => return Err(VideoError::io("look into the folder", parent)(error)),
        }
        // Absolute, so that a later change of the working directory moves nothing.
        let parent = std::path::absolute(parent)
            .map_err(VideoError::io("find the working directory for", path))?;
        Ok(Self { given: path.to_path_buf(), parent, name })
    }

    /// Opens a temporary file beside the target.
    pub(super) fn file(self) -> Result<StagedFile, VideoError> {
        let target = self.parent.join(&self.name);
        match fs::metadata(&target) {
            Ok(found) if found.is_dir() => return Err(VideoError::IsFolder { path: self.given }),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Such as a name that is too long.
            Err(error) => return Err(VideoError::io("write", &self.given)(error)),
        }
        let prefix = temporary_prefix(&self.name);
        let mut builder = Builder::new();
        builder.prefix(&prefix).suffix(".partial");
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let file = builder
            .tempfile_in(&self.parent)
            .map_err(VideoError::io("make a file beside", &self.given))?;
        Ok(StagedFile { given: self.given, target, out: BufWriter::with_capacity(1 << 16, file) })
    }

    /// Makes a temporary folder beside the target.
    pub(super) fn folder(mut self) -> Result<StagedFolder, VideoError> {
        let mut target = self.parent.join(&self.name);
        match fs::metadata(&target) {
            Ok(found) if !found.is_dir() => return Err(VideoError::IsFile { path: self.given }),
            Ok(_) => {
                // The folder behind a link is the one that gets replaced.
                target = fs::canonicalize(&target)
                    .map_err(VideoError::io("find the folder", &self.given))?;
                self.check_replaceable(&target)?;
                if let Some(parent) = target.parent() {
                    self.parent = parent.to_path_buf();
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(VideoError::io("write", &self.given)(error)),
        }
        let folder = Builder::new()
            .prefix(&temporary_prefix(&self.name))
            .suffix(".partial")
            .tempdir_in(&self.parent)
            .map_err(VideoError::io("make a folder beside", &self.given))?;
        Ok(StagedFolder { given: self.given, target, folder })
    }

    /// An empty folder can be replaced by the finished one, unless it is a mount point. Removing
    /// it and making it again tells now what `finish` would find out after hours of work.
    fn check_replaceable(&self, folder: &Path) -> Result<(), VideoError> {
        let mut entries =
            fs::read_dir(folder).map_err(VideoError::io("look into the folder", &self.given))?;
        if entries.next().is_some() {
            return Err(VideoError::NotEmpty { path: self.given.clone() });
        }
        fs::remove_dir(folder)
            .and_then(|()| fs::create_dir(folder))
            .map_err(VideoError::io("replace the empty folder", &self.given))
    }
}

/// `.video.mp4.` for `video.mp4`: hidden, and recognisable should a crash leave it behind.
fn temporary_prefix(name: &OsStr) -> OsString {
    let mut prefix = OsString::from(".");
    if name.len() <= 200 {
        prefix.push(name);
    } else {
        // Names have at most 255 bytes, and the temporary one is longer than the final one.
        prefix.push(name.to_string_lossy().chars().take(50).collect::<String>());
    }
    prefix.push(".");
    prefix
}

/// A file under a temporary name; dropping it removes it.
pub(super) struct StagedFile {
    given: PathBuf,
    target: PathBuf,
    out: BufWriter<NamedTempFile>,
}

impl StagedFile {
    /// The path as the caller wrote it.
    pub(super) fn path(&self) -> &Path {
        &self.given
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), VideoError> {
        self.out.write_all(bytes).map_err(VideoError::io("write", &self.given))
    }

    /// Overwrites the first bytes; nothing can be appended afterwards.
    #[cfg(feature = "mp4")]
    pub(super) fn overwrite_start(&mut self, bytes: &[u8]) -> Result<(), VideoError> {
        io::Seek::rewind(&mut self.out).map_err(VideoError::io("write", &self.given))?;
        self.write(bytes)
    }

    /// Moves the file to its final name, in place of what stood there.
    pub(super) fn commit(self) -> Result<(), VideoError> {
        let file = self
            .out
            .into_inner()
            .map_err(|error| VideoError::io("write", &self.given)(error.into_error()))?;
        file.persist(&self.target)
            .map(|_| ())
            .map_err(|error| VideoError::io("put in place", &self.given)(error.error))
    }
}

/// A folder under a temporary name; dropping it removes it and all in it.
pub(super) struct StagedFolder {
    given: PathBuf,
    target: PathBuf,
    folder: TempDir,
}

impl StagedFolder {
    /// The path as the caller wrote it.
    pub(super) fn path(&self) -> &Path {
        &self.given
    }

    /// The path of a file inside, while the folder is not yet in place.
    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Moves the folder to its final name.
    pub(super) fn commit(self) -> Result<(), VideoError> {
        let put = VideoError::io("put in place", &self.given);
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
