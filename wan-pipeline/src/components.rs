//! The components of a model: their files found, their configs validated and in agreement, before
//! anything is loaded.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use burn::tensor::DType;
use serde_json::Value;
use wan_core::Backend;
use wan_core::config::ConfigError;
use wan_io::files::ModelFiles;
use wan_io::image::{ClipPreprocess, Fit, FitRule};
use wan_io::text::Tokenizer;
use wan_io::video::{FrameRate, VideoSpec};
use wan_io::weights::Weights;
use wan_models::clip::{ClipVisionConfig, ClipVisionEncoder};
use wan_models::load::{self, Network, NetworkConfig, TensorSource};
use wan_models::transformer::{OriginalConfig, WanTransformer, WanTransformerConfig};
use wan_models::umt5::{Umt5Config, Umt5Encoder};
use wan_models::vae::{WanVae, WanVaeConfig};

use crate::layout::{CONFIG, Class, Layout, PREPROCESSOR};
use crate::spec::{Description, check_kind};
use crate::{DTypes, Error, ModelError, ModelSpec, Preset, Role};

/// The caller's wishes about single parts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    /// Files that take the place of those of a model's folder.
    pub(crate) files: Vec<(Role, PathBuf)>,
    /// Parts that are not opened at all.
    pub(crate) left_out: Vec<Role>,
}

impl Parts {
    /// The file of a part.
    pub(crate) fn file(&self, role: Role) -> Option<&Path> {
        let own = self.files.iter().rev().find(|(part, _)| *part == role);
        own.map(|(_, file)| file.as_path())
    }

    /// Whether a part is taken from the model's folder.
    pub(crate) fn is_in_folder(&self, role: Role) -> bool {
        self.file(role).is_none() && !self.left_out.contains(&role)
    }
}

/// A network that is ready to be loaded.
pub(crate) struct Component<C> {
    pub(crate) config: C,
    /// How messages name the config.
    pub(crate) config_path: String,
    /// The tensors by the names that the network asks for.
    pub(crate) tensors: Arc<dyn TensorSource>,
    /// The tensors as they lie in their files.
    files: Arc<Weights>,
    fingerprint: OnceLock<String>,
}

/// The network that looks at images, and how they are brought to it.
pub(crate) struct ImageEncoder {
    pub(crate) vision: Component<ClipVisionConfig>,
    pub(crate) preprocess: ClipPreprocess,
}

/// A model: every config valid and in agreement with the others, every tensor where its config says.
pub(crate) struct Components {
    pub(crate) name: String,
    pub(crate) spec: ModelSpec,
    pub(crate) text_encoder: Option<Component<Umt5Config>>,
    /// Of models that attend to images.
    pub(crate) image_encoder: Option<ImageEncoder>,
    pub(crate) transformer: Component<WanTransformerConfig>,
    /// The second of two experts.
    pub(crate) transformer_2: Option<Component<WanTransformerConfig>>,
    pub(crate) vae: Component<WanVaeConfig>,
    tokenizer: Option<Tokenizer>,
}

impl Components {
    /// Opens a model from its folder, the parts that have files of their own from these. Without a
    /// folder all parts must have one.
    pub(crate) fn open(
        name: String,
        folder: Option<(&ModelFiles, Layout)>,
        parts: &Parts,
    ) -> Result<Self, Error> {
        let mut description = match folder {
            Some((files, layout)) => Description::read(files, layout)?,
            None => Description::original(false),
        };
        description.has_experts |= parts.file(Role::Transformer2).is_some();
        let opening = Opening { folder, parts, has_experts: description.has_experts };
        let text_encoder = opening.optional(Role::TextEncoder)?;
        let transformer: Component<WanTransformerConfig> = opening.network(Role::Transformer)?;
        let transformer_2 = match description.has_experts {
            true => Some(opening.network(Role::Transformer2)?),
            false => None,
        };
        let image_encoder = match transformer.config.image_dim {
            Some(_) => Some(opening.image_encoder()?),
            None => None,
        };
        let vae = opening.network(Role::Vae)?;
        let spec = ModelSpec::new(description, &transformer, &vae)?;
        let tokenizer = match text_encoder.is_some() {
            true => Some(opening.tokenizer()?),
            false => None,
        };
        let (tokenizer, tokenizer_path) = tokenizer.unzip();
        let model = Self {
            name,
            spec,
            text_encoder,
            image_encoder,
            transformer,
            transformer_2,
            vae,
            tokenizer,
        };
        model.check_agreement(&tokenizer_path.unwrap_or_default())?;
        Ok(model)
    }

