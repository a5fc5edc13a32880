//! One CLIP in the folders of OpenCLIP and of the original Wan. That their names mean the right tensors is seen by
//! the parity suite; here it is seen that such folders open.

use std::borrow::Cow;
use std::path::Path;

use safetensors::{Dtype, View};
use serde_json::{Value, json};
use wan_core::noise::TorchGenerator;
use wan_mock_hub::{MockHub, Repo};
use wan_pipeline::io::image::Image;
use wan_pipeline::{Clip, ClipEmbedding, HubOptions};

use crate::Flex;

const WAN: &str = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth";
const TEXTS: [&str; 2] = ["一个红色的圆形", "a white background"];

/// Width of everything: a head of towers that have no config.
const WIDTH: usize = 64;

/// A tensor by its names in both layouts.
struct Tensor {
    open_clip: String,
    wan: String,
    shape: Vec<usize>,
    values: Vec<f32>,
}

/// A vision tower of one layer for pictures of 16x16, and an XLM-RoBERTa of one layer.
fn tensors() -> Vec<Tensor> {
    let mut tensors = Vec::new();
    let mut add = |open_clip: &str, wan: &str, shape: &[usize]| {
        let mut generator = TorchGenerator::new(tensors.len() as u64);
        let values = generator.randn(shape.iter().product::<usize>().max(1));
        let values = values.into_iter().map(|value| 0.2 * value).collect();
        let [open_clip, wan] = [open_clip, wan].map(str::to_owned);
        tensors.push(Tensor { open_clip, wan, shape: shape.to_vec(), values });
    };
    add("logit_scale", "log_scale", &[]);
    add("visual.class_embedding", "visual.cls_embedding", &[WIDTH]);
    add("visual.positional_embedding", "visual.pos_embedding", &[5, WIDTH]);
    add("visual.conv1.weight", "visual.patch_embedding.weight", &[WIDTH, 3, 8, 8]);
    add("visual.proj", "visual.head", &[WIDTH, WIDTH]);
    let text = "text.transformer.embeddings";
    let words = [236, WIDTH]; // of the tokenizer
    add(&format!("{text}.word_embeddings.weight"), "textual.token_embedding.weight", &words);
    add(
        &format!("{text}.position_embeddings.weight"),
        "textual.pos_embedding.weight",
        &[66, WIDTH],
    );
    add(
        &format!("{text}.token_type_embeddings.weight"),
        "textual.type_embedding.weight",
        &[1, WIDTH],
    );
    add("text.proj.0.weight", "textual.head.0.weight", &[WIDTH, WIDTH]);
    add("text.proj.2.weight", "textual.head.2.weight", &[WIDTH, WIDTH]);
    let (from, to) = ("visual.transformer.resblocks.0", "visual.transformer.0");
    let fused = 3 * WIDTH;
    add(
        &format!("{from}.attn.in_proj_weight"),
        &format!("{to}.attn.to_qkv.weight"),
        &[fused, WIDTH],
    );
    add(&format!("{from}.attn.in_proj_bias"), &format!("{to}.attn.to_qkv.bias"), &[fused]);
    let mut layer = |open_clip: String, wan: String, shape: &[usize]| {
        add(&format!("{open_clip}.weight"), &format!("{wan}.weight"), shape);
        add(&format!("{open_clip}.bias"), &format!("{wan}.bias"), &shape[..1]);
    };
    let mut layers = |[from, to]: [&str; 2], pairs: &[(&str, &str, &[usize])]| {
        for (open_clip, wan, shape) in pairs {
            layer(format!("{from}{open_clip}"), format!("{to}{wan}"), shape);
        }
    };
    let (norm, square): (&[usize], &[usize]) = (&[WIDTH], &[WIDTH, WIDTH]);
    let (wider, narrower): (&[usize], &[usize]) = (&[4 * WIDTH, WIDTH], &[WIDTH, 4 * WIDTH]);
    layers(
        ["visual", "visual"],
        &[(".ln_pre", ".pre_norm", norm), (".ln_post", ".post_norm", norm)],
    );
    layers(
        [from, to],
        &[
            (".ln_1", ".norm1", norm),
            (".attn.out_proj", ".attn.proj", square),
            (".ln_2", ".norm2", norm),
            (".mlp.c_fc", ".mlp.0", wider),
            (".mlp.c_proj", ".mlp.2", narrower),
        ],
    );
    layers([text, "textual"], &[(".LayerNorm", ".norm", norm)]);
    layers(
        ["text.transformer.encoder.layer.0", "textual.blocks.0"],
        &[
            (".attention.self.query", ".attn.q", square),
            (".attention.self.key", ".attn.k", square),
            (".attention.self.value", ".attn.v", square),
            (".attention.output.dense", ".attn.o", square),
            (".attention.output.LayerNorm", ".norm1", norm),
            (".intermediate.dense", ".ffn.0", wider),
            (".output.dense", ".ffn.2", narrower),
            (".output.LayerNorm", ".norm2", norm),
        ],
    );
    tensors
}

