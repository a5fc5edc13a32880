//! CLIP's towers under all names that checkpoints have: the fixtures' tensors are renamed, joined and
//! turned as OpenCLIP and the original Wan store them, and must give what the fixtures give.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use burn::backend::Flex;
use burn::tensor::DType;
use half::f16;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use wan_core::Backend;
use wan_io::weights::{StoredTensor, Weights};
use wan_models::clip::{
    ClipConfig, ClipModel, ClipTextConfig, ClipTextEncoder, ClipVisionConfig, ClipVisionEncoder,
    Pooling, TextConfig, TextHead, TextTower, XlmRobertaConfig, XlmRobertaEncoder,
};
use wan_models::load::{NetworkConfig, TensorSource, check};

use crate::clip::{check_clip_text, check_vision, check_xlm_roberta, config_of, open, tower};
use crate::fixture::Fixture;

/// Tensors in f32 by name.
#[derive(Clone, Default)]
struct Checkpoint(BTreeMap<String, (Vec<usize>, Vec<f32>)>);

impl Checkpoint {
    fn open(file: &Path) -> Self {
        let bytes = std::fs::read(file).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let read = |(name, view): (String, TensorView)| {
            assert_eq!(view.dtype(), Dtype::F32, "the fixture's dtype");
            let numbers = view.data().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
            (name, (view.shape().to_vec(), numbers.collect()))
        };
        Self(tensors.tensors().into_iter().map(read).collect())
    }

    fn of(fixture: &Fixture) -> Self {
        Self::open(&fixture.folder.join("model.safetensors"))
    }

    /// With each name replaced; `None` drops a tensor.
    fn renamed(self, rename: impl Fn(&str) -> Option<String>) -> Self {
        Self(
            self.0
                .into_iter()
                .filter_map(|(name, tensor)| Some((rename(&name)?, tensor)))
                .collect(),
        )
    }

    /// With parts of names replaced, in this order.
    fn replaced(self, pairs: &[(&str, &str)]) -> Self {
        self.renamed(|name| {
            Some(pairs.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to)))
        })
    }

    fn with(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    fn adding(mut self, name: &str, shape: &[usize], values: Vec<f32>) -> Self {
        self.0.insert(name.into(), (shape.to_vec(), values));
        self
    }

    /// Queries, keys and values as one tensor: `LAYER.q_proj.weight`, .. as `LAYER` and `fused(weight)`.
    fn fused(mut self, fused: impl Fn(&str) -> String) -> Self {
        let find = |name: &String| {
            let (layer, ending) = name.split_once("q_proj.")?;
            Some((layer.to_owned(), ending.to_owned()))
        };
        let found: Vec<_> = self.0.keys().filter_map(find).collect();
        for (layer, ending) in found {
            let parts = ["q", "k", "v"].map(|part| {
                self.0.remove(&format!("{layer}{part}_proj.{ending}")).expect("a part")
            });
            let mut shape = parts[0].0.clone();
            shape[0] *= 3;
            let values = parts.into_iter().flat_map(|(_, values)| values).collect();
            self.0.insert(format!("{layer}{}", fused(&ending)), (shape, values));
        }
        self
    }

    fn turned(mut self, name: &str) -> Self {
        let (shape, values) = self.0.remove(name).expect("the tensor to turn");
        let [rows, columns] = shape[..] else { panic!("a matrix") };
        let order = (0..columns).flat_map(|c| (0..rows).map(move |r| r * columns + c));
        let turned = order.map(|i| values[i]).collect();
        self.adding(name, &[columns, rows], turned)
    }

    /// With axes of 1 in front.
    fn unsqueezed(mut self, name: &str) -> Self {
        let (shape, _) = self.0.get_mut(name).expect("the tensor");
        while shape.len() < 3 {
            shape.insert(0, 1);
        }
        self
    }

    fn source(self) -> Arc<dyn TensorSource> {
        Arc::new(self)
    }
}

impl TensorSource for Checkpoint {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let (shape, values) = self.0.get(name)?;
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Some(StoredTensor::in_memory(Dtype::F32, shape, bytes))
    }

    fn origin(&self) -> String {
        "a renamed fixture".into()
    }
}

fn position_ids(name: &str, checkpoint: Checkpoint) -> Checkpoint {
    checkpoint.adding(name, &[1, 4], vec![0.0, 1.0, 2.0, 3.0])
}

