//! A backend that computes as another one, counts its kernels and calls back before some of them. Counts
//! and callbacks belong to the thread that calls the kernels, so tests do not disturb each other.

#[path = "../../examples/custom_backend/delegate.rs"]
mod delegate;

use std::cell::{Cell, RefCell};
use std::marker::PhantomData;

use burn::tensor::{Tensor, TensorPrimitive};
use wan_core::backend::{AttentionArgs, Conv3dArgs, RopeArgs};
use wan_core::{Backend, BurnBackend, DeviceError};
use wan_pipeline::Pipeline;
use wan_pipeline::backend::Flex;

/// `B`, with its kernels counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counting<B>(PhantomData<B>);

/// How often each kernel was called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Calls {
    pub linear: usize,
    pub rope: usize,
    pub attention: usize,
    pub conv3d: usize,
}

impl std::ops::Sub for Calls {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            linear: self.linear - other.linear,
            rope: self.rope - other.rope,
            attention: self.attention - other.attention,
            conv3d: self.conv3d - other.conv3d,
        }
    }
}

/// Is told what has been called until now, and the width of the frames of a convolution.
pub type Callback = Box<dyn FnMut(Calls, usize)>;

thread_local! {
    static CALLS: Cell<Calls> = Cell::default();
    static BEFORE_ATTENTION: RefCell<Option<Callback>> = RefCell::default();
    static BEFORE_CONV3D: RefCell<Option<Callback>> = RefCell::default();
}

/// The calls of this thread since it began.
pub fn calls() -> Calls {
    CALLS.get()
}

/// The calls of `work`.
pub fn calls_of<T>(work: impl FnOnce() -> T) -> (T, Calls) {
    let before = calls();
    let result = work();
    (result, calls() - before)
}

/// Calls `callback` before each attention of this thread, until the next time.
pub fn before_attention(callback: impl FnMut(Calls, usize) + 'static) {
    BEFORE_ATTENTION.set(Some(Box::new(callback)));
}

/// Calls `callback` before each convolution of this thread, until the next time.
pub fn before_conv3d(callback: impl FnMut(Calls, usize) + 'static) {
    BEFORE_CONV3D.set(Some(Box::new(callback)));
}

pub fn pipeline() -> Pipeline<Counting<Flex>> {
    Pipeline::from_pretrained("tiny-wan").unwrap()
}

fn count(add: impl FnOnce(&mut Calls)) {
    let mut calls = CALLS.get();
    add(&mut calls);
    CALLS.set(calls);
}

fn call_back(callback: &'static std::thread::LocalKey<RefCell<Option<Callback>>>, width: usize) {
    callback.with_borrow_mut(|callback| {
        if let Some(callback) = callback {
            callback(CALLS.get(), width);
        }
    });
}

impl<B: Backend> Backend for Counting<B> {
    fn open_device(index: usize) -> Result<Self::Device, DeviceError> {
        B::open_device(index)
    }

    fn wan_linear<const D: usize>(
        x: Tensor<Self, D>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, D> {
        count(|calls| calls.linear += 1);
        outer(B::wan_linear(inner(x), inner(weight), bias.map(inner)))
    }

    fn wan_linear_weight(weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
        outer(B::wan_linear_weight(inner(weight)))
    }

    fn wan_rope(args: RopeArgs<Self>) -> Tensor<Self, 4> {
        count(|calls| calls.rope += 1);
        let RopeArgs { x, cos, sin, dtype, .. } = args;
        outer(B::wan_rope(RopeArgs::new(inner(x), inner(cos), inner(sin)).dtype(dtype)))
    }

    fn wan_attention(args: AttentionArgs<Self>) -> Tensor<Self, 4> {
        count(|calls| calls.attention += 1);
        call_back(&BEFORE_ATTENTION, 0);
        let AttentionArgs { q, k, v, bias, scale, .. } = args;
        let args = AttentionArgs::new(inner(q), inner(k), inner(v), scale);
        outer(B::wan_attention(args.bias(bias.map(inner))))
    }

    fn wan_conv3d_weight(weight: Tensor<Self, 5>) -> Tensor<Self, 5> {
        outer(B::wan_conv3d_weight(inner(weight)))
    }

    fn wan_conv3d(args: Conv3dArgs<Self>) -> Tensor<Self, 5> {
        count(|calls| calls.conv3d += 1);
        let Conv3dArgs { past, x, weight, bias, stride, padding, upsample, .. } = args;
        let [_, _, _, width, _] = x.dims();
        call_back(&BEFORE_CONV3D, if upsample { 2 * width } else { width });
        let args = Conv3dArgs::new(inner(x), inner(weight), inner(bias));
        let args = args.past(past.into_iter().map(inner)).stride(stride).padding(padding);
        outer(B::wan_conv3d(args.upsample(upsample)))
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
