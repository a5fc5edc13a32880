use burn::tensor::{DType, Tensor};
use wan_core::{Backend, BurnBackend};

use super::cache::FeatureCache;
use super::layers::{CausalConv, MiddleBlock, ResidualBlock, Upsample};
use super::shortcuts::DupUp;
use super::{WanVaeConfig, channels_first};
use crate::Probe;
use crate::layers::ChannelNorm;
use crate::load::Scope;
use crate::probe::Trace;

/// From latents to frames.
#[derive(Debug, Clone)]
pub(super) struct Decoder<B: BurnBackend> {
    conv_in: CausalConv<B>,
    mid_block: MiddleBlock<B>,
    up_blocks: Vec<UpBlock<B>>,
    norm_out: ChannelNorm<B>,
    conv_out: CausalConv<B>,
}

/// One level: residual blocks, then upsampling except at full resolution; in the residual layout with a
/// shortcut around it, where there is upsampling.
#[derive(Debug, Clone)]
struct UpBlock<B: BurnBackend> {
    resnets: Vec<ResidualBlock<B>>,
    upsampler: Option<Upsample<B>>,
    shortcut: Option<DupUp>,
}

impl<B: Backend> Decoder<B> {
    pub(super) fn load(config: &WanVaeConfig, scope: &Scope<B>) -> Self {
        let widths = config.decoder_widths();
        let mut input = widths[0];
        let mut up_blocks = Vec::new();
        for (level, &width) in widths.iter().enumerate() {
            let temporal = config.temporal_downsample.iter().rev().nth(level).copied();
            let scope = scope.at(format_args!("up_blocks.{level}"));
            up_blocks.push(UpBlock::load(config, &scope, [input, width], temporal));
            input = config.upsampled_width(width);
        }
        let output = widths[widths.len() - 1];
        Self {
            conv_in: CausalConv::load(&scope.at("conv_in"), [config.z_dim, widths[0]], 3),
            mid_block: MiddleBlock::load(&scope.at("mid_block"), widths[0]),
            up_blocks,
            norm_out: ChannelNorm::load(&scope.at("norm_out"), output, 3),
            conv_out: CausalConv::load(&scope.at("conv_out"), [output, config.out_channels], 3),
        }
    }

    /// One latent frame `[B, 1, h, w, C]` to the frames `[B, 1, H, W, 3]` that it stands for (still packed,
    /// if they were): one for the first of a video, four for each later one.
    pub(super) fn forward(
        &self,
        latent: Tensor<B, 5>,
        cache: &mut FeatureCache<B>,
        mut trace: Trace<'_, impl Probe<B>>,
    ) -> Vec<Tensor<B, 5>> {
        cache.rewind();
        let x = trace.seen_frames("conv_in", self.conv_in.forward(latent, cache.slot()));
        let x = self.mid_block.forward(x, cache, trace.at("mid_block"));
        let x = trace.seen_frames("mid_block", x);
        let mut frames = Vec::new();
        self.go_up(0, x, cache, &mut trace, &mut frames);
        frames
    }

    /// The levels from `level` on. Where one makes two frames of one, the first goes all the way up
    /// before the second is made: few are in memory at a time.
    fn go_up(
        &self,
        level: usize,
        x: Tensor<B, 5>,
        cache: &mut FeatureCache<B>,
        trace: &mut Trace<'_, impl Probe<B>>,
        frames: &mut Vec<Tensor<B, 5>>,
    ) {
        let name = format!("up_blocks.{level}");
        let UpBlock { resnets, upsampler, shortcut } = &self.up_blocks[level];
        let around = shortcut.as_ref().map(|shortcut| (shortcut, x.clone()));
        let x = resnets.iter().fold(x, |x, resnet| resnet.forward(x, cache));
        let Some(upsampler) = upsampler else {
            let x = trace.seen_frames(&name, x);
            return frames.push(self.finish(x, cache, trace));
        };
        let larger = upsampler.forward(x, cache);
        let (above, count) = (cache.position(), larger.len());
        for (i, x) in larger.enumerate() {
            cache.go_back_to(above);
            let x = match &around {
                // The first frame of a video is the last that its shortcut becomes.
                Some((shortcut, before)) => {
                    shortcut.add(x, before.clone(), shortcut.frames - count + i)
                }
                None => x,
            };
            let x = trace.seen_frames(&name, x);
            self.go_up(level + 1, x, cache, trace, frames);
        }
    }

    fn finish(
        &self,
        x: Tensor<B, 5>,
        cache: &mut FeatureCache<B>,
        trace: &mut Trace<'_, impl Probe<B>>,
    ) -> Tensor<B, 5> {
        trace.see("norm_out", || channels_first(self.norm_out.forward(x.clone(), DType::F32)));
        let x = self.norm_out.forward_silu(x, self.conv_out.dtype());
        trace.seen_frames("output", self.conv_out.forward(x, cache.slot()))
    }
}

impl<B: Backend> UpBlock<B> {
    /// `temporal` is `None` at full resolution.
    fn load(
        config: &WanVaeConfig,
        scope: &Scope<B>,
        ends: [usize; 2],
        temporal: Option<bool>,
    ) -> Self {
        let [mut input, output] = ends;
        let mut resnets = Vec::new();
        for i in 0..=config.num_res_blocks {
            let scope = scope.at(format_args!("resnets.{i}"));
            resnets.push(ResidualBlock::load(&scope, input, output));
            input = output;
        }
        let name = if config.is_residual { "upsampler" } else { "upsamplers.0" };
        let channels = [output, config.upsampled_width(output)];
        let upsampler = |temporal| Upsample::load(&scope.at(name), channels, temporal);
        let shortcut = temporal.filter(|_| config.is_residual);
        Self {
            resnets,
            upsampler: temporal.map(upsampler),
            shortcut: shortcut.map(|temporal| DupUp::new(ends, temporal)),
        }
    }
}
