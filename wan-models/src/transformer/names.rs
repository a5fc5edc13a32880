//! The layouts of Wan transformers: diffusers, and the original repository.

use crate::load::{Layout, Layouts, Row};

pub(super) static LAYOUTS: Layouts = Layouts {
    network: "a Wan transformer",
    layouts: &[
        Layout::canonical(&["blocks.0.attn1.to_q.weight", "condition_embedder.time_proj.weight"]),
        Layout {
            tables: &[ORIGINAL],
            ..Layout::canonical(&["blocks.0.self_attn.q.weight", "time_projection.1.weight"])
        },
    ],
};

/// Names of diffusers and of the original (`wan/modules/model.py`). The numbers of the norms differ:
/// the original counts the norm before the feed-forward network as the second, diffusers that before
/// cross-attention.
const ORIGINAL: &[Row] = &[
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("proj_out", "head.head"),
    ("scale_shift_table", "head.modulation"),
    ("blocks.*.attn1.to_q", "blocks.*.self_attn.q"),
    ("blocks.*.attn1.to_k", "blocks.*.self_attn.k"),
    ("blocks.*.attn1.to_v", "blocks.*.self_attn.v"),
    ("blocks.*.attn1.to_out.0", "blocks.*.self_attn.o"),
    ("blocks.*.attn1", "blocks.*.self_attn"),
    ("blocks.*.attn2.to_q", "blocks.*.cross_attn.q"),
    ("blocks.*.attn2.to_k", "blocks.*.cross_attn.k"),
    ("blocks.*.attn2.to_v", "blocks.*.cross_attn.v"),
    ("blocks.*.attn2.to_out.0", "blocks.*.cross_attn.o"),
    ("blocks.*.attn2", "blocks.*.cross_attn"),
    ("blocks.*.norm2", "blocks.*.norm3"),
    ("blocks.*.norm3", "blocks.*.norm2"),
    ("blocks.*.ffn.net.0.proj", "blocks.*.ffn.0"),
    ("blocks.*.ffn.net.2", "blocks.*.ffn.2"),
    ("blocks.*.scale_shift_table", "blocks.*.modulation"),
];