    /// Compares all weights with the configs; reads no data.
    pub(crate) fn check_weights<B: Backend>(
        &self,
        device: &B::Device,
        dtypes: DTypes,
    ) -> Result<(), Error> {
        if let Some(text_encoder) = &self.text_encoder {
            text_encoder.check::<B, Umt5Encoder<B>>(device, dtypes.text_encoder)?;
        }
        if let Some(ImageEncoder { vision, .. }) = &self.image_encoder {
            vision.check::<B, ClipVisionEncoder<B>>(device, dtypes.transformer)?;
        }
        for transformer in [&self.transformer].into_iter().chain(&self.transformer_2) {
            transformer.check::<B, WanTransformer<B>>(device, dtypes.transformer)?;
        }
        self.vae.check::<B, WanVae<B>>(device, dtypes.vae)
    }

    /// Size and number of the frames that latents `[1, C, T, H, W]` are decoded to.
    pub(crate) fn decoded_spec(&self, latents: [usize; 5], fps: FrameRate) -> VideoSpec {
        let ([_, _, frames, height, width], vae) = (latents, &self.vae.config);
        let pixels = |side: usize| side.saturating_mul(vae.spatial_factor()) as u32;
        let later = frames.saturating_sub(1).saturating_mul(vae.temporal_factor());
        VideoSpec { width: pixels(width), height: pixels(height), fps, frames: later as u32 + 1 }
    }

    /// The defaults of the model.
    pub(crate) fn preset(&self) -> Preset {
        let Self { name, spec, transformer, .. } = self;
        Preset::find(name, spec.task, spec.boundary.is_some(), &transformer.config)
    }

    /// How a picture is brought to about the number of pixels that the model's videos have.
    pub(crate) fn fit(&self, rule: FitRule) -> Fit {
        let preset = self.preset();
        let max_area = (preset.width * preset.height) as u64;
        let [_, height, width] = self.transformer.config.patch_size;
        let factor = height.max(width) * self.vae.config.spatial_factor();
        Fit { rule, max_area, factor: factor as u32 }
    }

    pub(crate) fn tokenizer(&self) -> Result<&Tokenizer, ModelError> {
        self.tokenizer.as_ref().ok_or_else(left_out)
    }

    pub(crate) fn text_encoder(&self) -> Result<&Component<Umt5Config>, ModelError> {
        self.text_encoder.as_ref().ok_or_else(left_out)
    }

    fn check_agreement(&self, tokenizer_path: &str) -> Result<(), ModelError> {
        let transformer = &self.transformer;
        if let Some(second) = &self.transformer_2 {
            second.check_expert(transformer)?;
        }
        if let Some(ImageEncoder { vision, .. }) = &self.image_encoder {
            transformer.check_image_encoder(vision)?;
        }
        let Some(text_encoder) = &self.text_encoder else { return Ok(()) };
        let (found, expected) = (transformer.config.text_dim, text_encoder.config.d_model);
        if found != expected {
            let other = format!("d_model in {}", text_encoder.config_path);
            return Err(transformer.disagrees("text_dim", found, other, expected));
        }
        // The embedding table may have more rows than there are tokens, as that of umT5 has.
        let needed = self.tokenizer.as_ref().map_or(0, |tokenizer| tokenizer.max_id() as usize + 1);
        let found = text_encoder.config.vocab_size;
        if found < needed {
            let other = format!("the number of tokens in {tokenizer_path}");
            return Err(text_encoder.disagrees("vocab_size", found, other, needed));
        }
        Ok(())
    }
}

fn left_out() -> ModelError {
    ModelError::LeftOut { part: Role::TextEncoder, needed_for: "a prompt without embeddings" }
}

impl<C: NetworkConfig> Component<C> {
    pub(crate) fn new(
        config: C,
        config_path: String,
        tensors: Arc<dyn TensorSource>,
        files: Arc<Weights>,
    ) -> Result<Self, Error> {
        match config.validate() {
            Ok(()) => {
                let fingerprint = OnceLock::new();
                Ok(Self { config, config_path, tensors, files, fingerprint })
            }
            Err(source) => Err(ModelError::Config { path: config_path, source }.into()),
        }
    }

