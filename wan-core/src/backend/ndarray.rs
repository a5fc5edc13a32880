//! NdArray: a second, independent CPU backend, kept for parity tests. Portable kernels throughout.

use burn::backend::NdArray;

use super::{Backend, DeviceError, DeviceInfo, DeviceKind};

impl Backend for NdArray<f32> {
    fn open_device(index: usize) -> Result<Self::Device, DeviceError> {
        match index {
            0 => Ok(Self::Device::default()),
            _ => Err(DeviceError::NoSuchDevice { backend: "ndarray", index, count: 1 }),
        }
    }

    fn devices() -> Result<Vec<DeviceInfo>, DeviceError> {
        Ok(vec![DeviceInfo { name: "all cores".into(), kind: DeviceKind::Cpu }])
    }
}
