use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

/// A step of the client of the hub.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum HubEvent {
    /// A revision was resolved: all files of this load are of this commit.
    Resolved {
        /// The repository.
        repo: String,
        /// The branch, tag or commit that was asked for.
        revision: String,
        /// The commit, 40 hex digits.
        commit: String,
    },
    /// The hub cannot be reached, or refuses; what the cache has of the revision is used.
    CacheOnly {
        /// Why the hub does not serve.
        reason: String,
    },
    /// The file system of the cache has no symbolic links: files in snapshots are hard links, or are moved
    /// there. Told once, when the first files come.
    NoLinks {
        /// The cache.
        cache: PathBuf,
        /// The error of the system.
        reason: String,
    },
    /// Another process downloads this file; it is waited for.
    Waiting {
        /// The file.
        file: String,
    },
    /// Bytes have arrived.
    Downloading {
        /// The file that they are of.
        file: String,
        /// Bytes of the file that are there.
        file_done: u64,
        /// All bytes of the file.
        file_size: u64,
        /// Bytes of all files that are there.
        done: u64,
        /// All bytes of all files that were not in the cache.
        total: u64,
        /// How fast they arrive at present.
        bytes_per_second: f64,
    },
    /// Files in the cache are compared with their checksums.
    Verifying {
        /// Bytes done.
        done: u64,
        /// All bytes.
        total: u64,
    },
    /// Something failed and is tried again.
    Retrying {
        /// The file.
        file: String,
        /// The failure, in words.
        reason: String,
        /// How long to wait before that. [`Pausing`](Self::Pausing) follows.
        wait: Duration,
    },
    /// Nothing happens until something is tried again. Told several times a second, so that the wait
    /// can be cancelled.
    Pausing {
        /// The file.
        file: String,
        /// How long it lasts from now on.
        left: Duration,
    },
    /// The hub does not take the token; the model is public, and is had without it.
    TokenRefused {
        /// Where the token came from.
        source: String,
        /// Why, in words.
        reason: String,
    },
}

/// Is told each [`HubEvent`]; returning `Break` cancels with
/// [`HubError::Cancelled`](super::HubError::Cancelled).
pub type HubObserver<'a> = dyn FnMut(HubEvent) -> ControlFlow<()> + 'a;
