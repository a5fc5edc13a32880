//! The files of one model: a folder, or a list that is compiled into the program.

pub(crate) mod atomic;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;
use serde::de::DeserializeOwned;

pub use atomic::WriteError;

/// The largest JSON file that is read as a config.
const MAX_CONFIG_BYTES: u64 = 1 << 20;

/// The longest message about JSON, in characters.
const MAX_REASON: usize = 500;

/// The unit in which memory is given back: a multiple of the page sizes of all systems.
#[cfg(unix)]
const BLOCK: usize = 64 << 10;

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

    /// The bytes of `file`, mapped into memory where it is on disk.
    ///
    /// # Errors
    /// If it is not there or cannot be read.
    pub fn open(&self, file: &str) -> Result<FileBytes, FileError> {
        match self {
            Self::Folder(root) => map(&root.join(file)),
            Self::Embedded { files, .. } => {
                let found = files.iter().find(|(name, _)| *name == file);
                let (_, bytes) =
                    found.ok_or_else(|| FileError::NotFound { path: self.display_path(file) })?;
                Ok(FileBytes::Static(bytes))
            }
        }
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
        let (bytes, path) = (self.open(file)?, self.display_path(file));
        let size = bytes.len() as u64;
        if size > max {
            return Err(FileError::TooLarge { path, size, max });
        }
        from_json(&bytes).map_err(|reason| FileError::Json { path, reason })
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

/// The bytes of a file.
#[derive(Debug, Clone)]
pub enum FileBytes {
    /// Mapped from disk.
    Mapped(Arc<Mmap>),
    /// Part of the program.
    Static(&'static [u8]),
}

impl FileBytes {
    /// Gives back the memory of a mapped file. It is only a hint: nothing is lost, and systems
    /// without it keep the pages until they need them.
    pub(crate) fn release(&self) {
        #[cfg(unix)]
        if let Self::Mapped(map) = self {
            // SAFETY: pages of a read-only map of a file that are dropped here are read from the
            // file again, with the same content, when they are touched.
            #[allow(unsafe_code)]
            let _ = unsafe { map.unchecked_advise(memmap2::UncheckedAdvice::DontNeed) };
        }
    }

    /// Gives back the memory of the whole blocks inside `range`.
    #[cfg_attr(not(unix), allow(unused_variables))]
    pub(crate) fn release_range(&self, range: Range<usize>) {
        #[cfg(unix)]
        if let Self::Mapped(map) = self {
            let (start, end) = (range.start.next_multiple_of(BLOCK), range.end / BLOCK * BLOCK);
            if start < end && end <= map.len() {
                // SAFETY: as in `release`.
                #[allow(unsafe_code)]
                let _ = unsafe {
                    let advice = memmap2::UncheckedAdvice::DontNeed;
                    map.unchecked_advise_range(advice, start, end - start)
                };
            }
        }
    }
}

impl std::ops::Deref for FileBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(map) => map,
            Self::Static(bytes) => bytes,
        }
    }
}

/// Maps a file into memory.
pub(crate) fn map(path: &Path) -> Result<FileBytes, FileError> {
    let io = |source: std::io::Error| {
        let path = path.display().to_string();
        match source.kind() {
            std::io::ErrorKind::NotFound => FileError::NotFound { path },
            _ => FileError::Io { path, source },
        }
    };
    let metadata = path.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile { path: path.display().to_string() });
    }
    let file = std::fs::File::open(path).map_err(io)?;
    if metadata.len() == 0 {
        return Ok(FileBytes::Static(&[])); // an empty file cannot be mapped
    }
    // SAFETY: the map is read-only and private to this process. Another process that truncates the
    // file while it is mapped could still take pages away; model caches replace files by renaming,
    // which leaves the mapped one whole.
    #[allow(unsafe_code)]
    let map = unsafe { Mmap::map(&file) }.map_err(io)?;
    Ok(FileBytes::Mapped(Arc::new(map)))
}
