//! What is constant over a run is computed once.

use std::fs::File;
use std::sync::Arc;

use burn::tensor::{DType, Tensor};
use wan_core::{Backend, Conditioning, TextConditioning};
use wan_io::weights::Weights;
use wan_models::Probe;
use wan_models::load::{ReadOptions, TensorSource, load};
use wan_models::transformer::{WanTransformer, WanTransformerConfig};
use wan_pipeline::Request;
use wan_pipeline::backend::Flex;

use crate::counting::{self, Calls, calls_of};
use crate::support::{assets, silent, small};

/// Layers of the miniature transformer.
const BLOCKS: usize = 4;
/// With the prompt and with the negative prompt.
const PASSES: usize = 2;

/// What a step needs for `videos`: in each pass the patch embedding, the head, and in each block four
/// linear layers of self-attention, two of cross-attention (queries and output) and two of the
/// feed-forward; and the three of the time embedding once for all passes. Keys and values of
/// cross-attention and the embedded text are not among them.
fn of_a_step(videos: usize) -> Calls {
    Calls {
        linear: videos * PASSES * (1 + 1 + BLOCKS * (4 + 2 + 2)) + 3,
        rope: videos * PASSES * BLOCKS * 2,
        attention: videos * PASSES * BLOCKS * 2,
        conv3d: 0,
    }
}

#[test]
fn a_step_computes_nothing_that_the_first_one_has() {
    let pipeline = counting::pipeline();
    let latents = |steps: usize| {
        let request = small("a red circle").steps(steps);
        calls_of(|| pipeline.denoise_batch(&[request], &mut silent()).unwrap()).1
    };
    latents(2); // the prompts are encoded
    assert_eq!(latents(4) - latents(3), of_a_step(1));
}

#[test]
fn text_is_embedded_once_for_each_prompt_of_a_run() {
    let pipeline = counting::pipeline();
    let check = |requests: &[Request], prompts: usize| {
        for request in requests {
            pipeline.embed(request, &mut silent()).unwrap();
        }
        let (run, start) = calls_of(|| pipeline.start(requests, &mut silent()));
        let mut run = run.unwrap();
        assert_eq!(start, Calls { linear: 2 * prompts, ..Calls::default() }, "the text embedder");
        let (_, first) = calls_of(|| run.step().unwrap());
        let mut expected = of_a_step(requests.len());
        expected.linear += 2 * BLOCKS * prompts; // keys and values
        assert_eq!(first, expected, "the first step");
        let (_, second) = calls_of(|| run.step().unwrap());
        assert_eq!(second, of_a_step(requests.len()), "the second step");
    };
    check(&[small("a red circle")], 2);
    check(&small("a red circle").with_seeds(0..3), 2);
    check(&[small("a red circle"), small("绿色圆形变小"), small("a red circle")], 3);
}

/// Counts what has this name.
struct Count(&'static str, usize);

impl<B: Backend> Probe<B> for Count {
    fn see<const D: usize>(&mut self, name: &str, _: impl FnOnce() -> Tensor<B, D>) {
        self.1 += usize::from(name == self.0);
    }
}

#[test]
fn rotary_tables_are_computed_once_for_all_prompts() {
    let folder = assets().join("transformer");
    let config = File::open(folder.join("config.json")).unwrap();
    let config: WanTransformerConfig = serde_json::from_reader(config).unwrap();
    let weights = folder.join("diffusion_pytorch_model.safetensors");
    let tensors: Arc<dyn TensorSource> = Arc::new(Weights::open_path(&weights).unwrap());
    let device = Flex::open_device(0).unwrap();
    let options = ReadOptions::new(DType::F32);
    let network: WanTransformer<Flex> = load(&tensors, &device, options, &config).unwrap();
    let text = |tokens| Tensor::<Flex, 3>::ones([1, tokens, config.text_dim], &device);
    let conditionings =
        [2, 3, 4].map(|tokens| Conditioning::new(TextConditioning::new(text(tokens))));
    let mut tables = Count("rope.cos", 0);
    let branches = network.branches_probed(&conditionings, [2, 4, 4], &mut tables);
    assert_eq!((branches.len(), tables.1), (3, 1));
}
