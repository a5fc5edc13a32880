//! The VAE without its numbers: the tensors of `wan_models::vae` on the CPU, for as long as they live.

use wan_core::Tiling;
use wan_models::vae::WanVaeConfig;

use super::meter::{Held, Meter};

/// Bytes of an element: the VAE computes in f32.
const ELEMENT: u64 = 4;
/// Chunks after which the feature cache does not grow any more.
const CHUNKS: usize = 4;

/// Frames `[1, T, H, W, C]`.
#[derive(Debug, Clone)]
struct Frames {
    memory: Held,
    frames: usize,
    size: [usize; 2],
    channels: usize,
    /// Whether they are all of their memory, and not a part of it.
    whole: bool,
}

impl Frames {
    fn elements(&self) -> u64 {
        elements(self.frames, self.size, self.channels)
    }

    /// The last `frames` of these, in the same memory.
    fn last(&self, frames: usize) -> Self {
        let whole = self.whole && frames == self.frames;
        Self { frames, whole, ..self.clone() }
    }
}

/// What a temporal layer remembers.
#[derive(Debug, Clone, Default)]
enum Slot {
    #[default]
    Unused,
    FirstFramePassed,
    Past(Frames),
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
    (encoder_parameters(config) + decoder_parameters(config) + moments) as u64
}

/// The most that decoding holds beside the weights and the latents `[frames, height, width]`.
pub(super) fn decoding(
    config: &WanVaeConfig,
    [frames, height, width]: [usize; 3],
    tiling: Option<Tiling>,
) -> u64 {
    let pass = Pass(Meter::default());
    let factor = config.spatial_factor();
    let shrink = |tiling: Tiling| {
        let [size, stride] = [tiling.size, tiling.stride].map(|sides| sides.map(|n| n / factor));
        Tiling::new(size, stride)
    };
    let sizes = tiles(tiling.map(shrink), [height, width]);
    let mut caches = vec![Cache::default(); sizes.len()];
    for _ in 0..frames.min(CHUNKS) {
        let decode = |(size, cache): (&[usize; 2], &mut Cache)| {
            cache.next = 0;
            pass.decode(config, pass.frames(1, *size, config.z_dim), cache)
        };
        let tiles: Vec<Frames> = sizes.iter().zip(&mut caches).map(decode).collect();
        let (chunk, size) = (tiles[0].frames, [height * factor, width * factor]);
        // Blended, joined and cut to -1..1; then looked at and copied on the host, and in bytes.
        let blended = (tiles.len() > 1).then(|| [(); 2].map(|()| pass.frames(chunk, size, 3)));
        let joined = pass.frames(chunk, size, 3);
        drop((tiles, blended));
        drop(pass.frames(chunk, size, 3));
        drop(joined);
        let host = pass.frames(chunk, size, 3);
        drop(pass.0.hold(host.elements()));
    }
    pass.0.peak()
}

