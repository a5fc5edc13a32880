//! Which files a path stands for, and what is known of them.

use std::{
    collections::{BTreeSet, HashSet},
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    Digest, Expected, IntegrityError, Markers,
    markers::{FOLDER, is_model_name, markers_for},
    sums::{self, Sums},
};

/// The most files of one folder. Models have below a hundred.
const MAX_FILES: usize = 100_000;
/// The most links from a name to a blob. Hub caches have one.
const MAX_LINKS: usize = 16;

/// The known sizes and digests of the files `names`, which are paths inside `folder`, with `/`.
///
/// There is one entry for each name, in the same order. The digest is that of `SHA256SUMS` in
/// `folder`; for a file that is not listed, the name of the blob of a hub cache that it links to, or
/// that of the marker of a file that is no link there; else there is none. Sizes are not known. Whether
/// the files are there is not looked at.
///
/// # Errors
/// If the list cannot be read.
pub fn known(folder: &Path, names: &[String]) -> Result<Vec<Expected>, IntegrityError> {
    let sums = sums::for_folder(folder)?;
    Ok(names.iter().map(|name| expected(folder.join(name), &sums, name)).collect())
}

fn expected(path: PathBuf, sums: &Sums, name: &str) -> Expected {
    let digest = sums.get(name).copied();
    let digest = digest.or_else(|| blob_digest(&path)).or_else(|| noted_digest(&path));
    Expected { path, size: None, digest }
}

/// The digest of a blob of a hub cache, or of a link to one. It is the name of the first blob:
/// that one can be a link itself, into a folder that models share, where names mean other things.
fn blob_digest(path: &Path) -> Option<Digest> {
    let mut path = std::path::absolute(path).ok()?;
    for _ in 0..MAX_LINKS {
        let folder = path.parent()?;
        if folder.file_name().is_some_and(|name| name == "blobs")
            && let Some(digest) = digest_name(&path)
        {
            return Some(digest);
        }
        path = folder.join(fs::read_link(&path).ok()?);
    }
    None
}

/// The digest that was noted for a file in a snapshot of a hub cache. Where the file system has no
/// links, there is no other.
fn noted_digest(path: &Path) -> Option<Digest> {
    let folder = fs::canonicalize(path.parent()?).ok()?;
    let is_snapshots =
        |folder: &Path| folder.ends_with("snapshots") && folder.parent().is_some_and(is_model_name);
    match folder.ancestors().any(is_snapshots) {
        true => markers_for(&folder).noted(path),
        false => None,
    }
}

fn digest_name(path: &Path) -> Option<Digest> {
    path.file_name()?.to_str().and_then(Digest::from_hex)
}

/// The files that a path stands for.
#[derive(Default)]
pub(super) struct FileSet {
    /// Those with a digest, and where their markers are.
    pub(super) known: Vec<(Expected, Markers)>,
    /// Those without.
    pub(super) unknown: Vec<PathBuf>,
    /// Several snapshots can link to one blob.
    seen: HashSet<(PathBuf, Option<Digest>)>,
}

impl FileSet {
    /// The files of a file, a folder, a model in a hub cache, or a whole hub cache.
    pub(super) fn for_path(path: &Path) -> Result<Self, IntegrityError> {
        let metadata = fs::metadata(path).map_err(IntegrityError::in_file(path))?;
        let mut found = Self::default();
        if metadata.is_file() {
            found.add_file(path)?;
        } else if !metadata.is_dir() {
            return Err(IntegrityError::NotAFile { path: path.to_owned() });
        } else if is_model(path) {
            found.add_model(path)?;
        } else {
            let mut models = entries(path)?;
            models.retain(|entry| is_model_name(entry) && entry.is_dir());
            models.iter().try_for_each(|model| found.add_model(model))?;
            if models.is_empty() {
                found.add_folder(path)?;
            }
        }
        Ok(found)
    }

    fn add_file(&mut self, path: &Path) -> Result<(), IntegrityError> {
        let whole = std::path::absolute(path).map_err(IntegrityError::in_file(path))?;
        let folder = whole.parent().unwrap_or(Path::new("."));
        let sums = sums::for_folder(folder)?;
        let name = whole.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        self.add(expected(path.to_owned(), &sums, name), &markers_for(folder));
        Ok(())
    }

