//! Where the parts of a model lie in its folder.
//!
//! Two layouts are published: that of diffusers (`model_index.json`, a folder for each part) and that
//! of the original repository (`config.json` of a `WanModel`, the other parts as `.pth` beside it), where two
//! experts lie in folders of their own.

use serde::Deserialize;
use wan_io::files::ModelFiles;
use wan_io::weights::{Weights, WeightsFileError};
use wan_models::transformer::OriginalConfig;

use crate::spec::check_class;
use crate::{Error, ModelError, Role};

pub(crate) const INDEX: &str = "model_index.json";
pub(crate) const SCHEDULER: &str = "scheduler/scheduler_config.json";
pub(crate) const PREPROCESSOR: &str = "image_processor/preprocessor_config.json";
pub(crate) const CONFIG: &str = "config.json";
const HIGH_NOISE_CONFIG: &str = "high_noise_model/config.json";
const LOW_NOISE_CONFIG: &str = "low_noise_model/config.json";

/// The CLIP of the original image-to-video models of Wan 2.1: both towers, of which they use the one for images.
const WAN_CLIP: &str = "models_clip_open-clip-xlm-roberta-large-vit-huge-14";

/// How the files of a model are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Layout {
    /// `model_index.json` and a folder for each part.
    Diffusers,
    /// `config.json` of a `WanModel`.
    Original,
    /// The same for each of two experts, in folders of their own.
    OriginalExperts,
}

/// The files of a part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PartFiles {
    /// Its config, if it has one.
    pub(crate) config: Option<&'static str>,
    pub(crate) weights: WeightFiles,
}

/// The weights of a part: files of this name in this folder, in one of the forms that
/// [`Weights::open`] knows.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WeightFiles {
    /// Empty for the model's top folder.
    folder: &'static str,
    stem: &'static str,
    /// How the file ends that the model's makers publish.
    ending: &'static str,
}

/// The places of files: for each layout and part with weights a row, or several, of which the first counts whose
/// files are there. A part without a row is one that models of the layout have not.
const PLACES: [(Layout, Role, PartFiles); 14] = {
    use Layout::{Diffusers, Original, OriginalExperts};
    use Role::{ImageEncoder, TextEncoder, Transformer, Transformer2, Vae};
    const fn row(
        layout: Layout,
        role: Role,
        config: Option<&'static str>,
        [folder, stem, ending]: [&'static str; 3],
    ) -> (Layout, Role, PartFiles) {
        (layout, role, PartFiles { config, weights: WeightFiles { folder, stem, ending } })
    }
    const TEXT_ENCODER: [&str; 3] = ["text_encoder", "model", "safetensors"];
    const IMAGE_ENCODER: [&str; 3] = ["image_encoder", "model", "safetensors"];
    const TRANSFORMER: [&str; 3] = ["transformer", "diffusion_pytorch_model", "safetensors"];
    const VAE: [&str; 3] = ["vae", "diffusion_pytorch_model", "safetensors"];
    const TRANSFORMER_2: [&str; 3] = ["transformer_2", "diffusion_pytorch_model", "safetensors"];
    const ORIGINAL_TEXT_ENCODER: [&str; 3] = ["", "models_t5_umt5-xxl-enc-bf16", "pth"];
    const ORIGINAL_IMAGE_ENCODER: [&str; 3] = ["", WAN_CLIP, "pth"];
    const ORIGINAL_TRANSFORMER: [&str; 3] = ["", "diffusion_pytorch_model", "safetensors"];
    const HIGH_NOISE: [&str; 3] = ["high_noise_model", "diffusion_pytorch_model", "safetensors"];
    const LOW_NOISE: [&str; 3] = ["low_noise_model", "diffusion_pytorch_model", "safetensors"];
    const VAE_21: [&str; 3] = ["", "Wan2.1_VAE", "pth"];
    const VAE_22: [&str; 3] = ["", "Wan2.2_VAE", "pth"];
    [
        row(Diffusers, TextEncoder, Some("text_encoder/config.json"), TEXT_ENCODER),
        row(Diffusers, ImageEncoder, Some("image_encoder/config.json"), IMAGE_ENCODER),
        row(Diffusers, Transformer, Some("transformer/config.json"), TRANSFORMER),
        row(Diffusers, Transformer2, Some("transformer_2/config.json"), TRANSFORMER_2),
        row(Diffusers, Vae, Some("vae/config.json"), VAE),
        row(Original, TextEncoder, None, ORIGINAL_TEXT_ENCODER),
        row(Original, ImageEncoder, None, ORIGINAL_IMAGE_ENCODER),
        row(Original, Transformer, Some(CONFIG), ORIGINAL_TRANSFORMER),
        row(Original, Vae, None, VAE_21),
        row(Original, Vae, None, VAE_22),
        row(OriginalExperts, TextEncoder, None, ORIGINAL_TEXT_ENCODER),
        row(OriginalExperts, Transformer, Some(HIGH_NOISE_CONFIG), HIGH_NOISE),
        row(OriginalExperts, Transformer2, Some(LOW_NOISE_CONFIG), LOW_NOISE),
        row(OriginalExperts, Vae, None, VAE_21),
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
        for (layout, config) in [
            (Self::Original, CONFIG),
            (Self::OriginalExperts, HIGH_NOISE_CONFIG),
            (Self::OriginalExperts, LOW_NOISE_CONFIG),
        ] {
            if files.has(config) {
                let Class { class_name, .. } = files.json(config)?;
                if OriginalConfig::is_class(&class_name) {
                    return Ok(layout);
                }
                check_class(&files.display_path(config), &class_name)?;
            }
        }
        let (path, config) = (files.display_path(INDEX), files.display_path(CONFIG));
        Err(ModelError::NotAModel { path, config }.into())
    }

    /// The layout that the names of a repository's files tell.
    #[cfg(feature = "hub")]
    pub(crate) fn among(has: impl Fn(&str) -> bool) -> Self {
        let has_expert = has(HIGH_NOISE_CONFIG) || has(LOW_NOISE_CONFIG);
        match (has(INDEX), has_expert && !has(CONFIG)) {
            (true, _) => Self::Diffusers,
            (false, true) => Self::OriginalExperts,
            (false, false) => Self::Original,
        }
    }

    fn tokenizer(self) -> &'static str {
        match self {
            Self::Diffusers => "tokenizer/tokenizer.json",
            Self::Original | Self::OriginalExperts => "google/umt5-xxl/tokenizer.json",
        }
    }

    /// The file of the tokenizer in a model that `has` some files: a SentencePiece model where there is no
    /// other.
    pub(crate) fn tokenizer_among(self, has: impl Fn(&str) -> bool) -> &'static str {
        let sentencepiece = match self {
            Self::Diffusers => "tokenizer/spiece.model",
            Self::Original | Self::OriginalExperts => "google/umt5-xxl/spiece.model",
        };
        if !has(self.tokenizer()) && has(sentencepiece) { sentencepiece } else { self.tokenizer() }
    }

    /// The files of a part in a model that `has` some files: those that its makers publish where none of the
    /// known ones are there; `None` for a part that models of the layout have not.
    pub(crate) fn files(self, role: Role, has: impl Fn(&str) -> bool) -> Option<PartFiles> {
        let mut rows = self.rows(role);
        rows.clone().find(|files| files.are_among(&has)).or_else(|| rows.next())
    }

    /// Whether the files of a part are there.
    pub(crate) fn has_part(self, role: Role, has: impl Fn(&str) -> bool) -> bool {
        self.rows(role).any(|files| files.are_among(&has))
    }

    fn rows(self, role: Role) -> impl Iterator<Item = PartFiles> + Clone {
        let row = move |row: &&(Layout, Role, PartFiles)| (row.0, row.1) == (self, role);
        PLACES.iter().filter(row).map(|(_, _, files)| *files)
    }
}

