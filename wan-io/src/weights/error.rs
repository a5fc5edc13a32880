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
    /// Neither the file nor its index is there, nor anything else that could be meant.
    #[error("{path}: there is neither this file nor {index}{}", beside(.other))]
    NotFound {
        /// The file looked for.
        path: String,
        /// The index looked for.
        index: String,
        /// A file with other weights in the same folder.
        other: Option<String>,
    },
    /// Two files could be meant, and nothing tells which.
    #[error(
        "{first} and {second} could both be the weights; name the one to take with the option of \
         its part (--transformer, --text-encoder, --image-encoder or --vae FILE)"
    )]
    Several {
        /// One of them.
        first: String,
        /// Another one.
        second: String,
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
    #[error(
        "{path}: lists {shard:?}, but a shard must be a file name ending in .safetensors (or .bin, \
         .pth, .pt, .ckpt)"
    )]
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
    #[error("{shard}: there is no such file, but {path} needs it")]
    MissingShard {
        /// The index, or another shard.
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
}

/// The hint to a file with another name.
fn beside(other: &Option<String>) -> String {
    other.as_ref().map_or_else(String::new, |other| {
        format!(
            "; if {other} is meant, name it with the option of its part (--transformer, \
             --text-encoder, --image-encoder or --vae FILE)"
        )
    })
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
