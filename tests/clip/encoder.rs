//! A Wan transformer whose text is the states of a CLIP: width and length are the tower's.

use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::{Backend, CancelToken, Conditioning, Denoiser, Pass, TextConditioning, TextEncoder};
use wan_io::files::ModelFiles;
use wan_io::weights::{Dtype, StoredTensor, Weights};
use wan_mock_hub::models::grafts;
use wan_models::load::{TensorSource, load};
use wan_models::transformer::{WanTransformer, WanTransformerConfig};

use wan_pipeline::{Pipeline, Precision, PromptEmbeds, Request};

use crate::{Flex, tiny_clip};

const EMBEDDER: &str = "condition_embedder.text_embedder.linear_1.weight";

/// A small random transformer, with an embedder for text of another width.
struct OtherText {
    source: Weights,
    shape: [usize; 2],
}

impl TensorSource for OtherText {
    fn names(&self) -> Vec<String> {
        TensorSource::names(&self.source)
    }

    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        if name != EMBEDDER {
            return TensorSource::tensor(&self.source, name);
        }
        let count = self.shape.iter().product::<usize>();
        let values = (0..count).map(|i| ((i * 7919 % 1000) as f32 / 500.0 - 1.0) * 0.3);
        let bytes: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
        Some(StoredTensor::in_memory(Dtype::F32, &self.shape, bytes))
    }

    fn origin(&self) -> String {
        "a random transformer".into()
    }
}

#[test]
fn a_transformer_runs_on_the_states_of_a_text_tower() {
    let (clip, cancel) = (tiny_clip(), CancelToken::default());
    let tower = clip.text_tower();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/dit_t2v_variant");
    let files = ModelFiles::folder(&folder).unwrap();
    let stored: WanTransformerConfig = files.json("config.json").unwrap();
    let config = WanTransformerConfig { text_dim: tower.width(), ..stored };
    let width = config.num_attention_heads * config.attention_head_dim;
    let source = OtherText {
        source: Weights::open(&files, "", "diffusion_pytorch_model").unwrap(),
        shape: [width, tower.width()],
    };
    let device = Flex::open_device(0).unwrap();
    let source: Arc<dyn TensorSource> = Arc::new(source);
    let transformer: WanTransformer<Flex> = load(&source, &device, DType::F32, &config).unwrap();

    let prompts =
        ["a red circle on a black background", "黑色背景上有一个红色圆形", "a blue square"];
    let ids: Vec<Vec<u32>> = prompts.iter().map(|text| clip.tokens(text).unwrap().ids).collect();
    let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
    let states = tower.encode(&ids, &cancel).unwrap();
    let conditionings: Vec<_> = states
        .into_iter()
        .zip(&ids)
        .map(|(states, ids)| {
            assert_eq!(states.dims(), [1, ids.len(), 64]);
            let text = TextConditioning::pad(states, tower.max_tokens());
            assert_eq!(text.padded().dims(), [1, 64, 64]);
            Conditioning::new(text)
        })
        .collect();
    let shape = [1, config.in_channels, 2, 4, 4];
    let noise: Vec<f32> = (0..shape.iter().product()).map(|i: usize| (i as f32).sin()).collect();
    let latents: Tensor<Flex, 5> =
        Tensor::from_data(TensorData::new(noise, shape), (&device, DType::F32));
    let branches = transformer.branches(&conditionings, [2, 4, 4]);
    let passes: Vec<_> =
        branches.iter().map(|branch| Pass::new(latents.clone(), vec![500.0], branch)).collect();
    let velocities: Vec<Vec<f32>> = transformer
        .velocities(&passes, &cancel)
        .unwrap()
        .into_iter()
        .map(|velocity| velocity.into_data().to_vec().unwrap())
        .collect();
    assert!(velocities.iter().flatten().all(|x| x.is_finite()));
    assert_ne!(velocities[0], velocities[2], "the text counts");
}

/// A whole pipeline that reads the states of a CLIP, and no other encoder.
#[test]
fn a_pipeline_runs_on_the_states_of_a_text_tower() {
    let clip = tiny_clip();
    let folder = tempfile::tempdir().unwrap();
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tiny-wan/model");
    let width = clip.text_tower().width();
    grafts::make(&model, folder.path(), |files| grafts::narrow_text(files, width));
    std::fs::remove_dir_all(folder.path().join("text_encoder")).unwrap();
    let open = |builder: wan_pipeline::PipelineBuilder<Flex>| {
        builder.precision(Precision::F32).without_text_encoder().open().unwrap()
    };
    let pipeline = open(Pipeline::builder(folder.path()));
    let frames = |pipeline: &Pipeline<Flex>, embeds: PromptEmbeds| {
        let request = Request::new("").size(32, 32).frames(5).steps(2).guidance(1.0);
        let request = request.text_length(clip.text_tower().max_tokens()).prompt_embeds(embeds);
        let video = pipeline.generate(&request).unwrap();
        video.frames().map(<[u8]>::to_vec).collect::<Vec<_>>()
    };
    let [red, blue] = ["a red circle", "蓝色背景上有一个白色正方形"]
        .map(|prompt| clip.prompt_embeds(prompt).unwrap());
    let found = frames(&pipeline, red.clone());
    assert_ne!(found, frames(&pipeline, blue), "the text counts");

    // tiny-wan reads the same states with zeros behind them.
    let rows = red.states().chunks(width);
    let wide = rows.flat_map(|row| [row, &vec![0.0; 128 - width]].concat()).collect();
    let wide = PromptEmbeds::new(wide, [red.tokens(), 128]).unwrap();
    let expected = frames(&open(Pipeline::builder("tiny-wan")), wide);
    let pairs = found.concat().into_iter().zip(expected.concat());
    assert!(pairs.map(|(a, b)| a.abs_diff(b)).max() <= Some(1));
}
