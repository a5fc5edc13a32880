//! Checkpoints of PyTorch (`.pth`, `.pt`, `.bin`), without running anything of them.
//!
//! A checkpoint is a pickle, a program for a stack machine of Python, beside the raw numbers of
//! its tensors. Python runs such programs, with all that they call. Here a machine of our own
//! (`pickle.rs`) follows the few instructions and names that tensors need and refuses all others.
//! Both formats are known: the zip archive (`zip.rs`) and the one before PyTorch 1.6
//! (`legacy.rs`).
//!
//! The file is mapped; only its directory and its pickle are read before a tensor is asked for.
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

pub use error::PthError;
pub(crate) use tensor::View;

use tensor::Numbers;
use value::Storage;
use zip::Archive;

/// Whether `file` starts like a checkpoint, in either format, or like any other pickle.
pub(crate) fn is_pth(file: &[u8]) -> bool {
    let zip_or_pickle = file.starts_with(b"PK") || matches!(file, [0x80, 2..=5, ..]);
    // The header of a safetensors file starts there, after any eight bytes.
    zip_or_pickle && file.get(8) != Some(&b'{')
}

/// The tensors of the checkpoint `file` by name. The keys of dicts and lists that lie in each
/// other are joined with `.`.
pub(crate) fn read(file: &[u8]) -> Result<BTreeMap<String, View>, PthError> {
    if file.starts_with(b"PK") {
        return read_zip(file);
    }
    let (pickle, storages) = legacy::read(file)?;
    flatten::tensors(&pickle, &storages)
}

fn read_zip(file: &[u8]) -> Result<BTreeMap<String, View>, PthError> {
    let archive = Archive::read(file)?;
    let root = archive.first().split('/').next().unwrap_or_default();
    if let Some(order) = archive.entry(&format!("{root}/byteorder")) {
        check_order(&file[order])?;
    }
    let name = format!("{root}/data.pkl");
    let bytes = archive
        .entry(&name)
        .ok_or_else(|| PthError::Archive { reason: format!("it has no entry {name:?}") })?;
    let bytes = &file[bytes];
    let pickle = pickle::read(bytes)?;
    if pickle.length != bytes.len() {
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
        return wrong(format!("has {size} bytes, but should have {count} numbers of {dtype}"));
    }
    Ok(Numbers { dtype, count, start: entry.start })
}
