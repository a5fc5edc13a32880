//! Copies of the miniature model to damage.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tempfile::TempDir;
use wan_pipeline::backend::Flex;
use wan_pipeline::{Error, Pipeline, Request};

pub(crate) const INDEX: &str = "model_index.json";
pub(crate) const SCHEDULER: &str = "scheduler/scheduler_config.json";
pub(crate) const TEXT_ENCODER: &str = "text_encoder/config.json";
pub(crate) const TRANSFORMER: &str = "transformer/config.json";
pub(crate) const VAE: &str = "vae/config.json";
pub(crate) const TOKENIZER: &str = "tokenizer/tokenizer.json";
pub(crate) const TEXT_ENCODER_WEIGHTS: &str = "text_encoder/model.safetensors";
pub(crate) const TRANSFORMER_WEIGHTS: &str = "transformer/diffusion_pytorch_model.safetensors";
pub(crate) const VAE_WEIGHTS: &str = "vae/diffusion_pytorch_model.safetensors";

/// All files that a model needs.
pub(crate) const FILES: [&str; 9] = [
    INDEX,
    SCHEDULER,
    TEXT_ENCODER,
    TRANSFORMER,
    VAE,
    TOKENIZER,
    TEXT_ENCODER_WEIGHTS,
    TRANSFORMER_WEIGHTS,
    VAE_WEIGHTS,
];

/// All files that a model needs beside them if it attends to images.
const IMAGE_FILES: [&str; 3] = [
    "image_encoder/config.json",
    "image_encoder/model.safetensors",
    "image_processor/preprocessor_config.json",
];

/// The miniature model as it is.
pub(crate) fn tiny_wan() -> Pipeline<Flex> {
    Pipeline::from_pretrained("tiny-wan").unwrap()
}

/// The smallest job: one frame of 16x16, one step.
pub(crate) fn smallest(prompt: &str) -> Request {
    Request::new(prompt).size(16, 16).frames(1).steps(1)
}

/// A copy of the miniature model in a folder of its own.
pub(crate) struct Model(TempDir);

impl Model {
    pub(crate) fn copy() -> Self {
        let original = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tiny-wan/model");
        Self::with(&original, &FILES)
    }

    /// A copy of a small random model of a fixture that attends to images.
    pub(crate) fn copy_of_image_model(original: &Path) -> Self {
        Self::with(original, &[&FILES[..], &IMAGE_FILES].concat())
    }

    fn with(original: &Path, files: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let target = folder.path().join(file);
            fs::create_dir_all(target.parent().unwrap()).unwrap();
            fs::copy(original.join(file), target).unwrap();
        }
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.file(name), content).unwrap();
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&self.read(name)).unwrap()
    }

    /// Sets a field of a JSON file.
    pub(crate) fn set(&self, name: &str, field: &str, value: Value) {
        let mut json = self.json(name);
        json[field] = value;
        self.write(name, json.to_string());
    }

    pub(crate) fn tensors(&self, name: &str) -> Tensors {
        Tensors::read(&self.read(name))
    }

    pub(crate) fn open(&self) -> Result<Pipeline<Flex>, Error> {
        Pipeline::from_pretrained(self.path())
    }

    /// The error that opening it gives.
    #[track_caller]
    pub(crate) fn error(&self) -> Error {
        let error = self.open().err().expect("a damaged model must not open");
        println!("{error}");
        error
    }

    /// The error that opening it gives with `content` in place of `name`, which it has again
    /// afterwards.
    #[track_caller]
    pub(crate) fn error_with(&self, name: &str, content: impl AsRef<[u8]>) -> Error {
        let before = self.read(name);
        self.write(name, content);
        let error = self.error();
        self.write(name, before);
        error
    }
}

/// The content of a safetensors file: dtype, shape and bytes of each tensor.
#[derive(Clone)]
pub(crate) struct Tensors(pub(crate) BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>);

impl Tensors {
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let tensors = SafeTensors::deserialize(bytes).unwrap().tensors().into_iter();
        let owned = |view: TensorView| (view.dtype(), view.shape().to_vec(), view.data().to_vec());
        Self(tensors.map(|(name, view)| (name, owned(view))).collect())
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.bytes_with(None)
    }

    /// The file with metadata.
    pub(crate) fn bytes_with(&self, metadata: Option<HashMap<String, String>>) -> Vec<u8> {
        let views = self.0.iter().map(|(name, (dtype, shape, bytes))| {
            (name, TensorView::new(*dtype, shape.clone(), bytes).unwrap())
        });
        safetensors::serialize(views, metadata).unwrap()
    }

    /// Overwrites the numbers of a tensor of F16 with those that are not.
    pub(crate) fn fill_with_nan(&mut self, name: &str) {
        self.fill(name, f16::NAN);
    }

    /// Overwrites the numbers of a tensor of F16.
    pub(crate) fn fill(&mut self, name: &str, number: f16) {
        let (dtype, _, bytes) = self.0.get_mut(name).unwrap();
        assert_eq!(*dtype, Dtype::F16);
        bytes.chunks_exact_mut(2).for_each(|bytes| bytes.copy_from_slice(&number.to_le_bytes()));
    }
}

/// Fails unless the error's message has all of `parts`.
#[track_caller]
pub(crate) fn says(error: &Error, parts: &[&str]) {
    let message = error.to_string();
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in: {message}");
    }
}
