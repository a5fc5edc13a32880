//! Why weights cannot be opened or written.

use crate::files::{FileError, WriteError};
use crate::pth::PthError;

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
        /// The defect, in words.
        reason: String,
    },
    /// A checkpoint of PyTorch cannot be read, or should not be.
    #[error("{path}: {source}")]
    Pth {
        /// The file.
        path: String,
        /// The defect, in words.
        source: PthError,
    },
    /// No honest tensor is called like this.
    #[error("{path}: the name of tensor {name:?} {reason}")]
    TensorName {
        /// The file or index.
        path: String,
        /// The name, or how it starts.
        name: String,
        /// The defect, in words.
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
    /// There are more shards than in any honest index.
    #[error("{path}: lists {found} shards, but must list at most {max}")]
    TooManyShards {
        /// The index.
        path: String,
        /// How many there are.
        found: usize,
        /// The most allowed.
        max: usize,
    },
    /// A shard is listed, but not there.
    #[error("{shard}: there is no such file, but {path} lists it")]
    MissingShard {
        /// The index.
        path: String,
        /// The file looked for.
        shard: String,
    },
    /// The index and the shards do not agree about a tensor.
    #[error("{path}: tensor {tensor} {reason}")]
    Index {
        /// The index.
        path: String,
        /// The tensor.
        tensor: String,
        /// The disagreement, in words.
        reason: String,
    },
    /// The index and the shards do not agree about how much there is.
    #[error("{path}: its total_size is {expected}, but the tensors have {found} bytes")]
    TotalSize {
        /// The index.
        path: String,
        /// The size in the index.
        expected: f64,
        /// The size of all tensors in bytes.
        found: usize,
    },
}

/// Why weights cannot be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SafetensorsWriteError {
    /// The file cannot be written.
    #[error(transparent)]
    File(#[from] WriteError),
    /// The name of a tensor would not be read again.
    #[error(transparent)]
    Name(#[from] WeightsFileError),
    /// A tensor is not what its name, dtype and shape say.
    #[error("cannot write `{path}`: tensor {tensor:?} {reason}")]
    Tensor {
        /// The file.
        path: String,
        /// The tensor.
        tensor: String,
        /// The property that is wrong.
        reason: String,
    },
    /// The header cannot be written.
    #[error("cannot write `{path}`: {reason}")]
    Header {
        /// The file.
        path: String,
        /// The limit that is exceeded.
        reason: String,
    },
}
