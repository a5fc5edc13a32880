use std::path::Path;

use burn::tensor::{DType, Tensor};
use wan_core::Backend;
use wan_io::weights::{Dtype, SafetensorsWriter};

use crate::Error;

/// Writes the latents of a video to a safetensors file with one f32 tensor, `latents`
/// `[B, C, T, H, W]`.
pub struct LatentsWriter(SafetensorsWriter);

impl LatentsWriter {
    /// Opens `path`, so that a folder that is missing or cannot be written is found before the work
    /// and not after it.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self(SafetensorsWriter::create(path)?))
    }

    /// Writes the file and moves it to its name.
    ///
    /// # Errors
    /// If it cannot be written; nothing stands under its name then.
    pub fn write<B: Backend>(self, latents: Tensor<B, 5>) -> Result<(), Error> {
        let data = latents.cast(DType::F32).into_data();
        let tensor = ("latents", Dtype::F32, data.shape.to_vec(), data.as_bytes());
        Ok(self.0.write([tensor], Default::default())?)
    }
}
