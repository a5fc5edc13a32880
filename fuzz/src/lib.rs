//! What the fuzz targets share.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use wan_io::weights::{Dtype, StoredTensor, Weights};
use wan_models::load::{Network, TensorSource};
use wan_pipeline::backend::NdArray;

/// How much is read of all tensors of a file. A few bytes can stand for views of gigabytes, which
/// is slow, but no error.
const MAX_READ: usize = 64 << 20;

/// The folder of this process; readers open files, so bytes have to become one. `TMPDIR` should lie
/// in memory.
pub fn folder() -> &'static Path {
    static FOLDER: LazyLock<PathBuf> =
        LazyLock::new(|| tempfile::tempdir().expect("a temporary folder").keep());
    &FOLDER
}

/// Writes a file into [`folder`].
pub fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    fs::write(&path, bytes).expect("the temporary folder can be written");
    path
}

/// Reads the tensors: each has as many bytes as its shape and dtype say.
pub fn read_all(weights: &Weights) {
    let mut read = 0;
    for name in weights.names() {
        let tensor = weights.tensor(name).expect("a tensor that is listed");
        let numbers: usize = tensor.shape.iter().product();
        let bytes = tensor.bytes().expect("the file is as it was");
        assert_eq!(numbers * tensor.dtype.bitsize(), bytes.len() * 8, "{name}");
        read += bytes.len();
        if read > MAX_READ {
            return;
        }
    }
}

/// A checkpoint that has names and shapes, but no numbers.
#[derive(Debug, Default)]
pub struct Shapes(pub BTreeMap<String, Vec<usize>>);

impl TensorSource for Shapes {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let shape = self.0.get(name)?;
        Some(StoredTensor::in_memory(Dtype::F32, shape, &[0_u8; 0][..]))
    }

    fn origin(&self) -> String {
        "shapes".into()
    }
}

/// Lets a network ask for all its tensors, with their shapes; nothing is read.
pub fn ask<N: Network<NdArray>>(source: &Arc<dyn TensorSource>, config: &N::Config) {
    let result = wan_models::load::check::<NdArray, N>(source, &Default::default(), wan_pipeline::burn::tensor::DType::F32, config);
    drop(result.map_err(|error| error.to_string()));
}
