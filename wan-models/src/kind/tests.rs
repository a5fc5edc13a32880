use super::CheckpointKind::*;
use super::*;

/// A list of names with shapes.
type List = Vec<(String, Vec<usize>)>;

fn detect_all(list: &List) -> Vec<CheckpointKind> {
    let shape =
        |name: &str| list.iter().find(|(other, _)| other == name).map(|(_, shape)| shape.clone());
    CheckpointKind::detect_parts(list.iter().map(|(name, _)| name.as_str()), shape)
}

/// The one kind that a list is of.
#[track_caller]
fn detect(list: &List) -> Option<CheckpointKind> {
    let kinds = detect_all(list);
    assert!(kinds.len() < 2, "{kinds:?}");
    kinds.first().copied()
}

/// Names with the shape of a vector.
fn list(names: &[&str]) -> List {
    names.iter().map(|name| (name.to_string(), vec![8])).collect()
}

/// The tensors of a transformer in the original layout, or in that of diffusers.
fn transformer(original: bool, [input, output, width]: [usize; 3]) -> List {
    let head = if original { "head.head.weight" } else { "proj_out.weight" };
    let mut list = list(&match original {
        true => ["text_embedding.0.weight", "time_projection.1.weight", "head.modulation"],
        false => [
            "condition_embedder.text_embedder.linear_1.weight",
            "condition_embedder.time_proj.weight",
            "scale_shift_table",
        ],
    });
    list.push(("patch_embedding.weight".into(), vec![width, input, 1, 2, 2]));
    list.push((head.into(), vec![4 * output, width]));
    for block in 0..30 {
        let names: &[&str] = match original {
            true => &["self_attn.q", "self_attn.norm_k", "cross_attn.o", "norm3", "ffn.2"],
            false => &["attn1.to_q", "attn1.norm_k", "attn2.to_out.0", "norm2", "ffn.net.2"],
        };
        for name in names {
            list.push((format!("blocks.{block}.{name}.weight"), vec![width]));
        }
    }
    list
}

fn with(mut list: List, more: &[&str]) -> List {
    list.extend(self::list(more));
    list
}

