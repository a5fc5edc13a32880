//! Models of other kinds, made of a text-to-video model: the same weights, and what the other kind has beside
//! them. What is added is zero, or a copy, so that what such a model must do is known.

use std::path::Path;
use std::sync::Arc;

use half::f16;
use safetensors::Dtype;
use serde_json::{Value, json};

use super::{Files, Tensor, config, pretty, safetensors, tensors, whole};
use crate::repo::folder_files;

const INDEX: &str = "model_index.json";
const WEIGHTS: &str = "transformer/diffusion_pytorch_model.safetensors";

/// Sides of a frame in pixels that a latent stands for.
const SPATIAL: usize = 8;

/// A model in the layout of Diffusers that is changed.
struct Graft {
    files: Files,
    config: Value,
    tensors: Vec<Tensor>,
}

/// The files of a model in a folder.
///
/// # Panics
///
/// When it cannot be read.
pub fn read(folder: &Path) -> Files {
    folder_files(folder)
}

/// Makes a model in `target` of the one in `source`, both folders in the layout of Diffusers.
///
/// # Panics
///
/// When the model cannot be read, or the other not be written.
pub fn make(source: &Path, target: &Path, graft: impl Fn(&Files) -> Files) {
    for (path, bytes) in graft(&folder_files(source)) {
        let path = target.join(path);
        let folder = path.parent().expect("a file is in a folder");
        std::fs::create_dir_all(folder).expect("a folder for the model");
        std::fs::write(path, bytes.as_slice()).expect("a file of the model");
    }
}

/// Two experts with the same weights: they make the video that one of them makes.
pub fn two_experts(model: &Files) -> Files {
    let mut files = model.clone();
    for (path, bytes) in model.iter().filter(|(path, _)| path.starts_with("transformer/")) {
        files.insert(path.replacen("transformer", "transformer_2", 1), bytes.clone());
    }
    set(&mut files, INDEX, "transformer_2", json!(["diffusers", "WanTransformer3DModel"]));
    set(&mut files, INDEX, "boundary_ratio", json!(0.875));
    files
}

/// The same weights as those of a causal model.
pub fn causal(model: &Files) -> Files {
    let mut graft = Graft::of(model);
    graft.config["_class_name"] = json!("CausalWanTransformer3DModel");
    graft.index("_class_name", json!("WanCausalDMDPipeline"));
    graft.index("transformer", json!(["diffusers", "CausalWanTransformer3DModel"]));
    graft.done()
}

/// An image-to-video model as Wan 2.2 A14B's that looks away: the weights of the channels beside the latents are 0,
/// so that its videos are those of the text-to-video model.
pub fn image_to_video(model: &Files) -> Files {
    let mut graft = Graft::of(model);
    let latents = graft.channels();
    graft.widen(latents + 4 + latents);
    graft.index("_class_name", json!("WanImageToVideoPipeline"));
    graft.done()
}

/// An image-to-video model with another image encoder, of one head of 64, as the original layout can have it. It, and what
/// the transformer sees its states with, are noise, so that it counts.
pub fn one_headed_encoder(model: &Files) -> Files {
    const HEAD: usize = 64;
    let (mut graft, mut encoder) = (Graft::of(model), config(model, "image_encoder"));
    let width = whole(&encoder, "hidden_size");
    let widened = |tensor: &Tensor| {
        let sides = tensor.shape.iter().map(|&side| if side == width { HEAD } else { side });
        noise(&tensor.name, &sides.collect::<Vec<usize>>())
    };
    let embedder = graft.tensors.iter().filter(|tensor| tensor.name.contains("image_embedder"));
    let embedder: Vec<Tensor> = embedder.map(widened).collect();
    embedder.into_iter().for_each(|tensor| graft.add(tensor));
    graft.config["image_dim"] = json!(HEAD);
    encoder["hidden_size"] = json!(HEAD);
    encoder["num_attention_heads"] = json!(1);
    let tower: Vec<Tensor> = tensors(model, "image_encoder").iter().map(widened).collect();
    for (file, bytes) in
        [("config.json", pretty(&encoder)), ("model.safetensors", safetensors(&tower))]
    {
        graft.files.insert(format!("image_encoder/{file}"), Arc::new(bytes));
    }
    graft.done()
}

/// A first-and-last-frame model as Wan 2.1's, with the image encoder of another model, that looks away from both: the
/// weights of its branch for images are 0, so that its videos are those of the text-to-video model.
pub fn first_last_frame(model: &Files, with_encoder: &Files) -> Files {
    let mut graft = Graft::of(&image_to_video(model));
    let [states, tokens] = graft.look_away(with_encoder);
    let positions = "condition_embedder.image_embedder.pos_embed";
    graft.add(zeros(positions, &[1, 2 * tokens, states]));
    graft.config["pos_embed_seq_len"] = json!(2 * tokens);
    graft.done()
}

