use std::fmt;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend as BurnBackend;

/// Sees the named intermediate tensors of a forward pass: for comparing a network with another
/// implementation stage by stage.
///
/// `()` is the probe that looks at nothing; what it is offered is then never computed.
pub trait Probe<B: BurnBackend> {
    /// Offers the tensor `name`.
    fn see<const D: usize>(&mut self, name: &str, tensor: impl FnOnce() -> Tensor<B, D>);
}

impl<B: BurnBackend> Probe<B> for () {
    fn see<const D: usize>(&mut self, _name: &str, _tensor: impl FnOnce() -> Tensor<B, D>) {}
}

/// A probe of what lies below one name, as a module's forward pass has it.
pub(crate) struct Trace<'a, P> {
    probe: &'a mut P,
    prefix: String,
}

impl<'a, P> Trace<'a, P> {
    /// The whole network.
    pub(crate) fn new(probe: &'a mut P) -> Self {
        Self { probe, prefix: String::new() }
    }

    /// What lies below `name`.
    pub(crate) fn at(&mut self, name: impl fmt::Display) -> Trace<'_, P> {
        Trace { prefix: format!("{}{name}.", self.prefix), probe: self.probe }
    }

    /// Shows a tensor under a name and hands it on.
    pub(crate) fn seen<B, const D: usize>(
        &mut self,
        name: impl fmt::Display,
        tensor: Tensor<B, D>,
    ) -> Tensor<B, D>
    where
        B: BurnBackend,
        P: Probe<B>,
    {
        self.see(name, || tensor.clone());
        tensor
    }

    /// Shows a tensor that is computed only if the probe looks at it.
    pub(crate) fn see<B, const D: usize>(
        &mut self,
        name: impl fmt::Display,
        tensor: impl FnOnce() -> Tensor<B, D>,
    ) where
        B: BurnBackend,
        P: Probe<B>,
    {
        self.probe.see(&format!("{}{name}", self.prefix), tensor);
    }
}
