//! Sums over all elements of a sample: single values, on which the whole prediction depends.

use burn::tensor::Tensor;

use crate::Backend;

/// Rescaled guidance (Lin et al. 2023, arXiv:2305.08891, section 3.4): a share of `amount` of the
/// guided prediction `p` is brought to the standard deviation of the conditional one, `c`,
/// `amount std(c) / std(p) p + (1 - amount) p`, against overexposure at high scales.
pub(super) fn rescale<B: Backend, const D: usize>(
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

/// The sum of the products of the elements.
pub(super) fn dot<B: Backend, const D: usize>(a: Tensor<B, D>, b: Tensor<B, D>) -> f64 {
    B::wan_sum(a * b)
}

/// The standard deviation of the elements, with `n - 1`.
fn deviation<B: Backend, const D: usize>(x: Tensor<B, D>) -> f64 {
    let n = x.dims().iter().product::<usize>() as f64;
    let x = x.clone() - B::wan_sum(x) / n;
    (B::wan_sum(x.clone() * x) / (n - 1.0).max(1.0)).sqrt()
}
