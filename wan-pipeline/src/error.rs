use wan_core::DeviceError;
use wan_core::scheduler::ScheduleError;
use wan_io::files::FileError;
#[cfg(feature = "hub")]
use wan_io::hub::HubError;
use wan_io::integrity::IntegrityError;
use wan_io::text::TextError;
use wan_io::video::VideoError;
use wan_io::weights::{SafetensorsWriteError, WeightsFileError};
use wan_models::config::ConfigError;
use wan_models::load::CheckpointError;
use wan_models::load::{LoadError, WeightsError};
use wan_models::umt5::Umt5Error;

use crate::RequestError;

/// What can go wrong between a prompt and a video.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no model of this name.
    #[error(
        "there is no model {name:?}: neither a folder of this name, nor a built-in model ({known}), \
         nor the name of a repository in the hub (owner/name{hub})"
    )]
    UnknownModel {
        /// The name.
        name: String,
        /// The built-in models.
        known: String,
        /// Empty, or why nothing is downloaded.
        hub: &'static str,
    },
    /// The folder holds no model in a known layout.
    #[error(
        "{path}: there is no such file, but the folder of a model in the layout of diffusers has \
         one; and no {config} of a WanModel, which a model in the original layout has"
    )]
    NotAModel {
        /// The `model_index.json` looked for.
        path: String,
        /// The `config.json` looked for.
        config: String,
    },
    /// A pipeline of single files lacks one.
    #[error("no file is named for the {part}, and no model to take it from")]
    MissingPart {
        /// `transformer`, `text encoder`, `vae` or `tokenizer`.
        part: &'static str,
    },
    /// `model_index.json` is that of another pipeline, or one of its parts is not supported.
    #[error("{path}: {field} is {found}, but must be {expected}")]
    ModelIndex {
        /// The file.
        path: String,
        /// The field.
        field: String,
        /// The value found.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A config has a value that no model can have.
    #[error("{path}: {source}")]
    Config {
        /// The file.
        path: String,
        /// Field, value and what would be right.
        source: ConfigError,
    },
    /// Two configs contradict each other.
    #[error("{path}: {field} is {found}, but {other} says {expected}")]
    ConfigsDisagree {
        /// The file of the first value.
        path: String,
        /// Its field.
        field: &'static str,
        /// Its value.
        found: usize,
        /// Where the other value stands.
        other: String,
        /// The other value.
        expected: usize,
    },
    /// A file of the model cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A weights file cannot be opened.
    #[error(transparent)]
    WeightsFile(#[from] WeightsFileError),
    /// A weights file is of another model, or its shapes do not tell the config.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A file is not what its checksum says.
    #[error(transparent)]
    Integrity(IntegrityError),
    /// A model cannot be downloaded, or is not in the cache.
    #[cfg(feature = "hub")]
    #[error(transparent)]
    Hub(HubError),
    /// The weights do not fit the config.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The tokenizer cannot be read, or a prompt not be tokenized.
    #[error(transparent)]
    Tokenizer(#[from] TextError),
    /// A prompt cannot be encoded.
    #[error(transparent)]
    TextEncoder(#[from] Umt5Error),
    /// The request asks for something that the model cannot do.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The schedule cannot be made.
    #[error(transparent)]
    Schedule(#[from] ScheduleError),
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The video cannot be written.
    #[error(transparent)]
    Video(#[from] VideoError),
    /// Tensors, such as latents, cannot be written.
    #[error(transparent)]
    Tensors(#[from] SafetensorsWriteError),
    /// Latents are not those of one video of this model.
    #[error("latents have the shape {found:?}, but must have [1, {z_dim}, T, H, W]")]
    LatentShape {
        /// Their shape.
        found: [usize; 5],
        /// The channels that the VAE has.
        z_dim: usize,
    },
    /// A stage gave a value that is not a number.
    #[error(
        "{stage} gave values that are not finite: the weights are damaged, or the precision is too \
         small for them"
    )]
    NotFinite {
        /// The stage.
        stage: String,
    },
    /// The observer asked to stop.
    #[error("cancelled")]
    Cancelled,
}

impl From<IntegrityError> for Error {
    fn from(error: IntegrityError) -> Self {
        match error {
            IntegrityError::Cancelled => Self::Cancelled,
            other => Self::Integrity(other),
        }
    }
}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Weights(error) => Self::Weights(error),
            LoadError::Cancelled(_) => Self::Cancelled,
        }
    }
}

#[cfg(feature = "hub")]
impl From<HubError> for Error {
    fn from(error: HubError) -> Self {
        match error {
            HubError::Cancelled => Self::Cancelled,
            other => Self::Hub(other),
        }
    }
}
