//! The format before PyTorch 1.6: pickles of a magic number, a version, the machine's properties,
//! the checkpoint and the names of its storages; then the storages, each after its length.
//!
//! `_legacy_save` and `_legacy_load` in PyTorch's `torch/serialization.py`.

use std::collections::{BTreeMap, HashMap};

use super::PthError;
use super::flatten;
use super::pickle::{self, MAX_PICKLE};
use super::tensor::{Numbers, View};
use super::value::{Container, Pickle, Storage, Value};
use crate::counted;
use crate::files::OpenFile;

const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: i64 = 1001;
/// So much of a file is read for its pickles at first, which suffices for the real ones,
const FIRST: usize = 1 << 20;
/// and so much at most: a pickle of the largest size, and the others.
const MOST: usize = MAX_PICKLE + FIRST;

/// The tensors of a checkpoint by name.
pub(super) fn read(file: &OpenFile) -> Result<BTreeMap<String, View>, PthError> {
    let mut length = FIRST;
    loop {
        let beginning = file.bytes(0..file.size().min(length))?;
        match read_from(&beginning, file) {
            Err(PthError::Truncated { .. }) if beginning.len() < file.size() && length < MOST => {
                length = MOST;
            }
            Err(PthError::Truncated { .. }) if beginning.len() < file.size() => {
                return Err(PthError::TooLarge { what: "bytes of pickle", max: MAX_PICKLE });
            }
            result => return result,
        }
    }
}

/// Reads the pickles in the beginning of `file`, and finds the storages after them.
fn read_from(beginning: &[u8], file: &OpenFile) -> Result<BTreeMap<String, View>, PthError> {
    let mut at = 0;
    let mut next = || {
        let pickle = pickle::read(&beginning[at..])?;
        at += pickle.length;
        Ok::<_, PthError>(pickle)
    };
    if next()?.root != Value::Long(&MAGIC) {
        return Err(broken("it does not start with PyTorch's magic number"));
    }
    if next()?.root != Value::Int(VERSION) {
        return Err(broken(format!("its version is not {VERSION}")));
    }
    check_machine(&next()?)?;
    let (checkpoint, keys) = (next()?, next()?);
    let storages = find_storages(file, at, &checkpoint.storages, &keys)?;
    flatten::tensors(&checkpoint, &storages)
}

fn broken(reason: impl Into<String>) -> PthError {
    PthError::Legacy { reason: reason.into() }
}

fn check_machine(machine: &Pickle) -> Result<(), PthError> {
    let Some(Container::Dict(properties)) = machine.container(machine.root) else {
        return Err(broken("it does not describe the machine it was written on"));
    };
    let order = properties.iter().rev().find(|(key, _)| *key == Value::Text("little_endian"));
    match order {
        Some((_, Value::Bool(true))) => Ok(()),
        Some((_, Value::Bool(false))) => Err(PthError::ByteOrder { found: "big".into() }),
        _ => Err(broken("it does not say in which order bytes are")),
    }
}

/// Finds the storages, which follow each other from `at` on in the order of `keys` up to the file's end.
fn find_storages(
    file: &OpenFile,
    mut at: usize,
    storages: &[Storage],
    keys: &Pickle,
) -> Result<Vec<Numbers>, PthError> {
    let Some(Container::List(keys)) = keys.container(keys.root) else {
        return Err(broken("it has no list of storages"));
    };
    let mut found = HashMap::new();
    let known: HashMap<_, _> = storages.iter().map(|storage| (storage.key, storage)).collect();
    for key in keys {
        let Value::Text(key) = *key else { return Err(broken("a storage's name is not text")) };
        let wrong = |reason: &str| PthError::Storage { key: key.into(), reason: reason.into() };
        let storage = known.get(key).ok_or_else(|| wrong("belongs to no tensor"))?;
        let numbers = read_storage(file, &mut at, storage)?;
        if found.insert(key, numbers).is_some() {
            return Err(wrong("is there twice"));
        }
    }
    if at < file.size() {
        let rest = counted((file.size() - at) as u64, "byte");
        return Err(broken(format!("its last storage is followed by {rest}")));
    }
    let take = |storage: &Storage| {
        let reason = || PthError::Storage { key: storage.key.into(), reason: "is missing".into() };
        found.remove(storage.key).ok_or_else(reason)
    };
    storages.iter().map(take).collect()
}

/// Reads the length of a storage and skips its numbers.
fn read_storage(file: &OpenFile, at: &mut usize, storage: &Storage) -> Result<Numbers, PthError> {
    let Storage { key, dtype, count } = *storage;
    let wrong = |reason| Err(PthError::Storage { key: key.into(), reason });
    let length = file.bytes(*at..file.size().min(*at + 8))?;
    match <[u8; 8]>::try_from(&*length).map(u64::from_le_bytes) {
        Ok(found) if found == count as u64 => {}
        Ok(found) => {
            return wrong(format!("has {} instead of {count}", counted(found, "number")));
        }
        Err(_) => return wrong("is cut off".into()),
    }
    let (start, left) = (*at + 8, file.size() - (*at + 8));
    match count.checked_mul(dtype.bitsize() / 8).filter(|bytes| *bytes <= left) {
        Some(bytes) => *at = start + bytes,
        None => {
            let numbers = counted(count as u64, "number");
            return wrong(format!("has {numbers}, but only {left} of its bytes are left"));
        }
    }
    Ok(Numbers { dtype, count, start })
}