impl View for &Tensor {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        self.values.iter().flat_map(|value| value.to_le_bytes()).collect()
    }

    fn data_len(&self) -> usize {
        4 * self.values.len()
    }
}

fn write(file: &Path, tensors: &[Tensor], name: fn(&Tensor) -> &String) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let named: Vec<_> = tensors.iter().map(|tensor| (name(tensor), tensor)).collect();
    safetensors::serialize_to_file(named, None, file).unwrap();
}

fn write_tokenizer(file: &Path) {
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let tokenizer = tiny_clip::FILES.iter().find(|(name, _)| *name == "tokenizer.json").unwrap();
    std::fs::write(file, tokenizer.1).unwrap();
}

fn open_clip_config() -> Value {
    json!({
        "model_cfg": {
            "embed_dim": WIDTH,
            "vision_cfg": { "image_size": 16, "layers": 1, "width": WIDTH, "patch_size": 8 },
            "text_cfg": { "hf_model_name": "xlm-roberta-large", "pooler_type": "mean_pooler" },
        },
        "preprocess_cfg": { "interpolation": "bicubic", "resize_mode": "shortest" },
    })
}

fn write_open_clip(folder: &Path, weights: &str, config: &Value) {
    write(&folder.join(weights), &tensors(), |tensor| &tensor.open_clip);
    write_tokenizer(&folder.join("tokenizer.json"));
    std::fs::write(folder.join("open_clip_config.json"), config.to_string()).unwrap();
}

/// As OpenCLIP but for two axes of 1.
fn write_wan(folder: &Path) {
    let mut tensors = tensors();
    for tensor in &mut tensors {
        while tensor.wan.ends_with("s_embedding") && tensor.shape.len() < 3 {
            tensor.shape.insert(0, 1);
        }
    }
    write(&folder.join(WAN), &tensors, |tensor| &tensor.wan);
    write_tokenizer(&folder.join("xlm-roberta-large/tokenizer.json"));
}

fn open(folder: &Path) -> Clip<Flex> {
    Clip::from_pretrained(folder).unwrap()
}

/// Of the size that the tower takes, so that no rule resizes it.
fn picture() -> Image {
    Image::from_rgb8(16, 16, (0..3 * 16 * 16).map(|i| (i * 7 % 251) as u8).collect()).unwrap()
}

fn image_of(clip: &Clip<Flex>) -> ClipEmbedding {
    clip.embed_image(&[picture()]).unwrap().remove(0)
}

#[test]
fn open_clip_and_wan_give_the_same() {
    let [open_clip, older, wan] = [0; 3].map(|_| tempfile::tempdir().unwrap());
    write_open_clip(open_clip.path(), "open_clip_model.safetensors", &open_clip_config());
    write_open_clip(older.path(), "open_clip_pytorch_model.bin", &open_clip_config());
    write_wan(wan.path());
    let [open_clip, older, wan] = [&open_clip, &older, &wan].map(|folder| open(folder.path()));
    let texts = open_clip.embed_text(&TEXTS).unwrap();
    assert!(texts[0].cosine(&texts[1]) < 0.999, "two texts");
    assert_eq!(older.embed_text(&TEXTS).unwrap(), texts);
    assert_eq!(wan.embed_text(&TEXTS).unwrap(), texts);
    let image = image_of(&open_clip);
    assert_eq!(image_of(&older), image);
    assert!(image_of(&wan).cosine(&image) > 0.999_99);
    let similarity = open_clip.similarity(TEXTS[1], &picture()).unwrap();
    assert_eq!(similarity, image.cosine(&texts[1]));
}

