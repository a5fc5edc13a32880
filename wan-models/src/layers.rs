//! The two layers that all networks are made of.

use burn::module::{Module, Param};
use burn::tensor::{DType, Tensor};
use wan_core::backend::Padding;
use wan_core::{Backend, BurnBackend};

use crate::load::Scope;

/// `y = x W + b`.
#[derive(Module, Debug)]
pub(crate) struct Linear<B: BurnBackend> {
    /// `[in, out]`
    pub(crate) weight: Param<Tensor<B, 2>>,
    /// `[out]`
    pub(crate) bias: Option<Param<Tensor<B, 1>>>,
}

impl<B: Backend> Linear<B> {
    /// With a bias; the checkpoint holds the weight as `[output, input]`.
    pub(crate) fn load(scope: &Scope<B>, input: usize, output: usize) -> Self {
        let bias = scope.tensor("bias", [output]);
        Self {
            bias: Some(Param::from_tensor(bias)),
            ..Self::load_without_bias(scope, input, output)
        }
    }

    /// Without a bias.
    pub(crate) fn load_without_bias(scope: &Scope<B>, input: usize, output: usize) -> Self {
        Self::load_flattened(scope, &[output, input])
    }

    /// From a kernel `[output, ..]` with one input for each element of the other axes.
    fn load_flattened(scope: &Scope<B>, stored: &[usize]) -> Self {
        let input = stored[1..].iter().product();
        let weight = scope.reshaped("weight", stored, [stored[0], input]);
        Self { weight: Param::from_tensor(B::wan_linear_weight(weight)), bias: None }
    }

    /// From a convolution with a kernel of one pixel, of which the trailing `ones` axes are stored.
    pub(crate) fn load_pointwise(
        scope: &Scope<B>,
        input: usize,
        output: usize,
        ones: usize,
    ) -> Self {
        let stored = [&[output, input], vec![1; ones].as_slice()].concat();
        let bias = scope.tensor("bias", [output]);
        Self { bias: Some(Param::from_tensor(bias)), ..Self::load_flattened(scope, &stored) }
    }

    /// What it computes in.
    pub(crate) fn dtype(&self) -> DType {
        self.weight.val().dtype()
    }

    /// `[.., in]` to `[.., out]`, in the dtype of the weight.
    pub(crate) fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        let weight = self.weight.val();
        let x = x.cast(weight.dtype());
        B::wan_linear(x, weight, self.bias.as_ref().map(Param::val))
    }
}

/// A 3-D convolution over channels-last frames; see [`Backend::wan_conv3d`].
#[derive(Module, Debug)]
pub(crate) struct Conv3d<B: BurnBackend> {
    /// `[Cout, Cin, kt, kh, kw]`
    weight: Param<Tensor<B, 5>>,
    /// `[Cout]`
    bias: Param<Tensor<B, 1>>,
}

impl<B: Backend> Conv3d<B> {
    /// `channels` is input, output.
    pub(crate) fn load(scope: &Scope<B>, channels: [usize; 2], kernel: [usize; 3]) -> Self {
        let [kt, kh, kw] = kernel;
        let shape = [channels[1], channels[0], kt, kh, kw];
        Self::from_weight(scope, scope.tensor("weight", shape), channels[1])
    }

    /// A convolution of single frames, stored without the time axis.
    pub(crate) fn load_2d(scope: &Scope<B>, channels: [usize; 2], kernel: [usize; 2]) -> Self {
        let ([input, output], [kh, kw]) = (channels, kernel);
        let stored = [output, input, kh, kw];
        let weight = scope.reshaped("weight", &stored, [output, input, 1, kh, kw]);
        Self::from_weight(scope, weight, output)
    }

    fn from_weight(scope: &Scope<B>, weight: Tensor<B, 5>, output: usize) -> Self {
        let weight = Param::from_tensor(B::wan_conv3d_weight(weight));
        Self { weight, bias: Param::from_tensor(scope.tensor("bias", [output])) }
    }

    /// `[B, T, H, W, Cin]` to `[B, T', H', W', Cout]` in f32.
    pub(crate) fn forward(
        &self,
        past: Option<Tensor<B, 5>>,
        x: Tensor<B, 5>,
        stride: [usize; 3],
        padding: Padding,
    ) -> Tensor<B, 5> {
        let weight = self.weight.val();
        let (past, x) = (past.map(|past| past.cast(weight.dtype())), x.cast(weight.dtype()));
        B::wan_conv3d(past, x, weight, self.bias.val(), stride, padding).cast(DType::F32)
    }
}
