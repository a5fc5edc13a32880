//! The foundation of the Wan text-to-video library: the [`Backend`] trait with the few heavy
//! kernels, the flow-matching [`schedulers`](scheduler), classifier-free [`guidance`], host
//! [`noise`] equal to torch's, and the traits that the stages of a pipeline implement.

pub mod backend;
mod cancel;
pub mod config;
pub mod guidance;
pub mod noise;
pub mod scheduler;
mod stages;

pub use backend::{Backend, BurnBackend, DeviceError, DeviceInfo, DeviceKind, Precision};
pub use cancel::{CancelToken, Cancelled};
pub use stages::{Denoiser, TextConditioning, TextEncoder, VideoVae};
