use burn::tensor::ops::ConvOptions;
use burn::tensor::{DType, Tensor};
use burn_cubecl::BoolElement;
use burn_cubecl::kernel::conv::{ConvStrategy, conv_forward};

use super::linear::has_matrix_units;
use super::{Cube, Devices, raw, tensor};
use crate::backend::{Conv3dArgs, portable};

/// burn's convolution, by the kernel that suits the device.
pub(super) fn conv3d<R: Devices, BT: BoolElement>(
    args: Conv3dArgs<Cube<R, BT>>,
) -> Tensor<Cube<R, BT>, 5> {
    let Conv3dArgs { past, x, weight, bias, stride, padding, upsample } = args;
    let frames = portable::frames(past, x, upsample, padding).permute([0, 4, 1, 2, 3]);
    let options = ConvOptions::new(stride, [0, 0, 0], [1, 1, 1], 1);
    let dtype = frames.dtype();
    let (strategy, computed) = match (has_matrix_units(&raw(frames.clone())), dtype) {
        // Among the kernels for bf16 is one that is wrong: on an H200, by more than half of the largest value.
        (true, DType::BF16) => (ConvStrategy::Autotune, DType::F32),
        (true, _) => (ConvStrategy::Autotune, dtype),
        // One kernel is left, and it sums up in the dtype of its operands: thousands of products.
        (false, _) => (ConvStrategy::Direct, DType::F32),
    };
    let [frames, weight] = [frames, weight].map(|x| raw(x.cast(computed)));
    let bias = raw(bias.cast(computed));
    let out = conv_forward(frames, weight, Some(bias), options, strategy);
    let out: Tensor<Cube<R, BT>, 5> = tensor(out.expect("frames and a kernel that fit each other"));
    out.cast(dtype).permute([0, 2, 3, 4, 1])
}