fn vision() -> Fixture {
    tower("clip_vision")
}

fn open_clip_vision() -> Checkpoint {
    Checkpoint::of(&vision())
        .replaced(&[
            ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
            ("vision_model.embeddings.patch_embedding", "visual.conv1"),
            ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
            ("vision_model.pre_layrnorm", "visual.ln_pre"),
            ("vision_model.post_layernorm", "visual.ln_post"),
            ("vision_model.encoder.layers", "visual.transformer.resblocks"),
            ("visual_projection.weight", "visual.proj"),
            ("self_attn", "attn"),
            ("layer_norm", "ln_"),
            ("fc1", "c_fc"),
            ("fc2", "c_proj"),
        ])
        .fused(|ending| format!("in_proj_{ending}"))
        .turned("visual.proj")
}

fn wan_vision() -> Checkpoint {
    Checkpoint::of(&vision())
        .replaced(&[
            ("vision_model.embeddings.class_embedding", "visual.cls_embedding"),
            ("vision_model.embeddings.patch_embedding", "visual.patch_embedding"),
            ("vision_model.embeddings.position_embedding.weight", "visual.pos_embedding"),
            ("vision_model.pre_layrnorm", "visual.pre_norm"),
            ("vision_model.post_layernorm", "visual.post_norm"),
            ("vision_model.encoder.layers", "visual.transformer"),
            ("visual_projection.weight", "visual.head"),
            ("self_attn.out_proj", "attn.proj"),
            ("self_attn", "attn"),
            ("layer_norm", "norm"),
            ("fc1", "0"),
            ("fc2", "2"),
        ])
        .fused(|ending| format!("to_qkv.{ending}"))
        .turned("visual.head")
        .unsqueezed("visual.cls_embedding")
        .unsqueezed("visual.pos_embedding")
}

/// The vision tower in each layout, alone and beside a text tower.
pub fn vision_tower<B: Backend>(backend: &str) {
    let (fixture, whole) = (vision(), Checkpoint::of(&vision()));
    let config: ClipVisionConfig = config_of(&fixture);
    let text = || Checkpoint::default().adding("logit_scale", &[], vec![4.6]);
    let layouts =
        [
            whole.clone(),
            whole.clone().replaced(&[("encoder.layers", "encoder.layer")]),
            position_ids("vision_model.embeddings.position_ids", whole.clone())
                .with(text())
                .adding("text_model.final_layer_norm.weight", &[1], vec![1.0]),
            whole.clone().renamed(|name| Some(format!("clip_vision.{name}"))),
            open_clip_vision(),
            open_clip_vision().with(text()).adding("text.proj.0.weight", &[1], vec![1.0]),
            wan_vision(),
            wan_vision().adding("log_scale", &[], vec![4.6]).adding(
                "textual.norm.weight",
                &[1],
                vec![1.0],
            ),
        ];
    for (i, layout) in layouts.into_iter().enumerate() {
        println!("{backend:8} layout {i}");
        let source = ClipVisionConfig::canonical_names(layout.source()).unwrap();
        assert_eq!(config.fitted(&*source).unwrap(), config);
        check_vision(
            &open::<B, ClipVisionEncoder<B>>(&source, &config, DType::F32),
            &fixture,
            backend,
        );
    }
    let bare = whole.renamed(|name| name.strip_prefix("vision_model.").map(str::to_owned));
    let source = ClipVisionConfig::canonical_names(bare.source()).unwrap();
    let without_projection = ClipVisionConfig { architectures: Vec::new(), ..config };
    let tower: ClipVisionEncoder<B> = open(&source, &without_projection, DType::F32);
    let device = B::open_device(0).unwrap();
    let pixels = fixture.inputs.get("pixel_values").tensor(&device);
    let states = tower.hidden_states(pixels, 1, &Default::default(), &mut ()).unwrap();
    fixture.check(backend, "hidden_states.2", &crate::fixture::Array::of(states));
}

fn open_clip_text() -> Checkpoint {
    Checkpoint::of(&tower("clip_projection"))
        .replaced(&[
            ("text_model.embeddings.token_embedding", "token_embedding"),
            ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
            ("text_model.final_layer_norm", "ln_final"),
            ("text_model.encoder.layers", "transformer.resblocks"),
            ("text_projection.weight", "text_projection"),
            ("self_attn", "attn"),
            ("layer_norm", "ln_"),
            ("fc1", "c_fc"),
            ("fc2", "c_proj"),
        ])
        .fused(|ending| format!("in_proj_{ending}"))
        .turned("text_projection")
}

