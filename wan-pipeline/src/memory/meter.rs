//! Memory that is only counted.

use std::cell::Cell;
use std::rc::Rc;

/// Tensors from this size on come from the system and go back to it at once. Smaller ones lie on the
/// heap, which in practice does not shrink: something small soon stands at its end. So it is with glibc.
const LARGE: u64 = 32 << 20;

/// Counts what is held while a computation is gone through without its numbers: each tensor is a
/// [`Held`] that lives as long as the tensor would.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter(Rc<Count>);

#[derive(Debug, Default)]
struct Count {
    large: Cell<u64>,
    small: Cell<u64>,
    /// The most that was `small` at once.
    heap: Cell<u64>,
    peak: Cell<u64>,
}

/// Bytes that are held until the last clone is dropped, as the memory of a tensor is.
#[derive(Debug, Clone)]
pub(super) struct Held(Rc<Bytes>);

#[derive(Debug)]
struct Bytes {
    meter: Meter,
    bytes: u64,
}

impl Meter {
    pub(super) fn hold(&self, bytes: u64) -> Held {
        let count = &self.0;
        let live = count.live(bytes);
        live.set(live.get() + bytes);
        count.heap.set(count.heap.get().max(count.small.get()));
        count.peak.set(count.peak.get().max(count.heap.get() + count.large.get()));
        Held(Rc::new(Bytes { meter: self.clone(), bytes }))
    }

    /// What is held now.
    pub(super) fn held(&self) -> u64 {
        self.0.small.get() + self.0.large.get()
    }

    /// The most that was taken at once.
    pub(super) fn peak(&self) -> u64 {
        self.0.peak.get()
    }

    /// The same where tensors of many sizes come and go, which leaves gaps in the heap: one byte in so
    /// many, as measured.
    pub(super) fn peak_with_gaps(&self) -> u64 {
        const GAPS: u64 = 8;
        self.peak() + self.0.heap.get() / GAPS
    }
}

impl Count {
    fn live(&self, bytes: u64) -> &Cell<u64> {
        if bytes < LARGE { &self.small } else { &self.large }
    }
}

impl Held {
    pub(super) fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Whether it can be changed in place: nobody else has it.
    pub(super) fn is_unique(&self) -> bool {
        Rc::strong_count(&self.0) == 1
    }
}

impl Drop for Bytes {
    fn drop(&mut self) {
        let live = self.meter.0.live(self.bytes);
        live.set(live.get() - self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_what_was_held_at_once() {
        let meter = Meter::default();
        let first = meter.hold(10);
        let again = first.clone();
        assert!(!first.is_unique());
        drop(first);
        drop(meter.hold(5));
        drop(again);
        drop(meter.hold(14));
        assert_eq!(meter.peak(), 15);
    }

    #[test]
    fn the_heap_does_not_shrink() {
        let meter = Meter::default();
        drop(meter.hold(LARGE - 1));
        drop(meter.hold(LARGE));
        assert_eq!(meter.peak(), 2 * LARGE - 1);
        drop(meter.hold(LARGE));
        assert_eq!(meter.peak(), 2 * LARGE - 1);
    }
}
