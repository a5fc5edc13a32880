//! Where the parts of a model lie in its folder, and how each is opened.
//!
//! Two layouts are published: that of diffusers (`model_index.json`, a folder for each part) and that
//! of the original repository (`config.json` of a `WanModel`, the other parts as `.pth` beside it).

use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use wan_io::files::ModelFiles;
use wan_io::weights::{Weights, WeightsFileError};
use wan_models::load::{NetworkConfig, TensorSource};
use wan_models::transformer::{OriginalConfig, WanTransformerConfig};
use wan_models::umt5::Umt5Config;
use wan_models::vae::WanVaeConfig;

use crate::Error;

pub(crate) const INDEX: &str = "model_index.json";
pub(crate) const SCHEDULER: &str = "scheduler/scheduler_config.json";
const CONFIG: &str = "config.json";

/// How the files of a model are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `model_index.json` and a folder for each part.
    Diffusers,
    /// `config.json` of a `WanModel`.
    Original,
}

/// The weights of a part.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stored {
    /// One file or shards, safetensors, named by folder and stem.
    Stem(&'static str, &'static str),
    /// One file.
    File(&'static str),
}

#[derive(Deserialize)]
struct Class {
    #[serde(rename = "_class_name", default)]
    class_name: String,
    #[serde(default)]
    model_type: String,
}

impl Layout {
    /// Tells the layout of a model from its files.
    pub(crate) fn of(files: &ModelFiles) -> Result<Self, Error> {
        if files.has(INDEX) {
            return Ok(Self::Diffusers);
        }
        if files.has(CONFIG) && files.json::<Class>(CONFIG)?.class_name == "WanModel" {
            return Ok(Self::Original);
        }
        Err(Error::NotAModel {
            path: files.display_path(INDEX),
            config: files.display_path(CONFIG),
        })
    }

    pub(crate) fn tokenizer(self) -> &'static str {
        match self {
            Self::Diffusers => "tokenizer/tokenizer.json",
            Self::Original => "google/umt5-xxl/tokenizer.json",
        }
    }

    /// The config and the weights of a network.
    pub(crate) fn places<C: NetworkFiles>(self) -> (Option<String>, Stored) {
        match self {
            Self::Diffusers => (Some(format!("{}/{CONFIG}", C::FOLDER)), C::DIFFUSERS),
            Self::Original => (C::ORIGINAL_CONFIG.map(str::to_owned), C::ORIGINAL),
        }
    }
}

impl Stored {
    pub(crate) fn open(self, files: &ModelFiles) -> Result<Weights, WeightsFileError> {
        match self {
            Self::Stem(folder, stem) => Weights::open(files, folder, stem),
            Self::File(file) => Weights::open_file(files, file),
        }
    }

    /// The file that holds them if they are in one.
    #[cfg(feature = "hub")]
    pub(crate) fn single(self) -> String {
        match self {
            Self::Stem("", stem) => format!("{stem}.safetensors"),
            Self::Stem(folder, stem) => format!("{folder}/{stem}.safetensors"),
            Self::File(file) => file.to_owned(),
        }
    }

    /// The files that hold them, read from the index if there is one.
    pub(crate) fn files(self, files: &ModelFiles) -> Result<Vec<String>, WeightsFileError> {
        match self {
            Self::Stem(folder, stem) => Weights::files(files, folder, stem),
            Self::File(file) => Ok(vec![file.to_owned()]),
        }
    }
}

/// A network that is ready to be loaded.
pub(crate) struct Network<C> {
    pub(crate) config: C,
    /// How messages name the config.
    pub(crate) path: String,
    pub(crate) weights: Arc<dyn TensorSource>,
}

/// The places of a network's files.
pub(crate) trait NetworkFiles: NetworkConfig {
    /// Its folder in the layout of diffusers.
    const FOLDER: &'static str;
    /// Its weights there.
    const DIFFUSERS: Stored;
    /// Its config in the original layout, if it has one.
    const ORIGINAL_CONFIG: Option<&'static str> = None;
    /// Its weights there.
    const ORIGINAL: Stored;
}