/// What shapes do not tell: the activation, the heads, the state that stands for a text, how pictures are prepared.
#[test]
fn the_config_of_open_clip_counts() {
    let folder = tempfile::tempdir().unwrap();
    let embeddings = |field: &str, value: Value| {
        let mut config = open_clip_config();
        *config.pointer_mut(field).unwrap() = value;
        write_open_clip(folder.path(), "open_clip_model.safetensors", &config);
        let clip = open(folder.path());
        (clip.embed_text(&TEXTS).unwrap(), image_of(&clip))
    };
    let (texts, image) = embeddings("/model_cfg/embed_dim", json!(WIDTH));
    for (field, value, changes) in [
        ("/model_cfg", with_field("model_cfg", "quick_gelu", json!(true)), [false, true]),
        (
            "/model_cfg/vision_cfg",
            with_field("model_cfg/vision_cfg", "head_width", json!(32)),
            [false, true],
        ),
        ("/model_cfg/text_cfg/pooler_type", json!("cls_pooler"), [true, false]),
        ("/preprocess_cfg", json!({ "mean": [0, 0, 0], "std": [1, 1, 1] }), [false, true]),
        ("/preprocess_cfg", json!({ "resize_mode": "squash" }), [false, false]),
    ] {
        let (other_texts, other_image) = embeddings(field, value.clone());
        let found = [other_texts != texts, other_image != image];
        assert_eq!(found, changes, "{field}: {value}");
    }
}

/// A part of the config, with a field more.
fn with_field(part: &str, field: &str, value: Value) -> Value {
    let mut part = open_clip_config().pointer(&format!("/{part}")).unwrap().clone();
    part[field] = value;
    part
}

#[test]
fn what_is_missing_or_broken_is_named() {
    let says = |folder: &Path, parts: &[&str]| {
        let error = Clip::<Flex>::from_pretrained(folder).err().expect("it is broken").to_string();
        parts.iter().for_each(|part| assert!(error.contains(part), "{part:?} is not in: {error}"));
    };
    let wan = tempfile::tempdir().unwrap();
    write(&wan.path().join(WAN), &tensors(), |tensor| &tensor.wan);
    says(wan.path(), &["xlm-roberta-large/tokenizer.json"]);
    let open_clip = tempfile::tempdir().unwrap();
    write_open_clip(open_clip.path(), "open_clip_model.safetensors", &json!({ "model_cfg": 1 }));
    says(open_clip.path(), &["open_clip_config.json", "model_cfg"]);
    let heads = with_field("model_cfg/vision_cfg", "head_width", json!(12)); // five heads
    let mut config = open_clip_config();
    config["model_cfg"]["vision_cfg"] = heads;
    write_open_clip(open_clip.path(), "open_clip_model.safetensors", &config);
    says(open_clip.path(), &["open_clip_config.json", "num_attention_heads"]);
    std::fs::remove_file(open_clip.path().join("open_clip_model.safetensors")).unwrap();
    says(open_clip.path(), &["open_clip_model.safetensors"]);
}

#[test]
fn in_the_hub_only_what_is_needed_is_downloaded() {
    let (open_clip, wan) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write_open_clip(open_clip.path(), "open_clip_pytorch_model.bin", &open_clip_config());
    write_wan(wan.path());
    let hub = MockHub::start();
    hub.add(Repo::from_folder("someone/open-clip", open_clip.path()));
    let of_wan = Repo::from_folder("someone/wan-i2v", wan.path());
    // The config of the transformer beside it is none of a CLIP.
    let of_wan = of_wan.file("config.json", r#"{"_class_name": "WanModel", "model_type": "i2v"}"#);
    hub.add(of_wan.file("Wan2.1_VAE.pth", "weights"));
    let cache = tempfile::tempdir().unwrap();
    let options = HubOptions::from_vars(|name| match name {
        "HF_ENDPOINT" => Some(hub.endpoint()),
        "HF_HUB_CACHE" => Some(cache.path().display().to_string()),
        _ => None,
    })
    .unwrap();
    let texts = open(open_clip.path()).embed_text(&TEXTS).unwrap();
    for name in ["someone/open-clip", "someone/wan-i2v"] {
        let clip = Clip::<Flex>::builder(name).hub(options.clone()).open().unwrap();
        assert_eq!(clip.embed_text(&TEXTS).unwrap(), texts, "{name}");
    }
    let asked = hub.requests();
    assert!(asked.iter().all(|request| !request.path.contains("VAE")), "{asked:?}");
}
