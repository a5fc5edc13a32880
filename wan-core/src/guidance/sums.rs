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
    let theirs = deviation(guided.clone());
    let ratio = deviation(conditional.clone()) / theirs.clone();
    let factor = ratio * amount + (1.0 - amount);
    multiply(guided, factor.mask_fill(theirs.equal_elem(0.0), 1.0))
}

/// The sum of the products of the elements, `[1]` in f32. It stays on the device, and nothing waits for it.
pub(super) fn dot<B: Backend, const D: usize>(a: Tensor<B, D>, b: Tensor<B, D>) -> Tensor<B, 1> {
    B::wan_sum(a * b)
}

/// All elements times a factor `[1]`.
pub(super) fn multiply<B: Backend, const D: usize>(
    x: Tensor<B, D>,
    factor: Tensor<B, 1>,
) -> Tensor<B, D> {
    let factor = factor.cast(x.dtype());
    x * factor.reshape([1; D])
}

/// The standard deviation of the elements, with `n - 1`.
fn deviation<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<B, 1> {
    let n = x.dims().iter().product::<usize>() as f64;
    let mean = B::wan_sum(x.clone()) / n;
    let x = x.clone() - mean.cast(x.dtype()).reshape([1; D]);
    (dot(x.clone(), x) / (n - 1.0).max(1.0)).sqrt()
}
