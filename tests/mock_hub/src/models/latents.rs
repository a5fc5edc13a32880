//! Mean and deviation of latents, which the original repositories do not state.

use half::{bf16, f16};
use safetensors::Dtype;
use serde_json::Value;

use super::Tensor;

/// Mean and standard deviation of each channel of the latents.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moments {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Moments {
    /// Those of Wan 2.1, which every reader of the original layout takes.
    pub(crate) fn wan() -> Self {
        let mean = [
            -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715,
            0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
        ];
        let deviation = [
            2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652,
            1.5579, 1.6382, 1.1253, 2.8251, 1.9160,
        ];
        Self { mean: mean.to_vec(), deviation: deviation.to_vec() }
    }

    /// Those of a Diffusers model.
    pub(crate) fn of(config: &Value) -> Self {
        let numbers = |key: &str| {
            let list = config[key].as_array().expect("the VAE's config lists them");
            list.iter().map(|value| value.as_f64().expect("a number")).collect()
        };
        Self { mean: numbers("latents_mean"), deviation: numbers("latents_std") }
    }

    /// Mean and deviation of each channel.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (f64, f64)> {
        self.mean.iter().copied().zip(self.deviation.iter().copied())
    }

    /// What turns numbers with these moments into ones with the other moments: for each channel a
    /// factor, and what to add then.
    fn towards(&self, other: &Self) -> Vec<(f64, f64)> {
        let change = |((m, s), (n, t))| (t / s, n - m * t / s);
        self.iter().zip(other.iter()).map(change).collect()
    }

    /// Changes the convolutions at both ends of the latents (under their Diffusers names) of a VAE
    /// with these moments so that with Wan's it does the same.
    pub(crate) fn fold(&self, tensors: &mut [Tensor]) {
        let wan = Self::wan();
        if *self == wan {
            return;
        }
        let mut encoder = Conv::take(tensors, "quant_conv");
        encoder.change_outputs(&self.towards(&wan));
        encoder.put_back(tensors);
        let mut decoder = Conv::take(tensors, "post_quant_conv");
        decoder.change_inputs(&wan.towards(self));
        decoder.put_back(tensors);
    }
}

/// A 1x1x1 convolution: for each output its weights and its bias.
struct Conv {
    name: &'static str,
    rows: Vec<(Vec<f64>, f64)>,
}

impl Conv {
    fn take(tensors: &[Tensor], name: &'static str) -> Self {
        let numbers = |part: &str| {
            let name = format!("{name}.{part}");
            let tensor = tensors.iter().find(|tensor| tensor.name == name);
            numbers(tensor.expect("the VAE has both convolutions"))
        };
        let (weight, bias) = (numbers("weight"), numbers("bias"));
        let rows =
            weight.chunks(weight.len() / bias.len()).map(<[f64]>::to_vec).zip(bias).collect();
        Self { name, rows }
    }

    /// The first half of the outputs are means, which change; the other half are logarithms of the
    /// variances, which know the factor only.
    fn change_outputs(&mut self, change: &[(f64, f64)]) {
        let (means, logarithms) = self.rows.split_at_mut(change.len());
        for ((weights, bias), (factor, offset)) in means.iter_mut().zip(change) {
            weights.iter_mut().for_each(|weight| *weight *= factor);
            *bias = *bias * factor + offset;
        }
        for ((_, bias), (factor, _)) in logarithms.iter_mut().zip(change) {
            *bias += 2.0 * factor.ln();
        }
    }

    /// Takes inputs that are still to be changed.
    fn change_inputs(&mut self, change: &[(f64, f64)]) {
        for (weights, bias) in &mut self.rows {
            for (weight, (factor, offset)) in weights.iter_mut().zip(change) {
                *bias += *weight * offset;
                *weight *= factor;
            }
        }
    }

    /// In F32, whatever the numbers were stored in: the change is not rounded away.
    fn put_back(self, tensors: &mut [Tensor]) {
        let weights: Vec<f64> = self.rows.iter().flat_map(|(weights, _)| weights.clone()).collect();
        let biases: Vec<f64> = self.rows.iter().map(|(_, bias)| *bias).collect();
        for (part, numbers) in [("weight", weights), ("bias", biases)] {
            let name = format!("{}.{part}", self.name);
            for tensor in tensors.iter_mut().filter(|tensor| tensor.name == name) {
                tensor.dtype = Dtype::F32;
                tensor.bytes = numbers.iter().flat_map(|n| (*n as f32).to_le_bytes()).collect();
            }
        }
    }
}

/// The numbers of a tensor.
pub(crate) fn numbers(tensor: &Tensor) -> Vec<f64> {
    let bytes = &tensor.bytes;
    let pairs = bytes.chunks_exact(2).map(|pair| [pair[0], pair[1]]);
    match tensor.dtype {
        Dtype::F16 => pairs.map(|pair| f16::from_le_bytes(pair).to_f64()).collect(),
        Dtype::BF16 => pairs.map(|pair| bf16::from_le_bytes(pair).to_f64()).collect(),
        Dtype::F32 => {
            let quads = bytes.chunks_exact(4).map(|quad| [quad[0], quad[1], quad[2], quad[3]]);
            quads.map(|quad| f32::from_le_bytes(quad).into()).collect()
        }
        other => panic!("no model has numbers of the type {other:?}"),
    }
}
