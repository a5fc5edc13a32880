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

/// Elements that are copied before they are changed, if rows are no longer: they stay in the first-level cache.
const MAX_COPIED: usize = 1 << 12;

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
    let rows = |elements: usize| (elements / width).max(1);
    let (of_task, at_a_time) = (rows(MIN_PER_THREAD), rows(MAX_COPIED));
    let tasks = mapped.par_chunks_mut(of_task * width).zip(x.par_chunks(of_task * width));
    tasks.enumerate().for_each_init(
        || vec![0.0; at_a_time * width],
        |copy, (task, (y, x))| {
            vectorised(inlined!(|| {
                let parts = y.chunks_mut(copy.len()).zip(x.chunks(copy.len()));
                for (part, (y, x)) in parts.enumerate() {
                    let first = task * of_task + part * at_a_time;
                    let copy = &mut copy[..x.len()];
                    copy.iter_mut().zip(x).for_each(inlined!(|(copy, x)| *copy = x.to_f32()));
                    for (i, row) in copy.chunks_exact_mut(width).enumerate() {
                        each(row, first + i);
                    }
                    y.iter_mut().zip(&*copy).for_each(inlined!(|(y, x)| *y = Y::from_f32(*x)));
                }
            }));
        },
    );
    mapped
}

/// The elements in another dtype, in parallel and vectorised.
pub(super) fn converted<X: Value, Y: Value>(x: &[X]) -> Vec<Y> {
    let mut converted = vec![Y::ZERO; x.len()];
    let parts = converted.par_chunks_mut(MIN_PER_THREAD).zip(x.par_chunks(MIN_PER_THREAD));
    parts.for_each(|(y, x)| {
        vectorised(inlined!(|| {
            y.iter_mut().zip(x).for_each(inlined!(|(y, x)| *y = Y::from_f32(x.to_f32())));
        }));
    });
    converted
}

/// Copies on all threads, each of which also takes the page faults of its part.
pub(super) fn copy<E: Value>(values: &[E]) -> Vec<E> {
    let mut copied = vec![E::ZERO; values.len()];
    let parts = copied.par_chunks_mut(MIN_PER_THREAD).zip(values.par_chunks(MIN_PER_THREAD));
    parts.for_each(|(copied, values)| copied.copy_from_slice(values));
    copied
}
