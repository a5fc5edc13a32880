//! Joins the files of [`wan_io`] to the models of [`wan_models`], which do not know of each other.

use std::sync::Arc;

use wan_io::weights::{Dtype, Weights};
use wan_models::weights::{FileDType, RawTensor, TensorSource};

/// Opened weight files as what a model is loaded from.
pub fn tensor_source(weights: Weights) -> Arc<dyn TensorSource> {
    Arc::new(Opened(weights))
}

struct Opened(Weights);

impl TensorSource for Opened {
    fn names(&self) -> Vec<String> {
        self.0.names().map(str::to_owned).collect()
    }

    fn tensor(&self, name: &str) -> Option<RawTensor<'_>> {
        let stored = self.0.tensor(name)?;
        let dtype = match stored.dtype {
            Dtype::F32 => FileDType::F32,
            Dtype::F16 => FileDType::F16,
            Dtype::BF16 => FileDType::Bf16,
            other => FileDType::Other(other.to_string()),
        };
        Some(RawTensor { dtype, shape: stored.shape.to_vec(), bytes: stored.bytes })
    }

    fn origin(&self) -> String {
        self.0.origin().to_owned()
    }

    fn release_tensor(&self, name: &str) {
        self.0.release_tensor(name);
    }

    fn release(&self) {
        self.0.release();
    }
}
