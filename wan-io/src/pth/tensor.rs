//! One tensor in a file: where its numbers are, and in which order.

use std::borrow::Cow;
use std::ops::Range;

use safetensors::Dtype;

use crate::counted;
use crate::files::{FileError, OpenFile};

/// How many numbers a tensor may have at most if its storage has fewer: a single number can stand
/// for a tensor of any size.
const MAX_EXPANDED: usize = 1 << 20;
/// So many bytes of a view with strides are read at once, or as much as it may well lie in,
const WINDOW: usize = 64 << 20;
/// which is so many times its own size.
const SCATTER: usize = 4;

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
        let too_far = || {
            format!(
                "{shape:?} is not inside its storage, which has {}",
                counted(has as u64, "number")
            )
        };
        let count = count(&shape).ok_or_else(too_far)?;
        let span = span(&shape, &strides).ok_or_else(too_far)?;
        if offset.checked_add(span).is_none_or(|end| end > has) {
            return Err(too_far());
        }
        if count > has.max(MAX_EXPANDED) {
            return Err(format!("{shape:?} is a view of only {}", counted(has as u64, "number")));
        }
        // The storage is inside the file, and so is every part of it.
        let size = numbers.dtype.bitsize() / 8;
        let start = numbers.start + offset * size;
        let strides = (!is_row_major(&shape, &strides)).then_some(strides);
        Ok(Self { dtype: numbers.dtype, shape, range: start..start + span * size, strides })
    }

    /// The bytes of the numbers in `range`, counted in row-major order: a part of the program, or read
    /// into `buffer`, whose content is replaced.
    pub(crate) fn read<'a>(
        &self,
        file: &'a OpenFile,
        range: Range<usize>,
        buffer: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], FileError> {
        match &self.strides {
            None => {
                let at = |number: usize| self.range.start + number * self.dtype.bitsize() / 8;
                file.read(at(range.start)..at(range.end), buffer)
            }
            Some(strides) => {
                self.gather(file, range, strides, buffer)?;
                Ok(buffer)
            }
        }
    }

    /// All of its numbers in row-major order: a part of the program, or read from `file`.
    pub(crate) fn bytes(&self, file: &OpenFile) -> Result<Cow<'static, [u8]>, FileError> {
        let Some(strides) = &self.strides else { return file.bytes(self.range.clone()) };
        let mut gathered = Vec::new();
        self.gather(file, 0..self.shape.iter().product(), strides, &mut gathered)?;
        Ok(Cow::Owned(gathered))
    }

    /// Collects the numbers in `range` in row-major order.
    fn gather(
        &self,
        file: &OpenFile,
        range: Range<usize>,
        strides: &[usize],
        gathered: &mut Vec<u8>,
    ) -> Result<(), FileError> {
        let size = self.dtype.bitsize() / 8;
        let (total, mut rest) = (range.len() * size, range.start);
        let mut index = vec![0; self.shape.len()];
        for dim in (0..self.shape.len()).rev() {
            index[dim] = rest % self.shape[dim];
            rest /= self.shape[dim];
        }
        let mut at: usize = index.iter().zip(strides).map(|(index, stride)| index * stride).sum();
        let most = WINDOW.max(total.saturating_mul(SCATTER));
        let (mut window, mut bytes): (Range<usize>, Cow<[u8]>) = (0..0, Cow::Borrowed(&[]));
        gathered.clear();
        gathered.reserve_exact(total);
        while gathered.len() < total {
            let start = self.range.start + at * size;
            if start < window.start || start + size > window.end {
                window = start..self.range.end.min(start.saturating_add(most));
                bytes = file.bytes(window.clone())?;
            }
            gathered.extend_from_slice(&bytes[start - window.start..][..size]);
            for dim in (0..self.shape.len()).rev() {
                index[dim] += 1;
                at += strides[dim];
                if index[dim] < self.shape[dim] {
                    break;
                }
                at -= strides[dim] * self.shape[dim];
                index[dim] = 0;
            }
        }
        Ok(())
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
