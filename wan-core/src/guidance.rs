//! Guidance: how the conditional and the unconditional prediction make one.

use burn::tensor::Tensor;

use crate::BurnBackend;

/// Classifier-free guidance (Ho and Salimans 2022), as Wan uses it:
/// `unconditional + scale * (conditional - unconditional)`.
///
/// At a scale of 1 this is `conditional`: see [`needs_unconditional`].
pub fn classifier_free<B: BurnBackend, const D: usize>(
    conditional: Tensor<B, D>,
    unconditional: Tensor<B, D>,
    scale: f64,
) -> Tensor<B, D> {
    (conditional - unconditional.clone()) * scale + unconditional
}

/// Whether `scale` asks for the unconditional pass at all. Diffusers skips it at 1 and below; so
/// do we, which halves the work of distilled models.
pub fn needs_unconditional(scale: f64) -> bool {
    scale > 1.0
}
