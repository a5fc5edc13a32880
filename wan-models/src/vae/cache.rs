use burn::tensor::Tensor;
use wan_core::BurnBackend;

/// How many frames a causal convolution looks back.
const PAST_FRAMES: usize = 2;

/// The frames that a temporal layer remembers.
#[derive(Debug, Clone, Default)]
pub(super) enum Slot<B: BurnBackend> {
    /// The layer has not run yet.
    #[default]
    Unused,
    /// A temporal upsampler has let the first frame pass: its convolution begins with the next.
    FirstFramePassed,
    /// The last frames that the layer has seen.
    Past(Tensor<B, 5>),
}

impl<B: BurnBackend> Slot<B> {
    /// The frames remembered.
    pub(super) fn past(&self) -> Option<Tensor<B, 5>> {
        match self {
            Self::Past(frames) => Some(frames.clone()),
            _ => None,
        }
    }

    /// Remembers the last frames of what was remembered and `x` together.
    pub(super) fn push(&mut self, x: &Tensor<B, 5>) {
        let known = match self.past() {
            Some(past) if x.dims()[1] < PAST_FRAMES => Tensor::cat(vec![past, x.clone()], 1),
            _ => x.clone(),
        };
        let frames = known.dims()[1];
        let keep = frames.min(PAST_FRAMES);
        *self = Self::Past(known.narrow(1, frames - keep, keep));
    }
}

/// The slots of all temporal layers of an encoder or decoder, in the order in which they run: the
/// feature cache that lets a video pass through a few frames at a time.
#[derive(Debug, Clone)]
pub(super) struct FeatureCache<B: BurnBackend> {
    slots: Vec<Slot<B>>,
    next: usize,
}

impl<B: BurnBackend> FeatureCache<B> {
    pub(super) fn new() -> Self {
        Self { slots: Vec::new(), next: 0 }
    }

    /// Begins the next chunk of frames.
    pub(super) fn rewind(&mut self) {
        self.next = 0;
    }

    /// The slot of the layer that runs now.
    pub(super) fn slot(&mut self) -> &mut Slot<B> {
        if self.next == self.slots.len() {
            self.slots.push(Slot::default());
        }
        self.next += 1;
        &mut self.slots[self.next - 1]
    }
}
