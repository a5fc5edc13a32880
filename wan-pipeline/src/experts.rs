//! Two experts that share a run: one for the first steps, where noise is high, one for the others.

use burn::tensor::Tensor;
use wan_core::Backend;
use wan_core::guidance::{Guide, Passes, Predictions};

/// Guides the steps of each expert by a guide of its own.
pub(crate) struct GuideOfExperts<B: Backend> {
    pub(crate) high: Box<dyn Guide<B>>,
    pub(crate) low: Box<dyn Guide<B>>,
    /// The first step of the second expert.
    pub(crate) first_of_low: usize,
}

/// What the states of the two begin with.
const HIGH: &str = "high_noise.";
const LOW: &str = "low_noise.";

impl<B: Backend> Guide<B> for GuideOfExperts<B> {
    fn passes(&self, step: usize) -> Passes {
        if step < self.first_of_low { self.high.passes(step) } else { self.low.passes(step) }
    }

    fn combine(&mut self, step: usize, predictions: Predictions<B>) -> Tensor<B, 5> {
        let guide = if step < self.first_of_low { &mut self.high } else { &mut self.low };
        guide.combine(step, predictions)
    }

    fn state(&self) -> Vec<(String, Tensor<B, 5>)> {
        let named = |start: &'static str, guide: &dyn Guide<B>| {
            guide.state().into_iter().map(move |(name, tensor)| (format!("{start}{name}"), tensor))
        };
        named(HIGH, self.high.as_ref()).chain(named(LOW, self.low.as_ref())).collect()
    }

    fn restore(&mut self, state: Vec<(String, Tensor<B, 5>)>) {
        let of = |start: &str| {
            let own = state.iter().filter_map(|(name, tensor)| {
                Some((name.strip_prefix(start)?.to_owned(), tensor.clone()))
            });
            own.collect()
        };
        let (high, low) = (of(HIGH), of(LOW));
        self.high.restore(high);
        self.low.restore(low);
    }
}