    pub(crate) fn check<B: Backend, N: Network<B, Config = C>>(
        &self,
        device: &B::Device,
        dtype: DType,
    ) -> Result<(), Error> {
        let check = |config| load::check::<B, N>(&self.tensors, device, dtype, config);
        let Err(error) = check(&self.config) else { return Ok(()) };
        // Where the config alone is wrong, a field of it says so better than a list of tensors.
        match self.config.fitted(self.tensors.as_ref()) {
            Ok(fitted) if fitted.validate().is_ok() && check(&fitted).is_ok() => {
                Err(self.does_not_fit(&fitted).map_or_else(|| error.into(), Error::from))
            }
            _ => Err(error.into()),
        }
    }

    /// The first field that differs from a config that fits the tensors.
    fn does_not_fit(&self, fitted: &C) -> Option<ModelError> {
        let json = |config: &C| serde_json::to_value(config).unwrap_or_default();
        let (ours, theirs, default) = (json(&self.config), json(fitted), json(&C::default()));
        let (field, found, expected) = difference(String::new(), &ours, &theirs)?;
        let is_default = default.pointer(&field.replace('.', "/")) == Some(found);
        Some(ModelError::ConfigDoesNotFit {
            path: self.config_path.clone(),
            field: field.trim_start_matches('.').to_owned(),
            found: format!("{found}{}", if is_default { " (its default)" } else { "" }),
            weights: self.tensors.origin(),
            expected: expected.to_string(),
        })
    }

    /// The fingerprint of the stored weights; they are read the first time.
    pub(crate) fn fingerprint(&self) -> Result<String, Error> {
        if let Some(known) = self.fingerprint.get() {
            return Ok(known.clone());
        }
        let read = self.files.fingerprint()?;
        Ok(self.fingerprint.get_or_init(|| read).clone())
    }

    /// How a message says that a field contradicts another config.
    pub(crate) fn disagrees(
        &self,
        field: &'static str,
        found: usize,
        other: String,
        expected: usize,
    ) -> ModelError {
        let path = self.config_path.clone();
        ModelError::ConfigsDisagree { path, field, found, other, expected }
    }
}

impl Component<WanTransformerConfig> {
    /// Whether it attends to what the image encoder gives.
    fn check_image_encoder(&self, vision: &Component<ClipVisionConfig>) -> Result<(), ModelError> {
        let (config, states) = (&self.config, &vision.config);
        if let Some(found) = config.image_dim.filter(|&found| found != states.hidden_size) {
            let other = format!("hidden_size in {}", vision.config_path);
            return Err(self.disagrees("image_dim", found, other, states.hidden_size));
        }
        let both = 2 * states.tokens();
        match config.pos_embed_seq_len.filter(|&found| found != both) {
            Some(found) => {
                let other = format!("the tokens of two images in {}", vision.config_path);
                Err(self.disagrees("pos_embed_seq_len", found, other, both))
            }
            None => Ok(()),
        }
    }

    /// Whether it can take over from another expert in the middle of a run: all that latents and conditions meet is
    /// of the same size.
    fn check_expert(&self, first: &Self) -> Result<(), ModelError> {
        type Field = (&'static str, fn(&WanTransformerConfig) -> usize);
        let fields: [Field; 11] = [
            ("in_channels", |config| config.in_channels),
            ("out_channels", |config| config.out_channels),
            ("text_dim", |config| config.text_dim),
            ("patch_size", |config| config.patch_size[0]),
            ("patch_size", |config| config.patch_size[1]),
            ("patch_size", |config| config.patch_size[2]),
            ("image_dim", |config| config.image_dim.unwrap_or(0)),
            ("pos_embed_seq_len", |config| config.pos_embed_seq_len.unwrap_or(0)),
            ("vace_layers", |config| config.vace_layers().len()),
            ("vace_in_channels", |config| config.vace_channels()),
            ("rope_max_seq_len", |config| config.rope_max_seq_len),
        ];
        for (field, value) in fields {
            let (found, expected) = (value(&self.config), value(&first.config));
            if found != expected {
                let other = format!("{field} in {}", first.config_path);
                return Err(self.disagrees(field, found, other, expected));
            }
        }
        Ok(())
    }
}

/// The first field of `ours` that has another value in `theirs`, below `name` and with a dot before each name,
/// and both values.
fn difference<'a>(
    name: String,
    ours: &'a Value,
    theirs: &'a Value,
) -> Option<(String, &'a Value, &'a Value)> {
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => ours.iter().find_map(|(field, value)| {
            difference(format!("{name}.{field}"), value, theirs.get(field)?)
        }),
        _ => (ours != theirs).then_some((name, ours, theirs)),
    }
}

