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
/// cross-attention. The blocks are `blocks.*`, and for a control video `vace_blocks.*`.
const ORIGINAL: &[Row] = &[
    ("condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("condition_embedder.time_proj", "time_projection.1"),
    ("condition_embedder.image_embedder.norm1", "img_emb.proj.0"),
    ("condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
    ("condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
    ("condition_embedder.image_embedder.norm2", "img_emb.proj.4"),
    ("condition_embedder.image_embedder.pos_embed", "img_emb.emb_pos"),
    ("proj_out", "head.head"),
    ("scale_shift_table", "head.modulation"),
    ("*.*.attn1.to_q", "*.*.self_attn.q"),
    ("*.*.attn1.to_k", "*.*.self_attn.k"),
    ("*.*.attn1.to_v", "*.*.self_attn.v"),
    ("*.*.attn1.to_out.0", "*.*.self_attn.o"),
    ("*.*.attn1", "*.*.self_attn"),
    ("*.*.attn2.to_q", "*.*.cross_attn.q"),
    ("*.*.attn2.to_k", "*.*.cross_attn.k"),
    ("*.*.attn2.to_v", "*.*.cross_attn.v"),
    ("*.*.attn2.to_out.0", "*.*.cross_attn.o"),
    ("*.*.attn2.add_k_proj", "*.*.cross_attn.k_img"),
    ("*.*.attn2.add_v_proj", "*.*.cross_attn.v_img"),
    ("*.*.attn2.norm_added_k", "*.*.cross_attn.norm_k_img"),
    ("*.*.attn2", "*.*.cross_attn"),
    ("*.*.norm2", "*.*.norm3"),
    ("*.*.norm3", "*.*.norm2"),
    ("*.*.ffn.net.0.proj", "*.*.ffn.0"),
    ("*.*.ffn.net.2", "*.*.ffn.2"),
    ("*.*.scale_shift_table", "*.*.modulation"),
    ("vace_blocks.*.proj_in", "vace_blocks.*.before_proj"),
    ("vace_blocks.*.proj_out", "vace_blocks.*.after_proj"),
];
