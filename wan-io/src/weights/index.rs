//! The index of a model in several files: `*.safetensors.index.json`.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::find::is_weights;
use super::unique::UniqueMap;
use super::{WeightsFileError, check_name};
use crate::files::ModelFiles;

/// The largest index that is parsed. The real ones are below 1 MB.
const MAX_INDEX_BYTES: u64 = 16 << 20;
/// The most shards. The real ones have below 100.
pub(super) const MAX_SHARDS: usize = 1000;
/// The longest name that file systems have, in bytes.
const MAX_SHARD_NAME: usize = 255;

/// An index; the names in it can be trusted.
#[derive(Debug)]
pub(super) struct Index {
    /// The index, as shown in messages.
    pub(super) path: String,
    /// The shard of each tensor.
    pub(super) weight_map: BTreeMap<String, String>,
}

#[derive(Deserialize)]
#[serde(expecting = "an index of shards")]
struct Content {
    weight_map: UniqueMap<String>,
}

impl Index {
    pub(super) fn read(files: &ModelFiles, file: &str) -> Result<Self, WeightsFileError> {
        let path = files.display_path(file);
        let content: Content = files.json_up_to(file, MAX_INDEX_BYTES)?;
        let UniqueMap(weight_map) = content.weight_map;
        let index = Self { path, weight_map };
        index.check()?;
        Ok(index)
    }

    /// The names of all shards.
    pub(super) fn shards(&self) -> BTreeSet<&str> {
        self.weight_map.values().map(String::as_str).collect()
    }

    fn check(&self) -> Result<(), WeightsFileError> {
        self.weight_map.keys().try_for_each(|tensor| check_name(&self.path, tensor))?;
        let (shards, path) = (self.shards(), self.path.clone());
        if shards.len() > MAX_SHARDS {
            let (found, max) = (shards.len(), MAX_SHARDS);
            return Err(WeightsFileError::TooManyShards { path, found, max });
        }
        match shards.iter().find(|shard| !is_shard_name(shard)) {
            Some(shard) => {
                let shard = shard.chars().take(MAX_SHARD_NAME).collect();
                Err(WeightsFileError::ShardName { path, shard })
            }
            None => Ok(()),
        }
    }

    /// Says that the shards are not as they should be.
    pub(super) fn disagrees(&self, tensor: &str, reason: String) -> WeightsFileError {
        WeightsFileError::Index { path: self.path.clone(), tensor: tensor.to_owned(), reason }
    }
}

/// A bare file name: nothing that could lead to another folder.
fn is_shard_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let short = name.len() <= MAX_SHARD_NAME;
    short && is_weights(name) && name.chars().all(plain) && !name.starts_with('.')
}
