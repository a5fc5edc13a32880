//! Flex tensors as slices of memory, and back.

use burn::backend::Flex;
use burn::tensor::{Bytes, Element, Shape, Tensor, TensorPrimitive};
use burn_flex::{FlexTensor, Layout};

use super::parallel;

pub(super) fn raw<const D: usize>(x: Tensor<Flex, D>) -> FlexTensor {
    x.into_primitive().tensor()
}

/// Row-major, without a copy if it is that already.
pub(super) fn contiguous<const D: usize>(x: Tensor<Flex, D>) -> FlexTensor {
    let x = raw(x);
    match x.as_slice::<f32>() {
        Some(_) => x,
        None => x.to_contiguous(),
    }
}

/// The elements of a tensor that went through [`contiguous`].
pub(super) fn slice(x: &FlexTensor) -> &[f32] {
    x.as_slice().expect("a contiguous tensor of f32")
}

pub(super) fn tensor<E: Element, const D: usize>(
    values: Vec<E>,
    shape: [usize; D],
) -> Tensor<Flex, D> {
    let layout = Layout::contiguous(Shape::from(shape));
    let tensor = FlexTensor::new(Bytes::from_elems(values), layout, E::dtype());
    Tensor::from_primitive(TensorPrimitive::Float(tensor))
}

/// Changes the elements of a tensor, in its own memory if nobody else has it.
pub(super) fn in_place<const D: usize>(
    x: Tensor<Flex, D>,
    change: impl FnOnce(&mut [f32]),
) -> Tensor<Flex, D> {
    let shape = x.dims();
    let mut x = contiguous(x);
    let whole =
        x.layout().start_offset() == 0 && x.bytes().len() == 4 * shape.iter().product::<usize>();
    if whole && let Some(values) = x.try_storage_mut::<f32>() {
        change(values);
        return Tensor::from_primitive(TensorPrimitive::Float(x));
    }
    let mut values = parallel::copy(slice(&x));
    change(&mut values);
    tensor(values, shape)
}