impl PartFiles {
    /// The file that is looked for first.
    #[cfg(feature = "hub")]
    pub(crate) fn first(&self) -> String {
        self.config.map_or_else(|| self.weights.file(), str::to_owned)
    }

    /// Whether its config is there, or its weights if it has none.
    pub(crate) fn are_among(&self, has: impl Fn(&str) -> bool) -> bool {
        let WeightFiles { folder, stem, .. } = self.weights;
        let folder = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        match self.config {
            Some(config) => has(config),
            None => ["pth", "bin", "safetensors", "safetensors.index.json"]
                .iter()
                .any(|ending| has(&format!("{folder}{stem}.{ending}"))),
        }
    }
}

impl WeightFiles {
    /// Those of the CLIP beside the original image-to-video models of Wan 2.1.
    pub(crate) const WAN_CLIP: Self = Self::new("", WAN_CLIP, "pth");

    /// Files that are called `stem` in `folder`, which is empty for the model's top folder.
    pub(crate) const fn new(
        folder: &'static str,
        stem: &'static str,
        ending: &'static str,
    ) -> Self {
        Self { folder, stem, ending }
    }

    /// Opens them in a folder that holds nothing but this part.
    pub(crate) fn open_alone(self, files: &ModelFiles) -> Result<Weights, WeightsFileError> {
        Weights::open(files, "", self.stem)
    }

    pub(crate) fn open(self, files: &ModelFiles) -> Result<Weights, WeightsFileError> {
        Weights::open(files, self.folder, self.stem).map_err(|error| self.missing(files, error))
    }

    /// The files that hold them, read from the index if there is one.
    pub(crate) fn list(self, files: &ModelFiles) -> Result<Vec<String>, WeightsFileError> {
        Weights::files(files, self.folder, self.stem).map_err(|error| self.missing(files, error))
    }

    /// The folder that they are in.
    #[cfg(feature = "hub")]
    pub(crate) fn folder(self) -> &'static str {
        self.folder
    }

    /// The files to download before [`list`](Self::list) can tell all; `names` are those in their
    /// folder. If none of these are weights, the file that should be there.
    #[cfg(feature = "hub")]
    pub(crate) fn list_first(self, names: &[String]) -> Result<Vec<String>, WeightsFileError> {
        let found = Weights::files_among(names, self.folder, self.stem)?;
        Ok(found.unwrap_or_else(|| vec![self.file()]))
    }

    /// The file that the model's makers publish.
    fn file(self) -> String {
        let Self { folder, stem, ending } = self;
        if folder.is_empty() {
            format!("{stem}.{ending}")
        } else {
            format!("{folder}/{stem}.{ending}")
        }
    }

    /// The error where nothing is there names the file that the makers publish.
    fn missing(self, files: &ModelFiles, error: WeightsFileError) -> WeightsFileError {
        match error {
            WeightsFileError::NotFound { index, other, .. } => {
                WeightsFileError::NotFound { path: files.display_path(&self.file()), index, other }
            }
            error => error,
        }
    }
}
