use std::ops::ControlFlow;

/// What the client of the hub is doing.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum HubEvent<'a> {
    /// A revision was resolved: all files of this load are of this commit.
    Resolved {
        /// The repository.
        repo: &'a str,
        /// The branch, tag or commit that was asked for.
        revision: &'a str,
        /// The commit, 40 hex digits.
        commit: &'a str,
    },
    /// The hub cannot be reached; what the cache has of the revision is used.
    CacheOnly {
        /// Why it cannot be reached.
        reason: &'a str,
    },
    /// Another process downloads this file; it is waited for.
    Waiting {
        /// The file.
        file: &'a str,
    },
    /// Bytes have arrived.
    Downloading {
        /// The file that they are of.
        file: &'a str,
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
        file: &'a str,
        /// What failed.
        reason: &'a str,
    },
}

/// Is told each [`HubEvent`]; returning `Break` cancels with
/// [`HubError::Cancelled`](super::HubError::Cancelled).
pub type HubObserver<'a> = dyn FnMut(HubEvent<'_>) -> ControlFlow<()> + 'a;