/// Input and output channels, width, and what each kind has beside the common tensors: in the original
/// layout and in that of diffusers, where there is one.
#[test]
fn transformers_are_told_by_their_channels_and_marks() {
    const IMAGE: [&[&str]; 2] = [
        &["img_emb.proj.1.weight", "blocks.0.cross_attn.k_img.weight"],
        &[
            "condition_embedder.image_embedder.ff.net.0.proj.weight",
            "blocks.0.attn2.add_k_proj.weight",
        ],
    ];
    let both =
        |more: &[&str]| [more, more].map(|more| more.iter().map(|s| s.to_string()).collect());
    let image = |more: [&[&str]; 2]| -> [Vec<String>; 2] {
        std::array::from_fn(|i| IMAGE[i].iter().chain(more[i]).map(|s| s.to_string()).collect())
    };
    let cases: Vec<(_, [usize; 3], [Vec<String>; 2])> = vec![
        (TextToVideo, [16, 16, 1536], both(&[])),
        (TextToVideo, [16, 16, 5120], both(&[])),
        (FastWan, [16, 16, 1536], both(&["blocks.7.to_gate_compress.bias"])),
        (ImageToVideo, [36, 16, 5120], image([&[], &[]])),
        (ImageToVideo, [36, 16, 1536], image([&[], &[]])),
        (
            FirstLastFrame,
            [36, 16, 5120],
            image([&["img_emb.emb_pos"], &["condition_embedder.image_embedder.pos_embed"]]),
        ),
        (ImageToVideoExpert, [36, 16, 5120], both(&[])),
        (TextImageToVideo, [48, 48, 3072], both(&[])),
        (TextImageToVideo, [48, 48, 3072], both(&["blocks.0.to_gate_compress.weight"])),
        (LucyEdit, [96, 48, 3072], both(&[])),
        (
            Vace,
            [16, 16, 1536],
            both(&["vace_blocks.0.before_proj.weight", "vace_patch_embedding.weight"]),
        ),
        (FunControl, [48, 16, 1536], image([&[], &[]])),
        (FunControl, [48, 16, 5120], image([&["ref_conv.weight"], &["ref_conv.weight"]])),
        (FunControlExpert, [52, 16, 5120], both(&["ref_conv.weight"])),
        (
            FunCamera,
            [32, 16, 1536],
            image([&["control_adapter.conv.weight"], &["control_adapter.conv.weight"]]),
        ),
        (FunCameraExpert, [36, 16, 5120], both(&["control_adapter.conv.weight"])),
        (
            Animate,
            [36, 16, 5120],
            image([
                &["pose_patch_embedding.weight", "face_adapter.fuser_blocks.0.linear1_q.weight"],
                &["pose_patch_embedding.weight", "face_adapter.0.to_q.weight"],
            ]),
        ),
        (
            SpeechToVideo,
            [16, 16, 5120],
            both(&["casual_audio_encoder.weights", "audio_injector.injector.0.q.weight"]),
        ),
        (
            Dancer,
            [36, 16, 5120],
            image([
                &["music_injector.injector.0.q.weight", "ref_conv.weight"],
                &["music_projection.weight"],
            ]),
        ),
        (AudioDriven, [36, 16, 5120], image([&["blocks.0.audio_cross_attn.proj.bias"]; 2])),
        (SkyReels, [16, 16, 1536], both(&["fps_embedding.weight", "fps_projection.0.bias"])),
    ];
    for (kind, channels, more) in cases {
        for (original, more) in [true, false].into_iter().zip(&more) {
            let more: Vec<&str> = more.iter().map(String::as_str).collect();
            let list = with(transformer(original, channels), &more);
            assert_eq!(detect(&list), Some(kind), "{channels:?} {more:?}");
            for prefix in
                ["model.diffusion_model.", "diffusion_model.", "module.", "generator_ema.model."]
            {
                let list = list.iter().map(|(name, s)| (format!("{prefix}{name}"), s.clone()));
                assert_eq!(detect(&list.collect()), Some(kind), "{prefix}");
            }
        }
    }
    // Other numbers of channels are of no published model.
    assert_eq!(detect(&transformer(true, [20, 16, 5120])), None);
    assert_eq!(detect(&transformer(true, [8, 8, 64])), Some(TextToVideo));
}

#[test]
fn parts_with_names_of_their_own_are_told() {
    for (kind, names) in [
        (Animate2, vec!["blocks.0.block.self_attn.q.weight", "patch_embedding.weight"]),
        (
            LongCat,
            vec![
                "x_embedder.proj.weight",
                "y_embedder.y_proj.0.weight",
                "blocks.0.cross_attn.kv_linear.weight",
            ],
        ),
        (Vace, vec!["vace_blocks.0.self_attn.q.weight", "vace_patch_embedding.weight"]),
        (
            Umt5,
            vec![
                "shared.weight",
                "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight",
            ],
        ),
        (
            Umt5,
            vec![
                "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight",
                "spiece_model",
            ],
        ),
        (Umt5, vec!["token_embedding.weight", "blocks.0.pos_embedding.embedding.weight"]),
        (
            Umt5LlamaCpp,
            vec!["token_embd.weight", "enc.blk.0.attn_rel_b.weight", "enc.blk.1.attn_rel_b.weight"],
        ),
        (
            T5,
            vec![
                "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                "encoder.block.1.layer.0.SelfAttention.q.weight",
            ],
        ),
        (Vae21, vec!["encoder.conv1.weight", "decoder.upsamples.0.residual.2.weight"]),
        (
            Vae21,
            vec!["encoder.down_blocks.0.norm1.gamma", "decoder.up_blocks.0.resnets.0.norm1.gamma"],
        ),
        (Vae22, vec!["conv1.weight", "decoder.upsamples.0.upsamples.0.residual.0.gamma"]),
        (
            Vae22,
            vec![
                "encoder.down_blocks.0.resnets.0.norm1.gamma",
                "decoder.up_blocks.0.upsampler.time_conv.bias",
                "decoder.mid_block.resnets.0.norm1.gamma",
            ],
        ),
        (Tae, vec!["encoder.0.weight", "decoder.1.weight", "decoder.3.conv.0.weight"]),
        (
            Clip,
            vec![
                "visual.transformer.0.attn.to_qkv.weight",
                "textual.blocks.0.attn.q.weight",
                "log_scale",
            ],
        ),
        (Clip, vec!["vision_model.encoder.layers.0.self_attn.q_proj.weight"]),
        (Clip, vec!["vision_model.encoder.layer.0.self_attn.q_proj.weight", "logit_scale"]),
        (Clip, vec!["visual.transformer.resblocks.0.attn.in_proj_weight", "visual.proj"]),
        (AudioEncoder, vec!["wav2vec2.feature_extractor.conv_layers.0.conv.weight"]),
    ] {
        assert_eq!(detect(&list(&names)), Some(kind), "{names:?}");
    }
    for names in [
        vec![],
        vec!["weight"],
        // An image model's VAE and UNet.
        vec!["encoder.down_blocks.0.resnets.0.norm1.weight", "decoder.conv_in.weight"],
        vec!["down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.weight"],
    ] {
        assert_eq!(detect(&list(&names)), None, "{names:?}");
    }
}

