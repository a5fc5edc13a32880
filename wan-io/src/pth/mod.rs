//! Checkpoints of PyTorch (`.pth`, `.pt`, `.bin`), without running anything of them.
//!
//! A checkpoint is a pickle, a program for a stack machine of Python, beside the raw numbers of
//! its tensors. Python runs such programs, with all that they call. Here a machine of our own
//! (`pickle.rs`) follows the few instructions and names that tensors need and refuses all others.
//! Both formats are known: the zip archive (`zip.rs`) and the one before PyTorch 1.6
//! (`legacy.rs`).
//!
//! Only the directory of a file and its pickle are read before a tensor is asked for.
//! Every number in them is checked before it is used, and all memory is bounded by the limits in
//! `pickle.rs` and `flatten.rs`.

mod calls;
mod cursor;
mod error;
mod flatten;
mod legacy;
mod pickle;
mod tensor;
mod value;
mod zip;

use std::collections::BTreeMap;
use std::ops::Range;

pub use error::PthError;
pub(crate) use tensor::View;

use pickle::MAX_PICKLE;
use tensor::Numbers;
use value::Storage;
use zip::Archive;

use crate::counted;
use crate::files::{FileError, OpenFile};

/// So much is looked at of the name of a byte order.
const MAX_ORDER: usize = 64;

/// Whether `file` starts like a checkpoint, in either format, or like any other pickle.
pub(crate) fn is_pth(file: &OpenFile) -> Result<bool, FileError> {
    let beginning = file.bytes(0..file.size().min(9))?;
    let zip_or_pickle = is_zip(&beginning) || matches!(*beginning, [0x80, 2..=5, ..]);
    // The header of a safetensors file starts there, after any eight bytes.
    Ok(zip_or_pickle && beginning.get(8) != Some(&b'{'))
}

fn is_zip(beginning: &[u8]) -> bool {
    beginning.starts_with(b"PK")
}

/// The tensors of the checkpoint `file` by name. The keys of dicts and lists that lie in each
/// other are joined with `.`.
pub(crate) fn read(file: &OpenFile) -> Result<BTreeMap<String, View>, PthError> {
    match is_zip(&file.bytes(0..file.size().min(2))?) {
        true => read_zip(file),
        false => legacy::read(file),
    }
}

fn read_zip(file: &OpenFile) -> Result<BTreeMap<String, View>, PthError> {
    let archive = Archive::read(file)?;
    let root = archive.first().split('/').next().unwrap_or_default();
    let start_of = |entry: Range<usize>, most: usize| {
        file.bytes(entry.start..entry.end.min(entry.start + most))
    };
    if let Some(order) = archive.entry(&format!("{root}/byteorder")) {
        check_order(&start_of(order, MAX_ORDER)?)?;
    }
    let name = format!("{root}/data.pkl");
    let entry = archive
        .entry(&name)
        .ok_or_else(|| PthError::Archive { reason: format!("it has no entry {name:?}") })?;
    // One byte more, so that a longer one is seen to be longer.
    let bytes = start_of(entry.clone(), MAX_PICKLE + 1)?;
    let pickle = pickle::read(&bytes)?;
    if pickle.length != entry.len() {
        let reason = "its pickle stops here, but goes on".into();
        return Err(PthError::Pickle { at: pickle.length, reason });
    }
    let locate = |storage: &Storage| locate(&archive, root, storage);
    let storages: Vec<Numbers> = pickle.storages.iter().map(locate).collect::<Result<_, _>>()?;
    flatten::tensors(&pickle, &storages)
}

/// Older versions of PyTorch write no such entry.
fn check_order(found: &[u8]) -> Result<(), PthError> {
    if found == b"little" {
        return Ok(());
    }
    let found = found.escape_ascii().take(16).collect::<Vec<u8>>();
    Err(PthError::ByteOrder { found: String::from_utf8_lossy(&found).into_owned() })
}

fn locate(archive: &Archive, root: &str, storage: &Storage) -> Result<Numbers, PthError> {
    let Storage { key, dtype, count } = *storage;
    let wrong = |reason| Err(PthError::Storage { key: key.into(), reason });
    let Some(entry) = archive.entry(&format!("{root}/data/{key}")) else {
        return wrong("has no entry in the archive".into());
    };
    if count.checked_mul(dtype.bitsize() / 8) != Some(entry.len()) {
        let size = entry.len();
        return wrong(format!(
            "has {}, but should have {} of {dtype}",
            counted(size as u64, "byte"),
            counted(count as u64, "number")
        ));
    }
    Ok(Numbers { dtype, count, start: entry.start })
}
