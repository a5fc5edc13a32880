//! The layouts of the Wan 2.1 VAE: diffusers, and the original repository's `.pth`.

use crate::load::{Layout, Layouts, NameMap, Row, split_index};

pub(super) static LAYOUTS: Layouts = Layouts {
    network: "a Wan VAE",
    layouts: &[
        Layout::canonical(&[
            "decoder.conv_in.weight",
            "decoder.mid_block.attentions.0.to_qkv.weight",
        ]),
        Layout {
            tables: &[ORIGINAL, ORIGINAL_RESIDUAL],
            renumber: Some(count_through_levels),
            ..Layout::canonical(&["decoder.conv1.weight", "decoder.middle.1.to_qkv.weight"])
        },
    ],
};

/// Names of diffusers and of the original (`wan/modules/vae.py`); the first part is the encoder or the
/// decoder.
const ORIGINAL: &[Row] = &[
    ("quant_conv", "conv1"),
    ("post_quant_conv", "conv2"),
    ("*.conv_in", "*.conv1"),
    ("*.down_blocks", "*.downsamples"),
    ("*.mid_block.resnets.0", "*.middle.0"),
    ("*.mid_block.attentions.0", "*.middle.1"),
    ("*.mid_block.resnets.1", "*.middle.2"),
    ("*.norm_out", "*.head.0"),
    ("*.conv_out", "*.head.2"),
];

/// Names inside a residual block, such as `encoder.downsamples.0` or `decoder.middle.2`.
const ORIGINAL_RESIDUAL: &[Row] = &[
    ("*.*.*.norm1", "*.*.*.residual.0"),
    ("*.*.*.conv1", "*.*.*.residual.2"),
    ("*.*.*.norm2", "*.*.*.residual.3"),
    ("*.*.*.conv2", "*.*.*.residual.6"),
    ("*.*.*.conv_shortcut", "*.*.*.shortcut"),
];

/// The original counts the decoder's blocks through all levels; each has one more residual block than
/// a level of the encoder.
fn count_through_levels(has: &dyn Fn(&str) -> bool) -> NameMap {
    let is_residual = |i: &usize| has(&format!("encoder.downsamples.{i}.residual.0.gamma"));
    let per_level = (0..).take_while(is_residual).count() + 1;
    Box::new(move |name| count_up_block(name, per_level).unwrap_or_else(|| name.to_owned()))
}

/// The name of a block of the decoder; `per_level` is the number of residual blocks in a level.
fn count_up_block(name: &str, per_level: usize) -> Option<String> {
    let (level, block) = split_index(name, "decoder.up_blocks.")?;
    let (i, rest) = match split_index(block, "resnets.") {
        Some(residual) => residual,
        None => (per_level, block.strip_prefix("upsamplers.0.")?),
    };
    Some(format!("decoder.upsamples.{}.{rest}", level * (per_level + 1) + i))
}
