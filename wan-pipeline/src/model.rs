//! The files of a model, validated before anything is loaded.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use wan_core::Backend;
use wan_io::files::ModelFiles;
use wan_io::text::Tokenizer;
use wan_io::weights::Weights;
use wan_models::config::ConfigError;
use wan_models::transformer::{WanTransformer, WanTransformerConfig};
use wan_models::umt5::{Umt5Config, Umt5Encoder};
use wan_models::vae::{WanVae, WanVaeConfig};
use wan_models::weights::{TensorSource, check};

use crate::scheduler_config::Json as SchedulerJson;
use crate::weights::tensor_source;
use crate::{Error, SchedulerConfig, embedded};

const INDEX: &str = "model_index.json";
const SCHEDULER: &str = "scheduler/scheduler_config.json";
const TEXT_ENCODER: &str = "text_encoder/config.json";
const TRANSFORMER: &str = "transformer/config.json";
const VAE: &str = "vae/config.json";
const TOKENIZER: &str = "tokenizer/tokenizer.json";

/// `model_index.json`.
type Index = BTreeMap<String, Value>;

/// A model in the layout of diffusers: every config valid and in agreement with the others, every
/// tensor where its config says.
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
    /// Finds the model `name`: a folder, or one that is compiled in.
    pub(crate) fn open(name: &Path) -> Result<Self, Error> {
        let text = name.to_string_lossy().into_owned();
        let files = match embedded::find(&text) {
            Some(files) if !name.exists() => files,
            _ if name.exists() => ModelFiles::folder(name)?,
            _ => return Err(Error::UnknownModel { name: text, known: embedded::names() }),
        };
        let short = name.file_name().map_or(text.clone(), |n| n.to_string_lossy().into_owned());
        Self::read(&files, short)
    }

    fn read(files: &ModelFiles, name: String) -> Result<Self, Error> {
        if !files.has(INDEX) {
            return Err(Error::NotAModel { path: files.shown(INDEX) });
        }
        let index = check_index(files)?;
        let scheduler: SchedulerJson = files.json(SCHEDULER)?;
        let scheduler = at(files, SCHEDULER, scheduler.into_config())?;
        check_scheduler(files, &index, &scheduler)?;
        if scheduler.dynamic_shifting.is_some() {
            let (found, expected) = ("true".into(), "false".into());
            let source = ConfigError { field: "use_dynamic_shifting", found, expected };
            return at(files, SCHEDULER, Err(source));
        }
        let text_encoder: Umt5Config = files.json(TEXT_ENCODER)?;
        at(files, TEXT_ENCODER, text_encoder.validate())?;
        let transformer: WanTransformerConfig = files.json(TRANSFORMER)?;
        at(files, TRANSFORMER, transformer.validate())?;
        let vae: WanVaeConfig = files.json(VAE)?;
        at(files, VAE, vae.validate())?;
        let tokenizer =
            Tokenizer::from_named_bytes(&files.open(TOKENIZER)?, &files.shown(TOKENIZER))?;
        check_agreement(files, &text_encoder, &transformer, &vae, &tokenizer)?;
        let weights = |folder, stem| Weights::open(files, folder, stem).map(tensor_source);
        Ok(Self {
            name,
            scheduler,
            text_encoder,
            transformer,
            vae,
            tokenizer,
            text_encoder_weights: weights("text_encoder", "model")?,
            transformer_weights: weights("transformer", "diffusion_pytorch_model")?,
            vae_weights: weights("vae", "diffusion_pytorch_model")?,
        })
    }

    /// Compares all weights with the configs; reads no data.
    pub(crate) fn check_weights<B: Backend>(&self, device: &B::Device) -> Result<(), Error> {
        let Self { text_encoder, transformer, vae, .. } = self;
        check::<B, _>(&self.text_encoder_weights, device, |s| Umt5Encoder::load(text_encoder, s))?;
        check::<B, _>(&self.transformer_weights, device, |s| WanTransformer::load(transformer, s))?;
        check::<B, _>(&self.vae_weights, device, |s| WanVae::load(vae, s))?;
        Ok(())
    }
}

/// Adds the file to an error about its content.
fn at<T>(files: &ModelFiles, file: &str, result: Result<T, ConfigError>) -> Result<T, Error> {
    result.map_err(|source| Error::Config { path: files.shown(file), source })
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
            path: files.shown(INDEX),
            field: field.into(),
            found: found.to_string(),
            expected: expected.join(" or "),
        })
    };
    require("_class_name", get("_class_name"), &["WanPipeline"])?;
    let parts: [(&str, &[&str]); 4] = [
        ("text_encoder", &["UMT5EncoderModel"]),
        ("transformer", &["WanTransformer3DModel"]),
        ("vae", &["AutoencoderKLWan"]),
        ("scheduler", &["UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler"]),
    ];
    for (part, classes) in parts {
        require(part, get(part).get(1).unwrap_or(&Value::Null), classes)?;
    }
    let absent = |field: &str, found: &Value, what: &str| {
        if found.is_null() || *found == Value::Bool(false) {
            return Ok(());
        }
        Err(Error::ModelIndex {
            path: files.shown(INDEX),
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
        path: files.shown(INDEX),
        field: "scheduler".into(),
        found: found.to_string(),
        expected: format!("{class:?}, as in {}", files.shown(SCHEDULER)),
    })
}

fn check_agreement(
    files: &ModelFiles,
    text_encoder: &Umt5Config,
    transformer: &WanTransformerConfig,
    vae: &WanVaeConfig,
    tokenizer: &Tokenizer,
) -> Result<(), Error> {
    let disagree = |file: &str, field, found, (other_file, other), expected| {
        let other = format!("{other} in {}", files.shown(other_file));
        Err(Error::ConfigsDisagree { path: files.shown(file), field, found, other, expected })
    };
    let (found, expected) = (transformer.text_dim, text_encoder.d_model);
    if found != expected {
        return disagree(TRANSFORMER, "text_dim", found, (TEXT_ENCODER, "d_model"), expected);
    }
    let (found, expected) = (transformer.in_channels, vae.z_dim);
    if found != expected {
        return disagree(TRANSFORMER, "in_channels", found, (VAE, "z_dim"), expected);
    }
    // The embedding table may have more rows than there are tokens, as that of umT5 has.
    let (found, needed) = (text_encoder.vocab_size, tokenizer.max_id() as usize + 1);
    if found < needed {
        return disagree(
            TEXT_ENCODER,
            "vocab_size",
            found,
            (TOKENIZER, "the number of tokens"),
            needed,
        );
    }
    Ok(())
}
