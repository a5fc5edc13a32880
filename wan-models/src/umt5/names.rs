//! The layouts of umT5 encoders: transformers, and the original repository's `.pth`.

use crate::load::{Layout, Layouts, Row};

pub(super) static LAYOUTS: Layouts = Layouts {
    network: "a umT5 encoder",
    layouts: &[
        Layout {
            copies: Some(("shared.weight", "encoder.embed_tokens.weight")),
            // What the whole umT5 has beside its encoder.
            beside: &["decoder.", "lm_head."],
            ..Layout::canonical(&[
                "encoder.block.0.layer.0.SelfAttention.q.weight",
                "encoder.block.0.layer.1.DenseReluDense.wi_0.weight",
            ])
        },
        Layout {
            tables: &[ORIGINAL],
            ..Layout::canonical(&[
                "blocks.0.attn.q.weight",
                "blocks.0.pos_embedding.embedding.weight",
            ])
        },
    ],
};

/// Names of transformers and of the original (`wan/modules/t5.py`).
const ORIGINAL: &[Row] = &[
    ("shared", "token_embedding"),
    ("encoder.final_layer_norm", "norm"),
    (
        "encoder.block.*.layer.0.SelfAttention.relative_attention_bias",
        "blocks.*.pos_embedding.embedding",
    ),
    ("encoder.block.*.layer.0.SelfAttention", "blocks.*.attn"),
    ("encoder.block.*.layer.0.layer_norm", "blocks.*.norm1"),
    ("encoder.block.*.layer.1.DenseReluDense.wi_0", "blocks.*.ffn.gate.0"),
    ("encoder.block.*.layer.1.DenseReluDense.wi_1", "blocks.*.ffn.fc1"),
    ("encoder.block.*.layer.1.DenseReluDense.wo", "blocks.*.ffn.fc2"),
    ("encoder.block.*.layer.1.layer_norm", "blocks.*.norm2"),
];
