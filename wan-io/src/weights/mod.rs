//! Weights in safetensors files, single or sharded, and in checkpoints of PyTorch. Opening them reads
//! headers; the elements are read from the open files when they are asked for, by position.

mod error;
mod find;
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
use find::WeightFiles;
use index::Index;

/// The most tensors in one model. The real ones have about a thousand.
const MAX_TENSORS: usize = 20_000;
/// The longest name of a tensor in bytes. The real ones have below 100.
const MAX_NAME: usize = 1024;
/// The most that the properties of all shards may take. Each shard alone has room for as much.
const MAX_METADATA_BYTES: usize = 16 << 20;

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

impl Weights {
    /// Opens the weights called `stem` in `folder`: `stem.safetensors`, shards with
    /// `stem.safetensors.index.json` or without it, the only variant (`stem.fp16.safetensors`), or a
    /// checkpoint of PyTorch (`stem.bin`, `stem.pth`, ..); of one file and shards the one that is
    /// whole. If there is nothing of this name in a folder other than the model's top folder, which is
    /// the empty `folder`, the only weights in it are taken.
    ///
    /// # Errors
    /// If there is none of them; if several could be meant; if a file is missing or broken, or the
    /// index does not agree with the shards.
    pub fn open(files: &ModelFiles, folder: &str, stem: &str) -> Result<Self, WeightsFileError> {
        Self::open_found(files, folder, &find(files, folder, stem)?)
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
    /// (`*.safetensors.index.json`) beside it. One of several shards stands for all of them.
    ///
    /// # Errors
    /// If a file is missing or broken, a checkpoint that would run code, or an index that does not
    /// agree with its shards.
    pub fn open_path(path: &Path) -> Result<Self, WeightsFileError> {
        if let (Some(folder), Some(name)) =
            (path.parent(), path.file_name().and_then(|n| n.to_str()))
        {
            let files = ModelFiles::Folder(folder.to_owned());
            if find::is_index(name) {
                return Self::open_sharded(&files, "", name);
            }
            if let Some(set) = find::find_set(&files.names_in(""), name) {
                return Self::open_found(&files, "", &set);
            }
        }
        Self::open_any(OpenFile::open(path)?)
    }

    /// The files that [`open`](Self::open) would open: one file, an index and its shards, or shards.
    /// The index is read and checked; the shards are not, and need not be there.
    ///
    /// # Errors
    /// If there are no weights, several could be meant, or the index is broken.
    pub fn files(
        files: &ModelFiles,
        folder: &str,
        stem: &str,
    ) -> Result<Vec<String>, WeightsFileError> {
        let found = find(files, folder, stem)?;
        let shards: Vec<String> = match &found {
            WeightFiles::Single(_) => Vec::new(),
            WeightFiles::Index(name) => {
                let index = Index::read(files, &inside(folder, name))?;
                index.shards().into_iter().map(str::to_owned).collect()
            }
            WeightFiles::Shards(shards) => shards[1..].to_vec(),
        };
        let names = std::iter::once(found.name()).chain(shards.iter().map(String::as_str));
        Ok(names.map(|name| inside(folder, name)).collect())
    }

    /// The files to download before [`files`](Self::files) can tell all that [`open`](Self::open)
    /// needs: one file, an index alone, or shards. `names` are those of all files in `folder`. `None`
    /// if there are no weights.
    ///
    /// # Errors
    /// If several could be meant; of one file and shards the file is taken.
    pub fn files_among(
        names: &[String],
        folder: &str,
        stem: &str,
    ) -> Result<Option<Vec<String>>, WeightsFileError> {
        let mut is_first = true;
        let found = find::find(names, stem, !folder.is_empty(), &mut |_| {
            std::mem::replace(&mut is_first, false)
        });
        let error = |find::Several(first, second)| WeightsFileError::Several {
            first: inside(folder, &first),
            second: inside(folder, &second),
        };
        Ok(found.map_err(error)?.map(|found| match found {
            WeightFiles::Single(name) | WeightFiles::Index(name) => vec![inside(folder, &name)],
            WeightFiles::Shards(names) => names.iter().map(|name| inside(folder, name)).collect(),
        }))
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

    fn open_found(
        files: &ModelFiles,
        folder: &str,
        found: &WeightFiles,
    ) -> Result<Self, WeightsFileError> {
        match found {
            WeightFiles::Single(name) => Self::open_file(files, &inside(folder, name)),
            WeightFiles::Index(name) => Self::open_sharded(files, folder, &inside(folder, name)),
            WeightFiles::Shards(shards) => {
                let first = shards.iter().find(|shard| files.has(&inside(folder, shard)));
                let first = inside(folder, first.unwrap_or(&shards[0]));
                let mut weights = Self::empty(files.display_path(&first));
                weights.add_shards(files, folder, shards.iter().map(String::as_str))?;
                Ok(weights)
            }
        }
    }

    /// The weights in one file of either format.
    fn open_any(file: OpenFile) -> Result<Self, WeightsFileError> {
        let mut weights = Self::empty(file.path().to_owned());
        weights.add_file(file)?;
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
        weights.add_shards(files, folder, shards.iter().copied())?;
        weights.check_index(&index, &shards)?;
        Ok(weights)
    }

    fn add_shards<'a>(
        &mut self,
        files: &ModelFiles,
        folder: &str,
        shards: impl Iterator<Item = &'a str>,
    ) -> Result<(), WeightsFileError> {
        for shard in shards {
            let shard = inside(folder, shard);
            let file = files.open(&shard).map_err(|error| match error {
                FileError::NotFound { path } => {
                    WeightsFileError::MissingShard { path: self.origin.clone(), shard: path }
                }
                other => other.into(),
            })?;
            self.add_file(file)?;
        }
        Ok(())
    }

    fn add_file(&mut self, file: OpenFile) -> Result<(), WeightsFileError> {
        if !pth::is_pth(&file)? {
            return self.add_safetensors(file);
        }
        let tensors = pth::read(&file).map_err(|error| match error {
            PthError::File(error) => WeightsFileError::File(error),
            source => WeightsFileError::Pth { path: file.path().to_owned(), source },
        })?;
        tensors.keys().try_for_each(|name| check_name(file.path(), name))?;
        self.add(file, tensors)
    }

    /// Each tensor must be in the shard that the index names. What else is in a shard counts too, as it
    /// does for transformers; the index's `total_size` does not, which many programs write wrong.
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
        Ok(())
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
    let names = files.names_in(folder);
    let mut is_whole = |found: &WeightFiles| Weights::open_found(files, folder, found).is_ok();
    let found = find::find(&names, stem, !folder.is_empty(), &mut is_whole);
    let path = |name: &str| files.display_path(&inside(folder, name));
    match found {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(WeightsFileError::NotFound {
            path: path(&format!("{stem}.safetensors")),
            index: path(&format!("{stem}.safetensors.index.json")),
            other: find::any(&names).map(|name| path(name)),
        }),
        Err(find::Several(first, second)) => {
            Err(WeightsFileError::Several { first: path(&first), second: path(&second) })
        }
    }
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
