//! What the name of a model means.
//!
//! It is the path of a folder, the name of a built-in model, or that of a repository in the hub. Names
//! come in the forms that people have at hand: with a slash at the end, an address out of a browser, a
//! folder of the hub's cache. What is none of them is answered with what was probably meant.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use wan_io::files::{FileError, ModelFiles, expand_home};

use crate::layout::{CONFIG, INDEX, Layout};
use crate::source::Source;
use crate::{Error, ModelError, embedded};

/// The beginning of the name of a repository's folder in the hub's cache: `models--owner--name`.
const CACHE_PREFIX: &str = "models--";

/// The folder with the files of a repository's commits in the hub's cache.
const SNAPSHOTS: &str = "snapshots";

/// How alike two names must be for one to be taken for a typing mistake of the other.
const ALIKE: f64 = 0.6;

/// What a name means.
#[derive(Debug)]
pub(crate) enum ModelName {
    /// A folder that exists.
    Folder(PathBuf),
    /// A model that is compiled in.
    BuiltIn(ModelFiles),
    /// A repository in the hub.
    #[cfg(feature = "hub")]
    Repository(Repository),
}

/// A repository in the hub, as a name tells it.
#[cfg(feature = "hub")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Repository {
    /// `owner/name`
    pub(crate) id: String,
    /// The branch, tag or commit that is part of the name.
    pub(crate) revision: Option<String>,
}

impl ModelName {
    /// Finds what `name` means for a model from `source`.
    pub(crate) fn resolve(name: &Path, source: &Source) -> Result<Self, Error> {
        let text = name.to_string_lossy();
        let path = match text.strip_prefix("file://") {
            Some(path) => PathBuf::from(path),
            None => expand_home(name),
        };
        let built_in = embedded::find(&name.components().as_path().to_string_lossy());
        if path.is_dir() {
            // A folder that has the name of a built-in model by chance, and no model in it, does not
            // hide it.
            let has_model = || [INDEX, CONFIG].iter().any(|file| path.join(file).is_file());
            return match built_in {
                Some(files) if !has_model() => Ok(Self::BuiltIn(files)),
                _ => folder(path, source.revision()).map(Self::Folder),
            };
        }
        if let Some(files) = built_in {
            return Ok(Self::BuiltIn(files));
        }
        if path.exists() {
            return Err(single_file(&path).into());
        }
        #[cfg(feature = "hub")]
        if let Some(repository) = Repository::parse(&text, source.endpoint().as_deref())? {
            return repository.with(source.revision()).map(Self::Repository);
        }
        if let Err(source) = path.metadata()
            && source.kind() == ErrorKind::PermissionDenied
        {
            return Err(FileError::Io { path: path.display().to_string(), source }.into());
        }
        let hub = if cfg!(feature = "hub") { "" } else { "; but the feature `hub` is off" };
        let name = path.to_string_lossy().into_owned();
        let (known, hint) = (embedded::names(), did_you_mean(&path));
        Err(ModelError::Unknown { name, known, hub, hint }.into())
    }

    /// What messages and the metadata of videos call the model.
    pub(crate) fn short(&self) -> String {
        match self {
            Self::Folder(folder) => short_name(folder),
            Self::BuiltIn(ModelFiles::Embedded { name, .. }) => (*name).into(),
            Self::BuiltIn(ModelFiles::Folder(folder)) => short_name(folder),
            #[cfg(feature = "hub")]
            Self::Repository(repository) => short_name(Path::new(&repository.id)),
        }
    }
}

/// The last part of a path; for a folder in the hub's cache the name of its repository.
pub(crate) fn short_name(path: &Path) -> String {
    // `.` and `..` have none.
    let absolute = path.file_name().is_none().then(|| path.canonicalize().ok()).flatten();
    let path = absolute.as_deref().unwrap_or(path);
    let last =
        |path: &Path| path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
    let cached = path.ancestors().nth(2).map(last);
    match cached.as_deref().and_then(|name| name.strip_prefix(CACHE_PREFIX)) {
        Some(repo) => repo.rsplit("--").next().unwrap_or(repo).to_owned(),
        None => last(path),
    }
}

