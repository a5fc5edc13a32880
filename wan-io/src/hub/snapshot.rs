//! The files of one commit, and how they come into the cache.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use super::cache::{RepoCache, free_space};
use super::download::{Download, DownloadEvent};
use super::http::Client;
use super::listing::{self, Entry, Listed};
use super::retry::Setback;
use super::{HubError, HubEvent, HubObserver, wrong_file};
use crate::files::files_in;
use crate::integrity::{self, Expected, IntegrityError, Verify};

/// So many files are downloaded at once.
const TRANSFERS: usize = 4;
/// How often progress is told.
const EVENT_INTERVAL: Duration = Duration::from_millis(100);
/// The rate is the mean over this time.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// One commit of a repository. All files come from it, whatever happens to the branch meanwhile.
pub struct Snapshot {
    pub(super) repo: String,
    pub(super) revision: String,
    pub(super) commit: String,
    pub(super) verify: Verify,
    pub(super) cache: RepoCache,
    pub(super) files: Files,
}

/// Where the files come from.
pub(super) enum Files {
    /// From the hub, as it lists them.
    Online { client: Box<Client>, listed: BTreeMap<String, Listed> },
    /// Only from the cache, for this reason.
    CacheOnly { reason: String },
}

/// A file to download, under all names that it has in the repository.
struct Job<'a> {
    names: Vec<&'a str>,
    entry: Entry,
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Snapshot({} at {})", self.repo, self.commit)
    }
}

impl Snapshot {
    /// The commit, 40 hex digits.
    pub fn commit(&self) -> &str {
        &self.commit
    }

    /// The folder in which the files are, or will be after [`fetch`](Self::fetch).
    pub fn folder(&self) -> PathBuf {
        self.cache.snapshot(&self.commit)
    }

    /// Whether the commit has this file; without the hub, whether the cache has it.
    pub fn has(&self, file: &str) -> bool {
        match &self.files {
            Files::Online { listed, .. } => listed.contains_key(file),
            Files::CacheOnly { .. } => self.folder().join(file).is_file(),
        }
    }

