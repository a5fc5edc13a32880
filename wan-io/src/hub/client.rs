use std::path::Path;

use hf_hub::{Repo, RepoType};

use super::cache::RepoCache;
use super::http::Client;
use super::snapshot::{Files, Snapshot, setback_event};
use super::{HubError, HubEvent, HubObserver, HubOptions, listing, options};
use crate::integrity::IntegrityError;

/// The longest owner or name of a repository.
const MAX_ID_PART: usize = 96;

/// A client of the hub.
#[derive(Debug)]
pub struct Hub {
    options: HubOptions,
}

impl Hub {
    /// A client with these options.
    ///
    /// # Errors
    /// If the endpoint is no address.
    pub fn new(mut options: HubOptions) -> Result<Self, HubError> {
        options.endpoint = options::endpoint(&options.endpoint)?;
        Ok(Self { options })
    }

    /// Resolves `revision` (branch, tag or commit) of the repository `repo` (`owner/name`) to a commit
    /// and lists its files. Nothing is downloaded yet. Offline no request is made, and if the hub
    /// cannot be reached or refuses the cache is used.
    ///
    /// # Errors
    /// If there is no such repository or revision, or not for this user; if the hub cannot be reached
    /// and the cache does not know the revision; if the observer cancels.
    pub fn open(
        &self,
        repo: &str,
        revision: &str,
        observer: &mut HubObserver,
    ) -> Result<Snapshot, HubError> {
        if !is_repo_id(repo) {
            return Err(HubError::RepoId { repo: repo.to_owned() });
        }
        if !is_revision(revision) {
            return Err(HubError::Revision { revision: revision.to_owned() });
        }
        let named = Repo::with_revision(repo.to_owned(), RepoType::Model, revision.to_owned());
        let cache = RepoCache::new(&self.options.cache, &named);
        let (commit, files) = self.files(repo, &named, &cache, observer)?;
        let told = match &files {
            Files::Online { .. } => observer(HubEvent::Resolved {
                repo: repo.to_owned(),
                revision: revision.to_owned(),
                commit: commit.clone(),
            }),
            Files::CacheOnly { reason } => observer(HubEvent::CacheOnly { reason: reason.clone() }),
        };
        if told.is_break() {
            return Err(HubError::Cancelled);
        }
        let (repo, revision) = (repo.to_owned(), revision.to_owned());
        Ok(Snapshot { repo, revision, commit, verify: self.options.verify, cache, files })
    }

    fn files(
        &self,
        id: &str,
        repo: &Repo,
        cache: &RepoCache,
        observer: &mut HubObserver,
    ) -> Result<(String, Files), HubError> {
        let cached = cache.commit(repo.revision()).filter(|commit| cache.snapshot(commit).is_dir());
        if self.options.offline {
            let reason = "offline use was asked for (HF_HUB_OFFLINE)".to_owned();
            return match cached {
                Some(commit) => Ok((commit, Files::CacheOnly { reason })),
                None => Err(HubError::NotCached {
                    repo: id.to_owned(),
                    revision: repo.revision().to_owned(),
                    file: "any file".into(),
                    cache: self.options.cache.as_path().into(),
                    reason,
                }),
            };
        }
        let client = Client::new(&self.options);
        // With a copy in the cache nobody should wait for a hub that is away.
        let mut retry = |setback| match cached {
            Some(_) => Ok(false),
            None => setback_event("the list of files", setback, observer).map(|()| true),
        };
        let listing = match listing::list(&client, repo, id, &mut retry) {
            Ok(listing) => listing,
            Err(error) => {
                return match cached {
                    Some(commit) if error.leaves_cache() => {
                        Ok((commit, Files::CacheOnly { reason: error.to_string() }))
                    }
                    _ => Err(error),
                };
            }
        };
        if let Some((token, reason)) = client.refused_token() {
            let (source, reason) = (token.source().to_owned(), reason.to_owned());
            if observer(HubEvent::TokenRefused { source, reason }).is_break() {
                return Err(HubError::Cancelled);
            }
        }
        Ok((listing.commit, Files::Online { client: Box::new(client), listed: listing.files }))
    }
}

/// Whether `name` can be that of a repository: `owner/name`, of letters, digits, `-`, `_` and `.`.
pub fn is_repo_id(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let is_part = |part: &str| {
        (1..=MAX_ID_PART).contains(&part.len())
            && part.chars().all(plain)
            && !part.starts_with(['-', '.'])
            && !part.ends_with(['-', '.'])
            && !part.contains("--")
            && !part.contains("..")
    };
    name.split_once('/').is_some_and(|(owner, name)| is_part(owner) && is_part(name))
}

/// The file that an error says has the wrong content; others are of files that cannot be read.
pub(super) fn wrong_file(error: &IntegrityError) -> Option<&Path> {
    match error {
        IntegrityError::Size { path, .. } | IntegrityError::Digest { path, .. } => Some(path),
        _ => None,
    }
}

/// Whether `revision` can be a branch, tag or commit; each part of it becomes a folder in the cache.
fn is_revision(revision: &str) -> bool {
    let plain =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | '+' | '@');
    listing::is_safe_name(revision) && revision.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repository_is_an_owner_and_a_name() {
        for good in ["Wan-AI/Wan2.1-T2V-14B", "a/b", "a_b/c.d"] {
            assert!(is_repo_id(good), "{good}");
        }
        for bad in [
            "", "a", "a/", "/b", "a/b/c", "a/..", "./b", "a--b/c", "a/b..c", "a b/c", "~/b",
            "a\\b/c",
        ] {
            assert!(!is_repo_id(bad), "{bad}");
        }
    }

    #[test]
    fn revision_is_safe_in_an_address_and_as_a_folder() {
        for good in ["main", "refs/pr/1", "v1.0", &"a".repeat(40)] {
            assert!(is_revision(good), "{good}");
        }
        for bad in ["", "..", "a/../b", "/a", "a?b", "a#b", "a%2Fb", "a b", "a\nb"] {
            assert!(!is_revision(bad), "{bad}");
        }
    }
}
