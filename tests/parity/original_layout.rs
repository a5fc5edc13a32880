//! The weights of other fixtures under the names of the original repository: safetensors, single and
//! sharded, and `.pth`. Loaded through the name maps they must give what those fixtures give.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::backend::Flex;
use burn::tensor::DType;
use safetensors::SafeTensors;
use wan_core::Backend;
use wan_io::files::ModelFiles;
use wan_io::weights::Weights;
use wan_models::load::{NetworkConfig, TensorSource, load};
use wan_models::transformer::{OriginalConfig, WanTransformer, WanTransformerConfig};
use wan_models::umt5::{Umt5Config, Umt5Encoder};
use wan_models::vae::{WanVae, WanVaeConfig};

use crate::fixture::{Fixture, folders_of, json, root};
use crate::{dit, umt5, vae};

pub fn is_kind(folder: &Path) -> bool {
    folder.join("dit/config.json").is_file() && folder.join("pth_edge_cases").is_dir()
}

fn folders() -> Vec<PathBuf> {
    folders_of("original layout", is_kind)
}

/// The fixture that the weights were taken from.
pub fn origin(name: &str) -> Fixture {
    Fixture::open(&root().join(name))
}

pub fn config_of<T: serde::de::DeserializeOwned>(fixture: &Fixture) -> T {
    serde_json::from_value(json(&fixture.folder.join("config.json"))).unwrap()
}

fn open(folder: &Path, stem: &str) -> Arc<dyn TensorSource> {
    let files = ModelFiles::folder(folder).unwrap();
    Arc::new(Weights::open(&files, "", stem).unwrap())
}

pub fn open_file(file: &Path) -> Arc<dyn TensorSource> {
    Arc::new(Weights::open_path(file).unwrap())
}

pub const STEM: &str = "diffusion_pytorch_model";

pub fn transformer<B: Backend>(backend: &str) {
    let expected = origin("dit_t2v");
    let device = B::open_device(0).unwrap();
    for folder in folders() {
        let files = ModelFiles::folder(&folder.join("dit")).unwrap();
        let original: OriginalConfig = files.json("config.json").unwrap();
        original.validate().unwrap();
        let check = |source: Arc<dyn TensorSource>| {
            let source = WanTransformerConfig::canonical_names(source).unwrap();
            let config = WanTransformerConfig::from_original(&original, &*source).unwrap();
            config.validate().unwrap();
            assert_eq!(config, config_of(&expected));
            let transformer: WanTransformer<B> =
                load(&source, &device, DType::F32, &config).unwrap();
            dit::check_velocity(&transformer, &expected, backend);
        };
        check(open(&folder.join("dit"), STEM));

        // Below the prefix of single files, under the names of either layout.
        let temporary = tempfile::tempdir().unwrap();
        for weights in [folder.join("dit"), expected.folder.clone()] {
            let file = temporary.path().join("model.safetensors");
            let weights = weights.join(format!("{STEM}.safetensors"));
            rename(&weights, &file, |name| format!("model.diffusion_model.{name}"));
            check(open_file(&file));
        }
    }
}

/// Writes the tensors of a file under other names.
pub fn rename(from: &Path, to: &Path, renamed: impl Fn(&str) -> String) {
    let bytes = std::fs::read(from).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = tensors.tensors();
    let views = tensors.iter().map(|(name, view)| (renamed(name), view));
    std::fs::write(to, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// The shards hold the same tensors rounded to bfloat16.
#[test]
fn shards() {
    for folder in folders() {
        let (whole, sharded) =
            (open(&folder.join("dit"), STEM), open(&folder.join("dit_sharded"), STEM));
        assert_eq!(whole.names(), sharded.names());
        for name in whole.names() {
            let (exact, rounded) = (whole.tensor(&name).unwrap(), sharded.tensor(&name).unwrap());
            assert_eq!(exact.shape, rounded.shape, "{name}");
            let (exact, rounded) = (exact.bytes().unwrap(), rounded.bytes().unwrap());
            let exact = exact.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
            let rounded = rounded.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b));
            assert!(exact.map(|v| half::bf16::from_f32(v).to_bits()).eq(rounded), "{name}");
        }
        let source = WanTransformerConfig::canonical_names(sharded).unwrap();
        let config: WanTransformerConfig = config_of(&origin("dit_t2v"));
        let device = Default::default();
        load::<Flex, WanTransformer<Flex>>(&source, &device, DType::BF16, &config).unwrap();
    }
}

