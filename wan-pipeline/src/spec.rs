//! The task of a model, told from its index, and what may be its parts.

use std::collections::BTreeMap;

use serde_json::Value;
use wan_core::config::ConfigError;
use wan_core::scheduler::{SchedulerConfig, SchedulerKind};
use wan_io::files::ModelFiles;
use wan_models::kind::CheckpointKind;
use wan_models::load::TensorSource;

use crate::layout::{INDEX, Layout, SCHEDULER};
use crate::{Error, ModelError, Role};

/// The input that a model makes a video of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Task {
    /// A prompt, and perhaps a video to start from.
    TextToVideo,
}

/// The properties of a model beside its networks.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelSpec {
    /// The input that it makes a video of.
    pub task: Task,
    /// How the flow is integrated unless a request says otherwise; or why the model does not say it in a
    /// way that can be followed: a request must name a scheduler then.
    pub scheduler: Result<SchedulerConfig, String>,
}

/// Classes of pipelines in `model_index.json`, and what they are for. The pipeline for video to video has
/// the parts of that for text.
const PIPELINES: [(&str, Task); 3] = [
    ("WanPipeline", Task::TextToVideo),
    ("WanVideoToVideoPipeline", Task::TextToVideo),
    (FEW_STEPS, Task::TextToVideo),
];

/// The pipeline of models that were distilled to few steps (FastWan). What lies in their `scheduler` is
/// left over from the model that they were made from.
const FEW_STEPS: &str = "WanDMDPipeline";

/// Beginnings of classes of other pipelines of the family, and what those are for.
const OTHER_PIPELINES: [(&str, &str); 14] = [
    ("WanImageToVideo", "image-to-video models"),
    ("WanVACE", "models for control and editing (VACE)"),
    ("WanAnimate", "character animation models (Animate)"),
    ("WanSpeechToVideo", "speech-to-video models (S2V)"),
    ("WanS2V", "speech-to-video models (S2V)"),
    ("WanCausal", "causal models, which make a video piece by piece"),
    ("WanFun", "control models (Fun)"),
    ("WanDancer", "music-to-dance models (Dancer)"),
    ("LucyEdit", "video editing models (Lucy Edit)"),
    ("ChronoEdit", "image editing models (ChronoEdit)"),
    ("SkyReelsV2", "SkyReels V2 models"),
    ("LongCat", "LongCat-Video models"),
    ("Phantom", "models with pictures as references (Phantom)"),
    ("Helios", "Helios models"),
];

/// A part that a pipeline must have.
struct Part {
    role: Role,
    /// Its field in `model_index.json`.
    field: &'static str,
    /// The classes that it may be of.
    classes: &'static [&'static str],
    /// The kinds of weights that it may have.
    kinds: &'static [CheckpointKind],
}

const PARTS: [Part; 3] = [
    Part {
        role: Role::TextEncoder,
        field: "text_encoder",
        classes: &["UMT5EncoderModel"],
        kinds: &[CheckpointKind::Umt5],
    },
    Part {
        role: Role::Transformer,
        field: "transformer",
        classes: &["WanTransformer3DModel"],
        kinds: &[CheckpointKind::TextToVideo, CheckpointKind::FastWan],
    },
    Part {
        role: Role::Vae,
        field: "vae",
        classes: &["AutoencoderKLWan"],
        kinds: &[CheckpointKind::Vae21],
    },
];

/// Fields that only pipelines of other kinds have, and what those are.
const ABSENT: [(&str, &str); 3] = [
    ("transformer_2", "models with two transformers (Wan 2.2 A14B)"),
    ("boundary_ratio", "models with two transformers (Wan 2.2 A14B)"),
    ("expand_timesteps", "models with a timestep for each token (Wan 2.2 TI2V-5B)"),
];

/// Refuses weights for a part that are known to be something else. Those of a kind that nobody knows
/// pass: what is wrong with them shows when they are compared with the config.
pub(crate) fn check_kind(weights: &dyn TensorSource, role: Role) -> Result<(), ModelError> {
    let path = weights.origin();
    let kinds = CheckpointKind::of_source(weights).into_iter().map(|kind| kind.at_path(&path));
    let kinds: Vec<CheckpointKind> = kinds.collect();
    let role_of = |kind| PARTS.iter().find(|part| part.kinds.contains(&kind)).map(|part| part.role);
    let Some(&kind) = kinds.first() else { return Ok(()) };
    if kinds.iter().any(|&kind| role_of(kind) == Some(role)) {
        return Ok(());
    }
    let expected = PARTS.iter().find(|part| part.role == role).map(|part| part.kinds[0]);
    let problem = match (kind, role_of(kind), expected) {
        (CheckpointKind::Lora | CheckpointKind::Lycoris, ..) => {
            ", not a whole model; such adapters are not supported yet".into()
        }
        (_, Some(own), _) => format!(", not a {role}; give it as the {own}"),
        (_, None, Some(expected)) => {
            format!(", which is not supported yet; the {role} must be {expected}")
        }
        (_, None, None) => return Ok(()),
    };
    Err(ModelError::OtherKind { path, kind, problem })
}

