//! From the name of a model to its files: a folder, files compiled in, or a repository in the hub.

use std::path::{Path, PathBuf};

use wan_io::files::ModelFiles;
#[cfg(feature = "hub")]
use wan_io::hub::{Hub, HubEvent, HubObserver, HubOptions, Snapshot};
use wan_io::integrity::{self, Verify};
use wan_models::transformer::WanTransformerConfig;
use wan_models::umt5::Umt5Config;
use wan_models::vae::WanVaeConfig;

#[cfg(feature = "hub")]
use crate::layout::check_config;
use crate::layout::{INDEX, Layout, SCHEDULER, Stored};
use crate::model::PartFiles;
#[cfg(feature = "hub")]
use crate::model::read_scheduler;
use crate::{Error, Event, Observer, embedded};

/// What the caller says about where a model comes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Source {
    pub(crate) model: Option<PathBuf>,
    pub(crate) verify: Option<Verify>,
    #[cfg(feature = "hub")]
    pub(crate) revision: Option<String>,
    #[cfg(feature = "hub")]
    pub(crate) hub: Option<HubOptions>,
}

/// A model's folder with all that is needed of it, whole.
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) folder: Option<(ModelFiles, Layout)>,
}

/// Finds the model; downloads what is missing and compares with checksums as far as they are known.
pub(crate) fn find(
    source: &Source,
    parts: &PartFiles,
    observer: &mut Observer,
) -> Result<Found, Error> {
    let Some(model) = &source.model else {
        let name = parts.transformer.as_deref().map(short_name).unwrap_or_default();
        return Ok(Found { name, folder: None });
    };
    let name = short_name(model);
    let text = model.to_string_lossy();
    if model.exists() {
        let files = ModelFiles::folder(model)?;
        let layout = Layout::of(&files)?;
        let needed = Needed::of(layout, parts);
        verify_folder(model, &files, &needed, source.verify.unwrap_or_default(), observer)?;
        return Ok(Found { name, folder: Some((files, layout)) });
    }
    if let Some(files) = embedded::find(&text) {
        let layout = Layout::of(&files)?;
        return Ok(Found { name, folder: Some((files, layout)) });
    }
    #[cfg(feature = "hub")]
    if wan_io::hub::is_repo_id(&text) {
        let folder = download(source, &text, parts, observer)?;
        return Ok(Found { name, folder: Some(folder) });
    }
    let hub = if cfg!(feature = "hub") { "" } else { "; but the feature `hub` is off" };
    Err(Error::UnknownModel { name: text.into_owned(), known: embedded::names(), hub })
}

/// The last part of a path or repository.
fn short_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// The files that a pipeline reads, without those of parts that have files of their own.
struct Needed {
    small: Vec<String>,
    weights: Vec<Stored>,
}

impl Needed {
    fn of(layout: Layout, parts: &PartFiles) -> Self {
        let mut small = Vec::new();
        let mut weights = Vec::new();
        if layout == Layout::Diffusers {
            small.extend([INDEX.to_owned(), SCHEDULER.to_owned()]);
        }
        if parts.tokenizer.is_none() {
            small.push(layout.tokenizer().to_owned());
        }
        let places = [
            (&parts.text_encoder, layout.places::<Umt5Config>()),
            (&parts.transformer, layout.places::<WanTransformerConfig>()),
            (&parts.vae, layout.places::<WanVaeConfig>()),
        ];
        for (own, (config, stored)) in places {
            if own.is_none() {
                small.extend(config);
                weights.push(stored);
            }
        }
        Self { small, weights }
    }
}

/// Compares the files that are needed of a folder with what is known of them: from a `SHA256SUMS`, or
/// from the names of the files in a cache of the hub.
fn verify_folder(
    folder: &Path,
    files: &ModelFiles,
    needed: &Needed,
    policy: Verify,
    observer: &mut Observer,
) -> Result<(), Error> {
    if policy == Verify::Never {
        return Ok(());
    }
    let mut names = needed.small.clone();
    for stored in &needed.weights {
        names.extend(stored.files(files)?);
    }
    names.retain(|name| files.has(name)); // what is missing is named when it is opened
    let known = integrity::known(folder, &names)?;
    let markers = integrity::markers_for(folder);
    let mut progress = |done, total| observer(Event::Verifying { done, total });
    integrity::check(&known, policy, &markers, &mut progress)?;
    Ok(())
}

/// Brings what is needed of a repository into the cache: configs first, so that a model that cannot
/// be used is refused before its weights are downloaded.
#[cfg(feature = "hub")]
fn download(
    source: &Source,
    repo: &str,
    parts: &PartFiles,
    observer: &mut Observer,
) -> Result<(ModelFiles, Layout), Error> {
    let mut options = match &source.hub {
        Some(options) => options.clone(),
        None => HubOptions::from_env()?,
    };
    options.verify = source.verify.unwrap_or(options.verify);
    let revision = source.revision.as_deref().unwrap_or("main");
    let observer = &mut |event: HubEvent| {
        observer(match event {
            HubEvent::Verifying { done, total } => Event::Verifying { done, total },
            other => Event::Hub(other),
        })
    };
    let snapshot = Hub::new(options)?.open(repo, revision, observer)?;
    let layout = match snapshot.has(INDEX) {
        true => Layout::Diffusers,
        false => Layout::Original,
    };
    let needed = Needed::of(layout, parts);
    snapshot.fetch(&needed.small, observer)?;
    let files = ModelFiles::folder(&snapshot.folder())?;
    check_configs(&files, Layout::of(&files)?, parts)?;
    let mut weights = Vec::new();
    for stored in needed.weights {
        weights.extend(weight_files(&snapshot, &files, stored, observer)?);
    }
    snapshot.fetch(&weights, observer)?;
    snapshot.finish()?;
    Ok((files, layout))
}

/// The files of a part's weights in a repository.
#[cfg(feature = "hub")]
fn weight_files(
    snapshot: &Snapshot,
    files: &ModelFiles,
    stored: Stored,
    observer: &mut HubObserver,
) -> Result<Vec<String>, Error> {
    let single = stored.single();
    let index = format!("{single}.index.json");
    if snapshot.has(&single) || !snapshot.has(&index) {
        return Ok(vec![single]);
    }
    snapshot.fetch(&[index], observer)?;
    Ok(stored.files(files)?)
}

/// Validates the configs in a folder whose weights are not there yet.
#[cfg(feature = "hub")]
fn check_configs(files: &ModelFiles, layout: Layout, parts: &PartFiles) -> Result<(), Error> {
    if layout == Layout::Diffusers {
        read_scheduler(files)?;
    }
    if parts.text_encoder.is_none() {
        check_config::<Umt5Config>(files, layout)?;
    }
    if parts.transformer.is_none() {
        check_config::<WanTransformerConfig>(files, layout)?;
    }
    if parts.vae.is_none() {
        check_config::<WanVaeConfig>(files, layout)?;
    }
    Ok(())
}
