//! Loops over plain slices of f32, each in one pass over its data and on all threads.
//!
//! They are written so that the compiler vectorises them; [`vectorised`] compiles them for what the
//! processor has, found out at run time.

use rayon::prelude::*;

use super::bf16::Value;

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
pub(super) fn for_elements<E: Value>(x: &mut [E], map: impl Fn(f32) -> f32 + Sync) {
    x.par_chunks_mut(MIN_PER_THREAD).for_each(|x| {
        vectorised(inlined!(|| x.iter_mut().for_each(|x| *x = E::from_f32(map(x.to_f32())))));
    });
}

/// Calls `each(row, index)` for a copy of every row of `x` in f32, in parallel and vectorised, and gives what it
/// made of them.
pub(super) fn map_rows<X: Value, Y: Value>(
    x: &[X],
    width: usize,
    each: impl Fn(&mut [f32], usize) + Sync,
) -> Vec<Y> {
    let mut mapped = vec![Y::ZERO; x.len()];
    let rows = (MIN_PER_THREAD / width).max(1);
    let chunks = mapped.par_chunks_mut(rows * width).zip(x.par_chunks(rows * width)).enumerate();
    chunks.for_each_init(Vec::new, |copy, (chunk, (y, x))| {
        copy.resize(x.len(), 0.0);
        vectorised(inlined!(|| {
            copy.iter_mut().zip(x).for_each(|(copy, x)| *copy = x.to_f32());
            for (i, row) in copy.chunks_exact_mut(width).enumerate() {
                each(row, chunk * rows + i);
            }
            y.iter_mut().zip(copy.iter()).for_each(|(y, value)| *y = Y::from_f32(*value));
        }));
    });
    mapped
}

/// Copies on all threads, each of which also takes the page faults of its part.
pub(super) fn copy<E: Value>(values: &[E]) -> Vec<E> {
    let mut copied = vec![E::ZERO; values.len()];
    let parts = copied.par_chunks_mut(MIN_PER_THREAD).zip(values.par_chunks(MIN_PER_THREAD));
    parts.for_each(|(copied, values)| copied.copy_from_slice(values));
    copied
}
