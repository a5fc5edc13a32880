//! CUDA, and wgpu with its compilers WGSL and SPIR-V.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::Tensor;
#[cfg(any(feature = "wgpu", feature = "vulkan"))]
use burn_cubecl::BoolElement;

use super::{Backend, BurnBackend, DeviceError};

/// Starts a device. The drivers' bindings panic where a library or an adapter is missing.
fn start<B: BurnBackend>(
    backend: &'static str,
    index: usize,
    device: impl FnOnce() -> B::Device,
) -> Result<B::Device, DeviceError> {
    let unavailable = |reason| DeviceError::Unavailable { backend, index, reason };
    let started = catch_unwind(AssertUnwindSafe(|| {
        let device = device();
        B::sync(&device).map(|()| device)
    }));
    match started {
        Ok(Ok(device)) => Ok(device),
        Ok(Err(error)) => Err(unavailable(error.to_string())),
        Err(panic) => {
            let message = panic.downcast_ref::<String>().cloned();
            let text = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            Err(unavailable(text.unwrap_or_else(|| "the driver stopped".into())))
        }
    }
}

/// A transposed view would do for the result, but not for the matrix products of burn 0.21 on
/// CUDA, which read a column-major right side wrongly (burn#5264).
fn contiguous<B: BurnBackend>(weight: Tensor<B, 2>) -> Tensor<B, 2> {
    let [rows, columns] = weight.dims();
    // Flattening a transposed view cannot be a view: it copies in row-major order.
    weight.transpose().reshape([rows * columns]).reshape([columns, rows])
}

#[cfg(feature = "cuda")]
impl Backend for burn::backend::Cuda {
    fn open_device(index: usize) -> Result<Self::Device, DeviceError> {
        start::<Self>("cuda", index, || burn::backend::cuda::CudaDevice::new(index))
    }

    fn wan_linear_weight(weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
        contiguous(weight)
    }
}

#[cfg(any(feature = "wgpu", feature = "vulkan"))]
impl<BT: BoolElement> Backend for burn::backend::Wgpu<f32, i32, BT> {
    fn open_device(index: usize) -> Result<Self::Device, DeviceError> {
        use burn::backend::wgpu::WgpuDevice;
        start::<Self>("wgpu", index, || match index {
            0 => WgpuDevice::DefaultDevice,
            _ => WgpuDevice::DiscreteGpu(index - 1),
        })
    }

    fn wan_linear_weight(weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
        contiguous(weight)
    }
}
