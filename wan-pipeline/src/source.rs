//! From the name of a model to its files: a folder, files compiled in, or a repository in the hub.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use wan_io::files::ModelFiles;
#[cfg(feature = "hub")]
use wan_io::hub::{Hub, HubError, HubEvent, HubObserver, HubOptions, Snapshot};
use wan_io::integrity::{self, Verify};

use crate::components::Parts;
#[cfg(feature = "hub")]
use crate::components::{check_config, needed_parts};
use crate::layout::{INDEX, Layout, PREPROCESSOR, SCHEDULER, WeightFiles};
use crate::model_name::{ModelName, short_name};
#[cfg(feature = "hub")]
use crate::model_name::{Repository, did_you_mean};
#[cfg(feature = "hub")]
use crate::spec::Description;
use crate::{Error, Event, Observer, Role};

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

impl Source {
    /// The revision that the caller says beside the name.
    #[cfg(feature = "hub")]
    pub(crate) fn revision(&self) -> Option<&str> {
        self.revision.as_deref()
    }

    /// Without the hub no revision can be asked for.
    #[cfg(not(feature = "hub"))]
    pub(crate) fn revision(&self) -> Option<&str> {
        None
    }

    /// The address of the hub, where it is known.
    #[cfg(feature = "hub")]
    pub(crate) fn endpoint(&self) -> Option<String> {
        Some(self.hub_options().ok()?.endpoint)
    }

    #[cfg(feature = "hub")]
    fn hub_options(&self) -> Result<HubOptions, HubError> {
        self.hub.clone().map_or_else(HubOptions::from_env, Ok)
    }
}

/// A model's folder with all that is needed of it, whole.
pub(crate) struct ModelLocation {
    pub(crate) name: String,
    pub(crate) folder: Option<(ModelFiles, Layout)>,
}

/// Finds the model; downloads what is missing and compares with checksums as far as they are known.
pub(crate) fn find(
    source: &Source,
    parts: &Parts,
    observer: &mut Observer,
) -> Result<ModelLocation, Error> {
    let Some(model) = &source.model else {
        let name = parts.file(Role::Transformer).map(short_name).unwrap_or_default();
        return Ok(ModelLocation { name, folder: None });
    };
    let found = ModelName::resolve(model, source)?;
    let name = found.short();
    let folder = match found {
        ModelName::Folder(folder) => {
            let files = ModelFiles::folder(&folder)?;
            let layout = Layout::detect(&files)?;
            let needed = NeededFiles::for_layout(layout, parts, |file| files.has(file));
            verify_folder(&folder, &files, &needed, source.verify.unwrap_or_default(), observer)?;
            (files, layout)
        }
        ModelName::BuiltIn(files) => {
            let layout = Layout::detect(&files)?;
            (files, layout)
        }
        #[cfg(feature = "hub")]
        ModelName::Repository(repository) => download(source, &repository, parts, observer)?,
    };
    Ok(ModelLocation { name, folder: Some(folder) })
}

/// Finds a model that is one network in a folder of its own, as [`find`] does: `needed` tells its layout from all files
/// that are there, and which of them are needed; `check` refuses its configs before its weights are downloaded.
pub(crate) fn find_files<L: Copy>(
    source: &Source,
    needed: impl Fn(&dyn Fn(&str) -> bool) -> (L, NeededFiles),
    check: impl Fn(L, &ModelFiles) -> Result<(), Error>,
    observer: &mut Observer,
) -> Result<(ModelFiles, L), Error> {
    #[cfg(not(feature = "hub"))]
    let _ = check; // Nothing is downloaded.
    let name = source.model.as_deref().unwrap_or(Path::new(""));
    match ModelName::resolve(name, source)? {
        ModelName::Folder(folder) => {
            let files = ModelFiles::folder(&folder)?;
            let (layout, needed) = needed(&|file| files.has(file));
            verify_folder(&folder, &files, &needed, source.verify.unwrap_or_default(), observer)?;
            Ok((files, layout))
        }
        ModelName::BuiltIn(files) => {
            let (layout, _) = needed(&|file| files.has(file));
            Ok((files, layout))
        }
        #[cfg(feature = "hub")]
        ModelName::Repository(repository) => {
            let observer = &mut hub_observer(observer);
            let snapshot = open_repository(source, &repository, observer)?;
            let (layout, needed) = needed(&|file| snapshot.has(file));
            snapshot.fetch(&needed.small, observer)?;
            let files = ModelFiles::folder(&snapshot.folder())?;
            check(layout, &files)?;
            fetch_weights(&snapshot, &files, &needed.weights, observer)?;
            Ok((files, layout))
        }
    }
}

/// The files that are read, without those of parts that have files of their own.
pub(crate) struct NeededFiles {
    pub(crate) small: Vec<String>,
    pub(crate) weights: Vec<WeightFiles>,
}

impl NeededFiles {
    fn for_layout(layout: Layout, parts: &Parts, has: impl Fn(&str) -> bool) -> Self {
        let (mut small, mut weights) = (Vec::new(), Vec::new());
        if layout == Layout::Diffusers {
            small.extend([INDEX.to_owned(), SCHEDULER.to_owned()]);
        }
        if parts.is_in_folder(Role::Tokenizer) {
            small.push(layout.tokenizer_among(&has).to_owned());
        }
        for role in Role::NETWORKS.into_iter().filter(|role| parts.is_in_folder(*role)) {
            let is_needed = !role.is_optional() || layout.has_part(role, &has);
            let Some(files) = layout.files(role, &has).filter(|_| is_needed) else { continue };
            small.extend(files.config.map(str::to_owned));
            weights.push(files.weights);
        }
        if layout == Layout::Diffusers && has(PREPROCESSOR) {
            small.push(PREPROCESSOR.to_owned());
        }
        Self { small, weights }
    }
}

