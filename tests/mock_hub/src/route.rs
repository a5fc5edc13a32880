//! What a request asks for.

use crate::Origin;
use crate::faults::On;
use crate::http::percent_decode;

/// What a request asks for.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    Revision {
        id: String,
        revision: String,
    },
    Tree {
        id: String,
        revision: String,
        query: String,
    },
    /// A file at the hub; `cached` where the hub redirects to itself for it.
    Resolve {
        id: String,
        revision: String,
        file: String,
        cached: bool,
    },
    /// A file at the CDN, by the signature in its address.
    Cdn {
        signature: String,
    },
    Unknown,
}

impl Route {
    pub(crate) fn parse(origin: Origin, address: &str) -> Self {
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        if origin == Origin::Cdn {
            let signature = parameter(query, "Signature").unwrap_or_default();
            return Self::Cdn { signature };
        }
        let parts: Vec<String> = path.split('/').skip(1).map(percent_decode).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let id = |owner: &str, name: &str| format!("{owner}/{name}");
        match *parts {
            ["api", "models", owner, name] => {
                Self::Revision { id: id(owner, name), revision: "main".into() }
            }
            ["api", "models", owner, name, "revision", revision] => {
                Self::Revision { id: id(owner, name), revision: revision.into() }
            }
            ["api", "models", owner, name, "tree", revision] => {
                Self::Tree { id: id(owner, name), revision: revision.into(), query: query.into() }
            }
            ["api", "resolve-cache", "models", owner, name, commit, ref file @ ..] => {
                let (id, file) = (id(owner, name), file.join("/"));
                Self::Resolve { id, revision: commit.into(), file, cached: true }
            }
            [owner, name, "resolve", revision, ref file @ ..] if !file.is_empty() => {
                let (id, file) = (id(owner, name), file.join("/"));
                Self::Resolve { id, revision: revision.into(), file, cached: false }
            }
            _ => Self::Unknown,
        }
    }

    /// The kind of request, as faults name it.
    pub(crate) fn on(&self) -> Option<On> {
        match self {
            Self::Revision { .. } => Some(On::Revision),
            Self::Tree { .. } => Some(On::Tree),
            Self::Resolve { .. } => Some(On::Resolve),
            Self::Cdn { .. } => Some(On::Cdn),
            Self::Unknown => None,
        }
    }
}

/// A parameter of a query, decoded.
pub(crate) fn parameter(query: &str, name: &str) -> Option<String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.filter(|(key, _)| *key == name).map(|(_, value)| percent_decode(value)).next()
}
