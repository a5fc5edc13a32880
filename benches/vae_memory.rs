//! Decodes (or encodes) a video with a VAE alone and prints the time for a latent frame and the most
//! memory that the process had:
//! `cargo run --release -p wan-benches --example vae_memory -- FOLDER WIDTH HEIGHT FRAMES [--tile SIDE]
//! [--half-cache] [--bf16] [--encode]`.
//!
//! FOLDER is that of a VAE, such as `vae` in a ghost of `ghosts/make_ghost.py`. Latents and frames are random,
//! and a frame to encode is made when it is asked for. A checksum of the results tells whether two versions
//! compute the same.

use std::error::Error;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, TensorData};
use clap::Parser;
use wan_core::noise::TorchGenerator;
use wan_core::{CancelToken, FrameSource, Tiling, VaeMemory, VideoVae};
use wan_io::files::ModelFiles;
use wan_io::weights::Weights;
use wan_models::load::{TensorSource, load};
use wan_models::vae::{WanVae, WanVaeConfig};

#[derive(Parser)]
struct Options {
    folder: String,
    width: usize,
    height: usize,
    frames: usize,
    /// In square tiles of so many pixels
    #[arg(long)]
    tile: Option<usize>,
    /// Keep the feature cache in f16
    #[arg(long)]
    half_cache: bool,
    /// Compute in bf16 instead of f32
    #[arg(long)]
    bf16: bool,
    #[arg(long)]
    encode: bool,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    let dtype = if options.bf16 { DType::BF16 } else { DType::F32 };
    let vae = open(&options.folder, dtype)?;
    let memory = VaeMemory::new().tiling(options.tile.map(Tiling::square));
    let memory = memory.half_cache(options.half_cache);
    let loaded = megabytes("VmRSS:");
    let start = Instant::now();
    let latents = (options.frames - 1) / vae.config().temporal_factor() + 1;
    let checksum = match options.encode {
        true => encode(&vae, &options, memory)?,
        false => decode(&vae, &options, latents, memory)?,
    };
    println!(
        "{:.2} s for each of {latents} latent frames, {loaded} MiB loaded, VmHWM {} MiB, checksum {checksum:016x}",
        start.elapsed().as_secs_f64() / latents as f64,
        megabytes("VmHWM:"),
    );
    Ok(())
}

fn open(folder: &str, dtype: DType) -> Result<WanVae<Flex>, Box<dyn Error>> {
    let files = ModelFiles::folder(Path::new(folder))?;
    let config: WanVaeConfig = files.json("config.json")?;
    config.validate()?;
    let weights = Weights::open(&files, "", "diffusion_pytorch_model")?;
    let source: Arc<dyn TensorSource> = Arc::new(weights);
    Ok(load(&source, &Default::default(), dtype, &config)?)
}

fn decode(
    vae: &WanVae<Flex>,
    options: &Options,
    latents: usize,
    memory: VaeMemory,
) -> Result<u64, Box<dyn Error>> {
    let factor = vae.config().spatial_factor();
    let [height, width] = [options.height, options.width].map(|side| side / factor);
    let latents = random([1, vae.config().z_dim, latents, height, width], 0);
    let (cancel, mut hasher) = (CancelToken::default(), DefaultHasher::new());
    for chunk in vae.decode(latents, memory, &cancel) {
        if let Some(frames) = chunk?.frames() {
            hash(frames, &mut hasher);
        }
    }
    Ok(hasher.finish())
}

fn encode(vae: &WanVae<Flex>, options: &Options, memory: VaeMemory) -> Result<u64, Box<dyn Error>> {
    let video = Noise([options.frames, options.height, options.width]);
    let mut hasher = DefaultHasher::new();
    hash(vae.encode(&video, memory, &CancelToken::default())?, &mut hasher);
    Ok(hasher.finish())
}

/// A video of noise, of so many frames, height and width.
struct Noise([usize; 3]);

impl FrameSource<Flex> for Noise {
    fn size(&self) -> [usize; 3] {
        self.0
    }

    fn frames(&self, range: Range<usize>) -> Tensor<Flex, 5> {
        let [_, height, width] = self.0;
        let frame = |index| random([1, 3, 1, height, width], index as u64).tanh();
        Tensor::cat(range.map(frame).collect(), 2)
    }
}

fn random(shape: [usize; 5], seed: u64) -> Tensor<Flex, 5> {
    let values = TorchGenerator::new(seed).randn(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), (&Default::default(), DType::F32))
}

fn hash(x: Tensor<Flex, 5>, hasher: &mut DefaultHasher) {
    x.into_data().as_bytes().hash(hasher);
}

fn megabytes(field: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kilobytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) / 1024
}
