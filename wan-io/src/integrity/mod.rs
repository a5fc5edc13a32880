//! Whether the files of a model are what they should be.
//!
//! # What is compared
//! The content of a file is hashed and compared with a [`Digest`] that is known from one of:
//!
//! - a list `SHA256SUMS` in the folder, as `sha256sum` writes it. It can list files in folders
//!   inside the folder too, such as `transformer/diffusion_pytorch_model.safetensors`;
//! - the hub cache, whose blobs are named by their hash: `models--owner--name/blobs/<hash>`, to
//!   which the files of `snapshots/<commit>/` link. Where symbolic links are not possible (on
//!   Windows, exFAT, some shares on networks), the snapshot has the files themselves: of those that
//!   this library downloaded, the markers tell the hash, of others nothing is known.
//!
//! A list made by whoever made the files shows that they are as their maker left them; a list that
//! came by the same way as the files shows only that nothing broke since.
//!
//! # When
//! [`check`] looks at the files of a model that is loaded, as [`Verify`] says: each file once, always
//! or never. [`verify()`] looks at everything there is, on demand, and always hashes.
//!
//! # Markers
//! To hash a file once only, [`Markers`] note that it was found right, with its size, time of
//! change and inode. As long as these three are the same, [`Verify::OnDownload`] takes the file for
//! the same. A file that breaks without them changing (a failing disk, someone who sets the time
//! back) is found by [`Verify::Always`] and [`verify()`].

mod check;
mod digest;
mod error;
mod find;
mod markers;
mod sums;

use std::{
    ops::ControlFlow,
    path::{Path, PathBuf},
};

pub use check::check;
pub use digest::{Digest, Hasher};
pub use error::IntegrityError;
pub use find::known;
pub use markers::{Markers, markers_for};

/// When files are compared with what is known of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verify {
    /// Each file once: after that, its [marker](Markers) spares the hash, until the file changes.
    #[default]
    OnDownload,
    /// Each time.
    Always,
    /// Not at all, not even their sizes.
    Never,
}

/// A file, and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// The hash of its content.
    pub digest: Option<Digest>,
}

/// The result of [`verify()`] where nothing is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// How many files were hashed and are right.
    pub files: usize,
    /// Their size in bytes.
    pub bytes: u64,
    /// Files of which no checksum is known.
    pub unknown: Vec<PathBuf>,
}

/// Hashes all files at `path` of which a checksum is known, whatever their markers say, and marks
/// those that are right.
///
/// `path` is one of:
/// - a file: a blob of a hub cache, a link to one, or a file that `SHA256SUMS` beside it lists;
/// - a folder with `SHA256SUMS`, of which all files listed must be there;
/// - a snapshot in a hub cache (`models--owner--name/snapshots/<commit>`), or a folder in it;
/// - a model in a hub cache (`models--owner--name`): its snapshots and all its blobs. Unfinished
///   downloads are left out;
/// - a hub cache: all models in it.
///
/// # Errors
/// [`IntegrityError::Nothing`] if no checksum is known of any file; else what is wrong with the
/// files, with all of them.
pub fn verify(path: &Path) -> Result<Report, IntegrityError> {
    verify_with(path, &mut |_, _| ControlFlow::Continue(()))
}

/// [`verify()`], which tells `progress` the bytes hashed and the bytes to hash.
///
/// # Errors
/// As [`verify()`], and [`IntegrityError::Cancelled`] if `progress` breaks.
pub fn verify_with(
    path: &Path,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Report, IntegrityError> {
    let found = find::FileSet::for_path(path)?;
    if found.known.is_empty() {
        return Err(IntegrityError::Nothing { path: path.to_owned() });
    }
    let files = found.known.iter().map(|(file, markers)| (file, markers));
    let bytes = check::run(files, Verify::Always, progress)?;
    Ok(Report { files: found.known.len(), bytes, unknown: found.unknown })
}
