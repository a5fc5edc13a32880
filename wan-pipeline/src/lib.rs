#![doc = include_str!("../README.md")]

mod backends;
mod builder;
mod clip;
mod clock;
mod components;
mod conditions;
mod decode;
mod denoising;
mod embedded;
mod embeds;
mod encode;
mod error;
mod events;
mod experts;
mod generate;
mod inputs;
mod latents;
mod layout;
mod memory;
mod model_name;
mod observer;
mod open;
mod outpaint;
mod pipeline;
mod plan;
pub mod presets;
mod preview;
mod prompt_weights;
mod request;
mod resident;
mod role;
mod source;
mod source_mask;
mod source_video;
mod spec;
mod state;
mod stream;
mod task;
mod tensor_file;
mod video;
mod video_run;
mod worker;

pub use burn;
pub use wan_core as core;
pub use wan_io as io;
pub use wan_models as models;

pub use backends::{
    BackendChoice, BackendInfo, BestBackend, UnknownBackend, WithBackend, backends, best_backend,
    with_backend,
};
pub use builder::PipelineBuilder;
pub use clip::{Clip, ClipBuilder, ClipEmbedding, RankedVideo, rank_with_clip};
pub use denoising::{Denoising, Step};
pub use embeds::{Embeddings, EmbeddingsWriter, PromptEmbeds};
pub use error::{Error, ModelError};
pub use events::{Event, PromptRef};
pub use latents::{Latents, LatentsWriter, SavedLatents};
pub use memory::{
    AvailableMemory, Calibration, MemoryLimit, MemoryPlan, MemoryRemedy, MemoryShortage, Placement,
    Stage, StageMemory, TimeEstimate,
};
pub use observer::Observer;
pub use open::{BlockStream, Generate, open};
pub use pipeline::{DTypes, Pipeline};
pub use plan::Plan;
pub use presets::Preset;
pub use request::{Request, RequestError};
pub use role::Role;
pub use source_mask::SourceMask;
pub use source_video::{SourceLatents, SourceVideo};
pub use spec::ModelSpec;
pub use state::StateWriter;
pub use stream::{StreamLength, StreamOptions, StreamPlan, VideoStream};
pub use task::Task;
pub use tensor_file::TensorFileError;
pub use video::Video;
pub use wan_core::guidance::{
    Apg, Cfg, CfgZeroStar, Guidance, GuidanceError, GuidanceRule, Schedule,
};
pub use wan_core::scheduler::{
    FlowSchedule, ScheduleError, SchedulerConfig, SchedulerKind, SigmaGrid, Steps,
};
pub use wan_core::{
    Backend, CancelToken, DeviceError, DeviceInfo, DeviceKind, DeviceMemory, Precision, Tiling,
    VaeMemory,
};
pub use wan_io::hub::{HubError, HubEvent};
#[cfg(feature = "hub")]
pub use wan_io::hub::{HubOptions, Network, Token};
pub use wan_io::image::{FitRule, Image, ImageError};
pub use wan_io::integrity::{IntegrityError, Verify, verify};
pub use wan_io::video::{
    FrameRate, FrameSink, Metadata, VideoError, VideoSpec, VideoWriter, read_metadata,
};
pub use wan_models::load::Residency;
pub use worker::{Job, Worker};

/// The backends that are compiled in, each under the feature of its name, and what can be set of the CPU's.
pub mod backend {
    #[cfg(feature = "flex")]
    pub use burn::backend::Flex;
    #[cfg(feature = "ndarray")]
    pub use burn::backend::NdArray;
    #[cfg(feature = "cuda")]
    pub use wan_core::backend::Cuda;
    #[cfg(feature = "wgpu")]
    pub use wan_core::backend::Wgpu;
    #[cfg(feature = "flex")]
    pub use wan_core::backend::{
        CpuKernel, CpuKernelError, CpuThreadsError, cpu_threads, set_cpu_threads,
    };
}