/// CLIP's own text tower in each layout.
pub fn text_tower<B: Backend>(backend: &str) {
    let projected = tower("clip_projection");
    let plain = tower("clip_legacy_eos");
    let prefixed = Checkpoint::of(&plain).renamed(|name| Some(format!("text_model.{name}")));
    let layouts = [
        (&projected, Checkpoint::of(&projected)),
        (&projected, open_clip_text()),
        (&projected, open_clip_text().with(open_clip_vision())),
        (&plain, Checkpoint::of(&plain)),
        (&plain, position_ids("text_model.embeddings.position_ids", prefixed)),
    ];
    for (fixture, layout) in layouts {
        let source = ClipTextConfig::canonical_names(layout.source()).unwrap();
        let config: ClipTextConfig = config_of(fixture);
        let tower: ClipTextEncoder<B> = open(&source, &config, DType::F32);
        check_clip_text(&tower, fixture, backend);
    }
}

/// The head of this name, as OpenCLIP has it below `text.proj`.
fn open_clip_xlm_roberta(head: &str) -> Checkpoint {
    let fixture = tower("xlm_roberta");
    let heads = Checkpoint::open(&fixture.folder.join("head.safetensors"));
    let head = heads.renamed(|name| Some(format!("text.proj{}", name.strip_prefix(head)?)));
    Checkpoint::of(&fixture).renamed(|name| Some(format!("text.transformer.{name}"))).with(head)
}

fn wan_text() -> Checkpoint {
    open_clip_xlm_roberta("mlp").replaced(&[
        ("text.transformer.embeddings.word_embeddings", "textual.token_embedding"),
        ("text.transformer.embeddings.position_embeddings", "textual.pos_embedding"),
        ("text.transformer.embeddings.token_type_embeddings", "textual.type_embedding"),
        ("text.transformer.embeddings.LayerNorm", "textual.norm"),
        ("text.transformer.encoder.layer", "textual.blocks"),
        ("attention.self.query", "attn.q"),
        ("attention.self.key", "attn.k"),
        ("attention.self.value", "attn.v"),
        ("attention.output.dense", "attn.o"),
        ("attention.output.LayerNorm", "norm1"),
        ("intermediate.dense", "ffn.0"),
        ("output.dense", "ffn.2"),
        ("output.LayerNorm", "norm2"),
        ("text.proj", "textual.head"),
    ])
}

/// XLM-RoBERTa with each head, and in each layout.
pub fn xlm_roberta<B: Backend>(backend: &str) {
    let fixture = tower("xlm_roberta");
    let config: XlmRobertaConfig = config_of(&fixture);
    let with =
        |head, pooling| XlmRobertaConfig { head, pooling, projection_dim: 20, ..config.clone() };
    let (mlp, linear) = (TextHead::Mlp, TextHead::Linear { bias: true });
    let pooled = Checkpoint::of(&fixture).adding("pooler.dense.bias", &[32], vec![0.0; 32]);
    for (layout, config, output) in [
        (open_clip_xlm_roberta("mlp"), with(mlp, Pooling::Mean), "mean_mlp"),
        (wan_text(), with(mlp, Pooling::Mean), "mean_mlp"),
        (wan_text().with(wan_vision()), with(mlp, Pooling::Mean), "mean_mlp"),
        (open_clip_xlm_roberta("linear"), with(linear, Pooling::Mean), "mean_linear"),
        (open_clip_xlm_roberta("linear"), with(linear, Pooling::FirstToken), "cls_linear"),
        (open_clip_xlm_roberta("none"), with(TextHead::None, Pooling::FirstToken), "cls_pooled"),
        (position_ids("embeddings.position_ids", pooled), config.clone(), "mean_pooled"),
    ] {
        let source = XlmRobertaConfig::canonical_names(layout.source()).unwrap();
        let fitted = config.fitted(&*source).unwrap();
        assert_eq!(fitted.head, config.head, "{output}");
        let tower: XlmRobertaEncoder<B> = open(&source, &config, DType::F32);
        check_xlm_roberta(&tower, &fixture, backend, output);
    }

    let fixture = tower("altclip_text");
    let whole = Checkpoint::of(&fixture);
    let prefixed = whole.clone().renamed(|name| Some(format!("text_model.{name}")));
    for layout in [
        whole.clone().replaced(&[(".layers.", ".layer.")]),
        prefixed.clone(),
        prefixed.replaced(&[(".layers.", ".layer.")]),
    ] {
        let source = XlmRobertaConfig::canonical_names(layout.source()).unwrap();
        let tower: XlmRobertaEncoder<B> = open(&source, &config_of(&fixture), DType::F32);
        check_xlm_roberta(&tower, &fixture, backend, "pooler_output");
    }
}

