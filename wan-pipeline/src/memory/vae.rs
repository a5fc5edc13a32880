//! The VAE without its numbers: the tensors of `wan_models::vae` on the CPU, for as long as they live.

use std::collections::BTreeSet;

use wan_core::{Tiling, VaeMemory};
use wan_models::vae::WanVaeConfig;

use super::meter::{Held, Meter};

/// Bytes of an element between the layers, which is f32 whatever they compute in.
const ELEMENT: u64 = 4;
/// Latent frames after which the feature cache does not grow any more.
const LATENTS: usize = 4;

/// A frame `[1, 1, H, W, C]`.
#[derive(Debug, Clone)]
struct Frame {
    memory: Held,
    size: [usize; 2],
    channels: usize,
    /// Bytes of an element.
    element: u64,
}

/// What a temporal layer remembers.
#[derive(Debug, Clone, Default)]
struct Slot {
    past: Vec<Held>,
    has_begun: bool,
}

impl Slot {
    fn remember(&mut self, frame: Held) -> Vec<Held> {
        let before = self.past.clone();
        self.past.push(frame);
        self.forget(2);
        before
    }

    /// The frame before, if this is the second of a pair.
    fn first_of_pair(&mut self, frame: &Held) -> Option<Held> {
        let first = self.past.pop();
        if first.is_none() {
            self.past.push(frame.clone());
        }
        first
    }

    fn begin(&mut self) -> bool {
        !std::mem::replace(&mut self.has_begun, true)
    }

    fn forget(&mut self, kept: usize) {
        self.past.drain(..self.past.len().saturating_sub(kept));
    }
}

#[derive(Debug, Clone, Default)]
struct Cache {
    slots: Vec<Slot>,
    next: usize,
}

impl Cache {
    fn slot(&mut self) -> &mut Slot {
        if self.next == self.slots.len() {
            self.slots.push(Slot::default());
        }
        self.next += 1;
        &mut self.slots[self.next - 1]
    }
}

/// The elements of the weights.
pub(super) fn parameters(config: &WanVaeConfig) -> u64 {
    let z = config.z_dim;
    let moments = linear(2 * z, 2 * z) + linear(z, z);
    let layers = encoder_layers(config).into_iter().chain(decoder_layers(config));
    (layers.map(|(_, weights)| weights).sum::<usize>() + moments) as u64
}

/// The most that decoding holds beside the weights and the latents `[frames, height, width]`.
pub(super) fn decoding(
    config: &WanVaeConfig,
    [frames, height, width]: [usize; 3],
    memory: VaeMemory,
    element: usize,
    threads: usize,
) -> u64 {
    let pass = Pass::new(config, memory, element, threads);
    let factor = config.spatial_factor();
    let tiling = memory.tiling.map(|tiling| scaled(tiling, |side| side / factor));
    let tiles = tiles(tiling, [height, width]);
    let video = [height, width].map(|side| side * factor);
    for &size in tiles.iter().collect::<BTreeSet<_>>() {
        let mut cache = Cache::default();
        for _ in 0..frames.min(LATENTS) {
            cache.next = 0;
            let frames = pass.decode(pass.frame(size, config.z_dim), &mut cache);
            if tiles.len() == 1 {
                pass.hand_over(frames);
            }
        }
    }
    if tiles.len() > 1 {
        pass.join(frames, &tiles, video);
    }
    pass.meter.peak_with_gaps()
}

/// What decoding a stream holds beside the weights and the latents.
pub(super) struct Streaming {
    /// Between two latent frames.
    pub(super) remembered: u64,
    /// At most.
    pub(super) peak: u64,
}

/// What decoding a stream of latents of this height and width holds: all tiles are remembered at a time.
pub(super) fn streaming(
    config: &WanVaeConfig,
    size: [usize; 2],
    memory: VaeMemory,
    element: usize,
    threads: usize,
) -> Streaming {
    let pass = Pass::new(config, memory, element, threads);
    let factor = config.spatial_factor();
    let tiles = tiles(memory.tiling.map(|tiling| scaled(tiling, |side| side / factor)), size);
    let mut caches = vec![Cache::default(); tiles.len()];
    for latent in 0..LATENTS {
        let mut frames = Vec::new();
        for (&size, cache) in tiles.iter().zip(&mut caches) {
            cache.next = 0;
            frames.push(pass.decode(pass.frame(size, config.z_dim), cache));
        }
        match frames.len() {
            1 => pass.hand_over(frames.remove(0)),
            _ => pass.join(latent + 1, &tiles, size.map(|side| side * factor)),
        }
    }
    Streaming { remembered: pass.meter.held(), peak: pass.meter.peak_with_gaps() }
}

