#![doc = include_str!("../README.md")]

mod backends;
mod builder;
mod embedded;
mod error;
mod events;
mod generate;
mod latents;
mod layout;
mod model;
mod pipeline;
pub mod presets;
mod request;
mod source;
mod video;

pub use backends::{BackendChoice, BackendInfo, backends, best_backend};
pub use builder::PipelineBuilder;
pub use error::Error;
pub use events::{Event, Observer, ignore_events};
pub use generate::{Conditioning, StepObserver};
pub use latents::LatentsWriter;
pub use pipeline::{DTypes, Pipeline};
pub use presets::Preset;
pub use request::{Request, RequestError, Settings};
pub use video::Video;
pub use wan_core::scheduler::{SchedulerConfig, SchedulerKind, SigmaGrid};
pub use wan_core::{Backend, DeviceError, DeviceInfo, DeviceKind, Precision};
#[cfg(feature = "hub")]
pub use wan_io::hub::{HubError, HubEvent, HubOptions};
pub use wan_io::integrity::{IntegrityError, Verify, verify};
pub use wan_io::video::{FrameSink, Metadata, VideoSpec, VideoWriter, read_metadata};
pub use wan_models::vae::Tiling;

/// The backends that are compiled in, each under the feature of its name.
pub mod backend {
    #[cfg(feature = "flex")]
    pub use burn::backend::Flex;
    #[cfg(feature = "ndarray")]
    pub use burn::backend::NdArray;
    #[cfg(feature = "cuda")]
    pub use wan_core::backend::Cuda;
    #[cfg(feature = "wgpu")]
    pub use wan_core::backend::Wgpu;
}
