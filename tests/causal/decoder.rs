//! Decoding of latents that come piece by piece.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::noise::TorchGenerator;
use wan_core::{Backend, CancelToken, Tiling, VaeError, VaeMemory, VideoVae};
use wan_io::files::ModelFiles;
use wan_io::weights::Weights;
use wan_models::load::{TensorSource, load};
use wan_models::vae::{WanVae, WanVaeConfig};
use wan_pipeline::backend::Flex;

const FRAMES: usize = 5;
/// Height and width of the latents.
const SIZE: [usize; 2] = [4, 6];

fn folders() -> [PathBuf; 3] {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    ["tests/fixtures/vae21", "tests/fixtures/vae22", "tiny-wan/model/vae"]
        .map(|folder| repository.join(folder))
}

fn open(folder: &Path) -> WanVae<Flex> {
    let files = ModelFiles::folder(folder).unwrap();
    let config: WanVaeConfig = files.json("config.json").unwrap();
    let weights = Weights::open(&files, ".", "diffusion_pytorch_model").unwrap();
    let source: Arc<dyn TensorSource> = Arc::new(weights);
    load(&source, &Flex::open_device(0).unwrap(), DType::F32, &config).unwrap()
}

fn latents(vae: &WanVae<Flex>) -> Tensor<Flex, 5> {
    let shape = [1, vae.config().z_dim, FRAMES, SIZE[0], SIZE[1]];
    let values = TorchGenerator::new(7).randn(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), (&Default::default(), DType::F32))
}

fn bits(frames: Vec<Tensor<Flex, 5>>) -> Vec<u32> {
    let values: Vec<f32> = Tensor::cat(frames, 2).into_data().to_vec().unwrap();
    values.into_iter().map(f32::to_bits).collect()
}

/// Whole frames, frames in tiles, and such that are remembered in 16 bits.
fn memories(vae: &WanVae<Flex>) -> [VaeMemory; 3] {
    let factor = vae.config().spatial_factor();
    let tiling = Tiling::new([3 * factor, 4 * factor], [2 * factor, 3 * factor]);
    [
        VaeMemory::new(),
        VaeMemory::new().tiling(tiling),
        VaeMemory::new().tiling(tiling).half_cache(true),
    ]
}

#[test]
fn pieces_are_decoded_as_the_whole() {
    let cancel = CancelToken::default();
    for folder in folders() {
        let vae = open(&folder);
        let latents = latents(&vae);
        for memory in memories(&vae) {
            let whole = vae.decode(latents.clone(), memory, &cancel);
            let whole = bits(whole.filter_map(|decoded| decoded.unwrap().frames()).collect());
            for pieces in [&[FRAMES][..], &[1; FRAMES], &[3, 2], &[1, 4]] {
                let mut decoder = vae.stream_decoder(memory);
                let mut start = 0;
                let push = |&count: &usize| {
                    let piece = latents.clone().narrow(2, start, count);
                    let frames = decoder.push(piece, &cancel).unwrap();
                    assert_eq!(frames.dims()[2], 4 * count - if start == 0 { 3 } else { 0 });
                    start += count;
                    frames
                };
                let decoded = bits(pieces.iter().map(push).collect());
                assert!(decoded == whole, "{}, {memory:?}, {pieces:?}", folder.display());
            }
        }
    }
}

#[test]
fn decoding_stops() {
    let vae = open(&folders()[0]);
    let (go_on, stop) = (CancelToken::default(), CancelToken::default());
    stop.cancel();
    let mut decoder = vae.stream_decoder(VaeMemory::new());
    decoder.push(latents(&vae), &go_on).unwrap();
    assert!(matches!(decoder.push(latents(&vae), &stop), Err(VaeError::Cancelled(_))));
}
