//! Flex tensors as slices of memory, and back.

use burn::backend::Flex;
use burn::tensor::{Bytes, DType, Element, Shape, Tensor, TensorPrimitive};
use burn_flex::{FlexTensor, Layout};
use half::bf16;
use rayon::prelude::*;

use super::bf16::Value;
use super::parallel;

pub(super) fn raw<const D: usize>(x: Tensor<Flex, D>) -> FlexTensor {
    x.into_primitive().tensor()
}

/// Row-major, without a copy if it is that already.
pub(super) fn contiguous<const D: usize>(x: Tensor<Flex, D>) -> FlexTensor {
    let x = raw(x);
    if x.is_contiguous() {
        return x;
    }
    let joined = match x.dtype() {
        DType::F32 => joined_rows::<f32>(&x),
        DType::BF16 => joined_rows::<bf16>(&x),
        _ => None,
    };
    joined.unwrap_or_else(|| x.to_contiguous())
}

/// A copy of a tensor whose rows are together, such as a part of its channels: burn copies element by
/// element.
fn joined_rows<E: Pod>(x: &FlexTensor) -> Option<FlexTensor> {
    let (shape, strides) = (x.layout().shape(), x.layout().strides());
    let (&width, outer) = shape.split_last()?;
    if strides.last() != Some(&1) || strides.iter().any(|&stride| stride < 0) {
        return None;
    }
    let start = |mut row: usize| {
        let axes = outer.iter().zip(strides).rev();
        axes.fold(x.layout().start_offset(), |start, (&size, &stride)| {
            let index = row % size;
            row /= size;
            start + index * stride as usize
        })
    };
    let values = x.storage::<E>();
    let mut joined = vec![E::ZERO; shape.iter().product()];
    let rows = (parallel::MIN_PER_THREAD / width.max(1)).max(1);
    joined.par_chunks_mut(rows * width.max(1)).enumerate().for_each(|(chunk, joined)| {
        for (i, row) in joined.chunks_exact_mut(width).enumerate() {
            row.copy_from_slice(&values[start(chunk * rows + i)..][..width]);
        }
    });
    let layout = Layout::contiguous(shape.clone());
    Some(FlexTensor::new(Bytes::from_elems(joined), layout, E::dtype()))
}

/// An element that the kernels here compute with.
pub(super) trait Pod: Value + Element + bytemuck::Pod {}

impl<E: Value + Element + bytemuck::Pod> Pod for E {}

/// The elements of a tensor of f32 that went through [`contiguous`].
pub(super) fn slice(x: &FlexTensor) -> &[f32] {
    x.as_slice().expect("a contiguous tensor of f32")
}

/// The elements of a tensor of bf16 that went through [`contiguous`].
pub(super) fn halves(x: &FlexTensor) -> &[bf16] {
    x.as_slice().expect("a contiguous tensor of bf16")
}

pub(super) fn tensor<E: Element, const D: usize>(
    values: Vec<E>,
    shape: [usize; D],
) -> Tensor<Flex, D> {
    let layout = Layout::contiguous(Shape::from(shape));
    let tensor = FlexTensor::new(Bytes::from_elems(values), layout, E::dtype());
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

/// Changes the elements of a tensor of `E`, in its own memory if nobody else has it.
pub(super) fn in_place<E: Pod, const D: usize>(
    x: Tensor<Flex, D>,
    change: impl FnOnce(&mut [E]),
) -> Tensor<Flex, D> {
    let shape = x.dims();
    let mut x = contiguous(x);
    let whole = x.layout().start_offset() == 0
        && x.bytes().len() == size_of::<E>() * shape.iter().product::<usize>();
    if whole && let Some(values) = x.try_storage_mut::<E>() {
        change(values);
        return Tensor::from_primitive(TensorPrimitive::Float(x));
    }
    let mut values = parallel::copy(x.as_slice::<E>().expect("a contiguous tensor"));
    change(&mut values);
    tensor(values, shape)
}
