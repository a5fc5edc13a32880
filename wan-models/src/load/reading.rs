//! The two passes of a network over a checkpoint: comparing and reading.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use burn::tensor::DType;
use rayon::ThreadPool;
use wan_core::{Backend, BurnBackend};
use wan_io::files::FileError;

use super::kept::Kept;
use super::meter::ReadMeter;
use super::{
    LoadError, Mismatch, Network, ReadOptions, Residency, Scope, TensorSource, WeightsError,
};

/// Compares a checkpoint with the network of `config`, which must be valid and computes in `dtype`; reads
/// headers only.
///
/// # Errors
/// Every missing, unexpected and misshapen tensor, and those that are too large for the device, in one error.
pub fn check<B: Backend, N: Network<B>>(
    source: &Arc<dyn TensorSource>,
    device: &B::Device,
    dtype: DType,
    config: &N::Config,
) -> Result<(), WeightsError> {
    compare::<B, N>(source, device, dtype, config).map(drop)
}

/// See [`check`]. The canonical names of the tensors in the network's layers.
fn compare<B: Backend, N: Network<B>>(
    source: &Arc<dyn TensorSource>,
    device: &B::Device,
    dtype: DType,
    config: &N::Config,
) -> Result<BTreeSet<String>, WeightsError> {
    let reading = Reading::<B>::new(source, device, None);
    N::load(config, &reading.scope(dtype));
    let asked = reading.asked.take();
    let unexpected = source.names().into_iter().filter(|name| !asked.contains(name));
    let unexpected = unexpected.map(|name| Mismatch::Unexpected { name });
    reading.mismatches.borrow_mut().extend(unexpected);
    reading.result()?;
    Ok(reading.in_layers.take())
}

/// Checks a checkpoint (see [`check`]) and loads the network of `config` from it, which must be valid:
/// one tensor after the other, cast to the dtype that the network computes in on the way to the device.
///
/// # Errors
/// [`LoadError::Weights`] with every missing, unexpected and misshapen tensor; nothing is read then. If
/// finite values are required, also with every tensor that has others. [`LoadError::File`] if a file
/// cannot be read, or has changed since it was opened. [`LoadError::Cancelled`] if the options' token is
/// cancelled, no later than before the next tensor.
pub fn load<B: Backend, N: Network<B>>(
    source: &Arc<dyn TensorSource>,
    device: &B::Device,
    options: impl Into<ReadOptions>,
    config: &N::Config,
) -> Result<N, LoadError> {
    let options = options.into();
    let dtype = options.dtype;
    let in_layers = compare::<B, N>(source, device, dtype, config)?;
    let source = match options.residency {
        Residency::Stored => &(Arc::new(Kept::read(source, &in_layers, &options.cancel)?) as _),
        _ => source,
    };
    let reading = Reading::new(source, device, Some(options));
    let network = N::load(config, &reading.scope(dtype));
    reading.finish()?;
    Ok(network)
}

/// One pass over a checkpoint.
pub(super) struct Reading<'a, B: BurnBackend> {
    pub(super) source: &'a Arc<dyn TensorSource>,
    pub(super) device: &'a B::Device,
    /// `None` in the pass that only checks.
    pub(super) options: Option<ReadOptions>,
    /// By their names in the file.
    pub(super) asked: RefCell<BTreeSet<String>>,
    /// Of these, those in layers, by their canonical names.
    pub(super) in_layers: RefCell<BTreeSet<String>>,
    /// The threads that read, and what counts it, where that is done during a forward pass.
    pub(super) stream: Option<(Option<&'a ThreadPool>, &'a ReadMeter)>,
    pub(super) mismatches: RefCell<Vec<Mismatch>>,
    /// What ended the pass.
    pub(super) failure: RefCell<Option<FileError>>,
}

impl<'a, B: Backend> Reading<'a, B> {
    pub(super) fn new(
        source: &'a Arc<dyn TensorSource>,
        device: &'a B::Device,
        options: Option<ReadOptions>,
    ) -> Self {
        let (asked, in_layers, mismatches, failure) = Default::default();
        Self { source, device, options, asked, in_layers, stream: None, mismatches, failure }
    }

    pub(super) fn scope(&self, dtype: DType) -> Scope<'_, B> {
        Scope::new(self, dtype)
    }

    /// Whether it was cancelled or has failed.
    pub(super) fn is_over(&self) -> bool {
        let is_cancelled = |options: &ReadOptions| options.cancel.is_cancelled();
        self.options.as_ref().is_some_and(is_cancelled) || self.failure.borrow().is_some()
    }

    /// Whether all went well.
    pub(super) fn finish(&self) -> Result<(), LoadError> {
        self.options.as_ref().map_or(Ok(()), |options| options.cancel.check())?;
        match self.failure.take() {
            Some(error) => Err(error.into()),
            None => Ok(self.result()?),
        }
    }

    fn result(&self) -> Result<(), WeightsError> {
        let mismatches = self.mismatches.take();
        if mismatches.is_empty() {
            return Ok(());
        }
        Err(WeightsError { origin: self.source.origin(), mismatches })
    }
}
