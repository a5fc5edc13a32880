//! A network of a model in a folder, run once at a size of a video, for `benches/compare/stages`:
//!
//! ```text
//! stages FOLDER f32|bf16 text TOKENS
//! stages FOLDER f32|bf16 tower TOKENS
//! stages FOLDER f32|bf16 image
//! stages FOLDER f32|bf16 pass WIDTH HEIGHT FRAMES
//! stages FOLDER f32|bf16 tokens WIDTH HEIGHT FRAMES
//! stages FOLDER f32|bf16 decode WIDTH HEIGHT FRAMES
//! stages FOLDER f32|bf16 encode WIDTH HEIGHT FRAMES
//! ```
//!
//! prints the CPU kernel for bf16, if that is computed in, and seconds, without those of loading: the least of those of a
//! second, three at least, for a text or an image, of one run for the others. `tower` is the text tower of the CLIP of a
//! model in the original layout. With `tokens` each token has a timestep of its own. `--kernel NAME` chooses the kernel,
//! `--threads N` says with how many threads.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, TensorData};
use clap::Parser;
use wan_core::backend::{CpuKernel, set_cpu_threads};
use wan_core::noise::TorchGenerator;
use wan_core::{
    CancelToken, Conditioning, Control, Denoiser, Pass, TextConditioning, TextEncoder, Timesteps,
    VaeMemory, VideoVae,
};
use wan_io::files::ModelFiles;
use wan_io::weights::Weights;
use wan_models::clip::{ClipVisionEncoder, XlmRobertaEncoder};
use wan_models::load::{Network, NetworkConfig, TensorSource, load};
use wan_models::transformer::{WanTransformer, WanTransformerConfig};
use wan_models::umt5::Umt5Encoder;
use wan_models::vae::{WanVae, WanVaeConfig};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Tokens of the prompt of a pass.
const TOKENS: usize = 40;

/// Those of CLIP ViT-H/14: patches and a class.
const IMAGE_TOKENS: usize = 257;

/// Which the CLIP of Wan 2.1 is published as.
const CLIP: &str = "models_clip_open-clip-xlm-roberta-large-vit-huge-14";

const USAGE: &str =
    "text or tower TOKENS, image, or pass, tokens, decode or encode WIDTH HEIGHT FRAMES";

#[derive(Parser)]
struct Options {
    folder: PathBuf,
    #[arg(value_parser = dtype)]
    dtype: DType,
    stage: String,
    sizes: Vec<usize>,
    /// The CPU kernel for bf16
    #[arg(long)]
    kernel: Option<CpuKernel>,
    #[arg(long)]
    threads: Option<usize>,
}

fn dtype(name: &str) -> std::result::Result<DType, String> {
    match name {
        "f32" => Ok(DType::F32),
        "bf16" => Ok(DType::BF16),
        other => Err(format!("f32 or bf16, not {other}")),
    }
}

fn main() -> Result<()> {
    let Options { folder, dtype, stage, sizes, kernel, threads } = Options::parse();
    // As sentences: `main` prints errors for programmers.
    if let Some(threads) = threads {
        set_cpu_threads(threads).map_err(|error| error.to_string())?;
    }
    if let Some(kernel) = kernel {
        kernel.choose().map_err(|error| error.to_string())?;
    }
    let seconds = Model { folder, dtype }.run(&stage, &sizes)?;
    match dtype {
        DType::BF16 => println!("{} {seconds:.6}", CpuKernel::current()),
        _ => println!("{seconds:.6}"),
    }
    Ok(())
}

struct Model {
    folder: PathBuf,
    dtype: DType,
}

impl Model {
    fn run(&self, stage: &str, sizes: &[usize]) -> Result<f64> {
        match (stage, sizes) {
            ("text", &[tokens]) => self.encode_text(tokens as u32),
            ("tower", &[tokens]) => self.read(tokens as u32),
            ("image", &[]) => self.look(),
            ("pass", &[width, height, frames]) => self.predict([width, height, frames], false),
            ("tokens", &[width, height, frames]) => self.predict([width, height, frames], true),
            ("decode", &[width, height, frames]) => self.decode([width, height, frames]),
            ("encode", &[width, height, frames]) => self.encode([width, height, frames]),
            _ => Err(USAGE.into()),
        }
    }

    fn load<N: Network<Flex>>(&self, part: &str, stem: &str) -> Result<(N, N::Config)>
    where
        N::Config: NetworkConfig,
    {
        let files = ModelFiles::folder(&self.folder.join(part))?;
        let source: Arc<dyn TensorSource> = Arc::new(Weights::open(&files, "", stem)?);
        let source = N::Config::canonical_names(source)?; // without tensors that no network has a use for
        let config = match files.has("config.json") {
            true => files.json("config.json")?,
            false => N::Config::infer(source.as_ref())?,
        };
        Ok((load(&source, &Default::default(), self.dtype, &config)?, config))
    }

