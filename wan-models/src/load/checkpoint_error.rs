//! Errors of telling the layout and the config of a checkpoint.

/// The reasons why the tensors of a file do not tell its layout or its config.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A file cannot be read, or has changed since it was opened.
    #[error("{reason}")]
    NotRead {
        /// The file, and the error of the system.
        reason: String,
    },
    /// The names are those of no known layout of the network.
    #[error("{origin}: these are not the weights of {model}: there is no tensor {expected}")]
    NotThisModel {
        /// The file.
        origin: String,
        /// The network that was expected.
        model: &'static str,
        /// The tensors of which one must be there.
        expected: String,
    },
    /// The file holds several models of the kind.
    #[error(
        "{origin}: holds {model} twice, below {first:?} and {second:?}; keep only the one that is meant"
    )]
    SeveralModels {
        /// The file.
        origin: String,
        /// The network.
        model: &'static str,
        /// How the names of one begin.
        first: String,
        /// How the names of another begin.
        second: String,
    },
    /// Two copies of one tensor are not the same.
    #[error(
        "{origin}: {first} and {second} should be copies of one tensor, but differ; remove the one \
         that does not belong to the model"
    )]
    CopiesDiffer {
        /// The file.
        origin: String,
        /// One of them.
        first: String,
        /// The other one.
        second: String,
    },
    /// A tensor is stored in a form that is not supported.
    #[error(
        "{origin}: {name} is stored as {form}, which is not supported; take a file with 16-bit \
         weights (fp16 or bf16)"
    )]
    NotDecoded {
        /// The file.
        origin: String,
        /// The tensor.
        name: String,
        /// The form, in words.
        form: String,
    },
    /// An 8-bit tensor lacks the scale that others have.
    #[error(
        "{origin}: {name} is stored as 8-bit floats (fp8) without the scale that this file's format \
         needs; take a whole file, or one with 16-bit weights (fp16 or bf16)"
    )]
    NoScale {
        /// The file.
        origin: String,
        /// The tensor.
        name: String,
    },
    /// A tensor whose shape would tell the size of the model is missing.
    #[error("{origin}: {name} is missing")]
    Missing {
        /// The file.
        origin: String,
        /// The tensor.
        name: String,
    },
    /// A tensor whose shape would tell the size of the model has another number of axes.
    #[error("{origin}: {name} has shape {found:?}, but must have {axes} axes")]
    Axes {
        /// The file.
        origin: String,
        /// The tensor.
        name: String,
        /// Its shape.
        found: Vec<usize>,
        /// The number of axes that it must have.
        axes: usize,
    },
    /// The shapes do not tell how the width is split into attention heads.
    #[error(
        "{origin}: a width of {width} does not tell the number of attention heads; put the model's \
         config.json beside the file"
    )]
    Heads {
        /// The file.
        origin: String,
        /// The width.
        width: usize,
    },
}
