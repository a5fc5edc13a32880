//! The rows of the table and what they are made of.

use std::fs::{self, File};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) files: Vec<(String, Content)>,
    /// The one of the files that is opened.
    pub(crate) opened: String,
    pub(crate) expected: Expected,
}

pub(crate) enum Expected {
    /// The message, without the folder.
    Error(String),
    /// The names of the tensors, sorted.
    Loads(Vec<&'static str>),
}

/// What is in a file.
pub(crate) enum Content {
    Bytes(Vec<u8>),
    /// Bytes at some places, and nothing but zeros up to a length.
    Sparse(Vec<(u64, Vec<u8>)>, u64),
    Folder,
}

impl Content {
    pub(crate) fn write(&self, path: &Path) {
        match self {
            Self::Bytes(bytes) => fs::write(path, bytes).unwrap(),
            Self::Folder => fs::create_dir(path).unwrap(),
            Self::Sparse(pieces, length) => {
                let mut file = File::create(path).unwrap();
                file.set_len(*length).unwrap();
                for (at, bytes) in pieces {
                    file.seek(SeekFrom::Start(*at)).unwrap();
                    file.write_all(bytes).unwrap();
                }
            }
        }
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

/// One file with an error. `what` stands before the reason, such as "is not a whole archive".
pub(crate) fn fails(
    name: &'static str,
    content: impl Into<Content>,
    what: &str,
    reason: &str,
) -> Row {
    let expected = Expected::Error(format!("weights: {what}{reason}"));
    Row {
        name,
        files: vec![("weights".into(), content.into())],
        opened: "weights".into(),
        expected,
    }
}

/// One file that loads.
pub(crate) fn loads(
    name: &'static str,
    content: impl Into<Content>,
    tensors: &[&'static str],
) -> Row {
    let expected = Expected::Loads(tensors.to_vec());
    Row {
        name,
        files: vec![("weights".into(), content.into())],
        opened: "weights".into(),
        expected,
    }
}
