//! `AutoencoderKLWan`, of Wan 2.1 and of Wan 2.2.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{DType, Tensor};
use wan_core::noise::TorchGenerator;
use wan_core::{Backend, CancelToken, FrameSource, Tiling, VaeMemory};
use wan_io::files::ModelFiles;
use wan_io::weights::Weights;
use wan_models::Probe;
use wan_models::load::{TensorSource, load};
use wan_models::vae::{LatentDistribution, WanVae, WanVaeConfig};

use crate::drawn::{DrawnWeights, RULES};
use crate::fixture::{Array, Fixture, Recorder, compare_half, folders_of, half_dtypes, json};
use crate::tolerance::Stage;

/// Why an autoencoder is not one that is supported yet, if it is not.
pub fn unsupported(folder: &Path) -> Option<String> {
    let config = serde_json::from_value(json(&folder.join("config.json")));
    match config.map(|config: WanVaeConfig| config.validate()) {
        Ok(Ok(())) => None,
        Ok(Err(error)) => Some(error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

pub fn is_kind(folder: &Path) -> bool {
    let class = &json(&folder.join("config.json"))["_class_name"];
    class == "AutoencoderKLWan" && unsupported(folder).is_none()
}

/// The autoencoders that a backend is tried on. The wide one takes ndarray long and tells nothing of it, whose kernels
/// are the same at every width.
fn autoencoders(backend: &str) -> Vec<PathBuf> {
    let is_tried = |folder: &Path| backend != "ndarray" || !is_wide(folder);
    folders_of("autoencoder", |folder| is_kind(folder) && is_tried(folder))
}

/// Whether it is wide enough for the kernels of real widths: its weights are drawn.
fn is_wide(folder: &Path) -> bool {
    folder.join(RULES).is_file()
}

pub fn round_trip<B: Backend>(backend: &str) {
    for folder in autoencoders(backend) {
        check_round_trip(&open::<B>(&folder, DType::F32), &Fixture::open(&folder), backend);
    }
}

fn open<B: Backend>(folder: &Path, dtype: DType) -> WanVae<B> {
    let files = ModelFiles::folder(folder).unwrap();
    let config: WanVaeConfig = files.json("config.json").unwrap();
    let source: Arc<dyn TensorSource> = match is_wide(folder) {
        true => Arc::new(DrawnWeights::open(folder)),
        false => Arc::new(Weights::open(&files, ".", "diffusion_pytorch_model").unwrap()),
    };
    let device = B::open_device(0).unwrap();
    load(&source, &device, dtype, &config).unwrap()
}

pub fn half_precision<B: Backend>(backend: &str) {
    let device = B::open_device(0).unwrap();
    for dtype in half_dtypes::<B>(backend) {
        for folder in autoencoders(backend) {
            let (fixture, vae) = (Fixture::open(&folder), open::<B>(&folder, dtype));
            let whole = |case: &String| !case.starts_with("tiled");
            let check = |stage, name: String, found: Tensor<B, 5>| {
                let (found, exact) = (Array::of(found), fixture.outputs.get(&name));
                let name = format!("{}/{name}", fixture.name());
                compare_half(backend, &name, (stage, dtype), &found, exact);
            };
            for case in fixture.inputs.cases(".latents").into_iter().filter(whole) {
                let latents = fixture.inputs.get(&format!("{case}.latents")).tensor(&device);
                let cancel = CancelToken::default();
                let frames = vae.decode_raw(latents, VaeMemory::new(), &cancel);
                let frames = frames.filter_map(|chunk| chunk.unwrap().frames());
                let frames = Tensor::cat(frames.collect(), 2);
                check(Stage::Decode, format!("{case}.sample"), frames);
            }
            for case in fixture.inputs.cases(".video").into_iter().filter(whole) {
                let video = fixture.inputs.get(&format!("{case}.video")).tensor(&device);
                let mean = encode(&vae, &video, None, &mut ()).mean;
                check(Stage::Encode, format!("{case}.mean"), mean);
            }
        }
    }
}

/// A feature cache in f16, with all else in f32.
pub fn half_cache<B: Backend>(backend: &str) {
    let device = B::open_device(0).unwrap();
    if !half_dtypes::<B>(backend).contains(&DType::F16) {
        return;
    }
    let (memory, cancel) = (VaeMemory::new().half_cache(true), CancelToken::default());
    for folder in folders_of("autoencoder", |folder| is_kind(folder) && !is_wide(folder)) {
        let (fixture, vae) = (Fixture::open(&folder), open::<B>(&folder, DType::F32));
        let whole = |case: &String| !case.starts_with("tiled");
        let check = |stage, name: String, found: Tensor<B, 5>| {
            let (found, exact) = (Array::of(found), fixture.outputs.get(&name));
            let name = format!("{}/{name}, remembered", fixture.name());
            compare_half(backend, &name, (stage, DType::F16), &found, exact);
        };
        for case in fixture.inputs.cases(".latents").into_iter().filter(whole) {
            let latents = fixture.inputs.get(&format!("{case}.latents")).tensor(&device);
            let frames = vae.decode_raw(latents, memory, &cancel);
            let frames = frames.filter_map(|chunk| chunk.unwrap().frames());
            check(Stage::Decode, format!("{case}.sample"), Tensor::cat(frames.collect(), 2));
        }
        for case in fixture.inputs.cases(".video").into_iter().filter(whole) {
            let video: Tensor<B, 5> = fixture.inputs.get(&format!("{case}.video")).tensor(&device);
            let encoded = vae.encode_to_distribution(&video, memory, &cancel, &mut ());
            check(Stage::Encode, format!("{case}.mean"), encoded.unwrap().mean);
        }
    }
}

pub fn check_round_trip<B: Backend>(vae: &WanVae<B>, fixture: &Fixture, backend: &str) {
    let device = B::open_device(0).unwrap();
    let (latents, videos) = (fixture.inputs.cases(".latents"), fixture.inputs.cases(".video"));
    let (mut decoded, mut encoded) = (0, 0);
    for case in latents {
        let input = fixture.inputs.get(&format!("{case}.latents")).tensor(&device);
        decoded += check_decode(vae, input, fixture, backend, &case);
    }
    for case in videos {
        let input = fixture.inputs.get(&format!("{case}.video")).tensor(&device);
        encoded += check_encode(vae, input, fixture, backend, &case);
    }
    let name = fixture.name();
    assert!(decoded > 0 && encoded > 0, "{name} has no intermediate tensors of both ways");
}

/// Cases named `tiled_..` are in tiles; `untiled_..` holds the other result for the same input.
fn tiling(fixture: &Fixture, case: &str) -> Option<Tiling> {
    let size = |name: &str| {
        let size =
            |axis: &str| fixture.meta["tiling"][format!("tile_sample_{name}_{axis}")].as_u64();
        ["height", "width"].map(|axis| size(axis).expect("a tile size") as usize)
    };
    case.starts_with("tiled").then(|| Tiling::new(size("min"), size("stride")))
}

fn encode<B: Backend>(
    vae: &WanVae<B>,
    video: &dyn FrameSource<B>,
    tiling: Option<Tiling>,
    probe: &mut impl Probe<B>,
) -> LatentDistribution<B> {
    let memory = VaeMemory::new().tiling(tiling);
    let encoded = vae.encode_to_distribution(video, memory, &CancelToken::default(), probe);
    encoded.expect("nothing cancels it")
}

/// Says how many intermediate tensors were compared.
fn check_decode<B: Backend>(
    vae: &WanVae<B>,
    latents: Tensor<B, 5>,
    fixture: &Fixture,
    backend: &str,
    case: &str,
) -> usize {
    let decode = |tiling| {
        let mut recorder = Recorder::default();
        let cancel = CancelToken::default();
        let memory = VaeMemory::new().tiling(tiling);
        let mut frames = vae.decode_raw(latents.clone(), memory, &cancel);
        let mut chunks = Vec::new();
        while let Some(chunk) = frames.next_probed(&mut recorder) {
            chunks.extend(chunk.expect("nothing cancels it").frames());
        }
        assert_eq!(chunks.len(), latents.dims()[2], "one chunk a latent frame");
        (Array::of(Tensor::cat(chunks, 2)), recorder)
    };
    let tiling = tiling(fixture, case);
    let (video, recorder) = decode(tiling);
    fixture.check(backend, &format!("{case}.sample"), &video);
    if tiling.is_some() {
        fixture.check(backend, &format!("un{case}.sample"), &decode(None).0);
        return 0;
    }
    recorder.check(fixture, backend, case)
}

/// Says how many intermediate tensors were compared.
fn check_encode<B: Backend>(
    vae: &WanVae<B>,
    video: Tensor<B, 5>,
    fixture: &Fixture,
    backend: &str,
    case: &str,
) -> usize {
    let (mut recorder, tiling) = (Recorder::default(), tiling(fixture, case));
    let LatentDistribution { mean, log_variance } = encode(vae, &video, tiling, &mut recorder);
    let check = |name: &str, found: Tensor<B, 5>| {
        let name = format!("{case}.{name}");
        if fixture.outputs.has(&name) {
            fixture.check(backend, &name, &Array::of(found));
        }
    };
    // The moments hold the variance as it was before it was clamped; no fixture reaches the limits.
    check("moments", Tensor::cat(vec![mean.clone(), log_variance.clone()], 1));
    check("mean", mean.clone());
    check("logvar", log_variance.clone());
    let count = mean.shape().num_elements();
    let seeds = fixture.outputs.names().filter_map(|name| name.strip_prefix(case));
    for seed in seeds.filter_map(|name| name.strip_prefix(".sample_seed")) {
        let noise = TorchGenerator::new(seed.parse().expect("a seed")).randn(count);
        let noise = Array {
            shape: mean.dims().to_vec(),
            values: noise.into_iter().map(f64::from).collect(),
        };
        let std = (log_variance.clone() * 0.5).exp();
        let sample = mean.clone() + std * noise.tensor(&mean.device());
        check(&format!("sample_seed{seed}"), sample);
    }
    if tiling.is_some() {
        let mean = encode(vae, &video, None, &mut ()).mean;
        fixture.check(backend, &format!("un{case}.mean"), &Array::of(mean));
        return 0;
    }
    recorder.check(fixture, backend, case)
}
