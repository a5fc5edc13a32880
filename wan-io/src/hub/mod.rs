//! Models from the Hugging Face Hub: found, downloaded, verified and kept in the standard cache.
//!
//! Names, addresses and the layout of the cache are those of the crate `hf-hub`. The requests and the
//! transfer are our own, since it cannot be made safe from outside: it keeps a short or wrong body as the
//! file, names the file in the cache by an unchecked header, appends a whole body to a partial one,
//! and hides the header that tells a gated repository from one that does not exist.
//!
//! - A revision is resolved to a commit once; all files of a `Snapshot` are of that commit.
//! - The checksum of each file is known before its first byte (from the hub's list of files), and is
//!   compared before the file gets its name. A wrong file is downloaded once more from the beginning,
//!   then refused.
//! - A download that was cut goes on where it ended, also in another process. Two processes do not
//!   download the same file: one waits.
//! - The token goes to the endpoint, never to where it redirects. One that the hub does not take is left
//!   out, since it answers 401 to it for public models too.
//! - A mirror may leave out the list of files, or the checksums in it: names then come from the
//!   description of the repository, checksums from the headers of the files that are fetched.
//! - Python's `huggingface_hub` reads what is written here, and what it wrote is read here.
//!
//! Without the feature `hub` there are only the types of errors and events, so that what names them does
//! not change.

#[cfg(feature = "hub")]
mod agents;
#[cfg(feature = "hub")]
mod cache;
#[cfg(feature = "hub")]
mod client;
#[cfg(feature = "hub")]
mod download;
mod error;
mod event;
#[cfg(feature = "hub")]
mod http;
#[cfg(feature = "hub")]
mod listing;
#[cfg(feature = "hub")]
mod network;
#[cfg(feature = "hub")]
mod options;
#[cfg(feature = "hub")]
mod retry;
#[cfg(feature = "hub")]
mod snapshot;

#[cfg(feature = "hub")]
use client::wrong_file;
#[cfg(feature = "hub")]
pub use client::{Hub, is_repo_id};
pub use error::HubError;
pub use event::{HubEvent, HubObserver};
#[cfg(feature = "hub")]
pub use network::Network;
#[cfg(feature = "hub")]
pub use options::{HubOptions, Token};
#[cfg(feature = "hub")]
pub use snapshot::Snapshot;
