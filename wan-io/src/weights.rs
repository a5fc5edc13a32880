//! Weights in safetensors files, single or sharded, mapped into memory.

use std::collections::BTreeMap;

use safetensors::SafeTensors;
use serde::Deserialize;

pub use safetensors::Dtype;

use crate::files::{FileBytes, FileError, ModelFiles};

/// The largest header that is parsed. The real ones are below 1 MB.
const MAX_HEADER_BYTES: u64 = 16 << 20;
/// The most tensors in one model. The real ones have about a thousand.
const MAX_TENSORS: usize = 20_000;

/// Why weights cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WeightsFileError {
    /// A file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// Neither the file nor its index is there.
    #[error("{path}: there is neither this file nor {index}")]
    NotFound {
        /// The file looked for.
        path: String,
        /// The index looked for.
        index: String,
    },
    /// A file is not safetensors, or is cut off.
    #[error("{path}: is not a whole safetensors file: {reason}")]
    Safetensors {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A name in the index could lead out of the model's folder.
    #[error("{path}: lists {shard:?}, but a shard must be a file name ending in .safetensors")]
    ShardName {
        /// The index.
        path: String,
        /// The name.
        shard: String,
    },
    /// The index and the shards do not agree about a tensor.
    #[error("{path}: tensor {tensor} {reason}")]
    Index {
        /// The index.
        path: String,
        /// The tensor.
        tensor: String,
        /// What does not agree.
        reason: String,
    },
}

/// One tensor: how its numbers are stored, its shape, and its bytes (little-endian, row-major).
#[derive(Debug, Clone, Copy)]
pub struct StoredTensor<'a> {
    /// How numbers are stored.
    pub dtype: Dtype,
    /// The shape.
    pub shape: &'a [usize],
    /// The numbers.
    pub bytes: &'a [u8],
}

/// The weights of one network. Opening them reads headers only.
#[derive(Debug)]
pub struct Weights {
    origin: String,
    shards: Vec<FileBytes>,
    tensors: BTreeMap<String, Entry>,
}

#[derive(Debug)]
struct Entry {
    shard: usize,
    dtype: Dtype,
    shape: Vec<usize>,
    range: std::ops::Range<usize>,
}

#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

impl Weights {
    /// Opens `folder/stem.safetensors`, or the shards that `folder/stem.safetensors.index.json`
    /// lists.
    ///
    /// # Errors
    /// If a file is missing or broken, or the index does not agree with the shards.
    pub fn open(files: &ModelFiles, folder: &str, stem: &str) -> Result<Self, WeightsFileError> {
        let single = format!("{folder}/{stem}.safetensors");
        let index = format!("{single}.index.json");
        if files.has(&single) {
            let mut weights = Self::empty(files.shown(&single));
            weights.add(files, &single)?;
            return Ok(weights);
        }
        if files.has(&index) {
            return Self::open_sharded(files, folder, &index);
        }
        Err(WeightsFileError::NotFound { path: files.shown(&single), index: files.shown(&index) })
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The tensor `name`, if there is one.
    pub fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let Entry { shard, dtype, shape, range } = self.tensors.get(name)?;
        let bytes = &self.shards[*shard][range.clone()];
        Some(StoredTensor { dtype: *dtype, shape, bytes })
    }

    /// The file or index that was opened, for messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Gives back the memory of what was read; it is read from disk again when it is needed.
    pub fn release(&self) {
        self.shards.iter().for_each(FileBytes::release);
    }

    fn empty(origin: String) -> Self {
        Self { origin, shards: Vec::new(), tensors: BTreeMap::new() }
    }

    fn open_sharded(
        files: &ModelFiles,
        folder: &str,
        index_file: &str,
    ) -> Result<Self, WeightsFileError> {
        let path = files.shown(index_file);
        let index: Index = files.json_up_to(index_file, MAX_HEADER_BYTES)?;
        let mut shards: Vec<&String> = index.weight_map.values().collect();
        shards.sort();
        shards.dedup();
        let mut weights = Self::empty(path.clone());
        for shard in &shards {
            if !is_shard_name(shard) {
                let shard = (*shard).clone();
                return Err(WeightsFileError::ShardName { path, shard });
            }
            weights.add(files, &format!("{folder}/{shard}"))?;
        }
        let disagree = |tensor: &str, reason: String| {
            let (path, tensor) = (path.clone(), tensor.to_owned());
            Err(WeightsFileError::Index { path, tensor, reason })
        };
        for (tensor, shard) in &index.weight_map {
            match weights.tensors.get(tensor) {
                Some(entry) if shards[entry.shard] == shard => {}
                _ => return disagree(tensor, format!("should be in {shard}, but is not")),
            }
        }
        if let Some(tensor) = weights.names().find(|name| !index.weight_map.contains_key(*name)) {
            return disagree(tensor, "is in a shard, but not in the index".into());
        }
        Ok(weights)
    }

    fn add(&mut self, files: &ModelFiles, file: &str) -> Result<(), WeightsFileError> {
        let (path, bytes) = (files.shown(file), files.open(file)?);
        let broken = |reason: String| WeightsFileError::Safetensors { path: path.clone(), reason };
        let header = bytes.first_chunk().map(|length| u64::from_le_bytes(*length));
        if let Some(size) = header.filter(|size| *size > MAX_HEADER_BYTES) {
            return Err(broken(format!("its header would have {size} bytes")));
        }
        let parsed =
            SafeTensors::read_metadata(&bytes).map_err(|error| broken(error.to_string()))?;
        let (header_bytes, metadata) = parsed;
        let data = 8 + header_bytes;
        if bytes.len() - data != metadata.data_len() {
            let (found, expected) = (bytes.len() - data, metadata.data_len());
            return Err(broken(format!("it has {found} bytes of data instead of {expected}")));
        }
        let tensors = metadata.tensors();
        if self.tensors.len() + tensors.len() > MAX_TENSORS {
            return Err(broken(format!("it has more than {MAX_TENSORS} tensors")));
        }
        for (name, info) in tensors {
            let (start, end) = info.data_offsets;
            let range = data + start..data + end;
            let entry = Entry {
                shard: self.shards.len(),
                dtype: info.dtype,
                shape: info.shape.clone(),
                range,
            };
            if self.tensors.insert(name.clone(), entry).is_some() {
                return Err(broken(format!("tensor {name} is in another shard too")));
            }
        }
        self.shards.push(bytes);
        Ok(())
    }
}

/// A bare file name: nothing that could lead to another folder.
fn is_shard_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.ends_with(".safetensors") && name.chars().all(plain) && !name.starts_with('.')
}
