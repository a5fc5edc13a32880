//! Flex: the default CPU backend.

use burn::backend::Flex;

use super::{Backend, DeviceError};

impl Backend for Flex {
    fn open_device(index: usize) -> Result<Self::Device, DeviceError> {
        match index {
            0 => Ok(Self::Device::default()),
            _ => Err(DeviceError::NoSuchDevice { backend: "flex", index, count: 1 }),
        }
    }
}
