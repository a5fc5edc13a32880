//! Conversion against the fixtures, which have the same weights in both layouts.

mod read_pth;

use std::path::PathBuf;

use half::bf16;

use super::latents::numbers;
use super::*;
use read_pth::read;

type Named = BTreeMap<String, (Vec<usize>, Vec<u8>)>;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures")
}

fn tiny() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tiny-wan/model")
}

/// The tensors of one safetensors file of the fixtures.
fn fixture(path: &str) -> Vec<Tensor> {
    let bytes = Arc::new(std::fs::read(fixtures().join(path)).unwrap());
    tensors(&Files::from([("part/weights.safetensors".to_owned(), bytes)]), "part")
}

fn named(tensors: Vec<Tensor>) -> Named {
    tensors.into_iter().map(|tensor| (tensor.name, (tensor.shape, tensor.bytes))).collect()
}

/// Compares without showing all bytes.
fn assert_same(ours: &Named, theirs: &Named) {
    assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>());
    for (name, tensor) in ours {
        assert_eq!(tensor.0, theirs[name].0, "the shape of {name}");
        assert!(tensor.1 == theirs[name].1, "the numbers of {name} differ");
    }
}

fn pth(path: &str) -> (Option<String>, Named) {
    read(&std::fs::read(fixtures().join(path)).unwrap())
}

#[test]
fn the_transformer_has_its_original_names() {
    let ours = renamed(fixture("dit_t2v/diffusion_pytorch_model.safetensors"), names::dit);
    let theirs = fixture("original_layout/dit/diffusion_pytorch_model.safetensors");
    assert_same(&named(ours), &named(theirs));
}

#[test]
fn the_text_encoder_has_its_original_names() {
    let mut ours = renamed(fixture("umt5/model.safetensors"), names::t5);
    for tensor in &mut ours {
        let rounded = numbers(tensor).into_iter().map(|number| bf16::from_f32(number as f32));
        tensor.bytes = rounded.flat_map(bf16::to_le_bytes).collect();
        tensor.dtype = Dtype::BF16;
    }
    let (root, theirs) = pth("original_layout/t5/models_t5_umt5-enc-bf16.pth");
    assert_same(&named(ours.clone()), &theirs);
    let (our_root, written) = read(&pth::write(Root::OrderedDict, &ours));
    assert_eq!(our_root, root);
    assert_same(&written, &theirs);
}

#[test]
fn the_vae_has_its_original_names() {
    let mut ours = fixture("vae21/diffusion_pytorch_model.safetensors");
    // Its moments are Wan's, so nothing is folded.
    let config = std::fs::read(fixtures().join("vae21/config.json")).unwrap();
    Moments::of(&serde_json::from_slice(&config).unwrap()).fold(&mut ours);
    let ours = renamed(ours, |name| names::vae(name, 1));
    let (root, theirs) = pth("original_layout/vae/Wan2.1_VAE.pth");
    assert_same(&named(ours.clone()), &theirs);
    let (our_root, written) = read(&pth::write(Root::Dict, &ours));
    assert_eq!(our_root, root);
    assert_same(&written, &theirs);
}

/// What every repo has that a pipeline has no use for.
const JUNK: [&str; 4] = [".gitattributes", "README.md", "assets/logo.png", "examples/demo.mp4"];

/// The other files of a repo.
fn paths(repo: &Repo) -> Vec<String> {
    let files = repo.commits[repo.commit()].keys();
    files.filter(|path| !JUNK.contains(&path.as_str())).cloned().collect()
}

#[test]
fn both_repos_have_what_a_pipeline_has_no_use_for() {
    let repo = diffusers(&tiny(), "owner/tiny");
    let source = folder_files(&tiny()).into_keys().filter(|path| path != "README.md");
    assert_eq!(paths(&repo), source.collect::<Vec<_>>());
    let repo = original(&tiny(), "owner/tiny");
    let expected = [
        "Wan2.1_VAE.pth",
        "config.json",
        "diffusion_pytorch_model-00001-of-00002.safetensors",
        "diffusion_pytorch_model-00002-of-00002.safetensors",
        "diffusion_pytorch_model.safetensors.index.json",
        "google/umt5-xxl/tokenizer.json",
        "google/umt5-xxl/tokenizer_config.json",
        "models_t5_umt5-xxl-enc-bf16.pth",
    ];
    assert_eq!(paths(&repo), expected);
    assert_eq!(repo.commits[repo.commit()].len(), expected.len() + JUNK.len());
}

