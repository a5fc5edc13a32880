//! From a checkpoint to a module.
//!
//! A module's `load` function asks a [`Scope`] for its tensors by name and shape. [`load`] runs it
//! twice: once to compare names, shapes and dtypes with the checkpoint without reading any data,
//! and, if all agree, once to read it. So the modules themselves are the only list of what a
//! checkpoint must hold.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use burn::tensor::{DType, Tensor};
use wan_core::Backend;
use wan_io::weights::{Dtype, StoredTensor, Weights};

use crate::casting::{decode, first_not_finite, to_f32};

/// Something that holds named tensors: the files of one model.
pub trait TensorSource: Send + Sync {
    /// All names.
    fn names(&self) -> Vec<String>;

    /// The tensor `name`, if there is one.
    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>>;

    /// Where the tensors come from, for error messages.
    fn origin(&self) -> String;

    /// The name under which the tensor is stored that a model asks for by `name`. Models ask by the
    /// names of diffusers; [`checkpoint`](crate::checkpoint) knows those of other layouts.
    fn stored_name(&self, name: &str) -> String {
        name.to_owned()
    }

    /// Says that a tensor has been read and will not be needed soon: a mapped file may give back its
    /// memory.
    fn release_tensor(&self, name: &str) {
        let _ = name;
    }

    /// The same for all tensors.
    fn release(&self) {}
}

impl TensorSource for Weights {
    fn names(&self) -> Vec<String> {
        Weights::names(self).map(str::to_owned).collect()
    }

    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        Weights::tensor(self, name)
    }

    fn origin(&self) -> String {
        Weights::origin(self).to_owned()
    }

    fn release_tensor(&self, name: &str) {
        Weights::release_tensor(self, name);
    }

    fn release(&self) {
        Weights::release(self);
    }
}

/// How a model is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadOptions {
    /// The dtype of its matrices.
    pub dtype: DType,
    /// Refuse numbers that are infinite or not a number.
    pub require_finite: bool,
}

impl From<DType> for ReadOptions {
    fn from(dtype: DType) -> Self {
        Self { dtype, require_finite: false }
    }
}

/// One way in which a checkpoint does not fit a model.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mismatch {
    /// The model needs a tensor that the checkpoint has not.
    Missing {
        /// Its name.
        name: String,
        /// Its shape.
        expected: Vec<usize>,
    },
    /// The checkpoint has a tensor that the model does not know.
    Unexpected {
        /// Its name.
        name: String,
    },
    /// A tensor has another shape.
    Shape {
        /// Its name.
        name: String,
        /// The shape in the checkpoint.
        found: Vec<usize>,
        /// The shape that the config asks for.
        expected: Vec<usize>,
    },
    /// A tensor is not of floating point numbers.
    DType {
        /// Its name.
        name: String,
        /// The dtype in the checkpoint.
        found: String,
    },
    /// A tensor has a number that is infinite or not a number, and
    /// [`require_finite`](ReadOptions::require_finite) was asked for.
    NotFinite {
        /// Its name.
        name: String,
        /// The place of the first such number.
        index: usize,
    },
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { name, expected } => write!(f, "{name} {expected:?} is missing"),
            Self::Unexpected { name } => write!(f, "{name} is not part of this model"),
            Self::Shape { name, found, expected } => {
                write!(f, "{name} has shape {found:?}, but must have {expected:?}")
            }
            Self::DType { name, found } => {
                write!(f, "{name} has dtype {found}, but must have F32, F16 or BF16")
            }
            Self::NotFinite { name, index } => {
                write!(f, "{name} has at {index} a number that is infinite or not a number")
            }
        }
    }
}

/// A checkpoint that does not fit its config, with everything that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WeightsError {
    /// Where the tensors come from.
    pub origin: String,
    /// Everything that is wrong, in the order of the model.
    pub mismatches: Vec<Mismatch>,
}

/// How many mismatches an error message spells out.
const MAX_LISTED: usize = 24;

