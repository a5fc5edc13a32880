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
    let out = if has_matrix_units(&raw(frames.clone())) {
        let (frames, weight, bias) = (raw(frames), raw(weight), raw(bias));
        conv_forward(frames, weight, Some(bias), options, ConvStrategy::Autotune)
    } else {
        // One kernel is left, and it sums up in the dtype of its operands: thousands of products.
        let [frames, weight] = [frames, weight].map(|x| raw(x.cast(DType::F32)));
        let bias = raw(bias.cast(DType::F32));
        conv_forward(frames, weight, Some(bias), options, ConvStrategy::Direct)
    };
    let out: Tensor<Cube<R, BT>, 5> = tensor(out.expect("frames and a kernel that fit each other"));
    out.permute([0, 2, 3, 4, 1])
}
