use burn::backend::Flex;
use burn::tensor::{DType, Tensor};
use gemm::Parallelism;

use super::matrix::{Beta, Matrix, multiply};
use super::memory::{contiguous, raw, slice, tensor};
use crate::backend::portable;

/// Below this many products a second thread costs more than it saves.
const MIN_PARALLEL_WORK: usize = 1 << 21;

/// `x w + b`; the weight is read where it lies, in whatever order.
pub(super) fn linear<const D: usize>(
    x: Tensor<Flex, D>,
    weight: Tensor<Flex, 2>,
    bias: Option<Tensor<Flex, 1>>,
) -> Tensor<Flex, D> {
    assert_eq!(x.dtype(), weight.dtype(), "linear: the input and the weight differ in dtype");
    if x.dtype() != DType::F32 {
        return portable::linear(x, weight, bias);
    }
    let mut shape = x.dims();
    let [rows, columns] = weight.dims();
    shape[D - 1] = columns;
    let (x, weight, bias) = (contiguous(x), raw(weight), bias.map(contiguous));
    let strides = weight.layout().strides();
    let matrix = Matrix {
        data: &weight.storage::<f32>()[weight.layout().start_offset()..],
        rows,
        columns,
        row_stride: strides[0] as usize,
        column_stride: strides[1] as usize,
    };
    tensor(product(slice(&x), matrix, bias.as_ref().map(slice)), shape)
}

/// `x w + b` for `x` `[rows, inputs]` and `weight` `[inputs, outputs]`.
fn product(x: &[f32], weight: Matrix, bias: Option<&[f32]>) -> Vec<f32> {
    let (inputs, outputs) = (weight.rows, weight.columns);
    let rows = x.len() / inputs;
    let (mut y, beta) = match bias {
        Some(bias) => (bias.repeat(rows), Beta::One),
        None => (vec![0.0; rows * outputs], Beta::Zero),
    };
    let x = Matrix::rows(x, rows, inputs, inputs);
    let parallelism = match rows * inputs * outputs < MIN_PARALLEL_WORK {
        true => Parallelism::None,
        false => Parallelism::Rayon(0),
    };
    multiply(&mut y, outputs, beta, 1.0, x, weight, parallelism);
    y
}
