//! The one extension of burn's backend trait.
//!
//! Models call the kernels of [`Backend`] for everything heavy or delicate; each has a portable
//! default written with burn tensors, and a backend overrides what it does better. Everything that
//! depends on burn's internals stays in this module.

#[cfg(feature = "flex")]
mod cpu;
#[cfg(any(feature = "cuda", feature = "wgpu", feature = "vulkan"))]
mod cube;
#[cfg(feature = "flex")]
mod flex;
#[cfg(feature = "ndarray")]
mod ndarray;
mod portable;

use burn::tensor::{DType, Tensor};

pub use burn::tensor::backend::Backend as BurnBackend;

/// Which dtype each part of a pipeline computes its large matrix products in.
///
/// Norms, softmax, modulation, the residual stream, time embeddings and scheduler state are f32
/// whatever stands here, as in the original Wan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DTypePolicy {
    /// The text encoder.
    pub text_encoder: DType,
    /// The transformer.
    pub denoiser: DType,
    /// The video autoencoder. The original runs it in f32.
    pub vae: DType,
}

impl DTypePolicy {
    /// Everything in f32: the reference.
    pub const F32: Self = Self { text_encoder: DType::F32, denoiser: DType::F32, vae: DType::F32 };
}

/// Why a device cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The backend has fewer devices.
    #[error("{backend} has no device {index}: it has {count}")]
    NoSuchDevice {
        /// Name of the backend.
        backend: &'static str,
        /// The device asked for.
        index: usize,
        /// How many there are.
        count: usize,
    },
    /// The driver or an adapter is missing or does not start.
    #[error("{backend} device {index} does not start: {reason}")]
    Unavailable {
        /// Name of the backend.
        backend: &'static str,
        /// The device asked for.
        index: usize,
        /// What the driver said.
        reason: String,
    },
}

/// Zeros around the input of a convolution: in front of time, and before and after height and
/// width.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Padding {
    /// Zero frames in front.
    pub time: usize,
    /// Zero rows above and below.
    pub height: [usize; 2],
    /// Zero columns left and right.
    pub width: [usize; 2],
}

/// A burn backend that can run the Wan models.
///
/// Only [`open_device`](Self::open_device) must be written to add one.
pub trait Backend: BurnBackend {
    /// The device with this index, ready to use.
    ///
    /// # Errors
    /// If there is no such device or its driver does not start.
    fn open_device(index: usize) -> Result<Self::Device, DeviceError>;

    /// The dtypes that suit `device`.
    fn dtype_policy(_device: &Self::Device) -> DTypePolicy {
        DTypePolicy::F32
    }

    /// Puts a matrix `[out, in]`, as checkpoints hold it, into the form `[in, out]` that
    /// [`wan_linear`](Self::wan_linear) reads best.
    fn wan_linear_weight(weight: Tensor<Self, 2>) -> Tensor<Self, 2> {
        weight.transpose()
    }

