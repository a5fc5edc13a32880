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
use wan_core::{Backend, BurnBackend, CancelToken, Cancelled, DecodedFrames, Tiling, VideoVae};

use cache::FeatureCache;
pub use config::WanVaeConfig;
use decoder::Decoder;
use encoder::Encoder;
use tiling::Tiles;

use crate::Probe;
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
        }
    }

    /// The config it was loaded with.
    pub fn config(&self) -> &WanVaeConfig {
        &self.config
    }

    /// The latents that `video` `[B, 3, T, H, W]` in -1..1 is encoded to, not normalised. Frames
    /// after the last whole four are dropped, as in the references. Frames that are larger than a tile
    /// of `tiling` are encoded in tiles.
    ///
    /// # Errors
    /// [`Cancelled`] soon after `cancel` says so.
    ///
    /// # Panics
    /// If the video has no frame, height or width are not multiples of the spatial factor, or the tiles
    /// are not valid.
    pub fn encode_to_distribution(
        &self,
        video: Tensor<B, 5>,
        tiling: Option<Tiling>,
        cancel: &CancelToken,
        probe: &mut impl Probe<B>,
    ) -> Result<LatentDistribution<B>, Cancelled> {
        let [_, _, frames, height, width] = video.dims();
        let factor = self.config.spatial_factor();
        let whole = height.is_multiple_of(factor) && width.is_multiple_of(factor);
        assert!(frames > 0 && whole, "a video of {frames} frames of {width}x{height}");
        let video = channels_last(video);
        let tiles = Tiles::of_frames(tiling, [height, width]);
        let encode = |tile| self.encode_tile(tile, cancel, probe);
        let moments = tiles.map(video, tiles.shrink(factor), encode)?;
        let moments = channels_first(moments.cast(DType::F32));
        let z = self.config.z_dim;
        Ok(LatentDistribution {
            mean: moments.clone().narrow(1, 0, z),
            log_variance: moments.narrow(1, z, z).clamp(-30.0, 20.0),
        })
    }

    fn encode_tile(
        &self,
        video: Tensor<B, 5>,
        cancel: &CancelToken,
        probe: &mut impl Probe<B>,
    ) -> Result<Tensor<B, 5>, Cancelled> {
        let mut cache = FeatureCache::new();
        let chunks = 1 + (video.dims()[1] - 1) / 4;
        let mut latents = Vec::with_capacity(chunks);
        for chunk in 0..chunks {
            cancel.check()?;
            let (start, length) = if chunk == 0 { (0, 1) } else { (4 * chunk - 3, 4) };
            let frames = video.clone().narrow(1, start, length);
            let mut trace = Trace::new(probe);
            latents.push(self.encoder.forward(frames, &mut cache, trace.at("encoder")));
        }
        Ok(self.quant_conv.forward(Tensor::cat(latents, 1)))
    }

    /// Decodes latents `[B, C, T, H, W]` that are not normalised; see [`VideoVae::decode`].
    ///
    /// # Panics
    /// If the latents do not have `z_dim` channels, or the tiles are not valid.
    pub fn decode_raw<'a>(
        &'a self,
        latents: Tensor<B, 5>,
        tiling: Option<Tiling>,
        cancel: &'a CancelToken,
    ) -> Frames<'a, B> {
        let [_, channels, _, height, width] = latents.dims();
        assert_eq!(channels, self.config.z_dim, "channels of the latents");
        let factor = self.config.spatial_factor();
        let tiles = Tiles::of_latents(tiling, factor, [height, width]);
        let latents = channels_last(latents);
        Frames { vae: self, latents, tiles, caches: Vec::new(), next: 0, cancel }
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
    fn encode(
        &self,
        video: Tensor<B, 5>,
        tiling: Option<Tiling>,
        cancel: &CancelToken,
    ) -> Result<Tensor<B, 5>, Cancelled> {
        let [mean, std] = self.statistics(&video.device());
        let encoded = self.encode_to_distribution(video, tiling, cancel, &mut ())?;
        Ok((encoded.mean - mean) / std)
    }

    fn decode<'a>(
        &'a self,
        latents: Tensor<B, 5>,
        tiling: Option<Tiling>,
        cancel: &'a CancelToken,
    ) -> DecodedFrames<'a, B> {
        let [mean, std] = self.statistics(&latents.device());
        Box::new(self.decode_raw(latents * std + mean, tiling, cancel))
    }
}

/// The frames of a video as they are decoded, one latent frame a call.
#[derive(Debug)]
pub struct Frames<'a, B: Backend> {
    vae: &'a WanVae<B>,
    /// Channels-last.
    latents: Tensor<B, 5>,
    /// In latent pixels.
    tiles: Tiles,
    /// One a tile.
    caches: Vec<FeatureCache<B>>,
    next: usize,
    cancel: &'a CancelToken,
}

impl<B: Backend> Frames<'_, B> {
    /// The next frames, with a look at the intermediate tensors: see [`Iterator::next`].
    pub fn next_probed(
        &mut self,
        probe: &mut impl Probe<B>,
    ) -> Option<Result<Tensor<B, 5>, Cancelled>> {
        if self.next == self.latents.dims()[1] {
            return None;
        }
        let decoded = self.decode_next(probe);
        // After a cancellation there is nothing more: the caches are of different frames.
        self.next = if decoded.is_ok() { self.next + 1 } else { self.latents.dims()[1] };
        Some(decoded)
    }

    fn decode_next(&mut self, probe: &mut impl Probe<B>) -> Result<Tensor<B, 5>, Cancelled> {
        let latent = self.latents.clone().narrow(1, self.next, 1);
        let (vae, cancel) = (self.vae, self.cancel);
        let [_, _, height, width, _] = latent.dims();
        self.caches.resize(self.tiles.count([height, width]), FeatureCache::new());
        let mut caches = self.caches.iter_mut();
        let decode = |tile| {
            cancel.check()?;
            let latent = vae.post_quant_conv.forward(tile);
            let cache = caches.next().expect("there are as many caches as tiles");
            let mut trace = Trace::new(probe);
            Ok(vae.decoder.forward(latent, cache, trace.at("decoder")).cast(DType::F32))
        };
        let enlarged = self.tiles.enlarge(vae.config.spatial_factor());
        let frames = self.tiles.map(latent, enlarged, decode)?;
        Ok(channels_first(frames).clamp(-1.0, 1.0))
    }
}

impl<B: Backend> Iterator for Frames<'_, B> {
    /// `[B, 3, t, H, W]` in -1..1
    type Item = Result<Tensor<B, 5>, Cancelled>;

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
