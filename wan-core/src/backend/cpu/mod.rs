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

use rayon::prelude::*;

pub(super) use attention::{Attention, Heads, attention};
pub(super) use conv3d::{Conv3d, conv3d};
pub(super) use rows::{
    Affine, channel_norm, gated_residual, gelu, layer_norm, linear, rms_norm, rope,
};
pub(super) use upsample::upsample;

/// Below this many numbers a second thread costs more than it saves.
const MIN_PER_THREAD: usize = 1 << 14;

/// Copies on all threads, each of which also takes the page faults of its part.
pub(super) fn copy(values: &[f32]) -> Vec<f32> {
    let mut copied = vec![0.0; values.len()];
    let parts = copied.par_chunks_mut(MIN_PER_THREAD).zip(values.par_chunks(MIN_PER_THREAD));
    parts.for_each(|(copied, values)| copied.copy_from_slice(values));
    copied
}

/// Runs a closure compiled with the processor's widest vector instructions.
fn vectorised<R>(closure: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(closure)
}
