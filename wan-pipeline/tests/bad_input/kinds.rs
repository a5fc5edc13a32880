//! Files that are something else than the part that they are given as.

use safetensors::Dtype;
use wan_models::kind::CheckpointKind;
use wan_pipeline::backend::Flex;
use wan_pipeline::{Error, ModelError, Pipeline, Role};

use crate::model::{Model, TEXT_ENCODER_WEIGHTS, TRANSFORMER_WEIGHTS, Tensors, VAE_WEIGHTS, says};

/// The error of a model with this file as one of its parts.
#[track_caller]
fn error_of_part(role: Role, file: std::path::PathBuf) -> Error {
    let builder = Pipeline::<Flex>::builder("tiny-wan");
    let builder = match role {
        Role::Transformer => builder.transformer(file),
        Role::TextEncoder => builder.text_encoder(file),
        _ => builder.vae(file),
    };
    builder.open().err().expect("this is not the part")
}

/// The error names the kind in one line.
#[track_caller]
fn is_named(error: &Error, expected: CheckpointKind, parts: &[&str]) {
    let Error::Model(ModelError::OtherKind { kind, .. }) = error else { panic!("{error:?}") };
    assert_eq!(*kind, expected);
    says(error, parts);
    assert_eq!(error.to_string().lines().count(), 1, "{error}");
}

/// Adds an empty tensor of F16.
fn add(tensors: &mut Tensors, name: &str, shape: &[usize]) {
    let bytes = vec![0; 2 * shape.iter().product::<usize>()];
    tensors.0.insert(name.into(), (Dtype::F16, shape.to_vec(), bytes));
}

#[test]
fn transformers_of_other_models() {
    const MUST: &str =
        ", which is not supported yet; the transformer must be a text-to-video model";
    let model = Model::copy();
    let whole = model.tensors(TRANSFORMER_WEIGHTS);
    for (kind, channels, more, name) in [
        (
            CheckpointKind::FunCamera,
            32,
            "control_adapter.conv.weight",
            "(Wan 2.1 Fun-Control-Camera)",
        ),
        (CheckpointKind::FunControlExpert, 52, "ref_conv.weight", "Fun-A14B-Control"),
        (CheckpointKind::Animate, 36, "face_adapter.0.to_q.weight", "Animate"),
        (CheckpointKind::SpeechToVideo, 16, "audio_injector.0.weight", "S2V"),
        (CheckpointKind::Dancer, 36, "music_injector.0.weight", "Dancer"),
    ] {
        let mut tensors = whole.clone();
        add(&mut tensors, "patch_embedding.weight", &[192, channels, 1, 2, 2]);
        if !more.is_empty() {
            add(&mut tensors, more, &[8]);
        }
        let error = model.error_with(TRANSFORMER_WEIGHTS, tensors.bytes());
        is_named(&error, kind, &[TRANSFORMER_WEIGHTS, " is ", name, MUST]);
        model.write("other.safetensors", tensors.bytes());
        is_named(&error_of_part(Role::Transformer, model.file("other.safetensors")), kind, &[name]);
    }
}

/// Nothing but the name tells an expert from a model that is whole without the other.
#[test]
fn an_expert_by_the_name_of_its_file() {
    let model = Model::copy();
    let file = model.file("wan2.2_t2v_low_noise_14B.safetensors");
    std::fs::copy(model.file(TRANSFORMER_WEIGHTS), &file).unwrap();
    let error = error_of_part(Role::Transformer, file.clone());
    let parts = ["one of the two experts", "the other as the second transformer"];
    is_named(&error, CheckpointKind::TextToVideoExpert, &parts);
}

#[test]
fn parts_in_each_others_places() {
    let model = Model::copy();
    for (role, file, kind, parts) in [
        (
            Role::Transformer,
            VAE_WEIGHTS,
            CheckpointKind::Vae21,
            ["a Wan 2.1 VAE, not a transformer", "as the vae"],
        ),
        (
            Role::Transformer,
            TEXT_ENCODER_WEIGHTS,
            CheckpointKind::Umt5,
            ["a umT5 text encoder, not a transformer", "as the text encoder"],
        ),
        (
            Role::Vae,
            TRANSFORMER_WEIGHTS,
            CheckpointKind::TextToVideo,
            ["(Wan 2.1 T2V), not a vae", "as the transformer"],
        ),
        (
            Role::TextEncoder,
            VAE_WEIGHTS,
            CheckpointKind::Vae21,
            ["not a text encoder", "as the vae"],
        ),
    ] {
        is_named(&error_of_part(role, model.file(file)), kind, &[file, parts[0], parts[1]]);
        let place = match role {
            Role::Transformer => TRANSFORMER_WEIGHTS,
            Role::TextEncoder => TEXT_ENCODER_WEIGHTS,
            _ => VAE_WEIGHTS,
        };
        is_named(&model.error_with(place, model.read(file)), kind, &[place, parts[0], parts[1]]);
    }
}

#[test]
fn adapters_are_no_models() {
    let model = Model::copy();
    for names in [
        ["blocks.0.self_attn.q.lora_A.weight", "blocks.0.self_attn.q.lora_B.weight"],
        ["lora_unet_blocks_0_ffn_0.lora_down.weight", "lora_unet_blocks_0_ffn_0.lora_up.weight"],
        ["blocks.0.norm3.diff", "blocks.0.norm3.diff_b"],
    ] {
        let mut lora = Tensors(Default::default());
        names.iter().for_each(|name| add(&mut lora, name, &[8, 192]));
        model.write("lora.safetensors", lora.bytes());
        for role in [Role::Transformer, Role::TextEncoder, Role::Vae] {
            let error = error_of_part(role, model.file("lora.safetensors"));
            let parts = ["lora.safetensors is a LoRA, not a whole model"];
            is_named(&error, CheckpointKind::Lora, &parts);
        }
    }
}
