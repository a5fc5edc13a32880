use std::path::{Path, PathBuf};

use crate::integrity::{Digest, IntegrityError};

/// Why a model cannot be had from the hub.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HubError {
    /// The name is none that a repository can have.
    #[error("{repo:?} is no name of a repository, which is owner/name")]
    RepoId {
        /// The name.
        repo: String,
    },
    /// The revision is none that a repository can have.
    #[error("{revision:?} is no branch, tag or commit")]
    Revision {
        /// The revision.
        revision: String,
    },
    /// The endpoint is no address.
    #[error("the endpoint of the hub is {endpoint:?}, but must be http(s)://host")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
    },
    /// Nothing tells where the cache is.
    #[error("no folder for the cache of the hub: set HF_HUB_CACHE or HF_HOME")]
    NoCacheFolder,
    /// The hub does not know the repository, or not for this user: it tells no difference between
    /// one that is private and one that does not exist.
    #[error("{repo}: the hub has no such public repository; check the name, and if it is private, {}",
        match .token {
            Some(source) => format!("that the token from {source} has not expired and that its \
                account may read it"),
            None => "set HF_TOKEN to a token that may read it".into(),
        })]
    AuthRequired {
        /// The repository.
        repo: String,
        /// Where the token came from, if there is one.
        token: Option<String>,
    },
    /// The repository is open only to those who accepted its conditions.
    #[error("{repo}: is gated; accept its conditions at {page}, and {}",
        match .token {
            Some(source) => format!("check that the token from {source} has not expired and is of the \
                account that accepted them"),
            None => "set HF_TOKEN to a token of the account that accepted them".into(),
        })]
    Gated {
        /// The repository.
        repo: String,
        /// Where the conditions are.
        page: String,
        /// Where the token came from, if there is one.
        token: Option<String>,
    },
    /// The hub refuses for another reason.
    #[error("{repo}: the hub refuses access ({message})")]
    Forbidden {
        /// The repository.
        repo: String,
        /// The value that the hub gives.
        message: String,
    },
    /// There is no such repository.
    #[error("{repo}: there is no such repository in the hub")]
    RepoNotFound {
        /// The repository.
        repo: String,
    },
    /// The repository has no such revision.
    #[error("{repo}: has no branch, tag or commit {revision:?}")]
    RevisionNotFound {
        /// The repository.
        repo: String,
        /// The revision.
        revision: String,
    },
    /// The repository has no such file.
    #[error("{repo}: has no file {file} in commit {commit}")]
    FileNotFound {
        /// The repository.
        repo: String,
        /// The commit.
        commit: String,
        /// The file.
        file: String,
    },
    /// The hub wants no more requests for a while.
    #[error("{url}: the hub has had too many requests (429){}; with a token it allows more",
        .seconds.map(|s| format!(" and asks to wait {s} s")).unwrap_or_default())]
    RateLimited {
        /// The address.
        url: String,
        /// How long it asks to wait.
        seconds: Option<u64>,
    },
    /// The hub answers with another error.
    #[error("{url}: the hub answers {status}{message}")]
    Status {
        /// The address.
        url: String,
        /// The status.
        status: u16,
        /// Empty, or `: ` and what the hub says.
        message: String,
    },
    /// The hub cannot be reached.
    #[error("{url}: cannot be reached: {reason}")]
    Unreachable {
        /// The address.
        url: String,
        /// Why.
        reason: String,
    },
    /// A proxy refuses, or cannot be one.
    #[error("the proxy {proxy} ({variable}) {reason}")]
    Proxy {
        /// Its address, without the password.
        proxy: String,
        /// The variable of the environment that names it.
        variable: String,
        /// What is wrong, in words.
        reason: String,
    },
    /// The server's certificate is not trusted.
    #[error("{url}: the certificate of the server is not trusted: {reason}")]
    Certificate {
        /// The address.
        url: String,
        /// Why, and what can be done.
        reason: String,
    },
    /// A file or folder of certificates cannot be used.
    #[error("{variable} names {}, which {reason}", .path.display())]
    Certificates {
        /// The variable of the environment that names it.
        variable: String,
        /// The file or folder.
        path: PathBuf,
        /// What is wrong, in words.
        reason: String,
    },
    /// A mirror leaves out what cannot be done without.
    #[error("{url}: the hub, or the mirror of it at this address, does not give {lacks}")]
    Mirror {
        /// The address.
        url: String,
        /// What it does not give, and what would serve.
        lacks: String,
    },
    /// The hub answers what no hub answers; it is not trusted further.
    #[error("{url}: the answer cannot be trusted: {reason}")]
    Answer {
        /// The address.
        url: String,
        /// The defect, in words.
        reason: String,
    },
    /// A file is not in the cache, and nothing is downloaded.
    #[error("{repo}: {file} of revision {revision:?} is not in the cache {}: {reason}", .cache.display())]
    NotCached {
        /// The repository.
        repo: String,
        /// The revision.
        revision: String,
        /// The file, or what else is missing.
        file: String,
        /// The cache.
        cache: Box<Path>,
        /// Why nothing is downloaded.
        reason: String,
    },
    /// A downloaded file is wrong, the second time too.
    #[error(
        "{repo}: {file} arrived with the checksum {found}, but the hub says {expected}, twice; \
        nothing of it was kept"
    )]
    Checksum {
        /// The repository.
        repo: String,
        /// The file.
        file: String,
        /// The value that the hub gives.
        expected: Box<Digest>,
        /// The value that arrived.
        found: Box<Digest>,
    },
    /// A downloaded file has the wrong size, the second time too.
    #[error(
        "{repo}: {file} arrived with {found} bytes or more, but the hub says {expected}, twice; \
        nothing of it was kept"
    )]
    Size {
        /// The repository.
        repo: String,
        /// The file.
        file: String,
        /// The value that the hub gives.
        expected: u64,
        /// The value that arrived, or was announced.
        found: u64,
    },
    /// A file in the cache is wrong and cannot be replaced.
    #[error(transparent)]
    Integrity(IntegrityError),
    /// The disk has no room for what must be downloaded.
    #[error("{folder}: has {free} bytes free, but {needed} must be downloaded")]
    DiskFull {
        /// The cache.
        folder: PathBuf,
        /// Bytes to download.
        needed: u64,
        /// Bytes free.
        free: u64,
    },
    /// The disk is full, or what the user may have of it.
    #[error("{path}: {source}; what has arrived is kept, and continued when there is room")]
    NoRoom {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// A folder or file of the cache cannot be made or written.
    #[error(
        "{path}: cannot be {verb}: {source}; set HF_HOME to a folder for the cache that can be"
    )]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// The action that failed: `made` or `written`.
        verb: &'static str,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The cache cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The observer asked to stop. What was downloaded stays and is continued the next time.
    #[error("cancelled")]
    Cancelled,
}

impl From<IntegrityError> for HubError {
    fn from(error: IntegrityError) -> Self {
        match error {
            IntegrityError::Cancelled => Self::Cancelled,
            other => Self::Integrity(other),
        }
    }
}

#[cfg(feature = "hub")]
impl HubError {
    pub(super) fn io(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        use std::io::ErrorKind;
        let path = path.into();
        move |source| match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::NoRoom { path, source },
            ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                Self::Cache { path, verb: "written", source }
            }
            _ => Self::Io { path, source },
        }
    }

    /// Whether the same request may succeed later: nothing is wrong with it or with the answer.
    pub(super) fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::RateLimited { .. } => true,
            Self::Status { status, .. } => *status == 408 || *status >= 500,
            _ => false,
        }
    }

    /// Whether a model in the cache may be used in spite of it: the hub cannot be asked, or does not
    /// give the model to this user any more.
    pub(super) fn leaves_cache(&self) -> bool {
        !matches!(self, Self::Answer { .. } | Self::Io { .. } | Self::Cancelled)
    }
}
