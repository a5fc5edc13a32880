//! Models as the hub has them: in the layout of Diffusers and in that of Wan's own repositories.

mod clip;
pub mod grafts;
mod latents;
mod names;
mod pth;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};

use crate::repo::{Files, Repo, folder_files};
use latents::Moments;
use pth::Root;

/// A tensor in memory.
#[derive(Debug, Clone)]
struct Tensor {
    name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

/// A repo of a model in the layout of Diffusers: the folder as it is, and files that a pipeline has
/// no use for.
///
/// # Panics
///
/// When the folder cannot be read.
pub fn diffusers(folder: &Path, id: &str) -> Repo {
    Repo::new(id).files(junk()).files(folder_files(folder))
}

/// A repo of a model in the layout of Wan's own repositories, made from a folder in the layout of Diffusers: see
/// [`original_of`].
///
/// # Panics
///
/// When the folder has no whole model.
pub fn original(folder: &Path, id: &str) -> Repo {
    original_of(&folder_files(folder), id)
}

/// A repo of a model in the layout of Wan 2.1, or of two experts in that of Wan 2.2, made from one in the layout of
/// Diffusers, and files that a pipeline has no use for. It computes the same: all numbers stay, but for those of
/// the VAE that make up for the mean and the deviation of the latents. The heads of an image encoder are not told there:
/// readers take them to be 64 wide.
///
/// # Panics
///
/// When it is no whole model.
pub fn original_of(model: &Files, id: &str) -> Repo {
    let vae = config(model, "vae");
    let mut files = Files::new();
    let mut add = |path: &str, bytes: Vec<u8>| files.insert(path.to_owned(), Arc::new(bytes));
    for (part, folder) in transformers(model) {
        let transformer = config(model, part);
        add(&format!("{folder}config.json"), pretty(&wan_config(&transformer)));
        for (path, bytes) in shards(renamed(tensors(model, part), names::dit)) {
            add(&format!("{folder}{path}"), bytes);
        }
    }
    let t5 = renamed(tensors(model, "text_encoder"), names::t5);
    add("models_t5_umt5-xxl-enc-bf16.pth", pth::write(Root::OrderedDict, &t5));
    if has_part(model, "image_encoder") {
        let clip = clip::original(tensors(model, "image_encoder"));
        let file = "models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth";
        add(file, pth::write(Root::OrderedDict, &clip));
        // That of its tower for texts, which no pipeline has a use for.
        add("xlm-roberta-large/tokenizer.json", b"{}".to_vec());
    }
    let mut weights = tensors(model, "vae");
    Moments::of(&vae).fold(&mut weights);
    let res_blocks = whole(&vae, "num_res_blocks");
    let weights = renamed(weights, |name| names::vae(name, res_blocks));
    add("Wan2.1_VAE.pth", pth::write(Root::Dict, &weights));
    for (path, bytes) in model {
        if let Some(name) = path.strip_prefix("tokenizer/") {
            add(&format!("google/umt5-xxl/{name}"), bytes.to_vec());
        }
    }
    Repo::new(id).files(junk()).files(files)
}

/// The transformers of a model in the layout of Diffusers, and the folder of each in the original one.
fn transformers(model: &Files) -> Vec<(&'static str, &'static str)> {
    match has_part(model, "transformer_2") {
        true => vec![("transformer", "high_noise_model/"), ("transformer_2", "low_noise_model/")],
        false => vec![("transformer", "")],
    }
}

fn has_part(model: &Files, part: &str) -> bool {
    model.contains_key(&format!("{part}/config.json"))
}

/// The transformer of a folder in the layout of Diffusers as a training by Self-Forcing leaves it: the mean of its
/// weights, beside weights and a critic that are zeros here, each in a dictionary of its own.
///
/// # Panics
///
/// When the folder has no whole transformer.
pub fn self_forcing(folder: &Path) -> Vec<u8> {
    let mut mean = renamed(tensors(&folder_files(folder), "transformer"), names::dit);
    mean.iter_mut().for_each(|tensor| tensor.name.insert_str(0, "model."));
    let mut zeros = mean.clone();
    zeros.iter_mut().for_each(|tensor| tensor.bytes.fill(0));
    pth::write_nested(&[("critic", zeros.clone()), ("generator", zeros), ("generator_ema", mean)])
}

/// What real repositories also have.
fn junk() -> Files {
    let noise = |bytes: usize| (0..bytes).map(|at| (at * at / 7 % 251) as u8).collect();
    let files: [(&str, Vec<u8>); 4] = [
        (".gitattributes", b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n".to_vec()),
        ("README.md", b"---\nlicense: apache-2.0\n---\n# A model\n".to_vec()),
        ("assets/logo.png", noise(100_000)),
        ("examples/demo.mp4", noise(300_000)),
    ];
    files.into_iter().map(|(path, bytes)| (path.to_owned(), Arc::new(bytes))).collect()
}

fn config(files: &Files, part: &str) -> Value {
    let bytes = &files[&format!("{part}/config.json")];
    serde_json::from_slice(bytes).expect("the model's config is JSON")
}

fn whole(config: &Value, key: &str) -> usize {
    let number = config[key].as_u64().expect("a whole number in the model's config");
    usize::try_from(number).expect("a small number")
}

fn wan_config(transformer: &Value) -> Value {
    let heads = whole(transformer, "num_attention_heads");
    let model_type = match () {
        () if transformer["in_channels"] == transformer["out_channels"] => "t2v",
        () if transformer["pos_embed_seq_len"].is_null() => "i2v",
        () => "flf2v",
    };
    json!({
        "_class_name": "WanModel",
        "_diffusers_version": "0.30.0",
        "dim": heads * whole(transformer, "attention_head_dim"),
        "eps": transformer["eps"],
        "ffn_dim": transformer["ffn_dim"],
        "freq_dim": transformer["freq_dim"],
        "in_dim": transformer["in_channels"],
        "model_type": model_type,
        "num_heads": heads,
        "num_layers": transformer["num_layers"],
        "out_dim": transformer["out_channels"],
        "text_len": 512,
    })
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}

/// The tensors of a part of a model, sorted by name.
fn tensors(files: &Files, part: &str) -> Vec<Tensor> {
    let of_part = |path: &str| {
        path.strip_prefix(part).is_some_and(|rest| rest.starts_with('/'))
            && path.ends_with(".safetensors")
    };
    let mut tensors = Vec::new();
    for (_, bytes) in files.iter().filter(|(path, _)| of_part(path)) {
        let file = SafeTensors::deserialize(bytes).expect("the model's weights are safetensors");
        tensors.extend(file.iter().map(|(name, view)| Tensor {
            name: name.to_owned(),
            dtype: view.dtype(),
            shape: view.shape().to_vec(),
            bytes: view.data().to_vec(),
        }));
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    tensors
}

fn renamed(mut tensors: Vec<Tensor>, name: impl Fn(&str) -> String) -> Vec<Tensor> {
    tensors.iter_mut().for_each(|tensor| tensor.name = name(&tensor.name));
    tensors
}

/// Two shards of about the same size, and their index.
fn shards(tensors: Vec<Tensor>) -> Vec<(String, Vec<u8>)> {
    let total: usize = tensors.iter().map(|tensor| tensor.bytes.len()).sum();
    let mut shards = [Vec::new(), Vec::new()];
    let mut before = 0;
    for tensor in tensors {
        let shard = usize::from(before >= total / 2);
        before += tensor.bytes.len();
        shards[shard].push(tensor);
    }
    let name = |at: usize| format!("diffusion_pytorch_model-0000{}-of-00002.safetensors", at + 1);
    let mut map = BTreeMap::new();
    let mut files = Vec::new();
    for (at, shard) in shards.iter().enumerate() {
        map.extend(shard.iter().map(|tensor| (&tensor.name, name(at))));
        files.push((name(at), safetensors(shard)));
    }
    let index = json!({ "metadata": { "total_size": total }, "weight_map": map });
    files.push(("diffusion_pytorch_model.safetensors.index.json".to_owned(), pretty(&index)));
    files
}

fn safetensors(tensors: &[Tensor]) -> Vec<u8> {
    let views = tensors.iter().map(|tensor| {
        let view = TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes);
        (&tensor.name, view.expect("a tensor's bytes fit its shape"))
    });
    safetensors::serialize(views, None).expect("tensors can be written")
}

#[cfg(test)]
mod tests;