#[test]
fn adapters_are_told_in_all_their_styles() {
    for names in [
        [
            "diffusion_model.blocks.0.self_attn.q.lora_A.weight",
            "diffusion_model.head.head.lora_B.weight",
        ],
        ["transformer.blocks.0.attn1.to_q.lora_A.weight", "transformer.proj_out.lora_B.weight"],
        ["base_model.model.blocks.0.self_attn.q.lora_A.default.weight", "x.lora_B.default.weight"],
        ["blocks.0.self_attn.q.lora_down.weight", "blocks.0.self_attn.q.alpha"],
        ["lora_unet_blocks_0_ffn_0.lora_up.weight", "lora_unet_blocks_0_ffn_0.lora_down.weight"],
        ["blocks.0.attn1.to_q.lora.down.weight", "blocks.0.attn1.to_q.lora.up.weight"],
        ["diffusion_model.patch_embedding.diff", "diffusion_model.blocks.0.norm3.diff_b"],
        ["img_emb.proj.1.lora_A.weight", "blocks.0.cross_attn.k_img.lora_B.weight"],
    ] {
        assert_eq!(detect(&list(&names)), Some(Lora), "{names:?}");
    }
    for names in [
        ["lycoris_blocks_0_ffn_0.lokr_w1", "lycoris_blocks_0_ffn_0.lokr_w2"],
        ["lora_unet_blocks_0_ffn_0.hada_w1_a", "lora_unet_blocks_0_ffn_0.hada_w2_b"],
    ] {
        assert_eq!(detect(&list(&names)), Some(Lycoris), "{names:?}");
    }
}

#[test]
fn all_parts_of_a_file_are_told() {
    let below = |prefix: &str, names: &[&str]| {
        list(names)
            .into_iter()
            .map(|(name, shape)| (format!("{prefix}{name}"), shape))
            .collect::<List>()
    };
    let mut all = transformer(true, [16, 16, 1536]);
    all.extend(below("vae.", &["decoder.upsamples.0.residual.2.weight"]));
    let encoder = "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight";
    all.extend(below("text_encoders.umt5xxl.transformer.", &[encoder]));
    assert_eq!(detect_all(&all), [TextToVideo, Umt5, Vae21]);
}

#[test]
fn all_kinds_are_listed_once() {
    for (i, kind) in CheckpointKind::ALL.into_iter().enumerate() {
        assert_eq!(kind as usize, i, "{kind}");
    }
}

#[test]
fn names_of_files_tell_experts() {
    for path in [
        "models/wan2.2_t2v_high_noise_14B_fp16.safetensors",
        "/m/Wan2.2-T2V-A14B/low_noise_model/diffusion_pytorch_model.safetensors.index.json",
        "Wan2_2-T2V-A14B_HIGH_bf16.safetensors",
        "C:\\models\\Wan22-Low-Noise.safetensors",
    ] {
        assert_eq!(TextToVideo.at_path(path), TextToVideoExpert, "{path}");
        assert_eq!(Vae21.at_path(path), Vae21);
    }
    for path in [
        "wan2.1_t2v_14B.safetensors",
        "high_noise/models/t2v/wan.safetensors",
        "highway.safetensors",
    ] {
        assert_eq!(TextToVideo.at_path(path), TextToVideo, "{path}");
    }
}
