//! Safetensors files, written tensor by tensor.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::path::Path;

use safetensors::Dtype;
use serde::Serialize;

use super::header::{MAX_HEADER_BYTES, METADATA};
use super::{MAX_TENSORS, SafetensorsWriteError, check_name};
use crate::files::atomic::AtomicFile;

/// Headers end at a multiple of this, so that the elements after them are aligned.
const ALIGNMENT: usize = 8;

/// A safetensors file, opened before its tensors exist.
pub struct SafetensorsWriter(AtomicFile);

/// A tensor that is about to be written.
struct Tensor<D> {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: D,
}

/// One entry of a header.
#[derive(Serialize)]
#[serde(untagged)]
enum Entry<'a> {
    Metadata(&'a BTreeMap<String, String>),
    Tensor { dtype: Dtype, shape: &'a [usize], data_offsets: [usize; 2] },
}

impl SafetensorsWriter {
    /// Opens a temporary file beside `path`, so that a folder that is missing or cannot be written is
    /// found before the work and not after it.
    ///
    /// # Errors
    /// [`SafetensorsWriteError::File`] if the folder is missing or cannot be written, or `path` is a
    /// folder.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, SafetensorsWriteError> {
        Ok(Self(AtomicFile::create(path.as_ref())?))
    }

    /// Writes all tensors (name, dtype, shape, and elements as little-endian bytes in row-major
    /// order) and the file's own properties, and moves the file to its name. Nothing stands under
    /// that name before it is whole.
    ///
    /// # Errors
    /// If a name is there twice or is none that [`Weights`](super::Weights) reads, the bytes of a
    /// tensor are not as many as its shape says, or the file cannot be written.
    pub fn write<N, S, D>(
        mut self,
        tensors: impl IntoIterator<Item = (N, Dtype, S, D)>,
        metadata: BTreeMap<String, String>,
    ) -> Result<(), SafetensorsWriteError>
    where
        N: Into<String>,
        S: Into<Vec<usize>>,
        D: AsRef<[u8]>,
    {
        let tensor = |(name, dtype, shape, bytes): (N, Dtype, S, D)| Tensor {
            name: name.into(),
            dtype,
            shape: shape.into(),
            bytes,
        };
        let mut tensors: Vec<_> = tensors.into_iter().map(tensor).collect();
        // As other writers do: wide elements first, so that all are aligned.
        tensors.sort_by(|a, b| {
            let key = |tensor: &Tensor<D>| Reverse(tensor.dtype.bitsize());
            key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
        });
        let header = self.header(&tensors, &metadata)?;
        self.0.write(&(header.len() as u64).to_le_bytes())?;
        self.0.write(&header)?;
        tensors.iter().try_for_each(|tensor| self.0.write(tensor.bytes.as_ref()))?;
        Ok(self.0.commit()?)
    }

    /// The header's JSON, with spaces up to the next multiple of [`ALIGNMENT`].
    fn header<D: AsRef<[u8]>>(
        &self,
        tensors: &[Tensor<D>],
        metadata: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>, SafetensorsWriteError> {
        if tensors.len() > MAX_TENSORS {
            return Err(self.refused(format!("it would have more than {MAX_TENSORS} tensors")));
        }
        let mut entries = BTreeMap::new();
        if !metadata.is_empty() {
            entries.insert(METADATA, Entry::Metadata(metadata));
        }
        let mut start = 0;
        for tensor in tensors {
            let end = start + self.checked_len(tensor)?;
            let Tensor { name, dtype, shape, .. } = tensor;
            let entry = Entry::Tensor { dtype: *dtype, shape, data_offsets: [start, end] };
            if name == METADATA || entries.insert(name, entry).is_some() {
                return Err(self.wrong_tensor(name, "is there twice".into()));
            }
            start = end;
        }
        let mut json = serde_json::to_vec(&entries).map_err(|e| self.refused(e.to_string()))?;
        json.resize(json.len().next_multiple_of(ALIGNMENT), b' ');
        match json.len() as u64 {
            0..=MAX_HEADER_BYTES => Ok(json),
            length => Err(self.refused(format!(
                "its header would have {length} bytes, more than {MAX_HEADER_BYTES}"
            ))),
        }
    }

    /// How many bytes a tensor has: those that its shape says.
    fn checked_len<D: AsRef<[u8]>>(
        &self,
        tensor: &Tensor<D>,
    ) -> Result<usize, SafetensorsWriteError> {
        let Tensor { name, dtype, shape, bytes } = tensor;
        check_name(&self.display_path(), name)?;
        let found = bytes.as_ref().len();
        let bits = shape.iter().try_fold(dtype.bitsize(), |bits, &dim| bits.checked_mul(dim));
        match bits == found.checked_mul(8) && bits.is_some() {
            true => Ok(found),
            false => Err(self.wrong_tensor(
                name,
                format!("has {found} bytes, which {dtype} {shape:?} does not have"),
            )),
        }
    }

    fn display_path(&self) -> String {
        self.0.path().display().to_string()
    }

    fn refused(&self, reason: String) -> SafetensorsWriteError {
        SafetensorsWriteError::Header { path: self.display_path(), reason }
    }

    fn wrong_tensor(&self, tensor: &str, reason: String) -> SafetensorsWriteError {
        SafetensorsWriteError::Tensor {
            path: self.display_path(),
            tensor: tensor.to_owned(),
            reason,
        }
    }
}
