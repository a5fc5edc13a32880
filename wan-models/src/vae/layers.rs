//! The layers of the encoder and the decoder. They see one frame at a time, channels-last:
//! `[B, 1, H, W, C]`.

use burn::tensor::{DType, Tensor};
use wan_core::backend::{AttentionArgs, Padding};
use wan_core::{Backend, BurnBackend};

use super::cache::{FeatureCache, Slot};
use crate::Probe;
use crate::layers::{ChannelNorm, Conv3d, ConvForm, Linear};
use crate::load::Scope;
use crate::probe::Trace;

const ONE_AROUND: [usize; 2] = [1, 1];

/// A convolution that sees no later frame: its time axis is padded in front only, with the frames
/// before, or zeros at the start of a video.
#[derive(Debug, Clone)]
pub(super) struct CausalConv<B: BurnBackend> {
    conv: Conv3d<B>,
    kernel_t: usize,
    padding: usize,
}

impl<B: Backend> CausalConv<B> {
    /// A kernel of 3 along time and `kernel` along height and width.
    pub(super) fn load(scope: &Scope<B>, channels: [usize; 2], kernel: usize) -> Self {
        let conv = Conv3d::load(scope, channels, [3, kernel, kernel]);
        Self { conv, kernel_t: 3, padding: kernel / 2 }
    }

    /// The dtype that it reads.
    pub(super) fn dtype(&self) -> DType {
        self.conv.dtype()
    }

    pub(super) fn forward(&self, x: Tensor<B, 5>, slot: &mut Slot<B>) -> Tensor<B, 5> {
        // As the convolution reads it, so that it is remembered without a copy.
        let x = B::wan_cast(x, self.conv.dtype());
        let past = slot.remember(&x);
        let (time, around) = (self.kernel_t - 1 - past.len(), [self.padding; 2]);
        let padding = Padding { time, height: around, width: around };
        self.conv.forward(past, x, ConvForm { padding, ..ConvForm::default() })
    }
}

/// Two convolutions, each after a norm and an activation, beside a shortcut.
#[derive(Debug, Clone)]
pub(super) struct ResidualBlock<B: BurnBackend> {
    norm1: ChannelNorm<B>,
    conv1: CausalConv<B>,
    norm2: ChannelNorm<B>,
    conv2: CausalConv<B>,
    shortcut: Option<Linear<B>>,
}

impl<B: Backend> ResidualBlock<B> {
    pub(super) fn load(scope: &Scope<B>, input: usize, output: usize) -> Self {
        let shortcut = || Linear::load_pointwise(&scope.at("conv_shortcut"), input, output, 3);
        Self {
            norm1: ChannelNorm::load(&scope.at("norm1"), input, 3),
            conv1: CausalConv::load(&scope.at("conv1"), [input, output], 3),
            norm2: ChannelNorm::load(&scope.at("norm2"), output, 3),
            conv2: CausalConv::load(&scope.at("conv2"), [output, output], 3),
            shortcut: (input != output).then(shortcut),
        }
    }

    pub(super) fn forward(&self, x: Tensor<B, 5>, cache: &mut FeatureCache<B>) -> Tensor<B, 5> {
        let shortcut = match &self.shortcut {
            Some(shortcut) => shortcut.forward(x.clone()),
            None => x.clone(),
        };
        let dtype = self.conv1.dtype();
        let x = self.conv1.forward(self.norm1.forward_silu(x, dtype), cache.slot());
        let x = self.conv2.forward(self.norm2.forward_silu(x, dtype), cache.slot());
        B::wan_add(x, shortcut)
    }
}

/// Self-attention with one head among the pixels of each frame.
#[derive(Debug, Clone)]
pub(super) struct AttentionBlock<B: BurnBackend> {
    norm: ChannelNorm<B>,
    to_qkv: Linear<B>,
    proj: Linear<B>,
}

impl<B: Backend> AttentionBlock<B> {
    fn load(scope: &Scope<B>, width: usize) -> Self {
        Self {
            norm: ChannelNorm::load(&scope.at("norm"), width, 2),
            to_qkv: Linear::load_pointwise(&scope.at("to_qkv"), width, 3 * width, 2),
            proj: Linear::load_pointwise(&scope.at("proj"), width, width, 2),
        }
    }

    pub(super) fn forward(&self, x: Tensor<B, 5>) -> Tensor<B, 5> {
        let [batch, frames, height, width, channels] = x.dims();
        let normed = self.norm.forward(x.clone(), self.to_qkv.dtype());
        let pixels = normed.reshape([batch * frames, 1, height * width, channels]);
        let qkv = self.to_qkv.forward(pixels);
        let [q, k, v] = [0, 1, 2].map(|i| qkv.clone().narrow(3, i * channels, channels));
        let attended =
            B::wan_attention(AttentionArgs::new(q, k, v, 1.0 / (channels as f64).sqrt()));
        let y = self.proj.forward(attended);
        B::wan_add(x, y.reshape([batch, frames, height, width, channels]))
    }
}

