//! The one extension of burn's backend trait.
//!
//! Models call the kernels of [`Backend`] for everything heavy or delicate; each has a portable
//! default written with burn tensors, and a backend overrides what it does better. Everything that
//! depends on burn's internals stays in this module.

mod args;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod cube;
mod device;
#[cfg(feature = "flex")]
mod flex;
#[cfg(any(feature = "flex", feature = "cuda", feature = "wgpu"))]
mod geometry;
#[cfg(feature = "ndarray")]
mod ndarray;
mod portable;
mod precision;

use burn::tensor::{DType, Tensor};

pub use args::{
    AttentionArgs, ChannelNormArgs, Conv3dArgs, LayerNormArgs, ModulatedNormArgs, PackedWeight,
    RmsNormArgs, RopeArgs,
};
pub use burn::tensor::backend::Backend as BurnBackend;
#[cfg(feature = "cuda")]
pub use cube::Cuda;
#[cfg(feature = "wgpu")]
pub use cube::Wgpu;
pub use device::{DeviceError, DeviceInfo, DeviceKind, DeviceMemory};
#[cfg(feature = "flex")]
pub use flex::{CpuKernel, CpuKernelError, CpuThreadsError, cpu_threads, set_cpu_threads};
pub use portable::AttentionPlan;
pub use precision::{NetworkKind, Precision};

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

    /// The devices that [`open_device`](Self::open_device) can be asked for, in the order of their
    /// indices, the one that suits best first.
    ///
    /// # Errors
    /// If something that they all need is missing, such as a driver.
    fn devices() -> Result<Vec<DeviceInfo>, DeviceError> {
        let device = Self::open_device(0)?;
        Ok(vec![DeviceInfo { name: Self::name(&device), kind: DeviceKind::Unknown }])
    }

    /// The dtype that [`Precision::Auto`] stands for in a network on `device`.
    fn auto_dtype(_device: &Self::Device, _network: NetworkKind) -> DType {
        DType::F32
    }

    /// The memory of `device`; `None` where it computes in the host's, or its driver does not tell.
    fn device_memory(_device: &Self::Device) -> Option<DeviceMemory> {
        None
    }

    /// Does independent pieces of small work, such as passes through a miniature network: one after
    /// the other, or at the same time where that is faster. The results are in the order of `items`.
    fn wan_map<T: Send, R: Send>(items: Vec<T>, work: impl Fn(T) -> R + Send + Sync) -> Vec<R> {
        items.into_iter().map(work).collect()
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

    /// Packs a matrix or the kernel of a convolution, `[out, in, kt, kh, kw]`, if the backend has kernels for
    /// weights of this dtype in an order of their own. Then these stand in for
    /// [`wan_linear`](Self::wan_linear) and [`wan_conv3d`](Self::wan_conv3d), with operands of the dtype of the
    /// weight. Default: none is packed.
    fn wan_pack(_weight: &Tensor<Self, 5>) -> Option<PackedWeight<Self>> {
        None
    }

    /// [`wan_linear`](Self::wan_linear) by a packed matrix.
    ///
    /// # Panics
    /// If the backend packs nothing, or the dtype of `x` is another than that of the weight.
    fn wan_packed_linear<const D: usize>(
        _x: Tensor<Self, D>,
        _weight: &PackedWeight<Self>,
        _bias: Option<Tensor<Self, 1>>,
    ) -> Tensor<Self, D> {
        panic!("a backend that packs weights multiplies by them")
    }

    /// [`wan_conv3d`](Self::wan_conv3d) with a packed kernel, to f32.
    ///
    /// # Panics
    /// If the backend packs nothing, or the dtype of a frame is another than that of the kernel.
    fn wan_packed_conv3d(_args: Conv3dArgs<Self, PackedWeight<Self>>) -> Tensor<Self, 5> {
        panic!("a backend that packs weights multiplies by them")
    }

    /// GELU in its tanh approximation, in the dtype of `x`.
    fn wan_gelu(x: Tensor<Self, 3>) -> Tensor<Self, 3> {
        burn::tensor::activation::gelu_approximate(x)
    }

    /// `gelu(x) * y`, in the dtype of `x`, which is that of `y`.
    fn wan_gated_gelu(x: Tensor<Self, 3>, y: Tensor<Self, 3>) -> Tensor<Self, 3> {
        Self::wan_gelu(x) * y
    }

    /// Whether all elements are finite. Default: they are copied to the host and looked at there.
    fn wan_is_finite<const D: usize>(x: Tensor<Self, D>) -> bool {
        portable::is_finite(x)
    }

    /// The sum of all elements, `[1]` in f32. Default: they are copied to the host and added up there in f64.
    fn wan_sum<const D: usize>(x: Tensor<Self, D>) -> Tensor<Self, 1> {
        portable::sum(x)
    }

    /// The pixels of frames `[1, 3, T, H, W]` in -1..1 as rgb24, one frame after the other:
    /// `(x + 1) / 2 * 255` cut to whole numbers, as the original does. Default: values are copied to the host.
    fn wan_rgb(frames: Tensor<Self, 5>) -> Vec<u8> {
        portable::rgb(frames)
    }

    /// The most bytes that a tensor on `device` can have; `None` if only its memory is a limit.
    fn max_tensor_bytes(_device: &Self::Device) -> Option<u64> {
        None
    }

    /// `softmax(q k^T scale + bias) v` with a softmax in f32: `[B, H, Sq, D]` in the dtype of `q`.
    /// The scores are never in memory as a whole: see [`AttentionPlan`].
    fn wan_attention(args: AttentionArgs<Self>) -> Tensor<Self, 4> {
        portable::attention(args)
    }

    /// How [`wan_attention`](Self::wan_attention) cuts scores `[B, H, Sq, Sk]` into pieces.
    fn attention_plan(_device: &Self::Device, scores: [usize; 4]) -> AttentionPlan {
        AttentionPlan::new(scores, portable::MAX_SCORE_BYTES)
    }

    /// Rotates the pairs `(2i, 2i + 1)` of the last axis (rotary position embedding, interleaved),
    /// computed in f32: `[B, S, H, D]` in `dtype`.
    fn wan_rope(args: RopeArgs<Self>) -> Tensor<Self, 4> {
        portable::rope(args)
    }

    /// `(x - mean) / sqrt(var + eps) * weight + bias` over the last axis, computed in f32:
    /// `[B, S, D]` in `dtype`.
    fn wan_layer_norm(args: LayerNormArgs<Self>) -> Tensor<Self, 3> {
        portable::layer_norm(args)
    }

    /// `x / sqrt(mean(x^2) + eps) * weight` over the last axis, computed in f32: `[B, S, D]` in
    /// `dtype`.
    fn wan_rms_norm(args: RmsNormArgs<Self>) -> Tensor<Self, 3> {
        portable::rms_norm(args)
    }

    /// `layer_norm(x) * (1 + scale) + shift`, computed in f32: adaptive layer norm without weights
    /// of its own, `[B, S, D]` in `dtype`.
    fn wan_modulated_norm(args: ModulatedNormArgs<Self>) -> Tensor<Self, 3> {
        portable::modulated_norm(args)
    }

    /// `x + y * gate` in f32: the residual stream stays in f32 whatever `y` is in. `gate` is
    /// `[B, 1, D]` or `[B, S, D]`.
    fn wan_gated_residual(
        x: Tensor<Self, 3>,
        y: Tensor<Self, 3>,
        gate: Tensor<Self, 3>,
    ) -> Tensor<Self, 3> {
        portable::gated_residual(x, y, gate)
    }

    /// `x + y` in the dtype of `x`, which may be wider: the residual stream is in f32 whatever `y` is in.
    fn wan_add<const D: usize>(x: Tensor<Self, D>, y: Tensor<Self, D>) -> Tensor<Self, D> {
        let dtype = x.dtype();
        x + Self::wan_cast(y, dtype)
    }

    /// `x / max(|x|, 1e-12) sqrt(C) weight` over the channels of channels-last frames, and SiLU after it if asked
    /// for, computed in f32: the norm and the activation before each convolution of the VAE.
    fn wan_channel_norm(args: ChannelNormArgs<Self>) -> Tensor<Self, 5> {
        portable::channel_norm(args)
    }

    /// Puts a kernel `[Cout, Cin, kt, kh, kw]` into the memory order that
    /// [`wan_conv3d`](Self::wan_conv3d) reads best. The logical shape stays.
    fn wan_conv3d_weight(weight: Tensor<Self, 5>) -> Tensor<Self, 5> {
        weight
    }

    /// A 3-D convolution over channels-last frames, to `[B, T', H', W', Cout]`.
    ///
    /// `past` holds frames that came before `x` (the feature cache of a causal convolution);
    /// `padding.time` zero frames stand in front of them. With `upsample`, the frames are first
    /// enlarged by repeating each pixel: the enlarged frame need not be in memory as a whole.
    fn wan_conv3d(args: Conv3dArgs<Self>) -> Tensor<Self, 5> {
        portable::conv3d(args)
    }

    /// A tensor in another float dtype.
    fn wan_cast<const D: usize>(x: Tensor<Self, D>, dtype: DType) -> Tensor<Self, D> {
        x.cast(dtype)
    }
}
