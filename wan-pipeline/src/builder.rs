use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use wan_core::{Backend, Precision, Tiling};
#[cfg(feature = "hub")]
use wan_io::hub::HubOptions;
use wan_io::integrity::Verify;
use wan_models::load::Residency;

use crate::components::{Components, Parts};
use crate::memory::Wishes;
use crate::source::{Source, find};
use crate::{Error, Observer, Pipeline, Role};

/// Opens a [`Pipeline`] with options.
///
/// ```no_run
/// use wan_pipeline::{Pipeline, Verify, backend::Flex};
///
/// let pipeline = Pipeline::<Flex>::builder("Wan-AI/Wan2.1-T2V-14B")
///     .revision("a064a6c71f5be440641209c07bf2a5ce7a2ff5e4")
///     .verify(Verify::Always)
///     .open()?;
/// # Ok::<(), wan_pipeline::Error>(())
/// ```
///
/// Single files can take the place of parts, which are not downloaded then; with a file for each part no model has
/// to be named:
///
/// ```no_run
/// use wan_pipeline::{PipelineBuilder, backend::Flex};
///
/// let pipeline = PipelineBuilder::<Flex>::from_parts()
///     .transformer("wan2.1_t2v_1.3B_bf16.safetensors")
///     .text_encoder("models_t5_umt5-xxl-enc-bf16.pth")
///     .vae("Wan2.1_VAE.pth")
///     .tokenizer("umt5-xxl/tokenizer.json")
///     .open()?;
/// # Ok::<(), wan_pipeline::Error>(())
/// ```
#[must_use = "nothing happens before `open`"]
#[derive(Debug, Clone)]
pub struct PipelineBuilder<B: Backend> {
    source: Source,
    parts: Parts,
    options: Options,
    backend: PhantomData<fn() -> B>,
}

/// The options that do not depend on where the model comes from.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Options {
    pub(crate) device: usize,
    pub(crate) precision: Precision,
    pub(crate) vae_precision: Option<Precision>,
    pub(crate) wishes: Wishes,
    pub(crate) memory_limit: Option<u64>,
    pub(crate) require_finite: bool,
    pub(crate) skip_finite_checks: bool,
}

impl Options {
    /// f32 where all is to be in f32.
    pub(crate) fn vae_precision(&self) -> Precision {
        self.vae_precision.unwrap_or(match self.precision {
            Precision::F32 => Precision::F32,
            _ => Precision::Auto,
        })
    }
}

impl<B: Backend> PipelineBuilder<B> {
    /// For a model by its name; see [`Pipeline::from_pretrained`] for what is a name.
    pub fn new(model: impl AsRef<Path>) -> Self {
        Self::with_model(Some(model.as_ref().to_owned()))
    }

    /// For a model of which each part is named: [`transformer`](Self::transformer),
    /// [`text_encoder`](Self::text_encoder), [`vae`](Self::vae) and [`tokenizer`](Self::tokenizer), and where it has
    /// them [`image_encoder`](Self::image_encoder) and [`transformer_2`](Self::transformer_2).
    pub fn from_parts() -> Self {
        Self::with_model(None)
    }

    fn with_model(model: Option<PathBuf>) -> Self {
        let source = Source { model, ..Source::default() };
        let (parts, options) = Default::default();
        Self { source, parts, options, backend: PhantomData }
    }

    /// The transformer's weights in this file: safetensors or `.pth`, one of several shards or
    /// their index, or the folder of this part as diffusers has it; under the names of diffusers or
    /// the original. All names may begin with anything, such as `model.diffusion_model.`; of two
    /// models in the file, the one below a name with `ema` (the mean over the training) is taken. A
    /// `config.json` beside it counts; without one the shapes of the tensors tell the config.
    pub fn transformer(self, file: impl Into<PathBuf>) -> Self {
        self.part(Role::Transformer, file)
    }

    /// The weights of the second of two experts, the one for low noise, as for [`transformer`](Self::transformer),
    /// which is the one for high noise then.
    pub fn transformer_2(self, file: impl Into<PathBuf>) -> Self {
        self.part(Role::Transformer2, file)
    }

    /// The text encoder's weights in this file or folder, as for [`transformer`](Self::transformer).
    pub fn text_encoder(self, file: impl Into<PathBuf>) -> Self {
        self.part(Role::TextEncoder, file)
    }

    /// The image encoder's weights in this file or folder, as for [`transformer`](Self::transformer): a CLIP, of which
    /// the vision tower is taken. Image-to-video models of Wan 2.1 need it.
    pub fn image_encoder(self, file: impl Into<PathBuf>) -> Self {
        self.part(Role::ImageEncoder, file)
    }

    /// The VAE's weights in this file, as for [`transformer`](Self::transformer).
    pub fn vae(self, file: impl Into<PathBuf>) -> Self {
        self.part(Role::Vae, file)
    }

    /// The tokenizer: a `tokenizer.json` or `spiece.model`, or the folder with one.
    pub fn tokenizer(self, file: impl Into<PathBuf>) -> Self {
        self.part(Role::Tokenizer, file)
    }

