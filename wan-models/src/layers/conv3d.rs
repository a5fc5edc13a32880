use burn::tensor::{DType, Tensor};
use wan_core::backend::{Conv3dArgs, PackedWeight, Padding};
use wan_core::{Backend, BurnBackend};

use crate::load::Scope;

/// What a convolution does beside multiplying with its kernel.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ConvForm {
    /// Along time, height and width.
    pub(crate) stride: [usize; 3],
    pub(crate) padding: Padding,
    /// Whether height and width are doubled first.
    pub(crate) upsample: bool,
}

impl Default for ConvForm {
    fn default() -> Self {
        Self { stride: [1; 3], padding: Padding::default(), upsample: false }
    }
}

impl ConvForm {
    fn set<B: BurnBackend, W>(self, args: Conv3dArgs<B, W>) -> Conv3dArgs<B, W> {
        args.stride(self.stride).padding(self.padding).upsample(self.upsample)
    }
}

/// The kernel of a convolution `[Cout, Cin, kt, kh, kw]`, in the form in which it lies in memory.
#[derive(Debug, Clone)]
enum Kernel<B: BurnBackend> {
    /// In the dtype that it is multiplied in.
    Dense(Tensor<B, 5>),
    /// As the backend's kernels for this dtype read it.
    Packed(PackedWeight<B>),
}

/// A 3-D convolution over channels-last frames; see [`Backend::wan_conv3d`].
#[derive(Debug, Clone)]
pub(crate) struct Conv3d<B: BurnBackend> {
    kernel: Kernel<B>,
    /// `[Cout]`
    bias: Tensor<B, 1>,
    compute: DType,
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
        let (bias, compute) = (scope.tensor("bias", [output]), weight.dtype());
        let kernel = match B::wan_pack(&weight) {
            Some(packed) => Kernel::Packed(packed),
            None => Kernel::Dense(B::wan_conv3d_weight(weight)),
        };
        Self { kernel, bias, compute }
    }

    /// The dtype it computes in.
    pub(crate) fn dtype(&self) -> DType {
        self.compute
    }

    /// `[B, T, H, W, Cin]` after the frames `past` to `[B, T', H', W', Cout]` in f32.
    pub(crate) fn forward(
        &self,
        past: Vec<Tensor<B, 5>>,
        x: Tensor<B, 5>,
        form: ConvForm,
    ) -> Tensor<B, 5> {
        let (x, bias) = (B::wan_cast(x, self.compute), self.bias.clone());
        match &self.kernel {
            Kernel::Dense(weight) => {
                let args = Conv3dArgs::new(x, weight.clone(), bias).past(past);
                B::wan_cast(B::wan_conv3d(form.set(args)), DType::F32)
            }
            Kernel::Packed(weight) => {
                let args = Conv3dArgs::new(x, weight.clone(), bias).past(past);
                B::wan_packed_conv3d(form.set(args))
            }
        }
    }
}
