//! CFG-Zero*.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::rules::Rule;
use super::sums::{dot, multiply};
use super::{GuidanceError, classifier_free};
use crate::Backend;

/// CFG-Zero* (Fan et al. 2025, arXiv:2503.18886): `a u + w (c - a u)`, where `c` is the conditional
/// prediction, `u` the unconditional one, `w` the scale, and `a u` the projection of `c` onto `u`,
/// `a = <c, u> / (<u, u> + 1e-8)`.
///
/// The method also takes zero for the prediction in the first steps, in which a model that is not
/// fully trained predicts worse than that. The default is one zero step, as in diffusers. (The
/// authors' Wan code has two.)
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct CfgZeroStar {
    /// Steps at the start of the run in which the prediction is zero, so that no pass is needed.
    /// They count also where the scale is 1 or the interval has not begun.
    pub zero_init_steps: usize,
}

impl Default for CfgZeroStar {
    fn default() -> Self {
        Self { zero_init_steps: 1 }
    }
}

impl Rule for CfgZeroStar {
    const NAME: &'static str = "cfg-zero-star";
    const SUMMARY: &'static str =
        "CFG-Zero*: the unconditional prediction is scaled, and the first step left out";

    fn validate(&self, steps: usize) -> Result<(), GuidanceError> {
        if self.zero_init_steps >= steps {
            return Err(GuidanceError::ZeroInitSteps { found: self.zero_init_steps, steps });
        }
        Ok(())
    }

    fn is_zero(&self, step: usize) -> bool {
        step < self.zero_init_steps
    }

    fn combine<B: Backend>(
        &self,
        conditional: Tensor<B, 5>,
        unconditional: Tensor<B, 5>,
        scale: f64,
        _: &mut Option<Tensor<B, 5>>,
    ) -> Tensor<B, 5> {
        let product = dot(conditional.clone(), unconditional.clone());
        let alpha = product / (dot(unconditional.clone(), unconditional.clone()) + 1e-8);
        classifier_free(conditional, multiply(unconditional, alpha), scale)
    }
}
