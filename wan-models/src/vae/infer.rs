//! The config of a VAE from the shapes of its tensors.

use std::sync::Arc;

use super::WanVaeConfig;
use super::names::LAYOUTS;
use crate::config::ConfigError;
use crate::load::{CheckpointError, NetworkConfig, Shapes, TensorSource};

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

impl NetworkConfig for WanVaeConfig {
    fn is_kind(class_name: &str, _: &str) -> bool {
        class_name == "AutoencoderKLWan"
    }

    fn validate(&self) -> Result<(), ConfigError> {
        self.validate()
    }

    fn canonical_names(
        source: Arc<dyn TensorSource>,
    ) -> Result<Arc<dyn TensorSource>, CheckpointError> {
        LAYOUTS.recognise(source)
    }

    /// The config that the shapes of a checkpoint tell, with the constants of Wan 2.1 for mean and
    /// deviation of the latents; the original layout has no other.
    ///
    /// # Errors
    /// If the tensors that tell it are not there; [`validate`](Self::validate) still has to check
    /// the values.
    fn infer(tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
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
