//! The two passes of a network over a checkpoint: comparing and reading.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use burn::tensor::DType;
use wan_core::Backend;
use wan_io::files::FileError;

use super::{LoadError, Mismatch, Network, ReadOptions, Scope, TensorSource, WeightsError};

/// Compares a checkpoint with the network of `config`, which must be valid; reads headers only.
///
/// # Errors
/// Every missing, unexpected and misshapen tensor, in one error.
pub fn check<B: Backend, N: Network<B>>(
    source: &Arc<dyn TensorSource>,
    device: &B::Device,
    config: &N::Config,
) -> Result<(), WeightsError> {
    let reading = Reading::<B>::new(source, device, None);
    N::load(config, &reading.scope(DType::F32));
    let asked = reading.asked.borrow();
    let unexpected = source.names().into_iter().filter(|name| !asked.contains(name));
    let unexpected = unexpected.map(|name| Mismatch::Unexpected { name });
    reading.mismatches.borrow_mut().extend(unexpected);
    reading.result()
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
    check::<B, N>(source, device, config)?;
    let options = options.into();
    let (dtype, cancel) = (options.dtype, options.cancel.clone());
    let reading = Reading::new(source, device, Some(options));
    let network = N::load(config, &reading.scope(dtype));
    cancel.check()?;
    if let Some(error) = reading.failure.take() {
        return Err(error.into());
    }
    reading.result()?;
    Ok(network)
}

/// One pass over a checkpoint.
pub(super) struct Reading<'a, B: Backend> {
    pub(super) source: &'a Arc<dyn TensorSource>,
    pub(super) device: &'a B::Device,
    /// `None` in the pass that only checks.
    pub(super) options: Option<ReadOptions>,
    /// By their names in the file.
    pub(super) asked: RefCell<BTreeSet<String>>,
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
        let (asked, mismatches, failure) = Default::default();
        Self { source, device, options, asked, mismatches, failure }
    }

    fn scope(&self, dtype: DType) -> Scope<'_, B> {
        Scope::new(self, dtype)
    }

    /// Whether it was cancelled or has failed.
    pub(super) fn is_over(&self) -> bool {
        let is_cancelled = |options: &ReadOptions| options.cancel.is_cancelled();
        self.options.as_ref().is_some_and(is_cancelled) || self.failure.borrow().is_some()
    }

    fn result(&self) -> Result<(), WeightsError> {
        let mismatches = self.mismatches.take();
        if mismatches.is_empty() {
            return Ok(());
        }
        Err(WeightsError { origin: self.source.origin(), mismatches })
    }
}
