//! Files of the Wan text-to-video library: model folders and [`weights`], their [`integrity`], the
//! [`text`] that goes in (prompt cleaning, tokenizer) and the [`video`] that comes out.

pub mod files;
pub mod integrity;
pub mod text;
pub mod video;
pub mod weights;

pub use integrity::verify;