    /// `x w + b`: `x` is `[.., in]`, `w` is `[in, out]` of the same dtype, `b` is `[out]`.
    ///
    /// # Panics
    /// If the dtypes differ: some backends would read one as the other without an error.
    fn wan_linear<const D: usize>(
        x: Tensor<Self, D>,
        weight: Tensor<Self, 2>,
        bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, D> {
        portable::linear(x, weight, bias)
    }

    /// GELU in its tanh approximation, in the dtype of `x`.
    fn wan_gelu(x: Tensor<Self, 3>) -> Tensor<Self, 3> {
        burn::tensor::activation::gelu_approximate(x)
    }

    /// `softmax(q k^T scale + bias) v` with a softmax in f32.
    ///
    /// Shapes: `q` `[B, H, Sq, D]`, `k` and `v` `[B, H, Sk, D]`, `bias` broadcastable to
    /// `[B, H, Sq, Sk]` in f32; the result is `[B, H, Sq, D]` in the dtype of `q`. The scores are
    /// never in memory as a whole.
    fn wan_attention(
        q: Tensor<Self, 4>,
        k: Tensor<Self, 4>,
        v: Tensor<Self, 4>,
        bias: Option<Tensor<Self, 4>>,
        scale: f64,
    ) -> Tensor<Self, 4> {
        portable::attention(q, k, v, bias, scale)
    }

    /// Rotates the pairs `(2i, 2i + 1)` of the last axis (rotary position embedding, interleaved).
    ///
    /// `x` is `[B, S, H, D]`; `cos` and `sin` are `[S, D / 2]` in f32. Computed in f32, the result
    /// has the dtype of `x`.
    fn wan_rope(x: Tensor<Self, 4>, cos: Tensor<Self, 2>, sin: Tensor<Self, 2>) -> Tensor<Self, 4> {
        portable::rope(x, cos, sin)
    }

    /// `(x - mean) / sqrt(var + eps) * weight + bias` over the last axis, in f32.
    fn wan_layer_norm(
        x: Tensor<Self, 3>,
        affine: Option<(Tensor<Self, 1>, Tensor<Self, 1>)>,
        eps: f64,
    ) -> Tensor<Self, 3> {
        portable::layer_norm(x, affine, eps)
    }

    /// `x / sqrt(mean(x^2) + eps) * weight` over the last axis, in f32.
    fn wan_rms_norm(x: Tensor<Self, 3>, weight: Tensor<Self, 1>, eps: f64) -> Tensor<Self, 3> {
        portable::rms_norm(x, weight, eps)
    }

    /// `layer_norm(x) * (1 + scale) + shift` in f32: adaptive layer norm without weights of its own.
    ///
    /// `x` is `[B, S, D]`; `shift` and `scale` are `[B, 1, D]` or `[B, S, D]`, in f32.
    fn wan_modulated_norm(
        x: Tensor<Self, 3>,
        shift: Tensor<Self, 3>,
        scale: Tensor<Self, 3>,
        eps: f64,
    ) -> Tensor<Self, 3> {
        Self::wan_layer_norm(x, None, eps) * (scale + 1.0) + shift
    }

    /// `x + y * gate` in f32: the residual stream stays in f32 whatever `y` is in.
    fn wan_gated_residual(
        x: Tensor<Self, 3>,
        y: Tensor<Self, 3>,
        gate: Tensor<Self, 3>,
    ) -> Tensor<Self, 3> {
        x + y.cast(DType::F32) * gate
    }

    /// `silu(x / max(|x|, 1e-12) sqrt(C) weight)` over the channels of channels-last frames, in f32:
    /// the norm and the activation before each convolution of the VAE.
    fn wan_channel_norm_silu(x: Tensor<Self, 5>, weight: Tensor<Self, 1>) -> Tensor<Self, 5> {
        burn::tensor::activation::silu(portable::channel_norm(x, weight))
    }

    /// The same without the activation.
    fn wan_channel_norm(x: Tensor<Self, 5>, weight: Tensor<Self, 1>) -> Tensor<Self, 5> {
        portable::channel_norm(x, weight)
    }

    /// Puts a kernel `[Cout, Cin, kt, kh, kw]` into the memory order that
    /// [`wan_conv3d`](Self::wan_conv3d) reads best. The logical shape stays.
    fn wan_conv3d_weight(weight: Tensor<Self, 5>) -> Tensor<Self, 5> {
        weight
    }

    /// A 3-D convolution over channels-last frames `[B, T, H, W, Cin]`, to
    /// `[B, T', H', W', Cout]`.
    ///
    /// `past` holds frames that came before `x` (the feature cache of a causal convolution);
    /// `padding.time` zero frames stand in front of them.
    fn wan_conv3d(
        past: Option<Tensor<Self, 5>>,
        x: Tensor<Self, 5>,
        weight: Tensor<Self, 5>,
        bias: Tensor<Self, 1>,
        stride: [usize; 3],
        padding: Padding,
    ) -> Tensor<Self, 5> {
        portable::conv3d(past, x, weight, bias, stride, padding)
    }

    /// Doubles height and width of channels-last frames by repeating each pixel.
    fn wan_upsample(x: Tensor<Self, 5>) -> Tensor<Self, 5> {
        portable::upsample(x)
    }
}
