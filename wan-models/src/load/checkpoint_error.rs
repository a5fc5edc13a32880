//! Errors of telling the layout and the config of a checkpoint.

/// The reasons why the tensors of a file do not tell its layout or its config.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
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