/// A model that is being opened.
struct Opening<'a> {
    folder: Option<(&'a ModelFiles, Layout)>,
    parts: &'a Parts,
    has_experts: bool,
}

impl Opening<'_> {
    fn optional<C: NetworkConfig>(&self, role: Role) -> Result<Option<Component<C>>, Error> {
        match self.parts.left_out.contains(&role) {
            true => Ok(None),
            false => self.network(role).map(Some),
        }
    }

    /// Opens a network: reads its config and the headers of its weights.
    fn network<C: NetworkConfig>(&self, role: Role) -> Result<Component<C>, Error> {
        let check = |weights: &Weights| check_kind(weights, role, self.has_experts);
        match self.parts.file(role) {
            Some(file) => from_file(file, role, check),
            None => self
                .folder(role)
                .and_then(|(files, layout)| from_folder(files, layout, role, check)),
        }
    }

    fn image_encoder(&self) -> Result<ImageEncoder, Error> {
        let vision: Component<ClipVisionConfig> = self.network(Role::ImageEncoder)?;
        let preprocess = match self.folder {
            Some((files, Layout::Diffusers)) if files.has(PREPROCESSOR) => {
                files.json(PREPROCESSOR)?
            }
            Some((_, Layout::Diffusers)) => ClipPreprocess::default(),
            _ => ClipPreprocess::original(vision.config.image_size as u32),
        };
        Ok(ImageEncoder { vision, preprocess })
    }

    /// The tokenizer, and how messages name it.
    fn tokenizer(&self) -> Result<(Tokenizer, String), Error> {
        if let Some(file) = self.parts.file(Role::Tokenizer) {
            return Ok((Tokenizer::open(file)?, file.display().to_string()));
        }
        let (files, layout) = self.folder(Role::Tokenizer)?;
        let file = layout.tokenizer_among(|file| files.has(file));
        let path = files.display_path(file);
        let bytes = files.read(file, Tokenizer::MAX_BYTES)?;
        Ok((Tokenizer::from_named_bytes(&bytes, &path)?, path))
    }

    fn folder(&self, part: Role) -> Result<(&ModelFiles, Layout), Error> {
        self.folder.ok_or(ModelError::MissingPart { part }.into())
    }
}

/// Opens a network in a model's folder.
fn from_folder<C: NetworkConfig>(
    files: &ModelFiles,
    layout: Layout,
    role: Role,
    check: impl Fn(&Weights) -> Result<(), ModelError>,
) -> Result<Component<C>, Error> {
    let Some(places) = layout.files(role, |file| files.has(file)) else {
        return Err(ModelError::MissingPart { part: role }.into());
    };
    if let (Layout::Diffusers, Some(file)) = (layout, places.config) {
        // The config first: it tells best what a folder with other weights is.
        let config = read_config::<C>(files, file)?;
        let weights = Arc::new(places.weights.open(files)?);
        check(&weights)?;
        let tensors = C::canonical_names(weights.clone())?;
        return Component::new(config, files.display_path(file), tensors, weights);
    }
    let weights = Arc::new(places.weights.open(files)?);
    check(&weights)?;
    let tensors = C::canonical_names(weights.clone())?;
    let (config, path) = match places.config {
        Some(file) => {
            (C::from_original(&original(files, file)?, tensors.as_ref())?, files.display_path(file))
        }
        None => (C::infer(tensors.as_ref())?, inferred(tensors.as_ref())),
    };
    Component::new(config, path, tensors, weights)
}

/// Opens a network in a single file of either layout, or in a folder of its own as diffusers has it. A
/// `config.json` beside the weights counts if it is one of this network; otherwise the tensors tell.
fn from_file<C: NetworkConfig>(
    file: &Path,
    role: Role,
    check: impl Fn(&Weights) -> Result<(), ModelError>,
) -> Result<Component<C>, Error> {
    let (files, weights) = if file.is_dir() {
        let files = ModelFiles::folder(file)?;
        let places = Layout::Diffusers.files(role, |_| true);
        let places = places.ok_or(ModelError::MissingPart { part: role })?;
        let weights = places.weights.open_alone(&files)?;
        (files, weights)
    } else {
        let folder = file.parent().filter(|parent| *parent != Path::new(""));
        let weights = Weights::open_path(file)?;
        (ModelFiles::folder(folder.unwrap_or(Path::new(".")))?, weights)
    };
    let weights = Arc::new(weights);
    check(&weights)?;
    let tensors = C::canonical_names(weights.clone())?;
    let (config, path) = match config_beside::<C>(&files, tensors.as_ref())? {
        Some(config) => (config, files.display_path(CONFIG)),
        None => (C::infer(tensors.as_ref())?, inferred(tensors.as_ref())),
    };
    Component::new(config, path, tensors, weights)
}

