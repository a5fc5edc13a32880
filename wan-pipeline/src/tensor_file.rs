//! The safetensors files that a pipeline writes for itself: latents, embeddings, and the state of a
//! run. Each says in its metadata what it is, and in which version of its form.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;
use wan_io::weights::{Dtype, SafetensorsWriter, Weights, WeightsFileError};

use crate::Error;

/// The version that is written. Readers refuse later ones.
const FORMAT: u32 = 1;
const KIND: &str = "wan_pipeline.kind";
const VERSION: &str = "wan_pipeline.format";

/// Why a file of latents, embeddings or a run cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TensorFileError {
    /// It cannot be opened: it is missing, cut off, or no safetensors file.
    #[error(transparent)]
    File(#[from] WeightsFileError),
    /// It holds something else.
    #[error("{path}: is {found}, but must be a file of {expected}")]
    Kind {
        /// The file.
        path: String,
        /// What it says that it is.
        found: String,
        /// What is needed.
        expected: &'static str,
    },
    /// A later version of this library wrote it.
    #[error(
        "{path}: has format {found}, but this version of wan-pipeline reads formats up to {FORMAT}: \
         use a newer one"
    )]
    NewerFormat {
        /// The file.
        path: String,
        /// Its format.
        found: String,
    },
    /// A tensor is missing.
    #[error("{path}: there is no tensor {name}")]
    MissingTensor {
        /// The file.
        path: String,
        /// The tensor.
        name: String,
    },
    /// A tensor that does not belong to the run in the file.
    #[error("{path}: the tensor {name} does not belong to the run")]
    ExtraTensor {
        /// The file.
        path: String,
        /// The tensor.
        name: String,
    },
    /// A tensor is stored in another way than these files are.
    #[error("{path}: {name} has dtype {found}, but must have F32")]
    Dtype {
        /// The file.
        path: String,
        /// The tensor.
        name: String,
        /// Its dtype.
        found: String,
    },
    /// A tensor has another shape.
    #[error("{name} have the shape {found:?}, but must have {expected}")]
    Shape {
        /// The tensor, with its file if it has one.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The right shape.
        expected: String,
    },
    /// A tensor has elements that are infinite or not a number.
    #[error("{path}: {name} has values that are not finite")]
    NotFinite {
        /// The file.
        path: String,
        /// The tensor.
        name: String,
    },
    /// A field of the metadata is missing or not what it should be.
    #[error("{path}: the metadata {field} is damaged: {reason}")]
    Metadata {
        /// The file.
        path: String,
        /// The field.
        field: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// The file is of another model than the one that is open.
    #[error(
        "{path}: was written with another {part}: its fingerprint is {found}, that of {name} is {expected}"
    )]
    OtherModel {
        /// The file.
        path: String,
        /// The part of the model that differs.
        part: crate::Role,
        /// The model that is open.
        name: String,
        /// The fingerprint in the file.
        found: String,
        /// The fingerprint of the model that is open.
        expected: String,
    },
}

impl TensorFileError {
    pub(crate) fn shape(name: impl Into<String>, found: &[usize], expected: String) -> Self {
        Self::Shape { name: name.into(), found: found.to_vec(), expected }
    }
}

/// Collects tensors and metadata, and writes them as one file.
pub(crate) struct TensorFileWriter {
    writer: SafetensorsWriter,
    tensors: Vec<(String, Vec<usize>, Vec<u8>)>,
    metadata: BTreeMap<String, String>,
}

impl TensorFileWriter {
    /// Opens a temporary file beside `path`.
    pub(crate) fn create(path: &Path, kind: &str) -> Result<Self, Error> {
        let metadata = [(KIND, kind.to_owned()), (VERSION, FORMAT.to_string())];
        Ok(Self {
            writer: SafetensorsWriter::create(path)?,
            tensors: Vec::new(),
            metadata: metadata.map(|(key, value)| (key.to_owned(), value)).into(),
        })
    }

    pub(crate) fn tensor(&mut self, name: impl Into<String>, shape: &[usize], values: Vec<f32>) {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.tensors.push((name.into(), shape.to_vec(), bytes));
    }

