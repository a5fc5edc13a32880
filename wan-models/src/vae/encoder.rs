use burn::tensor::{DType, Tensor};
use wan_core::{Backend, BurnBackend};

use super::cache::FeatureCache;
use super::layers::{CausalConv, Downsample, MiddleBlock, ResidualBlock};
use super::shortcuts::AvgDown;
use super::{WanVaeConfig, channels_first};
use crate::Probe;
use crate::layers::ChannelNorm;
use crate::load::Scope;
use crate::probe::Trace;

/// From frames to the mean and logarithmic variance of their latents.
#[derive(Debug, Clone)]
pub(super) struct Encoder<B: BurnBackend> {
    conv_in: CausalConv<B>,
    down_blocks: Vec<DownBlock<B>>,
    mid_block: MiddleBlock<B>,
    norm_out: ChannelNorm<B>,
    conv_out: CausalConv<B>,
}

#[derive(Debug, Clone)]
#[allow(clippy::large_enum_variant)] // a dozen of them, and most are the large one
enum DownBlock<B: BurnBackend> {
    Residual(ResidualBlock<B>),
    Downsample(Downsample<B>),
    Level(DownLevel<B>),
}

/// A level of the residual layout: residual blocks, then downsampling except in the last, and a shortcut
/// around both.
#[derive(Debug, Clone)]
struct DownLevel<B: BurnBackend> {
    resnets: Vec<ResidualBlock<B>>,
    downsampler: Option<Downsample<B>>,
    shortcut: AvgDown,
}

impl<B: Backend> Encoder<B> {
    pub(super) fn load(config: &WanVaeConfig, scope: &Scope<B>) -> Self {
        let widths: Vec<usize> = config.dim_mult.iter().map(|m| m * config.base_dim).collect();
        let last = widths[widths.len() - 1];
        let first = [config.in_channels, config.base_dim];
        Self {
            conv_in: CausalConv::load(&scope.at("conv_in"), first, 3),
            down_blocks: DownBlock::load_all(config, scope, &widths),
            mid_block: MiddleBlock::load(&scope.at("mid_block"), last),
            norm_out: ChannelNorm::load(&scope.at("norm_out"), last, 3),
            conv_out: CausalConv::load(&scope.at("conv_out"), [last, 2 * config.z_dim], 3),
        }
    }

    /// The next frame `[B, 1, H, W, 3]` of a video, or such a frame packed. A latent frame comes of the first
    /// and then of every fourth: the others wait where time is halved.
    pub(super) fn forward(
        &self,
        frame: Tensor<B, 5>,
        cache: &mut FeatureCache<B>,
        mut trace: Trace<'_, impl Probe<B>>,
    ) -> Option<Tensor<B, 5>> {
        cache.rewind();
        let mut x = trace.seen_frames("conv_in", self.conv_in.forward(frame, cache.slot()));
        for (i, block) in self.down_blocks.iter().enumerate() {
            x = trace.seen_frames(&format!("down_blocks.{i}"), block.forward(x, cache)?);
        }
        let x = self.mid_block.forward(x, cache, trace.at("mid_block"));
        let x = trace.seen_frames("mid_block", x);
        trace.see("norm_out", || channels_first(self.norm_out.forward(x.clone(), DType::F32)));
        let x = self.norm_out.forward_silu(x, self.conv_out.dtype());
        Some(trace.seen_frames("output", self.conv_out.forward(x, cache.slot())))
    }
}

impl<B: Backend> DownBlock<B> {
    fn load_all(config: &WanVaeConfig, scope: &Scope<B>, widths: &[usize]) -> Vec<Self> {
        let mut blocks = Vec::new();
        let mut input = config.base_dim;
        for (level, &width) in widths.iter().enumerate() {
            let temporal = config.temporal_downsample.get(level).copied();
            let next = |i: usize| scope.at(format_args!("down_blocks.{i}"));
            if config.is_residual {
                let level = DownLevel::load(config, &next(level), [input, width], temporal);
                blocks.push(Self::Level(level));
                input = width;
                continue;
            }
            for _ in 0..config.num_res_blocks {
                let scope = next(blocks.len());
                blocks.push(Self::Residual(ResidualBlock::load(&scope, input, width)));
                input = width;
            }
            if let Some(temporal) = temporal {
                let scope = next(blocks.len());
                blocks.push(Self::Downsample(Downsample::load(&scope, width, temporal)));
            }
        }
        blocks
    }

    fn forward(&self, x: Tensor<B, 5>, cache: &mut FeatureCache<B>) -> Option<Tensor<B, 5>> {
        match self {
            Self::Residual(block) => Some(block.forward(x, cache)),
            Self::Downsample(block) => block.forward(x, cache),
            Self::Level(level) => level.forward(x, cache),
        }
    }
}

impl<B: Backend> DownLevel<B> {
    /// `temporal` is `None` in the last level.
    fn load(
        config: &WanVaeConfig,
        scope: &Scope<B>,
        [mut input, output]: [usize; 2],
        temporal: Option<bool>,
    ) -> Self {
        let mut resnets = Vec::new();
        for i in 0..config.num_res_blocks {
            let scope = scope.at(format_args!("resnets.{i}"));
            resnets.push(ResidualBlock::load(&scope, input, output));
            input = output;
        }
        let downsampler = |temporal| Downsample::load(&scope.at("downsampler"), output, temporal);
        Self {
            resnets,
            downsampler: temporal.map(downsampler),
            shortcut: AvgDown::new(output, temporal),
        }
    }

    /// The shortcut goes first: it is smaller than what it is made of. Both ways give something of the same
    /// frames.
    fn forward(&self, x: Tensor<B, 5>, cache: &mut FeatureCache<B>) -> Option<Tensor<B, 5>> {
        let shortcut = self.shortcut.forward(x.clone(), cache.exact_slot());
        let mut x = self.resnets.iter().fold(x, |x, resnet| resnet.forward(x, cache));
        if let Some(downsampler) = &self.downsampler {
            x = downsampler.forward(x, cache)?;
        }
        Some(x + shortcut?)
    }
}
