//! The header of a safetensors file: 8 bytes of length, then JSON that says where each tensor is.
//! <https://huggingface.co/docs/safetensors/index#format>
//!
//! The crate's own reader takes the last of two tensors with one name, and adds up offsets
//! unchecked.

use std::collections::BTreeMap;
use std::fmt;

use safetensors::tensor::TensorInfo;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, Visitor};
use serde_json::Value;

use super::unique::{UniqueMap, insert_once};
use super::{WeightsFileError, check_name};
use crate::counted;
use crate::files::{FileError, OpenFile, from_json};
use crate::foreign;
use crate::pth::View;

/// The largest header that is parsed. The real ones are below 1 MB.
pub(super) const MAX_HEADER_BYTES: u64 = 16 << 20;
/// The most bytes that may follow the data.
const MAX_TRAILING: usize = 4096;
/// What a file that is too short was.
const CUT_OFF: &str = "the download or copy did not end, get the file again";
/// The bytes in which the length of the header stands.
const LENGTH: usize = 8;
/// Where the file's own properties are, between the tensors.
pub(super) const METADATA: &str = "__metadata__";

/// The tensors of a file, and the file's own properties.
pub(super) struct Content {
    pub(super) tensors: BTreeMap<String, View>,
    pub(super) metadata: BTreeMap<String, String>,
}

/// Reads the header of the safetensors file `file`.
pub(super) fn read(file: &OpenFile) -> Result<Content, WeightsFileError> {
    let beginning = file.bytes(0..file.size().min(foreign::START))?;
    if !foreign::is_safetensors(&beginning)
        && let Some(what) = foreign::instead_of_weights(&beginning, file.size() as u64)
    {
        return Err(FileError::Foreign { path: file.path().to_owned(), what }.into());
    }
    let broken = |reason| WeightsFileError::Safetensors { path: file.path().to_owned(), reason };
    let start = data_start(&beginning, file.size()).map_err(broken)?;
    let Header { tensors, metadata } = from_json(&file.bytes(LENGTH..start)?)
        .map_err(|reason| broken(format!("its header: {reason}")))?;
    tensors.keys().try_for_each(|name| check_name(file.path(), name))?;
    check_layout(&tensors, file.size() - start).map_err(broken)?;
    let view = |(name, TensorInfo { dtype, shape, data_offsets: (from, to) })| {
        (name, View::row_major(dtype, shape, start + from..start + to))
    };
    Ok(Content { tensors: tensors.into_iter().map(view).collect(), metadata })
}

/// Where the data of a file of `size` bytes starts, which begins with `beginning`.
fn data_start(beginning: &[u8], size: usize) -> Result<usize, String> {
    let Some((length, rest)) = beginning.split_first_chunk() else {
        return Err(format!("it has only {}", counted(size as u64, "byte")));
    };
    if rest.first().is_some_and(|&byte| byte != b'{') {
        return Err("it does not begin like one".into());
    }
    let length = u64::from_le_bytes(*length);
    if length > MAX_HEADER_BYTES {
        return Err(format!("its header would have {length} bytes"));
    }
    let (start, follow) = (LENGTH + length as usize, size - LENGTH);
    match start <= size {
        true => Ok(start),
        false => Err(format!(
            "its header would have {length} bytes, but only {follow} follow; {CUT_OFF}"
        )),
    }
}

/// The tensors must fill the data one after the other, without holes, each with the bytes that its
/// shape needs. A few bytes may follow: what copies and editors leave there says nothing.
fn check_layout(tensors: &BTreeMap<String, TensorInfo>, data: usize) -> Result<(), String> {
    let mut in_order: Vec<_> = tensors.iter().collect();
    in_order.sort_by_key(|(_, info)| info.data_offsets);
    let mut at = 0;
    for (name, info) in in_order {
        let (start, end) = info.data_offsets;
        if start != at || end < start {
            return Err(format!("tensor {name:?} is at {start} to {end}, but must start at {at}"));
        }
        let (shape, dtype, size) = (&info.shape, info.dtype, end - start);
        let bits = shape.iter().try_fold(dtype.bitsize(), |bits, &dim| bits.checked_mul(dim));
        if bits != size.checked_mul(8) || bits.is_none() {
            return Err(format!(
                "tensor {name:?} has {size} bytes, which {dtype} {shape:?} has not"
            ));
        }
        at = end;
    }
    if data < at {
        return Err(format!("it has {data} bytes of data instead of {at}; {CUT_OFF}"));
    }
    if data - at > MAX_TRAILING {
        return Err(format!("{} bytes follow its data, which are no part of it", data - at));
    }
    Ok(())
}

struct Header {
    tensors: BTreeMap<String, TensorInfo>,
    metadata: BTreeMap<String, String>,
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(HeaderVisitor)
    }
}

struct HeaderVisitor;

impl<'de> Visitor<'de> for HeaderVisitor {
    type Value = Header;

    fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
        formatter.write_str("an object of tensors")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
        let (mut tensors, mut metadata) = (BTreeMap::new(), None);
        while let Some(key) = map.next_key::<String>()? {
            if key == METADATA {
                let read: Option<UniqueMap<Value>> = map.next_value()?;
                if metadata.replace(read).is_some() {
                    return Err(A::Error::custom(format_args!("{METADATA:?} is there twice")));
                }
            } else {
                let info = map.next_value()?;
                insert_once(&mut tensors, key, info)?;
            }
        }
        let properties = metadata.flatten().map(|UniqueMap(properties)| properties);
        let properties = properties.into_iter().flatten();
        Ok(Header {
            tensors,
            metadata: properties.map(|(key, value)| (key, text(value))).collect(),
        })
    }
}

/// A property should be text. Some programs write others, which are read as their JSON.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        other => other.to_string(),
    }
}
