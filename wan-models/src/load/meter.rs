//! The pace at which weights are read while a network computes.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use wan_core::ReadingPace;

/// Counts bytes and time, from all threads.
#[derive(Debug, Default)]
pub(crate) struct ReadMeter {
    bytes: AtomicU64,
    /// In nanoseconds, as the others; summed over threads.
    reading: AtomicU64,
    waiting: AtomicU64,
    total: AtomicU64,
}

impl ReadMeter {
    /// Counts bytes that a thread has read.
    pub(super) fn count(&self, bytes: usize, time: Duration) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.reading.fetch_add(time.as_nanos() as u64, Ordering::Relaxed);
    }

    /// Waits for weights.
    pub(super) fn wait<T>(&self, work: impl FnOnce() -> T) -> T {
        timed(&self.waiting, work)
    }

    /// Runs a whole pass.
    pub(super) fn pass<T>(&self, work: impl FnOnce() -> T) -> T {
        timed(&self.total, work)
    }

    /// The pace so far, where reading was done by so many threads.
    pub(super) fn pace(&self, threads: usize) -> ReadingPace {
        let time = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Ordering::Relaxed));
        let mut pace = ReadingPace::default();
        pace.bytes = self.bytes.load(Ordering::Relaxed);
        pace.reading = time(&self.reading) / threads as u32;
        pace.waiting = time(&self.waiting);
        pace.total = time(&self.total);
        pace
    }
}

fn timed<T>(nanos: &AtomicU64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    nanos.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
    result
}
