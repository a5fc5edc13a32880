use std::ops::ControlFlow;
use std::time::Duration;

#[cfg(feature = "hub")]
use wan_io::hub::HubEvent;

/// What a pipeline is doing.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// Something about a download.
    #[cfg(feature = "hub")]
    Hub(HubEvent),
    /// Files are compared with their checksums.
    Verifying {
        /// Bytes done.
        done: u64,
        /// All bytes.
        total: u64,
    },
    /// A part of the model begins to be loaded.
    Loading {
        /// `text encoder`, `transformer` or `vae`
        part: &'static str,
    },
    /// A part of the model is ready.
    Loaded {
        /// `text encoder`, `transformer` or `vae`
        part: &'static str,
        /// How long it took.
        elapsed: Duration,
    },
    /// A prompt has more tokens than the model reads: the rest has no effect.
    PromptCut {
        /// `prompt` or `negative prompt`
        which: &'static str,
        /// Tokens that are left, the end token included.
        kept: usize,
        /// Tokens that were cut off.
        dropped: usize,
    },
    /// A prompt has been encoded.
    Encoded {
        /// `prompt` or `negative prompt`
        which: &'static str,
        /// Its tokens, the end token included.
        tokens: usize,
    },
    /// A denoising step is done.
    Step {
        /// Steps done.
        done: usize,
        /// All steps.
        steps: usize,
        /// Time since denoising began.
        elapsed: Duration,
        /// Time that the other steps will take, judged by those done.
        remaining: Duration,
    },
    /// A frame has been decoded and handed to the sink.
    Frame {
        /// Frames done.
        done: usize,
        /// All frames.
        frames: usize,
    },
}

/// Is told each [`Event`]; returning `Break` cancels the work with
/// [`Error::Cancelled`](crate::Error::Cancelled).
pub type Observer<'a> = dyn FnMut(Event) -> ControlFlow<()> + 'a;

/// The observer that looks at nothing.
pub fn ignore_events(_: Event) -> ControlFlow<()> {
    ControlFlow::Continue(())
}