/// The most that encoding a video `[frames, height, width]` holds beside the weights.
pub(super) fn encoding(
    config: &WanVaeConfig,
    [frames, height, width]: [usize; 3],
    memory: VaeMemory,
    element: usize,
    threads: usize,
) -> u64 {
    let pass = Pass::new(config, memory, element, threads);
    let tiling = memory.tiling.map(|tiling| scaled(tiling, |side| side * config.patch()));
    for size in tiles(tiling, [height, width]).into_iter().collect::<BTreeSet<_>>() {
        let mut cache = Cache::default();
        for _ in 0..frames.min(4 * LATENTS + 1) {
            cache.next = 0;
            // A tile's part of a frame keeps all of it.
            let frame = Frame { size, ..pass.frame([height, width], 3) };
            pass.encode(pass.pack(frame), &mut cache);
        }
    }
    pass.meter.peak_with_gaps()
}

fn scaled(tiling: Tiling, scale: impl Fn(usize) -> usize) -> Tiling {
    Tiling::new(tiling.size.map(&scale), tiling.stride.map(&scale))
}

/// The sizes of the tiles that frames are cut into.
fn tiles(tiling: Option<Tiling>, [height, width]: [usize; 2]) -> Vec<[usize; 2]> {
    let divides = |tiling: &Tiling| height > tiling.size[0] || width > tiling.size[1];
    let Some(Tiling { size, stride, .. }) = tiling.filter(divides) else {
        return vec![[height, width]];
    };
    let rows = (0..height).step_by(stride[0]);
    rows.flat_map(|top| {
        let columns = (0..width).step_by(stride[1]);
        columns.map(move |left| [size[0].min(height - top), size[1].min(width - left)])
    })
    .collect()
}

/// The layers, as `wan_models::vae` has them.
struct Pass<'a> {
    meter: Meter,
    config: &'a WanVaeConfig,
    half_cache: bool,
    /// Bytes of an element that convolutions read.
    element: u64,
    threads: usize,
}

impl<'a> Pass<'a> {
    fn new(config: &'a WanVaeConfig, memory: VaeMemory, element: usize, threads: usize) -> Self {
        let (meter, element) = (Meter::default(), element as u64);
        Self { meter, config, half_cache: memory.half_cache, element, threads }
    }

    fn frame(&self, size: [usize; 2], channels: usize) -> Frame {
        self.frame_of(ELEMENT, size, channels)
    }

    fn frame_of(&self, element: u64, size: [usize; 2], channels: usize) -> Frame {
        Frame {
            memory: self.meter.hold(element * elements(size, channels)),
            size,
            channels,
            element,
        }
    }

    /// In the dtype that convolutions read.
    fn cast(&self, x: Frame) -> Frame {
        if x.element == self.element { x } else { self.frame_of(self.element, x.size, x.channels) }
    }

    fn decode(&self, latent: Frame, cache: &mut Cache) -> Vec<Frame> {
        let widths = self.config.decoder_widths();
        let x = self.causal(latent, cache, widths[0]);
        let x = self.middle(x, cache);
        let mut frames = Vec::new();
        self.go_up(&widths, 0, x, cache, &mut frames);
        frames
    }

    fn go_up(
        &self,
        widths: &[usize],
        level: usize,
        mut x: Frame,
        cache: &mut Cache,
        frames: &mut Vec<Frame>,
    ) {
        let Self { config, .. } = self;
        let temporal = config.temporal_downsample.iter().rev().nth(level);
        let around = (config.is_residual && temporal.is_some()).then(|| x.clone());
        for _ in 0..=config.num_res_blocks {
            x = self.residual(x, widths[level], cache);
        }
        let Some(&temporal) = temporal else {
            return frames.push(self.causal(self.norm(x), cache, config.out_channels));
        };
        let pair = if temporal { self.double_time(x, cache.slot()) } else { vec![x] };
        let above = cache.next;
        for x in pair {
            cache.next = above;
            let mut larger = self.enlarge(x);
            if around.is_some() {
                larger = self.frame(larger.size, larger.channels); // the sum
            }
            self.go_up(widths, level + 1, larger, cache, frames);
        }
    }

    fn encode(&self, frame: Frame, cache: &mut Cache) -> Option<Frame> {
        let Self { config, .. } = self;
        let mut x = self.causal(frame, cache, config.base_dim);
        for (level, multiple) in config.dim_mult.iter().enumerate() {
            let (temporal, width) =
                (config.temporal_downsample.get(level), multiple * config.base_dim);
            let shortcut = match (config.is_residual, temporal) {
                (false, _) => None,
                (true, None) => Some(x.clone()),
                (true, Some(&temporal)) => self.average(&x, width, temporal, cache.slot()),
            };
            for _ in 0..config.num_res_blocks {
                x = self.residual(x, width, cache);
            }
            if let Some(&temporal) = temporal {
                x = self.downsample(x, temporal, cache)?;
            }
            drop(shortcut);
        }
        let x = self.middle(x, cache);
        Some(self.causal(self.norm(x), cache, 2 * config.z_dim))
    }

