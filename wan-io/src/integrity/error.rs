//! Errors of files that are compared with their checksums.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::Digest;
use crate::counted;

/// Why files are not what they should be, or cannot be compared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IntegrityError {
    /// A file is cut off, too long, or changed its size while it was read.
    #[error("{}: has {}, but must have {expected}; {AGAIN}", .path.display(), counted(*.found, "byte"))]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size in bytes.
        found: u64,
        /// The size in bytes that it must have.
        expected: u64,
    },
    /// The content of a file is not the right one.
    #[error(
        "{path}: has the {kind} {found}, but must have {expected}; {AGAIN}",
        path = path.display(),
        kind = expected.kind()
    )]
    Digest {
        /// The file.
        path: PathBuf,
        /// The hash of its content.
        found: Digest,
        /// The hash that it must have.
        expected: Digest,
    },
    /// A file is not there, or is a link that leads nowhere.
    #[error("{path}: there is no such file; download it again", path = path.display())]
    Missing {
        /// The path looked for.
        path: PathBuf,
    },
    /// Something else than a file has its name: a folder, a pipe, a device.
    #[error("{path}: is not a file", path = path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// A list of checksums is not what `sha256sum` writes.
    #[error("{path}, line {line}: {reason}", path = path.display())]
    Sums {
        /// The list.
        path: PathBuf,
        /// The line, counted from 1.
        line: usize,
        /// The defect, in words.
        reason: String,
    },
    /// No checksum of anything in it is known.
    #[error(
        "{path}: there is nothing to compare with: no SHA256SUMS file, and no blob of a Hugging \
         Face cache; put a SHA256SUMS file beside the files",
        path = path.display()
    )]
    Nothing {
        /// The file or folder.
        path: PathBuf,
    },
    /// The progress function asked to stop.
    #[error("the check of the files was cancelled")]
    Cancelled,
    /// The system cannot read it.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The path.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// More than one thing is wrong; one a line.
    #[error("{}", lines(.0))]
    Several(Vec<IntegrityError>),
}

/// Deleting only the link of a hub cache would leave the broken blob to be linked again.
const AGAIN: &str = "delete it (and, if it is a link, what it links to) and download it again";

impl IntegrityError {
    /// Names the path in an error of the system.
    pub(super) fn in_file(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| {
            let path = path.to_owned();
            match source.kind() {
                io::ErrorKind::NotFound => Self::Missing { path },
                _ => Self::Io { path, source },
            }
        }
    }

    /// Nothing, the one error, or all.
    pub(super) fn all(mut errors: Vec<Self>) -> Result<(), Self> {
        match errors.len() {
            0 => Ok(()),
            1 => Err(errors.remove(0)),
            _ => Err(Self::Several(errors)),
        }
    }
}

fn lines(errors: &[IntegrityError]) -> String {
    errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
