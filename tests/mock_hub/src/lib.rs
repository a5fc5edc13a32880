//! A model hub on the loopback interface that speaks HTTP as the Hugging Face Hub does, with faults
//! on demand. For tests.
//!
//! There are two origins, as there: the hub with the API and the small files, and a CDN with the
//! large (LFS) ones, to which the hub redirects.
//!
//! ```
//! use wan_mock_hub::{MockHub, Repo};
//!
//! let hub = MockHub::start();
//! hub.add(Repo::new("owner/model").file("config.json", "{}"));
//! let url = format!("{}/owner/model/resolve/main/config.json", hub.endpoint());
//! let text = ureq::get(&url).call().unwrap().body_mut().read_to_string().unwrap();
//! assert_eq!(text, "{}");
//! assert_eq!(hub.requests()[0].file, "config.json");
//! ```

mod answers;
mod faults;
mod http;
pub mod models;
mod proxy;
mod repo;
mod route;
mod server;
mod tls;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

pub use faults::{Fault, On};
pub use proxy::{MockProxy, ProxyRequest};
pub use repo::{Files, Repo, git_blob, sha256};

use answers::Content;
use server::{Listener, Shared};
use tls::Authority;

/// How long [`MockHub::wait_for`] waits.
const PATIENCE: Duration = Duration::from_secs(30);

/// Which server a request went to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The hub itself.
    Hub,
    /// The storage of the large files.
    Cdn,
}

/// A request that the hub has answered, or is answering.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where it went.
    pub origin: Origin,
    /// `GET`, `HEAD`, …
    pub method: String,
    /// The path with its query, as sent.
    pub path: String,
    /// The headers; names in lower case.
    pub headers: BTreeMap<String, String>,
    /// The status of the answer.
    pub status: u16,
    /// The path of the file asked for, inside its repo (also at the CDN); empty for the API.
    pub file: String,
}

impl Request {
    /// A header, by its name in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// The running hub. It stops when dropped.
#[derive(Debug)]
pub struct MockHub {
    shared: Arc<Shared>,
    listeners: [Listener; 2],
    authority: Option<Authority>,
}

impl MockHub {
    /// Starts an empty hub on two free ports.
    ///
    /// # Panics
    ///
    /// When the loopback interface has no free port.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// Starts an empty hub that speaks TLS on two free ports of `localhost`, with certificates of an
    /// authority that nobody knows.
    ///
    /// # Panics
    ///
    /// When the loopback interface has no free port.
    pub fn start_tls() -> Self {
        Self::start_with(Some(Authority::new()))
    }

    fn start_with(authority: Option<Authority>) -> Self {
        let (hub, endpoint) = Listener::bind();
        let (cdn, storage) = Listener::bind();
        let tls = authority.as_ref().map(|authority| Arc::clone(&authority.server));
        let address = |address: String| match &tls {
            Some(_) => address.replace("http://127.0.0.1", "https://localhost"),
            None => address,
        };
        let content = Content::new(address(endpoint), address(storage));
        let shared = Arc::new(Shared::new(content, tls));
        let hub = Listener::start(hub, Origin::Hub, &shared);
        let cdn = Listener::start(cdn, Origin::Cdn, &shared);
        Self { shared, listeners: [hub, cdn], authority }
    }

    /// The certificate of the authority behind [`start_tls`](Self::start_tls), in PEM form.
    ///
    /// # Panics
    ///
    /// When the hub does not speak TLS.
    pub fn authority(&self) -> &str {
        &self.authority.as_ref().expect("a hub with TLS").pem
    }

    /// The address of the hub, without a slash at its end.
    pub fn endpoint(&self) -> String {
        self.shared.state().content.hub.clone()
    }

    /// The address of the CDN, without a slash at its end.
    pub fn cdn(&self) -> String {
        self.shared.state().content.cdn.clone()
    }

    /// Adds a repo, in place of one with the same id.
    pub fn add(&self, repo: Repo) {
        self.shared.state().content.add(repo);
    }

    /// Sets how many entries a page of the list of files has: 1000 at first.
    pub fn page_size(&self, entries: usize) {
        self.shared.state().content.page_size = entries.max(1);
    }

    /// Sets the origin that the links to the next page of that list name: at first the hub itself. It is
    /// empty for links without a host.
    pub fn page_links(&self, origin: &str) {
        self.shared.state().content.page_links = Some(origin.to_owned());
    }

    /// Makes the hub refuse all tokens but these, also for public repos, as the real one does.
    pub fn know_tokens(&self, tokens: &[&str]) {
        let tokens = tokens.iter().map(|token| (*token).to_owned()).collect();
        self.shared.state().content.tokens = Some(tokens);
    }

    /// Sets whether the hub answers requests for small files with a redirect to itself (307, to a
    /// path without a host), as the real one does by now, instead of with the file.
    pub fn resolve_cache(&self, redirects: bool) {
        self.shared.state().content.resolve_cache = redirects;
    }

    /// All requests so far. One is listed before its answer is sent.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.state().log.clone()
    }

    /// Forgets the requests so far.
    pub fn clear_requests(&self) {
        self.shared.state().log.clear();
    }

    /// Waits until there is a request that matches, at most 30 seconds.
    ///
    /// # Panics
    ///
    /// When there is none by then.
    pub fn wait_for(&self, matches: impl Fn(&Request) -> bool) {
        let end = Instant::now() + PATIENCE;
        let mut state = self.shared.state();
        while !state.log.iter().any(&matches) {
            let left = end.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no such request came: {:#?}", state.log);
            let waited = self.shared.changed.wait_timeout(state, left);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Disturbs the next `times` requests of a kind (`usize::MAX`: all) for a file, given by its
    /// path inside the repo; it is empty for requests to the API. Of several faults that wait for
    /// the same request the earliest is taken.
    pub fn fault(&self, file: &str, on: On, fault: Fault, times: usize) {
        self.shared.state().faults.add(file, on, fault, times);
    }

    /// Forgets the faults that still wait.
    pub fn clear_faults(&self) {
        self.shared.state().faults.clear();
    }

    /// Lets the answers to all requests so far go on that are stalled ([`Fault::Stall`]), or that
    /// will come to that point.
    pub fn release(&self) {
        self.shared.state().releases += 1;
        self.shared.changed.notify_all();
    }
}

impl Drop for MockHub {
    fn drop(&mut self) {
        self.shared.state().closed = true;
        self.shared.changed.notify_all();
        self.listeners.iter_mut().for_each(Listener::stop);
    }
}
