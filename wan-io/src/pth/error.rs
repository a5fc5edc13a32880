//! Errors of checkpoints of PyTorch.

use crate::files::FileError;

/// Why a checkpoint of PyTorch cannot be read. Nothing of the file was run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PthError {
    /// The file cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The zip archive is broken, or not as PyTorch writes it.
    #[error("is not a whole zip archive as PyTorch writes it: {reason}")]
    Archive {
        /// The defect, in words.
        reason: String,
    },
    /// A checkpoint in the format before PyTorch 1.6 is broken, or not one at all.
    #[error("is not a whole checkpoint in PyTorch's old format: {reason}")]
    Legacy {
        /// The defect, in words.
        reason: String,
    },
    /// Its numbers are stored on a big-endian machine.
    #[error("its numbers are stored as {found}-endian, but must be little-endian")]
    ByteOrder {
        /// The order that the file names.
        found: String,
    },
    /// The pickle names something that no checkpoint needs: most likely an attack.
    #[error(
        "calls `{global}`, which is not on the list of what a checkpoint may contain; nothing of \
         it was run"
    )]
    Forbidden {
        /// The function or class, with its module.
        global: String,
    },
    /// The pickle has an instruction that no checkpoint needs.
    #[error(
        "byte {at} of its pickle is opcode {opcode:#04x}, which is not on the list of what a \
         checkpoint may contain; nothing of it was run"
    )]
    Opcode {
        /// Where it is, in bytes from the pickle's start.
        at: usize,
        /// The instruction.
        opcode: u8,
    },
    /// The pickle ends before it should.
    #[error("its pickle is cut off at byte {at}")]
    Truncated {
        /// Its length in bytes.
        at: usize,
    },
    /// The pickle makes no sense.
    #[error("byte {at} of its pickle: {reason}")]
    Pickle {
        /// Where, in bytes from the pickle's start.
        at: usize,
        /// The defect, in words.
        reason: String,
    },
    /// It is larger than any honest checkpoint.
    #[error("has more than {max} {what}")]
    TooLarge {
        /// The things that are too many.
        what: &'static str,
        /// The most allowed.
        max: usize,
    },
    /// The numbers of some tensors are not as the pickle describes them.
    #[error("storage {key:?} {reason}")]
    Storage {
        /// The name of the storage.
        key: String,
        /// The defect, in words.
        reason: String,
    },
    /// One tensor is not possible.
    #[error("tensor {name:?} {reason}")]
    Tensor {
        /// The tensor.
        name: String,
        /// The defect, in words.
        reason: String,
    },
    /// There is no dict at the top that would give tensors their names.
    #[error("holds {found}, but must hold a dict of tensors")]
    NoDict {
        /// The content found instead.
        found: &'static str,
    },
}
