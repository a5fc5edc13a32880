//! Files of the Wan text-to-video library: model folders and [`weights`], the [`text`] that goes
//! in (prompt cleaning, tokenizer) and the [`video`] that comes out.

pub mod files;
pub mod text;
pub mod video;
pub mod weights;
