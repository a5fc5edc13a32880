//! Passes of the transformer over blocks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::noise::TorchGenerator;
use wan_core::{
    Backend, Branch, CancelToken, Conditioning, Denoiser, ForwardError, Pass, TextConditioning,
    Timesteps,
};
use wan_io::files::ModelFiles;
use wan_io::weights::Weights;
use wan_models::load::{TensorSource, load};
use wan_models::transformer::{CausalWindow, WanTransformer, WanTransformerConfig};
use wan_pipeline::backend::{Flex, NdArray};

use crate::oracle::{Blocks, Windowed, in_blocks};

/// Height and width of the latents.
const SIZE: [usize; 2] = [4, 6];
const TOKENS_IN_FRAME: usize = 6;
/// No number of tokens of whole frames, so that the oracle can tell self-attention.
const TEXT: usize = 7;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A small network with random weights, and that of the miniature.
fn folders() -> [PathBuf; 2] {
    ["tests/fixtures/dit_t2v", "tiny-wan/model/transformer"].map(|folder| repository().join(folder))
}

fn open<B: Backend>(folder: &Path, dtype: DType) -> WanTransformer<B> {
    let files = ModelFiles::folder(folder).unwrap();
    let config: WanTransformerConfig = files.json("config.json").unwrap();
    let weights = Weights::open(&files, ".", "diffusion_pytorch_model").unwrap();
    let source: Arc<dyn TensorSource> = Arc::new(weights);
    load(&source, &B::open_device(0).unwrap(), dtype, &config).unwrap()
}

fn random<B: Backend, const D: usize>(seed: u64, shape: [usize; D]) -> Tensor<B, D> {
    let values = TorchGenerator::new(seed).randn(shape.iter().product());
    let device = B::open_device(0).unwrap();
    Tensor::from_data(TensorData::new(values, shape), (&device, DType::F32))
}

fn branch<B: Backend>(transformer: &WanTransformer<B>, frames: usize) -> Branch<B> {
    let text = TextConditioning::new(random(99, [1, TEXT, transformer.config().text_dim]));
    let size = [frames, SIZE[0], SIZE[1]];
    transformer.branches(&[Conditioning::new(text)], size).remove(0)
}

/// Latents of so many frames.
fn latents<B: Backend>(seed: u64, frames: usize) -> Tensor<B, 5> {
    random(seed, [1, 16, frames, SIZE[0], SIZE[1]])
}

fn values<B: Backend>(x: Tensor<B, 5>) -> Vec<f32> {
    x.into_data().to_vec().unwrap()
}

fn bits<B: Backend>(x: Tensor<B, 5>) -> Vec<u32> {
    values(x).into_iter().map(f32::to_bits).collect()
}

fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The velocities of blocks one after the other, and the bytes of the cache after each.
fn stream<B: Backend>(
    transformer: &WanTransformer<B>,
    window: CausalWindow,
    blocks: usize,
) -> (Vec<Tensor<B, 5>>, Vec<u64>) {
    let (cancel, branch) = (CancelToken::default(), branch(transformer, window.block));
    let mut cache = transformer.begin_causal(window, SIZE);
    let mut bytes = Vec::new();
    let velocities = (0..blocks).map(|i| {
        let noisy = Pass::new(noisy(i, window), vec![timestep(i)], &branch);
        let velocity = transformer.causal_velocity(&noisy, &cache, &cancel).unwrap();
        let clean = Pass::new(clean(i, window), vec![0.0], &branch);
        transformer.remember_block(&clean, &mut cache, &cancel).unwrap();
        bytes.push(cache.bytes());
        velocity
    });
    (velocities.collect(), bytes)
}

fn noisy<B: Backend>(block: usize, window: CausalWindow) -> Tensor<B, 5> {
    latents(100 + block as u64, window.block)
}

fn clean<B: Backend>(block: usize, window: CausalWindow) -> Tensor<B, 5> {
    latents(200 + block as u64, window.block)
}

fn timestep(block: usize) -> f32 {
    [1000.0, 625.0, 937.5][block % 3]
}

