//! The layouts of the Wan 2.1 VAE: diffusers, and the original repository's `.pth`.

use std::sync::Arc;

use super::WanVaeConfig;
use crate::load::{CheckpointError, Renamed, Shapes, TensorSource, replace_start, split_index};

/// Mean and standard deviation of the latent channels: constants in the original (`wan/modules/vae.py`),
/// part of the config in diffusers.
const LATENTS_MEAN: [f64; 16] = [
    -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508, 0.4134, -0.0715, 0.5517,
    -0.3632, -0.1922, -0.9497, 0.2503, -0.2921,
];
const LATENTS_STD: [f64; 16] = [
    2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743, 3.2687, 2.1526, 2.8652, 1.5579,
    1.6382, 1.1253, 2.8251, 1.916,
];

/// Names of diffusers and of the original (`wan/modules/vae.py`).
const NAMES: &[(&str, &str)] = &[("quant_conv", "conv1"), ("post_quant_conv", "conv2")];

/// The same inside the encoder and the decoder.
const NAMES_IN_CODER: &[(&str, &str)] = &[
    ("conv_in", "conv1"),
    ("mid_block.resnets.0", "middle.0"),
    ("mid_block.attentions.0", "middle.1"),
    ("mid_block.resnets.1", "middle.2"),
    ("norm_out", "head.0"),
    ("conv_out", "head.2"),
];

/// The same inside a residual block.
const NAMES_IN_RESIDUAL: &[(&str, &str)] = &[
    ("norm1", "residual.0"),
    ("conv1", "residual.2"),
    ("norm2", "residual.3"),
    ("conv2", "residual.6"),
    ("conv_shortcut", "shortcut"),
];

/// The weights of a VAE in any layout, under the names that [`super::WanVae`] asks for.
///
/// # Errors
/// If no layout has these names.
pub fn checkpoint(source: Arc<dyn TensorSource>) -> Result<Arc<dyn TensorSource>, CheckpointError> {
    if source.tensor("decoder.conv_in.weight").is_some() {
        return Ok(source);
    }
    if source.tensor("decoder.conv1.weight").is_some() {
        // The original counts the decoder's blocks through all levels; each has one more residual
        // block than a level of the encoder.
        let is_residual =
            |i: &usize| source.tensor(&format!("encoder.downsamples.{i}.residual.0.gamma"));
        let per_level = (0..).take_while(|i| is_residual(i).is_some()).count() + 1;
        let map = move |name: &str| original_name(name, per_level);
        return Ok(Arc::new(Renamed { source, map: Box::new(map) }));
    }
    Err(CheckpointError::NotThisModel {
        origin: source.origin(),
        model: "a Wan VAE",
        expected: "decoder.conv_in.weight or decoder.conv1.weight".into(),
    })
}

/// `per_level` is the number of residual blocks in a level of the decoder.
fn original_name(name: &str, per_level: usize) -> String {
    let (coder, rest) = match name.split_once('.') {
        Some((coder @ ("encoder" | "decoder"), rest)) => (coder, rest),
        _ => return replace_start(name, NAMES),
    };
    let place = if let Some((i, rest)) = split_index(rest, "down_blocks.") {
        Some((format!("downsamples.{i}"), rest))
    } else if let Some((level, rest)) = split_index(rest, "up_blocks.") {
        let first = level * (per_level + 1);
        match split_index(rest, "resnets.") {
            Some((i, rest)) => Some((format!("upsamples.{}", first + i), rest)),
            None => rest
                .strip_prefix("upsamplers.0.")
                .map(|rest| (format!("upsamples.{}", first + per_level), rest)),
        }
    } else {
        None
    };
    match place {
        Some((place, rest)) => {
            format!("{coder}.{place}.{}", replace_start(rest, NAMES_IN_RESIDUAL))
        }
        None => format!("{coder}.{}", in_middle(&replace_start(rest, NAMES_IN_CODER))),
    }
}

/// Names inside the residual blocks of the bottleneck; its attention has the same in both layouts.
fn in_middle(name: &str) -> String {
    match split_index(name, "middle.") {
        Some((i, rest)) if i != 1 => {
            format!("middle.{i}.{}", replace_start(rest, NAMES_IN_RESIDUAL))
        }
        _ => name.to_owned(),
    }
}

impl WanVaeConfig {
    /// The config that the shapes of a checkpoint tell, with the constants of Wan 2.1 for mean and
    /// deviation of the latents; the original layout has no other.
    ///
    /// # Errors
    /// If the tensors that tell it are not there; [`validate`](Self::validate) still has to check
    /// the values.
    pub fn infer(tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        let shapes = Shapes(tensors);
        let [base_dim, ..] = shapes.of::<5>("encoder.conv_in.weight")?;
        let [z_dim, ..] = shapes.of::<5>("post_quant_conv.weight")?;
        let [_, decoder_width, ..] = shapes.of::<5>("decoder.conv_out.weight")?;
        let (mut dim_mult, mut temporal_downsample) = (Vec::new(), Vec::new());
        let (mut width, mut blocks, mut num_res_blocks) = (base_dim, 0, 0);
        for i in 0.. {
            let block = format!("encoder.down_blocks.{i}");
            if shapes.has(&format!("{block}.conv1.weight")) {
                [width, ..] = shapes.of::<5>(&format!("{block}.conv1.weight"))?;
                blocks += 1;
                continue;
            }
            // Here a level ends: with a downsampler, or as the last one.
            dim_mult.push(width / base_dim.max(1));
            num_res_blocks = blocks;
            if !shapes.has(&format!("{block}.resample.1.weight")) {
                break;
            }
            temporal_downsample.push(shapes.has(&format!("{block}.time_conv.weight")));
            blocks = 0;
        }
        let decoder_base_dim = decoder_width / dim_mult[0].max(1);
        Ok(Self {
            class_name: "AutoencoderKLWan".into(),
            base_dim,
            decoder_base_dim: (decoder_base_dim != base_dim).then_some(decoder_base_dim),
            z_dim,
            dim_mult,
            num_res_blocks,
            attn_scales: Vec::new(),
            temporal_downsample,
            latents_mean: LATENTS_MEAN.to_vec(),
            latents_std: LATENTS_STD.to_vec(),
            is_residual: false,
            in_channels: 3,
            out_channels: 3,
            patch_size: None,
        })
    }
}
