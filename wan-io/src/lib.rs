//! Files of the Wan text-to-video library: models from a [`hub`] or in folders, their [`integrity`]
//! and [`weights`], the [`text`] that goes in (prompt cleaning, tokenizer) and the [`video`] that comes
//! out.

pub mod files;
#[cfg(feature = "hub")]
pub mod hub;
pub mod integrity;
pub mod pth;
pub mod text;
pub mod video;
pub mod weights;

pub use integrity::verify;