/// As in `Wan-AI/Wan2.1-I2V-14B-480P` and `Wan-AI/Wan2.2-T2V-A14B`, but for the number of shards.
#[test]
fn an_image_encoder_and_two_experts_have_their_places() {
    let original_of = |name: &str| {
        let model = folder_files(&fixtures().join(name).join("model"));
        paths(&super::original_of(&model, "owner/model"))
    };
    let transformer = |folder: &str| {
        let files = [
            "config.json",
            "diffusion_pytorch_model-00001-of-00002.safetensors",
            "diffusion_pytorch_model-00002-of-00002.safetensors",
            "diffusion_pytorch_model.safetensors.index.json",
        ];
        files.map(|file| format!("{folder}{file}"))
    };
    let rest = |more: &[&str]| {
        let all = [
            "Wan2.1_VAE.pth",
            "google/umt5-xxl/tokenizer.json",
            "google/umt5-xxl/tokenizer_config.json",
            "models_t5_umt5-xxl-enc-bf16.pth",
        ];
        [&all, more].concat().into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let sorted = |mut files: Vec<String>| {
        files.sort();
        files
    };
    let clip = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth";
    let expected = [transformer("").to_vec(), rest(&[clip, "xlm-roberta-large/tokenizer.json"])];
    assert_eq!(original_of("pipeline_i2v"), sorted(expected.concat()));
    let experts = ["high_noise_model/", "low_noise_model/"].map(transformer).concat();
    assert_eq!(original_of("pipeline_two_expert"), sorted([experts, rest(&[])].concat()));
}

/// Names and shapes as `clip_xlm_roberta_vit_h_14` has them in `wan/modules/clip.py`.
#[test]
fn the_image_encoder_has_its_original_names() {
    let files = folder_files(&fixtures().join("pipeline_i2v/model"));
    let whole = tensors(&files, "image_encoder");
    let ours = named(clip::original(whole.clone()));
    let shape = |name: &str| {
        ours.get(name).unwrap_or_else(|| panic!("{name} in {:?}", ours.keys())).0.clone()
    };
    assert_eq!(shape("visual.cls_embedding"), [1, 1, 32]);
    assert_eq!(shape("visual.pos_embedding"), [1, 17, 32]);
    assert_eq!(shape("visual.patch_embedding.weight"), [32, 3, 7, 7]);
    assert_eq!(shape("visual.transformer.0.attn.to_qkv.weight"), [96, 32]);
    assert_eq!(shape("visual.transformer.2.attn.to_qkv.bias"), [96]);
    for name in ["norm1", "norm2", "attn.proj", "mlp.0", "mlp.2"] {
        shape(&format!("visual.transformer.1.{name}.weight"));
    }
    for name in ["pre_norm", "post_norm"] {
        shape(&format!("visual.{name}.bias"));
    }
    let keys = whole.iter().find(|t| t.name == "encoder.layers.1.self_attn.k_proj.weight").unwrap();
    let fused = &ours["visual.transformer.1.attn.to_qkv.weight"].1;
    let third = fused.len() / 3;
    assert!(fused[third..2 * third] == keys.bytes, "the keys come second");
    assert_eq!(ours.len(), whole.len() - 3 * 4, "three layers have four tensors less each");
}

#[test]
fn the_config_has_the_original_keys() {
    let repo = original(&tiny(), "owner/tiny");
    let keys = |bytes: &[u8]| -> Vec<String> {
        let config: serde_json::Map<String, Value> = serde_json::from_slice(bytes).unwrap();
        config.keys().cloned().collect()
    };
    let theirs = std::fs::read(fixtures().join("original_layout/dit/config.json")).unwrap();
    assert_eq!(keys(&repo.commits[repo.commit()]["config.json"]), keys(&theirs));
}

#[test]
fn the_shards_have_all_tensors_and_their_index_says_where() {
    let repo = original(&tiny(), "owner/tiny");
    let files = &repo.commits[repo.commit()];
    let index = &files["diffusion_pytorch_model.safetensors.index.json"];
    let index: Value = serde_json::from_slice(index).unwrap();
    let map = index["weight_map"].as_object().unwrap();
    let source = renamed(tensors(&folder_files(&tiny()), "transformer"), names::dit);
    assert_eq!(map.len(), source.len());
    for tensor in source {
        let shard = SafeTensors::deserialize(&files[map[&tensor.name].as_str().unwrap()]).unwrap();
        let view = shard.tensor(&tensor.name).unwrap();
        assert_eq!((view.dtype(), view.shape()), (tensor.dtype, tensor.shape.as_slice()));
        assert!(view.data() == tensor.bytes, "the numbers of {} differ", tensor.name);
    }
}

/// With Wan's moments the folded convolutions do what the old ones do with the model's own.
#[test]
fn the_moments_of_the_latents_are_folded_into_the_vae() {
    let files = folder_files(&tiny());
    let (old, mut new) = (tensors(&files, "vae"), tensors(&files, "vae"));
    let own = Moments::of(&config(&files, "vae"));
    let wan = Moments::wan();
    assert_ne!(own, wan);
    own.fold(&mut new);
    let changed = |(old, new): &(&Tensor, &Tensor)| old.bytes != new.bytes;
    let changed: Vec<_> = old.iter().zip(&new).filter(changed).map(|(old, _)| &old.name).collect();
    let convolutions =
        ["post_quant_conv.bias", "post_quant_conv.weight", "quant_conv.bias", "quant_conv.weight"];
    assert_eq!(changed, convolutions);

    // Latents of mean 0 and deviation 1, as the transformer has them, into the decoder.
    let plain: Vec<f64> = (0..16).map(|channel| f64::from(channel) * 0.3 - 2.0).collect();
    let scaled = |moments: &Moments| -> Vec<f64> {
        plain
            .iter()
            .zip(moments.iter())
            .map(|(z, (mean, deviation))| z * deviation + mean)
            .collect()
    };
    let before = convolve(&old, "post_quant_conv", &scaled(&own));
    assert_close(&convolve(&new, "post_quant_conv", &scaled(&wan)), &before);

    // Out of the encoder: brought to mean 0 and deviation 1, both are the same.
    let features: Vec<f64> = (0..32).map(|channel| 1.5 - f64::from(channel) * 0.1).collect();
    let normal = |tensors: &[Tensor], moments: &Moments| {
        let mut output = convolve(tensors, "quant_conv", &features);
        let (means, logarithms) = output.split_at_mut(16);
        for (at, (mean, deviation)) in moments.iter().enumerate() {
            means[at] = (means[at] - mean) / deviation;
            logarithms[at] -= 2.0 * deviation.ln();
        }
        output
    };
    assert_close(&normal(&new, &wan), &normal(&old, &own));
}

fn convolve(tensors: &[Tensor], name: &str, input: &[f64]) -> Vec<f64> {
    let find = |part: &str| {
        let name = format!("{name}.{part}");
        numbers(tensors.iter().find(|tensor| tensor.name == name).unwrap())
    };
    let weight = find("weight");
    let dot = |row: &[f64]| row.iter().zip(input).map(|(weight, x)| weight * x).sum::<f64>();
    weight.chunks(input.len()).zip(find("bias")).map(|(row, bias)| dot(row) + bias).collect()
}

fn assert_close(ours: &[f64], theirs: &[f64]) {
    assert_eq!(ours.len(), theirs.len());
    for (a, b) in ours.iter().zip(theirs) {
        assert!((a - b).abs() < 1e-5 * b.abs().max(1.0), "{ours:?} {theirs:?}");
    }
}
