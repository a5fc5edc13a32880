use std::fmt;
use std::time::Duration;

use wan_io::hub::HubEvent;

use crate::{FitRule, Role};

/// A step of a pipeline's work, as an [`Observer`](crate::Observer) is told of it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// A download goes on.
    Download(HubEvent),
    /// Files are compared with their checksums.
    Verifying {
        /// Bytes done.
        done: u64,
        /// All bytes.
        total: u64,
    },
    /// A part of the model begins to be loaded.
    Loading {
        /// The part.
        role: Role,
    },
    /// A part of the model is ready.
    Loaded {
        /// The part.
        role: Role,
        /// How long it took.
        elapsed: Duration,
    },
    /// A prompt has more tokens than the model reads: the rest has no effect.
    PromptCut {
        /// The prompt.
        prompt: PromptRef,
        /// Tokens that are left, the end token included.
        kept: usize,
        /// Tokens that were cut off.
        dropped: usize,
    },
    /// A negative prompt is given, but the guidance of its request never asks for it: it has no effect.
    NegativePromptUnused {
        /// The requests that are meant, counted from 0.
        requests: Vec<usize>,
        /// All requests of the batch.
        batch: usize,
    },
    /// A seed has more than the 32 bits that count.
    SeedCut {
        /// The seed.
        seed: u64,
        /// The seed that gives the same noise.
        counts: u32,
    },
    /// A prompt has been encoded. Equal prompts, and those encoded before, are encoded once.
    Encoded {
        /// The prompt.
        prompt: PromptRef,
        /// Its tokens, the end token included.
        tokens: usize,
    },
    /// Weights that are read while a part computes come more slowly than it computes. Told once for each
    /// part.
    SlowDisk {
        /// The part.
        role: Role,
        /// The rate at which its files are read.
        bytes_per_second: f64,
    },
    /// The video to start from is being encoded.
    EncodingVideo {
        /// Its frames.
        frames: usize,
    },
    /// The pictures that a video begins and ends with are being encoded.
    EncodingImages {
        /// How many.
        images: usize,
        /// Width and height of the first in pixels.
        found: [u32; 2],
        /// Those of the video.
        size: [u32; 2],
        /// How it is brought from one to the other.
        fit: FitRule,
    },
    /// A denoising step is done, for all videos that go through the network together; in a stream, of a block.
    Step {
        /// Steps done.
        done: usize,
        /// All steps of the run, or of the block.
        steps: usize,
        /// Time since denoising began, or was resumed.
        elapsed: Duration,
        /// Time that the other steps will take, judged by those done.
        remaining: Duration,
    },
    /// A block of a stream has been made.
    Block {
        /// Blocks done.
        done: usize,
        /// Frames done: those of all blocks.
        frames: usize,
    },
    /// Decoding failed for want of memory and begins again in tiles.
    DecodingInTiles {
        /// The failure.
        reason: String,
    },
    /// A tile of a video has been decoded through all its frames, which come when all tiles are done.
    DecodingTile {
        /// Which video of a batch, counted from 0.
        video: usize,
        /// Tiles done.
        done: usize,
        /// All tiles.
        total: usize,
    },
    /// A frame has been decoded and handed to the sink.
    Frame {
        /// Which video of a batch, counted from 0.
        video: usize,
        /// Frames done.
        done: usize,
        /// All frames.
        frames: usize,
    },
}

/// A prompt of a batch of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PromptRef {
    /// The request, counted from 0.
    pub request: usize,
    /// Whether it is the negative prompt.
    pub negative: bool,
}

impl fmt::Display for PromptRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.negative { "negative prompt" } else { "prompt" })
    }
}
