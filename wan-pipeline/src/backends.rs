use std::fmt;
use std::str::FromStr;

use wan_core::{Backend, DeviceError, DeviceInfo, DeviceKind};

/// A backend to compute with. All are listed, whether they are compiled in or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum BackendChoice {
    /// The most suitable one on this machine: see [`best_backend`].
    #[default]
    Auto,
    /// NVIDIA GPUs (feature `cuda`).
    Cuda,
    /// GPUs by Vulkan, on macOS by Metal (feature `wgpu`).
    Wgpu,
    /// The CPU, fast (feature `flex`).
    Flex,
    /// The CPU, a second implementation for comparison (feature `ndarray`).
    NdArray,
}

impl BackendChoice {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Auto, Self::Cuda, Self::Wgpu, Self::Flex, Self::NdArray];

    /// The name, which is also that of the feature that compiles it in.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Cuda => "cuda",
            Self::Wgpu => "wgpu",
            Self::Flex => "flex",
            Self::NdArray => "ndarray",
        }
    }
}

impl fmt::Display for BackendChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for BackendChoice {
    type Err = UnknownBackend;

    fn from_str(name: &str) -> Result<Self, UnknownBackend> {
        let found = Self::ALL.into_iter().find(|choice| choice.name() == name);
        found.ok_or_else(|| UnknownBackend { found: name.to_owned() })
    }
}

/// A name that no backend has.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no backend: there are auto, cuda, wgpu, flex and ndarray")]
pub struct UnknownBackend {
    /// The name.
    pub found: String,
}

/// Work for a backend that is chosen at run time: see [`with_backend`].
pub trait WithBackend {
    /// The result of the work.
    type Output;

    /// Does it.
    fn run<B: Backend>(self) -> Self::Output;
}

/// Calls `work` with the backend that is chosen.
///
/// ```
/// use wan_pipeline::{Backend, BackendChoice, WithBackend, with_backend};
///
/// struct CountDevices;
///
/// impl WithBackend for CountDevices {
///     type Output = usize;
///     fn run<B: Backend>(self) -> usize {
///         B::devices().map_or(0, |devices| devices.len())
///     }
/// }
///
/// # #[cfg(feature = "flex")]
/// assert!(with_backend(BackendChoice::Flex, CountDevices)? > 0);
/// # Ok::<(), wan_pipeline::DeviceError>(())
/// ```
///
/// # Errors
/// If the backend is not compiled in, or with [`BackendChoice::Auto`], if none works.
#[allow(clippy::only_used_in_recursion)] // without any backend
pub fn with_backend<W: WithBackend>(
    choice: BackendChoice,
    work: W,
) -> Result<W::Output, DeviceError> {
    match choice {
        BackendChoice::Auto => match best_backend(&backends()) {
            Some(best) => with_backend(best.choice, work),
            None => Err(DeviceError::Missing {
                backend: "auto",
                reason: "none of the backends that are compiled in works on this machine".into(),
            }),
        },
        #[cfg(feature = "cuda")]
        BackendChoice::Cuda => Ok(work.run::<crate::backend::Cuda>()),
        #[cfg(feature = "wgpu")]
        BackendChoice::Wgpu => Ok(work.run::<crate::backend::Wgpu>()),
        #[cfg(feature = "flex")]
        BackendChoice::Flex => Ok(work.run::<crate::backend::Flex>()),
        #[cfg(feature = "ndarray")]
        BackendChoice::NdArray => Ok(work.run::<crate::backend::NdArray<f32>>()),
        #[allow(unreachable_patterns)] // where all are compiled in
        other => Err(not_compiled_in(other.name())),
    }
}

fn not_compiled_in(backend: &'static str) -> DeviceError {
    let reason = format!("this program was built without it; build it with `--features {backend}`");
    DeviceError::Missing { backend, reason }
}

/// How to get a GPU, where none can be used for want of a feature.
const HOW_TO_GET_A_GPU: &str = "no GPU backend is compiled in: build with `--features wgpu` (Vulkan, \
    Metal) or `--features cuda` (NVIDIA)";

/// A backend that is compiled in, and what of it works on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendInfo {
    /// Which it is.
    pub choice: BackendChoice,
    /// Its devices, of which the first has been started; or why there is none.
    pub devices: Result<Vec<DeviceInfo>, DeviceError>,
}

