//! Where the parts of a model lie in its folder.
//!
//! Two layouts are published: that of diffusers (`model_index.json`, a folder for each part) and that
//! of the original repository (`config.json` of a `WanModel`, the other parts as `.pth` beside it).

use serde::Deserialize;
use wan_io::files::ModelFiles;
use wan_io::weights::{Weights, WeightsFileError};

use crate::{Error, ModelError, Role};

pub(crate) const INDEX: &str = "model_index.json";
pub(crate) const SCHEDULER: &str = "scheduler/scheduler_config.json";
pub(crate) const CONFIG: &str = "config.json";

/// How the files of a model are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `model_index.json` and a folder for each part.
    Diffusers,
    /// `config.json` of a `WanModel`.
    Original,
}

/// The files of a part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartFiles {
    /// Its config, if it has one.
    pub(crate) config: Option<&'static str>,
    pub(crate) weights: WeightFiles,
}

/// The weights of a part.
#[derive(Debug, Clone, Copy)]
pub(crate) enum WeightFiles {
    /// One file or shards, safetensors, named by folder and stem.
    Stem(&'static str, &'static str),
    /// One file.
    File(&'static str),
}

/// The places of files: a row for each layout and part with weights.
const PLACES: [(Layout, Role, PartFiles); 6] = {
    use Layout::{Diffusers, Original};
    use Role::{TextEncoder, Transformer, Vae};
    use WeightFiles::{File, Stem};
    const fn row(
        layout: Layout,
        role: Role,
        config: Option<&'static str>,
        weights: WeightFiles,
    ) -> (Layout, Role, PartFiles) {
        (layout, role, PartFiles { config, weights })
    }
    const MODEL: &str = "diffusion_pytorch_model";
    [
        row(
            Diffusers,
            TextEncoder,
            Some("text_encoder/config.json"),
            Stem("text_encoder", "model"),
        ),
        row(Diffusers, Transformer, Some("transformer/config.json"), Stem("transformer", MODEL)),
        row(Diffusers, Vae, Some("vae/config.json"), Stem("vae", MODEL)),
        row(Original, TextEncoder, None, File("models_t5_umt5-xxl-enc-bf16.pth")),
        row(Original, Transformer, Some(CONFIG), Stem("", MODEL)),
        row(Original, Vae, None, File("Wan2.1_VAE.pth")),
    ]
};

/// The fields of a `config.json` that tell which network it is of.
#[derive(Deserialize)]
pub(crate) struct Class {
    #[serde(rename = "_class_name", default)]
    pub(crate) class_name: String,
    #[serde(default)]
    pub(crate) model_type: String,
}

impl Layout {
    /// Tells the layout of a model from its files.
    pub(crate) fn detect(files: &ModelFiles) -> Result<Self, Error> {
        if files.has(INDEX) {
            return Ok(Self::Diffusers);
        }
        if files.has(CONFIG) && files.json::<Class>(CONFIG)?.class_name == "WanModel" {
            return Ok(Self::Original);
        }
        let (path, config) = (files.display_path(INDEX), files.display_path(CONFIG));
        Err(ModelError::NotAModel { path, config }.into())
    }

    pub(crate) fn tokenizer(self) -> &'static str {
        match self {
            Self::Diffusers => "tokenizer/tokenizer.json",
            Self::Original => "google/umt5-xxl/tokenizer.json",
        }
    }

    /// The files of a part with weights.
    pub(crate) fn files(self, role: Role) -> PartFiles {
        let row = PLACES.iter().find(|(layout, part, _)| (*layout, *part) == (self, role));
        row.expect("a row for each layout and part with weights").2
    }
}

impl WeightFiles {
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
    pub(crate) fn list(self, files: &ModelFiles) -> Result<Vec<String>, WeightsFileError> {
        match self {
            Self::Stem(folder, stem) => Weights::files(files, folder, stem),
            Self::File(file) => Ok(vec![file.to_owned()]),
        }
    }
}