/// Compares the files that are needed of a folder with what is known of them: from a `SHA256SUMS`, or
/// from the names of the files in a cache of the hub.
fn verify_folder(
    folder: &Path,
    files: &ModelFiles,
    needed: &NeededFiles,
    policy: Verify,
    observer: &mut Observer,
) -> Result<(), Error> {
    if policy == Verify::Never {
        return Ok(());
    }
    let mut names = needed.small.clone();
    for stored in &needed.weights {
        names.extend(stored.list(files)?);
    }
    names.retain(|name| files.has(name)); // what is missing is named when it is opened
    let known = integrity::known(folder, &names)?;
    let markers = integrity::markers_for(folder);
    let mut progress = |done, total| flow(observer, Event::Verifying { done, total });
    integrity::check(&known, policy, &markers, &mut progress)?;
    Ok(())
}

/// Brings what is needed of a repository into the cache: configs first, so that a model that cannot
/// be used is refused before its weights are downloaded.
#[cfg(feature = "hub")]
fn download(
    source: &Source,
    repository: &Repository,
    parts: &Parts,
    observer: &mut Observer,
) -> Result<(ModelFiles, Layout), Error> {
    let observer = &mut hub_observer(observer);
    let snapshot = open_repository(source, repository, observer)?;
    let has = |file: &str| snapshot.has(file);
    let layout = Layout::among(has);
    let mut needed = NeededFiles::for_layout(layout, parts, has);
    // Without it a request can name the scheduler.
    needed.small.retain(|file| file != SCHEDULER || has(file));
    snapshot.fetch(&needed.small, observer)?;
    let files = ModelFiles::folder(&snapshot.folder())?;
    let layout = Layout::detect(&files)?;
    check_configs(&files, layout, parts)?;
    let is_lacking = |role: &Role| parts.is_in_folder(*role) && !layout.has_part(*role, has);
    let lacking = needed_parts(&files, layout)?.into_iter().filter(is_lacking);
    let lacking = lacking.filter_map(|role| Some(layout.files(role, has)?.first()));
    let lacking: Vec<String> = lacking.collect();
    snapshot.fetch(&lacking, observer)?; // says which file the repository does not have
    fetch_weights(&snapshot, &files, &needed.weights, observer)?;
    Ok((files, layout))
}

/// What is told of a download.
#[cfg(feature = "hub")]
fn hub_observer(observer: &mut Observer) -> impl FnMut(HubEvent) -> ControlFlow<()> {
    move |event| {
        let event = match event {
            HubEvent::Verifying { done, total } => Event::Verifying { done, total },
            other => Event::Download(other),
        };
        flow(observer, event)
    }
}

#[cfg(feature = "hub")]
fn open_repository(
    source: &Source,
    repository: &Repository,
    observer: &mut HubObserver,
) -> Result<Snapshot, Error> {
    let mut options = source.hub_options()?;
    options.verify = source.verify.unwrap_or(options.verify);
    let Repository { id, revision } = repository;
    let revision = revision.as_deref().unwrap_or("main");
    let opened = Hub::new(options)?.open(id, revision, observer);
    opened.map_err(|error| no_model(error, source, id))
}

#[cfg(feature = "hub")]
fn fetch_weights(
    snapshot: &Snapshot,
    files: &ModelFiles,
    stored: &[WeightFiles],
    observer: &mut HubObserver,
) -> Result<(), Error> {
    let mut weights = Vec::new();
    for stored in stored {
        weights.extend(weight_files(snapshot, files, *stored, observer)?);
    }
    snapshot.fetch(&weights, observer)?;
    Ok(snapshot.finish()?)
}

/// The error of a repository that cannot be had; a name that may have been meant for a folder is called that
/// too.
#[cfg(feature = "hub")]
fn no_model(error: HubError, source: &Source, id: &str) -> Error {
    use HubError::{AuthRequired, NotCached, RepoNotFound, Unreachable};
    let name = source.model.as_deref().unwrap_or(Path::new(""));
    match error {
        AuthRequired { .. } | NotCached { .. } | RepoNotFound { .. } | Unreachable { .. }
            if name.components().as_path() == Path::new(id) =>
        {
            Error::NoModel { source: Box::new(error), hint: did_you_mean(name) }
        }
        other => other.into(),
    }
}

/// The files of a part's weights in a repository.
#[cfg(feature = "hub")]
fn weight_files(
    snapshot: &Snapshot,
    files: &ModelFiles,
    stored: WeightFiles,
    observer: &mut HubObserver,
) -> Result<Vec<String>, Error> {
    let first = stored.list_first(&snapshot.names_in(stored.folder()))?;
    match first.iter().any(|file| file.ends_with(".json")) {
        true => {
            snapshot.fetch(&first, observer)?;
            Ok(stored.list(files)?)
        }
        false => Ok(first),
    }
}

/// Validates the configs in a folder whose weights are not there yet.
#[cfg(feature = "hub")]
fn check_configs(files: &ModelFiles, layout: Layout, parts: &Parts) -> Result<(), Error> {
    Description::read(files, layout)?;
    for role in Role::NETWORKS.into_iter().filter(|role| parts.is_in_folder(*role)) {
        check_config(files, layout, role)?;
    }
    Ok(())
}

/// Tells the observer, for the readers of `wan-io`, which stop at a `Break`.
fn flow(observer: &mut Observer, event: Event) -> ControlFlow<()> {
    match observer.emit(event) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_) => ControlFlow::Break(()),
    }
}
