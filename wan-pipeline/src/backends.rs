use std::fmt;

use wan_core::{Backend, DeviceError, DeviceInfo, DeviceKind};

/// A backend that is compiled in, and what of it works on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendInfo {
    /// The name of its feature: `cuda`, `wgpu`, `flex` or `ndarray`.
    pub name: &'static str,
    /// Its devices, of which the first has been started; or why there is none.
    pub devices: Result<Vec<DeviceInfo>, DeviceError>,
}

/// The backend that suits a machine best, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendChoice {
    /// The name of its feature.
    pub name: &'static str,
    /// Its device, and what speaks against each backend that would have been better.
    pub reason: String,
}

/// All backends that are compiled in, the one that is fastest where it works first. Each is tried: its
/// first device is started.
///
/// ```
/// for backend in wan_pipeline::backends() {
///     println!("{backend}");
/// }
/// ```
pub fn backends() -> Vec<BackendInfo> {
    vec![
        #[cfg(feature = "cuda")]
        info::<crate::backend::Cuda>("cuda"),
        #[cfg(feature = "wgpu")]
        info::<crate::backend::Wgpu>("wgpu"),
        #[cfg(feature = "flex")]
        info::<crate::backend::Flex>("flex"),
        #[cfg(feature = "ndarray")]
        info::<crate::backend::NdArray<f32>>("ndarray"),
    ]
}

#[allow(dead_code)] // without any backend
fn info<B: Backend>(name: &'static str) -> BackendInfo {
    let devices = B::devices().and_then(|devices| B::open_device(0).map(|_| devices));
    BackendInfo { name, devices }
}

/// Of some [`backends`], the one to take: the one with the best kind of GPU; if there is no GPU, the
/// first that is made for processors. None if none works.
pub fn best_backend(backends: &[BackendInfo]) -> Option<BackendChoice> {
    let kind = |backend: &BackendInfo| backend.devices.as_ref().ok()?.first().map(|d| d.kind);
    let is_gpu = |backend: &BackendInfo| kind(backend).is_some_and(|k| k > DeviceKind::Cpu);
    let works = |backend: &BackendInfo| kind(backend).is_some();
    let made_for_cpu = |name| name == "flex" || name == "ndarray";
    // `rev`, since of equals the last is taken.
    let gpu = backends.iter().rev().filter(|backend| is_gpu(backend)).max_by_key(|b| kind(b));
    let cpu = || backends.iter().find(|backend| made_for_cpu(backend.name) && works(backend));
    let best = gpu.or_else(cpu).or_else(|| backends.iter().find(|backend| works(backend)))?;

    let better = backends.iter().take_while(|other| other.name != best.name);
    let mut reason = best.to_string();
    for other in better {
        reason += &match &other.devices {
            Ok(devices) => format!("; {} finds nothing better than {}", other.name, names(devices)),
            Err(error) => format!("; {error}"),
        };
    }
    Some(BackendChoice { name: best.name, reason })
}

impl fmt::Display for BackendInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.devices {
            Ok(devices) => write!(f, "{}: {}", self.name, names(devices)),
            Err(error) => write!(f, "{error}"),
        }
    }
}

fn names(devices: &[DeviceInfo]) -> String {
    devices.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn works(name: &'static str, kind: DeviceKind) -> BackendInfo {
        BackendInfo { name, devices: Ok(vec![DeviceInfo { name: "device".into(), kind }]) }
    }

    fn missing(name: &'static str) -> BackendInfo {
        let error = DeviceError::Missing { backend: name, reason: "no driver".into() };
        BackendInfo { name, devices: Err(error) }
    }

    fn best(backends: &[BackendInfo]) -> (&'static str, String) {
        let choice = best_backend(backends).unwrap();
        (choice.name, choice.reason)
    }

    #[test]
    fn the_best_gpu_is_taken() {
        use DeviceKind::*;
        let [cuda, flex] = [works("cuda", DiscreteGpu), works("flex", Cpu)];
        let wgpu = |kind| works("wgpu", kind);
        let all = [cuda.clone(), wgpu(DiscreteGpu), flex.clone()];
        assert_eq!(best(&all), ("cuda", "cuda: device (discrete GPU)".into()));
        assert_eq!(best(&[missing("cuda"), wgpu(IntegratedGpu), flex.clone()]).0, "wgpu");
    }

    #[test]
    fn a_processor_is_no_gpu() {
        let flex = works("flex", DeviceKind::Cpu);
        let all = [missing("cuda"), works("wgpu", DeviceKind::Cpu), flex.clone()];
        let reason = "flex: device (CPU); cuda is not available: no driver; wgpu finds nothing better \
                      than device (CPU)";
        assert_eq!(best(&all), ("flex", reason.into()));
        assert_eq!(best(&[missing("cuda"), works("wgpu", DeviceKind::Cpu)]).0, "wgpu");
        assert_eq!(best_backend(&[missing("cuda"), missing("wgpu")]), None);
        assert_eq!(best_backend(&[]), None);
        assert_eq!(best(&[works("ndarray", DeviceKind::Cpu)]).0, "ndarray");
    }

    #[test]
    fn all_that_is_compiled_in_is_listed() {
        let listed: Vec<_> = backends().into_iter().map(|backend| backend.name).collect();
        assert_eq!(listed.contains(&"flex"), cfg!(feature = "flex"));
        assert_eq!(listed.contains(&"wgpu"), cfg!(feature = "wgpu"));
        assert_eq!(listed.contains(&"cuda"), cfg!(feature = "cuda"));
        assert!(!cfg!(feature = "flex") || best_backend(&backends()).is_some());
    }
}
