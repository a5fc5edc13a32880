//! From latents to frames.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::tensor::Tensor;
use wan_core::{Backend, Decoded, Tiling, VaeError, VaeMemory, VideoVae};
use wan_io::video::{FrameSink, VideoSpec};

use crate::denoising::check_finite;
use crate::{Error, Event, Latents, Observer, Pipeline, TensorFileError};

/// Why decoding stopped.
enum Stop {
    /// The device ran out of memory; this many frames were handed to the sink before.
    Memory {
        frames: usize,
        reason: String,
    },
    Other(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl<B: Backend> Pipeline<B> {
    /// Size and number of the frames that latents are decoded to, and the model's rate.
    pub fn decoded_spec(&self, latents: &Latents<B>) -> VideoSpec {
        self.model.decoded_spec(latents.shape(), self.preset().fps)
    }

    /// Decodes the latents of one video into `sink`, a few frames at a time, so that memory does not
    /// grow with the length of the video. The caller finishes the sink.
    ///
    /// Where whole frames need more memory than the device has, it begins again in tiles and goes on
    /// with the first frame that the sink has not got.
    ///
    /// # Errors
    /// If the latents are those of another model, the VAE cannot be loaded, the sink fails, or the work
    /// is cancelled.
    pub fn decode(
        &self,
        latents: &Latents<B>,
        sink: &mut dyn FrameSink,
        observer: &mut Observer,
    ) -> Result<(), Error> {
        self.decode_one(0, latents, sink, observer)
    }

    /// [`decode`](Self::decode) for one video of a batch.
    pub(crate) fn decode_one(
        &self,
        video: usize,
        latents: &Latents<B>,
        sink: &mut dyn FrameSink,
        observer: &mut Observer,
    ) -> Result<(), Error> {
        let (found, z_dim) = (latents.shape(), self.model.vae.config.z_dim);
        if found[1] != z_dim {
            let expected = format!("[1, {z_dim}, T, H, W]");
            return Err(TensorFileError::shape("latents", &found, expected).into());
        }
        let memory = self.memory_to_decode(std::slice::from_ref(latents));
        memory.check()?;
        let vae_memory = memory.placement().vae;
        if vae_memory != VaeMemory::new().tiling(self.wishes.tiling) {
            tracing::info!("to keep to its memory, the VAE decodes with {vae_memory:?}");
        }
        if memory.placement().drops_transformer {
            self.transformer.unload();
        }
        let mut decoding = Decoding { pipeline: self, video, latents, sink, observer };
        let (frames, reason) = match decoding.run(vae_memory, 0) {
            Ok(()) => return Ok(()),
            Err(Stop::Other(error)) => return Err(error),
            Err(Stop::Memory { frames, reason }) => (frames, reason),
        };
        if vae_memory.tiling.is_some() {
            return Err(out_of_memory(reason));
        }
        tracing::warn!("decoding again in tiles: {reason}");
        decoding.observer.emit(Event::DecodingInTiles { reason })?;
        match decoding.run(vae_memory.tiling(Tiling::default()), frames) {
            Ok(()) => Ok(()),
            Err(Stop::Other(error)) => Err(error),
            Err(Stop::Memory { reason, .. }) => Err(out_of_memory(reason)),
        }
    }
}

struct Decoding<'a, 'o, B: Backend> {
    pipeline: &'a Pipeline<B>,
    video: usize,
    latents: &'a Latents<B>,
    sink: &'a mut dyn FrameSink,
    observer: &'a mut Observer<'o>,
}

impl<B: Backend> Decoding<'_, '_, B> {
    /// Decodes all frames and hands those after the first `skip` to the sink.
    fn run(&mut self, memory: VaeMemory, skip: usize) -> Result<(), Stop> {
        let vae = self.pipeline.vae(self.observer)?;
        let cancel = self.observer.cancel_token().clone();
        let frames = self.pipeline.decoded_spec(self.latents).frames as usize;
        let mut done = 0;
        let mut chunks = vae.decode(self.latents.tensor(), memory, &cancel);
        loop {
            let mut next = || chunks.next().map(Chunk::of);
            let chunk = catch_memory(&mut next);
            let chunk = chunk.map_err(|reason| Stop::Memory { frames: done, reason })?;
            let (pixels, frame_bytes) = match chunk.transpose()? {
                None => return Ok(()),
                Some(Chunk::Rgb(pixels, frame_bytes)) => (pixels, frame_bytes),
                Some(Chunk::Tile { done, total }) => {
                    let video = self.video;
                    self.observer.emit(Event::DecodingTile { video, done, total })?;
                    continue;
                }
            };
            for frame in pixels.chunks_exact(frame_bytes) {
                done += 1;
                if done > skip {
                    self.sink.write_frame(frame).map_err(Error::from)?;
                    self.observer.emit(Event::Frame { video: self.video, done, frames })?;
                }
            }
        }
    }
}

/// What has been decoded, on the host.
enum Chunk {
    Tile {
        done: usize,
        total: usize,
    },
    /// The pixels of some frames, and the bytes of a frame.
    Rgb(Vec<u8>, usize),
}

impl Chunk {
    fn of<B: Backend>(decoded: Result<Decoded<B>, VaeError>) -> Result<Self, Error> {
        match decoded? {
            Decoded::Tile { done, total } => Ok(Self::Tile { done, total }),
            Decoded::Frames(frames) => {
                let (pixels, frame_bytes) = to_rgb(frames)?;
                Ok(Self::Rgb(pixels, frame_bytes))
            }
        }
    }
}

/// The pixels of frames `[1, 3, T, H, W]` in -1..1 as rgb24, and the bytes of a frame.
pub(crate) fn to_rgb<B: Backend>(frames: Tensor<B, 5>) -> Result<(Vec<u8>, usize), Error> {
    let [_, channels, _, height, width] = frames.dims();
    check_finite(|| "decoding".into(), &frames)?;
    Ok((B::wan_rgb(frames), channels * height * width))
}

/// Calls `work`; a panic of the backend that speaks of memory is an error, any other goes on.
pub(crate) fn catch_memory<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let message = panic.downcast_ref::<String>().cloned();
        let text = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        match text {
            Some(text) if speaks_of_memory(&text) => text,
            _ => std::panic::resume_unwind(panic),
        }
    })
}

/// What the drivers and allocators below burn say when memory runs out: they have no type for it.
fn speaks_of_memory(message: &str) -> bool {
    let message = message.to_lowercase();
    ["out of memory", "outofmemory", "out_of_memory", "memory allocation", "buffer too big"]
        .iter()
        .any(|words| message.contains(words))
}

pub(crate) fn out_of_memory(reason: String) -> Error {
    Error::OutOfMemory { stage: "decoding".into(), reason }
}
