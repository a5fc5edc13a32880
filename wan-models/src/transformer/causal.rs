//! Causal passes, for a video that is made a block of frames at a time: the tokens of a block attend to each other
//! and to those of earlier frames, whose keys and values are kept. All else is as in the ordinary pass, and so are the
//! weights.
//!
//! Sources: `wan/modules/causal_model.py` of Self-Forcing (guandeh17/Self-Forcing), and LongLive (NVlabs/LongLive) for
//! first frames that stay in the window.

use std::fmt;
use std::mem::take;
use std::ops::Range;

use burn::tensor::Tensor;
use wan_core::{Backend, BurnBackend, CancelToken, ForwardError, Pass};

use super::{RotaryEmbedding, Stream, WanTransformer};
use crate::load::LoadError;
use crate::probe::Trace;

/// How far the frames of a block look back. All in latent frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CausalWindow {
    /// Frames of a block, which attend to each other.
    pub block: usize,
    /// Frames that a block attends to, its own among them.
    pub window: usize,
    /// The first frames of the video that stay in the window for ever; the others fall out, the oldest first.
    pub sink: usize,
}

impl CausalWindow {
    /// Blocks of `block` frames that attend to `window` frames, of which the first `sink` of the video are always
    /// some.
    pub fn new(block: usize, window: usize, sink: usize) -> Self {
        Self { block, window, sink }
    }

    /// Whether a window has room for the sink and a block, and there is a block.
    pub fn is_valid(&self) -> bool {
        self.block > 0 && self.sink.checked_add(self.block).is_some_and(|most| most <= self.window)
    }

    /// Frames that are kept for the next block, at most.
    fn kept(&self) -> usize {
        self.window - self.block
    }

    fn divided(self, by: usize) -> Self {
        let parts = [self.block, self.window, self.sink];
        assert!(parts.iter().all(|n| n.is_multiple_of(by)), "{self:?} of {by} frames in a token");
        let [block, window, sink] = parts.map(|frames| frames / by);
        Self { block, window, sink }
    }
}

/// Of each block of the network, keys before their rotation and values, `[B, S, H, D]` in the dtype that attention
/// computes in.
type KeysByBlock<B> = Vec<[Tensor<B, 4>; 2]>;

/// The keys and values of the frames before a block, of one video: see [`WanTransformer::begin_causal`]. It grows up
/// to the window, whatever the length of the video.
///
/// Keys are kept as they are before their rotation. Of two rotations only the difference matters, so that positions
/// count from the start of the window (the sink, what follows it, and the block itself) and stay small in a video
/// without end. Without a sink this is the same as counting from the start of the video. With one, the frames that have
/// fallen out behind it leave no gap: the sink stays as near as it was in training.
#[derive(Clone)]
pub struct KvCache<B: BurnBackend> {
    /// None before the first frames.
    past: KeysByBlock<B>,
    /// Frames in `past`, in tokens.
    frames: usize,
    /// In tokens.
    window: CausalWindow,
    tokens_in_frame: usize,
    /// Of all positions in the window.
    rope: RotaryEmbedding<B>,
}

impl<B: BurnBackend> KvCache<B> {
    /// Bytes of all keys and values that are kept now.
    pub fn bytes(&self) -> u64 {
        let bytes = |x: &Tensor<B, 4>| (x.shape().num_elements() * x.dtype().size()) as u64;
        self.past.iter().flatten().map(bytes).sum()
    }
}

impl<B: BurnBackend> fmt::Debug for KvCache<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { frames, window, .. } = self;
        f.debug_struct("KvCache").field("frames", frames).field("window", window).finish()
    }
}

impl<B: Backend> KvCache<B> {
    /// Adds the keys and values of a block of frames.
    fn push(&mut self, block: KeysByBlock<B>) {
        let all = self.frames + self.window.block;
        let frames = all.min(self.window.kept());
        let past = take(&mut self.past);
        if frames == 0 {
            return; // a block sees nothing but itself
        }
        let mut past = past.into_iter();
        for fresh in block {
            let joined = match past.next() {
                Some([k, v]) => {
                    let [fresh_k, fresh_v] = fresh;
                    [Tensor::cat(vec![k, fresh_k], 1), Tensor::cat(vec![v, fresh_v], 1)]
                }
                None => fresh,
            };
            self.past.push(match all > frames {
                true => joined.map(|x| self.rolled(x, frames)),
                false => joined,
            });
        }
        self.frames = frames;
    }

    /// Of frames that are too many, the sink and the last: in a tensor of its own, and not in a part of a larger one,
    /// which it would keep.
    fn rolled(&self, x: Tensor<B, 4>, frames: usize) -> Tensor<B, 4> {
        let [batch, all, heads, width] = x.dims();
        let [kept, sink] = [frames, self.window.sink].map(|n| n * self.tokens_in_frame);
        let rolled = Tensor::zeros([batch, kept, heads, width], (&x.device(), x.dtype()));
        let put = |rolled: Tensor<B, 4>, tokens: Range<usize>, from: usize| match tokens.len() {
            0 => rolled,
            count => rolled.slice_assign(
                [0..batch, tokens, 0..heads, 0..width],
                x.clone().narrow(1, from, count),
            ),
        };
        put(put(rolled, 0..sink, 0), sink..kept, sink + all - kept)
    }

    fn pass(&self, fresh: Option<KeysByBlock<B>>) -> CausalPass<'_, B> {
        let [past, block] = [self.frames, self.window.block].map(|n| n * self.tokens_in_frame);
        CausalPass {
            cache: self,
            rotation: self.rope.part(past, block),
            past_rotation: (past > 0).then(|| self.rope.part(0, past)),
            fresh,
        }
    }
}

