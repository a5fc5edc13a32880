//! The config of a VAE from the shapes of its tensors.

use std::sync::Arc;

use super::names::LAYOUTS;
use super::{WanVaeConfig, statistics};
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

    /// The config that the shapes of a checkpoint tell, with the constants of the published VAE for mean and
    /// deviation of the latents: the original layout has no other.
    ///
    /// # Errors
    /// If the tensors that tell it are not there; [`validate`](Self::validate) still has to check
    /// the values.
    fn infer(tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        let shapes = Shapes(tensors);
        let [base_dim, in_channels, ..] = shapes.of::<5>("encoder.conv_in.weight")?;
        let [z_dim, ..] = shapes.of::<5>("post_quant_conv.weight")?;
        let [out_channels, decoder_width, ..] = shapes.of::<5>("decoder.conv_out.weight")?;
        let is_residual = shapes.has("encoder.down_blocks.0.resnets.0.conv1.weight");
        let levels = match is_residual {
            true => Levels::nested(&shapes)?,
            false => Levels::in_a_row(&shapes, base_dim)?,
        };
        let dim_mult: Vec<usize> = levels.widths.iter().map(|w| w / base_dim.max(1)).collect();
        let decoder_base_dim = decoder_width / dim_mult.first().map_or(1, |&first| first.max(1));
        let patch = (in_channels / 3).isqrt();
        let (mean, std) = statistics::published(z_dim);
        let config = Self {
            base_dim,
            decoder_base_dim: (decoder_base_dim != base_dim).then_some(decoder_base_dim),
            z_dim,
            dim_mult,
            num_res_blocks: levels.blocks,
            temporal_downsample: levels.temporal,
            latents_mean: mean.to_vec(),
            latents_std: std.to_vec(),
            is_residual,
            in_channels,
            out_channels,
            patch_size: (patch > 1).then_some(patch),
            ..Self::default()
        };
        Ok(config.with_factors())
    }

    fn fitted(&self, tensors: &dyn TensorSource) -> Result<Self, CheckpointError> {
        let inferred = Self::infer(tensors)?;
        let base = |config: &Self| config.decoder_base_dim.unwrap_or(config.base_dim);
        let same = base(self) == base(&inferred) && self.base_dim == inferred.base_dim;
        Ok(Self {
            decoder_base_dim: if same { self } else { &inferred }.decoder_base_dim,
            latents_mean: self.latents_mean.clone(),
            latents_std: self.latents_std.clone(),
            scale_factor_spatial: self.scale_factor_spatial.and(inferred.scale_factor_spatial),
            scale_factor_temporal: self.scale_factor_temporal.and(inferred.scale_factor_temporal),
            ..inferred
        })
    }
}

/// What the tensors of the encoder's levels tell.
#[derive(Default)]
struct Levels {
    /// Channels of each level.
    widths: Vec<usize>,
    /// Residual blocks in a level.
    blocks: usize,
    /// Which downsampling steps also halve time.
    temporal: Vec<bool>,
}

impl Levels {
    /// Of Wan 2.1, whose blocks are counted through all levels.
    fn in_a_row(shapes: &Shapes, base_dim: usize) -> Result<Self, CheckpointError> {
        let (mut levels, mut width, mut blocks) = (Self::default(), base_dim, 0);
        for i in 0.. {
            let block = format!("encoder.down_blocks.{i}");
            if shapes.has(&format!("{block}.conv1.weight")) {
                [width, ..] = shapes.of::<5>(&format!("{block}.conv1.weight"))?;
                blocks += 1;
                continue;
            }
            // Here a level ends: with a downsampler, or as the last one.
            levels.widths.push(width);
            levels.blocks = blocks;
            if !shapes.has(&format!("{block}.resample.1.weight")) {
                break;
            }
            levels.temporal.push(shapes.has(&format!("{block}.time_conv.weight")));
            blocks = 0;
        }
        Ok(levels)
    }

