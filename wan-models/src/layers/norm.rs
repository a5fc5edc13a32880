//! Norms. All compute in f32, whatever they are given, with weights in f32.

use burn::tensor::{DType, Tensor};
use wan_core::backend::{ChannelNormArgs, LayerNormArgs, ModulatedNormArgs, RmsNormArgs};
use wan_core::{Backend, BurnBackend};

use crate::load::Scope;

/// `x / sqrt(mean(x^2) + eps) * weight`; see [`Backend::wan_rms_norm`].
#[derive(Debug, Clone)]
pub(crate) struct RmsNorm<B: BurnBackend> {
    /// `[D]`
    weight: Tensor<B, 1>,
    eps: f64,
    /// Of the output.
    dtype: DType,
}

impl<B: Backend> RmsNorm<B> {
    pub(crate) fn load(scope: &Scope<B>, width: usize, eps: f64, dtype: DType) -> Self {
        Self { weight: scope.in_f32().tensor("weight", [width]), eps, dtype }
    }

    pub(crate) fn device(&self) -> B::Device {
        self.weight.device()
    }

    /// `[B, S, D]`
    pub(crate) fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let args = RmsNormArgs::new(x, self.weight.clone(), self.eps);
        B::wan_rms_norm(args.dtype(self.dtype))
    }
}

/// `(x - mean) / sqrt(var + eps) * weight + bias`; see [`Backend::wan_layer_norm`].
#[derive(Debug, Clone)]
pub(crate) struct LayerNorm<B: BurnBackend> {
    /// `[D]`
    weight: Tensor<B, 1>,
    /// `[D]`
    bias: Tensor<B, 1>,
    eps: f64,
    /// Of the output.
    dtype: DType,
}

impl<B: Backend> LayerNorm<B> {
    pub(crate) fn load(scope: &Scope<B>, width: usize, eps: f64, dtype: DType) -> Self {
        let tensor = |name| scope.in_f32().tensor(name, [width]);
        Self { weight: tensor("weight"), bias: tensor("bias"), eps, dtype }
    }

    pub(crate) fn device(&self) -> B::Device {
        self.weight.device()
    }

    /// `[B, S, D]`
    pub(crate) fn forward(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        let affine = (self.weight.clone(), self.bias.clone());
        B::wan_layer_norm(LayerNormArgs::new(x, self.eps).affine(affine).dtype(self.dtype))
    }
}

/// Adaptive layer norm: `(x - mean) / sqrt(var + eps) * (1 + scale) + shift`, where the timestep says
/// shift and scale; see [`Backend::wan_modulated_norm`].
#[derive(Debug, Clone)]
pub(crate) struct ModulatedNorm {
    eps: f64,
    /// Of the output.
    dtype: DType,
}

impl ModulatedNorm {
    pub(crate) fn new(eps: f64, dtype: DType) -> Self {
        Self { eps, dtype }
    }

    /// `x` is `[B, S, D]`; `shift` and `scale` are `[B, 1, D]` or `[B, S, D]`, in f32.
    pub(crate) fn forward<B: Backend>(
        &self,
        x: Tensor<B, 3>,
        shift: Tensor<B, 3>,
        scale: Tensor<B, 3>,
    ) -> Tensor<B, 3> {
        let args = ModulatedNormArgs::new(x, shift, scale, self.eps);
        B::wan_modulated_norm(args.dtype(self.dtype))
    }

    /// The norm before it is modulated, in f32: what references have as a layer of its own.
    pub(crate) fn unmodulated<B: Backend>(&self, x: Tensor<B, 3>) -> Tensor<B, 3> {
        B::wan_layer_norm(LayerNormArgs::new(x, self.eps))
    }
}

/// `x / |x| sqrt(C) weight` over the channels of channels-last frames; see
/// [`Backend::wan_channel_norm`].
#[derive(Debug, Clone)]
pub(crate) struct ChannelNorm<B: BurnBackend> {
    /// `[C]`
    weight: Tensor<B, 1>,
}

impl<B: Backend> ChannelNorm<B> {
    /// The weight is stored with `ones` trailing axes of 1.
    pub(crate) fn load(scope: &Scope<B>, channels: usize, ones: usize) -> Self {
        let stored = [&[channels], vec![1; ones].as_slice()].concat();
        Self { weight: scope.in_f32().reshaped("gamma", &stored, [channels]) }
    }

    /// `[B, T, H, W, C]` to `dtype`: that of what reads it next.
    pub(crate) fn forward(&self, x: Tensor<B, 5>, dtype: DType) -> Tensor<B, 5> {
        B::wan_channel_norm(ChannelNormArgs::new(x, self.weight.clone()).dtype(dtype))
    }

    /// The norm and SiLU after it.
    pub(crate) fn forward_silu(&self, x: Tensor<B, 5>, dtype: DType) -> Tensor<B, 5> {
        let args = ChannelNormArgs::new(x, self.weight.clone()).silu(true);
        B::wan_channel_norm(args.dtype(dtype))
    }
}
