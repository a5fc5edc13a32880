//! The files of one model: a folder, or a list that is compiled into the program.

pub(crate) mod atomic;
mod destination;
mod open_file;
mod temporary;

use std::borrow::Cow;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::foreign;

pub use atomic::WriteError;
pub use destination::Destination;
pub use open_file::OpenFile;
pub use temporary::remove_unfinished;

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
    /// It is something else than its name says.
    #[error("{path}: is {what}")]
    Foreign {
        /// The path.
        path: String,
        /// What it is, and the way out.
        what: String,
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

/// The path with the user's folder in place of a leading `~`, which no shell expands in `--option=~/x`.
/// Something that is really called `~` keeps its name.
pub fn expand_home(path: &Path) -> PathBuf {
    // As text, since a slash at the end may count.
    let below = path.to_str().and_then(|text| text.strip_prefix('~'));
    let below = below.filter(|below| below.is_empty() || below.starts_with('/'));
    match (below, std::env::home_dir()) {
        (Some(below), Some(home)) if !Path::new("~").exists() => {
            let mut whole = home.into_os_string();
            whole.push(below);
            whole.into()
        }
        _ => path.to_owned(),
    }
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

    /// The names of the files in `folder`, not below it; the top folder is empty. None if it cannot be
    /// read.
    pub(crate) fn names_in(&self, folder: &str) -> Vec<String> {
        match self {
            Self::Folder(root) => files_in(&root.join(folder)),
            Self::Embedded { files, .. } => {
                let split = |path: &'static str| path.rsplit_once('/').unwrap_or(("", path));
                let inside =
                    files.iter().map(|(path, _)| split(path)).filter(|(at, _)| *at == folder);
                inside.map(|(_, name)| name.to_owned()).collect()
            }
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

    /// `file` as JSON, also as people and Python write it: a byte order mark is passed over, `NaN` and
    /// `Infinity` are read as strings, and fields that are null count as left out where `T` does not allow
    /// null.
    ///
    /// # Errors
    /// If it is not there, larger than 1 MiB, or not the JSON that `T` is.
    pub fn json<T: DeserializeOwned>(&self, file: &str) -> Result<T, FileError> {
        let (bytes, path) = (self.json_bytes(file, MAX_CONFIG_BYTES)?, self.display_path(file));
        // A list would be taken for the values of the fields, in their order.
        let is_list = strict_json(&bytes).trim_ascii_start().starts_with(b"[");
        let read = match is_list {
            true => Err("line 1 begins a list, but it must be an object".to_owned()),
            false => from_json(&bytes),
        };
        read.or_else(|reason| without_nulls(&bytes).unwrap_or(Err(reason)))
            .map_err(|reason| FileError::Json { path, reason })
    }

    pub(crate) fn json_up_to<T: DeserializeOwned>(
        &self,
        file: &str,
        max: u64,
    ) -> Result<T, FileError> {
        let (bytes, path) = (self.json_bytes(file, max)?, self.display_path(file));
        from_json(&bytes).map_err(|reason| FileError::Json { path, reason })
    }

    /// The content of a file that must be JSON.
    fn json_bytes(&self, file: &str, max: u64) -> Result<Cow<'static, [u8]>, FileError> {
        let opened = self.open(file)?;
        let (path, size) = (opened.path().to_owned(), opened.size());
        let start = opened.bytes(0..size.min(foreign::START))?;
        match foreign::instead_of_json(&start, size as u64) {
            Some(what) => Err(FileError::Foreign { path, what }),
            None => self.read(file, max),
        }
    }
}

/// The names of the files in a folder, sorted; none if it cannot be read.
pub(crate) fn files_in(folder: &Path) -> Vec<String> {
    // The path of a file without a folder before it has an empty one.
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let entries = folder.read_dir().into_iter().flatten().flatten();
    let files = entries.filter(|entry| entry.path().is_file());
    let mut names: Vec<String> =
        files.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// Reads JSON; an error names the field, which `serde_json` alone does not.
pub(crate) fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let bytes = strict_json(bytes);
    let mut json = serde_json::Deserializer::from_slice(&bytes);
    let read = serde_path_to_error::deserialize(&mut json)
        .map_err(|error| presentable(&error.to_string()))?;
    json.end().map_err(|error| error.to_string())?;
    Ok(read)
}

/// Reads an object of JSON without its fields that are null; `None` if it has none.
fn without_nulls<T: DeserializeOwned>(bytes: &[u8]) -> Option<Result<T, String>> {
    let mut fields: serde_json::Map<String, Value> = from_json(bytes).ok()?;
    let all = fields.len();
    fields.retain(|_, value| !value.is_null());
    let read = |fields| serde_path_to_error::deserialize(Value::Object(fields));
    (fields.len() < all).then(|| read(fields).map_err(|error| presentable(&error.to_string())))
}

/// JSON as the standard has it: without a byte order mark at its start, and with the `NaN`, `Infinity`
/// and `-Infinity` that Python writes as strings. So they do no harm in fields that nobody reads, and
/// are not numbers in others.
pub(crate) fn strict_json(bytes: &[u8]) -> Cow<'_, [u8]> {
    let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
    let (mut strict, mut copied) = (Vec::new(), 0);
    let (mut i, mut in_string) = (0, false);
    while i < bytes.len() {
        match bytes[i] {
            b'\\' if in_string => i += 1, // the next character is part of the string
            b'"' => in_string = !in_string,
            b'N' | b'I' | b'-' if !in_string => {
                let word = PYTHON_NUMBERS.iter().find(|word| bytes[i..].starts_with(word));
                if let Some(word) = word {
                    strict.extend_from_slice(&bytes[copied..i]);
                    strict.push(b'"');
                    strict.extend_from_slice(word);
                    strict.push(b'"');
                    i += word.len();
                    copied = i;
                    continue;
                }
            }
            _ => {}
        }
        i += 1;
    }
    if copied == 0 {
        return Cow::Borrowed(bytes);
    }
    strict.extend_from_slice(&bytes[copied..]);
    Cow::Owned(strict)
}

/// Numbers that Python writes and JSON has not.
const PYTHON_NUMBERS: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];

/// Keys and values from a file are part of the errors about them: not megabytes, and nothing that a
/// terminal would act on.
pub(crate) fn presentable(message: &str) -> String {
    let plain = |c: char| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
    message.chars().take(MAX_REASON).map(plain).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `--transformer model-00001-of-00002.safetensors` looks for the others beside it.
    #[test]
    fn an_empty_path_is_the_working_directory() {
        assert_eq!(files_in(Path::new("")), files_in(Path::new(".")));
        assert!(!files_in(Path::new("")).is_empty(), "tests run in the folder of their package");
    }

    #[test]
    fn what_python_writes_is_made_json() {
        for (text, strict) in [
            ("", ""),
            ("{}", "{}"),
            ("\u{feff}{}", "{}"),
            ("[NaN,Infinity, -Infinity]", r#"["NaN","Infinity", "-Infinity"]"#),
            (r#"{"a": NaN}"#, r#"{"a": "NaN"}"#),
            (r#"{"NaN": "-Infinity", "\"": 1}"#, r#"{"NaN": "-Infinity", "\"": 1}"#),
            (r#"{"\\": NaN, "b": "\\\"NaN"}"#, r#"{"\\": "NaN", "b": "\\\"NaN"}"#),
            ("-1", "-1"),
            ("NaN", "\"NaN\""),
            (r#""\"#, r#""\"#),
        ] {
            assert_eq!(String::from_utf8_lossy(&strict_json(text.as_bytes())), strict);
        }
    }
}
