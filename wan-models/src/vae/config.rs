use serde::Deserialize;

use crate::config::{ConfigError, require, require_null, require_size};

/// `config.json` of an `AutoencoderKLWan` of the 2.1 layout.
#[derive(Debug, Clone, PartialEq, Deserialize)]
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
    /// Whether it has the residual layout of Wan 2.2.
    #[serde(default)]
    pub is_residual: bool,
    /// Channels of the video that goes in.
    #[serde(default = "default_channels")]
    pub in_channels: usize,
    /// Channels of the video that comes out.
    #[serde(default = "default_channels")]
    pub out_channels: usize,
    /// Pixels that are packed into channels, of Wan 2.2.
    #[serde(default)]
    pub patch_size: Option<usize>,
}

fn default_channels() -> usize {
    3
}

impl WanVaeConfig {
    /// How many pixels make one latent pixel, along height and width.
    pub fn spatial_factor(&self) -> usize {
        1 << (self.dim_mult.len() - 1)
    }

    /// How many frames make one latent frame (after the first, which is a latent frame alone).
    pub fn temporal_factor(&self) -> usize {
        1 << self.temporal_downsample.iter().filter(|halves| **halves).count()
    }

    /// # Errors
    /// The first field with a value that no VAE of the 2.1 layout can have.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let class = &self.class_name;
        require(class == "AutoencoderKLWan", "_class_name", class, "\"AutoencoderKLWan\"")?;
        let expected = "false: the Wan 2.2 VAE is not supported yet";
        require(!self.is_residual, "is_residual", self.is_residual, expected)?;
        require_null("patch_size", self.patch_size, "the Wan 2.2 VAE is not supported yet")?;
        require_size("base_dim", self.base_dim, 4096)?;
        if let Some(dim) = self.decoder_base_dim {
            require_size("decoder_base_dim", dim, 4096)?;
        }
        require_size("z_dim", self.z_dim, 1024)?;
        let multiples = &self.dim_mult;
        let ok =
            (1..=8).contains(&multiples.len()) && multiples.iter().all(|m| (1..=64).contains(m));
        require(ok, "dim_mult", multiples, "1 to 8 factors of 1 to 64")?;
        self.validate_channels()?;
        require_size("num_res_blocks", self.num_res_blocks, 16)?;
        require(self.attn_scales.is_empty(), "attn_scales", &self.attn_scales, "empty")?;
        let (found, steps) = (&self.temporal_downsample, multiples.len() - 1);
        let expected = format!("{steps} values, one less than dim_mult");
        require(found.len() == steps, "temperal_downsample", found, expected)?;
        // The encoder takes 1, 4, 4, .. frames, which can be halved twice.
        let expected = "at most two times true (time is divided by 4)";
        require(self.temporal_factor() <= 4, "temperal_downsample", found, expected)?;
        self.validate_latents("latents_mean", &self.latents_mean, |mean| mean.is_finite())?;
        self.validate_latents("latents_std", &self.latents_std, |std| {
            std.is_finite() && std > 0.0
        })?;
        require(self.in_channels == 3, "in_channels", self.in_channels, "3")?;
        require(self.out_channels == 3, "out_channels", self.out_channels, "3")
    }

    /// Each level of the decoder begins with half of the channels of the level below.
    fn validate_channels(&self) -> Result<(), ConfigError> {
        let base = self.decoder_base_dim.unwrap_or(self.base_dim);
        let even = self.dim_mult[1..].iter().all(|m| (base * m).is_multiple_of(2));
        require(even, "base_dim", base, "even times each of dim_mult but the first")
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
