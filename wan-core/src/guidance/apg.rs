//! Adaptive projected guidance.

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::rules::Rule;
use super::sums::{dot, multiply};
use super::{GuidanceError, range};
use crate::Backend;

/// Adaptive projected guidance (Sadat et al. 2024, arXiv:2410.02416, algorithm 1).
///
/// With `M <- (c - u) + momentum M` over the guided steps and `M' = M min(1, norm_threshold /
/// |M|)`, the prediction is `c + (w - 1) (M' - P + eta P)`, where `c` is the conditional prediction,
/// `u` the unconditional one, `w` the scale, and `P = <M', c> / <c, c> c` the part of the update
/// parallel to `c`, which is the one that oversaturates.
///
/// The form is the paper's; diffusers adds `w` times the update to `u` by default, which is the
/// same only for an eta of 1 without momentum and threshold. Norms are taken over a whole sample,
/// as diffusers and MultiTalk do.
///
/// The default has the values of MultiTalk for Wan: momentum -0.75, norms up to 55 and, as in the
/// paper, no parallel part; velocities are combined.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Apg {
    /// Share of the update parallel to the conditional prediction that is kept; 1 keeps all.
    pub eta: f64,
    /// Weight of the earlier updates, -1 to 1; negative weights push away from them, 0 is none.
    pub momentum: f64,
    /// The largest norm of an update of one sample; 0 is no limit.
    pub norm_threshold: f64,
    /// Whether the clean predictions `sample - sigma velocity` are guided instead of the
    /// velocities.
    pub clean: bool,
}

impl Default for Apg {
    fn default() -> Self {
        Self { eta: 0.0, momentum: -0.75, norm_threshold: 55.0, clean: false }
    }
}

impl Rule for Apg {
    const NAME: &'static str = "apg";
    const SUMMARY: &'static str = "Adaptive projected guidance: less oversaturation at high scales";
    const KEEPS: Option<&'static str> = Some("momentum");

    fn validate(&self, _: usize) -> Result<(), GuidanceError> {
        let Self { eta, momentum, norm_threshold, .. } = *self;
        range("APG eta", eta, eta.is_finite(), "a finite number")?;
        range("APG momentum", momentum, (-1.0..=1.0).contains(&momentum), "-1 to 1")?;
        let ok = norm_threshold.is_finite() && norm_threshold >= 0.0;
        range("APG norm threshold", norm_threshold, ok, "0 (no limit) or more")
    }

    fn combines_clean(&self) -> bool {
        self.clean
    }

    /// Keeps `M`, before it is limited.
    fn combine<B: Backend>(
        &self,
        conditional: Tensor<B, 5>,
        unconditional: Tensor<B, 5>,
        scale: f64,
        sum: &mut Option<Tensor<B, 5>>,
    ) -> Tensor<B, 5> {
        let difference = conditional.clone() - unconditional;
        let update = match sum.take() {
            Some(sum) if self.momentum != 0.0 => difference + sum * self.momentum,
            _ => difference,
        };
        if self.momentum != 0.0 {
            *sum = Some(update.clone());
        }
        let update = self.limit(update);
        let length = dot(conditional.clone(), conditional.clone());
        let along = dot(update.clone(), conditional.clone()) / length.clone();
        let along = along.mask_fill(length.equal_elem(0.0), 0.0);
        let update = update + multiply(conditional.clone(), along * (self.eta - 1.0));
        conditional + update * (scale - 1.0)
    }
}

impl Apg {
    fn limit<B: Backend>(&self, update: Tensor<B, 5>) -> Tensor<B, 5> {
        if self.norm_threshold == 0.0 {
            return update;
        }
        let norm = dot(update.clone(), update.clone()).sqrt();
        let shrink = norm.recip() * self.norm_threshold;
        multiply(update, shrink.clamp_max(1.0)) // what has no length keeps it
    }
}
