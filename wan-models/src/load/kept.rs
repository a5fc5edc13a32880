//! Tensors that are read once and kept as they are stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rayon::prelude::*;
use wan_core::CancelToken;
use wan_io::weights::{Dtype, StoredTensor};

use super::{LoadError, TensorSource};

/// A source of which some tensors are in memory.
pub(super) struct Kept {
    source: Arc<dyn TensorSource>,
    /// By canonical name.
    tensors: BTreeMap<String, KeptTensor>,
}

struct KeptTensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Kept {
    /// Reads the tensors with these canonical names, on all threads.
    ///
    /// # Errors
    /// If a file cannot be read, or the work is cancelled.
    pub(super) fn read(
        source: &Arc<dyn TensorSource>,
        names: &BTreeSet<String>,
        cancel: &CancelToken,
    ) -> Result<Self, LoadError> {
        let read = |name: &String| {
            cancel.check()?;
            let Some(tensor) = source.tensor(name) else { return Ok(None) };
            let StoredTensor { dtype, shape, .. } = tensor;
            let bytes = tensor.bytes()?.into_owned();
            Ok(Some((name.clone(), KeptTensor { dtype, shape: shape.to_vec(), bytes })))
        };
        let tensors = names.par_iter().filter_map(|name| read(name).transpose());
        let tensors = tensors.collect::<Result<BTreeMap<_, _>, LoadError>>()?;
        Ok(Self { source: source.clone(), tensors })
    }
}

impl TensorSource for Kept {
    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn tensor(&self, canonical: &str) -> Option<StoredTensor<'_>> {
        let Some(kept) = self.tensors.get(canonical) else { return self.source.tensor(canonical) };
        Some(StoredTensor::in_memory(kept.dtype, &kept.shape, &*kept.bytes))
    }

    fn scale(&self, canonical: &str) -> &[f32] {
        self.source.scale(canonical)
    }

    fn label(&self, canonical: &str) -> String {
        self.source.label(canonical)
    }

    fn origin(&self) -> String {
        self.source.origin()
    }
}
