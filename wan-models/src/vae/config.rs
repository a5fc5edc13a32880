use std::iter;

use serde::{Deserialize, Serialize};

use super::statistics;
use crate::config::{ConfigError, require, require_size};

/// `config.json` of an `AutoencoderKLWan`, of Wan 2.1 or of Wan 2.2 (TI2V-5B). Fields that it leaves out
/// have the defaults of that class, which are those of Wan 2.1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WanVaeConfig {
    /// Always `AutoencoderKLWan`.
    #[serde(rename = "_class_name")]
    pub class_name: String,
    /// Channels at full resolution.
    pub base_dim: usize,
    /// Channels of the decoder at full resolution, if other than `base_dim`.
    pub decoder_base_dim: Option<usize>,
    /// Channels of the latents.
    pub z_dim: usize,
    /// Channels of each level as multiples of `base_dim`.
    pub dim_mult: Vec<usize>,
    /// Residual blocks a level (the decoder has one more).
    pub num_res_blocks: usize,
    /// Scales with attention; Wan has none.
    pub attn_scales: Vec<f64>,
    /// Which of the downsampling steps also halve time.
    #[serde(rename = "temperal_downsample")]
    pub temporal_downsample: Vec<bool>,
    /// Mean of each latent channel over the training data.
    pub latents_mean: Vec<f64>,
    /// Standard deviation of each latent channel over the training data.
    pub latents_std: Vec<f64>,
    /// Whether its levels have shortcuts around them, as in Wan 2.2.
    pub is_residual: bool,
    /// Channels of the video that goes in: three colours of each pixel of a patch.
    pub in_channels: usize,
    /// Channels of the video that comes out, which are as many.
    pub out_channels: usize,
    /// The side of the patches of pixels that are packed into channels, as in Wan 2.2.
    pub patch_size: Option<usize>,
    /// How many pixels make one latent pixel, along height and width; must be what the rest says.
    pub scale_factor_spatial: Option<usize>,
    /// How many frames make one latent frame; must be what the rest says.
    pub scale_factor_temporal: Option<usize>,
}

impl Default for WanVaeConfig {
    fn default() -> Self {
        let (mean, std) = statistics::WAN21;
        Self {
            class_name: "AutoencoderKLWan".into(),
            base_dim: 96,
            decoder_base_dim: None,
            z_dim: 16,
            dim_mult: vec![1, 2, 4, 4],
            num_res_blocks: 2,
            attn_scales: Vec::new(),
            temporal_downsample: vec![false, true, true],
            latents_mean: mean.to_vec(),
            latents_std: std.to_vec(),
            is_residual: false,
            in_channels: 3,
            out_channels: 3,
            patch_size: None,
            scale_factor_spatial: None,
            scale_factor_temporal: None,
        }
    }
}

impl WanVaeConfig {
    /// How many pixels make one latent pixel, along height and width.
    pub fn spatial_factor(&self) -> usize {
        self.patch() << (self.dim_mult.len() - 1)
    }

    /// How many frames make one latent frame (after the first, which is a latent frame alone).
    pub fn temporal_factor(&self) -> usize {
        1 << self.temporal_downsample.iter().filter(|halves| **halves).count()
    }

    /// The side of the patches of pixels that are packed into channels: 1 if none are.
    pub fn patch(&self) -> usize {
        self.patch_size.unwrap_or(1)
    }

    /// The channels of the decoder's levels, the first of which is that of the latents.
    pub fn decoder_widths(&self) -> Vec<usize> {
        let base = self.decoder_base_dim.unwrap_or(self.base_dim);
        self.dim_mult.iter().rev().map(|multiple| multiple * base).collect()
    }

    /// What an upsampler makes of `width` channels: half of them, except in the residual layout.
    pub fn upsampled_width(&self, width: usize) -> usize {
        if self.is_residual { width } else { width / 2 }
    }

