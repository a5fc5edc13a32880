//! The names of tensors: from Diffusers to the repositories of Wan.

/// The transformer.
pub(crate) fn dit(name: &str) -> String {
    const NAMES: [(&str, &str); 22] = [
        ("condition_embedder.image_embedder.norm1.", "img_emb.proj.0."),
        ("condition_embedder.image_embedder.ff.net.0.proj.", "img_emb.proj.1."),
        ("condition_embedder.image_embedder.ff.net.2.", "img_emb.proj.3."),
        ("condition_embedder.image_embedder.norm2.", "img_emb.proj.4."),
        ("condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos"),
        (".attn2.add_k_proj.", ".cross_attn.k_img."),
        (".attn2.add_v_proj.", ".cross_attn.v_img."),
        (".attn2.norm_added_k.", ".cross_attn.norm_k_img."),
        ("condition_embedder.text_embedder.linear_1.", "text_embedding.0."),
        ("condition_embedder.text_embedder.linear_2.", "text_embedding.2."),
        ("condition_embedder.time_embedder.linear_1.", "time_embedding.0."),
        ("condition_embedder.time_embedder.linear_2.", "time_embedding.2."),
        ("condition_embedder.time_proj.", "time_projection.1."),
        ("proj_out.", "head.head."),
        (".attn1.", ".self_attn."),
        (".attn2.", ".cross_attn."),
        (".to_out.0.", ".o."),
        (".ffn.net.0.proj.", ".ffn.0."),
        (".ffn.net.2.", ".ffn.2."),
        (".norm2.", ".norm3."),
        (".to_", "."),
        (".scale_shift_table", ".modulation"),
    ];
    if name == "scale_shift_table" {
        return "head.modulation".to_owned();
    }
    replaced(name, &NAMES)
}

/// The text encoder.
pub(crate) fn t5(name: &str) -> String {
    const NAMES: [(&str, &str); 10] = [
        ("shared.", "token_embedding."),
        ("encoder.final_layer_norm.", "norm."),
        ("encoder.block.", "blocks."),
        ("layer.0.layer_norm.", "norm1."),
        ("layer.1.layer_norm.", "norm2."),
        ("layer.0.SelfAttention.relative_attention_bias.", "pos_embedding.embedding."),
        ("layer.0.SelfAttention.", "attn."),
        ("layer.1.DenseReluDense.wi_0.", "ffn.gate.0."),
        ("layer.1.DenseReluDense.wi_1.", "ffn.fc1."),
        ("layer.1.DenseReluDense.wo.", "ffn.fc2."),
    ];
    replaced(name, &NAMES)
}

/// The image encoder, whose queries, keys and values are still apart.
pub(crate) fn clip(name: &str) -> String {
    const NAMES: [(&str, &str); 12] = [
        ("vision_model.", ""),
        ("embeddings.class_embedding", "cls_embedding"),
        ("embeddings.patch_embedding.", "patch_embedding."),
        ("embeddings.position_embedding.weight", "pos_embedding"),
        ("pre_layrnorm.", "pre_norm."),
        ("post_layernorm.", "post_norm."),
        ("encoder.layers.", "transformer."),
        (".layer_norm", ".norm"),
        (".self_attn.out_proj.", ".attn.proj."),
        (".self_attn.", ".attn."),
        (".mlp.fc1.", ".mlp.0."),
        (".mlp.fc2.", ".mlp.2."),
    ];
    format!("visual.{}", replaced(name, &NAMES))
}

/// The VAE, whose levels have `res_blocks` residual blocks in the encoder and one more in the
/// decoder.
pub(crate) fn vae(name: &str, res_blocks: usize) -> String {
    // The original counts the parts of all levels of the decoder in one list.
    let level = res_blocks + 2;
    let number = |text: &str| text.parse::<usize>().expect("a number in a tensor's name");
    let parts: Vec<&str> = name.split('.').collect();
    match *parts {
        ["quant_conv", end] => format!("conv1.{end}"),
        ["post_quant_conv", end] => format!("conv2.{end}"),
        [side, "conv_in", end] => format!("{side}.conv1.{end}"),
        [side, "norm_out", end] => format!("{side}.head.0.{end}"),
        [side, "conv_out", end] => format!("{side}.head.2.{end}"),
        [side, "mid_block", "attentions", _, ref end @ ..] => {
            format!("{side}.middle.1.{}", end.join("."))
        }
        [side, "mid_block", "resnets", at, ref end @ ..] => {
            format!("{side}.middle.{}.{}", 2 * number(at), residual(end))
        }
        [side, "down_blocks", at, ref end @ ..] => {
            format!("{side}.downsamples.{at}.{}", residual(end))
        }
        [side, "up_blocks", block, "resnets", at, ref end @ ..] => {
            let at = level * number(block) + number(at);
            format!("{side}.upsamples.{at}.{}", residual(end))
        }
        [side, "up_blocks", block, "upsamplers", _, ref end @ ..] => {
            let at = level * number(block) + level - 1;
            format!("{side}.upsamples.{at}.{}", end.join("."))
        }
        _ => panic!("{name} is no tensor of the VAE"),
    }
}

/// A name inside a residual block; other names stay.
fn residual(name: &[&str]) -> String {
    match *name {
        ["norm1", end] => format!("residual.0.{end}"),
        ["conv1", end] => format!("residual.2.{end}"),
        ["norm2", end] => format!("residual.3.{end}"),
        ["conv2", end] => format!("residual.6.{end}"),
        ["conv_shortcut", end] => format!("shortcut.{end}"),
        _ => name.join("."),
    }
}

fn replaced(name: &str, names: &[(&str, &str)]) -> String {
    names.iter().fold(name.to_owned(), |name, (from, to)| name.replace(from, to))
}