impl fmt::Display for WeightsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: the tensors do not fit the config", self.origin)?;
        for mismatch in self.mismatches.iter().take(MAX_LISTED) {
            write!(f, "\n  {mismatch}")?;
        }
        match self.mismatches.len().saturating_sub(MAX_LISTED) {
            0 => Ok(()),
            more => write!(f, "\n  and {more} more"),
        }
    }
}

impl std::error::Error for WeightsError {}

/// Compares a checkpoint with a model without reading any data; `build` is the model's load
/// function.
///
/// # Errors
/// Every missing, unexpected and misshapen tensor, in one error.
pub fn check<B: Backend, M>(
    source: &Arc<dyn TensorSource>,
    device: &B::Device,
    build: impl Fn(&Scope<B>) -> M,
) -> Result<(), WeightsError> {
    let reading = Reading::<B>::new(source, device, None);
    build(&reading.scope(DType::F32));
    let asked = reading.asked.borrow();
    let unexpected = source.names().into_iter().filter(|name| !asked.contains(name));
    let unexpected = unexpected.map(|name| Mismatch::Unexpected { name });
    reading.mismatches.borrow_mut().extend(unexpected);
    reading.result()
}

/// Checks a checkpoint (see [`check`]) and loads a model from it: one tensor after the other, cast to
/// the dtype that the model computes in on the way to the device.
///
/// # Errors
/// Every missing, unexpected and misshapen tensor, in one error; nothing is read then. If they were
/// asked for, every tensor with numbers that are not finite.
pub fn load<B: Backend, M>(
    source: &Arc<dyn TensorSource>,
    device: &B::Device,
    options: impl Into<ReadOptions>,
    build: impl Fn(&Scope<B>) -> M,
) -> Result<M, WeightsError> {
    check(source, device, &build)?;
    let options = options.into();
    let reading = Reading::new(source, device, Some(options));
    let model = build(&reading.scope(options.dtype));
    source.release();
    reading.result().map(|()| model)
}

/// One pass over a checkpoint.
struct Reading<'a, B: Backend> {
    source: &'a Arc<dyn TensorSource>,
    device: &'a B::Device,
    /// `None` in the pass that only checks.
    options: Option<ReadOptions>,
    asked: RefCell<BTreeSet<String>>,
    mismatches: RefCell<Vec<Mismatch>>,
}

impl<'a, B: Backend> Reading<'a, B> {
    fn new(
        source: &'a Arc<dyn TensorSource>,
        device: &'a B::Device,
        options: Option<ReadOptions>,
    ) -> Self {
        let (asked, mismatches) = Default::default();
        Self { source, device, options, asked, mismatches }
    }

    fn scope(&self, dtype: DType) -> Scope<'_, B> {
        Scope { reading: self, prefix: String::new(), dtype }
    }

    fn result(&self) -> Result<(), WeightsError> {
        let mismatches = self.mismatches.take();
        if mismatches.is_empty() {
            return Ok(());
        }
        Err(WeightsError { origin: self.source.origin(), mismatches })
    }
}

/// The tensors below one name of a checkpoint.
pub struct Scope<'a, B: Backend> {
    reading: &'a Reading<'a, B>,
    prefix: String,
    dtype: DType,
}

