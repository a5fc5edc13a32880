use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use wan_core::backend::NetworkKind;
use wan_core::{Backend, Precision};
use wan_io::files::ModelFiles;
#[cfg(feature = "hub")]
use wan_io::hub::HubOptions;
use wan_io::integrity::Verify;
use wan_io::text::{ClipTokenizer, Tokenizer};
use wan_models::clip::{ClipConfig, ClipModel, TextConfig};
use wan_models::load::{NetworkConfig, ReadOptions, load};

use super::Clip;
use super::layout::ClipLayout;
use crate::components::Component;
use crate::source::{Source, find_files};
use crate::{Error, ModelError, Observer};

/// Opens a [`Clip`] with options.
///
/// ```no_run
/// use wan_pipeline::{Clip, Precision, backend::Flex};
///
/// let clip = Clip::<Flex>::builder("BAAI/AltCLIP").precision(Precision::Auto).open()?;
/// # Ok::<(), wan_pipeline::Error>(())
/// ```
#[must_use = "nothing happens before `open`"]
#[derive(Debug, Clone)]
pub struct ClipBuilder<B: Backend> {
    source: Source,
    device: usize,
    precision: Precision,
    backend: PhantomData<fn() -> B>,
}

impl<B: Backend> ClipBuilder<B> {
    /// For a CLIP by its name; see [`Clip::from_pretrained`] for what is a name.
    pub fn new(model: impl AsRef<Path>) -> Self {
        let source = Source { model: Some(model.as_ref().to_owned()), ..Source::default() };
        Self { source, device: 0, precision: Precision::F32, backend: PhantomData }
    }

    /// Branch, tag or commit of a model in the hub. Default: `main`.
    #[cfg(feature = "hub")]
    pub fn revision(mut self, revision: impl Into<String>) -> Self {
        self.source.revision = Some(revision.into());
        self
    }

    /// How to reach the hub and where its cache is. Default: what the environment variables say.
    #[cfg(feature = "hub")]
    pub fn hub(mut self, options: HubOptions) -> Self {
        self.source.hub = Some(options);
        self
    }

    /// When files are compared with their checksums, if these are known. Default: each file once.
    pub fn verify(mut self, verify: Verify) -> Self {
        self.source.verify = Some(verify);
        self
    }

    /// Which of the backend's devices to use. Default: the first.
    pub fn device(mut self, index: usize) -> Self {
        self.device = index;
        self
    }

    /// The precision of both towers. Default: f32, so that a ranking does not depend on the machine.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.precision = precision;
        self
    }

    /// Opens and loads it.
    ///
    /// # Errors
    /// Those of [`Clip::from_pretrained`]; if the device cannot be used.
    pub fn open(self) -> Result<Clip<B>, Error> {
        self.open_with(&mut Observer::silent())
    }

    /// Opens it and tells `observer` of downloads and checks.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and [`Error::Cancelled`].
    pub fn open_with(self, observer: &mut Observer) -> Result<Clip<B>, Error> {
        let needed = |has: &dyn Fn(&str) -> bool| {
            let layout = ClipLayout::among(has);
            (layout, layout.needed(has))
        };
        let check = |layout: ClipLayout, files: &ModelFiles| layout.check(files);
        let (files, layout) = find_files(&self.source, needed, check, observer)?;
        layout.check(&files)?; // It tells best what a folder with other weights is.
        let weights = Arc::new(layout.weights(|file| files.has(file)).open(&files)?);
        let tensors = ClipConfig::canonical_names(weights.clone())?;
        let (config, path, preprocess) = layout.read(&files, tensors.as_ref())?;
        let tokenizer = tokenizer(&files, layout.tokenizer(), &config, &path)?;
        let component = Component::new(config, path, tensors, weights)?;

        let device = B::open_device(self.device)?;
        let dtype = self.precision.resolve::<B>(&device, NetworkKind::TextEncoder)?;
        component.check::<B, ClipModel<B>>(&device, dtype)?;
        let options = ReadOptions::new(dtype).cancel(observer.cancel_token().clone());
        let model = load(&component.tensors, &device, options, &component.config)?;
        Ok(Clip { model, tokenizer, preprocess, device })
    }
}

/// The tokenizer, which must belong to the text tower: as far as its size and its special tokens tell.
fn tokenizer(
    files: &ModelFiles,
    file: &str,
    config: &ClipConfig,
    config_path: &str,
) -> Result<ClipTokenizer, Error> {
    let path = files.display_path(file);
    let bytes = files.read(file, Tokenizer::MAX_BYTES)?;
    let tokenizer = ClipTokenizer::from_named_bytes(&bytes, &path)?;
    let text = &config.text_config;
    let disagrees = |field, found, what: &str, expected| ModelError::ConfigsDisagree {
        path: config_path.to_owned(),
        field,
        found,
        other: format!("{what} {path}"),
        expected,
    };
    let needed = tokenizer.max_id() as usize + 1;
    if text.vocab_size() < needed {
        let found = text.vocab_size();
        return Err(disagrees("vocab_size", found, "the number of tokens in", needed).into());
    }
    let (field, found, what, expected) = match text {
        // 2 stands in configs from before it counted.
        TextConfig::Clip(text) if text.eos_token_id != 2 => {
            ("eos_token_id", text.eos_token_id, "the token behind a text of", tokenizer.end_id())
        }
        TextConfig::XlmRoberta(text) => {
            let pad = tokenizer.pad_id().unwrap_or(text.pad_token_id);
            ("pad_token_id", text.pad_token_id, "<pad> in", pad)
        }
        _ => return Ok(tokenizer),
    };
    match found == expected {
        true => Ok(tokenizer),
        false => Err(disagrees(field, found as usize, what, expected as usize).into()),
    }
}
