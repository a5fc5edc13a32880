//! The files of one model: a folder, or a list that is compiled into the program.

pub(crate) mod atomic;
mod open_file;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

pub use atomic::WriteError;
pub use open_file::OpenFile;

/// The largest JSON file that is read as a config.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The longest message about JSON, in characters.
const MAX_REASON: usize = 500;

/// Why a file of a model cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// There is no such file or folder.
    #[error("{path}: there is no such file")]
    NotFound {
        /// The path looked for.
        path: String,
    },
    /// A folder was expected.
    #[error("{path}: is not a folder")]
    NotAFolder {
        /// The path.
        path: String,
    },
    /// A file was expected.
    #[error("{path}: is not a file")]
    NotAFile {
        /// The path.
        path: String,
    },
    /// It is larger than any honest file of its kind.
    #[error("{path}: has {size} bytes, but must have at most {max}")]
    TooLarge {
        /// The path.
        path: String,
        /// Its size in bytes.
        size: u64,
        /// The most allowed.
        max: u64,
    },
    /// It is not the JSON that was expected.
    #[error("{path}: {reason}")]
    Json {
        /// The path.
        path: String,
        /// The defect, with field, line and column.
        reason: String,
    },
    /// It is shorter than it was when it was opened.
    #[error(
        "{path}: shrank from {expected} to {found} bytes while it was in use; start again when it is \
         whole"
    )]
    Shrank {
        /// The path.
        path: String,
        /// Its size in bytes when it was opened.
        expected: usize,
        /// Its size now.
        found: usize,
    },
    /// Its time of change or its size is another one than when it was opened.
    #[error("{path}: was changed while it was in use; start again when it is whole")]
    Changed {
        /// The path.
        path: String,
    },
    /// The system cannot read it.
    #[error("{path}: {source}")]
    Io {
        /// The path.
        path: String,
        /// The error of the system.
        source: std::io::Error,
    },
}

/// A file compiled into the program: its path inside the model's folder, and its bytes.
pub type EmbeddedFile = (&'static str, &'static [u8]);

/// The files of one model.
#[derive(Debug, Clone)]
pub enum ModelFiles {
    /// A folder on disk.
    Folder(PathBuf),
    /// Files compiled into the program, under a name.
    Embedded {
        /// The model's name.
        name: &'static str,
        /// Its files.
        files: &'static [EmbeddedFile],
    },
}

impl ModelFiles {
    /// The files in the folder `path`.
    ///
    /// # Errors
    /// If there is no such folder.
    pub fn folder(path: &Path) -> Result<Self, FileError> {
        let shown = path.display().to_string();
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => Ok(Self::Folder(path.to_owned())),
            Ok(_) => Err(FileError::NotAFolder { path: shown }),
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                Err(FileError::NotFound { path: shown })
            }
            Err(source) => Err(FileError::Io { path: shown, source }),
        }
    }

    /// Whether `file` (a path inside the model, with `/`) is there.
    pub fn has(&self, file: &str) -> bool {
        match self {
            Self::Folder(root) => root.join(file).is_file(),
            Self::Embedded { files, .. } => files.iter().any(|(name, _)| *name == file),
        }
    }

    /// How `file` is named in messages.
    pub fn display_path(&self, file: &str) -> String {
        match self {
            Self::Folder(root) => root.join(file).display().to_string(),
            Self::Embedded { name, .. } => format!("{name}:{file}"),
        }
    }

    /// Opens `file`.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    pub fn open(&self, file: &str) -> Result<OpenFile, FileError> {
        let path = self.display_path(file);
        match self {
            Self::Folder(root) => OpenFile::open(&root.join(file)),
            Self::Embedded { files, .. } => match files.iter().find(|(name, _)| *name == file) {
                Some((_, bytes)) => Ok(OpenFile::embedded(path, bytes)),
                None => Err(FileError::NotFound { path }),
            },
        }
    }

    /// The content of `file`.
    ///
    /// # Errors
    /// If it is not there, has more than `max` bytes, or cannot be read.
    pub fn read(&self, file: &str, max: u64) -> Result<Cow<'static, [u8]>, FileError> {
        let file = self.open(file)?;
        let size = file.size() as u64;
        if size > max {
            return Err(FileError::TooLarge { path: file.path().to_owned(), size, max });
        }
        file.bytes(0..file.size())
    }

    /// `file` as JSON.
    ///
    /// # Errors
    /// If it is not there, larger than 1 MiB, or not the JSON that `T` is.
    pub fn json<T: DeserializeOwned>(&self, file: &str) -> Result<T, FileError> {
        self.json_up_to(file, MAX_CONFIG_BYTES)
    }

    pub(crate) fn json_up_to<T: DeserializeOwned>(
        &self,
        file: &str,
        max: u64,
    ) -> Result<T, FileError> {
        from_json(&self.read(file, max)?)
            .map_err(|reason| FileError::Json { path: self.display_path(file), reason })
    }
}

/// Reads JSON; an error names the field, which `serde_json` alone does not.
pub(crate) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let read = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| presentable(&error.to_string()))?;
    json.end().map_err(|error| error.to_string())?;
    Ok(read)
}

/// Keys and values from a file are part of the errors about them: not megabytes, and nothing that a
/// terminal would act on.
fn presentable(message: &str) -> String {
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    message.chars().take(MAX_REASON).map(plain).collect()
}
