use std::fmt;

/// The kind of a device, from the least suitable to the most suitable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum DeviceKind {
    /// The backend does not tell.
    Unknown,
    /// The processor, also where it stands in for a GPU.
    Cpu,
    /// A GPU that the host shares with other guests.
    VirtualGpu,
    /// A GPU that shares its memory with the processor.
    IntegratedGpu,
    /// A GPU with a memory of its own.
    DiscreteGpu,
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unknown => "device",
            Self::Cpu => "CPU",
            Self::VirtualGpu => "virtual GPU",
            Self::IntegratedGpu => "integrated GPU",
            Self::DiscreteGpu => "discrete GPU",
        })
    }
}

/// A device of a backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Its name, as the driver reports it.
    pub name: String,
    /// Its kind.
    pub kind: DeviceKind,
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.kind)
    }
}

/// The memory of a device that has its own, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// What is free now.
    pub free: u64,
    /// All that it has.
    pub total: u64,
}

/// Why a device cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The backend has fewer devices.
    #[error("{backend} has no device {index}: it has {count}")]
    NoSuchDevice {
        /// Name of the backend.
        backend: &'static str,
        /// The device asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// Something that all devices of the backend need is missing.
    #[error("{backend} is not available: {reason}")]
    Missing {
        /// Name of the backend.
        backend: &'static str,
        /// The missing part, and how to get it.
        reason: String,
    },
    /// The driver does not start the device.
    #[error("{backend} device {index} does not start: {reason}")]
    Unavailable {
        /// Name of the backend.
        backend: &'static str,
        /// The device asked for.
        index: usize,
        /// The driver's message.
        reason: String,
    },
    /// The device cannot compute in a dtype.
    #[error("{backend} cannot compute in {precision} on this device, only in {supported}")]
    Precision {
        /// Name of the backend.
        backend: String,
        /// The precision asked for.
        precision: super::Precision,
        /// The precisions that it supports.
        supported: String,
    },
}