    /// Opens the model without its text encoder and tokenizer, which need not be there then and are not
    /// downloaded. Requests must bring the embeddings of their prompts.
    pub fn without_text_encoder(mut self) -> Self {
        self.parts.left_out.extend([Role::TextEncoder, Role::Tokenizer]);
        self
    }

    fn part(mut self, role: Role, file: impl Into<PathBuf>) -> Self {
        self.parts.files.push((role, file.into()));
        self
    }

    /// Branch, tag or commit of a model in the hub. Default: `main`. It is resolved to a commit once,
    /// so that the files of one load are all of the same commit.
    #[cfg(feature = "hub")]
    pub fn revision(mut self, revision: impl Into<String>) -> Self {
        self.source.revision = Some(revision.into());
        self
    }

    /// How to reach the hub and where its cache is. Default: what the environment variables say
    /// ([`HubOptions::from_env`]).
    #[cfg(feature = "hub")]
    pub fn hub(mut self, options: HubOptions) -> Self {
        self.source.hub = Some(options);
        self
    }

    /// When files are compared with their checksums, if these are known: from the hub, or from a
    /// `SHA256SUMS` in a folder. Default: each file once.
    pub fn verify(mut self, verify: Verify) -> Self {
        self.source.verify = Some(verify);
        self
    }

    /// Which of the backend's devices to use. Default: the first.
    pub fn device(mut self, index: usize) -> Self {
        self.options.device = index;
        self
    }

    /// The precision of the text encoder and the transformer. Default: [`Precision::Auto`], the best
    /// one of the device.
    pub fn precision(mut self, precision: Precision) -> Self {
        self.options.precision = precision;
        self
    }

    /// The precision of the VAE. Default: f32 if that is the [precision](Self::precision) of the rest, else
    /// [`Precision::Auto`]: f32 on GPUs, as in the original, and bf16 on CPUs with AVX2 or more.
    pub fn vae_precision(mut self, precision: Precision) -> Self {
        self.options.vae_precision = Some(precision);
        self
    }

    /// Leave out the check after each step that no number has become infinite or not a number: on a GPU, one
    /// number that the host waits for. Without it the same is found when frames are decoded, but not where it
    /// began.
    pub fn skip_finite_checks(mut self, skip: bool) -> Self {
        self.options.skip_finite_checks = skip;
        self
    }

    /// Encode and decode frames in tiles, which needs less memory. Default: as large as the
    /// [limit](Self::memory_limit) allows, at best whole.
    pub fn vae_tiling(mut self, tiling: Tiling) -> Self {
        self.options.wishes.tiling = Some(tiling);
        self
    }

    /// The most memory that the process may take, in bytes: of the host's where the backend is the CPU, else
    /// of the device's. Default: what is free when a run begins, less a margin; no limit where the
    /// system does not tell.
    ///
    /// It decides how the parts of the model are held: as a whole in memory, or read layer by layer while they
    /// compute; frames as a whole or in tiles. Latents do not depend on it; frames do a little where the VAE
    /// keeps its feature cache in f16 or works in tiles, which the log says. A run that does not fit is
    /// refused with [`Error::Memory`].
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.options.memory_limit = Some(bytes);
        self
    }

    /// Where the weights of the text encoder are between two uses. Default: a large one comes layer by layer,
    /// since it is needed once in a run.
    pub fn text_encoder_residency(mut self, residency: Residency) -> Self {
        self.options.wishes.text_encoder = Some(residency);
        self
    }

    /// Where the weights of the transformer are between two steps. Default: the fastest way that the
    /// [limit](Self::memory_limit) allows.
    pub fn transformer_residency(mut self, residency: Residency) -> Self {
        self.options.wishes.transformer = Some(residency);
        self
    }

    /// Refuse weights with numbers that are infinite or not a number, when they are loaded. Default:
    /// false, since what they lead to is found anyway ([`Error::NotFinite`]), but not which tensor
    /// it comes from.
    pub fn require_finite(mut self, require: bool) -> Self {
        self.options.require_finite = require;
        self
    }

    /// Opens the pipeline.
    ///
    /// # Errors
    /// Those of [`Pipeline::from_pretrained`]; if the device cannot be used; if the tiles do not fit
    /// the model.
    pub fn open(self) -> Result<Pipeline<B>, Error> {
        self.open_with(&mut Observer::silent())
    }

    /// Opens the pipeline and tells `observer` of downloads and checks. Where it cancels them, what was
    /// downloaded until then stays and is continued the next time.
    ///
    /// # Errors
    /// Those of [`open`](Self::open), and [`Error::Cancelled`].
    pub fn open_with(self, observer: &mut Observer) -> Result<Pipeline<B>, Error> {
        let Self { source, parts, options, .. } = self;
        let found = find(&source, &parts, observer)?;
        let folder = found.folder.as_ref().map(|(files, layout)| (files, *layout));
        let model = Components::open(found.name, folder, &parts)?;
        Pipeline::new(model, &options)
    }
}
