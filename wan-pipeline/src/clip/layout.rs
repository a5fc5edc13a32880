//! Where the parts of a CLIP lie in its folder, and what its config says.

use serde::Deserialize;
use wan_core::config::ConfigError;
use wan_io::files::ModelFiles;
use wan_io::image::{ClipPreprocess, ClipResize, Filter};
use wan_models::clip::{ClipConfig, Pooling, TextConfig};
use wan_models::load::{NetworkConfig, TensorSource};

use crate::components::read_config;
use crate::layout::{CONFIG, PartFiles, WeightFiles};
use crate::source::NeededFiles;
use crate::{Error, ModelError};

const PREPROCESSOR: &str = "preprocessor_config.json";
const OPEN_CLIP_CONFIG: &str = "open_clip_config.json";

/// How the files of a CLIP are arranged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClipLayout {
    /// `config.json` of a `CLIPModel` or an `AltCLIPModel`, as transformers has it.
    Transformers,
    /// `open_clip_config.json`.
    OpenClip,
    /// The CLIP beside the original image-to-video models of Wan: its tensors tell its config, and the tokenizer has a
    /// folder of its own.
    Wan,
}

impl ClipLayout {
    /// Tells the layout from the files of a folder or a repository.
    pub(super) fn among(has: impl Fn(&str) -> bool) -> Self {
        let is_there = |weights| PartFiles { config: None, weights }.are_among(&has);
        if is_there(WeightFiles::WAN_CLIP) {
            Self::Wan
        } else if has(OPEN_CLIP_CONFIG) && !has(CONFIG) {
            Self::OpenClip
        } else {
            Self::Transformers
        }
    }

    /// The files that are read, of a model that `has` some.
    pub(super) fn needed(self, has: impl Fn(&str) -> bool) -> NeededFiles {
        let small: &[&str] = match self {
            Self::Transformers => &[CONFIG, PREPROCESSOR, self.tokenizer()],
            Self::OpenClip => &[OPEN_CLIP_CONFIG, self.tokenizer()],
            Self::Wan => &[self.tokenizer()],
        };
        NeededFiles {
            small: small.iter().map(|&file| file.to_owned()).collect(),
            weights: vec![self.weights(has)],
        }
    }

    pub(super) fn tokenizer(self) -> &'static str {
        match self {
            Self::Transformers | Self::OpenClip => "tokenizer.json",
            Self::Wan => "xlm-roberta-large/tokenizer.json",
        }
    }

    pub(super) fn weights(self, has: impl Fn(&str) -> bool) -> WeightFiles {
        const OLD: WeightFiles = WeightFiles::new("", "open_clip_pytorch_model", "bin");
        match self {
            Self::Transformers => WeightFiles::new("", "model", "safetensors"),
            Self::OpenClip if PartFiles { config: None, weights: OLD }.are_among(has) => OLD,
            Self::OpenClip => WeightFiles::new("", "open_clip_model", "safetensors"),
            Self::Wan => WeightFiles::WAN_CLIP,
        }
    }

    /// Refuses what the configs say before weights are there.
    pub(super) fn check(self, files: &ModelFiles) -> Result<(), Error> {
        match self {
            Self::Transformers => read_config::<ClipConfig>(files, CONFIG).map(drop),
            Self::OpenClip => Ok(files.json::<OpenClip>(OPEN_CLIP_CONFIG).map(drop)?),
            Self::Wan => Ok(()),
        }
    }

    /// The config, how messages name it, and how images are prepared.
    pub(super) fn read(
        self,
        files: &ModelFiles,
        tensors: &dyn TensorSource,
    ) -> Result<(ClipConfig, String, ClipPreprocess), Error> {
        match self {
            Self::Transformers => {
                let config = read_config(files, CONFIG)?;
                let preprocess = preprocess(files, &config)?;
                Ok((config, files.display_path(CONFIG), preprocess))
            }
            Self::OpenClip => {
                let open_clip: OpenClip = files.json(OPEN_CLIP_CONFIG)?;
                let config = open_clip.config(ClipConfig::infer(tensors)?);
                let path = files.display_path(OPEN_CLIP_CONFIG);
                let checked = open_clip.check_pooler(&config).and_then(|()| config.validate());
                if let Err(source) = checked {
                    return Err(ModelError::Config { path, source }.into());
                }
                let preprocess = open_clip.preprocess(config.vision_config.image_size as u32);
                Ok((config, path, preprocess))
            }
            Self::Wan => {
                let config = ClipConfig::infer(tensors)?;
                let preprocess = ClipPreprocess::original(config.vision_config.image_size as u32);
                Ok((config, crate::components::inferred(tensors), preprocess))
            }
        }
    }
}

