use std::time::Instant;

use crate::{Event, Step};

/// Times the steps of a run.
pub(crate) struct Clock {
    start: Instant,
    /// Steps that were done before.
    before: usize,
}

impl Clock {
    pub(crate) fn start(before: usize) -> Self {
        Self { start: Instant::now(), before }
    }

    pub(crate) fn event(&self, &Step { done, steps, .. }: &Step) -> Event {
        let elapsed = self.start.elapsed();
        let remaining = elapsed.mul_f64((steps - done) as f64 / (done - self.before) as f64);
        Event::Step { done, steps, elapsed, remaining }
    }
}