pub fn text_encoder<B: Backend>(backend: &str) {
    let inputs = origin("umt5").inputs;
    let device = B::open_device(0).unwrap();
    for folder in folders() {
        let fixture = Fixture::open(&folder);
        let file = folder.join("t5/models_t5_umt5-enc-bf16.pth");
        let source = Umt5Config::canonical_names(open_file(&file)).unwrap();
        let config = Umt5Config::infer(&*source).unwrap();
        config.validate().unwrap();
        assert_eq!(config, config_of(&origin("umt5")));
        let encoder: Umt5Encoder<B> = load(&source, &device, DType::F32, &config).unwrap();
        for case in ["short", "long"] {
            for (sample, ids) in umt5::prompts(&inputs, case).iter().enumerate() {
                let states = umt5::states_of(&encoder, ids, &mut ());
                umt5::check_states(&fixture, backend, &format!("t5.{case}"), sample, &states);
            }
        }
    }
}

pub fn vae<B: Backend>(backend: &str) {
    let expected = origin("vae21");
    let device = B::open_device(0).unwrap();
    for folder in folders() {
        let source = open_file(&folder.join("vae/Wan2.1_VAE.pth"));
        let source = WanVaeConfig::canonical_names(source).unwrap();
        let config = WanVaeConfig::infer(&*source).unwrap();
        config.validate().unwrap();
        assert_eq!(config, config_of(&expected));
        let vae: WanVae<B> = load(&source, &device, DType::F32, &config).unwrap();
        vae::check_round_trip(&vae, &expected, backend);
    }
}

/// No fixture has the VAE of Wan 2.2 in the original layout: the other one under its names.
pub fn vae_of_wan22<B: Backend>(backend: &str) {
    let expected = origin("vae22");
    let stored: WanVaeConfig = config_of(&expected);
    let temporary = tempfile::tempdir().unwrap();
    let file = temporary.path().join("Wan2.2_VAE.safetensors");
    let weights = expected.folder.join(format!("{STEM}.safetensors"));
    rename(&weights, &file, |name| original_name(name, stored.num_res_blocks));
    let source = WanVaeConfig::canonical_names(open_file(&file)).unwrap();
    let inferred = WanVaeConfig::infer(&*source).unwrap();
    // Nothing but a constant of the published size tells the distribution of the latents.
    let (latents_mean, latents_std) = (stored.latents_mean.clone(), stored.latents_std.clone());
    let config = WanVaeConfig { latents_mean, latents_std, ..inferred };
    config.validate().unwrap();
    assert_eq!(config, stored);
    let device = B::open_device(0).unwrap();
    let vae: WanVae<B> = load(&source, &device, DType::F32, &config).unwrap();
    vae::check_round_trip(&vae, &expected, backend);
}

/// What `wan/modules/vae2_2.py` calls a tensor of diffusers: there each level is a list of its blocks and its
/// resampling, and each block a list of its layers.
fn original_name(name: &str, blocks: usize) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    let residual = |rest: &[&str]| match rest {
        ["norm1", rest] => format!("residual.0.{rest}"),
        ["conv1", rest] => format!("residual.2.{rest}"),
        ["norm2", rest] => format!("residual.3.{rest}"),
        ["conv2", rest] => format!("residual.6.{rest}"),
        ["conv_shortcut", rest] => format!("shortcut.{rest}"),
        other => panic!("{other:?} in {name}"),
    };
    match &parts[..] {
        ["quant_conv", rest] => format!("conv1.{rest}"),
        ["post_quant_conv", rest] => format!("conv2.{rest}"),
        [side, "conv_in", rest] => format!("{side}.conv1.{rest}"),
        [side, "norm_out", rest] => format!("{side}.head.0.{rest}"),
        [side, "conv_out", rest] => format!("{side}.head.2.{rest}"),
        [side, "mid_block", "attentions", "0", rest @ ..] => {
            format!("{side}.middle.1.{}", rest.join("."))
        }
        [side, "mid_block", "resnets", i, rest @ ..] => {
            let i = 2 * i.parse::<usize>().unwrap();
            format!("{side}.middle.{i}.{}", residual(rest))
        }
        ["encoder", "down_blocks", level, "resnets", i, rest @ ..] => {
            format!("encoder.downsamples.{level}.downsamples.{i}.{}", residual(rest))
        }
        ["encoder", "down_blocks", level, "downsampler", rest @ ..] => {
            format!("encoder.downsamples.{level}.downsamples.{blocks}.{}", rest.join("."))
        }
        ["decoder", "up_blocks", level, "resnets", i, rest @ ..] => {
            format!("decoder.upsamples.{level}.upsamples.{i}.{}", residual(rest))
        }
        ["decoder", "up_blocks", level, "upsampler", rest @ ..] => {
            format!("decoder.upsamples.{level}.upsamples.{}.{}", blocks + 1, rest.join("."))
        }
        _ => panic!("{name}"),
    }
}