/// The folder of a model that a folder is meant for.
fn folder(path: PathBuf, revision: Option<&str>) -> Result<PathBuf, Error> {
    if is_model(&path) {
        return Ok(path);
    }
    if let Some(snapshot) = snapshot(&path, revision)? {
        return Ok(snapshot);
    }
    if let Some(model) = model_around(&path, 1) {
        return Err(ModelError::PartOfModel { path, model }.into());
    }
    let inside = models_in(&path);
    match inside.first() {
        Some(first) => {
            let (first, count) = (first.clone(), inside.len());
            Err(ModelError::ModelsInside { path, first, count }.into())
        }
        None => Ok(path), // what it lacks is said when its layout is looked for
    }
}

/// The snapshot that is meant by a repository's folder in the hub's cache, or by its `snapshots`.
fn snapshot(path: &Path, revision: Option<&str>) -> Result<Option<PathBuf>, Error> {
    let (repo, snapshots) = match path.file_name().is_some_and(|name| name == SNAPSHOTS) {
        true => (path.join(".."), path.to_owned()),
        false => (path.to_owned(), path.join(SNAPSHOTS)),
    };
    let is_cached = repo.join("refs").is_dir() || is_cached_repo(path);
    if !snapshots.is_dir() || !is_cached {
        return Ok(None);
    }
    let of = |commit: &str| Some(snapshots.join(commit)).filter(|folder| folder.is_dir());
    let is_name = |commit: &&str| !commit.is_empty() && !commit.contains(['/', '\\', '.']);
    let named = revision.unwrap_or("main");
    let stored = fs::read_to_string(repo.join("refs").join(named)).unwrap_or_default();
    let mut found = [stored.trim(), named].into_iter().filter(is_name).find_map(of);
    let all = folders_in(&snapshots);
    if let (None, None, [only]) = (&found, revision, all.as_slice()) {
        found = Some(only.clone());
    }
    let (revision, count) = (named.to_owned(), all.len());
    let missing = || ModelError::Snapshot { path: path.to_owned(), revision, count };
    found.map(Some).ok_or_else(|| missing().into())
}

fn is_cached_repo(path: &Path) -> bool {
    let mut names = path.ancestors().take(2).filter_map(Path::file_name);
    names.any(|name| name.to_string_lossy().starts_with(CACHE_PREFIX))
}

fn is_model(folder: &Path) -> bool {
    let files = ModelFiles::folder(folder).map_err(Error::from);
    files.and_then(|files| Layout::detect(&files)).is_ok()
}

/// The folder of the model that something is a part of, which lies at most so many folders below it.
fn model_around(path: &Path, depth: usize) -> Option<PathBuf> {
    let whole = std::path::absolute(path).ok()?;
    let mut around = whole.ancestors().skip(1).take(depth);
    around.find(|folder| folder.join(INDEX).is_file()).map(Path::to_owned)
}

fn models_in(path: &Path) -> Vec<PathBuf> {
    let has_model = |path: &PathBuf| is_model(path) || matches!(snapshot(path, None), Ok(Some(_)));
    folders_in(path).into_iter().filter(has_model).collect()
}

/// The folders in a folder, sorted; none if it cannot be read.
fn folders_in(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let mut folders: Vec<_> = entries.map(|entry| entry.path()).filter(|p| p.is_dir()).collect();
    folders.sort();
    folders
}

fn single_file(path: &Path) -> ModelError {
    let advice = match model_around(path, 2) {
        Some(model) => format!("name {}, which it is a part of", model.display()),
        None => "name the folder that it belongs to".into(),
    };
    ModelError::SingleFile { path: path.to_owned(), advice }
}

/// `; did you mean X?` for something that exists under nearly this name, else nothing.
pub(crate) fn did_you_mean(path: &Path) -> String {
    let near = similar_folder(path).or_else(|| {
        let last = path.file_name()?.to_string_lossy();
        most_alike(&last, embedded::MODELS.iter().map(|(name, _)| PathBuf::from(name)))
    });
    near.map(|near| format!("; did you mean {}?", near.display())).unwrap_or_default()
}

/// The path with its first part that does not exist replaced by that of a similar folder.
fn similar_folder(path: &Path) -> Option<PathBuf> {
    let mut known = PathBuf::new();
    let mut parts = path.components();
    while let Some(part) = parts.next() {
        let next = known.join(part);
        if next.exists() {
            known = next;
            continue;
        }
        let place = if known.as_os_str().is_empty() { Path::new(".") } else { &known };
        let names = folders_in(place).into_iter().filter_map(|f| f.file_name().map(PathBuf::from));
        let near = known.join(most_alike(&part.as_os_str().to_string_lossy(), names)?);
        let whole: PathBuf = near.components().chain(parts).collect();
        return Some(if whole.exists() { whole } else { near });
    }
    None
}

