//! The download of one file: locked, resumed, hashed while it arrives, and named only when it is right.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ureq::Body;
use ureq::http::{HeaderMap, Response, StatusCode};

use super::cache::{RepoCache, is_unknown_call};
use super::http::{Client, Subject, display_url, header};
use super::listing::{Entry, file_url, unquoted};
use super::retry::{Setback, Tries, pause};
use super::{HubError, wrong_file};
use crate::counted;
use crate::integrity::{self, Digest, Expected, Hasher, IntegrityError, Verify};

/// Tries without progress: half a minute in all, since much may be lost by giving up.
const MAX_TRIES: u32 = 7;
const BUFFER: usize = 256 << 10;
/// So much must have arrived for the next failure to count as the first.
const PROGRESS: u64 = 1 << 20;
/// How often a lock that another process holds is tried.
const LOCK_INTERVAL: Duration = Duration::from_millis(100);

/// A step of the download of one file.
pub(super) enum DownloadEvent {
    /// Another process downloads it.
    Waiting,
    /// So many bytes of it were there already.
    Resumed(u64),
    /// So many bytes of it are there now.
    Arrived(u64),
    /// Something failed.
    Setback(Setback),
}

impl DownloadEvent {
    /// Something is tried again at once.
    fn retrying(reason: String) -> Self {
        Self::Setback(Setback::Retrying(reason, Duration::ZERO))
    }
}

/// Downloads files of one commit.
pub(super) struct Download<'a> {
    pub(super) client: &'a Client,
    pub(super) cache: &'a RepoCache,
    pub(super) id: &'a str,
    pub(super) commit: &'a str,
    pub(super) verify: Verify,
    pub(super) stop: &'a AtomicBool,
}

/// How a transfer ended that was not cut short.
enum Outcome {
    Whole(Digest),
    WrongSize(u64),
}

