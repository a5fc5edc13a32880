use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use burn::tensor::DType;
use wan_core::backend::NetworkKind;
use wan_core::{Backend, ReadingPace};
use wan_io::image::ClipPreprocess;
use wan_models::clip::ClipVisionEncoder;
use wan_models::load::{Network, ReadOptions, Residency, load};
use wan_models::transformer::WanTransformer;
use wan_models::umt5::Umt5Encoder;
use wan_models::vae::WanVae;

use crate::builder::Options;
use crate::components::{Component, Components, ImageEncoder};
use crate::encode::EmbedsCache;
use crate::latents::LatentsFile;
use crate::memory::Wishes;
use crate::preview::Colours;
use crate::resident::Resident;
use crate::{
    Error, Event, Latents, ModelError, ModelSpec, Observer, PipelineBuilder, Plan, Preset, Request,
    RequestError, Role, SavedLatents, Task, TensorFileError,
};

/// A video model on a backend.
///
/// Opening one reads and checks configs and the headers of its weights. The weights themselves are
/// loaded when they are first needed; the text encoder goes as soon as the prompts are encoded, since
/// it is the largest part of some models and needed least. Threads can share a pipeline.
pub struct Pipeline<B: Backend> {
    pub(crate) model: Components,
    pub(crate) device: B::Device,
    dtypes: DTypes,
    pub(crate) wishes: Wishes,
    pub(crate) memory_limit: Option<u64>,
    require_finite: bool,
    pub(crate) checks_finite: bool,
    pub(crate) text_encoder: Resident<Umt5Encoder<B>, Residency>,
    /// Of two experts, the one that was last needed.
    pub(crate) transformer: Resident<WanTransformer<B>, (Role, Residency)>,
    pub(crate) vae: Resident<WanVae<B>>,
    pub(crate) embeds: Mutex<EmbedsCache>,
    told_of_slow_disk: Mutex<BTreeSet<Role>>,
    pub(crate) colours: Resident<Colours>,
}

