//! Hashes many files at once.

use std::{
    cmp::Reverse,
    fs::File,
    io::{self, Read},
    ops::ControlFlow,
    path::Path,
    sync::{
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, Receiver, Sender},
    },
    thread,
};

use super::{
    Digest, Expected, Hasher, IntegrityError, Markers, Verify,
    markers::{Stamp, file_metadata},
};

/// Read at once. Also how often progress is told and cancelling is noticed.
const BUFFER_BYTES: usize = 1 << 20;

/// Compares all `files` with what is known of them, several at once, the biggest first.
///
/// A file without a digest is only looked for, and its size compared if that is known.
/// `progress` is told the bytes hashed and the bytes to hash, on the calling thread; when it breaks,
/// the check ends with [`IntegrityError::Cancelled`]. Files found right get a marker; a folder that
/// cannot be written to gets none, which is no error. With [`Verify::Never`] nothing is done.
///
/// # Errors
/// All defects of all files, not only the first one.
pub fn check(
    files: &[Expected],
    policy: Verify,
    markers: &Markers,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<(), IntegrityError> {
    run(files.iter().map(|file| (file, markers)), policy, progress).map(drop)
}

/// [`check`] with markers of their own for each file; returns the bytes hashed.
pub(super) fn run<'a>(
    files: impl Iterator<Item = (&'a Expected, &'a Markers)>,
    policy: Verify,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<u64, IntegrityError> {
    if policy == Verify::Never {
        return Ok(0);
    }
    let (mut tasks, mut wrong) = (Vec::new(), Vec::new());
    for (index, (file, markers)) in files.enumerate() {
        match Task::new(index, file, markers, policy) {
            Ok(task) => tasks.extend(task),
            Err(error) => wrong.push((index, error)),
        }
    }
    // With the biggest last, all but one core would wait for it.
    tasks.sort_by_key(|task| Reverse(task.size));
    // Sparse files can claim any size.
    let total = tasks.iter().fold(0u64, |total, task| total.saturating_add(task.size));
    wrong.extend(hash_all(&tasks, total, progress)?);
    wrong.sort_by_key(|(index, _)| *index);
    IntegrityError::all(wrong.into_iter().map(|(_, error)| error).collect())?;
    Ok(total)
}

/// A file to hash.
struct Task<'a> {
    /// Its place in what the caller gave.
    index: usize,
    path: &'a Path,
    size: u64,
    digest: Digest,
    markers: &'a Markers,
}

impl<'a> Task<'a> {
    /// `None` if the file need not be hashed.
    fn new(
        index: usize,
        file: &'a Expected,
        markers: &'a Markers,
        policy: Verify,
    ) -> Result<Option<Self>, IntegrityError> {
        let path = file.path.as_path();
        let size = file_metadata(path)?.len();
        check_size(path, size, file.size.unwrap_or(size))?;
        let Some(digest) = file.digest else { return Ok(None) };
        if policy == Verify::OnDownload && markers.holds(path, &digest) {
            return Ok(None);
        }
        Ok(Some(Self { index, path, size, digest, markers }))
    }

    fn hash(&self, buffer: &mut [u8], meter: &mut Meter<'_>) -> Result<(), IntegrityError> {
        let io = || IntegrityError::in_file(self.path);
        file_metadata(self.path)?;
        let mut file = File::open(self.path).map_err(io())?;
        let stamp =
            |file: &File| file.metadata().and_then(|metadata| Stamp::for_metadata(&metadata));
        let before = stamp(&file).map_err(io())?;
        check_size(self.path, before.size, self.size)?;
        let found = self.read(&mut file, buffer, meter)?;
        let after = stamp(&file).map_err(io())?;
        check_size(self.path, after.size, self.size)?;
        self.compare(found)?;
        if before == after {
            // The folder may be read-only: then the file is hashed again next time.
            let _ = self.markers.record_as(self.path, &self.digest, &before);
        }
        Ok(())
    }

    /// The digest of as much as the file should have: one that grows would never end.
    fn read(
        &self,
        file: &mut impl Read,
        buffer: &mut [u8],
        meter: &mut Meter<'_>,
    ) -> Result<Digest, IntegrityError> {
        let mut hasher = Hasher::new(&self.digest, self.size);
        while meter.left > 0 {
            let most = buffer.len().min(usize::try_from(meter.left).unwrap_or(usize::MAX));
            let read = match file.read(&mut buffer[..most]) {
                Ok(0) => break,
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(IntegrityError::in_file(self.path)(error)),
            };
            hasher.update(&buffer[..read]);
            meter.advance(read as u64)?;
        }
        Ok(hasher.finish())
    }

    fn compare(&self, found: Digest) -> Result<(), IntegrityError> {
        if found == self.digest {
            return Ok(());
        }
        Err(IntegrityError::Digest { path: self.path.to_owned(), found, expected: self.digest })
    }
}

