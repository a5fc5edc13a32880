//! The adapters of wgpu.

use std::sync::OnceLock;

use cubecl::wgpu::{AutoGraphicsApi, GraphicsApi, WgpuDevice, WgpuRuntime};
use wgpu::{DeviceType, Instance, InstanceDescriptor};

use super::{Devices, Wgpu, start};
use crate::backend::{DeviceError, DeviceInfo, DeviceKind, Precision};

const NAME: &str = "wgpu";

impl Devices for WgpuRuntime {
    fn list() -> Result<Vec<DeviceInfo>, DeviceError> {
        Ok(adapters()?.into_iter().map(|(info, _)| info).collect())
    }

    fn open(index: usize) -> Result<WgpuDevice, DeviceError> {
        let adapters = adapters()?;
        let count = adapters.len();
        let Some((_, device)) = adapters.into_iter().nth(index) else {
            return Err(DeviceError::NoSuchDevice { backend: NAME, index, count });
        };
        start::<Wgpu>(NAME, index, device)
    }

    fn auto_precision(device: &WgpuDevice) -> Precision {
        match device {
            // A processor that stands in for a GPU converts to and from 16 bits step by step.
            WgpuDevice::Cpu => Precision::F32,
            _ => Precision::F16,
        }
    }
}

type Adapters = Vec<(DeviceInfo, WgpuDevice)>;

/// All adapters, the best kind first, and how CubeCL names each. Drivers are asked once, since that
/// takes a while and makes some of them talk on stderr.
fn adapters() -> Result<Adapters, DeviceError> {
    static ADAPTERS: OnceLock<Result<Adapters, DeviceError>> = OnceLock::new();
    ADAPTERS.get_or_init(find_adapters).clone()
}

fn find_adapters() -> Result<Adapters, DeviceError> {
    let backend = AutoGraphicsApi::backend();
    let mut descriptor = InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backend.into();
    let instance = Instance::new(descriptor);
    let found = cubecl::future::block_on(instance.enumerate_adapters(backend.into()));
    let mut of_kind = [0; 3];
    let mut next = |kind: usize| {
        of_kind[kind] += 1;
        of_kind[kind] - 1
    };
    let mut adapters = Vec::new();
    for info in found.iter().map(|adapter| adapter.get_info()) {
        let (kind, device) = match info.device_type {
            DeviceType::DiscreteGpu => (DeviceKind::DiscreteGpu, WgpuDevice::DiscreteGpu(next(0))),
            DeviceType::IntegratedGpu => {
                (DeviceKind::IntegratedGpu, WgpuDevice::IntegratedGpu(next(1)))
            }
            DeviceType::VirtualGpu => (DeviceKind::VirtualGpu, WgpuDevice::VirtualGpu(next(2))),
            DeviceType::Cpu => (DeviceKind::Cpu, WgpuDevice::Cpu),
            DeviceType::Other => continue, // CubeCL has no name for it
        };
        adapters.push((DeviceInfo { name: info.name, kind }, device));
    }
    if adapters.is_empty() {
        let reason = format!(
            "no adapter for {backend:?} was found: it takes a graphics driver (on Debian, \
             mesa-vulkan-drivers has those of AMD, Intel and one that computes on the CPU)"
        );
        return Err(DeviceError::Missing { backend: NAME, reason });
    }
    adapters.sort_by_key(|(info, _)| std::cmp::Reverse(info.kind));
    Ok(adapters)
}