/// The backend that suits a machine best, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BestBackend {
    /// Which it is.
    pub choice: BackendChoice,
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
        info::<crate::backend::Cuda>(BackendChoice::Cuda),
        #[cfg(feature = "wgpu")]
        info::<crate::backend::Wgpu>(BackendChoice::Wgpu),
        #[cfg(feature = "flex")]
        info::<crate::backend::Flex>(BackendChoice::Flex),
        #[cfg(feature = "ndarray")]
        info::<crate::backend::NdArray<f32>>(BackendChoice::NdArray),
    ]
}

#[allow(dead_code)] // without any backend
fn info<B: Backend>(choice: BackendChoice) -> BackendInfo {
    let devices = B::devices().and_then(|devices| B::open_device(0).map(|_| devices));
    BackendInfo { choice, devices }
}

/// Of some [`backends`], the one to take: the one with the best kind of GPU; if there is no GPU, the
/// first that is made for processors. None if none works.
pub fn best_backend(backends: &[BackendInfo]) -> Option<BestBackend> {
    let kind = |backend: &BackendInfo| backend.devices.as_ref().ok()?.first().map(|d| d.kind);
    let is_gpu = |backend: &BackendInfo| kind(backend).is_some_and(|k| k > DeviceKind::Cpu);
    let works = |backend: &BackendInfo| kind(backend).is_some();
    let made_for_cpu = |choice| matches!(choice, BackendChoice::Flex | BackendChoice::NdArray);
    // `rev`, since of equals the last is taken.
    let gpu = backends.iter().rev().filter(|backend| is_gpu(backend)).max_by_key(|b| kind(b));
    let cpu = || backends.iter().find(|backend| made_for_cpu(backend.choice) && works(backend));
    let best = gpu.or_else(cpu).or_else(|| backends.iter().find(|backend| works(backend)))?;

    let better = backends.iter().take_while(|other| other.choice != best.choice);
    let mut reason = best.to_string();
    for other in better {
        reason += &match &other.devices {
            Ok(devices) => {
                format!("; {} finds nothing better than {}", other.choice, names(devices))
            }
            Err(error) => format!("; {error}"),
        };
    }
    let for_gpus = |backend: &BackendInfo| !made_for_cpu(backend.choice);
    if !backends.iter().any(for_gpus) {
        reason += &format!("; {HOW_TO_GET_A_GPU}");
    }
    Some(BestBackend { choice: best.choice, reason })
}

impl fmt::Display for BackendInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.devices {
            Ok(devices) => write!(f, "{}: {}", self.choice, names(devices)),
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

    fn works(name: &str, kind: DeviceKind) -> BackendInfo {
        let devices = Ok(vec![DeviceInfo { name: "device".into(), kind }]);
        BackendInfo { choice: name.parse().unwrap(), devices }
    }

    fn missing(name: &'static str) -> BackendInfo {
        let error = DeviceError::Missing { backend: name, reason: "no driver".into() };
        BackendInfo { choice: name.parse().unwrap(), devices: Err(error) }
    }

    fn best(backends: &[BackendInfo]) -> (&'static str, String) {
        let best = best_backend(backends).unwrap();
        (best.choice.name(), best.reason)
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
    fn without_any_backend_for_gpus_it_is_said_how_to_get_one() {
        let (name, reason) = best(&[works("flex", DeviceKind::Cpu)]);
        assert_eq!(name, "flex");
        assert!(reason.contains("--features wgpu") && reason.contains("--features cuda"));
    }

    #[test]
    fn a_choice_is_read_from_its_name() {
        for choice in BackendChoice::ALL {
            assert_eq!(choice.to_string().parse(), Ok(choice));
        }
        let error = "gpu".parse::<BackendChoice>().unwrap_err().to_string();
        assert!(error.contains("\"gpu\"") && error.contains("wgpu"), "{error}");
    }

    #[test]
    fn all_that_is_compiled_in_is_listed() {
        let listed: Vec<_> = backends().into_iter().map(|b| b.choice.name()).collect();
        assert_eq!(listed.contains(&"flex"), cfg!(feature = "flex"));
        assert_eq!(listed.contains(&"wgpu"), cfg!(feature = "wgpu"));
        assert_eq!(listed.contains(&"cuda"), cfg!(feature = "cuda"));
        assert!(!cfg!(feature = "flex") || best_backend(&backends()).is_some());
    }
}