/// The velocity of block `i` by a single pass over all blocks up to it, of which those before it are clean.
fn in_one_sequence(
    transformer: &WanTransformer<Windowed<Flex>>,
    window: CausalWindow,
    i: usize,
) -> Vec<f32> {
    let (before, frames) = (i * window.block, (i + 1) * window.block);
    let blocks = (0..i).map(|block| clean(block, window)).chain([noisy(i, window)]);
    let mut timesteps = vec![timestep(i); frames * TOKENS_IN_FRAME];
    timesteps[..before * TOKENS_IN_FRAME].fill(0.0);
    let branch = branch(transformer, frames);
    let timesteps = Timesteps::PerToken(vec![timesteps]);
    let pass = Pass::new(Tensor::cat(blocks.collect(), 2), timesteps, &branch);
    let grid = [frames, SIZE[0] / 2, SIZE[1] / 2];
    let velocity = in_blocks(Blocks { window, grid }, || {
        transformer.velocities(&[pass], &CancelToken::default()).unwrap().remove(0)
    });
    values(velocity.narrow(2, before, window.block))
}

/// In f32 and in 16 bits: nothing is rounded that the ordinary pass does not round.
#[test]
fn one_block_is_an_ordinary_pass() {
    for folder in folders() {
        for dtype in [DType::F32, DType::BF16] {
            let transformer = open::<Flex>(&folder, dtype);
            let (branch, cancel) = (branch(&transformer, 5), CancelToken::default());
            let pass = Pass::new(latents(1, 5), vec![937.5], &branch);
            let passes = std::slice::from_ref(&pass);
            let ordinary = bits(transformer.velocities(passes, &cancel).unwrap().remove(0));
            for window in [CausalWindow::new(5, 5, 0), CausalWindow::new(5, 21, 3)] {
                let cache = transformer.begin_causal(window, SIZE);
                let causal = transformer.causal_velocity(&pass, &cache, &cancel).unwrap();
                assert!(bits(causal) == ordinary, "{} in {dtype:?}", folder.display());
            }
        }
    }
}

#[test]
fn a_cached_pass_is_one_over_all_blocks_with_a_mask() {
    is_one_over_all_blocks::<Flex>("flex");
}

#[test]
fn so_it_is_on_ndarray() {
    is_one_over_all_blocks::<NdArray>("ndarray");
}

#[cfg(feature = "wgpu")]
#[test]
fn so_it_is_on_wgpu() {
    use wan_pipeline::backend::Wgpu;

    match Wgpu::open_device(0) {
        Ok(_) => is_one_over_all_blocks::<Wgpu>("wgpu"),
        Err(error) => {
            let is_required = std::env::var("WAN_REQUIRE_WGPU").is_ok_and(|value| value == "1");
            assert!(!is_required, "{error}");
            println!("skipped: {error}");
        }
    }
}

/// Of a window of the whole video, of one that rolls, of one that is less than two blocks, and with a sink.
fn is_one_over_all_blocks<B: Backend>(backend: &str) {
    let (mut largest, allowed): (f32, _) = (0.0, if backend == "wgpu" { 1e-4 } else { 1e-5 });
    for folder in folders() {
        let transformer = open::<B>(&folder, DType::F32);
        let oracle = open::<Windowed<Flex>>(&folder, DType::F32);
        for (block, window, sink) in [
            (2, 12, 0),
            (1, 4, 0),
            (2, 6, 0),
            (3, 5, 0),
            (3, 3, 0),
            (2, 6, 1),
            (1, 4, 2),
            (3, 5, 2),
        ] {
            let window = CausalWindow::new(block, window, sink);
            let (velocities, _) = stream(&transformer, window, 6);
            for (i, velocity) in velocities.into_iter().enumerate() {
                let expected = in_one_sequence(&oracle, window, i);
                let difference = largest_difference(&values(velocity), &expected);
                assert!(difference < allowed, "{backend}, {window:?}, block {i}: {difference}");
                largest = largest.max(difference);
            }
        }
    }
    println!("{backend}: {largest:e}");
}

