//! A network of a model in a folder, run once at a size of a video, for `benches/compare/stages`:
//!
//! ```text
//! stages FOLDER f32|bf16 text TOKENS
//! stages FOLDER f32|bf16 image
//! stages FOLDER f32|bf16 pass WIDTH HEIGHT FRAMES
//! stages FOLDER f32|bf16 tokens WIDTH HEIGHT FRAMES
//! stages FOLDER f32|bf16 decode WIDTH HEIGHT FRAMES
//! stages FOLDER f32|bf16 encode WIDTH HEIGHT FRAMES
//! ```
//!
//! prints seconds, without those of loading: the least of three for a text or an image, of one for the others. With
//! `tokens` each token has a timestep of its own.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, TensorData};
use wan_core::noise::TorchGenerator;
use wan_core::{
    CancelToken, Conditioning, Control, Denoiser, Pass, TextConditioning, TextEncoder, Timesteps,
    VaeMemory, VideoVae,
};
use wan_io::files::ModelFiles;
use wan_io::weights::Weights;
use wan_models::clip::ClipVisionEncoder;
use wan_models::load::{Network, NetworkConfig, TensorSource, load};
use wan_models::transformer::{WanTransformer, WanTransformerConfig};
use wan_models::umt5::Umt5Encoder;
use wan_models::vae::{WanVae, WanVaeConfig};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Tokens of the prompt of a pass.
const TOKENS: usize = 40;

/// Those of CLIP ViT-H/14: patches and a class.
const IMAGE_TOKENS: usize = 257;

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, dtype, stage, sizes @ ..] = &arguments[..] else {
        return Err("FOLDER, f32 or bf16, a stage and its sizes".into());
    };
    let dtype = match dtype.as_str() {
        "f32" => DType::F32,
        "bf16" => DType::BF16,
        other => return Err(format!("f32 or bf16, not {other}").into()),
    };
    let model = Model { folder: Path::new(folder), dtype };
    let sizes: Vec<usize> =
        sizes.iter().map(|size| size.parse()).collect::<std::result::Result<_, _>>()?;
    let seconds = match (stage.as_str(), &sizes[..]) {
        ("text", &[tokens]) => model.encode_text(tokens as u32)?,
        ("image", &[]) => model.look()?,
        ("pass", &[width, height, frames]) => model.predict([width, height, frames], false)?,
        ("tokens", &[width, height, frames]) => model.predict([width, height, frames], true)?,
        ("decode", &[width, height, frames]) => model.decode([width, height, frames])?,
        ("encode", &[width, height, frames]) => model.encode([width, height, frames])?,
        _ => {
            return Err(
                "text TOKENS, image, or pass, tokens, decode or encode and WIDTH HEIGHT FRAMES"
                    .into(),
            );
        }
    };
    println!("{seconds:.3}");
    Ok(())
}

struct Model<'a> {
    folder: &'a Path,
    dtype: DType,
}

impl Model<'_> {
    fn load<N: Network<Flex>>(&self, part: &str, stem: &str) -> Result<(N, N::Config)>
    where
        N::Config: NetworkConfig,
    {
        let files = ModelFiles::folder(&self.folder.join(part))?;
        let config = files.json("config.json")?;
        let source: Arc<dyn TensorSource> = Arc::new(Weights::open(&files, "", stem)?);
        let source = N::Config::canonical_names(source)?; // without tensors that no network has a use for
        Ok((load(&source, &Default::default(), self.dtype, &config)?, config))
    }

    fn encode_text(&self, tokens: u32) -> Result<f64> {
        let (encoder, _) = self.load::<Umt5Encoder<Flex>>("text_encoder", "model")?;
        let ids: Vec<u32> = (1..=tokens).collect();
        let cancel = CancelToken::default();
        least_of_three(|| Ok(encoder.encode(&[&ids], &cancel)?))
    }

    fn look(&self) -> Result<f64> {
        let (encoder, config) = self.load::<ClipVisionEncoder<Flex>>("image_encoder", "model")?;
        let pixels = random([1, 3, config.image_size, config.image_size]);
        let cancel = CancelToken::default();
        least_of_three(|| Ok(encoder.hidden_states(pixels.clone(), 1, &cancel, &mut ())?))
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
            conditioning = conditioning.image(random([1, IMAGE_TOKENS, dim]));
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

/// Seconds.
fn least_of_three<T>(work: impl Fn() -> Result<T>) -> Result<f64> {
    let mut least = f64::INFINITY;
    for _ in 0..3 {
        let start = Instant::now();
        work()?;
        least = least.min(start.elapsed().as_secs_f64());
    }
    Ok(least)
}

fn random<const D: usize>(shape: [usize; D]) -> Tensor<Flex, D> {
    let values = TorchGenerator::new(0).randn(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), (&Default::default(), DType::F32))
}
