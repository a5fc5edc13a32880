//! Weights in safetensors files, single or sharded, and in checkpoints of PyTorch. Opening them reads
//! headers; the elements are read from the open files when they are asked for, by position.

mod error;
mod fingerprint;
mod header;
mod index;
mod stored;
mod unique;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

pub use error::{SafetensorsWriteError, WeightsFileError};
pub use safetensors::Dtype;
pub use stored::StoredTensor;
pub use write::SafetensorsWriter;

use crate::files::{FileError, ModelFiles, OpenFile};
use crate::pth::{self, PthError, View};
use index::Index;

/// The most tensors in one model. The real ones have about a thousand.
const MAX_TENSORS: usize = 20_000;
/// The longest name of a tensor in bytes. The real ones have below 100.
const MAX_NAME: usize = 1024;
/// The most that the properties of all shards may take. Each shard alone has room for as much.
const MAX_METADATA_BYTES: usize = 16 << 20;
/// How the name of an index ends.
const INDEX: &str = ".safetensors.index.json";

/// The weights of one network. Opening them reads headers only; the files stay open, and all threads may
/// read at once.
#[derive(Debug)]
pub struct Weights {
    origin: String,
    shards: Vec<OpenFile>,
    tensors: BTreeMap<String, Entry>,
    metadata: BTreeMap<String, String>,
}

#[derive(Debug)]
struct Entry {
    shard: usize,
    view: View,
}

/// The way that weights are stored.
enum WeightFiles {
    Single(String),
    Index(String),
}

impl Weights {
    /// Opens `folder/stem.safetensors`, or the shards that `folder/stem.safetensors.index.json`
    /// lists. An empty `folder` is the model's top folder.
    ///
    /// # Errors
    /// If a file is missing or broken, or the index does not agree with the shards.
    pub fn open(files: &ModelFiles, folder: &str, stem: &str) -> Result<Self, WeightsFileError> {
        match find(files, folder, stem)? {
            WeightFiles::Single(file) => {
                let mut weights = Self::empty(files.display_path(&file));
                weights.add_safetensors(files.open(&file)?)?;
                Ok(weights)
            }
            WeightFiles::Index(index) => Self::open_sharded(files, folder, &index),
        }
    }

    /// Opens one file of a model: safetensors, or a checkpoint of PyTorch (`.pth`). Its content
    /// tells which, not its name.
    ///
    /// # Errors
    /// If the file is missing or broken, or a checkpoint that would run code.
    pub fn open_file(files: &ModelFiles, file: &str) -> Result<Self, WeightsFileError> {
        Self::open_any(files.open(file)?)
    }

    /// Opens any file on disk like [`open_file`](Self::open_file), or the shards of an index
    /// (`*.safetensors.index.json`) beside it.
    ///
    /// # Errors
    /// If a file is missing or broken, a checkpoint that would run code, or an index that does not
    /// agree with its shards.
    pub fn open_path(path: &Path) -> Result<Self, WeightsFileError> {
        let name = path.file_name().and_then(|name| name.to_str());
        match (path.parent(), name.filter(|name| name.ends_with(INDEX))) {
            (Some(folder), Some(name)) => {
                Self::open_sharded(&ModelFiles::Folder(folder.to_owned()), "", name)
            }
            _ => Self::open_any(OpenFile::open(path)?),
        }
    }

    /// The files that [`open`](Self::open) would open: one file, or an index and its shards. The
    /// index is read and checked; the shards are not, and need not be there.
    ///
    /// # Errors
    /// If there is neither file nor index, or the index is broken.
    pub fn files(
        files: &ModelFiles,
        folder: &str,
        stem: &str,
    ) -> Result<Vec<String>, WeightsFileError> {
        match find(files, folder, stem)? {
            WeightFiles::Single(file) => Ok(vec![file]),
            WeightFiles::Index(file) => {
                let index = Index::read(files, &file)?;
                let shards = index.shards().into_iter().map(|shard| inside(folder, shard));
                Ok(std::iter::once(file).chain(shards).collect())
            }
        }
    }

