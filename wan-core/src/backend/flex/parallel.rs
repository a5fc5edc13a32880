//! Loops over plain slices of f32, each in one pass over its data and on all threads.
//!
//! They are written so that the compiler vectorises them; [`vectorised`] compiles them for what the
//! processor has, found out at run time.

use rayon::prelude::*;

/// A closure that is always inlined: what [`vectorised`] runs has to be, down to the last call, since
/// only what is inlined into it is compiled with the wide vector instructions.
macro_rules! inlined {
    (|| $body:expr) => {{
        #[inline(always)]
        || $body
    }};
    (|$($argument:tt $(: $type:ty)?),+| $body:expr) => {{
        #[inline(always)]
        |$($argument $(: $type)?),+| $body
    }};
}
pub(super) use inlined;

/// Below this many elements a second thread costs more than it saves.
pub(super) const MIN_PER_THREAD: usize = 1 << 14;

/// Runs a closure compiled with the processor's widest vector instructions.
pub(super) fn vectorised<R>(closure: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(closure)
}

/// Calls `each(row, index)` for every row of `x`, in parallel and vectorised.
pub(super) fn for_rows(x: &mut [f32], width: usize, each: impl Fn(&mut [f32], usize) + Sync) {
    let rows = (MIN_PER_THREAD / width).max(1);
    x.par_chunks_mut(rows * width).enumerate().for_each(|(chunk, x)| {
        vectorised(inlined!(|| {
            for (i, row) in x.chunks_exact_mut(width).enumerate() {
                each(row, chunk * rows + i);
            }
        }));
    });
}

/// Replaces every element by `map` of it, in parallel and vectorised.
pub(super) fn for_elements(x: &mut [f32], map: impl Fn(f32) -> f32 + Sync) {
    x.par_chunks_mut(MIN_PER_THREAD).for_each(|x| {
        vectorised(inlined!(|| x.iter_mut().for_each(|x| *x = map(*x))));
    });
}

/// Copies on all threads, each of which also takes the page faults of its part.
pub(super) fn copy(values: &[f32]) -> Vec<f32> {
    let mut copied = vec![0.0; values.len()];
    let parts = copied.par_chunks_mut(MIN_PER_THREAD).zip(values.par_chunks(MIN_PER_THREAD));
    parts.for_each(|(copied, values)| copied.copy_from_slice(values));
    copied
}
