use std::fmt;

use burn::tensor::DType;

use super::{Backend, DeviceError};

/// The number format of a network's matrix products.
///
/// Norms, softmax, modulation, the residual stream, time embeddings and the scheduler's state are in
/// f32 whatever stands here, as in the original Wan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// The best format of the device: bf16 on GPUs that multiply it and on CPUs with AVX2 or more, else f16 on GPUs
    /// that have it, else f32. On GPUs the VAE is in f32.
    #[default]
    Auto,
    /// 32 bits: the reference.
    F32,
    /// 16 bits with the range of f32: what the original computes in.
    Bf16,
    /// 16 bits with three more bits of precision than bf16, and numbers up to 65,504. Where values are
    /// known to go beyond (the feed-forward network of umT5), they are scaled.
    F16,
}

/// What a network is for, as far as its precision depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum NetworkKind {
    /// Much is read for few tokens.
    TextEncoder,
    /// The transformer.
    Transformer,
    /// The VAE, whose results are seen.
    Vae,
}

impl Precision {
    /// The dtype that this is for a network on `device`.
    ///
    /// # Errors
    /// If the device does not compute in it.
    pub fn resolve<B: Backend>(
        self,
        device: &B::Device,
        network: NetworkKind,
    ) -> Result<DType, DeviceError> {
        let Some(dtype) = self.dtype() else { return Ok(B::auto_dtype(device, network)) };
        if B::supports_dtype(device, dtype) {
            return Ok(dtype);
        }
        let works = |p: &Self| p.dtype().is_some_and(|dtype| B::supports_dtype(device, dtype));
        let supported = [Self::F32, Self::Bf16, Self::F16].into_iter().filter(works);
        let supported: Vec<String> = supported.map(|p| p.to_string()).collect();
        Err(DeviceError::Precision {
            backend: B::name(device),
            precision: self,
            supported: supported.join(" and "),
        })
    }

    fn dtype(self) -> Option<DType> {
        match self {
            Self::Auto => None,
            Self::F32 => Some(DType::F32),
            Self::Bf16 => Some(DType::BF16),
            Self::F16 => Some(DType::F16),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
            Self::F16 => "f16",
        })
    }
}
