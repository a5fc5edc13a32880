//! The format before PyTorch 1.6: pickles of a magic number, a version, the machine's properties,
//! the checkpoint and the names of its storages; then the storages, each after its length.
//!
//! `_legacy_save` and `_legacy_load` in PyTorch's `torch/serialization.py`.

use std::collections::HashMap;

use super::PthError;
use super::cursor::Cursor;
use super::pickle;
use super::tensor::Numbers;
use super::value::{Container, Pickle, Storage, Value};

const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];
const VERSION: i64 = 1001;

/// The pickle of the checkpoint, and where its storages are in `file`.
pub(super) fn read(file: &[u8]) -> Result<(Pickle<'_>, Vec<Numbers>), PthError> {
    let mut at = 0;
    let mut next = || {
        let pickle = pickle::read(&file[at..])?;
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
    let storages = find_storages(Cursor::new(file, at), &checkpoint.storages, &keys)?;
    Ok((checkpoint, storages))
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

/// Finds the storages, which follow each other in the order of `keys` up to the file's end.
fn find_storages(
    mut cursor: Cursor,
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
        let numbers = read_storage(&mut cursor, storage)?;
        if found.insert(key, numbers).is_some() {
            return Err(wrong("is there twice"));
        }
    }
    if cursor.rest() > 0 {
        return Err(broken(format!("{} bytes follow its last storage", cursor.rest())));
    }
    let take = |storage: &Storage| {
        let reason = || PthError::Storage { key: storage.key.into(), reason: "is missing".into() };
        found.remove(storage.key).ok_or_else(reason)
    };
    storages.iter().map(take).collect()
}

/// Reads the length of a storage and skips its numbers.
fn read_storage(cursor: &mut Cursor, storage: &Storage) -> Result<Numbers, PthError> {
    let Storage { key, dtype, count } = *storage;
    let wrong = |reason| Err(PthError::Storage { key: key.into(), reason });
    match cursor.u64() {
        Some(found) if found == count as u64 => {}
        Some(found) => return wrong(format!("has {found} numbers instead of {count}")),
        None => return wrong("is cut off".into()),
    }
    let start = cursor.at();
    let bytes = count.checked_mul(dtype.bitsize() / 8);
    if bytes.and_then(|bytes| cursor.take(bytes)).is_none() {
        let left = cursor.rest();
        return wrong(format!("has {count} numbers, but only {left} bytes are left for them"));
    }
    Ok(Numbers { dtype, count, start })
}
