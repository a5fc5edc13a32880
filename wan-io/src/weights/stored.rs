//! One tensor, whose elements are read when they are asked for.

use std::borrow::Cow;
use std::ops::Range;

use safetensors::Dtype;

use crate::files::{FileError, OpenFile};
use crate::pth::View;

/// So many bytes are read at a time: few enough for the cache of a processor.
const PIECE: usize = 256 << 10;

/// One tensor: how its elements are stored, its shape, and where its elements are.
#[derive(Debug, Clone)]
pub struct StoredTensor<'a> {
    /// The form of an element.
    pub dtype: Dtype,
    /// The shape.
    pub shape: &'a [usize],
    place: Place<'a>,
    /// The element that a part of a tensor begins with.
    start: Option<usize>,
}

#[derive(Debug, Clone)]
enum Place<'a> {
    Memory(Cow<'a, [u8]>),
    File(&'a OpenFile, &'a View),
}

impl<'a> StoredTensor<'a> {
    /// A tensor whose elements are `bytes` (little-endian, row-major).
    pub fn in_memory(dtype: Dtype, shape: &'a [usize], bytes: impl Into<Cow<'a, [u8]>>) -> Self {
        Self { dtype, shape, place: Place::Memory(bytes.into()), start: None }
    }

    pub(super) fn in_file(file: &'a OpenFile, view: &'a View) -> Self {
        Self { dtype: view.dtype, shape: &view.shape, place: Place::File(file, view), start: None }
    }

    /// The elements from `start` on, in row-major order, as a tensor of their own with this shape: for
    /// matrices that are stored as one.
    ///
    /// # Panics
    /// If there are not so many elements.
    pub fn part(self, start: usize, shape: &'a [usize]) -> Self {
        let (all, start) = (self.count(), self.start.unwrap_or(0) + start);
        let part = Self { shape, start: Some(start), ..self };
        assert!(start + part.count() <= all, "{shape:?} from {start} on of {all} elements");
        part
    }

    /// The number of elements.
    pub fn count(&self) -> usize {
        // With a dimension of 0, the others may be any numbers.
        if self.shape.contains(&0) { 0 } else { self.shape.iter().product() }
    }

    /// How many elements to read at a time where all are needed. That is all of a view with strides,
    /// which only checkpoints of PyTorch have: each part of it may lie all over the file. Never 0.
    pub fn piece(&self) -> usize {
        match self.place {
            Place::File(_, view) if view.strides().is_some() => self.count().max(1),
            _ => PIECE * 8 / self.dtype.bitsize(),
        }
    }

    /// The bytes (little-endian, row-major) of the elements in `range`, which must be inside the
    /// tensor and begin and end with a whole byte: a part of what is in memory, or read into `buffer`,
    /// whose content is replaced. All threads may read at once.
    ///
    /// # Errors
    /// If the file cannot be read, or has changed since it was opened.
    pub fn read<'b>(
        &'b self,
        range: Range<usize>,
        buffer: &'b mut Vec<u8>,
    ) -> Result<&'b [u8], FileError> {
        let start = self.start.unwrap_or(0);
        let range = range.start + start..range.end + start;
        match &self.place {
            Place::Memory(bytes) => {
                let bits = self.dtype.bitsize();
                Ok(&bytes[range.start * bits / 8..range.end * bits / 8])
            }
            Place::File(file, view) => view.read(file, range, buffer),
        }
    }

    /// The bytes of all elements.
    ///
    /// # Errors
    /// As for [`read`](Self::read).
    pub fn bytes(&self) -> Result<Cow<'_, [u8]>, FileError> {
        if self.start.is_some() {
            let mut buffer = Vec::new();
            return Ok(Cow::Owned(self.read(0..self.count(), &mut buffer)?.to_vec()));
        }
        match &self.place {
            Place::Memory(bytes) => Ok(Cow::Borrowed(bytes)),
            Place::File(file, view) => view.bytes(file),
        }
    }
}
