//! Models that are compiled into the program.

use wan_io::files::ModelFiles;

/// The built-in model of this name.
pub(crate) fn find(name: &str) -> Option<ModelFiles> {
    #[cfg(feature = "tiny-wan")]
    if name == "tiny-wan" {
        return Some(ModelFiles::Embedded { name: "tiny-wan", files: tiny_wan::FILES });
    }
    let _ = name;
    None
}

/// The names of all built-in models, for messages.
pub(crate) fn names() -> String {
    if cfg!(feature = "tiny-wan") { "tiny-wan" } else { "none are compiled in" }.into()
}

#[cfg(feature = "tiny-wan")]
mod tiny_wan {
    use wan_io::files::EmbeddedFile;

    macro_rules! files {
        ($($file:literal),* $(,)?) => {
            &[$((
                $file,
                include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/tiny-wan/", $file)),
            )),*]
        };
    }

    pub(super) const FILES: &[EmbeddedFile] = files![
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "transformer/config.json",
        "transformer/diffusion_pytorch_model.safetensors",
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    ];
}