    fn encode_text(&self, tokens: u32) -> Result<f64> {
        let (encoder, _) = self.load::<Umt5Encoder<Flex>>("text_encoder", "model")?;
        let ids: Vec<u32> = (1..=tokens).collect();
        let cancel = CancelToken::default();
        least(|| Ok(encoder.encode(&[&ids], &cancel)?))
    }

    fn read(&self, tokens: u32) -> Result<f64> {
        let (tower, config) = self.load::<XlmRobertaEncoder<Flex>>("", CLIP)?;
        // The token of padding stands for no word.
        let ids: Vec<u32> = (1..=tokens).map(|id| config.pad_token_id + id).collect();
        let cancel = CancelToken::default();
        least(|| Ok(tower.encode(&[&ids], &cancel)?))
    }

    fn look(&self) -> Result<f64> {
        let (encoder, config) = self.load::<ClipVisionEncoder<Flex>>("image_encoder", "model")?;
        let pixels = random([1, 3, config.image_size, config.image_size]);
        let cancel = CancelToken::default();
        least(|| Ok(encoder.hidden_states(pixels.clone(), 1, &cancel, &mut ())?))
    }

    /// A pass without guidance, on all that the network can be conditioned on.
    fn predict(&self, size: [usize; 3], has_time_of_tokens: bool) -> Result<f64> {
        let (transformer, config): (WanTransformer<Flex>, WanTransformerConfig) =
            self.load("transformer", "diffusion_pytorch_model")?;
        let shape = latents(size, config.out_channels, self.vae_config()?.spatial_factor());
        let [_, _, frames, height, width] = shape;
        let text: Tensor<Flex, 3> = random([1, TOKENS, config.text_dim]);
        let mut conditioning = Conditioning::new(TextConditioning::pad(text, 512));
        if let Some(dim) = config.image_dim {
            // Two images have positions, to be told apart.
            let tokens = config.pos_embed_seq_len.unwrap_or(IMAGE_TOKENS);
            conditioning = conditioning.image(random([1, tokens, dim]));
        }
        let beside = config.in_channels - config.out_channels;
        if beside > 0 {
            conditioning = conditioning.channels(random([1, beside, frames, height, width]));
        }
        if !config.vace_layers().is_empty() {
            let latents = random([1, config.vace_channels(), frames, height, width]);
            conditioning = conditioning.control(Control { latents, scales: Vec::new() });
        }
        let in_frame = (height / config.patch_size[1]) * (width / config.patch_size[2]);
        let mut tokens = vec![500.0; in_frame * frames / config.patch_size[0]];
        tokens[..in_frame].fill(0.0);
        let timesteps = match has_time_of_tokens {
            true => Timesteps::PerToken(vec![tokens]),
            false => vec![500.0].into(),
        };
        let latents = random(shape);
        let start = Instant::now();
        let branch = transformer.branches(&[conditioning], [frames, height, width]).remove(0);
        let pass = Pass::new(latents, timesteps, &branch);
        transformer.velocities(&[pass], &CancelToken::default())?;
        Ok(start.elapsed().as_secs_f64())
    }

    fn vae_config(&self) -> Result<WanVaeConfig> {
        Ok(ModelFiles::folder(&self.folder.join("vae"))?.json("config.json")?)
    }

    fn decode(&self, size: [usize; 3]) -> Result<f64> {
        let (vae, _): (WanVae<Flex>, _) = self.load("vae", "diffusion_pytorch_model")?;
        let config = vae.config();
        let latents = random(latents(size, config.z_dim, config.spatial_factor()));
        let start = Instant::now();
        for chunk in vae.decode(latents, VaeMemory::new(), &CancelToken::default()) {
            drop(chunk?);
        }
        Ok(start.elapsed().as_secs_f64())
    }

    fn encode(&self, [width, height, frames]: [usize; 3]) -> Result<f64> {
        let (vae, _): (WanVae<Flex>, _) = self.load("vae", "diffusion_pytorch_model")?;
        let video = random([1, 3, frames, height, width]).tanh();
        let start = Instant::now();
        vae.encode(&video, VaeMemory::new(), &CancelToken::default())?;
        Ok(start.elapsed().as_secs_f64())
    }
}

/// The shape of the latents of a video: width, height, frames. `factor` is the side of a latent in pixels.
fn latents([width, height, frames]: [usize; 3], channels: usize, factor: usize) -> [usize; 5] {
    [1, channels, (frames - 1) / 4 + 1, height / factor, width / factor]
}

/// The least of the seconds of a second, three at least.
fn least<T>(work: impl Fn() -> Result<T>) -> Result<f64> {
    let (began, mut least, mut runs) = (Instant::now(), f64::INFINITY, 0);
    while runs < 3 || began.elapsed().as_secs() < 1 {
        let start = Instant::now();
        work()?;
        least = least.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    Ok(least)
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
    let values = TorchGenerator::new(0).randn(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), (&Default::default(), DType::F32))
}
