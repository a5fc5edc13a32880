//! One tensor in a file: where its numbers are, and in which order.

use std::borrow::Cow;
use std::ops::Range;

use safetensors::Dtype;

/// How many numbers a tensor may have at most if its storage has fewer: a single number can stand
/// for a tensor of any size.
const MAX_EXPANDED: usize = 1 << 20;

/// A tensor in the bytes of a file.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) dtype: Dtype,
    pub(crate) shape: Vec<usize>,
    /// From its first byte in the file to its last.
    pub(crate) range: Range<usize>,
    /// The steps between numbers in each dimension; none if they are in row-major order without
    /// gaps.
    strides: Option<Vec<usize>>,
}

/// The numbers that tensors are parts of.
#[derive(Debug, Clone)]
pub(super) struct Numbers {
    pub(super) dtype: Dtype,
    pub(super) count: usize,
    /// Where they start in the file.
    pub(super) start: usize,
}

impl View {
    /// A tensor whose numbers lie in row-major order.
    pub(crate) fn row_major(dtype: Dtype, shape: Vec<usize>, range: Range<usize>) -> Self {
        Self { dtype, shape, range, strides: None }
    }

    /// The steps between elements in each dimension; none if they are in row-major order.
    pub(crate) fn strides(&self) -> Option<&[usize]> {
        self.strides.as_deref()
    }

    /// A part of a storage; the error says what does not fit.
    pub(super) fn in_storage(
        numbers: &Numbers,
        offset: usize,
        shape: Vec<usize>,
        mut strides: Vec<usize>,
    ) -> Result<Self, String> {
        if shape.len() != strides.len() {
            let (dims, steps) = (shape.len(), strides.len());
            return Err(format!("has {dims} dimensions, but {steps} strides"));
        }
        // Nothing ever steps along a dimension of 1: its stride may be any number.
        let ones = strides.iter_mut().zip(&shape).filter(|(_, dim)| **dim == 1);
        ones.for_each(|(stride, _)| *stride = 0);
        let has = numbers.count;
        let too_far = || format!("{shape:?} is not inside its storage, which has {has} numbers");
        let count = count(&shape).ok_or_else(too_far)?;
        let span = span(&shape, &strides).ok_or_else(too_far)?;
        if offset.checked_add(span).is_none_or(|end| end > has) {
            return Err(too_far());
        }
        if count > has.max(MAX_EXPANDED) {
            return Err(format!("{shape:?} is a view of only {has} numbers"));
        }
        // The storage is inside the file, and so is every part of it.
        let size = numbers.dtype.bitsize() / 8;
        let start = numbers.start + offset * size;
        let strides = (!is_row_major(&shape, &strides)).then_some(strides);
        Ok(Self { dtype: numbers.dtype, shape, range: start..start + span * size, strides })
    }

    /// Its numbers in row-major order: a part of `file`, or collected from there.
    pub(crate) fn bytes<'a>(&self, file: &'a [u8]) -> Cow<'a, [u8]> {
        let bytes = &file[self.range.clone()];
        match &self.strides {
            None => Cow::Borrowed(bytes),
            Some(strides) => {
                Cow::Owned(gather(bytes, self.dtype.bitsize() / 8, &self.shape, strides))
            }
        }
    }
}

/// How many numbers a shape has.
fn count(shape: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1_usize, |product, &dim| product.checked_mul(dim))
}

/// How many numbers there are from the first to the last.
fn span(shape: &[usize], strides: &[usize]) -> Option<usize> {
    if shape.contains(&0) {
        return Some(0);
    }
    let mut last = 0_usize;
    for (&dim, &stride) in shape.iter().zip(strides) {
        last = last.checked_add((dim - 1).checked_mul(stride)?)?;
    }
    last.checked_add(1)
}

fn is_row_major(shape: &[usize], strides: &[usize]) -> bool {
    let mut expected = 1;
    let fits = |(&dim, &stride): (&usize, &usize)| {
        let fits = dim == 1 || stride == expected;
        expected *= dim;
        fits
    };
    shape.contains(&0) || shape.iter().zip(strides).rev().all(fits)
}

/// Collects numbers of `size` bytes in row-major order.
fn gather(bytes: &[u8], size: usize, shape: &[usize], strides: &[usize]) -> Vec<u8> {
    let total = shape.iter().product::<usize>() * size;
    let mut gathered = Vec::with_capacity(total);
    let mut index = vec![0; shape.len()];
    let mut at = 0;
    while gathered.len() < total {
        gathered.extend_from_slice(&bytes[at * size..(at + 1) * size]);
        for dim in (0..shape.len()).rev() {
            index[dim] += 1;
            at += strides[dim];
            if index[dim] < shape[dim] {
                break;
            }
            at -= strides[dim] * shape[dim];
            index[dim] = 0;
        }
    }
    gathered
}
