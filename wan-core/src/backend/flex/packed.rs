//! Weights in bf16, packed for the kernels of [`bf16`](super::bf16).

use burn::backend::Flex;
use burn::tensor::{Bytes, DType, Int, Shape, Tensor};
use burn_flex::{FlexTensor, Layout};
use half::bf16;

use super::bf16::{CpuKernel, Right, multiply, pack_columns, pack_right, packed_shape};
use super::elementwise::cast;
use super::memory::{contiguous, halves, raw, slice, tensor};
use crate::backend::PackedWeight;

/// Packs a kernel `[out, in, kt, kh, kw]`, if it is in bf16.
pub(super) fn pack(weight: &Tensor<Flex, 5>) -> Option<PackedWeight<Flex>> {
    if weight.dtype() != DType::BF16 {
        return None;
    }
    let kernel = weight.dims();
    let [outputs, inputs, kt, kh, kw] = kernel;
    let sizes = [kt * kh * kw, inputs, outputs];
    let weight = raw(weight.clone());
    let weight = if weight.is_contiguous() { weight } else { weight.to_contiguous() };
    let (values, [taps, ..]) = (halves(&weight), sizes);
    let words = match taps {
        1 => pack_columns(inputs, outputs, |n| &values[n * inputs..][..inputs]),
        _ => pack_right(sizes, |tap, k, n| values[(n * inputs + k) * taps + tap].to_bits()),
    };
    let layout = Layout::contiguous(Shape::from(packed_shape(sizes)));
    let words = FlexTensor::new(Bytes::from_elems(words), layout, DType::U32);
    Some(PackedWeight::new(Tensor::from_primitive(words), kernel))
}

/// The packed elements, for [`right`].
pub(super) fn words(weight: &PackedWeight<Flex>) -> FlexTensor {
    let words: Tensor<Flex, 3, Int> = weight.words().clone();
    words.into_primitive()
}

/// The packed weight as the kernels know it.
pub(super) fn right<'a>(weight: &PackedWeight<Flex>, words: &'a FlexTensor) -> Right<'a> {
    let [columns, depth, kt, kh, kw] = weight.kernel();
    let words = words.as_slice().expect("words that this backend has packed");
    Right { words, taps: kt * kh * kw, depth, columns }
}

/// `x w + b` in bf16.
pub(super) fn linear<const D: usize>(
    x: Tensor<Flex, D>,
    weight: &PackedWeight<Flex>,
    bias: Option<Tensor<Flex, 1>>,
) -> Tensor<Flex, D> {
    assert_eq!(x.dtype(), DType::BF16, "linear: the input and the weight differ in dtype");
    let mut shape = x.dims();
    let [outputs, ..] = weight.kernel();
    shape[D - 1] = outputs;
    let (x, words) = (contiguous(x), words(weight));
    let bias = bias.map(|bias| contiguous(cast(bias, DType::F32)));
    let right = right(weight, &words);
    let bias = bias.as_ref().map(slice);
    tensor(multiply::<bf16, bf16>(CpuKernel::current(), halves(&x), &right, bias), shape)
}