    pub(crate) fn json(&mut self, field: &str, value: &impl Serialize) {
        // Our own types, without maps that could have keys other than strings.
        let json = serde_json::to_string(value).expect("plain data is JSON");
        self.metadata.insert(field.to_owned(), json);
    }

    /// The names of the tensors so far.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.iter().map(|(name, ..)| name.as_str())
    }

    pub(crate) fn finish(self) -> Result<(), Error> {
        let Self { writer, tensors, metadata } = self;
        let views = tensors.iter().map(|(name, shape, bytes)| {
            (name.as_str(), Dtype::F32, shape.as_slice(), bytes.as_slice())
        });
        Ok(writer.write(views, metadata)?)
    }
}

/// A file that is read again.
pub(crate) struct TensorFile {
    path: String,
    weights: Weights,
}

impl TensorFile {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let weights = Weights::open_path(path).map_err(TensorFileError::from)?;
        Ok(Self { path: path.display().to_string(), weights })
    }

    pub(crate) fn path(&self) -> String {
        self.path.clone()
    }

    /// Fails unless the file says that it is of this kind and of a format that is known; one that says
    /// nothing passes where `plain` files do.
    pub(crate) fn require_kind(&self, expected: &'static str, plain: bool) -> Result<(), Error> {
        let metadata = self.weights.metadata();
        let path = self.path();
        match metadata.get(KIND) {
            None if plain => return Ok(()),
            None => {
                let found = "no file that wan-pipeline wrote".into();
                return Err(TensorFileError::Kind { path, found, expected }.into());
            }
            Some(kind) if kind != expected => {
                let found = format!("a file of {kind}");
                return Err(TensorFileError::Kind { path, found, expected }.into());
            }
            Some(_) => {}
        }
        let version = metadata.get(VERSION).map_or("", String::as_str);
        match version.parse::<u32>() {
            Ok(1..=FORMAT) => Ok(()),
            Ok(FORMAT..) => {
                let found = version.to_owned();
                Err(TensorFileError::NewerFormat { path, found }.into())
            }
            _ => {
                let reason = format!("it is {version:?}, but must be a number from 1 on");
                Err(TensorFileError::Metadata { path, field: VERSION, reason }.into())
            }
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.weights.tensor(name).is_some()
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.weights.names()
    }

    /// The shape and the elements of a tensor, all of them finite.
    pub(crate) fn tensor<const D: usize>(
        &self,
        name: &str,
    ) -> Result<([usize; D], Vec<f32>), Error> {
        let (path, name_owned) = (self.path(), name.to_owned());
        let Some(stored) = self.weights.tensor(name) else {
            return Err(TensorFileError::MissingTensor { path, name: name_owned }.into());
        };
        if stored.dtype != Dtype::F32 {
            let found = stored.dtype.to_string();
            return Err(TensorFileError::Dtype { path, name: name_owned, found }.into());
        }
        let shape = stored.shape.try_into().map_err(|_| {
            let expected = format!("{D} axes");
            TensorFileError::shape(format!("{path}: {name}"), stored.shape, expected)
        })?;
        let bytes = stored.bytes().map_err(WeightsFileError::from);
        let bytes = bytes.map_err(TensorFileError::from)?;
        let values: Vec<f32> =
            bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        if values.iter().any(|value| !value.is_finite()) {
            return Err(TensorFileError::NotFinite { path, name: name_owned }.into());
        }
        Ok((shape, values))
    }

    pub(crate) fn json<T: DeserializeOwned>(&self, field: &'static str) -> Result<T, Error> {
        let damaged = |reason| TensorFileError::Metadata { path: self.path(), field, reason };
        let text = self.weights.metadata().get(field);
        let text = text.ok_or_else(|| damaged("it is missing".into()))?;
        Ok(serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?)
    }

    pub(crate) fn json_or_default<T: DeserializeOwned + Default>(
        &self,
        field: &'static str,
    ) -> Result<T, Error> {
        match self.weights.metadata().contains_key(field) {
            true => self.json(field),
            false => Ok(T::default()),
        }
    }
}