/// The name that is most like `text`, if it is like enough; of several the first.
fn most_alike(text: &str, names: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    let text = text.to_lowercase();
    let likeness = |name: &PathBuf| {
        strsim::normalized_damerau_levenshtein(&text, &name.to_string_lossy().to_lowercase())
    };
    let rated = names.map(|name| (likeness(&name), name)).filter(|(like, _)| *like >= ALIKE);
    let better =
        |best: (f64, PathBuf), next: (f64, PathBuf)| if next.0 > best.0 { next } else { best };
    rated.reduce(better).map(|(_, name)| name)
}

#[cfg(feature = "hub")]
impl Repository {
    /// Reads `owner/name`, also with a slash or `@revision` at its end, or as an address in the hub.
    /// `None` if it is neither.
    fn parse(text: &str, endpoint: Option<&str>) -> Result<Option<Self>, ModelError> {
        let text = text.trim();
        let Some(path) = path_in_hub(text, endpoint)? else {
            return Ok(Self::from_path(text).filter(|_| !text.starts_with('/')));
        };
        let found = Self::from_path(path);
        found.map(Some).ok_or_else(|| ModelError::Address { address: text.into() })
    }

    /// Reads `owner/name`, `owner/name@revision` or `owner/name/tree/revision/..`.
    fn from_path(path: &str) -> Option<Self> {
        let path = path.split(['?', '#']).next()?.trim_matches('/');
        let (path, revision) = match path.split_once('@') {
            Some((path, revision)) => (path.trim_end_matches('/'), Some(revision.to_owned())),
            None => (path, None),
        };
        let mut parts = path.splitn(3, '/');
        let (owner, name, below) = (parts.next()?, parts.next()?, parts.next());
        let id = format!("{owner}/{}", name.strip_suffix(".git").unwrap_or(name));
        let is_of_models =
            !["datasets", "spaces", "collections", "papers", "docs", "blog"].contains(&owner);
        if !wan_io::hub::is_repo_id(&id) || !is_of_models {
            return None;
        }
        let revision = match below.map(|below| below.split_once('/').unwrap_or((below, ""))) {
            None => revision,
            Some(("tree" | "blob" | "resolve" | "raw" | "commit" | "commits" | "blame", of)) => {
                let of = of.split('/').next().filter(|of| !of.is_empty());
                revision.or(of.map(|of| of.replace("%2F", "/").replace("%2f", "/")))
            }
            Some(("discussions" | "settings", _)) => revision,
            Some(_) => return None,
        };
        Some(Self { id, revision })
    }

    /// With the revision that the caller says beside the name.
    fn with(self, revision: Option<&str>) -> Result<Self, Error> {
        match (&self.revision, revision) {
            (Some(found), Some(option)) if found != option => {
                let (found, option) = (found.clone(), option.to_owned());
                Err(ModelError::TwoRevisions { repo: self.id, found, option }.into())
            }
            (None, Some(option)) => Ok(Self { revision: Some(option.to_owned()), ..self }),
            _ => Ok(self),
        }
    }
}

/// The path of an address in the hub; `None` if the text is no address.
#[cfg(feature = "hub")]
fn path_in_hub<'a>(text: &'a str, endpoint: Option<&str>) -> Result<Option<&'a str>, ModelError> {
    if let Some(path) = text.strip_prefix("hf://") {
        return Ok(Some(path.strip_prefix("models/").unwrap_or(path)));
    }
    let address = ["https://", "http://"].iter().find_map(|scheme| text.strip_prefix(scheme));
    let rest = address.unwrap_or(text);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host.to_ascii_lowercase();
    let own = endpoint.and_then(|endpoint| endpoint.split("://").nth(1));
    let hosts = ["huggingface.co", "www.huggingface.co", "hf.co", "hf-mirror.com"];
    if hosts.contains(&host.as_str()) || own == Some(host.as_str()) {
        return Ok(Some(path.strip_prefix("api/models/").unwrap_or(path)));
    }
    match address {
        Some(_) => Err(ModelError::Address { address: text.into() }),
        None => Ok(None),
    }
}