    /// The names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The tensor `name`, if there is one.
    pub fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let Entry { shard, view } = self.tensors.get(name)?;
        Some(StoredTensor::in_file(&self.shards[*shard], view))
    }

    /// The file or index that was opened, for messages.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The properties that the files give themselves (`__metadata__` of safetensors), those of all
    /// shards together; where two shards differ, that of the first one in the order of their names.
    /// Checkpoints of PyTorch have none. Anyone may write anything into them.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// A SHA-256 (64 lower-case hex digits) that identifies the stored weights, wherever the files
    /// are: that of the length and the content of each shard, in the order of their names.
    ///
    /// Of a file up to 256 MiB the content is all of it. Of a larger one it is what the header says
    /// and 4,096 blocks of 4 KiB at equal distances: enough to tell checkpoints apart, but not to find
    /// a damaged element, for which there is [`verify`](crate::verify()).
    ///
    /// # Errors
    /// If a file cannot be read, or has changed since it was opened.
    pub fn fingerprint(&self) -> Result<String, FileError> {
        fingerprint::fingerprint(self)
    }

    fn empty(origin: String) -> Self {
        Self { origin, shards: Vec::new(), tensors: BTreeMap::new(), metadata: BTreeMap::new() }
    }

    /// The weights in one file of either format.
    fn open_any(file: OpenFile) -> Result<Self, WeightsFileError> {
        let mut weights = Self::empty(file.path().to_owned());
        if !pth::is_pth(&file)? {
            weights.add_safetensors(file)?;
            return Ok(weights);
        }
        let tensors = pth::read(&file).map_err(|error| match error {
            PthError::File(error) => WeightsFileError::File(error),
            source => WeightsFileError::Pth { path: file.path().to_owned(), source },
        })?;
        tensors.keys().try_for_each(|name| check_name(file.path(), name))?;
        weights.add(file, tensors)?;
        Ok(weights)
    }

    fn open_sharded(
        files: &ModelFiles,
        folder: &str,
        index_file: &str,
    ) -> Result<Self, WeightsFileError> {
        let index = Index::read(files, index_file)?;
        let mut weights = Self::empty(index.path.clone());
        let shards: Vec<&str> = index.shards().into_iter().collect();
        for shard in &shards {
            let shard = inside(folder, shard);
            let file = files.open(&shard).map_err(|error| match error {
                FileError::NotFound { path } => {
                    WeightsFileError::MissingShard { path: index.path.clone(), shard: path }
                }
                other => other.into(),
            })?;
            weights.add_safetensors(file)?;
        }
        weights.check_index(&index, &shards)?;
        Ok(weights)
    }

    fn check_index(&self, index: &Index, shards: &[&str]) -> Result<(), WeightsFileError> {
        for (tensor, shard) in &index.weight_map {
            match self.tensors.get(tensor) {
                Some(entry) if shards[entry.shard] == shard => {}
                _ => {
                    return Err(
                        index.disagrees(tensor, format!("should be in {shard}, but is not"))
                    );
                }
            }
        }
        if let Some(tensor) = self.names().find(|name| !index.weight_map.contains_key(*name)) {
            return Err(index.disagrees(tensor, "is in a shard, but not in the index".into()));
        }
        let found = self.tensors.values().map(|entry| entry.view.range.len()).sum::<usize>();
        match index.total_size {
            Some(expected) if expected != found as f64 => {
                Err(WeightsFileError::TotalSize { path: index.path.clone(), expected, found })
            }
            _ => Ok(()),
        }
    }

    fn add_safetensors(&mut self, file: OpenFile) -> Result<(), WeightsFileError> {
        let header::Content { tensors, metadata } = header::read(&file)?;
        self.add_metadata(file.path(), metadata)?;
        self.add(file, tensors)
    }

    /// Adds the properties that no earlier shard has.
    fn add_metadata(
        &mut self,
        path: &str,
        metadata: BTreeMap<String, String>,
    ) -> Result<(), WeightsFileError> {
        for (key, value) in metadata {
            self.metadata.entry(key).or_insert(value);
        }
        let bytes: usize = self.metadata.iter().map(|(key, value)| key.len() + value.len()).sum();
        if bytes > MAX_METADATA_BYTES {
            let reason = format!("the properties of all shards take {bytes} bytes");
            return Err(WeightsFileError::Safetensors { path: path.to_owned(), reason });
        }
        Ok(())
    }

    fn add(
        &mut self,
        file: OpenFile,
        tensors: BTreeMap<String, View>,
    ) -> Result<(), WeightsFileError> {
        let broken = |reason: String| {
            Err(WeightsFileError::Safetensors { path: file.path().to_owned(), reason })
        };
        if self.tensors.len() + tensors.len() > MAX_TENSORS {
            return broken(format!("it has more than {MAX_TENSORS} tensors"));
        }
        for (name, view) in tensors {
            if self.tensors.contains_key(&name) {
                return broken(format!("tensor {name} is in another shard too"));
            }
            self.tensors.insert(name, Entry { shard: self.shards.len(), view });
        }
        self.shards.push(file);
        Ok(())
    }
}

fn find(files: &ModelFiles, folder: &str, stem: &str) -> Result<WeightFiles, WeightsFileError> {
    let single = inside(folder, &format!("{stem}.safetensors"));
    let index = inside(folder, &format!("{stem}{INDEX}"));
    if files.has(&single) {
        return Ok(WeightFiles::Single(single));
    }
    if files.has(&index) {
        return Ok(WeightFiles::Index(index));
    }
    Err(WeightsFileError::NotFound {
        path: files.display_path(&single),
        index: files.display_path(&index),
    })
}

fn inside(folder: &str, file: &str) -> String {
    if folder.is_empty() { file.to_owned() } else { format!("{folder}/{file}") }
}

/// A tensor's name ends up in messages, on terminals and in logs.
fn check_name(path: &str, name: &str) -> Result<(), WeightsFileError> {
    let reason = if name.len() > MAX_NAME {
        format!("has {} bytes, but must have at most {MAX_NAME}", name.len())
    } else if name.chars().any(char::is_control) {
        "has control characters".into()
    } else {
        return Ok(());
    };
    let name = name.chars().take(64).collect();
    Err(WeightsFileError::TensorName { path: path.to_owned(), name, reason })
}
