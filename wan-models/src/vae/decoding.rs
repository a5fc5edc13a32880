//! A video as it is decoded.

use burn::tensor::{DType, Tensor};
use wan_core::{Backend, CancelToken, Cancelled, Decoded, StreamDecoder, VaeError, VaeMemory};

use super::cache::FeatureCache;
use super::spool::{Spool, Spooled};
use super::tiling::{Area, Tiles};
use super::{WanVae, channels_first, channels_last, patches};
use crate::Probe;
use crate::probe::Trace;

/// The frames of a video as they are decoded, one latent frame a call. In tiles, the first calls
/// decode the tiles, one each, and the frames are joined from these.
#[derive(Debug)]
pub struct Frames<'a, B: Backend> {
    work: Work<'a, B>,
    way: Way<B>,
    /// The latent frame whose frames come next.
    next: usize,
}

#[derive(Debug)]
struct Work<'a, B: Backend> {
    vae: &'a WanVae<B>,
    /// Channels-last.
    latents: Tensor<B, 5>,
    memory: VaeMemory,
    cancel: &'a CancelToken,
}

#[derive(Debug)]
enum Way<B: Backend> {
    Whole(FeatureCache<B>),
    InTiles(DecodedTiles),
}

/// The tiles that have been decoded.
#[derive(Debug)]
struct DecodedTiles {
    /// In pixels, or in patches.
    tiles: Tiles,
    /// Of the latents, row by row.
    areas: Vec<Vec<Area>>,
    /// Of each tile that is done, the frames that each latent frame became.
    done: Vec<Vec<Vec<Spooled>>>,
    spool: Spool,
}

impl<'a, B: Backend> Frames<'a, B> {
    pub(super) fn new(
        vae: &'a WanVae<B>,
        latents: Tensor<B, 5>,
        memory: VaeMemory,
        cancel: &'a CancelToken,
    ) -> Self {
        let [_, _, height, width, _] = latents.dims();
        let (factor, patch) = (vae.config.spatial_factor(), vae.config.patch());
        let tiles = Tiles::of_latents(memory.tiling, factor, [height, width]);
        let way = match tiles.are_several() {
            true => Way::InTiles(DecodedTiles {
                areas: tiles.rows([height, width]),
                tiles: tiles.enlarge(factor / patch),
                done: Vec::new(),
                spool: Spool::new(),
            }),
            false => Way::Whole(WanVae::cache(memory, &latents.device())),
        };
        Self { work: Work { vae, latents, memory, cancel }, way, next: 0 }
    }

    /// What comes next, with a look at the intermediate tensors: see [`Iterator::next`].
    pub fn next_probed(
        &mut self,
        probe: &mut impl Probe<B>,
    ) -> Option<Result<Decoded<B>, VaeError>> {
        let frames = self.work.latents.dims()[1];
        if self.next == frames {
            return None;
        }
        let decoded = self.decode_next(probe);
        if decoded.is_err() {
            self.next = frames; // there is nothing more: the cache is of another frame
        }
        Some(decoded)
    }

    fn decode_next(&mut self, probe: &mut impl Probe<B>) -> Result<Decoded<B>, VaeError> {
        let Self { work, way, next } = self;
        if let Way::InTiles(tiles) = way
            && let Some(area) = tiles.next_area()
        {
            tiles.decode(area, work, probe)?;
            return Ok(Decoded::Tile { done: tiles.done.len(), total: tiles.total() });
        }
        let frames = match way {
            Way::Whole(cache) => work.decode(&work.latents, *next, cache, probe)?,
            Way::InTiles(tiles) => tiles.join(*next, work)?,
        };
        *next += 1;
        Ok(Decoded::Frames(work.vae.joined(frames)))
    }
}

impl<B: Backend> WanVae<B> {
    /// The frames `[B, 1, H, W, 3]` that a latent frame `[B, 1, h, w, C]` stands for, still packed.
    fn decode_frame(
        &self,
        latent: Tensor<B, 5>,
        cache: &mut FeatureCache<B>,
        probe: &mut impl Probe<B>,
    ) -> Vec<Tensor<B, 5>> {
        let latent = self.post_quant_conv.forward(latent);
        let frames = self.decoder.forward(latent, cache, Trace::new(probe).at("decoder"));
        frames.into_iter().map(|frame| frame.cast(DType::F32)).collect()
    }

    /// Decoded frames as the caller gets them, `[B, 3, t, H, W]`.
    fn joined(&self, frames: Vec<Tensor<B, 5>>) -> Tensor<B, 5> {
        let frames = patches::unpack(Tensor::cat(frames, 1), self.config.patch());
        channels_first(frames).clamp(-1.0, 1.0)
    }
}

impl<B: Backend> Work<'_, B> {
    /// The frames `[B, 1, H, W, 3]` that frame `i` of `latents` stands for, still packed.
    fn decode(
        &self,
        latents: &Tensor<B, 5>,
        i: usize,
        cache: &mut FeatureCache<B>,
        probe: &mut impl Probe<B>,
    ) -> Result<Vec<Tensor<B, 5>>, VaeError> {
        self.cancel.check()?;
        Ok(self.vae.decode_frame(latents.clone().narrow(1, i, 1), cache, probe))
    }

    fn cache(&self) -> FeatureCache<B> {
        WanVae::cache(self.memory, &self.latents.device())
    }
}