fn check_size(path: &Path, found: u64, expected: u64) -> Result<(), IntegrityError> {
    if found == expected {
        return Ok(());
    }
    Err(IntegrityError::Size { path: path.to_owned(), found, expected })
}

/// Tells the calling thread how many bytes of one file are done.
struct Meter<'a> {
    sender: &'a Sender<u64>,
    left: u64,
}

impl Meter<'_> {
    /// Nobody listens any more when the caller cancelled, or panicked.
    fn advance(&mut self, bytes: u64) -> Result<(), IntegrityError> {
        self.left = self.left.saturating_sub(bytes);
        self.sender.send(bytes).map_err(|_| IntegrityError::Cancelled)
    }
}

type Wrong = Vec<(usize, IntegrityError)>;

/// The errors, by the index of their file.
fn hash_all(
    tasks: &[Task<'_>],
    total: u64,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<Wrong, IntegrityError> {
    let Some(first) = tasks.first() else { return Ok(Wrong::new()) };
    let threads = thread::available_parallelism().map_or(1, usize::from).min(tasks.len());
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (sender, receiver) = mpsc::channel();
        let mut workers = Vec::with_capacity(threads);
        for _ in 0..threads {
            let (sender, next) = (sender.clone(), &next);
            match thread::Builder::new().spawn_scoped(scope, move || work(tasks, next, &sender)) {
                Ok(worker) => workers.push(worker),
                Err(error) if workers.is_empty() => {
                    return Err(IntegrityError::in_file(first.path)(error));
                }
                Err(_) => break, // the ones there are do it all
            }
        }
        drop(sender);
        listen(receiver, total, progress)?;
        let join = |worker: thread::ScopedJoinHandle<'_, Wrong>| match worker.join() {
            Ok(wrong) => wrong,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok(workers.into_iter().flat_map(join).collect())
    })
}

/// Tells progress until all workers are done. That the receiver is dropped stops them.
fn listen(
    receiver: Receiver<u64>,
    total: u64,
    progress: &mut dyn FnMut(u64, u64) -> ControlFlow<()>,
) -> Result<(), IntegrityError> {
    let mut done = 0u64;
    let mut tell = |done| match progress(done, total) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(()) => Err(IntegrityError::Cancelled),
    };
    tell(0)?;
    while let Ok(bytes) = receiver.recv() {
        // A slow listener is told what came in together.
        done = receiver.try_iter().fold(done.saturating_add(bytes), u64::saturating_add);
        tell(done)?;
    }
    Ok(())
}

/// Takes one file after the other.
fn work(tasks: &[Task<'_>], next: &AtomicUsize, sender: &Sender<u64>) -> Wrong {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut wrong = Wrong::new();
    while let Some(task) = tasks.get(next.fetch_add(1, Ordering::Relaxed)) {
        let mut meter = Meter { sender, left: task.size };
        match task.hash(&mut buffer, &mut meter) {
            Err(IntegrityError::Cancelled) => break,
            Err(error) => wrong.push((task.index, error)),
            Ok(()) => {}
        }
        // A file that could not be read to its end is done too.
        if meter.left > 0 && meter.advance(meter.left).is_err() {
            break;
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    /// SHA-256 of 3,000,000 zeros.
    const ZEROS: &str = "35bce4eae54ec8e6cc2868baa8d157914d6ae2858811b4cc0c078c94460fa26f";

    fn read(reader: &mut impl Read) -> (Result<Digest, IntegrityError>, u64) {
        let (sender, receiver) = mpsc::channel();
        let (markers, digest) = (Markers::new("".into()), Digest::Sha256([0; 32]));
        let path = Path::new("file");
        let task = Task { index: 0, path, size: 3_000_000, digest, markers: &markers };
        let found = task.read(
            reader,
            &mut vec![0; BUFFER_BYTES],
            &mut Meter { sender: &sender, left: task.size },
        );
        (found, receiver.try_iter().sum())
    }

    /// Reads, but is interrupted each second time.
    struct Interrupted(bool);

    impl Read for Interrupted {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.0 = !self.0;
            if self.0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            buffer[..100].fill(0);
            Ok(100)
        }
    }

    #[test]
    fn files_without_end_are_read_to_their_size() {
        for (found, bytes) in [read(&mut io::repeat(0)), read(&mut Interrupted(false))] {
            assert_eq!((found.unwrap().to_string().as_str(), bytes), (ZEROS, 3_000_000));
        }
    }

    #[test]
    fn files_can_end_early_or_fail() {
        let (found, bytes) = read(&mut io::repeat(0).take(2_000_000));
        assert_ne!(found.unwrap().to_string(), ZEROS);
        assert_eq!(bytes, 2_000_000);

        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("the disk is gone"))
            }
        }
        assert_eq!(read(&mut Broken).0.unwrap_err().to_string(), "file: the disk is gone");
    }
}
