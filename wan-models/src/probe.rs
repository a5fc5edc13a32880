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
