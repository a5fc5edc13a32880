//! The operands of the kernels that take more than three.
//!
//! Each struct is made by `new` with what the kernel cannot do without; the rest has a default and a
//! method of its own. A field that is added later has a default too, so that neither backends nor
//! callers have to change for it.

use burn::tensor::{DType, Int, Tensor};

use super::{BurnBackend, Padding};

/// The operands of [`wan_attention`](super::Backend::wan_attention): `softmax(q k^T scale + bias) v`.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AttentionArgs<B: BurnBackend> {
    /// Queries, `[B, H, Sq, D]`.
    pub q: Tensor<B, 4>,
    /// Keys, `[B, H, Sk, D]`.
    pub k: Tensor<B, 4>,
    /// Values, `[B, H, Sk, D]`.
    pub v: Tensor<B, 4>,
    /// Added to the scores: broadcastable to `[B, H, Sq, Sk]`, in f32.
    pub bias: Option<Tensor<B, 4>>,
    /// The factor of the scores, usually `1 / sqrt(D)`.
    pub scale: f64,
}

impl<B: BurnBackend> AttentionArgs<B> {
    /// Attention without a bias.
    pub fn new(q: Tensor<B, 4>, k: Tensor<B, 4>, v: Tensor<B, 4>, scale: f64) -> Self {
        Self { q, k, v, bias: None, scale }
    }

    /// Sets [`bias`](Self::bias).
    pub fn bias(self, bias: impl Into<Option<Tensor<B, 4>>>) -> Self {
        Self { bias: bias.into(), ..self }
    }
}

/// The operands of [`wan_rope`](super::Backend::wan_rope).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RopeArgs<B: BurnBackend> {
    /// `[B, S, H, D]`
    pub x: Tensor<B, 4>,
    /// Cosines of the angles, `[S, D / 2]` in f32.
    pub cos: Tensor<B, 2>,
    /// Sines of the angles, `[S, D / 2]` in f32.
    pub sin: Tensor<B, 2>,
    /// The dtype of the result.
    pub dtype: DType,
}

impl<B: BurnBackend> RopeArgs<B> {
    /// A rotation to f32.
    pub fn new(x: Tensor<B, 4>, cos: Tensor<B, 2>, sin: Tensor<B, 2>) -> Self {
        Self { x, cos, sin, dtype: DType::F32 }
    }

    /// Sets [`dtype`](Self::dtype).
    pub fn dtype(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }
}

/// The operands of [`wan_layer_norm`](super::Backend::wan_layer_norm):
/// `(x - mean) / sqrt(var + eps) * weight + bias` over the last axis.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct LayerNormArgs<B: BurnBackend> {
    /// `[B, S, D]`
    pub x: Tensor<B, 3>,
    /// Weight and bias, `[D]` each in f32; without them the norm ends with the division.
    pub affine: Option<(Tensor<B, 1>, Tensor<B, 1>)>,
    /// Added to the variance.
    pub eps: f64,
    /// The dtype of the result: that of what reads it next.
    pub dtype: DType,
}

impl<B: BurnBackend> LayerNormArgs<B> {
    /// A norm without weight and bias, to f32.
    pub fn new(x: Tensor<B, 3>, eps: f64) -> Self {
        Self { x, affine: None, eps, dtype: DType::F32 }
    }

    /// Sets [`affine`](Self::affine): weight and bias.
    pub fn affine(self, affine: impl Into<Option<(Tensor<B, 1>, Tensor<B, 1>)>>) -> Self {
        Self { affine: affine.into(), ..self }
    }

    /// Sets [`dtype`](Self::dtype).
    pub fn dtype(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }
}

/// The operands of [`wan_rms_norm`](super::Backend::wan_rms_norm):
/// `x / sqrt(mean(x^2) + eps) * weight` over the last axis.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RmsNormArgs<B: BurnBackend> {
    /// `[B, S, D]`
    pub x: Tensor<B, 3>,
    /// `[D]` in f32.
    pub weight: Tensor<B, 1>,
    /// Added to the mean square.
    pub eps: f64,
    /// The dtype of the result: that of what reads it next.
    pub dtype: DType,
}

impl<B: BurnBackend> RmsNormArgs<B> {
    /// A norm to f32.
    pub fn new(x: Tensor<B, 3>, weight: Tensor<B, 1>, eps: f64) -> Self {
        Self { x, weight, eps, dtype: DType::F32 }
    }

    /// Sets [`dtype`](Self::dtype).
    pub fn dtype(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }
}

/// The operands of [`wan_modulated_norm`](super::Backend::wan_modulated_norm):
/// `(x - mean) / sqrt(var + eps) * (1 + scale) + shift` over the last axis.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ModulatedNormArgs<B: BurnBackend> {
    /// `[B, S, D]`
    pub x: Tensor<B, 3>,
    /// `[B, 1, D]` or `[B, S, D]`, in f32.
    pub shift: Tensor<B, 3>,
    /// Of the shape of `shift`, in f32.
    pub scale: Tensor<B, 3>,
    /// Added to the variance.
    pub eps: f64,
    /// The dtype of the result: that of what reads it next.
    pub dtype: DType,
}