/// The config in a folder with single files, if it is one of this network.
fn config_beside<C: NetworkConfig>(
    files: &ModelFiles,
    tensors: &dyn TensorSource,
) -> Result<Option<C>, Error> {
    if !files.has(CONFIG) {
        return Ok(None);
    }
    let Class { class_name, model_type } = files.json(CONFIG)?;
    Ok(match OriginalConfig::is_class(&class_name) {
        _ if !C::is_kind(&class_name, &model_type) => None,
        true => Some(C::from_original(&original(files, CONFIG)?, tensors)?),
        false => Some(read_config(files, CONFIG)?),
    })
}

pub(crate) fn read_config<C: NetworkConfig>(files: &ModelFiles, file: &str) -> Result<C, Error> {
    let config: C = files.json(file)?;
    config.validate().map_err(|source| in_file(files, file, source))?;
    Ok(config)
}

/// `config.json` of the original layout.
fn original(files: &ModelFiles, file: &str) -> Result<OriginalConfig, Error> {
    let config: OriginalConfig = files.json(file)?;
    config.validate().map_err(|source| in_file(files, file, source))?;
    Ok(config)
}

fn in_file(files: &ModelFiles, file: &str, source: ConfigError) -> ModelError {
    ModelError::Config { path: files.display_path(file), source }
}

/// How messages name a config that the tensors tell.
pub(crate) fn inferred(tensors: &dyn TensorSource) -> String {
    format!("{} (from the shapes of its tensors)", tensors.origin())
}

/// Validates the config of a network whose weights are not there yet.
#[cfg(feature = "hub")]
pub(crate) fn check_config(files: &ModelFiles, layout: Layout, role: Role) -> Result<(), Error> {
    fn check<C: NetworkConfig>(
        files: &ModelFiles,
        layout: Layout,
        file: &str,
    ) -> Result<(), Error> {
        match layout {
            Layout::Diffusers => read_config::<C>(files, file).map(drop),
            Layout::Original | Layout::OriginalExperts => original(files, file).map(drop),
        }
    }
    let has = |file: &str| files.has(file);
    let places =
        layout.files(role, has).filter(|_| !role.is_optional() || layout.has_part(role, has));
    let Some(file) = places.and_then(|places| places.config) else { return Ok(()) };
    match role {
        Role::TextEncoder => check::<Umt5Config>(files, layout, file),
        Role::Transformer | Role::Transformer2 => {
            check::<WanTransformerConfig>(files, layout, file)
        }
        Role::ImageEncoder => check::<ClipVisionConfig>(files, layout, file),
        Role::Vae => check::<WanVaeConfig>(files, layout, file),
        Role::Tokenizer => Ok(()),
    }
}

/// The parts that only some models have and this one must have, as its configs tell before its weights are there.
#[cfg(feature = "hub")]
pub(crate) fn needed_parts(files: &ModelFiles, layout: Layout) -> Result<Vec<Role>, Error> {
    let places = layout.files(Role::Transformer, |file| files.has(file));
    let config = places.and_then(|places| places.config).filter(|file| files.has(file));
    let attends_to_images = match (layout, config) {
        (Layout::Diffusers, Some(file)) => {
            read_config::<WanTransformerConfig>(files, file)?.image_dim.is_some()
        }
        (Layout::Original, Some(file)) => original(files, file)?.attends_to_images(),
        // An experts' repository has no image encoder; the file of a caller tells later.
        (Layout::OriginalExperts, _) | (_, None) => false,
    };
    let has_experts = Description::read(files, layout)?.has_experts;
    let needed = [(Role::ImageEncoder, attends_to_images), (Role::Transformer2, has_experts)];
    Ok(needed.into_iter().filter(|(_, is_needed)| *is_needed).map(|(role, _)| role).collect())
}
