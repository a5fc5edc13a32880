//! A backend of one's own: `cargo run --release --example custom_backend`, with the video's path
//! after `--` if it is not to be `custom_backend.mp4`.
//!
//! `Counting<B>` computes as `B` does and counts the calls of attention. To the library it is a
//! backend like any other, which takes two traits:
//!
//! - burn's, for tensors (in `custom_backend/delegate.rs`);
//! - [`wan_core::Backend`], for the kernels of the models. Only `open_device` must be written; the
//!   kernels are there, written with burn tensors, until the backend has better ones.

#[path = "custom_backend/delegate.rs"]
mod delegate;

use std::error::Error;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicUsize, Ordering};

use burn::tensor::backend::Backend as BurnBackend;
use burn::tensor::{Tensor, TensorPrimitive};
use wan_core::backend::AttentionArgs;
use wan_core::{Backend, DeviceError};
use wan_pipeline::{Pipeline, Request, backend::Flex};

/// `B`, with its calls of attention counted.
#[derive(Clone, Copy, Debug, Default)]
struct Counting<B>(PhantomData<B>);

/// A backend is a type and never a value, so what it remembers is static.
static ATTENTION_CALLS: AtomicUsize = AtomicUsize::new(0);

/// How often attention has been computed since the program began.
fn attention_calls() -> usize {
    ATTENTION_CALLS.load(Ordering::Relaxed)
}

impl<B: Backend> Backend for Counting<B> {
    fn open_device(index: usize) -> Result<Self::Device, DeviceError> {
        B::open_device(index)
    }

    fn wan_attention(args: AttentionArgs<Self>) -> Tensor<Self, 4> {
        ATTENTION_CALLS.fetch_add(1, Ordering::Relaxed);
        let AttentionArgs { q, k, v, bias, scale, .. } = args;
        let args = AttentionArgs::new(inner(q), inner(k), inner(v), scale);
        outer(B::wan_attention(args.bias(bias.map(inner))))
    }
}

/// The same tensor, as one of the backend inside.
fn inner<B: BurnBackend, const D: usize>(x: Tensor<Counting<B>, D>) -> Tensor<B, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x.into_primitive().tensor()))
}

/// The same tensor, as one of the counting backend.
fn outer<B: BurnBackend, const D: usize>(x: Tensor<B, D>) -> Tensor<Counting<B>, D> {
    Tensor::from_primitive(TensorPrimitive::Float(x.into_primitive().tensor()))
}

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args_os().nth(1).unwrap_or("custom_backend.mp4".into());
    let pipeline = Pipeline::<Counting<Flex>>::from_pretrained("tiny-wan")?;
    let prompt = "a red circle moving right on a black background";
    let video = pipeline.generate(&Request::new(prompt).frames(33).steps(4).guidance(3.0))?;
    video.save(&path)?;
    println!("{}: {} calls of attention", path.display(), attention_calls());
    Ok(())
}