/// The dtypes of the parts' matrix products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DTypes {
    /// The text encoder.
    pub text_encoder: DType,
    /// The transformer.
    pub transformer: DType,
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
    ///   `hub`): what is needed of it is downloaded into the usual cache and verified. The name may end
    ///   in `@revision`, or be the address of a page of the repository.
    ///
    /// A path may begin with `~`, and may be that of a repository in the hub's cache
    /// (`models--owner--name`), of which the snapshot is used that `refs` tells.
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

    /// Opens a model by its name with options: see [`from_pretrained`](Self::from_pretrained).
    pub fn builder(name: impl AsRef<Path>) -> PipelineBuilder<B> {
        PipelineBuilder::new(name)
    }

    pub(crate) fn new(model: Components, options: &Options) -> Result<Self, Error> {
        if let Some(tiling) = options.wishes.tiling {
            let path = format!("options for {}", model.name);
            let checked = tiling.validate(model.vae.config.spatial_factor());
            checked.map_err(|source| ModelError::Config { path, source })?;
        }
        let device = B::open_device(options.device)?;
        let dtypes = DTypes {
            text_encoder: options.precision.resolve::<B>(&device, NetworkKind::TextEncoder)?,
            transformer: options.precision.resolve::<B>(&device, NetworkKind::Transformer)?,
            vae: options.vae_precision().resolve::<B>(&device, NetworkKind::Vae)?,
        };
        model.check_weights::<B>(&device, dtypes)?;
        Ok(Self {
            dtypes,
            wishes: options.wishes,
            memory_limit: options.memory_limit,
            require_finite: options.require_finite,
            checks_finite: !options.skip_finite_checks,
            model,
            device,
            text_encoder: Resident::while_leased(),
            transformer: Resident::kept(),
            vae: Resident::kept(),
            embeds: Mutex::default(),
            told_of_slow_disk: Mutex::default(),
            colours: Resident::kept(),
        })
    }

    /// The dtypes that it computes in on its device.
    pub fn dtypes(&self) -> DTypes {
        self.dtypes
    }

    /// The device that it computes on.
    pub fn device(&self) -> &B::Device {
        &self.device
    }

    /// The defaults of this model.
    pub fn preset(&self) -> Preset {
        self.model.preset()
    }

    /// The task of the model, and its scheduler.
    pub fn spec(&self) -> &ModelSpec {
        &self.model.spec
    }

    /// A request with every value resolved: its own, else the model's default. [`memory`](Self::memory)
    /// tells what it takes.
    ///
    /// # Errors
    /// If the model cannot work with a value, or makes streams only. [`generate`](Self::generate) finds this before it
    /// does anything.
    pub fn plan(&self, request: &Request) -> Result<Plan, Error> {
        if self.spec().task == Task::CausalTextToVideo {
            return Err(RequestError::OnlyStreamed.into());
        }
        Ok(Plan::new(request, &self.model)?)
    }

    /// Lets go of a part that has been loaded, to free its memory; it is loaded again when it is next
    /// needed. A run that is under way keeps what it uses.
    pub fn unload(&self, role: Role) {
        match role {
            Role::TextEncoder => self.text_encoder.unload(),
            Role::Transformer | Role::Transformer2 => self.transformer.unload(),
            Role::Vae => self.vae.unload(),
            // Not kept after its use; small, and needed by every request.
            Role::ImageEncoder | Role::Tokenizer => {}
        }
    }

    /// The latents that [`LatentsWriter`](crate::LatentsWriter) wrote.
    ///
    /// # Errors
    /// If the file is missing, damaged, or holds something else or latents of another model.
    pub fn load_latents(&self, path: impl AsRef<Path>) -> Result<Vec<SavedLatents<B>>, Error> {
        let LatentsFile { path, shape, values, metadata } = LatentsFile::open(path.as_ref())?;
        let [videos, channels, frames, height, width] = shape;
        let z_dim = self.model.vae.config.z_dim;
        if channels != z_dim || shape.contains(&0) {
            let expected = format!("[N, {z_dim}, T, H, W]");
            return Err(TensorFileError::shape(format!("{path}: latents"), &shape, expected).into());
        }
        let one = [1, channels, frames, height, width];
        let mut metadata = metadata.into_iter();
        let video = |values: &[f32]| {
            (Latents::from_vec(values.to_vec(), one, &self.device), metadata.next())
        };
        Ok(values.chunks_exact(values.len() / videos).map(video).collect())
    }

    /// Loads the text encoder.
    pub(crate) fn load_text_encoder(
        &self,
        residency: Residency,
        observer: &mut Observer,
    ) -> Result<Umt5Encoder<B>, Error> {
        let component = self.model.text_encoder()?;
        let options = ReadOptions::new(self.dtypes.text_encoder).residency(residency);
        self.load_part(Role::TextEncoder, component, options, observer)
    }

    /// Loads the image encoder, with how images are brought to it; `None` where the model attends to none.
    pub(crate) fn image_encoder(
        &self,
        observer: &mut Observer,
    ) -> Result<Option<(ClipVisionEncoder<B>, &ClipPreprocess)>, Error> {
        let Some(ImageEncoder { vision, preprocess }) = &self.model.image_encoder else {
            return Ok(None);
        };
        let options = ReadOptions::new(self.dtypes.transformer);
        let encoder = self.load_part(Role::ImageEncoder, vision, options, observer)?;
        Ok(Some((encoder, preprocess)))
    }

    /// The transformer, or the second of two, loaded the first time. Another one, or one that is held in another
    /// way, is let go.
    pub(crate) fn transformer(
        &self,
        role: Role,
        residency: Residency,
        observer: &mut Observer,
    ) -> Result<Arc<WanTransformer<B>>, Error> {
        let component = match (role, &self.model.transformer_2) {
            (Role::Transformer2, Some(second)) => second,
            _ => &self.model.transformer,
        };
        let options = ReadOptions::new(self.dtypes.transformer).residency(residency);
        let load = || self.load_part(role, component, options, observer);
        self.transformer.lease().get_or_load_as((role, residency), load)
    }

    /// The VAE, loaded the first time.
    pub(crate) fn vae(&self, observer: &mut Observer) -> Result<Arc<WanVae<B>>, Error> {
        let (component, options) = (&self.model.vae, ReadOptions::new(self.dtypes.vae));
        self.vae.lease().get_or_load(|| self.load_part(Role::Vae, component, options, observer))
    }

    /// Tells of weights that come more slowly than a part computes; of each part once.
    pub(crate) fn tell_of_slow_reading(
        &self,
        role: Role,
        pace: Option<ReadingPace>,
        observer: &mut Observer,
    ) -> Result<(), Error> {
        let Some(pace) = pace.filter(ReadingPace::is_slower_than_computation) else {
            return Ok(());
        };
        if !self.told_of_slow_disk.lock().unwrap_or_else(PoisonError::into_inner).insert(role) {
            return Ok(());
        }
        let bytes_per_second = pace.bytes_per_second();
        observer.emit(Event::SlowDisk { role, bytes_per_second })
    }

    fn load_part<N: Network<B>>(
        &self,
        role: Role,
        component: &Component<N::Config>,
        options: ReadOptions,
        observer: &mut Observer,
    ) -> Result<N, Error> {
        let start = Instant::now();
        observer.emit(Event::Loading { role })?;
        let options =
            options.require_finite(self.require_finite).cancel(observer.cancel_token().clone());
        let network = load::<B, N>(&component.tensors, &self.device, options, &component.config)?;
        observer.emit(Event::Loaded { role, elapsed: start.elapsed() })?;
        Ok(network)
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
