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
fn origin(name: &str) -> Fixture {
    Fixture::open(&root().join(name))
}

fn config_of<T: serde::de::DeserializeOwned>(fixture: &Fixture) -> T {
    serde_json::from_value(json(&fixture.folder.join("config.json"))).unwrap()
}

fn open(folder: &Path, stem: &str) -> Arc<dyn TensorSource> {
    let files = ModelFiles::folder(folder).unwrap();
    Arc::new(Weights::open(&files, "", stem).unwrap())
}

fn open_file(file: &Path) -> Arc<dyn TensorSource> {
    Arc::new(Weights::open_path(file).unwrap())
}

const STEM: &str = "diffusion_pytorch_model";

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
            prefix_names(&weights.join(format!("{STEM}.safetensors")), &file);
            check(open_file(&file));
        }
    }
}

fn prefix_names(from: &Path, to: &Path) {
    let bytes = std::fs::read(from).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let tensors = tensors.tensors();
    let views = tensors.iter().map(|(name, view)| (format!("model.diffusion_model.{name}"), view));
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
