//! A matrix that stays on the host.

use std::fmt;
use std::sync::Arc;

use wan_io::files::FileError;

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
    /// # Errors
    /// If the file cannot be read, or has changed since it was opened.
    ///
    /// # Panics
    /// If an index is not less than [`rows`](Self::rows).
    pub fn gather(&self, indices: &[u32]) -> Result<Vec<f32>, FileError> {
        let table = self.source.tensor(&self.name);
        let table = table.expect("the tensor was there when the model was loaded");
        let scale = self.source.scale(&self.name);
        let (mut rows, mut buffer) = (Vec::with_capacity(indices.len() * self.width), Vec::new());
        for &index in indices {
            let start = index as usize * self.width;
            let row = to_f32(table.dtype, table.read(start..start + self.width, &mut buffer)?);
            let factor = scale.get(index as usize).or(scale.first()).copied().unwrap_or(1.0);
            rows.extend(row.into_iter().map(|value| value * factor));
        }
        Ok(rows)
    }
}