/// Refuses the class in the `config.json` of a model in the original layout, if it is known to be that of
/// another model of the family.
pub(crate) fn check_class(path: &str, class_name: &str) -> Result<(), ModelError> {
    let Some(kind) = CheckpointKind::of_class(class_name) else { return Ok(()) };
    let expected = format!("\"WanModel\": this is {kind}, which is not supported yet");
    let source = ConfigError { field: "_class_name", found: format!("{class_name:?}"), expected };
    Err(ModelError::Config { path: path.to_owned(), source })
}

impl ModelSpec {
    /// Reads the spec of a model in a folder.
    pub(crate) fn read(files: &ModelFiles, layout: Layout) -> Result<Self, Error> {
        match layout {
            Layout::Diffusers => Self::read_index(files),
            Layout::Original => Ok(Self::original()),
        }
    }

    /// The original has no file for it: UniPC with a shift of 5 are the defaults of its `generate.py`.
    pub(crate) fn original() -> Self {
        let scheduler = SchedulerConfig::default().with_flow_shift(5.0);
        Self { task: Task::TextToVideo, scheduler: Ok(scheduler) }
    }

    fn read_index(files: &ModelFiles) -> Result<Self, Error> {
        let index = Index { files, fields: files.json(INDEX)? };
        let task = index.task()?;
        for Part { field, classes, .. } in PARTS {
            index.require_part(field, classes)?;
        }
        ABSENT.into_iter().try_for_each(|(field, what)| index.require_absent(field, what))?;
        if files.has(SCHEDULER) {
            files.json::<BTreeMap<String, Value>>(SCHEDULER)?; // damaged files are refused
        }
        Ok(Self { task, scheduler: index.scheduler() })
    }
}

/// `model_index.json`.
struct Index<'a> {
    files: &'a ModelFiles,
    fields: BTreeMap<String, Value>,
}

impl Index<'_> {
    fn get(&self, field: &str) -> &Value {
        self.fields.get(field).unwrap_or(&Value::Null)
    }

    /// The class of a part, which stands behind its library.
    fn class(&self, part: &str) -> &Value {
        self.get(part).get(1).unwrap_or(&Value::Null)
    }

    fn task(&self) -> Result<Task, Error> {
        let class = self.get("_class_name");
        if let Some((_, task)) = PIPELINES.iter().find(|(name, _)| class == name) {
            return Ok(*task);
        }
        let is_of =
            |row: &&(&str, &str)| class.as_str().is_some_and(|name| name.starts_with(row.0));
        let expected = match OTHER_PIPELINES.iter().find(is_of) {
            Some((_, what)) => format!("\"WanPipeline\": {what} are not supported yet"),
            None => "\"WanPipeline\"".into(),
        };
        Err(self.error("_class_name", class, expected))
    }

    fn require_part(&self, part: &str, expected: &[&str]) -> Result<(), Error> {
        let found = self.class(part);
        if expected.iter().any(|name| found == name) {
            return Ok(());
        }
        let mut expected = names(expected);
        if let Some(kind) = found.as_str().and_then(CheckpointKind::of_class) {
            expected += &format!(": this is {kind}, which is not supported yet");
        }
        Err(self.error(part, found, expected))
    }

    fn require_absent(&self, field: &str, what: &str) -> Result<(), Error> {
        let field_value = self.get(field);
        let found = field_value.get(1).unwrap_or(field_value);
        if found.is_null() || *found == Value::Bool(false) {
            return Ok(());
        }
        Err(self.error(field, found, format!("null or false: {what} are not supported yet")))
    }

    /// The scheduler's own config, which must be of the class that the index names; or why there is
    /// none that can be used.
    fn scheduler(&self) -> Result<SchedulerConfig, String> {
        if self.get("_class_name") == FEW_STEPS {
            let path = self.files.display_path(INDEX);
            return Err(format!("{path}: a {FEW_STEPS} does not describe its sampler"));
        }
        let (found, known) =
            (self.class("scheduler"), SchedulerKind::ALL.map(SchedulerKind::class));
        if !known.iter().any(|class| found == class) {
            return Err(self.error("scheduler", found, names(&known)).to_string());
        }
        let scheduler: SchedulerConfig =
            self.files.json(SCHEDULER).map_err(|error| error.to_string())?;
        let path = self.files.display_path(SCHEDULER);
        scheduler.validate().map_err(|error| format!("{path}: {error}"))?;
        let class = scheduler.kind.class();
        if found != class {
            let expected = format!("{class:?}, as in {path}");
            return Err(self.error("scheduler", found, expected).to_string());
        }
        Ok(scheduler)
    }

    fn error(&self, field: &str, found: &Value, expected: String) -> Error {
        let path = self.files.display_path(INDEX);
        let (field, found) = (field.into(), found.to_string());
        ModelError::Index { path, field, found, expected }.into()
    }
}

/// Names that are right, for a message.
fn names(expected: &[&str]) -> String {
    let quoted: Vec<String> = expected.iter().map(|name| format!("{name:?}")).collect();
    quoted.join(" or ")
}
