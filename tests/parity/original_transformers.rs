//! Transformers that no fixture has in the original layout: those of Diffusers under the names that the original code
//! gives to their tensors.

use burn::tensor::DType;
use wan_core::Backend;
use wan_models::load::{NetworkConfig, load};
use wan_models::transformer::{OriginalConfig, WanTransformer, WanTransformerConfig};

use crate::dit;
use crate::original_layout::{STEM, config_of, open_file, origin, rename};

/// Fixture, class and type of the model. TI2V is in `wan/modules/model.py` of Wan 2.2, the others are in that file and
/// in `vace_model.py` of Wan 2.1.
const MODELS: [(&str, &str, &str); 4] = [
    ("dit_i2v", "WanModel", "i2v"),
    ("dit_flf2v", "WanModel", "flf2v"),
    ("dit_ti2v", "WanModel", "ti2v"),
    ("dit_vace", "VaceWanModel", "vace"),
];

pub fn velocity<B: Backend>(backend: &str) {
    let device = B::open_device(0).unwrap();
    for (name, class, model_type) in MODELS {
        let expected = origin(name);
        let stored: WanTransformerConfig = config_of(&expected);
        let temporary = tempfile::tempdir().unwrap();
        let file = temporary.path().join(format!("{STEM}.safetensors"));
        rename(&expected.folder.join(format!("{STEM}.safetensors")), &file, original_name);
        let source = WanTransformerConfig::canonical_names(open_file(&file)).unwrap();
        let original = original_config(&stored, class, model_type);
        original.validate().unwrap();
        let config = WanTransformerConfig::from_original(&original, &*source).unwrap();
        config.validate().unwrap();
        assert_eq!(config, stored, "{name}");
        let transformer: WanTransformer<B> = load(&source, &device, DType::F32, &config).unwrap();
        dit::check_velocity(&transformer, &expected, backend);
    }
}

/// What the original `config.json` of a model says.
fn original_config(config: &WanTransformerConfig, class: &str, model_type: &str) -> OriginalConfig {
    OriginalConfig {
        class_name: class.into(),
        model_type: model_type.into(),
        dim: config.num_attention_heads * config.attention_head_dim,
        ffn_dim: config.ffn_dim,
        freq_dim: config.freq_dim,
        in_dim: config.in_channels,
        out_dim: config.out_channels,
        num_heads: config.num_attention_heads,
        num_layers: config.num_layers,
        eps: config.eps,
        vace_layers: config.vace_layers.clone(),
        vace_in_dim: config.vace_in_channels,
    }
}

/// What the original calls a tensor of Diffusers. Numbers are places in a `Sequential`, where activations count, too.
fn original_name(name: &str) -> String {
    let parts: Vec<&str> = name.split('.').collect();
    match parts[..] {
        ["patch_embedding" | "vace_patch_embedding", _] => name.to_owned(),
        ["condition_embedder", embedder, ref rest @ ..] => embedding(embedder, rest),
        ["blocks" | "vace_blocks", _, ref rest @ ..] => {
            format!("{}.{}.{}", parts[0], parts[1], in_block(rest))
        }
        // `Head`
        ["scale_shift_table"] => "head.modulation".to_owned(),
        ["proj_out", end] => format!("head.head.{end}"),
        _ => panic!("{name}"),
    }
}

fn embedding(embedder: &str, rest: &[&str]) -> String {
    match (embedder, rest) {
        // Linear, GELU, Linear
        ("text_embedder", ["linear_1", end]) => format!("text_embedding.0.{end}"),
        ("text_embedder", ["linear_2", end]) => format!("text_embedding.2.{end}"),
        // Linear, SiLU, Linear
        ("time_embedder", ["linear_1", end]) => format!("time_embedding.0.{end}"),
        ("time_embedder", ["linear_2", end]) => format!("time_embedding.2.{end}"),
        // SiLU, Linear
        ("time_proj", [end]) => format!("time_projection.1.{end}"),
        // `MLPProj`: LayerNorm, Linear, GELU, Linear, LayerNorm
        ("image_embedder", ["pos_embed"]) => "img_emb.emb_pos".to_owned(),
        ("image_embedder", ["norm1", end]) => format!("img_emb.proj.0.{end}"),
        ("image_embedder", ["ff", "net", "0", "proj", end]) => format!("img_emb.proj.1.{end}"),
        ("image_embedder", ["ff", "net", "2", end]) => format!("img_emb.proj.3.{end}"),
        ("image_embedder", ["norm2", end]) => format!("img_emb.proj.4.{end}"),
        _ => panic!("{embedder} {rest:?}"),
    }
}

/// `WanAttentionBlock`, and `VaceWanAttentionBlock` with its two projections.
fn in_block(rest: &[&str]) -> String {
    match rest {
        ["scale_shift_table"] => "modulation".to_owned(),
        ["attn1", rest @ ..] => format!("self_attn.{}", in_attention(rest)),
        // The norm before cross-attention is the only one with weights.
        ["norm2", end] => format!("norm3.{end}"),
        ["attn2", rest @ ..] => format!("cross_attn.{}", in_attention(rest)),
        // Linear, GELU, Linear
        ["ffn", "net", "0", "proj", end] => format!("ffn.0.{end}"),
        ["ffn", "net", "2", end] => format!("ffn.2.{end}"),
        ["proj_in", end] => format!("before_proj.{end}"),
        ["proj_out", end] => format!("after_proj.{end}"),
        _ => panic!("{rest:?}"),
    }
}

/// `WanSelfAttention`, and `WanI2VCrossAttention` with keys and values of the image.
fn in_attention(rest: &[&str]) -> String {
    match rest {
        ["to_q", end] => format!("q.{end}"),
        ["to_k", end] => format!("k.{end}"),
        ["to_v", end] => format!("v.{end}"),
        ["to_out", "0", end] => format!("o.{end}"),
        ["norm_q", end] => format!("norm_q.{end}"),
        ["norm_k", end] => format!("norm_k.{end}"),
        ["add_k_proj", end] => format!("k_img.{end}"),
        ["add_v_proj", end] => format!("v_img.{end}"),
        ["norm_added_k", end] => format!("norm_k_img.{end}"),
        _ => panic!("{rest:?}"),
    }
}