/// A causal pass on its way through the network.
pub(super) struct CausalPass<'a, B: BurnBackend> {
    cache: &'a KvCache<B>,
    rotation: RotaryEmbedding<B>,
    /// Of the frames before the block.
    past_rotation: Option<RotaryEmbedding<B>>,
    /// The block's own keys and values, where they are wanted.
    fresh: Option<KeysByBlock<B>>,
}

/// What a layer of self-attention attends to before its own tokens.
pub(super) struct Past<'a, B: BurnBackend> {
    /// Keys and values, and the rotation of the keys, if there are any.
    held: Option<(&'a [Tensor<B, 4>; 2], &'a RotaryEmbedding<B>)>,
    rotation: &'a RotaryEmbedding<B>,
    fresh: Option<&'a mut KeysByBlock<B>>,
}

impl<B: Backend> CausalPass<'_, B> {
    /// For block `i` of the network.
    pub(super) fn of_block(&mut self, i: usize) -> Past<'_, B> {
        let Self { cache, rotation, past_rotation, fresh } = self;
        let held = cache.past.get(i).zip(past_rotation.as_ref());
        Past { held, rotation, fresh: fresh.as_mut() }
    }
}

impl<B: Backend> Past<'_, B> {
    /// The rotation of the block's queries and keys.
    pub(super) fn rotation(&self) -> &RotaryEmbedding<B> {
        self.rotation
    }

    /// Keeps the keys of the block before their rotation, and its values, both `[B, S, H, D]`, if they are wanted.
    pub(super) fn keep(&mut self, k: &Tensor<B, 4>, v: &Tensor<B, 4>) {
        if let Some(fresh) = &mut self.fresh {
            fresh.push([B::wan_cast(k.clone(), v.dtype()), v.clone()]);
        }
    }

    /// Rotated keys of the block and its values behind those of the frames before it.
    pub(super) fn before(self, [k, v]: [Tensor<B, 4>; 2]) -> [Tensor<B, 4>; 2] {
        let Some(([past_k, past_v], rotation)) = self.held else { return [k, v] };
        let past_k = rotation.rotate(past_k.clone(), v.dtype());
        [Tensor::cat(vec![past_k, k], 1), Tensor::cat(vec![past_v.clone(), v], 1)]
    }
}

impl<B: Backend> WanTransformer<B> {
    /// An empty cache for a video of blocks whose latents have this height and width.
    ///
    /// # Panics
    /// If the window is [not valid](CausalWindow::is_valid), it has more positions than `rope_max_seq_len`, the patch
    /// size does not divide a size, or the network has blocks for a control video.
    pub fn begin_causal(&self, window: CausalWindow, [height, width]: [usize; 2]) -> KvCache<B> {
        assert!(window.is_valid(), "{window:?}");
        assert!(self.config.vace_layers().is_empty(), "a network without a control video");
        let grid = self.grid([window.window, height, width]);
        let device = self.scale_shift_table.device();
        KvCache {
            past: Vec::new(),
            frames: 0,
            window: window.divided(self.config.patch_size[0]),
            tokens_in_frame: grid[1] * grid[2],
            rope: RotaryEmbedding::new(self.config.attention_head_dim, grid, &device),
        }
    }

    /// The velocity of a block `[B, C, block, H, W]`, whose branch is one for latents of this size, after the frames
    /// in `cache`; in f32.
    ///
    /// # Errors
    /// Those of [`Denoiser::velocities`](wan_core::Denoiser::velocities).
    ///
    /// # Panics
    /// If the branch is of another network or of another size of latents, or the cache is.
    pub fn causal_velocity(
        &self,
        block: &Pass<'_, B>,
        cache: &KvCache<B>,
        cancel: &CancelToken,
    ) -> Result<Tensor<B, 5>, ForwardError> {
        self.causal_pass(block, cache, None, cancel).map(|(velocity, _)| velocity)
    }

    /// Puts the keys and values of a block into `cache`, for the blocks that follow. It is another pass: the block is
    /// clean now, and its timestep 0.
    ///
    /// # Errors
    /// Those of [`causal_velocity`](Self::causal_velocity); the cache is then as before.
    ///
    /// # Panics
    /// As [`causal_velocity`](Self::causal_velocity).
    pub fn remember_block(
        &self,
        block: &Pass<'_, B>,
        cache: &mut KvCache<B>,
        cancel: &CancelToken,
    ) -> Result<(), ForwardError> {
        let (_, fresh) = self.causal_pass(block, cache, Some(Vec::new()), cancel)?;
        cache.push(fresh.unwrap_or_default());
        Ok(())
    }

    fn causal_pass(
        &self,
        block: &Pass<'_, B>,
        cache: &KvCache<B>,
        fresh: Option<KeysByBlock<B>>,
        cancel: &CancelToken,
    ) -> Result<(Tensor<B, 5>, Option<KeysByBlock<B>>), ForwardError> {
        let mut stream =
            self.begin(std::slice::from_ref(block), &mut Trace::new(&mut ())).remove(0);
        let grid = stream.context.grid;
        let (found, expected) = (grid[1] * grid[2], cache.tokens_in_frame);
        assert_eq!((grid[0], found), (cache.window.block, expected), "tokens of the block");
        stream.causal = Some(cache.pass(fresh));
        let mut stream = Some(stream);
        self.layers.for_each::<LoadError>(cancel, |i, layer| {
            let place = (i, self.places[i]);
            let through = |stream| Stream::through(stream, place, layer, cancel, &mut ());
            stream = stream.take().map(through).transpose()?;
            Ok(())
        })?;
        let mut stream = stream.expect("put back after each layer");
        let fresh = stream.causal.take().and_then(|causal| causal.fresh);
        Ok((self.end(vec![stream], &mut Trace::new(&mut ())).remove(0), fresh))
    }
}
