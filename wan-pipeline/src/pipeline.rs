use std::path::Path;
use std::sync::OnceLock;
use std::time::Instant;

use burn::tensor::DType;
use wan_core::{Backend, Precision};
use wan_io::video::{Metadata, VideoSpec};
use wan_models::load::{ReadOptions, load};
use wan_models::transformer::WanTransformer;
use wan_models::umt5::Umt5Encoder;
use wan_models::vae::{Tiling, WanVae};

use crate::builder::Options;
use crate::model::Model;
use crate::request::Limits;
use crate::{Error, Event, Observer, PipelineBuilder, Preset, Request, SchedulerConfig, Settings};

/// A text-to-video model on a backend.
///
/// Opening one reads and checks configs and the headers of its weights. The weights themselves are
/// loaded when they are first needed; the text encoder is dropped as soon as a prompt is encoded,
/// since it is the largest part of some models and needed least.
pub struct Pipeline<B: Backend> {
    pub(crate) model: Model,
    pub(crate) device: B::Device,
    dtypes: DTypes,
    tiling: Option<Tiling>,
    require_finite: bool,
    pub(crate) checks_finite: bool,
    transformer: OnceLock<WanTransformer<B>>,
    vae: OnceLock<WanVae<B>>,
}

/// What the parts compute their matrix products in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DTypes {
    /// The text encoder and the transformer.
    pub networks: DType,
    /// The VAE.
    pub vae: DType,
}

impl<B: Backend> Pipeline<B> {
    /// Opens a model by its name:
    ///
    /// - the path of a folder, in the layout of diffusers (`model_index.json`) or of the original
    ///   repository (`config.json` of a `WanModel`, `.pth` files); a `SHA256SUMS` in it is honoured;
    /// - the name of a model that is compiled in (`tiny-wan`, with the feature of that name);
    /// - a repository in the Hugging Face hub, such as `Wan-AI/Wan2.1-T2V-14B` (with the feature
    ///   `hub`): what is needed of it is downloaded into the usual cache and verified.
    ///
    /// ```
    /// use wan_pipeline::{Pipeline, backend::Flex};
    ///
    /// # #[cfg(feature = "tiny-wan")]
    /// let pipeline = Pipeline::<Flex>::from_pretrained("tiny-wan")?;
    /// # Ok::<(), wan_pipeline::Error>(())
    /// ```
    ///
    /// # Errors
    /// If there is no such model, it cannot be downloaded, one of its files is missing, broken or
    /// not what its checksum says, a config has a value that no model can have or contradicts
    /// another one, or a tensor is missing, unknown or misshapen.
    pub fn from_pretrained(name: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder(name).open()
    }

    /// The same with options.
    pub fn builder(name: impl AsRef<Path>) -> PipelineBuilder<B> {
        PipelineBuilder::new(name)
    }

    pub(crate) fn new(model: Model, options: &Options) -> Result<Self, Error> {
        if let Some(tiling) = options.vae_tiling {
            let path = format!("options for {}", model.name);
            let checked = tiling.validate(model.vae.spatial_factor());
            checked.map_err(|source| Error::Config { path, source })?;
        }
        let device = B::open_device(options.device)?;
        let dtypes = DTypes {
            networks: options.precision.resolve::<B>(&device)?,
            vae: options.vae_precision.unwrap_or(Precision::F32).resolve::<B>(&device)?,
        };
        model.check_weights::<B>(&device)?;
        Ok(Self {
            dtypes,
            tiling: options.vae_tiling,
            require_finite: options.require_finite,
            checks_finite: !options.skip_finite_checks,
            model,
            device,
            transformer: OnceLock::new(),
            vae: OnceLock::new(),
        })
    }

    /// What it computes in on its device.
    pub fn dtypes(&self) -> DTypes {
        self.dtypes
    }

    /// The defaults of this model.
    pub fn preset(&self) -> Preset {
        Preset::of(&self.model.transformer)
    }

    /// The scheduler of this model, as its `scheduler_config.json` has it.
    pub fn scheduler_config(&self) -> &SchedulerConfig {
        &self.model.scheduler
    }

    /// A request with every value settled: its own, else the model's default.
    ///
    /// # Errors
    /// If the model cannot work with a value. [`generate`](Self::generate) finds this before it
    /// does anything.
    pub fn settle(&self, request: &Request) -> Result<Settings, Error> {
        let (preset, scheduler) = (self.preset(), &self.model.scheduler);
        let settings = Settings {
            prompt: request.prompt.clone(),
            negative_prompt: request
                .negative_prompt
                .clone()
                .unwrap_or(preset.negative_prompt.into()),
            width: request.width.unwrap_or(preset.width),
            height: request.height.unwrap_or(preset.height),
            frames: request.frames.unwrap_or(preset.frames),
            fps: request.fps.unwrap_or(preset.fps),
            steps: request.steps.unwrap_or(preset.steps),
            guidance: request.guidance.unwrap_or(preset.guidance),
            shift: request.shift.or(preset.shift).unwrap_or(scheduler.flow_shift()),
            seed: request.seed,
            scheduler: request.scheduler.unwrap_or(scheduler.kind),
            sigma_grid: request.sigma_grid,
            text_length: request.text_length,
        };
        self.check(&settings)?;
        Ok(settings)
    }

