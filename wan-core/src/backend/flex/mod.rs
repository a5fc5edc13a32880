//! Flex: the default CPU backend. Its tensors are plain memory, so the kernels here read and write
//! them directly; anything but f32 and bf16 takes the portable way.

mod attention;
mod bf16;
mod conv3d;
mod elementwise;
mod linear;
mod math;
mod matrix;
mod memory;
mod norms;
mod packed;
mod parallel;
mod threads;

use burn::backend::Flex;
use burn::tensor::{DType, Tensor};
use burn_flex::FlexDevice;
use rayon::prelude::*;

use super::{
    AttentionArgs, AttentionPlan, Backend, ChannelNormArgs, Conv3dArgs, DeviceError, DeviceInfo,
    DeviceKind, LayerNormArgs, ModulatedNormArgs, NetworkKind, PackedWeight, RmsNormArgs, RopeArgs,
};
pub use bf16::{CpuKernel, CpuKernelError};
pub use threads::{CpuThreadsError, cpu_threads, set_cpu_threads};

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

    /// bf16 where there are kernels for the processor: also where it has no products of bf16, networks are faster so than in
    /// f32.
    fn auto_dtype(_device: &Self::Device, _network: NetworkKind) -> DType {
        match CpuKernel::current() {
            CpuKernel::Portable => DType::F32,
            _ => DType::BF16,
        }
    }

    /// On all threads: small kernels leave most of them without work.
    fn wan_map<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
        items.into_par_iter().map(work).collect()
    }

    fn wan_linear<const D: usize>(
        x: Tensor<Self, D>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, D> {
        linear::linear(x, weight, bias)
    }

    /// Weights in bf16.
    fn wan_pack(weight: &Tensor<Self, 5>) -> Option<PackedWeight<Self>> {
        packed::pack(weight)
    }

    fn wan_packed_linear<const D: usize>(
        x: Tensor<Self, D>,
        weight: &PackedWeight<Self>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, D> {
        packed::linear(x, weight, bias)
    }

    fn wan_packed_conv3d(args: Conv3dArgs<Self, PackedWeight<Self>>) -> Tensor<Self, 5> {
        conv3d::packed_conv3d(args)
    }

    fn wan_gelu(x: Tensor<Self, 3>) -> Tensor<Self, 3> {
        elementwise::gelu(x)
    }

    fn wan_gated_gelu(x: Tensor<Self, 3>, y: Tensor<Self, 3>) -> Tensor<Self, 3> {
        elementwise::gated_gelu(x, y)
    }

    fn wan_attention(args: AttentionArgs<Self>) -> Tensor<Self, 4> {
        attention::attention(args)
    }

    /// In f32. A thread also meets a block of the keys at a time.
    fn attention_plan(_device: &Self::Device, [_, _, queries, _]: [usize; 4]) -> AttentionPlan {
        AttentionPlan { heads: 1, rows: attention::tile(queries) }
    }

    fn wan_rope(args: RopeArgs<Self>) -> Tensor<Self, 4> {
        elementwise::rope(args)
    }

    fn wan_layer_norm(args: LayerNormArgs<Self>) -> Tensor<Self, 3> {
        norms::layer_norm(args)
    }

    fn wan_rms_norm(args: RmsNormArgs<Self>) -> Tensor<Self, 3> {
        norms::rms_norm(args)
    }

    fn wan_modulated_norm(args: ModulatedNormArgs<Self>) -> Tensor<Self, 3> {
        norms::modulated_norm(args)
    }

    fn wan_gated_residual(
        x: Tensor<Self, 3>,
        y: Tensor<Self, 3>,
        gate: Tensor<Self, 3>,
    ) -> Tensor<Self, 3> {
        elementwise::gated_residual(x, y, gate)
    }

    fn wan_add<const D: usize>(x: Tensor<Self, D>, y: Tensor<Self, D>) -> Tensor<Self, D> {
        elementwise::add(x, y)
    }

    fn wan_channel_norm(args: ChannelNormArgs<Self>) -> Tensor<Self, 5> {
        norms::channel_norm(args)
    }

    /// In memory the taps come first and the output channels last: `[kt, kh, kw, Cin, Cout]`.
    fn wan_conv3d_weight(weight: Tensor<Self, 5>) -> Tensor<Self, 5> {
        conv3d::taps_first(weight)
    }

    fn wan_conv3d(args: Conv3dArgs<Self>) -> Tensor<Self, 5> {
        conv3d::conv3d(args)
    }

    fn wan_cast<const D: usize>(x: Tensor<Self, D>, dtype: DType) -> Tensor<Self, D> {
        elementwise::cast(x, dtype)
    }
}