    /// Of Wan 2.2, whose levels hold their blocks.
    fn nested(shapes: &Shapes) -> Result<Self, CheckpointError> {
        let block = |level, i| format!("encoder.down_blocks.{level}.resnets.{i}.conv1.weight");
        let mut levels = Self::default();
        for level in 0..shapes.count(|level| block(level, 0)) {
            let [width, ..] = shapes.of::<5>(&block(level, 0))?;
            levels.widths.push(width);
            levels.blocks = shapes.count(|i| block(level, i));
            let downsampler = format!("encoder.down_blocks.{level}.downsampler");
            if shapes.has(&format!("{downsampler}.resample.1.weight")) {
                levels.temporal.push(shapes.has(&format!("{downsampler}.time_conv.weight")));
            }
        }
        Ok(levels)
    }
}

impl WanVaeConfig {
    /// With the factors that follow from the rest.
    fn with_factors(self) -> Self {
        let known = (1..=8).contains(&self.dim_mult.len()); // or it is no valid config
        Self {
            scale_factor_spatial: known.then(|| self.spatial_factor()),
            scale_factor_temporal: known.then(|| self.temporal_factor()),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use burn::backend::Flex;
    use burn::tensor::DType;
    use wan_io::weights::{Dtype, StoredTensor};

    use super::*;
    use crate::load::{Mismatch, check};
    use crate::vae::WanVae;

    /// Names and shapes.
    struct Table(BTreeMap<String, Vec<usize>>);

    impl TensorSource for Table {
        fn names(&self) -> Vec<String> {
            self.0.keys().cloned().collect()
        }

        fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
            Some(StoredTensor::in_memory(Dtype::F32, self.0.get(name)?, &[0_u8; 0][..]))
        }

        fn origin(&self) -> String {
            "a table".into()
        }
    }

    /// Those that a config asks for.
    fn tensors(config: &WanVaeConfig) -> Table {
        let none: Arc<dyn TensorSource> = Arc::new(Table(BTreeMap::new()));
        let error = check::<Flex, WanVae<Flex>>(&none, &Default::default(), DType::F32, config);
        let missing = |mismatch| match mismatch {
            Mismatch::Missing { name, expected } => (name, expected),
            other => panic!("{other}"),
        };
        Table(error.unwrap_err().mismatches.into_iter().map(missing).collect())
    }

    fn wan22() -> WanVaeConfig {
        let (mean, std) = statistics::WAN22;
        WanVaeConfig {
            base_dim: 160,
            decoder_base_dim: Some(256),
            z_dim: 48,
            latents_mean: mean.to_vec(),
            latents_std: std.to_vec(),
            is_residual: true,
            in_channels: 12,
            out_channels: 12,
            patch_size: Some(2),
            scale_factor_spatial: Some(16),
            scale_factor_temporal: Some(4),
            ..WanVaeConfig::default()
        }
    }

    #[test]
    fn shapes_tell_the_config() {
        let factors = WanVaeConfig {
            scale_factor_spatial: Some(8),
            scale_factor_temporal: Some(4),
            ..WanVaeConfig::default()
        };
        let narrow = WanVaeConfig { base_dim: 24, num_res_blocks: 1, ..factors.clone() };
        let other_base = WanVaeConfig { decoder_base_dim: Some(64), ..narrow.clone() };
        let in_pairs = WanVaeConfig {
            temporal_downsample: vec![true, false, false],
            scale_factor_temporal: Some(2),
            ..wan22()
        };
        let three_levels = WanVaeConfig {
            dim_mult: vec![2, 4, 4],
            temporal_downsample: vec![false, true],
            num_res_blocks: 3,
            scale_factor_spatial: Some(8),
            scale_factor_temporal: Some(2),
            ..wan22()
        };
        for config in [factors, narrow, other_base, wan22(), in_pairs, three_levels] {
            config.validate().unwrap();
            assert_eq!(WanVaeConfig::infer(&tensors(&config)).unwrap(), config);
        }
    }

    /// The bytes of the published file, `Wan2.2-TI2V-5B-Diffusers`, without its header.
    #[test]
    fn the_published_vae_of_wan22_has_so_many_elements() {
        let count = |shape: &Vec<usize>| shape.iter().product::<usize>();
        let Table(tensors) = tensors(&wan22());
        assert_eq!(tensors.len(), 196);
        assert_eq!(tensors.values().map(count).sum::<usize>(), 704_688_668);
    }
}