impl Download<'_> {
    /// Brings the blob of the file with these names into the cache under its final name. The caller
    /// links to it, and holds the lock, if there are locks, until then.
    pub(super) fn run(
        &self,
        names: &[&str],
        entry: &Entry,
        note: &dyn Fn(DownloadEvent),
    ) -> Result<Option<File>, HubError> {
        let told = Cell::new(false);
        let lock = self.cache.lock(&entry.digest, || {
            if !told.replace(true) {
                note(DownloadEvent::Waiting);
            }
            std::thread::sleep(LOCK_INTERVAL);
            self.go_on()
        })?;
        // Whoever held the lock may have brought it.
        if !self.is_there(names, entry, note)? {
            self.bring(names[0], entry, lock.is_some(), note)?;
        }
        Ok(lock)
    }

    /// Downloads the blob into the partial file that an earlier process may have left.
    fn bring(
        &self,
        file: &str,
        entry: &Entry,
        is_locked: bool,
        note: &dyn Fn(DownloadEvent),
    ) -> Result<(), HubError> {
        self.cache.make_blobs()?;
        let shared = self.cache.partial(&entry.digest);
        if is_locked {
            return self.transfer_twice(file, entry, &shared, note);
        }
        // Only one of several processes can take what is there; the others begin anew.
        let own = self.cache.own_partial(&entry.digest)?;
        let _ = fs::rename(&shared, &own);
        let result = self.transfer_twice(file, entry, &own, note);
        if result.is_err() {
            let _ = fs::rename(&own, &shared);
        }
        result
    }

    fn is_there(
        &self,
        names: &[&str],
        entry: &Entry,
        note: &dyn Fn(DownloadEvent),
    ) -> Result<bool, HubError> {
        let Some(found) = self.cache.find(self.commit, names, &entry.digest) else {
            return Ok(false);
        };
        let expected =
            Expected { path: found.clone(), size: Some(entry.size), digest: Some(entry.digest) };
        let markers = self.cache.markers();
        let mut go_on = |_, _| match self.go_on() {
            Ok(()) => std::ops::ControlFlow::Continue(()),
            Err(_) => std::ops::ControlFlow::Break(()),
        };
        match integrity::check(&[expected], self.verify, &markers, &mut go_on) {
            // Without locks and links another process may just have moved it to its place.
            Err(IntegrityError::Missing { .. }) => self.is_there(names, entry, note),
            Ok(()) => {
                note(DownloadEvent::Resumed(entry.size));
                Ok(true)
            }
            Err(error) if wrong_file(&error).is_some() => {
                note(DownloadEvent::retrying(error.to_string()));
                self.cache.remove(&found, &entry.digest)?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Downloads the blob; if it is wrong, once more from the beginning.
    fn transfer_twice(
        &self,
        file: &str,
        entry: &Entry,
        path: &Path,
        note: &dyn Fn(DownloadEvent),
    ) -> Result<(), HubError> {
        let blob = self.cache.blob(&entry.digest);
        let mut is_second = false;
        loop {
            let outcome = self.transfer(file, entry, path, note)?;
            let reason = match outcome {
                Outcome::Whole(found) if found == entry.digest => break,
                Outcome::Whole(found) => {
                    format!("it arrived with the checksum {found}, not {}", entry.digest)
                }
                Outcome::WrongSize(found) => {
                    format!("it arrived with {found} bytes or more, not {}", entry.size)
                }
            };
            fs::remove_file(path).map_err(HubError::io(path))?;
            if is_second {
                let (repo, file) = (self.id.to_owned(), file.to_owned());
                return Err(match outcome {
                    Outcome::Whole(found) => {
                        let (expected, found) = (entry.digest.into(), found.into());
                        HubError::Checksum { repo, file, expected, found }
                    }
                    Outcome::WrongSize(found) => {
                        HubError::Size { repo, file, expected: entry.size, found }
                    }
                });
            }
            note(DownloadEvent::retrying(reason));
            is_second = true;
        }
        fs::rename(path, &blob).map_err(HubError::io(&blob))?;
        // Without the marker it is hashed again the next time, no more.
        let _ = self.cache.markers().record(&blob, &entry.digest);
        Ok(())
    }

    /// Continues the partial file until it is whole, and hashes it. On errors that may pass, what has
    /// arrived stays.
    fn transfer(
        &self,
        file: &str,
        entry: &Entry,
        path: &Path,
        note: &dyn Fn(DownloadEvent),
    ) -> Result<Outcome, HubError> {
        let mut partial = Partial::open(path, entry)?;
        note(DownloadEvent::Resumed(partial.done));
        let (mut tries, mut last) = (Tries::new(MAX_TRIES), partial.done);
        while partial.done < entry.size {
            let error = match self.stream(file, entry, &mut partial, note) {
                Ok(None) => continue,
                Ok(Some(wrong)) => return Ok(wrong),
                Err(error) if error.is_passing() => error,
                Err(error) => return Err(error),
            };
            if partial.done >= last.saturating_add(PROGRESS) {
                tries.restart();
            }
            last = partial.done;
            let Some(wait) = tries.wait(&error) else { return Err(error) };
            note(DownloadEvent::Setback(Setback::Retrying(error.to_string(), wait)));
            pause(wait, |left| {
                note(DownloadEvent::Setback(Setback::Pausing(left)));
                self.go_on()
            })?;
        }
        partial.finish().map(Outcome::Whole)
    }

    /// One request: appends what it gives.
    fn stream(
        &self,
        file: &str,
        entry: &Entry,
        partial: &mut Partial,
        note: &dyn Fn(DownloadEvent),
    ) -> Result<Option<Outcome>, HubError> {
        self.go_on()?;
        let url = file_url(self.client, self.id, self.commit, file);
        let subject = Subject { repo: self.id, revision: self.commit, file };
        let inspect = &mut |headers: &HeaderMap| self.inspect(&url, entry, headers);
        let response = self.client.get(&url, partial.done, subject, inspect)?;
        match place(&response, partial.done, entry.size) {
            Place::Here => {}
            Place::FromStart => partial.restart()?,
            Place::Nowhere => return partial.restart().map(|()| None),
            Place::OtherSize(found) => return Ok(Some(Outcome::WrongSize(found))),
            Place::Unasked => {
                let reason = "a range of the file that was not asked for".into();
                return Err(HubError::Answer { url: display_url(&url), reason });
            }
        }
        let mut body = response.into_body().into_reader();
        let mut buffer = vec![0; BUFFER];
        loop {
            self.go_on()?;
            let read = body.read(&mut buffer).map_err(|error| HubError::Unreachable {
                url: display_url(&url),
                reason: error.to_string(),
            })?;
            if read == 0 && partial.done < entry.size {
                let reason =
                    format!("the connection ended after {}", counted(partial.done, "byte"));
                return Err(HubError::Unreachable { url: display_url(&url), reason });
            }
            if partial.done + read as u64 > entry.size {
                return Ok(Some(Outcome::WrongSize(partial.done + read as u64)));
            }
            if read == 0 {
                return Ok(None);
            }
            partial.append(&buffer[..read])?;
            note(DownloadEvent::Arrived(partial.done));
        }
    }

    /// Whether the hub still speaks of the file that was listed.
    fn inspect(&self, url: &str, entry: &Entry, headers: &HeaderMap) -> Result<(), HubError> {
        let check = |name: &str, expected: &str| match header(headers, name) {
            Some(found) if unquoted(found) != expected => {
                let reason = format!("{name} is {found:?}, but {expected} was listed");
                Err(HubError::Answer { url: display_url(url), reason })
            }
            _ => Ok(()),
        };
        check("x-repo-commit", self.commit)?;
        check("x-linked-etag", &entry.digest.to_string())?;
        check("x-linked-size", &entry.size.to_string())
    }

    fn go_on(&self) -> Result<(), HubError> {
        match self.stop.load(Ordering::Relaxed) {
            true => Err(HubError::Cancelled),
            false => Ok(()),
        }
    }
}

/// Where the bytes of an answer belong.
enum Place {
    Here,
    FromStart,
    /// It has none; ask for the whole file.
    Nowhere,
    OtherSize(u64),
    Unasked,
}

/// Compares an answer with what was asked for: the bytes from `done` on of a file of `size` bytes.
fn place(response: &Response<Body>, done: u64, size: u64) -> Place {
    let length = header(response.headers(), "content-length").and_then(|text| text.parse().ok());
    let other = |length: &u64| *length != size;
    match response.status() {
        StatusCode::PARTIAL_CONTENT if done > 0 => {
            let range = header(response.headers(), "content-range").unwrap_or_default();
            match range == format!("bytes {done}-{}/{size}", size - 1) {
                true => Place::Here,
                false => Place::Nowhere,
            }
        }
        StatusCode::OK => match length.filter(other) {
            Some(length) => Place::OtherSize(length),
            None => Place::FromStart,
        },
        StatusCode::RANGE_NOT_SATISFIABLE if done > 0 => Place::Nowhere,
        _ => Place::Unasked,
    }
}

/// A file that is not whole yet, hashed on a thread of its own while it grows.
struct Partial<'a> {
    file: File,
    path: &'a Path,
    entry: &'a Entry,
    done: u64,
    hashing: Hashing,
}

impl<'a> Partial<'a> {
    /// Opens the bytes of an earlier try, or an empty file.
    fn open(path: &'a Path, entry: &'a Entry) -> Result<Self, HubError> {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(path);
        let mut file = file.map_err(HubError::io(path))?;
        let mut hashing = Hashing::start(entry);
        let mut done = 0;
        let mut buffer = vec![0; BUFFER];
        loop {
            let read = file.read(&mut buffer).map_err(HubError::io(path))?;
            if read == 0 {
                break;
            }
            done += read as u64;
            hashing.add(&buffer[..read]);
        }
        let mut partial = Self { file, path, entry, done, hashing };
        if done > entry.size {
            partial.restart()?;
        }
        Ok(partial)
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file.write_all(bytes).map_err(HubError::io(self.path))?;
        self.hashing.add(bytes);
        self.done += bytes.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), HubError> {
        self.file.set_len(0).map_err(HubError::io(self.path))?;
        self.file.seek(SeekFrom::Start(0)).map_err(HubError::io(self.path))?;
        self.done = 0;
        self.hashing = Hashing::start(self.entry);
        Ok(())
    }

    /// Waits until all is on the disk and hashed.
    fn finish(self) -> Result<Digest, HubError> {
        match self.file.sync_all() {
            Err(error) if is_unknown_call(&error) => {}
            synced => synced.map_err(HubError::io(self.path))?,
        }
        self.hashing.finish().map_err(HubError::io(self.path))
    }
}

/// Hashes on another thread, so that the connection does not wait for it.
struct Hashing {
    sender: SyncSender<Vec<u8>>,
    thread: JoinHandle<Digest>,
}

impl Hashing {
    fn start(entry: &Entry) -> Self {
        let (sender, receiver) = sync_channel::<Vec<u8>>(8);
        let mut hasher = Hasher::new(&entry.digest, entry.size);
        let thread = std::thread::spawn(move || {
            receiver.iter().for_each(|bytes| hasher.update(&bytes));
            hasher.finish()
        });
        Self { sender, thread }
    }

    fn add(&mut self, bytes: &[u8]) {
        // It fails only if the thread is gone, which `finish` reports.
        let _ = self.sender.send(bytes.to_vec());
    }

    fn finish(self) -> std::io::Result<Digest> {
        drop(self.sender);
        self.thread.join().map_err(|_| std::io::Error::other("the thread that hashes panicked"))
    }
}