/// How images are prepared, which must give the size that the vision tower takes.
fn preprocess(files: &ModelFiles, config: &ClipConfig) -> Result<ClipPreprocess, Error> {
    let preprocess: ClipPreprocess = files.json(PREPROCESSOR)?;
    let exact = match preprocess.resize {
        Some(ClipResize::Exact(size, _)) => Some(size),
        _ => None,
    };
    let (found, side) = (preprocess.crop.or(exact), config.vision_config.image_size);
    match found.into_iter().flatten().find(|&found| found as usize != side) {
        None => Ok(preprocess),
        Some(found) => Err(ModelError::ConfigsDisagree {
            path: files.display_path(PREPROCESSOR),
            field: "crop_size",
            found: found as usize,
            other: format!("image_size in {}", files.display_path(CONFIG)),
            expected: side,
        }
        .into()),
    }
}

/// `open_clip_config.json`: of it, what the shapes of the tensors do not tell.
#[derive(Deserialize)]
struct OpenClip {
    model_cfg: Model,
    #[serde(default, rename = "preprocess_cfg")]
    preprocess: Preprocess,
}

#[derive(Deserialize)]
struct Model {
    #[serde(default)]
    quick_gelu: bool,
    vision_cfg: Vision,
    text_cfg: Text,
}

#[derive(Deserialize)]
struct Vision {
    head_width: Option<usize>,
}

#[derive(Deserialize)]
struct Text {
    heads: Option<usize>,
    #[serde(alias = "hf_pooler_type")]
    pooler_type: Option<String>,
}

#[derive(Deserialize, Default)]
struct Preprocess {
    mean: Option<[f32; 3]>,
    std: Option<[f32; 3]>,
    interpolation: Option<String>,
    resize_mode: Option<String>,
}

impl OpenClip {
    /// The config that the tensors tell, with what they do not.
    fn config(&self, mut config: ClipConfig) -> ClipConfig {
        let Model { quick_gelu, vision_cfg, text_cfg } = &self.model_cfg;
        let vision = &mut config.vision_config;
        if let Some(width) = vision_cfg.head_width.filter(|&width| width > 0) {
            vision.num_attention_heads = vision.hidden_size / width;
        }
        let takes_first_token =
            text_cfg.pooler_type.as_deref().is_some_and(|pooler| pooler.starts_with("cls"));
        let activation = if *quick_gelu { "quick_gelu" } else { "gelu" };
        vision.hidden_act = activation.into();
        match &mut config.text_config {
            TextConfig::Clip(text) => {
                text.hidden_act = activation.into();
                text.num_attention_heads = text_cfg.heads.unwrap_or(text.num_attention_heads);
            }
            TextConfig::XlmRoberta(text) if takes_first_token => text.pooling = Pooling::FirstToken,
            _ => {}
        }
        config
    }

    /// Refuses ways to make one state of an XLM-RoBERTa's that are not known.
    fn check_pooler(&self, config: &ClipConfig) -> Result<(), ConfigError> {
        let is_known = |pooler: &str| pooler.starts_with("cls") || pooler.starts_with("mean");
        match (&config.text_config, &self.model_cfg.text_cfg.pooler_type) {
            (TextConfig::XlmRoberta(_), Some(pooler)) if !is_known(pooler) => Err(ConfigError {
                field: "text_cfg.pooler_type",
                found: format!("{pooler:?}"),
                expected: "\"mean_pooler\", \"cls_pooler\" or \"cls_last_hidden_state_pooler\""
                    .into(),
            }),
            _ => Ok(()),
        }
    }

    /// To a square of this side.
    fn preprocess(&self, side: u32) -> ClipPreprocess {
        let Preprocess { mean, std, interpolation, resize_mode } = &self.preprocess;
        let filter = match interpolation.as_deref() {
            Some("bilinear") => Filter::Bilinear,
            _ => Filter::Bicubic,
        };
        let mut preprocess = ClipPreprocess::default();
        preprocess.mean = mean.unwrap_or(preprocess.mean);
        preprocess.deviation = std.unwrap_or(preprocess.deviation);
        (preprocess.resize, preprocess.crop) = match resize_mode.as_deref() {
            Some("squash") => (Some(ClipResize::Exact([side; 2], filter)), None),
            _ => (Some(ClipResize::ShortestEdge(side, filter)), Some([side; 2])),
        };
        preprocess
    }
}