/// The bottleneck: a residual block, attention, a residual block.
#[derive(Debug, Clone)]
pub(super) struct MiddleBlock<B: BurnBackend> {
    first: ResidualBlock<B>,
    attention: AttentionBlock<B>,
    second: ResidualBlock<B>,
}

impl<B: Backend> MiddleBlock<B> {
    pub(super) fn load(scope: &Scope<B>, width: usize) -> Self {
        Self {
            first: ResidualBlock::load(&scope.at("resnets.0"), width, width),
            attention: AttentionBlock::load(&scope.at("attentions.0"), width),
            second: ResidualBlock::load(&scope.at("resnets.1"), width, width),
        }
    }

    pub(super) fn forward(
        &self,
        x: Tensor<B, 5>,
        cache: &mut FeatureCache<B>,
        mut trace: Trace<'_, impl Probe<B>>,
    ) -> Tensor<B, 5> {
        let x = self.first.forward(x, cache);
        let x = trace.seen_frames("attention", self.attention.forward(x));
        self.second.forward(x, cache)
    }
}

/// Doubles height and width, and time too if it has a temporal convolution.
#[derive(Debug, Clone)]
pub(super) struct Upsample<B: BurnBackend> {
    conv: Conv3d<B>,
    time_conv: Option<CausalConv<B>>,
}

impl<B: Backend> Upsample<B> {
    /// `channels` is input, output.
    pub(super) fn load(scope: &Scope<B>, channels: [usize; 2], temporal: bool) -> Self {
        let width = channels[0];
        let time_conv = || CausalConv::load(&scope.at("time_conv"), [width, 2 * width], 1);
        Self {
            conv: Conv3d::load_2d(&scope.at("resample.1"), channels, [3, 3]),
            time_conv: temporal.then(time_conv),
        }
    }

    /// The one or two frames that a frame becomes, each computed when it is asked for.
    pub(super) fn forward<'a>(
        &'a self,
        x: Tensor<B, 5>,
        cache: &mut FeatureCache<B>,
    ) -> impl ExactSizeIterator<Item = Tensor<B, 5>> + use<'a, B> {
        let frames = match &self.time_conv {
            Some(time_conv) => double_time(time_conv, x, cache.exact_slot()),
            None => vec![x],
        };
        let padding = Padding { time: 0, height: ONE_AROUND, width: ONE_AROUND };
        let form = ConvForm { padding, upsample: true, ..ConvForm::default() };
        let enlarge = move |x| self.conv.forward(Vec::new(), x, form);
        frames.into_iter().map(enlarge)
    }
}

/// The convolution makes two frames of each, side by side in the channels. The first frame of a
/// video stays one frame and is never seen by the convolution.
fn double_time<B: Backend>(
    time_conv: &CausalConv<B>,
    x: Tensor<B, 5>,
    slot: &mut Slot<B>,
) -> Vec<Tensor<B, 5>> {
    if slot.begin() {
        return vec![x];
    }
    let channels = x.dims()[4];
    let pair = time_conv.forward(x, slot);
    vec![pair.clone().narrow(4, 0, channels), pair.narrow(4, channels, channels)]
}

/// Halves height and width, and time too if it has a temporal convolution.
#[derive(Debug, Clone)]
pub(super) struct Downsample<B: BurnBackend> {
    conv: Conv3d<B>,
    time_conv: Option<Conv3d<B>>,
}

impl<B: Backend> Downsample<B> {
    pub(super) fn load(scope: &Scope<B>, width: usize, temporal: bool) -> Self {
        let time_conv = || Conv3d::load(&scope.at("time_conv"), [width, width], [3, 1, 1]);
        Self {
            conv: Conv3d::load_2d(&scope.at("resample.1"), [width, width], [3, 3]),
            time_conv: temporal.then(time_conv),
        }
    }

    /// Nothing comes of the first frame of a pair.
    pub(super) fn forward(
        &self,
        x: Tensor<B, 5>,
        cache: &mut FeatureCache<B>,
    ) -> Option<Tensor<B, 5>> {
        let behind = Padding { time: 0, height: [0, 1], width: [0, 1] };
        let form = ConvForm { stride: [1, 2, 2], padding: behind, upsample: false };
        let x = self.conv.forward(Vec::new(), x, form);
        match &self.time_conv {
            Some(time_conv) => halve_time(time_conv, x, cache.exact_slot()),
            None => Some(x),
        }
    }
}

/// The first frame of a video passes unchanged; later ones are joined in pairs, with a look at the
/// last frame before them.
fn halve_time<B: Backend>(
    time_conv: &Conv3d<B>,
    x: Tensor<B, 5>,
    slot: &mut Slot<B>,
) -> Option<Tensor<B, 5>> {
    // As the convolution reads it.
    let past = slot.remember(&B::wan_cast(x.clone(), time_conv.dtype()));
    match past.len() {
        0 => Some(x),
        1 => None,
        _ => {
            slot.forget(1);
            let form = ConvForm { stride: [2, 1, 1], ..ConvForm::default() };
            Some(time_conv.forward(past, x, form))
        }
    }
}
