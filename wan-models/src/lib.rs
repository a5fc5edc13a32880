#![doc = include_str!("../README.md")]

pub mod clip;
pub mod config;
pub mod kind;
mod layers;
pub mod load;
mod probe;
pub mod transformer;
pub mod umt5;
pub mod vae;

pub use probe::Probe;
