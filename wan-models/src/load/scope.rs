//! The tensors below one name, as the modules of a network ask for them.

use std::fmt;
use std::sync::Arc;

use burn::tensor::{DType, Tensor};
use wan_core::{Backend, BurnBackend};
use wan_io::files::FileError;
use wan_io::weights::{Dtype, StoredTensor};

use super::cast::{decode, first_not_finite};
use super::reading::Reading;
use super::{HostTable, Layers, Mismatch, Residency};

/// The tensors below one name of a checkpoint. While a checkpoint is only compared with a config, each
/// tensor is a placeholder; see [`Network::load`](super::Network::load).
pub struct Scope<'a, B: BurnBackend> {
    reading: &'a Reading<'a, B>,
    prefix: String,
    dtype: DType,
    /// Whether they are those of layers.
    in_layers: bool,
}

impl<'a, B: Backend> Scope<'a, B> {
    /// All tensors of a checkpoint.
    pub(super) fn new(reading: &'a Reading<'a, B>, dtype: DType) -> Self {
        Self { reading, prefix: String::new(), dtype, in_layers: false }
    }

    /// The tensors below `name` (dots included: `blocks.0.attn1`).
    pub fn at(&self, name: impl fmt::Display) -> Self {
        Self { prefix: format!("{}{name}.", self.prefix), ..*self }
    }

    /// The layers of a network, of which `load` loads one by its number from this scope. Where weights are
    /// streamed, it is called in each pass.
    pub(crate) fn layers<L: Send + Sync>(
        &self,
        count: usize,
        load: impl Fn(&Scope<B>, usize) -> L + Send + Sync + 'static,
    ) -> Layers<B, L> {
        match &self.reading.options {
            Some(options) if options.residency != Residency::Resident => {
                Layers::streamed(self.reading, options, &self.prefix, count, Box::new(load))
            }
            _ => {
                let scope = Self { in_layers: true, prefix: self.prefix.clone(), ..*self };
                Layers::Resident(Arc::new((0..count).map(|i| load(&scope, i)).collect()))
            }
        }
    }

    /// All tensors whose names begin with `prefix`.
    pub(super) fn below(self, prefix: &str) -> Self {
        Self { prefix: prefix.to_owned(), ..self }
    }

    /// These tensors in f32, whatever dtype the network computes in.
    pub fn in_f32(&self) -> Self {
        Self { prefix: self.prefix.clone(), dtype: DType::F32, ..*self }
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
        let (device, name) = (self.reading.device, self.full(name));
        if self.reading.options.is_none() {
            self.check_size(&name, stored);
        }
        let (source, stream, dtype) = (self.reading.source, self.reading.stream, self.dtype);
        let read = |raw: StoredTensor| {
            self.check_finite(&name, &raw)?;
            let scale = source.scale(&name);
            let decode = || decode(&raw, scale, dtype, &shape, stream.map(|(_, meter)| meter));
            match stream {
                Some((Some(readers), _)) => readers.install(decode),
                _ => decode(),
            }
        };
        match self.raw(&name, stored).and_then(|raw| self.or_fail(read(raw))) {
            Some(data) => Tensor::from_data(data, (device, self.dtype)),
            None => Tensor::zeros([1; D], (device, self.dtype)),
        }
    }

    /// The matrix `name`, left on the host: its rows are read when they are asked for.
    pub fn table(&self, name: &str, rows: usize, width: usize) -> HostTable {
        let (source, name) = (self.reading.source, self.full(name));
        if let Some(raw) = self.raw(&name, &[rows, width]) {
            self.or_fail(self.check_finite(&name, &raw));
        }
        HostTable::new(source.clone(), name, rows, width)
    }

    /// The canonical name of `name` in this scope. The functions below take such names.
    fn full(&self, name: &str) -> String {
        format!("{}{name}", self.prefix)
    }

    /// Whether the device can hold such a tensor.
    fn check_size(&self, canonical: &str, shape: &[usize]) {
        let Reading { source, device, mismatches, .. } = self.reading;
        let sides = shape.iter().map(|&side| side as u64);
        let bytes = sides.fold(self.dtype.size() as u64, u64::saturating_mul);
        let Some(limit) = B::max_tensor_bytes(device).filter(|&limit| bytes > limit) else {
            return;
        };
        let mismatch = Mismatch::TooLarge { name: source.label(canonical), bytes, limit };
        if !mismatches.borrow().contains(&mismatch) {
            mismatches.borrow_mut().push(mismatch); // once, if two layers share it
        }
    }

    fn check_finite(&self, canonical: &str, raw: &StoredTensor) -> Result<(), FileError> {
        let Reading { source, options, mismatches, .. } = self.reading;
        if options.as_ref().is_some_and(|options| options.require_finite)
            && let Some(index) = first_not_finite(raw)?
        {
            let mismatch = Mismatch::NotFinite { name: source.label(canonical), index };
            mismatches.borrow_mut().push(mismatch);
        }
        Ok(())
    }

    /// What was read; an error ends the pass.
    fn or_fail<T>(&self, read: Result<T, FileError>) -> Option<T> {
        read.map_err(|error| self.reading.failure.replace(Some(error))).ok()
    }

    /// The stored tensor, unless this pass only checks or is over, or it does not fit.
    fn raw(&self, canonical: &str, shape: &[usize]) -> Option<StoredTensor<'_>> {
        if self.reading.is_over() {
            return None;
        }
        let Reading { source, options, asked, in_layers, mismatches, .. } = self.reading;
        let (name, expected) = (source.label(canonical), shape.to_vec());
        if !asked.borrow_mut().insert(name.clone()) && options.is_none() {
            return None; // a tensor that two layers share is compared once
        }
        if self.in_layers {
            in_layers.borrow_mut().insert(canonical.to_owned());
        }
        let mismatch = match source.tensor(canonical) {
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

/// Whether weights are stored in this dtype.
fn is_float(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16 | Dtype::F8_E4M3 | Dtype::F8_E5M2)
}
