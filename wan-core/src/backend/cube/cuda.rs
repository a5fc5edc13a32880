//! The devices of CUDA, all of which is found at run time: the driver, the compiler of its kernels
//! (NVRTC) and the headers that they include.

use std::path::{Path, PathBuf};

use cubecl::cuda::{CudaDevice, CudaRuntime};
use cudarc::driver::result;

use super::{Cuda, Devices, start};
use crate::backend::{DeviceError, DeviceInfo, DeviceKind, DeviceMemory, Precision};

const NAME: &str = "cuda";

impl Devices for CudaRuntime {
    fn list() -> Result<Vec<DeviceInfo>, DeviceError> {
        (0..count()?).map(info).collect()
    }

    fn open(index: usize) -> Result<CudaDevice, DeviceError> {
        let count = count()?;
        if index >= count {
            return Err(DeviceError::NoSuchDevice { backend: NAME, index, count });
        }
        start::<Cuda>(NAME, index, CudaDevice::new(index))
    }

    fn auto_precision(_: &CudaDevice) -> Precision {
        Precision::Bf16
    }

    fn memory(device: &CudaDevice) -> Option<DeviceMemory> {
        let index = device.index;
        // The context that is current on a thread stays so: this one ends.
        std::thread::spawn(move || memory(index)).join().ok()?
    }
}

fn memory(index: usize) -> Option<DeviceMemory> {
    let device = result::device::get(i32::try_from(index).ok()?).ok()?;
    // SAFETY: the driver gave the device, and its primary context is held while it is current here.
    #[allow(unsafe_code)]
    let memory = unsafe {
        let context = result::primary_ctx::retain(device).ok()?;
        let memory = result::ctx::set_current(context).and_then(|()| result::mem_get_info());
        let _ = result::primary_ctx::release(device);
        memory
    };
    let (free, total) = memory.ok()?;
    Some(DeviceMemory { free: free as u64, total: total as u64 })
}

/// How many devices there are, after a look at everything that is needed to use one.
fn count() -> Result<usize, DeviceError> {
    let missing =
        |reason: &str| Err(DeviceError::Missing { backend: NAME, reason: reason.to_owned() });
    // SAFETY: it only tries to open the library.
    #[allow(unsafe_code)]
    let (driver, compiler) = unsafe {
        (cudarc::driver::sys::is_culib_present(), cudarc::nvrtc::sys::is_culib_present())
    };
    if !driver {
        return missing(
            "NVIDIA's driver was not found (libcuda.so, on Windows nvcuda.dll): it takes an NVIDIA \
             GPU and its driver",
        );
    }
    if let Err(error) = result::init() {
        return missing(&format!("NVIDIA's driver does not start: {error:?}"));
    }
    let count = match result::device::get_count() {
        Ok(count) => count as usize,
        Err(error) => return missing(&format!("NVIDIA's driver lists no devices: {error:?}")),
    };
    if count == 0 {
        return missing("NVIDIA's driver is there, but no GPU");
    }
    if !compiler {
        return missing(
            "NVIDIA's run-time compiler was not found (libnvrtc.so, on Windows nvrtc64_*.dll): it \
             comes with the CUDA toolkit; its folder has to be in LD_LIBRARY_PATH or PATH",
        );
    }
    match toolkit() {
        Some(folder) if folder.join("include/cuda_runtime.h").is_file() => Ok(count),
        Some(folder) => missing(&format!(
            "{} was not found: kernels include it; CUDA_PATH has to name the folder of a CUDA \
             toolkit with headers",
            folder.join("include/cuda_runtime.h").display()
        )),
        None => missing(
            "no CUDA toolkit was found, whose headers kernels include: CUDA_PATH has to name its \
             folder",
        ),
    }
}

/// Where CubeCL looks for the toolkit; where it finds none, it panics.
fn toolkit() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os("CUDA_PATH") {
        return Some(path.into());
    }
    if cfg!(windows) {
        return Some("C:/Program Files/NVIDIA GPU Computing Toolkit/CUDA/".into());
    }
    let there = ["/usr/local/cuda", "/opt/cuda"].into_iter().find(|path| Path::new(path).exists());
    let by_distribution = || Path::new("/usr/bin/nvcc").exists().then_some("/usr");
    there.or_else(by_distribution).map(PathBuf::from)
}

fn info(index: usize) -> Result<DeviceInfo, DeviceError> {
    let name = result::device::get(index as i32).and_then(result::device::get_name);
    let name = name.map_err(|error| DeviceError::Unavailable {
        backend: NAME,
        index,
        reason: format!("{error:?}"),
    })?;
    Ok(DeviceInfo { name, kind: DeviceKind::DiscreteGpu })
}
