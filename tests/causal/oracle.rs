//! A backend whose self-attention sees what a causal pass sees, found in another way: all blocks are in one sequence,
//! nothing is kept from pass to pass, and each block looks at its window of the sequence. Attention is written out.

#[path = "../../examples/custom_backend/delegate.rs"]
mod delegate;

use std::cell::Cell;
use std::marker::PhantomData;
use std::ops::Range;

use burn::tensor::activation::softmax;
use burn::tensor::{Tensor, TensorPrimitive};
use wan_core::backend::{AttentionArgs, RopeArgs};
use wan_core::{Backend, BurnBackend, DeviceError};
use wan_models::transformer::{CausalWindow, RotaryEmbedding};

use self::Windowed as Counting; // the name that the delegation has for it

/// `B`, whose self-attention sees windows of blocks in [`in_blocks`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Windowed<B>(PhantomData<B>);

/// A sequence of whole blocks.
#[derive(Clone, Copy, Debug)]
pub struct Blocks {
    pub window: CausalWindow,
    /// Tokens along time, height and width.
    pub grid: [usize; 3],
}

thread_local! {
    static BLOCKS: Cell<Option<Blocks>> = const { Cell::new(None) };
}

/// Does `work`, in which the self-attention of this thread is that of a sequence of blocks.
pub fn in_blocks<T>(blocks: Blocks, work: impl FnOnce() -> T) -> T {
    BLOCKS.set(Some(blocks));
    let result = work();
    BLOCKS.set(None);
    result
}

impl<B: Backend> Backend for Windowed<B> {
    fn open_device(index: usize) -> Result<Self::Device, DeviceError> {
        B::open_device(index)
    }

    fn wan_rope(args: RopeArgs<Self>) -> Tensor<Self, 4> {
        let RopeArgs { x, cos, sin, dtype, .. } = args;
        match BLOCKS.get() {
            Some(_) => x.cast(dtype), // turned in attention
            None => {
                outer(B::wan_rope(RopeArgs::new(inner(x), inner(cos), inner(sin)).dtype(dtype)))
            }
        }
    }

    fn wan_attention(args: AttentionArgs<Self>) -> Tensor<Self, 4> {
        let AttentionArgs { q, k, v, bias, scale, .. } = args;
        let (q, k, v) = (inner(q), inner(k), inner(v));
        match BLOCKS.get().filter(|_| k.dims()[2] == q.dims()[2]) {
            Some(blocks) => outer(blocks.attention([q, k, v], scale)),
            None => {
                let args = AttentionArgs::new(q, k, v, scale).bias(bias.map(inner));
                outer(B::wan_attention(args))
            }
        }
    }
}

impl Blocks {
    /// The frames before a block that it sees.
    fn seen(&self, block: Range<usize>) -> Vec<usize> {
        let CausalWindow { block: length, window, sink, .. } = self.window;
        let lost = block.start.saturating_sub(window - length);
        (0..block.start).filter(|&frame| frame < sink || frame >= sink + lost).collect()
    }

    /// Of queries, keys and values `[B, H, S, D]`, the first two not turned.
    fn attention<B: Backend>(&self, [q, k, v]: [Tensor<B, 4>; 3], scale: f64) -> Tensor<B, 4> {
        let (length, frames) = (self.window.block, self.grid[0]);
        let blocks = (0..frames / length).map(|i| i * length..(i + 1) * length);
        let attend = |block: Range<usize>| {
            let own: Vec<usize> = block.clone().collect();
            let all = [self.seen(block), own.clone()].concat();
            // From the start of the video; with a sink, from that of the window.
            let positions: Vec<usize> = match self.window.sink {
                0 => all.clone(),
                _ => (0..all.len()).collect(),
            };
            let q = self.turned(self.rows(&q, &own), &positions[all.len() - own.len()..]);
            let k = self.turned(self.rows(&k, &all), &positions);
            let weights = softmax(q.matmul(k.swap_dims(2, 3)) * scale, 3);
            weights.matmul(self.rows(&v, &all))
        };
        Tensor::cat(blocks.map(attend).collect(), 2)
    }

    /// The rows of some frames.
    fn rows<B: Backend>(&self, x: &Tensor<B, 4>, frames: &[usize]) -> Tensor<B, 4> {
        let count = self.grid[1] * self.grid[2];
        let rows = |&frame: &usize| x.clone().narrow(2, frame * count, count);
        Tensor::cat(frames.iter().map(rows).collect(), 2)
    }

    /// `[B, H, S, D]`, turned by the positions of its frames.
    fn turned<B: Backend>(&self, x: Tensor<B, 4>, positions: &[usize]) -> Tensor<B, 4> {
        let [.., width] = x.dims();
        let [_, height, columns] = self.grid;
        let most = positions.iter().max().map_or(0, |&last| last + 1);
        let all = RotaryEmbedding::<B>::new(width, [most, height, columns], &x.device());
        let table = |table: &Tensor<B, 2>| {
            let table = table.clone().reshape([1, 1, most * height * columns, width / 2]);
            let [.., count, _] = table.dims();
            self.rows(&table, positions).reshape([positions.len() * count / most, width / 2])
        };
        let turned = RotaryEmbedding { cos: table(&all.cos), sin: table(&all.sin) };
        let dtype = x.dtype();
        turned.rotate(x.swap_dims(1, 2), dtype).swap_dims(1, 2)
    }
}

fn inner<B: BurnBackend, const D: usize>(x: Tensor<Windowed<B>, D>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x.into_primitive().tensor()))
}

fn outer<B: BurnBackend, const D: usize>(x: Tensor<B, D>) -> Tensor<Windowed<B>, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x.into_primitive().tensor()))
}
