//! A model: its files found, its configs validated, before anything is loaded.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;
use wan_core::Backend;
use wan_core::scheduler::SchedulerKind;
use wan_io::files::ModelFiles;
use wan_io::text::Tokenizer;
use wan_models::config::ConfigError;
use wan_models::load::{TensorSource, check};
use wan_models::transformer::{WanTransformer, WanTransformerConfig};
use wan_models::umt5::{Umt5Config, Umt5Encoder};
use wan_models::vae::{WanVae, WanVaeConfig};

use crate::layout::{INDEX, Layout, Network, SCHEDULER, open, open_file};
use crate::{Error, SchedulerConfig};

/// `model_index.json`.
type Index = BTreeMap<String, Value>;

/// Files of single parts, which take the place of those of a model's folder.
#[derive(Debug, Clone, Default)]
pub(crate) struct PartFiles {
    pub(crate) transformer: Option<PathBuf>,
    pub(crate) text_encoder: Option<PathBuf>,
    pub(crate) vae: Option<PathBuf>,
    pub(crate) tokenizer: Option<PathBuf>,
}

/// A model: every config valid and in agreement with the others, every tensor where its config says.
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) scheduler: SchedulerConfig,
    pub(crate) text_encoder: Umt5Config,
    pub(crate) transformer: WanTransformerConfig,
    pub(crate) vae: WanVaeConfig,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) text_encoder_weights: Arc<dyn TensorSource>,
    pub(crate) transformer_weights: Arc<dyn TensorSource>,
    pub(crate) vae_weights: Arc<dyn TensorSource>,
}

impl Model {
    /// Opens a model from its folder, the parts that have files of their own from these. Without a
    /// folder all parts must have one.
    pub(crate) fn open(
        name: String,
        folder: Option<(&ModelFiles, Layout)>,
        parts: &PartFiles,
    ) -> Result<Self, Error> {
        let part = |part: &'static str| folder.ok_or(Error::MissingPart { part });
        let scheduler = match folder {
            Some((files, Layout::Diffusers)) => read_scheduler(files)?,
            _ => original_scheduler(),
        };
        let text_encoder: Network<Umt5Config> = match &parts.text_encoder {
            Some(file) => open_file(file)?,
            None => part("text encoder").and_then(|(files, layout)| open(files, layout))?,
        };
        let transformer: Network<WanTransformerConfig> = match &parts.transformer {
            Some(file) => open_file(file)?,
            None => part("transformer").and_then(|(files, layout)| open(files, layout))?,
        };
        let vae: Network<WanVaeConfig> = match &parts.vae {
            Some(file) => open_file(file)?,
            None => part("vae").and_then(|(files, layout)| open(files, layout))?,
        };
        let (tokenizer, tokenizer_path) = match &parts.tokenizer {
            Some(file) => (Tokenizer::open(file)?, file.display().to_string()),
            None => {
                let (files, layout) = part("tokenizer")?;
                let path = files.display_path(layout.tokenizer());
                let bytes = files.open(layout.tokenizer())?;
                (Tokenizer::from_named_bytes(&bytes, &path)?, path)
            }
        };
        check_agreement(&text_encoder, &transformer, &vae, &tokenizer, &tokenizer_path)?;
        Ok(Self {
            name,
            scheduler,
            text_encoder: text_encoder.config,
            transformer: transformer.config,
            vae: vae.config,
            tokenizer,
            text_encoder_weights: text_encoder.weights,
            transformer_weights: transformer.weights,
            vae_weights: vae.weights,
        })
    }

    /// Compares all weights with the configs; reads no data.
    pub(crate) fn check_weights<B: Backend>(&self, device: &B::Device) -> Result<(), Error> {
        let Self { text_encoder, transformer, vae, .. } = self;
        check::<B, Umt5Encoder<B>>(&self.text_encoder_weights, device, text_encoder)?;
        check::<B, WanTransformer<B>>(&self.transformer_weights, device, transformer)?;
        check::<B, WanVae<B>>(&self.vae_weights, device, vae)?;
        Ok(())
    }
}

/// The scheduler in the layout of diffusers, which must be that of a text-to-video pipeline.
pub(crate) fn read_scheduler(files: &ModelFiles) -> Result<SchedulerConfig, Error> {
    let index = check_index(files)?;
    let scheduler: SchedulerConfig = files.json(SCHEDULER)?;
    at(files, SCHEDULER, scheduler.validate())?;
    check_scheduler(files, &index, &scheduler)?;
    Ok(scheduler)
}

