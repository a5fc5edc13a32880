//! The config of a VAE from the shapes of its tensors.

use std::sync::Arc;

use super::WanVaeConfig;
use super::names::LAYOUTS;
use crate::config::ConfigError;
use crate::load::{CheckpointError, NetworkConfig, Shapes, TensorSource};

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
            base_dim,
            decoder_base_dim: (decoder_base_dim != base_dim).then_some(decoder_base_dim),
            z_dim,
            dim_mult,
            num_res_blocks,
            temporal_downsample,
            ..Self::default()
        })
    }

    fn fitted(&self, tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        let inferred = Self::infer(tensors)?;
        let base = |config: &Self| config.decoder_base_dim.unwrap_or(config.base_dim);
        let same = base(self) == base(&inferred) && self.base_dim == inferred.base_dim;
        Ok(Self {
            decoder_base_dim: if same { self } else { &inferred }.decoder_base_dim,
            latents_mean: self.latents_mean.clone(),
            latents_std: self.latents_std.clone(),
            ..inferred
        })
    }
}