    fn middle(&self, x: Frame, cache: &mut Cache) -> Frame {
        let width = x.channels;
        let x = self.residual(x, width, cache);
        let y = {
            let normed = self.norm(x.clone());
            let joined = self.frame_of(self.element, x.size, 3 * width);
            drop(normed);
            let attended = self.frame_of(self.element, x.size, width);
            let y = self.frame_of(self.element, x.size, width);
            let y = if y.element == ELEMENT { y } else { self.frame(x.size, width) };
            drop((joined, attended));
            y
        };
        drop(x);
        self.residual(y, width, cache)
    }

    fn residual(&self, x: Frame, width: usize, cache: &mut Cache) -> Frame {
        let shortcut = match x.channels == width {
            true => x.clone(),
            false => {
                let product = self.frame_of(self.element, x.size, width);
                if self.element == ELEMENT { product } else { self.frame(x.size, width) }
            }
        };
        let x = self.causal(self.norm(x), cache, width);
        let x = self.causal(self.norm(x), cache, width);
        drop(shortcut);
        x
    }

    /// The values of squares are copied, and those of two frames joined.
    fn average(&self, x: &Frame, width: usize, temporal: bool, slot: &mut Slot) -> Option<Frame> {
        let bytes = ELEMENT * elements(x.size, x.channels);
        let mut values = self.meter.hold(bytes);
        if temporal {
            let first = match slot.begin() {
                true => Some(self.meter.hold(bytes)),
                false => slot.first_of_pair(&values),
            };
            let first = first?;
            let joined = self.meter.hold(2 * bytes);
            drop(first);
            values = joined;
        }
        let means = self.frame(x.size.map(|side| side / 2), width);
        drop(values);
        Some(means)
    }

    /// The frames are views of what the convolution gives.
    fn double_time(&self, x: Frame, slot: &mut Slot) -> Vec<Frame> {
        if slot.begin() {
            return vec![x];
        }
        let x = self.cast(x);
        let _past = slot.remember(x.memory.clone());
        let joined = self.frame(x.size, 2 * x.channels);
        vec![Frame { memory: joined.memory, element: ELEMENT, ..x }; 2]
    }

    fn enlarge(&self, x: Frame) -> Frame {
        let (size, width) = (x.size.map(|side| 2 * side), self.config.upsampled_width(x.channels));
        // A view is copied; the memory of both is free again after the second copy.
        let is_view = !self.is_whole(&x);
        let x = self.cast(if is_view { self.frame(x.size, x.channels) } else { x });
        let larger = self.convolve(&x, size, width, 1);
        drop(x);
        larger
    }

    fn is_whole(&self, x: &Frame) -> bool {
        x.memory.bytes() == x.element * elements(x.size, x.channels)
    }

    fn downsample(&self, x: Frame, temporal: bool, cache: &mut Cache) -> Option<Frame> {
        let x = self.cast(x);
        let smaller = self.frame(x.size.map(|side| side / 2), x.channels);
        drop(x);
        if !temporal {
            return Some(smaller);
        }
        let slot = cache.slot();
        let past = slot.remember(self.cast(smaller.clone()).memory);
        match past.len() {
            0 => Some(smaller),
            1 => None,
            _ => {
                slot.forget(1);
                Some(self.frame(smaller.size, smaller.channels))
            }
        }
    }

    /// In place where nobody else has the frame, and the next layer reads its dtype.
    fn norm(&self, x: Frame) -> Frame {
        if self.element != ELEMENT {
            return self.cast(x);
        }
        match x.memory.is_unique() {
            true => x,
            false => self.frame(x.size, x.channels),
        }
    }

    fn causal(&self, x: Frame, cache: &mut Cache, width: usize) -> Frame {
        let x = self.cast(x);
        let kept = match self.half_cache && x.element == ELEMENT {
            true => self.meter.hold(ELEMENT / 2 * elements(x.size, x.channels)),
            false => x.memory.clone(),
        };
        let _past = cache.slot().remember(kept);
        self.convolve(&x, x.size, width, 3)
    }

    /// By a kernel of `kt` x 3 x 3. In 16 bits kernels and tiles of pixels are transformed first, to 36 values in f32
    /// for each 3 x 3 taps and each tile: the numbers are those of `flex/bf16/winograd.rs` in `wan-core`.
    fn convolve(&self, x: &Frame, size: [usize; 2], width: usize, kt: usize) -> Frame {
        const VALUES: usize = 4 * 36;
        const TILES: usize = 96;
        let y = self.frame(size, width);
        if self.element != ELEMENT && x.channels.min(width) >= 32 {
            let kernels = kt * x.channels * width;
            let tiles = TILES * (x.channels + width) * self.threads;
            drop((
                self.meter.hold((VALUES * kernels) as u64),
                self.meter.hold((VALUES * tiles) as u64),
            ));
        }
        y
    }

