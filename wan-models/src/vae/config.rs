use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, require, require_null, require_size};

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

/// `config.json` of an `AutoencoderKLWan` of the 2.1 layout. Fields that it leaves out have the defaults
/// of that class, which are those of Wan 2.1.
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
    /// Whether it has the residual layout of Wan 2.2.
    pub is_residual: bool,
    /// Channels of the video that goes in.
    pub in_channels: usize,
    /// Channels of the video that comes out.
    pub out_channels: usize,
    /// Pixels that are packed into channels, of Wan 2.2.
    pub patch_size: Option<usize>,
}

impl Default for WanVaeConfig {
    fn default() -> Self {
        Self {
            class_name: "AutoencoderKLWan".into(),
            base_dim: 96,
            decoder_base_dim: None,
            z_dim: 16,
            dim_mult: vec![1, 2, 4, 4],
            num_res_blocks: 2,
            attn_scales: Vec::new(),
            temporal_downsample: vec![false, true, true],
            latents_mean: LATENTS_MEAN.to_vec(),
            latents_std: LATENTS_STD.to_vec(),
            is_residual: false,
            in_channels: 3,
            out_channels: 3,
            patch_size: None,
        }
    }
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
        let expected = "false: the Wan 2.2 VAE (of TI2V-5B) is not supported yet";
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