/// The most that encoding a video `[frames, height, width]` holds beside the weights.
pub(super) fn encoding(
    config: &WanVaeConfig,
    [frames, height, width]: [usize; 3],
    tiling: Option<Tiling>,
) -> u64 {
    let pass = Pass(Meter::default());
    let _video = pass.frames(frames, [height, width], 3);
    for size in tiles(tiling, [height, width]) {
        let mut cache = Cache::default();
        for chunk in 0..(1 + (frames - 1) / 4).min(CHUNKS) {
            cache.next = 0;
            let chunk = pass.frames(if chunk == 0 { 1 } else { 4 }, size, 3);
            pass.encode(config, chunk, &mut cache);
        }
    }
    pass.0.peak()
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
struct Pass(Meter);

impl Pass {
    fn frames(&self, frames: usize, size: [usize; 2], channels: usize) -> Frames {
        let memory = self.0.hold(ELEMENT * elements(frames, size, channels));
        Frames { memory, frames, size, channels, whole: true }
    }

    fn decode(&self, config: &WanVaeConfig, latent: Frames, cache: &mut Cache) -> Frames {
        let widths = decoder_widths(config);
        let x = self.causal(latent, cache.slot(), widths[0], true);
        let mut x = self.middle(x, cache);
        for (level, &width) in widths.iter().enumerate() {
            for _ in 0..=config.num_res_blocks {
                x = self.residual(x, width, cache);
            }
            if let Some(&temporal) = config.temporal_downsample.iter().rev().nth(level) {
                x = self.upsample(x, temporal, cache);
            }
        }
        self.causal(self.norm(x), cache.slot(), 3, true)
    }

    fn encode(&self, config: &WanVaeConfig, frames: Frames, cache: &mut Cache) -> Frames {
        let mut x = self.causal(frames, cache.slot(), config.base_dim, true);
        for (level, multiple) in config.dim_mult.iter().enumerate() {
            for _ in 0..config.num_res_blocks {
                x = self.residual(x, multiple * config.base_dim, cache);
            }
            if let Some(&temporal) = config.temporal_downsample.get(level) {
                x = self.downsample(x, temporal, cache);
            }
        }
        let x = self.middle(x, cache);
        self.causal(self.norm(x), cache.slot(), 2 * config.z_dim, true)
    }

    fn middle(&self, x: Frames, cache: &mut Cache) -> Frames {
        let width = x.channels;
        let x = self.residual(x, width, cache);
        let y = {
            let normed = self.norm(x.clone());
            let joined = self.frames(x.frames, x.size, 3 * width);
            drop(normed);
            let attended = self.frames(x.frames, x.size, width);
            let y = self.frames(x.frames, x.size, width);
            drop((joined, attended));
            y
        };
        drop(x);
        self.residual(y, width, cache)
    }

    fn residual(&self, x: Frames, width: usize, cache: &mut Cache) -> Frames {
        let shortcut = match x.channels == width {
            true => x.clone(),
            false => self.frames(x.frames, x.size, width),
        };
        let x = self.causal(self.norm(x), cache.slot(), width, true);
        let x = self.causal(self.norm(x), cache.slot(), width, true);
        drop(shortcut);
        x
    }

    fn upsample(&self, x: Frames, temporal: bool, cache: &mut Cache) -> Frames {
        let x = if temporal { self.double_time(x, cache.slot()) } else { x };
        let larger = self.frames(x.frames, x.size.map(|side| 2 * side), x.channels);
        let width = x.channels / 2;
        drop(x);
        let (frames, size) = (larger.frames, larger.size);
        self.conv(None, larger, true, || self.frames(frames, size, width))
    }

    fn double_time(&self, x: Frames, slot: &mut Slot) -> Frames {
        if let Slot::Unused = slot {
            *slot = Slot::FirstFramePassed;
            return x;
        }
        let width = x.channels;
        let y = self.causal(x, slot, 2 * width, false);
        self.frames(2 * y.frames, y.size, width)
    }

    fn downsample(&self, x: Frames, temporal: bool, cache: &mut Cache) -> Frames {
        let (frames, size, width) = (x.frames, x.size.map(|side| side / 2), x.channels);
        let x = self.conv(None, x, true, || self.frames(frames, size, width));
        if !temporal {
            return x;
        }
        let slot = cache.slot();
        match std::mem::replace(slot, Slot::Past(x.last(1))) {
            Slot::Past(past) => {
                self.conv(Some(past), x, false, || self.frames(frames.div_ceil(2), size, width))
            }
            _ => x,
        }
    }

    /// In place where nobody else has the frames.
    fn norm(&self, x: Frames) -> Frames {
        match x.memory.is_unique() {
            true => x,
            false => self.frames(x.frames, x.size, x.channels),
        }
    }

    fn causal(&self, x: Frames, slot: &mut Slot, width: usize, padded: bool) -> Frames {
        let past = match slot {
            Slot::Past(past) => Some(past.clone()),
            _ => None,
        };
        let known = match &past {
            Some(past) if x.frames < 2 => self.frames(past.frames + x.frames, x.size, x.channels),
            _ => x.clone(),
        };
        *slot = Slot::Past(known.last(known.frames.min(2)));
        drop(known);
        let (frames, size) = (x.frames, x.size);
        self.conv(past, x, padded, || self.frames(frames, size, width))
    }

    /// Frames of the past that are a part of their memory are copied out of it; all are copied into
    /// a margin of one pixel.
    fn conv(
        &self,
        past: Option<Frames>,
        x: Frames,
        padded: bool,
        out: impl FnOnce() -> Frames,
    ) -> Frames {
        let past = past.map(|past| match past.whole {
            true => past,
            false => self.frames(past.frames, past.size, past.channels),
        });
        let frames = x.frames + past.as_ref().map_or(0, |past| past.frames);
        let margin = x.size.map(|side| side + 2);
        let _margin = padded.then(|| self.frames(frames, margin, x.channels));
        out()
    }
}

fn elements(frames: usize, [height, width]: [usize; 2], channels: usize) -> u64 {
    [frames, height, width, channels].map(|n| n as u64).iter().product()
}

fn decoder_widths(config: &WanVaeConfig) -> Vec<usize> {
    let base = config.decoder_base_dim.unwrap_or(config.base_dim);
    config.dim_mult.iter().rev().map(|multiple| multiple * base).collect()
}

fn decoder_parameters(config: &WanVaeConfig) -> usize {
    let widths = decoder_widths(config);
    let mut elements = conv(config.z_dim, widths[0], 27) + middle(widths[0]);
    let mut input = widths[0];
    for (level, &width) in widths.iter().enumerate() {
        for _ in 0..=config.num_res_blocks {
            elements += residual(input, width);
            input = width;
        }
        if let Some(&temporal) = config.temporal_downsample.iter().rev().nth(level) {
            elements += conv(width, width / 2, 9);
            elements += if temporal { conv(width, 2 * width, 3) } else { 0 };
            input = width / 2;
        }
    }
    elements + input + conv(input, 3, 27)
}

fn encoder_parameters(config: &WanVaeConfig) -> usize {
    let mut input = config.base_dim;
    let mut elements = conv(3, input, 27);
    for (level, multiple) in config.dim_mult.iter().enumerate() {
        for _ in 0..config.num_res_blocks {
            elements += residual(input, multiple * config.base_dim);
            input = multiple * config.base_dim;
        }
        if let Some(&temporal) = config.temporal_downsample.get(level) {
            elements += conv(input, input, 9);
            elements += if temporal { conv(input, input, 3) } else { 0 };
        }
    }
    elements + middle(input) + input + conv(input, 2 * config.z_dim, 27)
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
