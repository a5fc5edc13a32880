//! Whatever comes from outside and is wrong is a typed error whose message names the thing, the
//! value found and what would be right; it is found before denoising starts, and nothing is left on
//! disk. And what only looks wrong works.

mod changing;
mod configs;
mod control;
mod files;
mod inputs;
mod kinds;
mod masks;
mod model;
mod names;
mod original;
mod prompts;
mod repackaged;
mod requests;
mod running;
mod tensor_files;
mod weights;
