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

use burn::tensor::{DType, Tensor, TensorData};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use wan_core::Backend;

/// How numbers are stored in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileDType {
    /// 32-bit float.
    F32,
    /// 16-bit float.
    F16,
    /// 16-bit float with the exponent of `F32`.
    Bf16,
    /// Something that weights are not stored in, by its name in the file.
    Other(String),
}

/// A tensor as it lies in a file: little-endian, row-major, whole.
#[derive(Debug, Clone)]
pub struct RawTensor<'a> {
    /// How numbers are stored.
    pub dtype: FileDType,
    /// The shape.
    pub shape: Vec<usize>,
    /// The numbers; as many as `shape` says.
    pub bytes: &'a [u8],
}

/// Something that holds named tensors: the files of one model.
pub trait TensorSource: Send + Sync {
    /// All names.
    fn names(&self) -> Vec<String>;

    /// The tensor `name`, if there is one.
    fn tensor(&self, name: &str) -> Option<RawTensor<'_>>;

    /// Where the tensors come from, for error messages.
    fn origin(&self) -> String;

    /// Says that what was read will not be needed soon: mapped files may give back its memory.
    fn release(&self) {}
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
    let reading = Reading::<B>::new(source, device, true);
    build(&reading.scope(DType::F32));
    let mut mismatches = reading.mismatches.into_inner();
    let asked = reading.asked.into_inner();
    let unexpected = source.names().into_iter().filter(|name| !asked.contains(name));
    mismatches.extend(unexpected.map(|name| Mismatch::Unexpected { name }));
    if mismatches.is_empty() {
        return Ok(());
    }
    Err(WeightsError { origin: source.origin(), mismatches })
}

/// Checks a checkpoint (see [`check`]) and loads a model from it, its matrices in `dtype`.
///
/// # Errors
/// Every missing, unexpected and misshapen tensor, in one error; nothing is read then.
pub fn load<B: Backend, M>(
    source: &Arc<dyn TensorSource>,
    device: &B::Device,
    dtype: DType,
    build: impl Fn(&Scope<B>) -> M,
) -> Result<M, WeightsError> {
    check(source, device, &build)?;
    let model = build(&Reading::new(source, device, false).scope(dtype));
    source.release();
    Ok(model)
}

/// One pass over a checkpoint.
struct Reading<'a, B: Backend> {
    source: &'a Arc<dyn TensorSource>,
    device: &'a B::Device,
    only_check: bool,
    asked: RefCell<BTreeSet<String>>,
    mismatches: RefCell<Vec<Mismatch>>,
}

impl<'a, B: Backend> Reading<'a, B> {
    fn new(source: &'a Arc<dyn TensorSource>, device: &'a B::Device, only_check: bool) -> Self {
        let (asked, mismatches) = Default::default();
        Self { source, device, only_check, asked, mismatches }
    }

    fn scope(&self, dtype: DType) -> Scope<'_, B> {
        Scope { reading: self, prefix: String::new(), dtype }
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
        let device = self.reading.device;
        match self.raw(name, stored) {
            Some(raw) => {
                let data = decode(&raw, self.dtype, &shape);
                Tensor::from_data(data, (device, self.dtype))
            }
            None => Tensor::zeros([1; D], (device, self.dtype)),
        }
    }

    /// The matrix `name`, left on the host: its rows are read when they are asked for.
    pub fn table(&self, name: &str, rows: usize, width: usize) -> HostTable {
        self.raw(name, &[rows, width]);
        let name = format!("{}{name}", self.prefix);
        HostTable { source: self.reading.source.clone(), name, rows, width }
    }

    /// Declares that `name` may be there as well, a second copy of a tensor that is read elsewhere.
    pub fn may_repeat(&self, name: &str, shape: &[usize]) {
        if self.reading.source.tensor(&format!("{}{name}", self.prefix)).is_some() {
            self.raw(name, shape);
        }
    }

    /// The stored tensor, unless this pass only checks or it does not fit.
    fn raw(&self, name: &str, shape: &[usize]) -> Option<RawTensor<'_>> {
        let Reading { source, only_check, asked, mismatches, .. } = self.reading;
        let name = format!("{}{name}", self.prefix);
        asked.borrow_mut().insert(name.clone());
        let expected = shape.to_vec();
        let mismatch = match source.tensor(&name) {
            None => Mismatch::Missing { name, expected },
            Some(RawTensor { shape: found, .. }) if found != shape => {
                Mismatch::Shape { name, found, expected }
            }
            Some(RawTensor { dtype: FileDType::Other(found), .. }) => {
                Mismatch::DType { name, found }
            }
            Some(_) if *only_check => return None,
            found => return found,
        };
        mismatches.borrow_mut().push(mismatch);
        None
    }
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
            floats(&table.dtype, &table.bytes[start..start + size])
        };
        indices.iter().flat_map(row).collect()
    }
}

/// The stored numbers in the dtype that a model computes in.
fn decode(raw: &RawTensor, dtype: DType, shape: &[usize]) -> TensorData {
    let as_stored = matches!(
        (&raw.dtype, dtype),
        (FileDType::F32, DType::F32)
            | (FileDType::F16, DType::F16)
            | (FileDType::Bf16, DType::BF16)
    );
    if as_stored && cfg!(target_endian = "little") {
        return TensorData::from_bytes_vec(raw.bytes.to_vec(), shape, dtype);
    }
    let values = floats(&raw.dtype, raw.bytes);
    match dtype {
        DType::F16 => {
            let mut halves = vec![f16::ZERO; values.len()];
            halves.convert_from_f32_slice(&values);
            TensorData::new(halves, shape)
        }
        DType::BF16 => {
            let mut halves = vec![bf16::ZERO; values.len()];
            halves.convert_from_f32_slice(&values);
            TensorData::new(halves, shape)
        }
        _ => TensorData::new(values, shape),
    }
}

/// The stored numbers in f32. The bytes of a file need not be aligned.
fn floats(dtype: &FileDType, bytes: &[u8]) -> Vec<f32> {
    let bits = || bytes.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b));
    match dtype {
        FileDType::F16 => {
            let halves: Vec<f16> = bits().map(f16::from_bits).collect();
            halves.to_f32_vec()
        }
        FileDType::Bf16 => bits().map(|bits| f32::from_bits(u32::from(bits) << 16)).collect(),
        _ => bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
    }
}