    /// # Errors
    /// The first field with a value that no Wan VAE can have.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let class = &self.class_name;
        require(class == "AutoencoderKLWan", "_class_name", class, "\"AutoencoderKLWan\"")?;
        require_size("base_dim", self.base_dim, 4096)?;
        if let Some(dim) = self.decoder_base_dim {
            require_size("decoder_base_dim", dim, 4096)?;
        }
        require_size("z_dim", self.z_dim, 1024)?;
        let multiples = &self.dim_mult;
        let ok =
            (1..=8).contains(&multiples.len()) && multiples.iter().all(|m| (1..=64).contains(m));
        require(ok, "dim_mult", multiples, "1 to 8 factors of 1 to 64")?;
        require_size("num_res_blocks", self.num_res_blocks, 16)?;
        require(self.attn_scales.is_empty(), "attn_scales", &self.attn_scales, "empty")?;
        let (found, steps) = (&self.temporal_downsample, multiples.len() - 1);
        let expected = format!("{steps} values, one less than dim_mult");
        require(found.len() == steps, "temperal_downsample", found, expected)?;
        // The encoder takes 1, 4, 4, .. frames, which can be halved twice.
        let expected = "at most two times true (time is divided by 4)";
        require(self.temporal_factor() <= 4, "temperal_downsample", found, expected)?;
        self.validate_channels()?;
        self.validate_latents("latents_mean", &self.latents_mean, |mean| mean.is_finite())?;
        self.validate_latents("latents_std", &self.latents_std, |std| {
            std.is_finite() && std > 0.0
        })?;
        self.validate_patches()
    }

    /// Channels that shortcuts can pass on, or of which an upsampler can take a half.
    fn validate_channels(&self) -> Result<(), ConfigError> {
        if self.is_residual {
            return self.validate_shortcuts();
        }
        let base = self.decoder_base_dim.unwrap_or(self.base_dim);
        let even = self.dim_mult[1..].iter().all(|m| (base * m).is_multiple_of(2));
        require(even, "base_dim", base, "even times each of dim_mult but the first")
    }

    /// The shortcuts of the residual layout pass channels on as means of as many each, or as copies. The last
    /// level's changes nothing.
    fn validate_shortcuts(&self) -> Result<(), ConfigError> {
        let found = &self.dim_mult;
        let steps = found.iter().zip(iter::once(&1).chain(found));
        let last = found.len() - 1;
        let ok = steps.enumerate().all(|(i, (&width, &before))| {
            let factors: &[usize] = if i == last { &[1] } else { &[1, 2, 4] };
            factors.iter().any(|factor| factor * before == width)
        });
        let expected = "with is_residual, from 1 on, each 1, 2 or 4 times the one before it; the \
            last equal to it";
        require(ok, "dim_mult", found, expected)
    }

    fn validate_patches(&self) -> Result<(), ConfigError> {
        if let Some(patch) = self.patch_size {
            require_size("patch_size", patch, 16)?;
        }
        let channels = 3 * self.patch() * self.patch();
        let expected = format!("{channels} (three colours of each pixel in a patch)");
        require(self.in_channels == channels, "in_channels", self.in_channels, &expected)?;
        require(self.out_channels == channels, "out_channels", self.out_channels, &expected)?;
        for (field, found, factor) in [
            ("scale_factor_spatial", self.scale_factor_spatial, self.spatial_factor()),
            ("scale_factor_temporal", self.scale_factor_temporal, self.temporal_factor()),
        ] {
            let found = found.unwrap_or(factor);
            require(found == factor, field, found, format!("{factor}, by the other fields"))?;
        }
        Ok(())
    }

    fn validate_latents(
        &self,
        field: &'static str,
        found: &[f64],
        ok: fn(f64) -> bool,
    ) -> Result<(), ConfigError> {
        let expected = format!("{} finite numbers, one a latent channel (z_dim)", self.z_dim);
        require(found.len() == self.z_dim && found.iter().all(|&v| ok(v)), field, found, expected)
    }
}