/// What the window lets a block see does change it, or the test above would say nothing.
#[test]
fn a_block_sees_its_window_and_no_more() {
    let transformer = open::<Flex>(&folders()[0], DType::F32);
    let last = |window, sink| {
        let (mut velocities, _) = stream(&transformer, CausalWindow::new(2, window, sink), 5);
        values(velocities.pop().unwrap())
    };
    let different = [last(10, 0), last(6, 0), last(6, 2), last(6, 1), last(2, 0)];
    for (i, one) in different.iter().enumerate() {
        for other in &different[..i] {
            assert!(largest_difference(one, other) > 1e-3);
        }
    }
    // Without past, each block is the first.
    let (alone, _) = stream(&transformer, CausalWindow::new(2, 2, 0), 5);
    let branch = branch(&transformer, 2);
    let pass = Pass::new(noisy(4, CausalWindow::new(2, 2, 0)), vec![timestep(4)], &branch);
    let ordinary = transformer.velocities(&[pass], &CancelToken::default()).unwrap().remove(0);
    assert!(bits(alone[4].clone()) == bits(ordinary));
}

#[test]
fn the_cache_grows_up_to_the_window() {
    for dtype in [DType::F32, DType::BF16] {
        let transformer = open::<Flex>(&folders()[1], dtype);
        let config = transformer.config();
        let in_frame = 2 * config.num_layers * TOKENS_IN_FRAME * config.inner_dim() * dtype.size();
        for (block, window, sink) in [(2, 7, 0), (2, 7, 3), (3, 4, 1), (2, 2, 0)] {
            let (_, bytes) = stream(&transformer, CausalWindow::new(block, window, sink), 8);
            let frames = |blocks: usize| (blocks * block).min(window - block);
            let expected: Vec<u64> = (1..=8).map(|n| (frames(n) * in_frame) as u64).collect();
            assert_eq!(bytes, expected, "{block} of {window}, {sink}");
        }
    }
}

/// In 16 bits the cache rounds keys before they are turned: as far off as any other rounding.
#[test]
fn in_16_bits_it_stays_close() {
    let window = CausalWindow::new(2, 6, 1);
    let [exact, half] = [DType::F32, DType::BF16]
        .map(|dtype| stream(&open::<Flex>(&folders()[1], dtype), window, 5).0.pop().unwrap());
    let (exact, half) = (values(exact), values(half));
    let squares = |values: &mut dyn Iterator<Item = f32>| values.map(|v| v * v).sum::<f32>();
    let error = squares(&mut exact.iter().zip(&half).map(|(a, b)| a - b));
    let relative = (error / squares(&mut exact.iter().copied())).sqrt();
    println!("relative {relative}");
    assert!(relative < 0.03, "{relative}");
}

#[test]
fn a_pass_that_is_stopped_changes_nothing() {
    let transformer = open::<Flex>(&folders()[0], DType::F32);
    let window = CausalWindow::new(2, 4, 0);
    let (branch, go_on, stop) =
        (branch(&transformer, 2), CancelToken::default(), CancelToken::default());
    stop.cancel();
    let mut cache = transformer.begin_causal(window, SIZE);
    let [first, second, noisy] = [clean(0, window), clean(1, window), noisy(2, window)]
        .map(|x| Pass::new(x, vec![0.0], &branch));
    transformer.remember_block(&first, &mut cache, &go_on).unwrap();
    let velocity = |cache: &_| bits(transformer.causal_velocity(&noisy, cache, &go_on).unwrap());
    let before = velocity(&cache);
    let stopped = transformer.remember_block(&second, &mut cache, &stop);
    assert!(matches!(stopped, Err(ForwardError::Cancelled(_))));
    let stopped = transformer.causal_velocity(&noisy, &cache, &stop);
    assert!(matches!(stopped, Err(ForwardError::Cancelled(_))));
    assert!(velocity(&cache) == before);
    transformer.remember_block(&second, &mut cache, &go_on).unwrap();
    assert!(velocity(&cache) != before);
}
