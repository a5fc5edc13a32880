use burn::tensor::{DType, Tensor};
use wan_core::backend::PackedWeight;
use wan_core::{Backend, BurnBackend};

use crate::load::Scope;

/// The matrix of a linear layer, in the form in which it lies in memory.
#[derive(Debug, Clone)]
enum Weight<B: BurnBackend> {
    /// `[in, out]` in the dtype that it is multiplied in.
    Dense(Tensor<B, 2>),
    /// As the backend's kernels for this dtype read it.
    Packed(PackedWeight<B>),
}

impl<B: Backend> Weight<B> {
    /// From `[out, in]`, as checkpoints hold it.
    fn new(matrix: Tensor<B, 2>) -> Self {
        let [outputs, inputs] = matrix.dims();
        match B::wan_pack(&matrix.clone().reshape([outputs, inputs, 1, 1, 1])) {
            Some(packed) => Self::Packed(packed),
            None => Self::Dense(B::wan_linear_weight(matrix)),
        }
    }

    /// `x W + b` for `x` `[.., in]` in the dtype that the layer computes in.
    fn multiply<const D: usize>(
        &self,
        x: Tensor<B, D>,
        bias: Option<Tensor<B, 1>>,
    ) -> Tensor<B, D> {
        match self {
            Self::Dense(weight) => B::wan_linear(x, weight.clone(), bias),
            Self::Packed(weight) => B::wan_packed_linear(x, weight, bias),
        }
    }
}

/// `y = x W + b`.
#[derive(Debug, Clone)]
pub(crate) struct Linear<B: BurnBackend> {
    weight: Weight<B>,
    /// `[out]`
    bias: Option<Tensor<B, 1>>,
    compute: DType,
}

impl<B: Backend> Linear<B> {
    /// From a matrix `[out, in]`; it computes in the dtype of the matrix.
    pub(crate) fn new(matrix: Tensor<B, 2>, bias: Option<Tensor<B, 1>>) -> Self {
        Self { compute: matrix.dtype(), weight: Weight::new(matrix), bias }
    }

    /// With a bias; the checkpoint holds the weight as `[output, input]`.
    pub(crate) fn load(scope: &Scope<B>, input: usize, output: usize) -> Self {
        Self::load_pointwise(scope, input, output, 0)
    }

    /// Without a bias.
    pub(crate) fn load_without_bias(scope: &Scope<B>, input: usize, output: usize) -> Self {
        Self::new(scope.tensor("weight", [output, input]), None)
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
        Self::new(scope.reshaped("weight", &stored, [output, input]), Some(bias))
    }

    /// The dtype it computes in, which is that of its output.
    pub(crate) fn dtype(&self) -> DType {
        self.compute
    }

    /// `[.., in]` in any dtype to `[.., out]` in [`dtype`](Self::dtype).
    pub(crate) fn forward<const D: usize>(&self, x: Tensor<B, D>) -> Tensor<B, D> {
        self.weight.multiply(B::wan_cast(x, self.compute), self.bias.clone())
    }
}