/// Both towers in one file: of transformers, OpenCLIP with either text tower, and the original Wan.
pub fn both_towers<B: Backend>(backend: &str) {
    let (image, text, multilingual) = (vision(), tower("clip_projection"), tower("xlm_roberta"));
    let vision_config: ClipVisionConfig = config_of(&image);
    let text_config = TextConfig::Clip(config_of(&text));
    let xlm_config = TextConfig::XlmRoberta(XlmRobertaConfig {
        head: TextHead::Mlp,
        projection_dim: 20,
        ..config_of(&multilingual)
    });
    let scale = |name: &str| Checkpoint::default().adding(name, &[], vec![4.6]);
    for (layout, text_config) in [
        (
            Checkpoint::of(&image).with(Checkpoint::of(&text)).with(scale("logit_scale")),
            &text_config,
        ),
        (open_clip_vision().with(open_clip_text()).with(scale("logit_scale")), &text_config),
        (
            open_clip_vision().with(open_clip_xlm_roberta("mlp")).with(scale("logit_scale")),
            &xlm_config,
        ),
        (wan_vision().with(wan_text()).with(scale("log_scale")), &xlm_config),
    ] {
        let source = ClipConfig::canonical_names(layout.source()).unwrap();
        let fitted = |config: &ClipVisionConfig| config.fitted(&*source).unwrap();
        let config = ClipConfig {
            text_config: text_config.clone(),
            vision_config: vision_config.clone(),
            ..ClipConfig::default()
        };
        let config = config.fitted(&*source).unwrap();
        assert_eq!(&config.text_config, text_config);
        assert_eq!(config.vision_config, fitted(&vision_config));
        let model: ClipModel<B> = open(&source, &config, DType::F32);
        assert!((f64::from(model.logit_factor()) - 4.6_f64.exp()).abs() < 1e-3);
        check_vision(&model.vision, &image, backend);
        match &model.text {
            TextTower::Clip(tower) => check_clip_text(tower, &text, backend),
            TextTower::XlmRoberta(tower) => {
                check_xlm_roberta(tower, &multilingual, backend, "mean_mlp");
            }
            _ => unreachable!("a new kind of text tower"),
        }
    }
}

/// The published file of Wan is in f16: thirds of a matrix of two bytes an element, from a file.
#[test]
fn halves_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.safetensors");
    let whole = wan_vision();
    let halves = |values: &[f32]| -> Vec<u8> {
        values.iter().flat_map(|&value| f16::from_f32(value).to_le_bytes()).collect()
    };
    let halved: Vec<(&String, &Vec<usize>, Vec<u8>)> =
        whole.0.iter().map(|(name, (shape, values))| (name, shape, halves(values))).collect();
    let views = halved.iter().map(|(name, shape, bytes)| {
        (*name, TensorView::new(Dtype::F16, shape.to_vec(), bytes).unwrap())
    });
    std::fs::write(&file, safetensors::serialize(views, None).unwrap()).unwrap();
    let stored = ClipVisionConfig::canonical_names(Arc::new(Weights::open_path(&file).unwrap()));
    let (stored, exact) =
        (stored.unwrap(), ClipVisionConfig::canonical_names(whole.source()).unwrap());
    let layer = "vision_model.encoder.layers.1.self_attn";
    for name in [
        format!("{layer}.q_proj.weight"),
        format!("{layer}.k_proj.weight"),
        format!("{layer}.v_proj.bias"),
        "visual_projection.weight".into(),
        "vision_model.embeddings.position_embedding.weight".into(),
    ] {
        let (stored, exact) = (stored.tensor(&name).unwrap(), exact.tensor(&name).unwrap());
        assert_eq!(stored.shape, exact.shape, "{name}");
        let exact: Vec<f32> =
            exact.bytes().unwrap().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        assert_eq!(stored.bytes().unwrap(), halves(&exact), "{name}");
    }
}