impl DecodedTiles {
    fn total(&self) -> usize {
        self.areas.iter().map(Vec::len).sum()
    }

    fn next_area(&self) -> Option<Area> {
        self.areas.iter().flatten().nth(self.done.len()).copied()
    }

    /// Decodes a tile of all latent frames.
    fn decode<B: Backend>(
        &mut self,
        area: Area,
        work: &Work<'_, B>,
        probe: &mut impl Probe<B>,
    ) -> Result<(), VaeError> {
        let (latents, mut cache) = (area.cut(work.latents.clone()), work.cache());
        let mut tile = Vec::new();
        for i in 0..latents.dims()[1] {
            let frames = work.decode(&latents, i, &mut cache, probe)?;
            let spooled = frames.into_iter().map(|frame| self.spool.push(frame));
            tile.push(spooled.collect::<Result<_, _>>()?);
        }
        self.done.push(tile);
        Ok(())
    }

    /// The frames `[B, 1, H, W, 3]` that a latent frame stands for, still packed.
    fn join<B: Backend>(
        &mut self,
        latent: usize,
        work: &Work<'_, B>,
    ) -> Result<Vec<Tensor<B, 5>>, VaeError> {
        work.cancel.check()?;
        let (device, count) = (work.latents.device(), self.done[0][latent].len());
        let mut frames = Vec::new();
        for i in 0..count {
            let mut tiles = self.done.iter();
            let mut rows = Vec::new();
            for row in &self.areas {
                let row = tiles.by_ref().take(row.len());
                let row = row.map(|tile| self.spool.read(&tile[latent][i], &device));
                rows.push(row.collect::<Result<_, _>>()?);
            }
            frames.push(self.tiles.join(rows));
        }
        Ok(frames)
    }
}

impl<B: Backend> Iterator for Frames<'_, B> {
    type Item = Result<Decoded<B>, VaeError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.next_probed(&mut ())
    }
}

/// A video that is decoded as its latents are made. In tiles, each has a feature cache of its own.
#[derive(Debug)]
pub(super) struct Streamed<B: Backend> {
    vae: WanVae<B>,
    memory: VaeMemory,
    /// Known with the first latents.
    areas: Option<Areas<B>>,
}

#[derive(Debug)]
struct Areas<B: Backend> {
    /// In pixels, or in patches.
    tiles: Tiles,
    /// Of the latents, row by row, each with what it remembers.
    rows: Vec<Vec<(Area, FeatureCache<B>)>>,
}

impl<B: Backend> Streamed<B> {
    pub(super) fn new(vae: WanVae<B>, memory: VaeMemory) -> Self {
        Self { vae, memory, areas: None }
    }
}

impl<B: Backend> StreamDecoder<B> for Streamed<B> {
    fn push(
        &mut self,
        latents: Tensor<B, 5>,
        cancel: &CancelToken,
    ) -> Result<Tensor<B, 5>, VaeError> {
        let Self { vae, memory, areas } = self;
        let latents = channels_last(vae.unnormalised(latents));
        let areas = areas.get_or_insert_with(|| Areas::new(vae, &latents, *memory));
        let mut frames = Vec::new();
        for i in 0..latents.dims()[1] {
            frames.extend(areas.decode(vae, &latents.clone().narrow(1, i, 1), cancel)?);
        }
        Ok(vae.joined(frames))
    }
}

impl<B: Backend> Areas<B> {
    /// For latents `[B, T, h, w, C]`.
    fn new(vae: &WanVae<B>, latents: &Tensor<B, 5>, memory: VaeMemory) -> Self {
        let [_, _, height, width, _] = latents.dims();
        let (factor, patch) = (vae.config.spatial_factor(), vae.config.patch());
        let tiles = Tiles::of_latents(memory.tiling, factor, [height, width]);
        let cache = || WanVae::cache(memory, &latents.device());
        let with_cache = |row: Vec<Area>| row.into_iter().map(|area| (area, cache())).collect();
        let rows = tiles.rows([height, width]).into_iter().map(with_cache).collect();
        Self { tiles: tiles.enlarge(factor / patch), rows }
    }

    /// The frames `[B, 1, H, W, 3]` that a latent frame stands for, still packed.
    fn decode(
        &mut self,
        vae: &WanVae<B>,
        latent: &Tensor<B, 5>,
        cancel: &CancelToken,
    ) -> Result<Vec<Tensor<B, 5>>, Cancelled> {
        // Of each frame, rows of tiles.
        let mut frames: Vec<Vec<Vec<Tensor<B, 5>>>> = Vec::new();
        for (i, row) in self.rows.iter_mut().enumerate() {
            for (area, cache) in row {
                cancel.check()?;
                let tiles = vae.decode_frame(area.cut(latent.clone()), cache, &mut ());
                frames.resize_with(tiles.len(), Vec::new);
                for (frame, tile) in frames.iter_mut().zip(tiles) {
                    frame.resize_with(i + 1, Vec::new);
                    frame[i].push(tile);
                }
            }
        }
        Ok(frames.into_iter().map(|rows| self.tiles.join(rows)).collect())
    }
}