/// The original has no file for it: UniPC with a shift of 5 are the defaults of its `generate.py`.
fn original_scheduler() -> SchedulerConfig {
    SchedulerConfig::default().with_flow_shift(5.0)
}

/// Adds the file to an error about its content.
fn at<T>(files: &ModelFiles, file: &str, result: Result<T, ConfigError>) -> Result<T, Error> {
    result.map_err(|source| Error::Config { path: files.display_path(file), source })
}

/// `model_index.json` must be that of a text-to-video pipeline with the parts that we have.
fn check_index(files: &ModelFiles) -> Result<Index, Error> {
    let index: Index = files.json(INDEX)?;
    let get = |field: &str| index.get(field).unwrap_or(&Value::Null);
    let require = |field: &str, found: &Value, expected: &[&str]| {
        if expected.iter().any(|name| found == name) {
            return Ok(());
        }
        let expected: Vec<String> = expected.iter().map(|name| format!("{name:?}")).collect();
        Err(Error::ModelIndex {
            path: files.display_path(INDEX),
            field: field.into(),
            found: found.to_string(),
            expected: expected.join(" or "),
        })
    };
    require("_class_name", get("_class_name"), &["WanPipeline"])?;
    let schedulers = SchedulerKind::ALL.map(SchedulerKind::class);
    let parts: [(&str, &[&str]); 4] = [
        ("text_encoder", &["UMT5EncoderModel"]),
        ("transformer", &["WanTransformer3DModel"]),
        ("vae", &["AutoencoderKLWan"]),
        ("scheduler", &schedulers),
    ];
    for (part, classes) in parts {
        require(part, get(part).get(1).unwrap_or(&Value::Null), classes)?;
    }
    let absent = |field: &str, found: &Value, what: &str| {
        if found.is_null() || *found == Value::Bool(false) {
            return Ok(());
        }
        Err(Error::ModelIndex {
            path: files.display_path(INDEX),
            field: field.into(),
            found: found.to_string(),
            expected: format!("null: {what} are not supported yet"),
        })
    };
    let second = get("transformer_2");
    absent("transformer_2", second.get(1).unwrap_or(second), "models with two transformers")?;
    absent("boundary_ratio", get("boundary_ratio"), "models with two transformers")?;
    absent("expand_timesteps", get("expand_timesteps"), "models with a timestep for each token")?;
    Ok(index)
}

/// The index and the scheduler's own config must name the same class.
fn check_scheduler(
    files: &ModelFiles,
    index: &Index,
    scheduler: &SchedulerConfig,
) -> Result<(), Error> {
    let (found, class) = (&index["scheduler"][1], scheduler.kind.class());
    if found == class {
        return Ok(());
    }
    Err(Error::ModelIndex {
        path: files.display_path(INDEX),
        field: "scheduler".into(),
        found: found.to_string(),
        expected: format!("{class:?}, as in {}", files.display_path(SCHEDULER)),
    })
}

fn check_agreement(
    text_encoder: &Network<Umt5Config>,
    transformer: &Network<WanTransformerConfig>,
    vae: &Network<WanVaeConfig>,
    tokenizer: &Tokenizer,
    tokenizer_path: &str,
) -> Result<(), Error> {
    let disagree = |path: &str, field, found, other: &str, other_path: &str, expected| {
        let (path, other) = (path.to_owned(), format!("{other} in {other_path}"));
        Err(Error::ConfigsDisagree { path, field, found, other, expected })
    };
    let path = &transformer.path;
    let (found, expected) = (transformer.config.text_dim, text_encoder.config.d_model);
    if found != expected {
        return disagree(path, "text_dim", found, "d_model", &text_encoder.path, expected);
    }
    let (found, expected) = (transformer.config.in_channels, vae.config.z_dim);
    if found != expected {
        return disagree(path, "in_channels", found, "z_dim", &vae.path, expected);
    }
    // The embedding table may have more rows than there are tokens, as that of umT5 has.
    let (found, needed) = (text_encoder.config.vocab_size, tokenizer.max_id() as usize + 1);
    if found < needed {
        let (path, other) = (&text_encoder.path, "the number of tokens");
        return disagree(path, "vocab_size", found, other, tokenizer_path, needed);
    }
    Ok(())
}