/// Tensors without data.
struct Shapes(BTreeMap<String, Vec<usize>>);

impl TensorSource for Shapes {
    fn names(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let shape = self.0.get(name)?;
        // Projections are read when the file is opened; nothing else is.
        let bytes = if name.ends_with("head") { 2 * shape.iter().product::<usize>() } else { 0 };
        Some(StoredTensor::in_memory(Dtype::F16, shape, vec![0; bytes]))
    }

    fn origin(&self) -> String {
        "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth".into()
    }
}

/// The names and shapes of the file that Wan 2.1's image-to-video models bring.
fn of_wan() -> Arc<dyn TensorSource> {
    let mut all = BTreeMap::new();
    let mut add = |name: &str, shape: &[usize]| drop(all.insert(name.to_owned(), shape.to_vec()));
    add("log_scale", &[]);
    add("visual.cls_embedding", &[1, 1, 1280]);
    add("visual.pos_embedding", &[1, 257, 1280]);
    add("visual.patch_embedding.weight", &[1280, 3, 14, 14]);
    add("visual.head", &[1280, 1024]);
    add("textual.token_embedding.weight", &[250_002, 1024]);
    add("textual.type_embedding.weight", &[1, 1024]);
    add("textual.pos_embedding.weight", &[514, 1024]);
    add("textual.head.0.weight", &[1024, 1024]);
    add("textual.head.2.weight", &[1024, 1024]);
    let mut norm = |name: &str, width: usize| {
        add(&format!("{name}.weight"), &[width]);
        add(&format!("{name}.bias"), &[width]);
    };
    norm("visual.pre_norm", 1280);
    norm("visual.post_norm", 1280);
    norm("textual.norm", 1024);
    for i in 0..32 {
        norm(&format!("visual.transformer.{i}.norm1"), 1280);
        norm(&format!("visual.transformer.{i}.norm2"), 1280);
    }
    for i in 0..24 {
        norm(&format!("textual.blocks.{i}.norm1"), 1024);
        norm(&format!("textual.blocks.{i}.norm2"), 1024);
    }
    let mut linear = |name: String, input: usize, output: usize| {
        all.insert(format!("{name}.weight"), vec![output, input]);
        all.insert(format!("{name}.bias"), vec![output]);
    };
    for i in 0..32 {
        let layer = format!("visual.transformer.{i}");
        linear(format!("{layer}.attn.to_qkv"), 1280, 3840);
        linear(format!("{layer}.attn.proj"), 1280, 1280);
        linear(format!("{layer}.mlp.0"), 1280, 5120);
        linear(format!("{layer}.mlp.2"), 5120, 1280);
    }
    for i in 0..24 {
        let layer = format!("textual.blocks.{i}");
        for name in ["q", "k", "v", "o"] {
            linear(format!("{layer}.attn.{name}"), 1024, 1024);
        }
        linear(format!("{layer}.ffn.0"), 1024, 4096);
        linear(format!("{layer}.ffn.2"), 4096, 1024);
    }
    Arc::new(Shapes(all))
}

/// The sizes that `clip_xlm_roberta_vit_h_14` has in `wan/modules/clip.py`; every tensor has its place.
#[test]
fn the_published_file_tells_its_sizes() {
    let source = ClipConfig::canonical_names(of_wan()).unwrap();
    let config = ClipConfig::infer(&*source).unwrap();
    config.validate().unwrap();
    let device = Flex::open_device(0).unwrap();
    check::<Flex, ClipModel<Flex>>(&source, &device, DType::F16, &config).unwrap();
    let expected = XlmRobertaConfig {
        head: TextHead::Mlp,
        projection_dim: 1024,
        ..XlmRobertaConfig::default()
    };
    assert_eq!(config.text_config, TextConfig::XlmRoberta(expected));
    let vision = &config.vision_config;
    let sizes = [vision.hidden_size, vision.intermediate_size, vision.num_hidden_layers];
    assert_eq!(sizes, [1280, 5120, 32]);
    assert_eq!([vision.num_attention_heads, vision.image_size, vision.patch_size], [16, 224, 14]);
    assert_eq!((vision.tokens(), vision.projection_dim), (257, 1024));
    assert_eq!(vision.hidden_act, "gelu");
    assert_eq!(config.fitted(&*source).unwrap(), config);
}