    /// The names of the commit's files in `folder`, not below it; the top folder is empty. Without the
    /// hub, those in the cache.
    pub fn names_in(&self, folder: &str) -> Vec<String> {
        match &self.files {
            Files::Online { listed, .. } => {
                let split = |path: &'_ String| match path.rsplit_once('/') {
                    Some((parent, name)) => (parent == folder).then(|| name.to_owned()),
                    None => folder.is_empty().then(|| path.clone()),
                };
                listed.keys().filter_map(split).collect()
            }
            Files::CacheOnly { .. } => files_in(&self.folder().join(folder)),
        }
    }

    /// Makes sure that these files are in [`folder`](Self::folder), whole: what is not in the cache
    /// is downloaded, several files at once; what is there is compared with its checksum as
    /// [`HubOptions::verify`](super::HubOptions::verify) says, and downloaded again if it is wrong.
    ///
    /// # Errors
    /// If the commit has no such file; if it cannot be downloaded; if what arrives is wrong twice; if
    /// the disk is full; if the observer cancels. Files that are whole by then stay in the cache, and
    /// parts of files are continued the next time.
    pub fn fetch(
        &self,
        files: &[impl AsRef<str>],
        observer: &mut HubObserver,
    ) -> Result<(), HubError> {
        let names: Vec<String> = files.iter().map(|name| name.as_ref().to_owned()).collect();
        match &self.files {
            Files::CacheOnly { reason } => self.check_cached(&names, reason, observer),
            Files::Online { client, listed } => {
                let jobs = self.jobs(client, &names, listed, observer)?;
                let missing = self.check_present(jobs, observer)?;
                if !missing.is_empty() {
                    self.cache.make_blobs()?;
                    self.check_space(&missing)?;
                    self.download(client, &missing, observer)?;
                }
                self.tell_links(observer)
            }
        }
    }

    /// Notes in the cache that the branch or tag is this commit. Called when everything is there, so
    /// that use without the hub never finds half a model.
    ///
    /// # Errors
    /// If the cache cannot be written; but for one that is read-only, which has all files then.
    pub fn finish(&self) -> Result<(), HubError> {
        match self.files {
            Files::Online { .. } if self.revision != self.commit => {
                match self.cache.set_commit(&self.revision, &self.commit) {
                    // All files are there, in a cache that others keep.
                    Err(HubError::Cache { .. }) => Ok(()),
                    noted => noted,
                }
            }
            _ => Ok(()),
        }
    }

    /// Says once that the file system has no symbolic links.
    fn tell_links(&self, observer: &mut HubObserver) -> Result<(), HubError> {
        let Some(reason) = self.cache.news_of_links() else { return Ok(()) };
        let (cache, reason) = (self.cache.root.clone(), reason.to_owned());
        match observer(HubEvent::NoLinks { cache, reason }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(HubError::Cancelled),
        }
    }

    fn check_cached(
        &self,
        names: &[String],
        reason: &str,
        observer: &mut HubObserver,
    ) -> Result<(), HubError> {
        let folder = self.folder();
        if let Some(missing) = names.iter().find(|name| !folder.join(name).is_file()) {
            return Err(HubError::NotCached {
                repo: self.repo.clone(),
                revision: self.revision.clone(),
                file: missing.clone(),
                cache: self.cache.root.as_path().into(),
                reason: reason.to_owned(),
            });
        }
        let known = integrity::known(&folder, names)?;
        Ok(self.check(&known, observer)?)
    }

    fn check(&self, files: &[Expected], observer: &mut HubObserver) -> Result<(), IntegrityError> {
        let mut progress = |done, total| observer(HubEvent::Verifying { done, total });
        integrity::check(files, self.verify, &self.cache.markers(), &mut progress)
    }

    /// The files by their content: two names of the same content are one download.
    fn jobs<'a>(
        &self,
        client: &Client,
        names: &'a [String],
        listed: &BTreeMap<String, Listed>,
        observer: &mut HubObserver,
    ) -> Result<Vec<Job<'a>>, HubError> {
        let mut jobs: BTreeMap<String, Job> = BTreeMap::new();
        for name in names {
            let Some(row) = listed.get(name) else {
                let (repo, commit) = (self.repo.clone(), self.commit.clone());
                return Err(HubError::FileNotFound { repo, commit, file: name.clone() });
            };
            let mut retry = |setback| setback_event(name, setback, observer).map(|()| true);
            let entry = listing::entry(client, &self.repo, &self.commit, name, row, &mut retry)?;
            let job = jobs.entry(entry.digest.to_string());
            let job = job.or_insert_with(|| Job { names: Vec::new(), entry });
            if !job.names.contains(&name.as_str()) {
                job.names.push(name);
            }
        }
        Ok(jobs.into_values().collect())
    }

    /// Checks what is in the cache, links it, and gives back what must be downloaded.
    fn check_present<'a>(
        &self,
        jobs: Vec<Job<'a>>,
        observer: &mut HubObserver,
    ) -> Result<Vec<Job<'a>>, HubError> {
        let (mut present, mut expected, mut missing) = (Vec::new(), Vec::new(), Vec::new());
        for job in jobs {
            let (size, digest) = (Some(job.entry.size), Some(job.entry.digest));
            match self.present(&job) {
                Some(path) => {
                    expected.push(Expected { path, size, digest });
                    present.push(job);
                }
                None => missing.push(job),
            }
        }
        let wrong = match self.check(&expected, observer) {
            Ok(()) => Vec::new(),
            Err(IntegrityError::Several(errors)) => errors,
            Err(error) => vec![error],
        };
        let (mut broken, mut moved) = (Vec::new(), Vec::new());
        for error in wrong {
            if let Some(path) = wrong_file(&error) {
                broken.push((path.to_owned(), error.to_string()));
                continue;
            }
            match error {
                // Without locks and links another process may just have moved it to its place.
                IntegrityError::Missing { path } => moved.push(path),
                error => return Err(error.into()),
            }
        }
        for (job, expected) in present.into_iter().zip(expected) {
            if moved.contains(&expected.path) {
                missing.push(job); // whoever brings it looks for it first
                continue;
            }
            match broken.iter().find(|(path, _)| *path == expected.path) {
                None => self.link(&job)?,
                Some((path, reason)) => {
                    let setback = Setback::Retrying(reason.clone(), Duration::ZERO);
                    setback_event(job.names[0], setback, observer)?;
                    self.cache.remove(path, &job.entry.digest)?;
                    missing.push(job);
                }
            }
        }
        Ok(missing)
    }

    /// Where the cache has a file, if it has it.
    fn present(&self, job: &Job) -> Option<PathBuf> {
        self.cache.find(&self.commit, &job.names, &job.entry.digest)
    }

    fn link(&self, job: &Job) -> Result<(), HubError> {
        self.cache.link(&self.commit, &job.names, &job.entry.digest)
    }

    fn check_space(&self, jobs: &[Job]) -> Result<(), HubError> {
        let left = |job: &Job| {
            let partial = self.cache.partial(&job.entry.digest);
            let there = partial.metadata().map_or(0, |metadata| metadata.len());
            job.entry.size.saturating_sub(there)
        };
        let needed = jobs.iter().map(left).fold(0, u64::saturating_add);
        match free_space(&self.cache.root) {
            Some(free) if free < needed => {
                Err(HubError::DiskFull { folder: self.cache.root.clone(), needed, free })
            }
            _ => Ok(()),
        }
    }

    fn download(
        &self,
        client: &Client,
        jobs: &[Job],
        observer: &mut HubObserver,
    ) -> Result<(), HubError> {
        let (stop, next) = (AtomicBool::new(false), AtomicUsize::new(0));
        let download = Download {
            client,
            cache: &self.cache,
            id: &self.repo,
            commit: &self.commit,
            verify: self.verify,
            stop: &stop,
        };
        let work = |sender: Sender<(usize, Message)>| {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                let Some(job) = jobs.get(index) else { return };
                let note = |note| drop(sender.send((index, Message::Event(note))));
                let result = self.run(&download, job, &note);
                let failed = result.is_err();
                let _ = sender.send((index, Message::Finished(result)));
                if failed {
                    return;
                }
            }
        };
        std::thread::scope(|scope| {
            let (sender, receiver) = channel();
            for _ in 0..TRANSFERS.min(jobs.len()) {
                let sender = sender.clone();
                scope.spawn(|| work(sender));
            }
            drop(sender);
            let mut progress = Progress::new(jobs);
            let mut result = Ok(());
            for (index, message) in receiver {
                let told = match message {
                    Message::Event(note) => progress.tell(index, note, observer),
                    Message::Finished(finished) => finished,
                };
                if let Err(error) = told {
                    stop.store(true, Ordering::Relaxed);
                    if result.is_ok() {
                        result = Err(error); // the others then only say that they were stopped
                    }
                }
            }
            result
        })
    }

    fn run(
        &self,
        download: &Download,
        job: &Job,
        note: &dyn Fn(DownloadEvent),
    ) -> Result<(), HubError> {
        let _lock = download.run(&job.names, &job.entry, note)?;
        self.link(job)
    }
}

