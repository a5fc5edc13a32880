//! Notes about files that were found right.

use std::{
    fs::{self, Metadata},
    io::{self, Read as _},
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use sha2::{Digest as _, Sha256};

use super::{Digest, IntegrityError};
use crate::files::atomic;

/// The folder of the markers.
pub(super) const FOLDER: &str = ".wan-verified";

/// Notes about files that were found right, in a folder of small files.
///
/// A marker says: at this path, a file of this size, time of change and inode had this digest. It
/// is worth as much as these three: who changes a file and sets its time back is not found out by
/// [`Verify::OnDownload`](super::Verify::OnDownload), only by
/// [`Verify::Always`](super::Verify::Always) and [`verify`](super::verify()). A marker that is
/// lost, damaged or unreadable costs one more hash and nothing else.
#[derive(Debug, Clone)]
pub struct Markers {
    folder: PathBuf,
}

impl Markers {
    /// Markers in `folder`, which is made when the first one is written.
    pub fn new(folder: PathBuf) -> Self {
        Self { folder }
    }

    /// Whether `file`, or what it links to, is still the one noted for `digest`.
    pub fn holds(&self, file: &Path, digest: &Digest) -> bool {
        let same = || -> io::Result<bool> {
            let note = Stamp::for_metadata(&fs::metadata(file)?)?.note();
            holds_text(&self.marker(file, digest)?, &note)
        };
        same().unwrap_or(false)
    }

    /// Notes that `file`, as it is now, has `digest`.
    ///
    /// # Errors
    /// If the file is not there, or the marker cannot be written.
    pub fn record(&self, file: &Path, digest: &Digest) -> io::Result<()> {
        self.record_as(file, digest, &Stamp::for_metadata(&fs::metadata(file)?)?)
    }

    /// Notes that `file` had `digest` when it had `stamp`.
    pub(super) fn record_as(&self, file: &Path, digest: &Digest, stamp: &Stamp) -> io::Result<()> {
        let marker = self.marker(file, digest)?;
        fs::create_dir_all(&self.folder)?;
        // A cache can be shared: others may read the marker, as far as the umask allows.
        Ok(atomic::write(&marker, stamp.note().as_bytes())?)
    }

    /// The digest in the marker of `file`, whatever the file is by now. `None` if it has none or several.
    pub(super) fn noted(&self, file: &Path) -> Option<Digest> {
        let path = path_hash(file).ok()?;
        let entries = fs::read_dir(&self.folder).ok()?.filter_map(Result::ok);
        let mut digests = entries.filter_map(|entry| {
            let name = entry.file_name();
            let (digest, of) = name.to_str()?.split_once('-')?;
            (of == path).then(|| Digest::from_hex(digest))?
        });
        digests.next().filter(|_| digests.next().is_none())
    }

    /// Two files of a folder can have the same content, so the name depends on the path too.
    fn marker(&self, file: &Path, digest: &Digest) -> io::Result<PathBuf> {
        Ok(self.folder.join(format!("{digest}-{}", path_hash(file)?)))
    }
}

fn path_hash(file: &Path) -> io::Result<String> {
    let path = fs::canonicalize(file)?;
    let hash = Sha256::digest(path.as_os_str().as_encoded_bytes());
    let short = u64::from_be_bytes(std::array::from_fn(|i| hash[i]));
    Ok(format!("{short:016x}"))
}

/// Where the markers of `folder` are: in its `.wan-verified`, or, for a folder inside a hub cache,
/// in that of its `models--owner--name`.
pub fn markers_for(folder: &Path) -> Markers {
    let whole = fs::canonicalize(folder).or_else(|_| std::path::absolute(folder));
    let whole = whole.unwrap_or_else(|_| folder.to_owned());
    let model = whole.ancestors().find(|ancestor| is_model_name(ancestor));
    Markers::new(model.unwrap_or(folder).join(FOLDER))
}

/// Whether the last part of `path` is named as the folder of a model in a hub cache.
pub(super) fn is_model_name(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"models--"))
}

/// The properties that tell whether a file changed, without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) size: u64,
    /// Nanoseconds since 1970.
    modified: i128,
    /// 0 where the system has none.
    inode: u64,
}

impl Stamp {
    pub(super) fn for_metadata(metadata: &Metadata) -> io::Result<Self> {
        let modified = match metadata.modified()?.duration_since(UNIX_EPOCH) {
            Ok(after) => after.as_nanos().cast_signed(),
            Err(before) => -before.duration().as_nanos().cast_signed(),
        };
        #[cfg(unix)]
        let inode = std::os::unix::fs::MetadataExt::ino(metadata);
        #[cfg(not(unix))]
        let inode = 0;
        Ok(Self { size: metadata.len(), modified, inode })
    }

    fn note(&self) -> String {
        let Self { size, modified, inode } = self;
        format!("size {size}\nmodified {modified}\ninode {inode}\n")
    }
}

/// Whether `path` is a file that holds just `text`. Reads no more than that.
fn holds_text(path: &Path, text: &str) -> io::Result<bool> {
    let metadata = fs::metadata(path)?;
    if !metadata.is_file() || metadata.len() != text.len() as u64 {
        return Ok(false);
    }
    let mut found = vec![0; text.len()];
    fs::File::open(path)?.read_exact(&mut found)?;
    Ok(found == text.as_bytes())
}

/// The metadata of the file at `path`; a pipe or device is an error, and is not opened.
pub(super) fn file_metadata(path: &Path) -> Result<Metadata, IntegrityError> {
    let metadata = fs::metadata(path).map_err(IntegrityError::in_file(path))?;
    match metadata.is_file() {
        true => Ok(metadata),
        false => Err(IntegrityError::NotAFile { path: path.to_owned() }),
    }
}
