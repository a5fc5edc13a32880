//! The causal video autoencoders of Wan 2.1 and of Wan 2.2 (TI2V-5B), of which the latter packs frames into
//! patches and has shortcuts around its levels.
//!
//! Videos pass through it a frame at a time, each temporal layer remembering the frames that it needs,
//! so that memory does not grow with their length. Frames are channels-last inside.
//!
//! Sources: `wan/modules/vae.py` and `vae2_2.py` of the original Wan, and
//! `diffusers/models/autoencoders/autoencoder_kl_wan.py`, whose names the checkpoint has.

mod cache;
mod config;
mod decoder;
mod decoding;
mod encoder;
mod infer;
mod layers;
mod names;
mod patches;
mod shortcuts;
mod spool;
mod statistics;
mod tiling;

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::{
    Backend, BurnBackend, CancelToken, Cancelled, DecodedFrames, FrameSource, StreamDecoder,
    VaeError, VaeMemory, VideoVae,
};

use cache::FeatureCache;
pub use config::WanVaeConfig;
use decoder::Decoder;
pub use decoding::Frames;
use decoding::Streamed;
use encoder::Encoder;
use tiling::{Area, Tiles};

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

    /// The latents that a video is encoded to, not normalised. Frames after the last whole four are
    /// dropped, as in the references. With patches, tiles are as many times larger as a patch: diffusers
    /// compares their size with packed frames.
    ///
    /// # Errors
    /// [`VaeError::Cancelled`] soon after `cancel` says so.
    ///
    /// # Panics
    /// If the video has no frame, height or width are not multiples of the spatial factor, or the tiles
    /// are not valid.
    pub fn encode_to_distribution(
        &self,
        video: &dyn FrameSource<B>,
        memory: VaeMemory,
        cancel: &CancelToken,
        probe: &mut impl Probe<B>,
    ) -> Result<LatentDistribution<B>, VaeError> {
        let [frames, height, width] = video.size();
        let factor = self.config.spatial_factor();
        let whole = height.is_multiple_of(factor) && width.is_multiple_of(factor);
        assert!(frames > 0 && whole, "a video of {frames} frames of {width}x{height}");
        let tiles = Tiles::of_frames(memory.tiling, [height, width]).enlarge(self.config.patch());
        let mut encode = |area| self.encode_tile(video, area, memory, cancel, probe);
        let mut rows = Vec::new();
        for row in tiles.rows([height, width]) {
            rows.push(row.into_iter().map(&mut encode).collect::<Result<Vec<_>, _>>()?);
        }
        let moments = channels_first(tiles.shrink(factor).join(rows).cast(DType::F32));
        let z = self.config.z_dim;
        Ok(LatentDistribution {
            mean: moments.clone().narrow(1, 0, z),
            log_variance: moments.narrow(1, z, z).clamp(-30.0, 20.0),
        })
    }

    fn encode_tile(
        &self,
        video: &dyn FrameSource<B>,
        area: Area,
        memory: VaeMemory,
        cancel: &CancelToken,
        probe: &mut impl Probe<B>,
    ) -> Result<Tensor<B, 5>, Cancelled> {
        let [frames, ..] = video.size();
        let mut cache = None;
        let mut latents = Vec::new();
        for frame in 0..frames - (frames - 1) % 4 {
            cancel.check()?;
            let frame = area.cut(channels_last(video.frames(frame..frame + 1)));
            let frame = patches::pack(frame, self.config.patch());
            let cache = cache.get_or_insert_with(|| Self::cache(memory, &frame.device()));
            let mut trace = Trace::new(probe);
            latents.extend(self.encoder.forward(frame, cache, trace.at("encoder")));
        }
        Ok(self.quant_conv.forward(Tensor::cat(latents, 1)))
    }

    /// An empty feature cache.
    fn cache(memory: VaeMemory, device: &B::Device) -> FeatureCache<B> {
        FeatureCache::new(memory.half_cache && B::supports_dtype(device, DType::F16))
    }

    /// Decodes latents `[B, C, T, H, W]` that are not normalised; see [`VideoVae::decode`].
    ///
    /// # Panics
    /// If the latents do not have `z_dim` channels, or the tiles are not valid.
    pub fn decode_raw<'a>(
        &'a self,
        latents: Tensor<B, 5>,
        memory: VaeMemory,
        cancel: &'a CancelToken,
    ) -> Frames<'a, B> {
        assert_eq!(latents.dims()[1], self.config.z_dim, "channels of the latents");
        Frames::new(self, channels_last(latents), memory, cancel)
    }

    /// Normalised latents as the decoder reads them.
    fn unnormalised(&self, latents: Tensor<B, 5>) -> Tensor<B, 5> {
        let [mean, std] = self.statistics(&latents.device());
        latents * std + mean
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
        video: &dyn FrameSource<B>,
        memory: VaeMemory,
        cancel: &CancelToken,
    ) -> Result<Tensor<B, 5>, VaeError> {
        let mean = self.encode_to_distribution(video, memory, cancel, &mut ())?.mean;
        let [mean_of_all, std] = self.statistics(&mean.device());
        Ok((mean - mean_of_all) / std)
    }

    fn decode<'a>(
        &'a self,
        latents: Tensor<B, 5>,
        memory: VaeMemory,
        cancel: &'a CancelToken,
    ) -> DecodedFrames<'a, B> {
        Box::new(self.decode_raw(self.unnormalised(latents), memory, cancel))
    }

    fn stream_decoder(&self, memory: VaeMemory) -> Box<dyn StreamDecoder<B>> {
        Box::new(Streamed::new(self.clone(), memory)) // clones share the weights
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