/// Tells that something failed, or how long it is waited.
pub(super) fn setback_event(
    file: &str,
    setback: Setback,
    observer: &mut HubObserver,
) -> Result<(), HubError> {
    let file = file.to_owned();
    let event = match setback {
        Setback::Retrying(reason, wait) => HubEvent::Retrying { file, reason, wait },
        Setback::Pausing(left) => HubEvent::Pausing { file, left },
    };
    match observer(event) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(HubError::Cancelled),
    }
}

enum Message {
    Event(DownloadEvent),
    Finished(Result<(), HubError>),
}

/// How far all downloads are.
struct Progress<'a> {
    jobs: &'a [Job<'a>],
    done: Vec<u64>,
    total: u64,
    arrived: u64,
    /// Times, and the bytes that had arrived by then.
    window: VecDeque<(Instant, u64)>,
    last_event: Option<Instant>,
}

impl<'a> Progress<'a> {
    fn new(jobs: &'a [Job<'a>]) -> Self {
        let total = jobs.iter().map(|job| job.entry.size).fold(0, u64::saturating_add);
        let window = VecDeque::from([(Instant::now(), 0)]);
        Self { jobs, done: vec![0; jobs.len()], total, arrived: 0, window, last_event: None }
    }

    fn tell(
        &mut self,
        index: usize,
        note: DownloadEvent,
        observer: &mut HubObserver,
    ) -> Result<(), HubError> {
        let file = self.jobs[index].names[0].to_owned();
        let told = match note {
            DownloadEvent::Waiting => observer(HubEvent::Waiting { file }),
            DownloadEvent::Setback(setback) => return setback_event(&file, setback, observer),
            DownloadEvent::Resumed(done) => {
                self.done[index] = done;
                ControlFlow::Continue(())
            }
            DownloadEvent::Arrived(done) => {
                self.arrived += done.saturating_sub(self.done[index]);
                self.done[index] = done;
                self.tell_bytes(index, observer)
            }
        };
        match told {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(HubError::Cancelled),
        }
    }

    fn tell_bytes(&mut self, index: usize, observer: &mut HubObserver) -> ControlFlow<()> {
        let (now, entry) = (Instant::now(), self.jobs[index].entry);
        let is_whole = self.done[index] == entry.size;
        let is_early = self.last_event.is_some_and(|last| now - last < EVENT_INTERVAL);
        if is_early && !is_whole {
            return ControlFlow::Continue(());
        }
        self.last_event = Some(now);
        self.window.push_back((now, self.arrived));
        while self.window.len() > 2 && now - self.window[0].0 > RATE_WINDOW {
            self.window.pop_front();
        }
        let (since, before) = self.window[0];
        let seconds = (now - since).as_secs_f64().max(1e-3);
        observer(HubEvent::Downloading {
            file: self.jobs[index].names[0].to_owned(),
            file_done: self.done[index],
            file_size: entry.size,
            done: self.done.iter().sum(),
            total: self.total,
            bytes_per_second: (self.arrived - before) as f64 / seconds,
        })
    }
}
