//! The marks of each kind of checkpoint.
//!
//! Sources: the modules of Wan 2.1 and 2.2 (`wan/modules`), `transformer_wan*.py` and
//! `autoencoder_kl_wan.py` of diffusers, `model_configs.py` of DiffSynth-Studio.

use super::CheckpointKind as Kind;

/// The marks of one kind.
pub(super) struct Row {
    pub(super) kind: Kind,
    /// Marks that must be there: of each list one, since layouts differ. A mark is some parts of a
    /// name that stand side by side; `*` is any part.
    pub(super) all: &'static [&'static [&'static str]],
    /// Marks that must not be there.
    pub(super) none: &'static [&'static str],
    pub(super) channels: Channels,
}

/// The channels of a transformer.
#[derive(Clone, Copy)]
pub(super) enum Channels {
    Any,
    In(usize),
    InOut(usize, usize),
    /// As many go in as come out.
    Equal,
}

use Channels::{Equal, In, InOut};

const fn row(kind: Kind, all: &'static [&'static [&'static str]]) -> Row {
    Row { kind, all, none: &[], channels: Channels::Any }
}

const fn network(
    kind: Kind,
    channels: Channels,
    all: &'static [&'static [&'static str]],
    none: &'static [&'static str],
) -> Row {
    Row { kind, all, none, channels }
}

/// Tensors of every Wan transformer.
const TRANSFORMER: &[&str] = &["blocks.*.self_attn.q", "blocks.*.attn1.to_q"];
/// The embedder of an image's CLIP states.
const IMAGE: &[&str] = &["img_emb", "image_embedder"];

/// The kinds of each part. The first row that fits counts.
pub(super) const GROUPS: [&[Row]; 6] =
    [ADAPTERS, TRANSFORMERS, TEXT_ENCODERS, VAES, IMAGE_ENCODERS, AUDIO_ENCODERS];

const ADAPTERS: &[Row] = &[
    Row {
        none: &["patch_embedding.weight"],
        ..row(
            Kind::Lycoris,
            &[&["hada_w1_a", "hada_w1_b", "lokr_w1", "lokr_w1_a", "lokr_w2", "lokr_w2_a"]],
        )
    },
    Row {
        none: &["patch_embedding.weight"],
        ..row(
            Kind::Lora,
            &[&[
                "lora_A",
                "lora_B",
                "lora_down",
                "lora_up",
                "lora.down",
                "lora.up",
                "lora_linear_layer",
                "diff",
                "diff_b",
            ]],
        )
    },
];

const TRANSFORMERS: &[Row] = &[
    row(Kind::Animate2, &[&["blocks.*.block.self_attn.q"]]),
    row(
        Kind::SpeechToVideo,
        &[
            TRANSFORMER,
            &["casual_audio_encoder", "causal_audio_encoder", "audio_injector", "frame_packer"],
        ],
    ),
    row(Kind::Animate, &[TRANSFORMER, &["face_adapter", "pose_patch_embedding"]]),
    row(Kind::Dancer, &[TRANSFORMER, &["music_injector", "music_encoder", "music_projection"]]),
    row(Kind::AudioDriven, &[&["audio_cross_attn", "audio_cross_attn_wrapper"]]),
    row(Kind::Vace, &[&["vace_blocks"], &["vace_patch_embedding"]]),
    network(Kind::FunCamera, In(32), &[TRANSFORMER, &["control_adapter"]], &[]),
    network(Kind::FunCameraExpert, In(36), &[TRANSFORMER, &["control_adapter"]], &[]),
    network(Kind::FunControl, In(48), &[TRANSFORMER, IMAGE], &[]),
    network(Kind::FunControlExpert, In(52), &[TRANSFORMER, &["ref_conv"]], IMAGE),
    row(Kind::FirstLastFrame, &[TRANSFORMER, &["img_emb.emb_pos", "image_embedder.pos_embed"]]),
    row(Kind::ImageToVideo, &[TRANSFORMER, IMAGE]),
    network(Kind::ImageToVideoExpert, InOut(36, 16), &[TRANSFORMER], &[]),
    network(Kind::LucyEdit, InOut(96, 48), &[TRANSFORMER], &[]),
    network(Kind::TextImageToVideo, InOut(48, 48), &[TRANSFORMER], &[]),
    row(Kind::SkyReels, &[TRANSFORMER, &["fps_embedding", "fps_projection"]]),
    network(Kind::FastWan, Equal, &[TRANSFORMER, &["blocks.*.to_gate_compress"]], &[]),
    network(Kind::TextToVideo, Equal, &[TRANSFORMER], &[]),
    row(Kind::LongCat, &[&["y_embedder.y_proj"], &["blocks.*.cross_attn.kv_linear"]]),
];

const TEXT_ENCODERS: &[Row] = &[
    row(
        Kind::Umt5,
        &[&[
            "encoder.block.1.layer.0.SelfAttention.relative_attention_bias",
            "blocks.*.pos_embedding.embedding",
        ]],
    ),
    row(Kind::Umt5LlamaCpp, &[&["enc.blk.1.attn_rel_b"]]),
    // umT5 has a table of relative positions in each block.
    row(
        Kind::T5,
        &[
            &["encoder.block.0.layer.0.SelfAttention.relative_attention_bias"],
            &["encoder.block.1.layer.0.SelfAttention.q"],
        ],
    ),
];

const VAES: &[Row] = &[
    row(
        Kind::Vae22,
        &[&[
            "decoder.upsamples.*.upsamples.*.residual",
            "encoder.downsamples.*.downsamples.*.residual",
            "decoder.up_blocks.*.upsampler",
            "encoder.down_blocks.*.resnets.*.norm1.gamma",
        ]],
    ),
    row(
        Kind::Vae21,
        &[&[
            "decoder.upsamples.*.residual",
            "encoder.downsamples.*.residual",
            "encoder.down_blocks.*.norm1.gamma",
            "decoder.mid_block.resnets.*.norm1.gamma",
        ]],
    ),
    row(Kind::Tae, &[&["decoder.1.weight"], &["decoder.3.conv.0.weight"]]),
];

const IMAGE_ENCODERS: &[Row] = &[row(
    Kind::Clip,
    &[&[
        "visual.transformer.*.attn.to_qkv",
        "visual.transformer.resblocks.*.attn.in_proj_weight",
        "vision_model.encoder.layers.*.self_attn.q_proj",
        "vision_model.encoder.layer.*.self_attn.q_proj",
    ]],
)];

const AUDIO_ENCODERS: &[Row] = &[row(
    Kind::AudioEncoder,
    &[&["wav2vec2.feature_extractor", "feature_extractor.conv_layers.*.conv"]],
)];