    /// All files that `SHA256SUMS` lists, and all that are there.
    fn add_folder(&mut self, folder: &Path) -> Result<(), IntegrityError> {
        let sums = sums::for_folder(folder)?;
        let markers = markers_for(folder);
        let mut names: BTreeSet<String> = sums.keys().cloned().collect();
        for path in files_in(folder)? {
            match name_in(folder, &path) {
                Some(name) => _ = names.insert(name),
                None => self.add(expected(path, &sums, ""), &markers),
            }
        }
        for name in names {
            let file = expected(folder.join(&name), &sums, &name);
            if name != sums::NAME || file.digest.is_some() {
                self.add(file, &markers);
            }
        }
        Ok(())
    }

    /// The snapshots of a model first: their names say more than those of the blobs.
    fn add_model(&mut self, model: &Path) -> Result<(), IntegrityError> {
        for snapshot in entries_if_there(&model.join("snapshots"))? {
            if snapshot.is_dir() {
                self.add_folder(&snapshot)?;
            }
        }
        let markers = markers_for(model);
        for path in entries_if_there(&model.join("blobs"))? {
            // Only unfinished downloads and locks have an ending.
            if path.extension().is_none() {
                let digest = digest_name(&path);
                self.add(Expected { path, size: None, digest }, &markers);
            }
        }
        Ok(())
    }

    fn add(&mut self, file: Expected, markers: &Markers) {
        let path = fs::canonicalize(&file.path).unwrap_or_else(|_| file.path.clone());
        if !self.seen.insert((path, file.digest)) {
            return;
        }
        match file.digest {
            Some(_) => self.known.push((file, markers.clone())),
            None => self.unknown.push(file.path),
        }
    }
}

/// Whether `folder` is the folder of a model in a hub cache, by its own name or that of what it
/// links to.
fn is_model(folder: &Path) -> bool {
    let named = |path: io::Result<PathBuf>| path.is_ok_and(|path| is_model_name(&path));
    named(std::path::absolute(folder)) || named(fs::canonicalize(folder))
}

/// All files in `folder` and the folders in it. Links to files are among them, also those that
/// lead nowhere; links to folders are not followed, so this ends.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>, IntegrityError> {
    let (mut files, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for path in entries(&folder)? {
            let kind = path.symlink_metadata().map_err(IntegrityError::in_file(&path))?.file_type();
            if kind.is_dir() {
                if path.file_name().is_some_and(|name| name != FOLDER) {
                    folders.push(path);
                }
            } else if kind.is_file() || (kind.is_symlink() && !is_no_file(&path)) {
                files.push(path);
            }
        }
        if files.len() + folders.len() > MAX_FILES {
            return Err(too_many(&folder));
        }
    }
    Ok(files)
}

/// Whether there is something at `path` that is not a file.
fn is_no_file(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| !metadata.is_file())
}

/// The path of `file` inside `folder` with `/`; `None` if it is not UTF-8.
fn name_in(folder: &Path, file: &Path) -> Option<String> {
    let parts = file.strip_prefix(folder).ok()?.components();
    let parts: Option<Vec<_>> = parts.map(|part| part.as_os_str().to_str()).collect();
    Some(parts?.join("/"))
}

/// The entries of `folder`, sorted.
fn entries(folder: &Path) -> Result<Vec<PathBuf>, IntegrityError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(IntegrityError::in_file(folder))? {
        paths.push(entry.map_err(IntegrityError::in_file(folder))?.path());
        if paths.len() > MAX_FILES {
            return Err(too_many(folder));
        }
    }
    paths.sort();
    Ok(paths)
}

fn entries_if_there(folder: &Path) -> Result<Vec<PathBuf>, IntegrityError> {
    match entries(folder) {
        Err(IntegrityError::Missing { .. }) => Ok(Vec::new()),
        entries => entries,
    }
}

fn too_many(folder: &Path) -> IntegrityError {
    let source = io::Error::other(format!("there are more than {MAX_FILES} files"));
    IntegrityError::Io { path: folder.to_owned(), source }
}
