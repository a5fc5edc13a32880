//! CUDA, and wgpu for everything else: one source of kernels in CubeCL for both.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(feature = "wgpu")]
mod wgpu;

mod attention;
mod conv3d;
mod elementwise;
mod frames;
mod lanes;
mod launch;
mod linear;
mod norms;

use burn::tensor::{DType, Tensor, TensorPrimitive};
use burn_cubecl::tensor::CubeTensor;
use burn_cubecl::{BoolElement, CubeBackend, CubeRuntime};
use cubecl::Runtime;

use super::{
    AttentionArgs, Backend, BurnBackend, ChannelNormArgs, Conv3dArgs, DeviceError, DeviceInfo,
    DeviceMemory, LayerNormArgs, ModulatedNormArgs, NetworkKind, Precision, RmsNormArgs, RopeArgs,
};

/// NVIDIA GPUs. Not burn's alias of this name: that one changes with burn's feature `fusion`, which
/// any crate of a program can turn on and which gives wrong results in this version of burn.
#[cfg(feature = "cuda")]
pub type Cuda = CubeBackend<cubecl::cuda::CudaRuntime, f32, i32, u8>;

/// GPUs by Vulkan, on macOS by Metal. Not burn's alias of this name, which changes with burn's feature
/// `fusion`.
///
/// Some drivers write to stderr what is no error. The variables of the environment that stop it must be
/// set before the first call, and before there are threads, so a program has to do it, not this library:
/// `NODEVICE_SELECT=1` for Mesa's layer that picks a device (`error: XDG_RUNTIME_DIR is invalid`),
/// `MESA_VK_IGNORE_CONFORMANCE_WARNING=true` for Mesa's drivers that have not passed all tests.
#[cfg(feature = "wgpu")]
pub type Wgpu = CubeBackend<cubecl::wgpu::WgpuRuntime, f32, i32, u32>;

/// What differs between the runtimes of CubeCL.
trait Devices: CubeRuntime {
    /// See [`Backend::devices`].
    fn list() -> Result<Vec<DeviceInfo>, DeviceError>;

    /// See [`Backend::open_device`].
    fn open(index: usize) -> Result<Self::CubeDevice, DeviceError>;

    /// See [`Backend::auto_dtype`].
    fn auto_precision(device: &Self::CubeDevice) -> Precision;

    /// See [`Backend::device_memory`].
    fn memory(_device: &Self::CubeDevice) -> Option<DeviceMemory> {
        None
    }
}

type Cube<R, BT> = CubeBackend<R, f32, i32, BT>;

/// Implements [`Backend`] for a concrete type: what kernels are made of is then compiled here, once, and
/// not again with each program that uses the backend, which takes minutes.
macro_rules! cube_backend {
    ($backend:ty, $runtime:ty, $linear:ident) => {
        impl Backend for $backend {
            fn open_device(index: usize) -> Result<Self::Device, DeviceError> {
                <$runtime>::open(index)
            }

            fn devices() -> Result<Vec<DeviceInfo>, DeviceError> {
                <$runtime>::list()
            }

            fn auto_dtype(device: &Self::Device, network: NetworkKind) -> DType {
                if network == NetworkKind::Vae {
                    return DType::F32;
                }
                let best = <$runtime>::auto_precision(device);
                best.resolve::<Self>(device, network).unwrap_or(DType::F32)
            }

            fn device_memory(device: &Self::Device) -> Option<DeviceMemory> {
                <$runtime>::memory(device)
            }

            fn wan_linear_weight(weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
                linear::transposed(weight)
            }

            fn wan_linear<const D: usize>(
                x: Tensor<Self, D>,
                weight: Tensor<Self, 2>,
                bias: Option<Tensor<Self, 1>>,
            ) -> Tensor<Self, D> {
                let (mut shape, [input, output]) = (x.dims(), weight.dims());
                let rows = x.reshape([shape.iter().product::<usize>() / input, input]);
                shape[D - 1] = output;
                $linear(rows, weight, bias).reshape(shape)
            }

            fn wan_gelu(x: Tensor<Self, 3>) -> Tensor<Self, 3> {
                elementwise::gelu(x)
            }

            fn wan_attention(args: AttentionArgs<Self>) -> Tensor<Self, 4> {
                attention::attention(args)
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

            fn wan_is_finite<const D: usize>(x: Tensor<Self, D>) -> bool {
                frames::is_finite(x)
            }

            fn wan_sum<const D: usize>(x: Tensor<Self, D>) -> Tensor<Self, 1> {
                x.cast(DType::F32).sum()
            }

            fn wan_rgb(frames: Tensor<Self, 5>) -> Vec<u8> {
                frames::rgb(frames)
            }

            fn max_tensor_bytes(device: &Self::Device) -> Option<u64> {
                Some(<$runtime>::client(device).properties().memory.max_page_size)
            }

            fn wan_conv3d_weight(weight: Tensor<Self, 5>) -> Tensor<Self, 5> {
                conv3d::kernel(weight)
            }

            fn wan_conv3d(args: Conv3dArgs<Self>) -> Tensor<Self, 5> {
                conv3d::conv3d(args)
            }

            fn wan_channel_norm(args: ChannelNormArgs<Self>) -> Tensor<Self, 5> {
                norms::channel_norm(args.x, args.weight, args.silu, args.dtype)
            }
        }

        /// The part of `wan_linear` that does not depend on the number of axes.
        fn $linear(
            x: Tensor<$backend, 2>,
            weight: Tensor<$backend, 2>,
            bias: Option<Tensor<$backend, 1>>,
        ) -> Tensor<$backend, 2> {
            linear::linear(x, weight, bias)
        }
    };
}

#[cfg(feature = "cuda")]
cube_backend!(Cuda, cubecl::cuda::CudaRuntime, linear_on_cuda);
#[cfg(feature = "wgpu")]
cube_backend!(Wgpu, cubecl::wgpu::WgpuRuntime, linear_on_wgpu);

fn raw<R: Devices, BT: BoolElement, const D: usize>(x: Tensor<Cube<R, BT>, D>) -> CubeTensor<R> {
    x.into_primitive().tensor()
}

fn tensor<R: Devices, BT: BoolElement, const D: usize>(x: CubeTensor<R>) -> Tensor<Cube<R, BT>, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x))
}

/// Starts a device. What a driver's binding panics with is an error here.
fn start<B: BurnBackend>(
    backend: &'static str,
    index: usize,
    device: B::Device,
) -> Result<B::Device, DeviceError> {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    let unavailable = |reason| DeviceError::Unavailable { backend, index, reason };
    match catch_unwind(AssertUnwindSafe(|| B::sync(&device))) {
        Ok(Ok(())) => Ok(device),
        Ok(Err(error)) => Err(unavailable(error.to_string())),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().cloned();
            let text = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(unavailable(text.unwrap_or_else(|| "the driver stopped".into())))
        }
    }
}
