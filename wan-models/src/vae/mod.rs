//! The causal video autoencoder of Wan 2.1.
//!
//! Videos pass through it a few frames at a time, each temporal layer remembering the frames that
//! it needs, so that memory does not grow with their length. Frames are channels-last inside.
//!
//! Sources: `wan/modules/vae.py` of the original Wan, and
//! `diffusers/models/autoencoders/autoencoder_kl_wan.py`, whose names the checkpoint has.

mod cache;
mod config;
mod decoder;
mod encoder;
mod infer;
mod layers;
mod names;
mod tiling;

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::{Backend, BurnBackend, VideoVae};

use cache::FeatureCache;
pub use config::WanVaeConfig;
use decoder::Decoder;
use encoder::Encoder;
pub use tiling::Tiling;

use crate::Probe;
use crate::config::ConfigError;
use crate::layers::Linear;
use crate::load::{Network, Scope};
use crate::probe::Trace;

/// The autoencoder.
#[derive(Debug, Clone)]
pub struct WanVae<B: BurnBackend> {
    encoder: Encoder<B>,
    quant_conv: Linear<B>,
    post_quant_conv: Linear<B>,
    decoder: Decoder<B>,
    config: WanVaeConfig,
    tiling: Option<Tiling>,
}

/// The distribution of latents that a video is encoded to, before they are normalised.
#[derive(Debug, Clone)]
pub struct LatentDistribution<B: BurnBackend> {
    /// `[B, C, T, H, W]`
    pub mean: Tensor<B, 5>,
    /// `[B, C, T, H, W]`, clamped to -30..20
    pub log_variance: Tensor<B, 5>,
}

impl<B: Backend> WanVae<B> {
    /// Loads the autoencoder; `config` must be valid.
    pub fn load(config: &WanVaeConfig, scope: &Scope<B>) -> Self {
        let z = config.z_dim;
        Self {
            encoder: Encoder::load(config, &scope.at("encoder")),
            quant_conv: Linear::load_pointwise(&scope.at("quant_conv"), 2 * z, 2 * z, 3),
            post_quant_conv: Linear::load_pointwise(&scope.at("post_quant_conv"), z, z, 3),
            decoder: Decoder::load(config, &scope.at("decoder")),
            config: config.clone(),
            tiling: None,
        }
    }

    /// The config it was loaded with.
    pub fn config(&self) -> &WanVaeConfig {
        &self.config
    }

    /// Encodes and decodes frames that are larger than a tile in tiles from now on.
    ///
    /// # Errors
    /// If tiles do not overlap or do not consist of whole latent pixels.
    pub fn set_tiling(&mut self, tiling: Option<Tiling>) -> Result<(), ConfigError> {
        if let Some(tiling) = tiling {
            tiling.validate(self.config.spatial_factor())?;
        }
        self.tiling = tiling;
        Ok(())
    }

    /// The latents that `video` `[B, 3, T, H, W]` in -1..1 is encoded to, not normalised. Frames
    /// after the last whole four are dropped, as in the references.
    ///
    /// # Panics
    /// If the video has no frame, or height or width are not multiples of the spatial factor.
    pub fn encode_to_distribution(
        &self,
        video: Tensor<B, 5>,
        probe: &mut impl Probe<B>,
    ) -> LatentDistribution<B> {
        let [_, _, frames, height, width] = video.dims();
        let factor = self.config.spatial_factor();
        let whole = height.is_multiple_of(factor) && width.is_multiple_of(factor);
        assert!(frames > 0 && whole, "a video of {frames} frames of {width}x{height}");
        let video = channels_last(video);
        let tiling = self.tiling.filter(|tiling| tiling.divides(height, width));
        let tiles = match &tiling {
            Some(tiling) => tiling.cut(&video),
            None => vec![vec![video]],
        };
        let mut encode = |tile| self.encode_tile(tile, probe);
        let encoded: Vec<Vec<_>> =
            tiles.into_iter().map(|row| row.into_iter().map(&mut encode).collect()).collect();
        let moments = match &tiling {
            Some(tiling) => tiling.shrink(factor).join(encoded),
            None => encoded.concat().remove(0),
        };
        let moments = channels_first(moments.cast(DType::F32));
        let z = self.config.z_dim;
        LatentDistribution {
            mean: moments.clone().narrow(1, 0, z),
            log_variance: moments.narrow(1, z, z).clamp(-30.0, 20.0),
        }
    }

    fn encode_tile(&self, video: Tensor<B, 5>, probe: &mut impl Probe<B>) -> Tensor<B, 5> {
        let mut cache = FeatureCache::new();
        let chunks = 1 + (video.dims()[1] - 1) / 4;
        let mut encode = |chunk: usize| {
            let (start, length) = if chunk == 0 { (0, 1) } else { (4 * chunk - 3, 4) };
            let frames = video.clone().narrow(1, start, length);
            self.encoder.forward(frames, &mut cache, Trace::new(probe).at("encoder"))
        };
        let latents = (0..chunks).map(&mut encode).collect();
        self.quant_conv.forward(Tensor::cat(latents, 1))
    }

