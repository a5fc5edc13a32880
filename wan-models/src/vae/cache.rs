use burn::tensor::{DType, Tensor};
use wan_core::{Backend, BurnBackend};

/// How many frames a causal convolution looks back.
const PAST_FRAMES: usize = 2;

/// The last frames that a temporal layer has seen.
#[derive(Debug, Clone)]
pub(super) struct Slot<B: BurnBackend> {
    /// The oldest first. Each is a tensor of its own, and not a part of a larger one that it would keep.
    past: Vec<Tensor<B, 5>>,
    /// Whether a frame has come to the layer.
    has_begun: bool,
    /// Whether frames in f32 are kept in f16.
    halves: bool,
}

impl<B: Backend> Slot<B> {
    fn new(halves: bool) -> Self {
        Self { past: Vec::new(), has_begun: false, halves }
    }

    /// Whether the first frame of a video comes: said once.
    pub(super) fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.has_begun, true)
    }

    /// Remembers `frame` `[B, 1, H, W, C]`; gives what was remembered before.
    pub(super) fn remember(&mut self, frame: &Tensor<B, 5>) -> Vec<Tensor<B, 5>> {
        let before = self.past.clone();
        let kept = match self.halves && frame.dtype() == DType::F32 {
            true => B::wan_cast(frame.clone(), DType::F16),
            false => frame.clone(),
        };
        self.past.push(kept);
        self.forget(PAST_FRAMES);
        before
    }

    /// The frame before `frame`, if it is the first of a pair and `frame` the second. If `frame` is the
    /// first, it is remembered.
    pub(super) fn first_of_pair(&mut self, frame: &Tensor<B, 5>) -> Option<Tensor<B, 5>> {
        let first = self.past.pop();
        if first.is_none() {
            self.past.push(frame.clone());
        }
        first
    }

    /// Forgets all but the last `kept` frames.
    pub(super) fn forget(&mut self, kept: usize) {
        self.past.drain(..self.past.len().saturating_sub(kept));
    }
}

/// The slots of all temporal layers of an encoder or decoder, in the order in which they run: the
/// feature cache that lets a video pass through a frame at a time.
#[derive(Debug, Clone)]
pub(super) struct FeatureCache<B: BurnBackend> {
    slots: Vec<Slot<B>>,
    next: usize,
    halves: bool,
}

impl<B: Backend> FeatureCache<B> {
    /// With `halves`, normed frames are kept in f16, in which they cannot overflow.
    pub(super) fn new(halves: bool) -> Self {
        Self { slots: Vec::new(), next: 0, halves }
    }

    /// Begins the next frame.
    pub(super) fn rewind(&mut self) {
        self.next = 0;
    }

    /// The layer that runs next, for [`go_back_to`](Self::go_back_to).
    pub(super) fn position(&self) -> usize {
        self.next
    }

    /// Runs the layers from there on again, for another frame.
    pub(super) fn go_back_to(&mut self, position: usize) {
        self.next = position;
    }

    /// The slot of the layer that runs now, whose input is normed.
    pub(super) fn slot(&mut self) -> &mut Slot<B> {
        self.next_slot(self.halves)
    }

    /// The slot of the layer that runs now, whose input is of any size.
    pub(super) fn exact_slot(&mut self) -> &mut Slot<B> {
        self.next_slot(false)
    }

    fn next_slot(&mut self, halves: bool) -> &mut Slot<B> {
        if self.next == self.slots.len() {
            self.slots.push(Slot::new(halves));
        }
        self.next += 1;
        &mut self.slots[self.next - 1]
    }
}