    /// Whether the model can work with these settings, which may have been changed since they were
    /// settled.
    pub(crate) fn check(&self, settings: &Settings) -> Result<(), Error> {
        settings.validate(&self.limits())?;
        self.scheduler::<B>(settings).map(|_| ()) // extreme shifts make steps of no length
    }

    /// Size, rate and length of the video that settings lead to: what a
    /// [`VideoWriter`](crate::VideoWriter) asks for.
    pub fn video_spec(&self, settings: &Settings) -> VideoSpec {
        VideoSpec {
            width: settings.width as u32,
            height: settings.height as u32,
            fps: settings.fps,
            frames: settings.frames as u32,
        }
    }

    /// What is stored in the files of a video made with these settings.
    pub fn metadata(&self, settings: &Settings) -> Metadata {
        let spec = self.video_spec(settings);
        let mut metadata = Metadata::new(&settings.prompt);
        metadata.negative_prompt = Some(settings.negative_prompt.clone());
        metadata.seed = Some(settings.seed);
        metadata.num_inference_steps = Some(settings.steps as u32);
        metadata.guidance_scale = Some(settings.guidance);
        metadata.flow_shift = Some(settings.shift);
        metadata.width = Some(spec.width);
        metadata.height = Some(spec.height);
        metadata.num_frames = Some(spec.frames);
        metadata.fps = Some(spec.fps);
        metadata.model = Some(self.model.name.clone());
        metadata.scheduler = Some(settings.scheduler.name().into());
        metadata.sigma_grid = Some(format!("{:?}", settings.sigma_grid).to_lowercase());
        metadata.software = Some(concat!("wan-pipeline ", env!("CARGO_PKG_VERSION")).into());
        metadata
    }

    /// The shape of the latents of one video, `[1, C, T, H, W]`.
    pub fn latent_shape(&self, settings: &Settings) -> [usize; 5] {
        let vae = &self.model.vae;
        let frames = (settings.frames - 1) / vae.temporal_factor() + 1;
        let side = |pixels: usize| pixels / vae.spatial_factor();
        [1, vae.z_dim, frames, side(settings.height), side(settings.width)]
    }

    fn limits(&self) -> Limits {
        let [latent_frames, height, width] = self.model.transformer.patch_size;
        let factor = self.model.vae.spatial_factor();
        Limits {
            pixels: [height * factor, width * factor],
            frames: self.model.vae.temporal_factor(),
            latent_frames,
            positions: self.model.transformer.rope_max_seq_len,
        }
    }

    /// Loads the text encoder; the caller drops it.
    pub(crate) fn load_text_encoder(
        &self,
        observer: &mut Observer,
    ) -> Result<Umt5Encoder<B>, Error> {
        self.timed("text encoder", observer, || {
            let Model { text_encoder_weights, text_encoder, .. } = &self.model;
            Ok(load(
                text_encoder_weights,
                &self.device,
                self.reading(self.dtypes.networks),
                text_encoder,
            )?)
        })
    }

    /// The transformer, loaded the first time.
    pub(crate) fn transformer(&self, observer: &mut Observer) -> Result<&WanTransformer<B>, Error> {
        if let Some(loaded) = self.transformer.get() {
            return Ok(loaded);
        }
        let loaded = self.timed("transformer", observer, || {
            let Model { transformer_weights, transformer, .. } = &self.model;
            Ok(load(
                transformer_weights,
                &self.device,
                self.reading(self.dtypes.networks),
                transformer,
            )?)
        })?;
        Ok(self.transformer.get_or_init(|| loaded))
    }

    /// The VAE, loaded the first time.
    pub(crate) fn vae(&self, observer: &mut Observer) -> Result<&WanVae<B>, Error> {
        if let Some(loaded) = self.vae.get() {
            return Ok(loaded);
        }
        let loaded = self.timed("vae", observer, || {
            let Model { vae_weights, vae: config, name, .. } = &self.model;
            let mut vae: WanVae<B> =
                load(vae_weights, &self.device, self.reading(self.dtypes.vae), config)?;
            let tiled = vae.set_tiling(self.tiling);
            tiled
                .map_err(|source| Error::Config { path: format!("options for {name}"), source })?;
            Ok(vae)
        })?;
        Ok(self.vae.get_or_init(|| loaded))
    }

    fn reading(&self, dtype: DType) -> ReadOptions {
        ReadOptions::new(dtype).require_finite(self.require_finite)
    }

    fn timed<T>(
        &self,
        part: &'static str,
        observer: &mut Observer,
        load: impl FnOnce() -> Result<T, Error>,
    ) -> Result<T, Error> {
        let start = Instant::now();
        crate::generate::tell(observer, Event::Loading { part })?;
        let loaded = load()?;
        crate::generate::tell(observer, Event::Loaded { part, elapsed: start.elapsed() })?;
        Ok(loaded)
    }
}

#[cfg(all(test, feature = "flex"))]
mod tests {
    use super::*;

    #[test]
    fn a_pipeline_can_be_shared_between_threads() {
        fn check<T: Send + Sync>() {}
        check::<Pipeline<burn::backend::Flex>>();
    }
}
