//! The layers of a network, which are all in memory, or come from their files one after the other.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, LazyLock, OnceLock};
use std::thread;

use burn::tensor::StreamId;
use rayon::{ThreadPool, ThreadPoolBuilder};
use wan_core::{Backend, BurnBackend, CancelToken, ReadingPace};

use super::meter::ReadMeter;
use super::reading::Reading;
use super::{LoadError, ReadOptions, Scope, TensorSource};

/// The layers of a network, in the order in which they run.
pub(crate) enum Layers<B: BurnBackend, L> {
    /// All in memory.
    Resident(Arc<Vec<L>>),
    /// Read in each pass.
    Streamed(Arc<Stream<B, L>>),
}

/// Loads a layer by its number from the scope of all.
type LoadLayer<B, L> = Box<dyn Fn(&Scope<'_, B>, usize) -> L + Send + Sync>;

/// Layers of which two are in memory during a pass: the one that computes, and the next.
pub(crate) struct Stream<B: BurnBackend, L> {
    source: Arc<dyn TensorSource>,
    device: B::Device,
    options: ReadOptions,
    /// Of the names of all layers.
    prefix: String,
    count: usize,
    load: LoadLayer<B, L>,
    meter: ReadMeter,
    /// The queue of the device in which layers are copied to it, beside the one that computes: always the
    /// same, since each has memory of its own.
    queue: OnceLock<StreamId>,
}

/// Threads of their own for reading: while they wait for a disk, the others compute. `None` where the
/// system does not give them; then the others read, too.
static READERS: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
    let pool = ThreadPoolBuilder::new().num_threads(rayon::current_num_threads());
    pool.thread_name(|i| format!("weights-{i}")).build().ok()
});

impl<B: Backend, L: Send + Sync> Layers<B, L> {
    pub(super) fn streamed(
        reading: &Reading<B>,
        options: &ReadOptions,
        prefix: &str,
        count: usize,
        load: LoadLayer<B, L>,
    ) -> Self {
        Self::Streamed(Arc::new(Stream {
            source: reading.source.clone(),
            device: reading.device.clone(),
            options: options.clone(),
            prefix: prefix.to_owned(),
            count,
            load,
            meter: ReadMeter::default(),
            queue: OnceLock::new(),
        }))
    }

    /// Runs `visit` with each layer and its number, in order.
    ///
    /// # Errors
    /// The first one of `visit`; and if weights cannot be read, or have changed.
    pub(crate) fn for_each<E: From<LoadError>>(
        &self,
        cancel: &CancelToken,
        visit: impl FnMut(usize, &L) -> Result<(), E>,
    ) -> Result<(), E> {
        match self {
            Self::Resident(layers) => layers.iter().enumerate().try_for_each(pair(visit)),
            Self::Streamed(stream) => stream.meter.pass(|| stream.for_each(cancel, visit)),
        }
    }

    /// How the reading has gone so far, where layers are read in each pass.
    pub(crate) fn pace(&self) -> Option<ReadingPace> {
        match self {
            Self::Resident(_) => None,
            Self::Streamed(stream) => {
                let threads = READERS.as_ref().map_or(1, ThreadPool::current_num_threads);
                Some(stream.meter.pace(threads))
            }
        }
    }
}

/// A function of two arguments as one of a pair.
fn pair<A, B, R>(mut function: impl FnMut(A, B) -> R) -> impl FnMut((A, B)) -> R {
    move |(a, b)| function(a, b)
}

impl<B: Backend, L: Send + Sync> Stream<B, L> {
    fn for_each<E: From<LoadError>>(
        &self,
        cancel: &CancelToken,
        visit: impl FnMut(usize, &L) -> Result<(), E>,
    ) -> Result<(), E> {
        thread::scope(|scope| {
            // Without room for a layer: it is handed over when the one before it is gone.
            let (sender, layers) = sync_channel(0);
            let read = move || {
                let queue = self.queue.get_or_init(StreamId::current);
                queue.executes(|| self.read_all(cancel, &sender));
            };
            let thread = thread::Builder::new().name("weights".into());
            let Ok(reader) = thread.spawn_scoped(scope, read) else {
                return self.for_each_in_turn(cancel, visit);
            };
            let visited = self.visit_all(layers, visit);
            // A panic is that of the reader, such as of a device without memory.
            reader.join().unwrap_or_else(|panic| resume_unwind(panic));
            visited
        })
    }

    /// Reads the layers until they are not wanted any more.
    fn read_all(&self, cancel: &CancelToken, sender: &SyncSender<Result<L, LoadError>>) {
        for i in 0..self.count {
            let layer = self.read(i, cancel);
            let failed = layer.is_err();
            if sender.send(layer).is_err() || failed {
                return;
            }
        }
    }

    fn visit_all<E: From<LoadError>>(
        &self,
        layers: Receiver<Result<L, LoadError>>,
        mut visit: impl FnMut(usize, &L) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut i = 0;
        while let Ok(layer) = self.meter.wait(|| layers.recv()) {
            let layer = layer?;
            visit(i, &layer)?;
            // The memory of a layer that is let go is free for the next one that is copied, in another queue
            // than the one that computes: a GPU must be done with it.
            B::sync(&self.device).unwrap_or_else(|error| panic!("{error}"));
            i += 1;
        }
        Ok(())
    }

    /// Without a thread that reads ahead.
    fn for_each_in_turn<E: From<LoadError>>(
        &self,
        cancel: &CancelToken,
        mut visit: impl FnMut(usize, &L) -> Result<(), E>,
    ) -> Result<(), E> {
        (0..self.count).try_for_each(|i| visit(i, &self.read(i, cancel)?))
    }

    fn read(&self, i: usize, cancel: &CancelToken) -> Result<L, LoadError> {
        let options = self.options.clone().cancel(cancel.clone());
        let dtype = options.dtype;
        let mut reading = Reading::new(&self.source, &self.device, Some(options));
        reading.stream = Some((READERS.as_ref(), &self.meter));
        let layer = (self.load)(&reading.scope(dtype).below(&self.prefix), i);
        reading.finish()?;
        Ok(layer)
    }
}

impl<B: BurnBackend, L> Clone for Layers<B, L> {
    /// Clones share the layers.
    fn clone(&self) -> Self {
        match self {
            Self::Resident(layers) => Self::Resident(layers.clone()),
            Self::Streamed(stream) => Self::Streamed(stream.clone()),
        }
    }
}

impl<B: BurnBackend, L> fmt::Debug for Layers<B, L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resident(layers) => write!(f, "{} layers in memory", layers.len()),
            Self::Streamed(stream) => write!(f, "{} layers in their files", stream.count),
        }
    }
}