impl<B: BurnBackend> ModulatedNormArgs<B> {
    /// A norm to f32.
    pub fn new(x: Tensor<B, 3>, shift: Tensor<B, 3>, scale: Tensor<B, 3>, eps: f64) -> Self {
        Self { x, shift, scale, eps, dtype: DType::F32 }
    }

    /// Sets [`dtype`](Self::dtype).
    pub fn dtype(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }
}

/// The operands of [`wan_channel_norm`](super::Backend::wan_channel_norm):
/// `x / max(|x|, 1e-12) sqrt(C) weight` over the channels, and SiLU after it if asked for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ChannelNormArgs<B: BurnBackend> {
    /// Channels-last frames, `[B, T, H, W, C]`.
    pub x: Tensor<B, 5>,
    /// `[C]` in f32.
    pub weight: Tensor<B, 1>,
    /// Whether SiLU comes after the norm.
    pub silu: bool,
    /// The dtype of the result: that of what reads it next.
    pub dtype: DType,
}

impl<B: BurnBackend> ChannelNormArgs<B> {
    /// A norm alone, to f32.
    pub fn new(x: Tensor<B, 5>, weight: Tensor<B, 1>) -> Self {
        Self { x, weight, silu: false, dtype: DType::F32 }
    }

    /// Sets [`silu`](Self::silu).
    pub fn silu(self, silu: bool) -> Self {
        Self { silu, ..self }
    }

    /// Sets [`dtype`](Self::dtype).
    pub fn dtype(self, dtype: DType) -> Self {
        Self { dtype, ..self }
    }
}

/// A matrix, or the kernel of a convolution, in the order in which the kernels of a backend read it: what
/// [`wan_pack`](super::Backend::wan_pack) makes of it.
#[derive(Debug, Clone)]
pub struct PackedWeight<B: BurnBackend> {
    words: Tensor<B, 3, Int>,
    kernel: [usize; 5],
}

impl<B: BurnBackend> PackedWeight<B> {
    /// What a backend has packed. `kernel` is `[out, in, kt, kh, kw]`; a matrix has a kernel of one pixel.
    pub fn new(words: Tensor<B, 3, Int>, kernel: [usize; 5]) -> Self {
        Self { words, kernel }
    }

    /// The packed elements; their order is known to the backend alone.
    pub fn words(&self) -> &Tensor<B, 3, Int> {
        &self.words
    }

    /// `[out, in, kt, kh, kw]`
    pub fn kernel(&self) -> [usize; 5] {
        self.kernel
    }
}

/// The operands of [`wan_conv3d`](super::Backend::wan_conv3d). Frames are channels-last. `W` is the kernel, as it
/// is or [packed](PackedWeight).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Conv3dArgs<B: BurnBackend, W = Tensor<B, 5>> {
    /// Frames that came before `x`, the oldest first, `[B, Tp, H, W, Cin]` each: the feature cache of
    /// a causal convolution. They may have another float dtype than `x`.
    pub past: Vec<Tensor<B, 5>>,
    /// `[B, T, H, W, Cin]`
    pub x: Tensor<B, 5>,
    /// `[Cout, Cin, kt, kh, kw]`, from [`wan_conv3d_weight`](super::Backend::wan_conv3d_weight).
    pub weight: W,
    /// `[Cout]`
    pub bias: Tensor<B, 1>,
    /// Along time, height and width.
    pub stride: [usize; 3],
    /// Zeros around `past` and `x` together.
    pub padding: Padding,
    /// Whether height and width of the frames are doubled first, by repeating each pixel.
    pub upsample: bool,
}

impl<B: BurnBackend, W> Conv3dArgs<B, W> {
    /// A convolution of `x` alone, with a stride of 1 and no padding.
    pub fn new(x: Tensor<B, 5>, weight: W, bias: Tensor<B, 1>) -> Self {
        let (stride, padding) = ([1; 3], Padding::default());
        Self { past: Vec::new(), x, weight, bias, stride, padding, upsample: false }
    }

    /// Sets [`past`](Self::past).
    pub fn past(self, past: impl IntoIterator<Item = Tensor<B, 5>>) -> Self {
        Self { past: past.into_iter().collect(), ..self }
    }

    /// Sets [`stride`](Self::stride).
    pub fn stride(self, stride: [usize; 3]) -> Self {
        Self { stride, ..self }
    }

    /// Sets [`padding`](Self::padding).
    pub fn padding(self, padding: Padding) -> Self {
        Self { padding, ..self }
    }

    /// Sets [`upsample`](Self::upsample).
    pub fn upsample(self, upsample: bool) -> Self {
        Self { upsample, ..self }
    }
}