/// A model as Wan 2.1's Fun-Control, with the image encoder of another model, that sees neither the video to follow
/// nor the image: its videos are those of the text-to-video model.
pub fn fun_control(model: &Files, with_encoder: &Files) -> Files {
    let mut graft = Graft::of(model);
    let latents = graft.channels();
    graft.widen(3 * latents);
    graft.look_away(with_encoder);
    graft.done()
}

/// A model as Lucy Edit that does not see the video to change: its videos are those of the text-to-video model.
pub fn edit(model: &Files) -> Files {
    let mut graft = Graft::of(model);
    let latents = graft.channels();
    graft.widen(2 * latents);
    graft.done()
}

/// A VACE model with a block for the control before every second of its own: a copy of that. The video to keep and the
/// one to follow are seen as latents are, the mask is not. What a block adds is `strength` times its result; with 0 the
/// videos are those of the text-to-video model.
pub fn vace(model: &Files, strength: f32) -> Files {
    let mut graft = Graft::of(model);
    let (channels, blocks) = (graft.channels(), graft.config["num_layers"].as_u64().unwrap());
    let layers: Vec<u64> = (0..blocks).step_by(2).collect();
    let control = 2 * channels + SPATIAL * SPATIAL;
    let patches = graft.tensor("patch_embedding.weight").clone();
    let width = patches.shape[0];
    let twice = [&patches, &patches];
    graft.add(joined("vace_patch_embedding.weight", &twice, control));
    graft.add(Tensor {
        name: "vace_patch_embedding.bias".into(),
        ..graft.tensor("patch_embedding.bias").clone()
    });
    for (i, layer) in layers.iter().enumerate() {
        let own = format!("blocks.{layer}.");
        let copies: Vec<Tensor> =
            graft.tensors.iter().filter(|tensor| tensor.name.starts_with(&own)).cloned().collect();
        for tensor in copies {
            let name = tensor.name.replacen(&own, &format!("vace_blocks.{i}."), 1);
            graft.add(Tensor { name, ..tensor });
        }
        graft.add(diagonal(&format!("vace_blocks.{i}.proj_out.weight"), width, strength));
        graft.add(zeros(&format!("vace_blocks.{i}.proj_out.bias"), &[width]));
    }
    graft.add(diagonal("vace_blocks.0.proj_in.weight", width, 1.0));
    graft.add(zeros("vace_blocks.0.proj_in.bias", &[width]));
    let class = "WanVACETransformer3DModel";
    graft.config["_class_name"] = json!(class);
    graft.config["vace_layers"] = json!(layers);
    graft.config["vace_in_channels"] = json!(control);
    graft.index("_class_name", json!("WanVACEPipeline"));
    graft.index("transformer", json!(["diffusers", class]));
    graft.done()
}

/// A model for prompts whose states are of this width, less than that of the text encoder: it reads them as the other
/// reads the same with zeros behind.
pub fn narrow_text(model: &Files, width: usize) -> Files {
    let mut graft = Graft::of(model);
    let name = "condition_embedder.text_embedder.linear_1.weight";
    let Tensor { dtype, shape, bytes, .. } = graft.tensor(name).clone();
    let row = bytes.len() / shape[0];
    let bytes = bytes.chunks(row).flat_map(|row| &row[..row.len() / shape[1] * width]).copied();
    let (shape, bytes) = (vec![shape[0], width], bytes.collect());
    graft.add(Tensor { name: name.into(), dtype, shape, bytes });
    graft.config["text_dim"] = json!(width);
    graft.done()
}

impl Graft {
    fn of(model: &Files) -> Self {
        let mut graft = Self {
            files: model.clone(),
            config: config(model, "transformer"),
            tensors: tensors(model, "transformer"),
        };
        graft.index("expand_timesteps", json!(false));
        graft
    }

    /// Channels of the latents.
    fn channels(&self) -> usize {
        self.config["out_channels"].as_u64().expect("a number of channels") as usize
    }

    fn tensor(&self, name: &str) -> &Tensor {
        let found = self.tensors.iter().find(|tensor| tensor.name == name);
        found.unwrap_or_else(|| panic!("the model has no {name}"))
    }

    fn add(&mut self, tensor: Tensor) {
        self.tensors.retain(|other| other.name != tensor.name);
        self.tensors.push(tensor);
    }

    /// Gives the transformer more channels, which it does not see.
    fn widen(&mut self, channels: usize) {
        let patches =
            joined("patch_embedding.weight", &[self.tensor("patch_embedding.weight")], channels);
        self.add(patches);
        self.config["in_channels"] = json!(channels);
    }