    /// Decodes latents `[B, C, T, H, W]` that are not normalised; see [`VideoVae::decode`].
    ///
    /// # Panics
    /// If the latents do not have `z_dim` channels.
    pub fn decode_raw(&self, latents: Tensor<B, 5>) -> Frames<'_, B> {
        let [_, channels, _, height, width] = latents.dims();
        assert_eq!(channels, self.config.z_dim, "channels of the latents");
        let tiling = self.tiling.map(|tiling| tiling.shrink(self.config.spatial_factor()));
        let tiling = tiling.filter(|tiling| tiling.divides(height, width));
        Frames { vae: self, latents: channels_last(latents), tiling, caches: Vec::new(), next: 0 }
    }

    /// Mean and standard deviation of each channel, `[1, C, 1, 1, 1]`.
    fn statistics(&self, device: &B::Device) -> [Tensor<B, 5>; 2] {
        [&self.config.latents_mean, &self.config.latents_std].map(|values| {
            let values: Vec<f32> = values.iter().map(|&v| v as f32).collect();
            let data = TensorData::new(values, [1, self.config.z_dim, 1, 1, 1]);
            Tensor::from_data(data, (device, DType::F32))
        })
    }
}

impl<B: Backend> Network<B> for WanVae<B> {
    type Config = WanVaeConfig;

    fn load(config: &WanVaeConfig, scope: &Scope<B>) -> Self {
        Self::load(config, scope)
    }
}

impl<B: Backend> VideoVae<B> for WanVae<B> {
    fn encode(&self, video: Tensor<B, 5>) -> Tensor<B, 5> {
        let [mean, std] = self.statistics(&video.device());
        (self.encode_to_distribution(video, &mut ()).mean - mean) / std
    }

    fn decode<'a>(&'a self, latents: Tensor<B, 5>) -> Box<dyn Iterator<Item = Tensor<B, 5>> + 'a> {
        let [mean, std] = self.statistics(&latents.device());
        Box::new(self.decode_raw(latents * std + mean))
    }
}

/// The frames of a video as they are decoded, one latent frame a call.
#[derive(Debug)]
pub struct Frames<'a, B: Backend> {
    vae: &'a WanVae<B>,
    /// Channels-last.
    latents: Tensor<B, 5>,
    /// In latent pixels, if the frames have more than one tile.
    tiling: Option<Tiling>,
    /// One a tile.
    caches: Vec<FeatureCache<B>>,
    next: usize,
}

impl<B: Backend> Frames<'_, B> {
    /// Like [`Iterator::next`], with a look at the intermediate tensors.
    pub fn next_probed(&mut self, probe: &mut impl Probe<B>) -> Option<Tensor<B, 5>> {
        if self.next == self.latents.dims()[1] {
            return None;
        }
        let latent = self.latents.clone().narrow(1, self.next, 1);
        self.next += 1;
        let tiles = match &self.tiling {
            Some(tiling) => tiling.cut(&latent),
            None => vec![vec![latent]],
        };
        self.caches.resize(tiles.iter().map(Vec::len).sum(), FeatureCache::new());
        let mut caches = self.caches.iter_mut();
        let mut decode = |tile| {
            let latent = self.vae.post_quant_conv.forward(tile);
            let cache = caches.next().expect("there are as many caches as tiles");
            let mut trace = Trace::new(probe);
            self.vae.decoder.forward(latent, cache, trace.at("decoder")).cast(DType::F32)
        };
        let decoded: Vec<Vec<_>> =
            tiles.into_iter().map(|row| row.into_iter().map(&mut decode).collect()).collect();
        let frames = match &self.tiling {
            Some(tiling) => tiling.enlarge(self.vae.config.spatial_factor()).join(decoded),
            None => decoded.concat().remove(0),
        };
        Some(channels_first(frames).clamp(-1.0, 1.0))
    }
}

impl<B: Backend> Iterator for Frames<'_, B> {
    /// `[B, 3, t, H, W]` in -1..1
    type Item = Tensor<B, 5>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_probed(&mut ())
    }
}

impl<P> Trace<'_, P> {
    /// Like [`seen`](Self::seen), for channels-last frames: a probe sees them channels-first.
    fn seen_frames<B: BurnBackend>(&mut self, name: &str, frames: Tensor<B, 5>) -> Tensor<B, 5>
    where
        P: Probe<B>,
    {
        self.see(name, || channels_first(frames.clone()));
        frames
    }
}

fn channels_last<B: BurnBackend>(x: Tensor<B, 5>) -> Tensor<B, 5> {
    x.permute([0, 2, 3, 4, 1])
}

fn channels_first<B: BurnBackend>(x: Tensor<B, 5>) -> Tensor<B, 5> {
    x.permute([0, 4, 1, 2, 3])
}
