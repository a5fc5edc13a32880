use burn::tensor::{DType, Tensor};
use wan_core::backend::Conv3dArgs;
use wan_core::{Backend, BurnBackend};

use crate::load::Scope;

/// A 3-D convolution over channels-last frames; see [`Backend::wan_conv3d`].
#[derive(Debug, Clone)]
pub(crate) struct Conv3d<B: BurnBackend> {
    /// `[Cout, Cin, kt, kh, kw]`
    weight: Tensor<B, 5>,
    /// `[Cout]`
    bias: Tensor<B, 1>,
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
        Self { weight: B::wan_conv3d_weight(weight), bias: scope.tensor("bias", [output]) }
    }

    /// The dtype it computes in.
    pub(crate) fn dtype(&self) -> DType {
        self.weight.dtype()
    }

    /// `[B, T, H, W, Cin]` to `[B, T', H', W', Cout]` in f32; `set` sets what is not the default.
    pub(crate) fn forward(
        &self,
        x: Tensor<B, 5>,
        set: impl FnOnce(Conv3dArgs<B>) -> Conv3dArgs<B>,
    ) -> Tensor<B, 5> {
        let x = x.cast(self.dtype());
        let args = Conv3dArgs::new(x, self.weight.clone(), self.bias.clone());
        B::wan_conv3d(set(args)).cast(DType::F32)
    }
}
