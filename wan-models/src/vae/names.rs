//! The layouts of the Wan VAEs: diffusers, and the original repository's `.pth`.

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
            renumber: Some(count_blocks),
            ..Layout::canonical(&["decoder.conv1.weight", "decoder.middle.1.to_qkv.weight"])
        },
    ],
};

/// Names of diffusers and of the original (`wan/modules/vae.py`, `vae2_2.py`); the first part is the encoder
/// or the decoder.
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

/// Names inside a residual block, such as `encoder.downsamples.0` or `decoder.middle.2`, or, where levels
/// hold their blocks, `decoder.upsamples.0.upsamples.0`.
const ORIGINAL_RESIDUAL: &[Row] = &[
    ("*.*.*.norm1", "*.*.*.residual.0"),
    ("*.*.*.conv1", "*.*.*.residual.2"),
    ("*.*.*.norm2", "*.*.*.residual.3"),
    ("*.*.*.conv2", "*.*.*.residual.6"),
    ("*.*.*.conv_shortcut", "*.*.*.shortcut"),
    ("*.*.*.*.*.norm1", "*.*.*.*.*.residual.0"),
    ("*.*.*.*.*.conv1", "*.*.*.*.*.residual.2"),
    ("*.*.*.*.*.norm2", "*.*.*.*.*.residual.3"),
    ("*.*.*.*.*.conv2", "*.*.*.*.*.residual.6"),
    ("*.*.*.*.*.conv_shortcut", "*.*.*.*.*.shortcut"),
];

/// The original counts the blocks of a level and its resampling together; in Wan 2.1 it counts through all
/// levels. Each level of the decoder has one more residual block than one of the encoder.
fn count_blocks(has: &dyn Fn(&str) -> bool) -> NameMap {
    let count = |list: &str| {
        let is_residual = |i: &usize| has(&format!("{list}.{i}.residual.0.gamma"));
        (0..).take_while(is_residual).count()
    };
    let (through, nested) = (count("encoder.downsamples"), count(NESTED));
    Box::new(move |name| {
        let counted = match nested {
            0 => count_up_block(name, through + 1),
            _ => count_in_level(name, nested),
        };
        counted.unwrap_or_else(|| name.to_owned())
    })
}

/// The blocks of the encoder's first level in Wan 2.2.
const NESTED: &str = "encoder.downsamples.0.downsamples";

/// The name of a block of the decoder of Wan 2.1; `per_level` is the number of residual blocks in a level.
fn count_up_block(name: &str, per_level: usize) -> Option<String> {
    let (level, block) = split_index(name, "decoder.up_blocks.")?;
    let (i, rest) = in_level(block, "upsamplers.0.", per_level)?;
    Some(format!("decoder.upsamples.{}.{rest}", level * (per_level + 1) + i))
}

/// The name of a block of Wan 2.2; `blocks` is the number of residual blocks in a level of the encoder.
fn count_in_level(name: &str, blocks: usize) -> Option<String> {
    if let Some((level, block)) = split_index(name, "encoder.down_blocks.") {
        let (i, rest) = in_level(block, "downsampler.", blocks)?;
        return Some(format!("encoder.downsamples.{level}.downsamples.{i}.{rest}"));
    }
    let (level, block) = split_index(name, "decoder.up_blocks.")?;
    let (i, rest) = in_level(block, "upsampler.", blocks + 1)?;
    Some(format!("decoder.upsamples.{level}.upsamples.{i}.{rest}"))
}

/// The number of a block in its level, of which the resampling is the last, and the rest of its name.
fn in_level<'a>(block: &'a str, resampling: &str, per_level: usize) -> Option<(usize, &'a str)> {
    split_index(block, "resnets.").or_else(|| Some((per_level, block.strip_prefix(resampling)?)))
}
