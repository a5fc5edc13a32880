#![doc = include_str!("../README.md")]

pub mod files;
mod foreign;
pub mod hub;
pub mod image;
pub mod integrity;
pub mod pth;
pub mod text;
pub mod video;
pub mod weights;
mod words;

pub use integrity::verify;
pub use words::counted;