    /// Gives the transformer a branch for images, whose weights are 0, and the model the image encoder of another.
    /// Returns the width of the encoder's states and the number of its tokens.
    fn look_away(&mut self, with_encoder: &Files) -> [usize; 2] {
        let encoder = config(with_encoder, "image_encoder");
        let size =
            |field: &str| encoder[field].as_u64().expect("a size of the image encoder") as usize;
        let (states, patches) = (size("hidden_size"), size("image_size") / size("patch_size"));
        let width = self.tensor("patch_embedding.bias").shape[0];
        let embedder = "condition_embedder.image_embedder";
        self.add(ones(&format!("{embedder}.norm1.weight"), states));
        self.add(ones(&format!("{embedder}.norm2.weight"), width));
        for (name, shape) in [
            ("norm1.bias", vec![states]),
            ("ff.net.0.proj.weight", vec![states, states]),
            ("ff.net.0.proj.bias", vec![states]),
            ("ff.net.2.weight", vec![width, states]),
            ("ff.net.2.bias", vec![width]),
            ("norm2.bias", vec![width]),
        ] {
            self.add(zeros(&format!("{embedder}.{name}"), &shape));
        }
        for block in 0..self.config["num_layers"].as_u64().expect("a number of layers") {
            let attention = format!("blocks.{block}.attn2");
            self.add(ones(&format!("{attention}.norm_added_k.weight"), width));
            for name in ["add_k_proj", "add_v_proj"] {
                self.add(zeros(&format!("{attention}.{name}.weight"), &[width, width]));
                self.add(zeros(&format!("{attention}.{name}.bias"), &[width]));
            }
        }
        self.config["image_dim"] = json!(states);
        self.config["added_kv_proj_dim"] = json!(width);
        self.index("image_encoder", json!(["transformers", "CLIPVisionModel"]));
        let is_of_encoder =
            |path: &str| path.starts_with("image_encoder/") || path.starts_with("image_processor/");
        let encoder = with_encoder.iter().filter(|(path, _)| is_of_encoder(path));
        self.files.extend(encoder.map(|(path, bytes)| (path.clone(), bytes.clone())));
        [states, 1 + patches * patches]
    }

    fn index(&mut self, field: &str, value: Value) {
        set(&mut self.files, INDEX, field, value);
    }

    fn done(mut self) -> Files {
        self.files.insert("transformer/config.json".into(), Arc::new(pretty(&self.config)));
        self.files.insert(WEIGHTS.into(), Arc::new(safetensors(&self.tensors)));
        self.files
    }
}

fn set(files: &mut Files, path: &str, field: &str, value: Value) {
    let mut json: Value = serde_json::from_slice(&files[path]).expect("the model's JSON");
    json[field] = value;
    files.insert(path.into(), Arc::new(pretty(&json)));
}

/// Kernels `[width, channels, ..]` beside each other, and zeros up to so many channels.
fn joined(name: &str, kernels: &[&Tensor], channels: usize) -> Tensor {
    let Tensor { dtype, shape, .. } = kernels[0];
    let one = kernels[0].bytes.len() / shape[0];
    let all = one / shape[1] * channels;
    let mut bytes = Vec::new();
    for row in 0..shape[0] {
        let end = bytes.len() + all;
        for kernel in kernels {
            bytes.extend_from_slice(&kernel.bytes[row * one..(row + 1) * one]);
        }
        bytes.resize(end, 0);
    }
    let mut shape = shape.clone();
    shape[1] = channels;
    Tensor { name: name.into(), dtype: *dtype, shape, bytes }
}

fn zeros(name: &str, shape: &[usize]) -> Tensor {
    let bytes = vec![0; 2 * shape.iter().product::<usize>()];
    Tensor { name: name.into(), dtype: Dtype::F16, shape: shape.to_vec(), bytes }
}

/// Numbers from -1/4 to 1/4 that look random, the same for the same name.
fn noise(name: &str, shape: &[usize]) -> Tensor {
    let next = |state: u32| state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    let mut state = name.bytes().fold(1, |state, byte| next(state ^ u32::from(byte)));
    let mut tensor = zeros(name, shape);
    for bytes in tensor.bytes.chunks_exact_mut(2) {
        state = next(state);
        let number = (state >> 8) as f32 / (1 << 25) as f32 - 0.25;
        bytes.copy_from_slice(&f16::from_f32(number).to_le_bytes());
    }
    tensor
}

fn ones(name: &str, width: usize) -> Tensor {
    let bytes = f16::ONE.to_le_bytes().repeat(width);
    Tensor { name: name.into(), dtype: Dtype::F16, shape: vec![width], bytes }
}

fn diagonal(name: &str, side: usize, value: f32) -> Tensor {
    let mut tensor = zeros(name, &[side, side]);
    for i in 0..side {
        let at = 2 * (i * side + i);
        tensor.bytes[at..at + 2].copy_from_slice(&f16::from_f32(value).to_le_bytes());
    }
    tensor
}
