//! The networks of Wan text-to-video on any [`wan_core::Backend`]: the text encoder
//! [`umt5`], the [`transformer`] (DiT) and the video autoencoder [`vae`].
//!
//! Every network is loaded the same way: its config is validated, the checkpoint is compared with
//! it name by name ([`load::load`]), and only then a tensor is read.

pub mod config;
mod layers;
pub mod load;
mod probe;
pub mod transformer;
pub mod umt5;
pub mod vae;

pub use probe::Probe;
