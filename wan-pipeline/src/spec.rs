//! The task of a model, told from its index, and what may be its parts.

use std::collections::BTreeMap;

use serde_json::Value;
use wan_core::config::ConfigError;
use wan_core::scheduler::{SchedulerConfig, SchedulerKind};
use wan_io::files::ModelFiles;
use wan_models::kind::{CheckpointKind, is_of_expert};
use wan_models::load::TensorSource;
use wan_models::transformer::WanTransformerConfig;
use wan_models::vae::WanVaeConfig;

use crate::components::Component;
use crate::layout::{INDEX, Layout, SCHEDULER};
use crate::{Error, ModelError, Role, Task};

/// The properties of a model beside its networks.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct ModelSpec {
    /// The input that it makes a video of.
    pub task: Task,
    /// Of a model with two experts, the part of the noise at which the second takes over: steps whose timestep
    /// is less than 1000 times this are its.
    pub boundary: Option<f64>,
    /// How the flow is integrated unless a request says otherwise; or why the model does not say it in a
    /// way that can be followed: a request must name a scheduler then.
    pub scheduler: Result<SchedulerConfig, String>,
}

/// Classes of pipelines in `model_index.json`. What a model of theirs can do, its transformer tells: the pipeline
/// for video to video has the parts of that for text.
const PIPELINES: [&str; 7] = [
    "WanPipeline",
    "WanVideoToVideoPipeline",
    "WanImageToVideoPipeline",
    "WanVACEPipeline",
    "LucyEditPipeline",
    FEW_STEPS[0],
    FEW_STEPS[1],
];

/// The pipelines of models that were distilled to few steps (FastWan, and SFWan, which is causal). What lies in their
/// `scheduler` is left over from the model that they were made from.
const FEW_STEPS: [&str; 2] = ["WanDMDPipeline", "WanCausalDMDPipeline"];

