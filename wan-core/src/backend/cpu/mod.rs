//! Kernels for the CPU on plain slices of f32, each in one pass over its data and on all threads.
//!
//! Loops are written so that the compiler vectorises them; [`vectorised`] compiles them for what the
//! processor has, found out at run time.

mod attention;
mod conv3d;
mod math;
mod matrix;
mod rows;
mod upsample;

pub(super) use attention::{Attention, Heads, attention};
pub(super) use conv3d::{Conv3d, conv3d};
pub(super) use rows::{
    Affine, channel_norm, gated_residual, gelu, layer_norm, linear, rms_norm, rope,
};
pub(super) use upsample::upsample;

/// Below this many numbers a second thread costs more than it saves.
const MIN_PER_THREAD: usize = 1 << 14;

/// Runs a closure compiled with the processor's widest vector instructions.
fn vectorised<R>(closure: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(closure)
}
