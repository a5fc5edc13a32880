use wan_core::CancelToken;

use crate::{Error, Event};

/// The caller's hold on long work: it is told each [`Event`], and a [`CancelToken`] stops it.
///
/// ```
/// use wan_pipeline::{CancelToken, Event, Observer};
///
/// let token = CancelToken::default();
/// let stop = token.clone(); // for a signal handler, another thread, or the observer itself
/// let observer = Observer::new(move |event| {
///     if let Event::Step { done: 10, .. } = event {
///         stop.cancel();
///     }
/// });
/// let observer = observer.cancelled_by(&token);
/// # drop(observer);
/// ```
pub struct Observer<'a> {
    on_event: Box<dyn FnMut(Event) + 'a>,
    cancel: CancelToken,
}

impl<'a> Observer<'a> {
    /// An observer that calls `on_event` with each event.
    pub fn new(on_event: impl FnMut(Event) + 'a) -> Self {
        Self { on_event: Box::new(on_event), cancel: CancelToken::default() }
    }

    /// An observer that looks at nothing.
    pub fn silent() -> Self {
        Self::new(|_| {})
    }

    /// Stops the work when `token` is cancelled, with [`Error::Cancelled`]. The token reaches into
    /// downloads, loading, forward passes (each block) and the VAE (each frame of each
    /// tile).
    #[must_use]
    pub fn cancelled_by(mut self, token: &CancelToken) -> Self {
        self.cancel = token.clone();
        self
    }

    /// The token that stops the work.
    pub fn cancel_token(&self) -> &CancelToken {
        &self.cancel
    }

    /// Tells the caller of `event`, unless the work is cancelled; and stops if the caller cancels it
    /// there.
    pub(crate) fn emit(&mut self, event: Event) -> Result<(), Error> {
        self.cancel.check()?;
        (self.on_event)(event);
        Ok(self.cancel.check()?)
    }
}

impl Default for Observer<'_> {
    fn default() -> Self {
        Self::silent()
    }
}

impl std::fmt::Debug for Observer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("cancel", &self.cancel).finish_non_exhaustive()
    }
}
