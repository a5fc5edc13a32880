//! Flex: the default CPU backend. Its tensors are plain memory, so the kernels here read and write
//! them directly; anything but f32 takes the portable way.

mod attention;
mod conv3d;
mod elementwise;
mod linear;
mod math;
mod matrix;
mod memory;
mod norms;
mod parallel;

use burn::backend::Flex;
use burn::tensor::{DType, Tensor};
use burn_flex::FlexDevice;

use super::{Backend, DeviceError, DeviceInfo, DeviceKind, Padding};

impl Backend for Flex {
    fn open_device(index: usize) -> Result<Self::Device, DeviceError> {
        match index {
            0 => Ok(FlexDevice),
            _ => Err(DeviceError::NoSuchDevice { backend: "flex", index, count: 1 }),
        }
    }

    fn devices() -> Result<Vec<DeviceInfo>, DeviceError> {
        Ok(vec![DeviceInfo { name: "all cores".into(), kind: DeviceKind::Cpu }])
    }

    fn wan_linear<const D: usize>(
        x: Tensor<Self, D>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, D> {
        linear::linear(x, weight, bias)
    }

    fn wan_gelu(x: Tensor<Self, 3>) -> Tensor<Self, 3> {
        elementwise::gelu(x)
    }

    fn wan_attention(
        q: Tensor<Self, 4>,
        k: Tensor<Self, 4>,
        v: Tensor<Self, 4>,
        bias: Option<Tensor<Self, 4>>,
        scale: f64,
    ) -> Tensor<Self, 4> {
        attention::attention(q, k, v, bias, scale)
    }

    fn wan_rope(
        x: Tensor<Self, 4>,
        cos: Tensor<Self, 2>,
        sin: Tensor<Self, 2>,
        dtype: DType,
    ) -> Tensor<Self, 4> {
        elementwise::rope(x, cos, sin, dtype)
    }

    fn wan_layer_norm(
        x: Tensor<Self, 3>,
        affine: Option<(Tensor<Self, 1>, Tensor<Self, 1>)>,
        eps: f64,
        dtype: DType,
    ) -> Tensor<Self, 3> {
        norms::layer_norm(x, affine, eps, dtype)
    }

    fn wan_rms_norm(
        x: Tensor<Self, 3>,
        weight: Tensor<Self, 1>,
        eps: f64,
        dtype: DType,
    ) -> Tensor<Self, 3> {
        norms::rms_norm(x, weight, eps, dtype)
    }

    fn wan_modulated_norm(
        x: Tensor<Self, 3>,
        shift: Tensor<Self, 3>,
        scale: Tensor<Self, 3>,
        eps: f64,
        dtype: DType,
    ) -> Tensor<Self, 3> {
        norms::modulated_norm(x, shift, scale, eps, dtype)
    }

    fn wan_gated_residual(
        x: Tensor<Self, 3>,
        y: Tensor<Self, 3>,
        gate: Tensor<Self, 3>,
    ) -> Tensor<Self, 3> {
        elementwise::gated_residual(x, y, gate)
    }

    fn wan_channel_norm_silu(x: Tensor<Self, 5>, weight: Tensor<Self, 1>) -> Tensor<Self, 5> {
        norms::channel_norm(x, weight, true)
    }

    fn wan_channel_norm(x: Tensor<Self, 5>, weight: Tensor<Self, 1>) -> Tensor<Self, 5> {
        norms::channel_norm(x, weight, false)
    }

    /// In memory the taps come first and the output channels last: `[kt, kh, kw, Cin, Cout]`.
    fn wan_conv3d_weight(weight: Tensor<Self, 5>) -> Tensor<Self, 5> {
        conv3d::taps_first(weight)
    }

    fn wan_conv3d(
        past: Option<Tensor<Self, 5>>,
        x: Tensor<Self, 5>,
        weight: Tensor<Self, 5>,
        bias: Tensor<Self, 1>,
        stride: [usize; 3],
        padding: Padding,
    ) -> Tensor<Self, 5> {
        conv3d::conv3d(past, x, weight, bias, stride, padding)
    }

    fn wan_upsample(x: Tensor<Self, 5>) -> Tensor<Self, 5> {
        elementwise::upsample(x)
    }
}
