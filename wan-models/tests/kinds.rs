//! The kinds of the checkpoints among the fixtures.

use std::path::Path;

use wan_io::weights::Weights;
use wan_models::kind::CheckpointKind::{self, *};

#[test]
fn fixtures_are_what_they_are() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    for (file, kind) in [
        ("dit_t2v/diffusion_pytorch_model.safetensors", TextToVideo),
        ("dit_t2v_variant/diffusion_pytorch_model.safetensors", TextToVideo),
        ("dit_i2v/diffusion_pytorch_model.safetensors", ImageToVideo),
        ("dit_flf2v/diffusion_pytorch_model.safetensors", FirstLastFrame),
        ("dit_vace/diffusion_pytorch_model.safetensors", Vace),
        ("original_layout/dit/diffusion_pytorch_model.safetensors", TextToVideo),
        ("umt5/model.safetensors", Umt5),
        ("original_layout/t5/models_t5_umt5-enc-bf16.pth", Umt5),
        ("vae21/diffusion_pytorch_model.safetensors", Vae21),
        ("original_layout/vae/Wan2.1_VAE.pth", Vae21),
        ("vae22/diffusion_pytorch_model.safetensors", Vae22),
        ("clip_text/clip_vision/model.safetensors", Clip),
        ("lora/kohya.safetensors", Lora),
        ("lora/original.safetensors", Lora),
        ("lora/original_down_up_diff_b.safetensors", Lora),
        ("lora/peft.safetensors", Lora),
    ] {
        let weights = Weights::open_path(&fixtures.join(file)).unwrap();
        assert_eq!(CheckpointKind::of_source(&weights), [kind], "{file}");
    }
}
