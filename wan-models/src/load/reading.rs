//! One pass of a module's load function over a checkpoint.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use burn::tensor::DType;
use wan_core::Backend;

use super::{Mismatch, ReadOptions, Scope, TensorSource, WeightsError};

/// Compares a checkpoint with a model without reading any data; `build` is the model's load
/// function.
///
/// # Errors
/// Every missing, unexpected and misshapen tensor, in one error.
pub fn check<B: Backend, M>(
    source: &Arc<dyn TensorSource>,
    device: &B::Device,
    build: impl Fn(&Scope<B>) -> M,
) -> Result<(), WeightsError> {
    let reading = Reading::<B>::new(source, device, None);
    build(&reading.scope(DType::F32));
    let asked = reading.asked.borrow();
    let unexpected = source.names().into_iter().filter(|name| !asked.contains(name));
    let unexpected = unexpected.map(|name| Mismatch::Unexpected { name });
    reading.mismatches.borrow_mut().extend(unexpected);
    reading.result()
}

/// Checks a checkpoint (see [`check`]) and loads a model from it: one tensor after the other, cast to
/// the dtype that the model computes in on the way to the device.
///
/// # Errors
/// Every missing, unexpected and misshapen tensor, in one error; nothing is read then. If they were
/// asked for, every tensor with numbers that are not finite.
pub fn load<B: Backend, M>(
    source: &Arc<dyn TensorSource>,
    device: &B::Device,
    options: impl Into<ReadOptions>,
    build: impl Fn(&Scope<B>) -> M,
) -> Result<M, WeightsError> {
    check(source, device, &build)?;
    let options = options.into();
    let reading = Reading::new(source, device, Some(options));
    let model = build(&reading.scope(options.dtype));
    source.release();
    reading.result().map(|()| model)
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
}

impl<'a, B: Backend> Reading<'a, B> {
    pub(super) fn new(
        source: &'a Arc<dyn TensorSource>,
        device: &'a B::Device,
        options: Option<ReadOptions>,
    ) -> Self {
        let (asked, mismatches) = Default::default();
        Self { source, device, options, asked, mismatches }
    }

    fn scope(&self, dtype: DType) -> Scope<'_, B> {
        Scope::new(self, dtype)
    }

    fn result(&self) -> Result<(), WeightsError> {
        let mismatches = self.mismatches.take();
        if mismatches.is_empty() {
            return Ok(());
        }
        Err(WeightsError { origin: self.source.origin(), mismatches })
    }
}