/// Beginnings of classes of other pipelines of the family, and what those are for.
const OTHER_PIPELINES: [(&str, &str); 10] = [
    ("WanAnimate", "character animation models (Animate)"),
    ("WanSpeechToVideo", "speech-to-video models (S2V)"),
    ("WanS2V", "speech-to-video models (S2V)"),
    ("WanFun", "control models (Fun)"),
    ("WanDancer", "music-to-dance models (Dancer)"),
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

/// The kinds of transformers that can be run.
const TRANSFORMERS: &[CheckpointKind] = &[
    CheckpointKind::TextToVideo,
    CheckpointKind::FastWan,
    CheckpointKind::TextToVideoExpert,
    CheckpointKind::ImageToVideo,
    CheckpointKind::ImageToVideoExpert,
    CheckpointKind::FirstLastFrame,
    CheckpointKind::TextImageToVideo,
    CheckpointKind::Vace,
    CheckpointKind::FunControl,
    CheckpointKind::LucyEdit,
    CheckpointKind::CausalAr,
];
const TRANSFORMER_CLASSES: &[&str] =
    &["WanTransformer3DModel", "WanVACETransformer3DModel", "CausalWanTransformer3DModel"];

const PARTS: [Part; 5] = [
    Part {
        role: Role::TextEncoder,
        field: "text_encoder",
        classes: &["UMT5EncoderModel"],
        kinds: &[CheckpointKind::Umt5],
    },
    Part {
        role: Role::ImageEncoder,
        field: "image_encoder",
        classes: &["CLIPVisionModel", "CLIPVisionModelWithProjection"],
        kinds: &[CheckpointKind::Clip],
    },
    Part {
        role: Role::Transformer,
        field: "transformer",
        classes: TRANSFORMER_CLASSES,
        kinds: TRANSFORMERS,
    },
    Part {
        role: Role::Transformer2,
        field: "transformer_2",
        classes: TRANSFORMER_CLASSES,
        kinds: TRANSFORMERS,
    },
    Part {
        role: Role::Vae,
        field: "vae",
        classes: &["AutoencoderKLWan"],
        kinds: &[CheckpointKind::Vae21, CheckpointKind::Vae22],
    },
];

/// Refuses weights for a part that are known to be something else. Those of a kind that nobody knows
/// pass: what is wrong with them shows when they are compared with the config.
/// One of two experts is refused where the other is missing: alone it makes half of a video.
pub(crate) fn check_kind(
    weights: &dyn TensorSource,
    role: Role,
    has_experts: bool,
) -> Result<(), ModelError> {
    let path = weights.origin();
    let kinds = CheckpointKind::of_source(weights).into_iter().map(|kind| kind.at_path(&path));
    let kinds: Vec<CheckpointKind> = kinds.collect();
    let part_of = |kind| PARTS.iter().filter(move |part| part.kinds.contains(&kind));
    let role_of = |kind| part_of(kind).next().map(|part| part.role);
    let Some(&kind) = kinds.first() else { return Ok(()) };
    if role == Role::Transformer && !has_experts && is_of_expert(&path) {
        let problem = "; give the other as the second transformer".into();
        return Err(ModelError::OtherKind { path, kind, problem });
    }
    if kinds.iter().any(|&kind| part_of(kind).any(|part| part.role == role)) {
        return Ok(());
    }
    let expected = PARTS.iter().find(|part| part.role == role).map(|part| part.kinds[0]);
    let problem = match (kind, role_of(kind), expected) {
        (CheckpointKind::Lora | CheckpointKind::Lycoris, ..) => {
            ", not a whole model; such adapters are not supported yet".into()
        }
        (_, Some(own), _) => format!(", not {} {role}; give it as the {own}", role.article()),
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

/// The content of the files that describe a model as a whole.
#[derive(Debug)]
pub(crate) struct Description {
    /// See [`ModelSpec::scheduler`].
    pub(crate) scheduler: Result<SchedulerConfig, String>,
    /// Whether there are two experts.
    pub(crate) has_experts: bool,
    /// Where the second takes over, if it is said.
    pub(crate) boundary: Option<f64>,
    /// Whether each token has a timestep of its own, if it is said.
    pub(crate) expands_timesteps: Option<bool>,
}

impl Description {
    /// Reads that of a model in a folder.
    pub(crate) fn read(files: &ModelFiles, layout: Layout) -> Result<Self, Error> {
        match layout {
            Layout::Diffusers => Self::read_index(files),
            Layout::Original => Ok(Self::original(false)),
            Layout::OriginalExperts => Ok(Self::original(true)),
        }
    }

    /// The original has no file for it: UniPC with a shift of 5 are the defaults of its `generate.py`.
    pub(crate) fn original(has_experts: bool) -> Self {
        let scheduler = Ok(SchedulerConfig::default().with_flow_shift(5.0));
        Self { scheduler, has_experts, boundary: None, expands_timesteps: None }
    }

    fn read_index(files: &ModelFiles) -> Result<Self, Error> {
        let index = Index { files, fields: files.json(INDEX)? };
        index.check_class()?;
        for Part { field, classes, role, .. } in PARTS {
            if !role.is_optional() || !index.class(field).is_null() {
                index.require_part(field, classes)?;
            }
        }
        if files.has(SCHEDULER) {
            files.json::<BTreeMap<String, Value>>(SCHEDULER)?; // damaged files are refused
        }
        let has_experts = !index.class("transformer_2").is_null();
        let boundary = index.boundary(has_experts)?;
        let expands_timesteps = Some(index.flag("expand_timesteps")?);
        Ok(Self { scheduler: index.scheduler(), has_experts, boundary, expands_timesteps })
    }
}

/// Where the second expert takes over in the published models, by whether they start from an image: the
/// original has it in its code (`wan/configs` of Wan 2.2).
const BOUNDARY_OF_TEXT: f64 = 0.875;
const BOUNDARY_OF_IMAGE: f64 = 0.9;

impl ModelSpec {
    /// The spec of a model with these networks.
    pub(crate) fn new(
        description: Description,
        transformer: &Component<WanTransformerConfig>,
        vae: &Component<WanVaeConfig>,
    ) -> Result<Self, ModelError> {
        let Description { scheduler, has_experts, boundary, expands_timesteps } = description;
        let task = Task::of(transformer, vae, expands_timesteps)?;
        let published = match task {
            Task::TextToVideo => BOUNDARY_OF_TEXT,
            _ => BOUNDARY_OF_IMAGE,
        };
        let boundary = has_experts.then_some(boundary.unwrap_or(published));
        Ok(Self { task, boundary, scheduler })
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

    fn check_class(&self) -> Result<(), Error> {
        let class = self.get("_class_name");
        if PIPELINES.iter().any(|name| class == name) {
            return Ok(());
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

    /// Where the second of two experts takes over.
    fn boundary(&self, has_experts: bool) -> Result<Option<f64>, Error> {
        let found = self.get("boundary_ratio");
        if found.is_null() && !has_experts {
            return Ok(None);
        }
        if !has_experts {
            let expected = format!("a transformer, since boundary_ratio is {found}");
            return Err(self.error("transformer_2", self.class("transformer_2"), expected));
        }
        match found.as_f64() {
            Some(ratio) if ratio > 0.0 && ratio < 1.0 => Ok(Some(ratio)),
            _ => {
                let expected = "a number between 0 and 1, since there are two transformers";
                Err(self.error("boundary_ratio", found, expected.into()))
            }
        }
    }

    /// A field that is true or false; false where it is not there.
    fn flag(&self, field: &str) -> Result<bool, Error> {
        match self.get(field) {
            Value::Bool(flag) => Ok(*flag),
            Value::Null => Ok(false),
            found => Err(self.error(field, found, "true or false".into())),
        }
    }

    /// The scheduler's own config, which must be of the class that the index names; or why there is
    /// none that can be used.
    fn scheduler(&self) -> Result<SchedulerConfig, String> {
        let class = self.get("_class_name");
        if let Some(class) = FEW_STEPS.iter().find(|name| class == *name) {
            let path = self.files.display_path(INDEX);
            return Err(format!("{path}: a {class} does not describe its sampler"));
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
