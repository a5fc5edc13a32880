//! The formulas of guidance, all for one sample.
//!
//! `c` is the conditional prediction, `u` the unconditional one and `w` the scale. Sums and norms
//! run over all elements of the sample, and are taken on the host in f64: they are single values,
//! on which the whole prediction depends.

use burn::tensor::Tensor;

use crate::BurnBackend;

/// Classifier-free guidance (Ho and Salimans 2022, arXiv:2207.12598), as Wan uses it:
/// `u + w (c - u)`.
///
/// At a scale of 1 this is `c`, for which `u` is not needed.
pub fn classifier_free<B: BurnBackend, const D: usize>(
    conditional: Tensor<B, D>,
    unconditional: Tensor<B, D>,
    scale: f64,
) -> Tensor<B, D> {
    (conditional - unconditional.clone()) * scale + unconditional
}

/// CFG-Zero* (Fan et al. 2025, arXiv:2503.18886): `a u + w (c - a u)`, where `a u` is the
/// projection of `c` onto `u`, `a = <c, u> / (<u, u> + 1e-8)`.
///
/// The method also takes zero for the prediction in the first steps, in which a model that is not
/// fully trained predicts worse than that.
pub fn zero_star<B: BurnBackend, const D: usize>(
    conditional: Tensor<B, D>,
    unconditional: Tensor<B, D>,
    scale: f64,
) -> Tensor<B, D> {
    let product = dot(conditional.clone(), unconditional.clone());
    let alpha = product / (dot(unconditional.clone(), unconditional.clone()) + 1e-8);
    classifier_free(conditional, unconditional * alpha, scale)
}

/// The parameters of adaptive projected guidance (Sadat et al. 2024, arXiv:2410.02416,
/// algorithm 1).
///
/// With `M <- (c - u) + momentum M` over the guided steps and `M' = M min(1, norm_threshold /
/// |M|)`, the prediction is `c + (w - 1) (M' - P + eta P)`, where `P = <M', c> / <c, c> c` is the
/// part of the update parallel to `c`, which is the one that oversaturates.
///
/// The form is the paper's; diffusers adds `w` times the update to `u` by default, which is the
/// same only for an eta of 1 without momentum and threshold. Norms are taken over a whole sample,
/// as diffusers and MultiTalk do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Apg {
    /// Share of the parallel part that is kept.
    pub eta: f64,
    /// Weight of the earlier updates; 0 is none.
    pub momentum: f64,
    /// The largest norm of an update; 0 is no limit.
    pub norm_threshold: f64,
}

impl Apg {
    /// The guided prediction. `sum` holds `M` from step to step, before it is limited.
    pub fn combine<B: BurnBackend, const D: usize>(
        &self,
        conditional: Tensor<B, D>,
        unconditional: Tensor<B, D>,
        scale: f64,
        sum: &mut Option<Tensor<B, D>>,
    ) -> Tensor<B, D> {
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
        let along =
            if length == 0.0 { 0.0 } else { dot(update.clone(), conditional.clone()) / length };
        let update = update + conditional.clone() * (along * (self.eta - 1.0));
        conditional + update * (scale - 1.0)
    }

    fn limit<B: BurnBackend, const D: usize>(&self, update: Tensor<B, D>) -> Tensor<B, D> {
        if self.norm_threshold == 0.0 {
            return update;
        }
        let norm = dot(update.clone(), update.clone()).sqrt();
        if norm > self.norm_threshold { update * (self.norm_threshold / norm) } else { update }
    }
}

/// Rescaled guidance (Lin et al. 2023, arXiv:2305.08891, section 3.4): a share of `amount` of the
/// guided prediction `p` is brought to the standard deviation of `c`,
/// `amount std(c) / std(p) p + (1 - amount) p`, against overexposure at high scales.
pub fn rescale<B: BurnBackend, const D: usize>(
    guided: Tensor<B, D>,
    conditional: &Tensor<B, D>,
    amount: f64,
) -> Tensor<B, D> {
    let deviation = deviation(guided.clone());
    if deviation == 0.0 {
        return guided;
    }
    let ratio = self::deviation(conditional.clone()) / deviation;
    guided * (amount * ratio + (1.0 - amount))
}

/// The clean prediction of a velocity: `sample - sigma velocity`.
pub(super) fn to_clean<B: BurnBackend, const D: usize>(
    velocity: Tensor<B, D>,
    sample: Tensor<B, D>,
    sigma: f64,
) -> Tensor<B, D> {
    sample - velocity * sigma
}

/// The velocity of a clean prediction: `(sample - clean) / sigma`.
pub(super) fn from_clean<B: BurnBackend, const D: usize>(
    clean: Tensor<B, D>,
    sample: Tensor<B, D>,
    sigma: f64,
) -> Tensor<B, D> {
    (sample - clean) / sigma
}

/// The sum of the products of the elements.
fn dot<B: BurnBackend, const D: usize>(a: Tensor<B, D>, b: Tensor<B, D>) -> f64 {
    host(a * b).iter().map(|&x| f64::from(x)).sum()
}

/// The standard deviation of the elements, with `n - 1`.
fn deviation<B: BurnBackend, const D: usize>(x: Tensor<B, D>) -> f64 {
    let values = host(x);
    let n = values.len() as f64;
    let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let squares: f64 = values.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum();
    (squares / (n - 1.0).max(1.0)).sqrt()
}

fn host<B: BurnBackend, const D: usize>(x: Tensor<B, D>) -> Vec<f32> {
    x.into_data().convert::<f32>().into_vec().expect("the data was converted to f32")
}