    /// A frame of pixels as one of patches, of which the elements are the same.
    fn pack(&self, frame: Frame) -> Frame {
        let patch = self.config.patch();
        if patch == 1 {
            return frame;
        }
        let size = frame.size.map(|side| side / patch);
        self.frame(size, frame.channels * patch * patch)
    }

    /// The frames of a latent frame, joined, unpacked and cut to -1..1; then looked at and copied on the
    /// host, and in bytes.
    fn hand_over(&self, frames: Vec<Frame>) {
        let (count, size, channels) = (frames.len(), frames[0].size, frames[0].channels);
        let copy = || self.frame(size, channels * count);
        let joined = if count > 1 { copy() } else { frames[0].clone() };
        drop(frames);
        let joined = if self.config.patch() > 1 { copy() } else { joined };
        let cut = copy();
        drop(joined);
        drop(copy());
        let host = copy();
        drop(cut);
        drop(self.meter.hold(elements(host.size, host.channels)));
    }

    /// The frames of a latent frame, joined from tiles that are read and blended.
    fn join(&self, latents: usize, tiles: &[[usize; 2]], size: [usize; 2]) {
        let factor = self.config.spatial_factor();
        let count = if latents > 1 { self.config.temporal_factor() } else { 1 };
        let mut frames = Vec::new();
        for _ in 0..count {
            let tile = |size: &[usize; 2]| self.frame(size.map(|side| side * factor), 3);
            let read: Vec<Frame> = tiles.iter().map(tile).collect();
            let blended: Vec<Frame> = tiles.iter().map(tile).collect();
            drop(read);
            let rows = self.frame(size, 3);
            frames.push(self.frame(size, 3));
            drop((blended, rows));
        }
        self.hand_over(frames);
    }
}

fn elements([height, width]: [usize; 2], channels: usize) -> u64 {
    [height, width, channels].map(|n| n as u64).iter().product()
}

/// The decoder's layers: how many positions each computes for one of the latents, about, and its weights.
pub(super) fn decoder_layers(config: &WanVaeConfig) -> Vec<(f64, usize)> {
    let widths = config.decoder_widths();
    let mut positions = 1.0;
    let mut layers = vec![(positions, conv(config.z_dim, widths[0], 27) + middle(widths[0]))];
    let mut input = widths[0];
    for (level, &width) in widths.iter().enumerate() {
        for _ in 0..=config.num_res_blocks {
            layers.push((positions, residual(input, width)));
            input = width;
        }
        if let Some(&temporal) = config.temporal_downsample.iter().rev().nth(level) {
            layers.push((positions, if temporal { conv(width, 2 * width, 3) } else { 0 }));
            positions *= if temporal { 8.0 } else { 4.0 };
            input = config.upsampled_width(width);
            layers.push((positions, conv(width, input, 9)));
        }
    }
    layers.push((positions, input + conv(input, config.out_channels, 27)));
    layers
}

/// The same of the encoder.
pub(super) fn encoder_layers(config: &WanVaeConfig) -> Vec<(f64, usize)> {
    let side = config.spatial_factor() / config.patch();
    let (mut positions, mut input) =
        ((side * side * config.temporal_factor()) as f64, config.base_dim);
    let mut layers = vec![(positions, conv(config.in_channels, input, 27))];
    for (level, multiple) in config.dim_mult.iter().enumerate() {
        let width = multiple * config.base_dim;
        for _ in 0..config.num_res_blocks {
            layers.push((positions, residual(input, width)));
            input = width;
        }
        if let Some(&temporal) = config.temporal_downsample.get(level) {
            positions /= 4.0;
            layers.push((positions, conv(input, input, 9)));
            positions /= if temporal { 2.0 } else { 1.0 };
            layers.push((positions, if temporal { conv(input, input, 3) } else { 0 }));
        }
    }
    layers.push((positions, middle(input) + input + conv(input, 2 * config.z_dim, 27)));
    layers
}

fn conv(input: usize, output: usize, taps: usize) -> usize {
    input * output * taps + output
}

fn linear(input: usize, output: usize) -> usize {
    conv(input, output, 1)
}

fn residual(input: usize, output: usize) -> usize {
    let shortcut = if input == output { 0 } else { linear(input, output) };
    input + conv(input, output, 27) + output + conv(output, output, 27) + shortcut
}

fn middle(width: usize) -> usize {
    2 * residual(width, width) + width + linear(width, 3 * width) + linear(width, width)
}
