#![doc = include_str!("../README.md")]

macro_rules! files {
    ($($file:literal),* $(,)?) => {
        &[$(($file, include_bytes!(concat!("../model/", $file)))),*]
    };
}

/// The files of the model in the Diffusers layout: the path of each in the model's folder, with `/`
/// between its parts, and its content.
pub const FILES: &[(&str, &[u8])] = files![
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model.safetensors",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
];
