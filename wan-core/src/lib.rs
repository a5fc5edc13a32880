#![doc = include_str!("../README.md")]

pub mod backend;
mod cancel;
pub mod config;
mod denoiser;
pub mod guidance;
pub mod noise;
mod rounding;
pub mod scheduler;
mod text;
mod vae;
mod words;

pub use backend::{
    Backend, BurnBackend, DeviceError, DeviceInfo, DeviceKind, DeviceMemory, Precision,
};
pub use cancel::{CancelToken, Cancelled};
pub use denoiser::{
    Branch, Conditioning, Control, Denoiser, ForwardError, Pass, ReadingPace, Timesteps,
};
pub use rounding::nearest_bf16;
pub use text::{TextConditioning, TextEncoder};
pub use vae::{
    Decoded, DecodedFrames, FrameSource, StreamDecoder, Tiling, VaeError, VaeMemory, VideoVae,
};
