//! Sums over all elements of a sample. They are taken on the host in f64: they are single values, on
//! which the whole prediction depends.

use burn::tensor::Tensor;

use crate::BurnBackend;

/// Rescaled guidance (Lin et al. 2023, arXiv:2305.08891, section 3.4): a share of `amount` of the
/// guided prediction `p` is brought to the standard deviation of the conditional one, `c`,
/// `amount std(c) / std(p) p + (1 - amount) p`, against overexposure at high scales.
pub(super) fn rescale<B: BurnBackend, const D: usize>(
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
pub(super) fn dot<B: BurnBackend, const D: usize>(a: Tensor<B, D>, b: Tensor<B, D>) -> f64 {
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
