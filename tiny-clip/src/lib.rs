#![doc = include_str!("../README.md")]

macro_rules! files {
    ($($file:literal),* $(,)?) => {
        &[$(($file, include_bytes!(concat!("../model/", $file)))),*]
    };
}

/// The files of the model in the layout of transformers: the name of each in the model's folder, and its
/// content.
pub const FILES: &[(&str, &[u8])] = files![
    "config.json",
    "model.safetensors",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
];
