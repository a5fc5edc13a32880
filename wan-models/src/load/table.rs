//! A matrix that stays on the host.

use std::fmt;
use std::sync::Arc;

use super::TensorSource;
use super::cast::to_f32;

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
    pub(super) fn new(
        source: Arc<dyn TensorSource>,
        name: String,
        rows: usize,
        width: usize,
    ) -> Self {
        Self { source, name, rows, width }
    }

    /// The number of rows.
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