impl<B: Backend> Scope<'_, B> {
    /// The tensors below `name` (dots included: `blocks.0.attn1`).
    pub fn at(&self, name: impl fmt::Display) -> Self {
        let prefix = format!("{}{name}.", self.prefix);
        Self { reading: self.reading, prefix, dtype: self.dtype }
    }

    /// The same tensors, read as f32 whatever dtype the model computes in.
    pub fn in_f32(&self) -> Self {
        Self { reading: self.reading, prefix: self.prefix.clone(), dtype: DType::F32 }
    }

    /// The tensor `name`, which must have this shape.
    pub fn tensor<const D: usize>(&self, name: &str, shape: [usize; D]) -> Tensor<B, D> {
        self.reshaped(name, &shape, shape)
    }

    /// The tensor `name`, which must have the shape `stored`, as a vector or matrix of another
    /// shape with as many elements.
    pub fn reshaped<const D: usize>(
        &self,
        name: &str,
        stored: &[usize],
        shape: [usize; D],
    ) -> Tensor<B, D> {
        let (reading, device) = (self.reading, self.reading.device);
        let Some(raw) = self.raw(name, stored) else {
            return Tensor::zeros([1; D], (device, self.dtype));
        };
        self.check_finite(name, &raw);
        let tensor = Tensor::from_data(decode(&raw, self.dtype, &shape), (device, self.dtype));
        reading.source.release_tensor(&self.stored_name(name));
        tensor
    }

    /// The matrix `name`, left on the host: its rows are read when they are asked for.
    pub fn table(&self, name: &str, rows: usize, width: usize) -> HostTable {
        if let Some(raw) = self.raw(name, &[rows, width]) {
            self.check_finite(name, &raw);
        }
        let name = self.stored_name(name);
        self.reading.source.release_tensor(&name);
        HostTable { source: self.reading.source.clone(), name, rows, width }
    }

    fn check_finite(&self, name: &str, raw: &StoredTensor) {
        if self.reading.options.is_some_and(|options| options.require_finite)
            && let Some(index) = first_not_finite(raw)
        {
            let mismatch = Mismatch::NotFinite { name: self.stored_name(name), index };
            self.reading.mismatches.borrow_mut().push(mismatch);
        }
    }

    /// Declares that `name` may be there as well, a second copy of a tensor that is read elsewhere.
    pub fn may_repeat(&self, name: &str, shape: &[usize]) {
        if self.reading.source.tensor(&self.stored_name(name)).is_some() {
            self.raw(name, shape);
        }
    }

    fn stored_name(&self, name: &str) -> String {
        self.reading.source.stored_name(&format!("{}{name}", self.prefix))
    }

    /// The stored tensor, unless this pass only checks or it does not fit.
    fn raw(&self, name: &str, shape: &[usize]) -> Option<StoredTensor<'_>> {
        let Reading { source, options, asked, mismatches, .. } = self.reading;
        let name = self.stored_name(name);
        asked.borrow_mut().insert(name.clone());
        let expected = shape.to_vec();
        let mismatch = match source.tensor(&name) {
            None => Mismatch::Missing { name, expected },
            Some(StoredTensor { shape: found, .. }) if found != shape => {
                Mismatch::Shape { name, found: found.to_vec(), expected }
            }
            Some(StoredTensor { dtype, .. }) if !is_float(dtype) => {
                Mismatch::DType { name, found: dtype.to_string() }
            }
            Some(_) if options.is_none() => return None,
            found => return found,
        };
        mismatches.borrow_mut().push(mismatch);
        None
    }
}

/// Whether weights are stored in it.
fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

/// A matrix that stays in its file, such as a vocabulary's embeddings: at 256 thousand rows it is
/// larger than many devices' buffers, while a prompt needs a few hundred rows of it.
#[derive(Clone)]
pub struct HostTable {
    source: Arc<dyn TensorSource>,
    name: String,
    rows: usize,
    width: usize,
}

impl fmt::Debug for HostTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "HostTable({} [{}, {}])", self.name, self.rows, self.width)
    }
}

impl HostTable {
    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The rows with these indices in f32, one after the other.
    ///
    /// # Panics
    /// If an index is not less than [`rows`](Self::rows).
    pub fn gather(&self, indices: &[u32]) -> Vec<f32> {
        let table = self.source.tensor(&self.name);
        let table = table.expect("the tensor was there when the model was loaded");
        let size = table.bytes.len() / self.rows;
        let row = |&index: &u32| {
            let start = index as usize * size;
            to_f32(table.dtype, &table.bytes[start..start + size])
        };
        indices.iter().flat_map(row).collect()
    }
}
