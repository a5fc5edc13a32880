use std::path::PathBuf;

use wan_core::guidance::GuidanceError;
use wan_core::scheduler::ScheduleError;
use wan_core::{Cancelled, DeviceError, ForwardError, VaeError};
use wan_io::counted;
use wan_io::files::FileError;
use wan_io::hub::HubError;
use wan_io::image::ImageError;
use wan_io::integrity::IntegrityError;
use wan_io::text::TextError;
use wan_io::video::VideoError;
use wan_io::weights::{SafetensorsWriteError, WeightsFileError};
use wan_models::clip::ClipError;
use wan_models::config::ConfigError;
use wan_models::kind::CheckpointKind;
use wan_models::load::{CheckpointError, LoadError, WeightsError};
use wan_models::umt5::Umt5Error;

use crate::{MemoryShortage, RequestError, Role, TensorFileError};

/// Why there is no video. The variants differ in what a caller can do about it; the causes are in
/// [`source`](std::error::Error::source), and in the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The model is not there, damaged, or of a kind that is not supported.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A model cannot be downloaded, or is not in the cache.
    #[error(transparent)]
    Download(HubError),
    /// A name that could be that of a folder or of a repository: there is no such folder, and the hub has no
    /// such repository or cannot be asked.
    #[error("{source}; nor is there a folder of this name here{hint}")]
    NoModel {
        /// What the hub says, or why it cannot be asked.
        source: Box<HubError>,
        /// Empty, or what was probably meant.
        hint: String,
    },
    /// The request asks for something that cannot be done.
    #[error(transparent)]
    Request(#[from] RequestError),
    /// The device cannot be used.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A file of latents, embeddings or a run cannot be used.
    #[error(transparent)]
    TensorFile(#[from] TensorFileError),
    /// A stage gave a value that is not a number.
    #[error(
        "{stage} gave values that are not finite: the weights are damaged, or the precision is too \
         small for them"
    )]
    NotFinite {
        /// The stage.
        stage: String,
    },
    /// A run needs more memory than there is, or than the limit allows. Nothing of it was computed.
    #[error(transparent)]
    Memory(Box<MemoryShortage>),
    /// The device has too little memory, also for tiles.
    #[error("{stage} ran out of memory: {reason}")]
    OutOfMemory {
        /// The stage.
        stage: String,
        /// The device's message.
        reason: String,
    },
    /// The temporary file that decoded tiles wait in cannot be written or read.
    #[error("the temporary file of decoded tiles: {0}")]
    TemporaryFile(#[source] std::io::Error),
    /// A picture cannot be read, or not be fitted to the video.
    #[error(transparent)]
    Image(#[from] ImageError),
    /// A video cannot be read or written.
    #[error(transparent)]
    Video(#[from] VideoError),
    /// A file of latents, embeddings or a run cannot be written.
    #[error(transparent)]
    Write(#[from] SafetensorsWriteError),
    /// The caller asked to stop.
    #[error("cancelled")]
    Cancelled,
}

/// Why a model cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// There is no model of this name.
    #[error(
        "there is no model {name:?}: neither a folder of this name, nor a built-in model ({known}), \
         nor the name of a repository in the hub (owner/name{hub}){hint}"
    )]
    Unknown {
        /// The name.
        name: String,
        /// The built-in models.
        known: String,
        /// Empty, or why nothing is downloaded.
        hub: &'static str,
        /// Empty, or what was probably meant.
        hint: String,
    },
    /// The name is the path of a single file.
    #[error(
        "{path}: is a file, but a model is a folder or a repository in the hub: {advice}, or pass the \
         file as a part of a model: --transformer {path}, --text-encoder, --vae, ..",
        path = path.display()
    )]
    SingleFile {
        /// The file.
        path: PathBuf,
        /// What can be named instead.
        advice: String,
    },
    /// The name is that of a folder in a model.
    #[error(
        "{}: is a part of the model {}: name that folder", .path.display(), .model.display()
    )]
    PartOfModel {
        /// The folder.
        path: PathBuf,
        /// The folder of the model.
        model: PathBuf,
    },
    /// The name is that of a folder with folders of models.
    #[error("{}: holds no model itself, but {}", .path.display(), match .count {
        1 => format!("{} does: name that folder", .first.display()),
        _ => format!("{} folders in it do: name one of them, such as {}", .count, .first.display()),
    })]
    ModelsInside {
        /// The folder.
        path: PathBuf,
        /// The first folder of a model in it.
        first: PathBuf,
        /// How many there are.
        count: usize,
    },
    /// The name is that of a repository's folder in the hub's cache, which does not tell the snapshot.
    #[error("{}: is the folder of a repository in the hub's cache, but {}", .path.display(), match .count {
        0 => "nothing of it has been downloaded: name the repository (owner/name)".to_owned(),
        count => format!(
            "{:?} is none of its {}: name one of the folders in its `snapshots`",
            .revision, counted(*count as u64, "snapshot")
        ),
    })]
    Snapshot {
        /// The folder.
        path: PathBuf,
        /// The revision looked for.
        revision: String,
        /// How many snapshots there are.
        count: usize,
    },
    /// The name is an address, but none of a model in the hub.
    #[error(
        "{address}: is no address of a model in the hub, which is https://huggingface.co/owner/name; \
         download what lies elsewhere into a folder, and name that"
    )]
    Address {
        /// The address.
        address: String,
    },
    /// The name has a revision in it, and another one is asked for beside it.
    #[error(
        "{repo}: the name says revision {found:?}, but {option:?} is asked for beside it: leave one of \
         them out"
    )]
    TwoRevisions {
        /// The repository.
        repo: String,
        /// The revision in the name.
        found: String,
        /// The revision beside it.
        option: String,
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
        /// The part.
        part: Role,
    },
    /// The pipeline was opened without a part that is needed now.
    #[error("the pipeline was opened without its {part}, which {needed_for} needs")]
    LeftOut {
        /// The part.
        part: Role,
        /// The work that needs it.
        needed_for: &'static str,
    },
    /// `model_index.json` is that of another pipeline, or one of its parts is not supported.
    #[error("{path}: {field} is {found}, but must be {expected}")]
    Index {
        /// The file.
        path: String,
        /// The field.
        field: String,
        /// The value found.
        found: String,
        /// The values that are allowed.
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
    /// The tensors are those of another config.
    #[error("{path}: {field} is {found}, but the tensors of {weights} make it {expected}")]
    ConfigDoesNotFit {
        /// The file.
        path: String,
        /// The field.
        field: String,
        /// Its value, and whether it is the default.
        found: String,
        /// The weights.
        weights: String,
        /// The value that fits them.
        expected: String,
    },
    /// A file holds something else than the part that it was taken for.
    #[error("{path} is {kind}{problem}")]
    OtherKind {
        /// The file.
        path: String,
        /// Its content.
        kind: CheckpointKind,
        /// Why it cannot be used, and the way out.
        problem: String,
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
    /// The weights do not fit the config.
    #[error(transparent)]
    Weights(#[from] WeightsError),
    /// The tokenizer cannot be read, or a prompt not be tokenized.
    #[error(transparent)]
    Tokenizer(#[from] TextError),
    /// The text encoder has no embedding for a token of the tokenizer.
    #[error(transparent)]
    TextEncoder(#[from] Umt5Error),
    /// A CLIP has no embedding for a token of its tokenizer, or takes images of another size.
    #[error(transparent)]
    Clip(#[from] ClipError),
    /// A denoiser of another crate cannot read its weights.
    #[error(transparent)]
    Denoiser(Box<dyn std::error::Error + Send + Sync>),
}

/// Errors that reach the caller as one of the broader kinds.
macro_rules! by_way_of {
    ($($variant:ident: $($error:ty),*;)*) => {
        $($(impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Self::$variant(error.into())
            }
        })*)*
    };
}

by_way_of! {
    Model: FileError, WeightsFileError, CheckpointError, WeightsError, TextError;
    Request: ScheduleError, GuidanceError;
}

impl From<MemoryShortage> for Error {
    fn from(shortage: MemoryShortage) -> Self {
        Self::Memory(Box::new(shortage))
    }
}

impl From<Cancelled> for Error {
    fn from(_: Cancelled) -> Self {
        Self::Cancelled
    }
}

/// Weights that are read during a pass fail as those that are read before it.
impl From<Umt5Error> for Error {
    fn from(error: Umt5Error) -> Self {
        match error {
            Umt5Error::Weights(error) => error.into(),
            Umt5Error::Cancelled(_) => Self::Cancelled,
            other => ModelError::TextEncoder(other).into(),
        }
    }
}

impl From<ClipError> for Error {
    fn from(error: ClipError) -> Self {
        match error {
            ClipError::File(error) => error.into(),
            ClipError::Weights(error) => error.into(),
            ClipError::Cancelled(_) => Self::Cancelled,
            other => ModelError::Clip(other).into(),
        }
    }
}

impl From<ForwardError> for Error {
    fn from(error: ForwardError) -> Self {
        match error {
            ForwardError::Cancelled(_) => Self::Cancelled,
            ForwardError::Weights(error) => match error.downcast::<LoadError>() {
                Ok(error) => (*error).into(),
                Err(other) => ModelError::Denoiser(other).into(),
            },
            other => ModelError::Denoiser(other.into()).into(),
        }
    }
}

impl From<VaeError> for Error {
    fn from(error: VaeError) -> Self {
        match error {
            VaeError::TemporaryFile(error) => Self::TemporaryFile(error),
            _ => Self::Cancelled,
        }
    }
}

impl From<LoadError> for Error {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::Weights(error) => error.into(),
            LoadError::File(error) => error.into(),
            LoadError::Cancelled(_) => Self::Cancelled,
        }
    }
}

impl From<IntegrityError> for Error {
    fn from(error: IntegrityError) -> Self {
        match error {
            IntegrityError::Cancelled => Self::Cancelled,
            other => ModelError::Integrity(other).into(),
        }
    }
}

impl From<HubError> for Error {
    fn from(error: HubError) -> Self {
        match error {
            HubError::Cancelled => Self::Cancelled,
            other => Self::Download(other),
        }
    }
}
