//! One tensor in a safetensors file.

use std::path::Path;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};

use super::VideoError;
use crate::files::atomic::AtomicFile;

/// A safetensors file for one f32 tensor, opened before the tensor exists.
pub struct TensorFile(AtomicFile);

impl TensorFile {
    /// Opens a temporary file beside `path`.
    ///
    /// # Errors
    /// If the folder is missing or cannot be written, or `path` is a folder.
    pub fn create(path: &Path) -> Result<Self, VideoError> {
        Ok(Self(AtomicFile::create(path)?))
    }

    /// Writes the tensor (f32, little-endian, row-major) and moves the file to its name.
    ///
    /// # Errors
    /// If `bytes` are not as many as `shape` says, or the file cannot be written.
    pub fn write(mut self, name: &str, shape: &[usize], bytes: &[u8]) -> Result<(), VideoError> {
        let path = self.0.path().to_owned();
        let invalid = |error: safetensors::SafeTensorError| {
            VideoError::io("write", &path)(std::io::Error::other(error))
        };
        let view = TensorView::new(Dtype::F32, shape.to_vec(), bytes).map_err(invalid)?;
        let file = serialize([(name, view)], None).map_err(invalid)?;
        self.0.write(&file)?;
        Ok(self.0.commit()?)
    }
}