/// Opens the network in a model's folder. Reads its config and the headers of its weights.
pub(crate) fn open<C: NetworkFiles>(
    files: &ModelFiles,
    layout: Layout,
) -> Result<Network<C>, Error> {
    let (path, stored) = layout.places::<C>();
    match (layout, path) {
        (Layout::Diffusers, Some(file)) => {
            let config = read_config::<C>(files, &file)?;
            let weights = Arc::new(stored.open(files)?);
            Ok(Network { config, path: files.display_path(&file), weights })
        }
        (_, path) => {
            let weights = C::canonical_names(Arc::new(stored.open(files)?))?;
            let config = match path {
                Some(_) => C::from_original(&original_config(files)?, weights.as_ref())?,
                None => C::infer(weights.as_ref())?,
            };
            let path = path.map_or_else(|| inferred(weights.as_ref()), |file| files.display_path(&file));
            valid(Network { config, path, weights })
        }
    }
}

/// Opens the network in a single file of either layout. A `config.json` beside it counts if it is one
/// of this network; otherwise the tensors tell.
pub(crate) fn open_file<C: NetworkFiles>(file: &Path) -> Result<Network<C>, Error> {
    let weights = C::canonical_names(Arc::new(Weights::open_path(file)?))?;
    let folder = file.parent().filter(|parent| *parent != Path::new(""));
    let files = ModelFiles::folder(folder.unwrap_or(Path::new(".")))?;
    if files.has(CONFIG) {
        let Class { class_name, model_type } = files.json(CONFIG)?;
        if C::is_kind(&class_name, &model_type) {
            let config = match class_name == "WanModel" {
                true => C::from_original(&original_config(&files)?, weights.as_ref())?,
                false => read_config(&files, CONFIG)?,
            };
            return valid(Network { config, path: files.display_path(CONFIG), weights });
        }
    }
    let config = C::infer(weights.as_ref())?;
    valid(Network { config, path: inferred(weights.as_ref()), weights })
}

/// Validates the config of a network whose weights are not there yet.
#[cfg(feature = "hub")]
pub(crate) fn check_config<C: NetworkFiles>(
    files: &ModelFiles,
    layout: Layout,
) -> Result<(), Error> {
    match (layout, layout.places::<C>().0) {
        (Layout::Diffusers, Some(file)) => read_config::<C>(files, &file).map(drop),
        (Layout::Original, Some(_)) => original_config(files).map(drop),
        (_, None) => Ok(()),
    }
}

fn inferred(tensors: &dyn TensorSource) -> String {
    format!("{} (from the shapes of its tensors)", tensors.origin())
}

fn read_config<C: NetworkFiles>(files: &ModelFiles, file: &str) -> Result<C, Error> {
    let config: C = files.json(file)?;
    let checked = config.validate();
    checked.map_err(|source| Error::Config { path: files.display_path(file), source })?;
    Ok(config)
}

fn valid<C: NetworkFiles>(network: Network<C>) -> Result<Network<C>, Error> {
    match network.config.validate() {
        Ok(()) => Ok(network),
        Err(source) => Err(Error::Config { path: network.path, source }),
    }
}

impl NetworkFiles for Umt5Config {
    const FOLDER: &'static str = "text_encoder";
    const DIFFUSERS: Stored = Stored::Stem("text_encoder", "model");
    const ORIGINAL: Stored = Stored::File("models_t5_umt5-xxl-enc-bf16.pth");
}

impl NetworkFiles for WanTransformerConfig {
    const FOLDER: &'static str = "transformer";
    const DIFFUSERS: Stored = Stored::Stem("transformer", "diffusion_pytorch_model");
    const ORIGINAL_CONFIG: Option<&'static str> = Some(CONFIG);
    const ORIGINAL: Stored = Stored::Stem("", "diffusion_pytorch_model");
}

impl NetworkFiles for WanVaeConfig {
    const FOLDER: &'static str = "vae";
    const DIFFUSERS: Stored = Stored::Stem("vae", "diffusion_pytorch_model");
    const ORIGINAL: Stored = Stored::File("Wan2.1_VAE.pth");
}

/// `config.json` of the original layout.
fn original_config(files: &ModelFiles) -> Result<OriginalConfig, Error> {
    let config: OriginalConfig = files.json(CONFIG)?;
    let checked = config.validate();
    checked.map_err(|source| Error::Config { path: files.display_path(CONFIG), source })?;
    Ok(config)
}
