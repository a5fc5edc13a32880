//! Classifier-free guidance.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::rules::Rule;
use crate::Backend;

/// Classifier-free guidance: [`classifier_free`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Cfg {}

impl Rule for Cfg {
    const NAME: &'static str = "cfg";
    const SUMMARY: &'static str = "Classifier-free guidance";

    fn combine<B: Backend>(
        &self,
        conditional: Tensor<B, 5>,
        unconditional: Tensor<B, 5>,
        scale: f64,
        _: &mut Option<Tensor<B, 5>>,
    ) -> Tensor<B, 5> {
        classifier_free(conditional, unconditional, scale)
    }
}

/// Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598), as Wan uses it:
/// `u + w (c - u)`, where `c` is the conditional prediction, `u` the unconditional one and `w` the
/// scale.
///
/// At a scale of 1 this is `c`, for which `u` is not needed.
pub fn classifier_free<B: Backend, const D: usize>(
    conditional: Tensor<B, D>,
    unconditional: Tensor<B, D>,
    scale: f64,
) -> Tensor<B, D> {
    (conditional - unconditional.clone()) * scale + unconditional
}
