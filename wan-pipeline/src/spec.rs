//! The task of a model, told from its index.

use std::collections::BTreeMap;

use serde_json::Value;
use wan_core::config::ConfigError;
use wan_core::scheduler::{SchedulerConfig, SchedulerKind};
use wan_io::files::ModelFiles;

use crate::layout::{INDEX, Layout, SCHEDULER};
use crate::{Error, ModelError};

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
    /// How the flow is integrated unless a request says otherwise.
    pub scheduler: SchedulerConfig,
}

/// Classes of pipelines in `model_index.json`, and what they are for.
const PIPELINES: [(&str, Task); 1] = [("WanPipeline", Task::TextToVideo)];

/// Parts that a pipeline must have, and the classes that they may be of.
const PARTS: [(&str, &[&str]); 3] = [
    ("text_encoder", &["UMT5EncoderModel"]),
    ("transformer", &["WanTransformer3DModel"]),
    ("vae", &["AutoencoderKLWan"]),
];

/// Fields that only pipelines of other kinds have, and what those are.
const ABSENT: [(&str, &str); 3] = [
    ("transformer_2", "models with two transformers"),
    ("boundary_ratio", "models with two transformers"),
    ("expand_timesteps", "models with a timestep for each token"),
];

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
        Self { task: Task::TextToVideo, scheduler }
    }

    fn read_index(files: &ModelFiles) -> Result<Self, Error> {
        let index = Index { files, fields: files.json(INDEX)? };
        let classes = PIPELINES.map(|(class, _)| class);
        let class = index.require("_class_name", index.get("_class_name"), &classes)?;
        let task = PIPELINES[class].1;
        for (part, classes) in PARTS {
            index.require(part, index.class(part), classes)?;
        }
        let schedulers = SchedulerKind::ALL.map(SchedulerKind::class);
        index.require("scheduler", index.class("scheduler"), &schedulers)?;
        ABSENT.into_iter().try_for_each(|(field, what)| index.require_absent(field, what))?;
        Ok(Self { task, scheduler: index.scheduler()? })
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

    /// The place of `found` among the values that are right.
    fn require(&self, field: &str, found: &Value, expected: &[&str]) -> Result<usize, Error> {
        let place = expected.iter().position(|name| found == name);
        let quoted: Vec<String> = expected.iter().map(|name| format!("{name:?}")).collect();
        place.ok_or_else(|| self.error(field, found, quoted.join(" or ")))
    }

    fn require_absent(&self, field: &str, what: &str) -> Result<(), Error> {
        let field_value = self.get(field);
        let found = field_value.get(1).unwrap_or(field_value);
        if found.is_null() || *found == Value::Bool(false) {
            return Ok(());
        }
        Err(self.error(field, found, format!("null: {what} are not supported yet")))
    }

    /// The scheduler's own config, which must be of the class that the index names.
    fn scheduler(&self) -> Result<SchedulerConfig, Error> {
        let scheduler: SchedulerConfig = self.files.json(SCHEDULER)?;
        let path = || self.files.display_path(SCHEDULER);
        let in_file = |source: ConfigError| ModelError::Config { path: path(), source };
        scheduler.validate().map_err(in_file)?;
        let (found, class) = (self.class("scheduler"), scheduler.kind.class());
        if found != class {
            let expected = format!("{class:?}, as in {}", path());
            return Err(self.error("scheduler", found, expected));
        }
        Ok(scheduler)
    }

    fn error(&self, field: &str, found: &Value, expected: String) -> Error {
        let path = self.files.display_path(INDEX);
        let (field, found) = (field.into(), found.to_string());
        ModelError::Index { path, field, found, expected }.into()
    }
}
