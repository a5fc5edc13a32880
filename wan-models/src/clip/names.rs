//! The layouts of CLIP's checkpoints. Canonical names are those of transformers, with `vision_model.`,
//! `text_model.` and `layers` everywhere.
//!
//! - transformers: published files have these prefixes, since its version 5 a single tower has none;
//!   `layer` and `layers` are both written for AltCLIP.
//! - OpenCLIP: `visual.transformer.resblocks.0...`, with the text tower beside it or, if it comes from
//!   transformers, below `text.`.
//! - The original Wan (`wan/modules/clip.py`): `visual.transformer.0...` and `textual.blocks.0...`.

use crate::load::{Layout, Layouts, NameMap, Row};

/// What a text tower has beside it.
const BESIDE_TEXT: &[&str] = &["vision_model.", "visual_projection.", "logit_scale"];
const BESIDE_TEXT_OPEN_CLIP: &[&str] = &["visual.", "logit_scale"];
/// What a vision tower has beside it.
const BESIDE_VISION: &[&str] = &["text_model.", "text_projection.", "logit_scale"];
const BESIDE_VISION_OPEN_CLIP: &[&str] = &[
    "text.",
    "transformer.",
    "token_embedding.",
    "positional_embedding",
    "ln_final.",
    "text_projection",
    "attn_mask",
    "logit_scale",
];

/// A vision tower.
pub(super) static VISION: Layouts = Layouts {
    network: "a CLIP vision tower",
    layouts: &[
        Layout {
            beside: BESIDE_VISION,
            renumber: Some(singular_layers),
            ..Layout::canonical(&[
                "vision_model.pre_layrnorm.weight",
                "vision_model.post_layernorm.weight",
                "vision_model.embeddings.class_embedding",
            ])
        },
        Layout { tables: &[BARE_VISION], ..Layout::canonical(&["pre_layrnorm.weight"]) },
        Layout {
            tables: &[OPEN_CLIP_VISION, OPEN_CLIP_LAYER],
            beside: BESIDE_VISION_OPEN_CLIP,
            ..Layout::canonical(&["visual.conv1.weight", "visual.ln_pre.weight"])
        },
        Layout {
            tables: &[WAN_VISION, WAN_LAYER],
            beside: &["textual.", "log_scale"],
            ..Layout::canonical(&["visual.patch_embedding.weight", "visual.pre_norm.weight"])
        },
    ],
};

/// CLIP's own text tower.
pub(super) static TEXT: Layouts = Layouts {
    network: "a CLIP text tower",
    layouts: &[
        Layout {
            beside: BESIDE_TEXT,
            ..Layout::canonical(&[
                "text_model.embeddings.token_embedding.weight",
                "text_model.final_layer_norm.weight",
                "text_model.encoder.layers.0.layer_norm1.weight",
            ])
        },
        Layout {
            tables: &[BARE_TEXT],
            ..Layout::canonical(&["embeddings.token_embedding.weight"])
        },
        Layout {
            tables: &[OPEN_CLIP_TEXT, OPEN_CLIP_LAYER],
            beside: &["visual.", "logit_scale", "attn_mask"],
            ..Layout::canonical(&["ln_final.weight"])
        },
    ],
};

/// XLM-RoBERTa as a text tower.
pub(super) static XLM_ROBERTA: Layouts = Layouts {
    network: "an XLM-RoBERTa text tower",
    layouts: &[
        Layout {
            beside: BESIDE_TEXT,
            renumber: Some(singular_layers),
            ..Layout::canonical(&[
                "text_model.roberta.embeddings.word_embeddings.weight",
                "text_model.roberta.embeddings.position_embeddings.weight",
                "text_model.roberta.embeddings.LayerNorm.weight",
                "text_model.transformation.weight",
                "text_model.pre_LN.weight",
            ])
        },
        Layout {
            tables: &[BARE_ALT_CLIP],
            renumber: Some(singular_layers),
            ..Layout::canonical(&[
                "roberta.embeddings.word_embeddings.weight",
                "roberta.embeddings.position_embeddings.weight",
                "roberta.embeddings.LayerNorm.weight",
            ])
        },
        Layout {
            tables: &[BARE_XLM_ROBERTA],
            beside: &["pooler."],
            ..Layout::canonical(&["embeddings.word_embeddings.weight"])
        },
        Layout {
            tables: &[OPEN_CLIP_XLM_ROBERTA],
            beside: BESIDE_TEXT_OPEN_CLIP,
            ..Layout::canonical(&[
                "text.transformer.embeddings.word_embeddings.weight",
                "text.transformer.embeddings.position_embeddings.weight",
                "text.transformer.embeddings.LayerNorm.weight",
            ])
        },
        Layout {
            tables: &[WAN_TEXT],
            beside: &["visual.", "log_scale"],
            ..Layout::canonical(&["textual.token_embedding.weight", "textual.pos_embedding.weight"])
        },
    ],
};

/// Both towers.
pub(super) static WHOLE: Layouts = Layouts {
    network: "a CLIP with both towers",
    layouts: &[
        Layout {
            renumber: Some(singular_layers),
            ..Layout::canonical(&[
                "vision_model.pre_layrnorm.weight",
                "visual_projection.weight",
                "text_model.embeddings.token_embedding.weight",
                "text_model.roberta.embeddings.word_embeddings.weight",
            ])
        },
        Layout {
            tables: &[OPEN_CLIP_VISION, OPEN_CLIP_XLM_ROBERTA, OPEN_CLIP_LAYER],
            ..Layout::canonical(&[
                "visual.conv1.weight",
                "text.transformer.embeddings.word_embeddings.weight",
                "text.transformer.embeddings.LayerNorm.weight",
            ])
        },
        Layout {
            tables: &[OPEN_CLIP_VISION, OPEN_CLIP_TEXT, OPEN_CLIP_LAYER],
            beside: &["attn_mask"],
            ..Layout::canonical(&[
                "visual.conv1.weight",
                "ln_final.weight",
                "token_embedding.weight",
            ])
        },
        Layout {
            tables: &[WAN_VISION, WAN_LAYER, WAN_TEXT, &[("logit_scale", "log_scale")]],
            ..Layout::canonical(&[
                "visual.patch_embedding.weight",
                "textual.token_embedding.weight",
            ])
        },
    ],
};

/// AltCLIP's layers are below `layer` in some files, and below `layers` in others.
fn singular_layers(has: &dyn Fn(&str) -> bool) -> NameMap {
    const TEXT: &str = "text_model.roberta.encoder.layers.";
    const VISION: &str = "vision_model.encoder.layers.";
    let is_text = ["text_model.", ""]
        .iter()
        .any(|start| has(&format!("{start}roberta.encoder.layer.0.output.dense.weight")));
    let is_vision = has("vision_model.encoder.layer.0.layer_norm1.weight");
    Box::new(move |name| {
        let replaced = [(TEXT, is_text), (VISION, is_vision)].into_iter().find_map(|(list, is)| {
            let rest = name.strip_prefix(list).filter(|_| is)?;
            Some(format!("{}.{rest}", &list[..list.len() - 2]))
        });
        replaced.unwrap_or_else(|| name.to_owned())
    })
}

const BARE_VISION: &[Row] = &[
    ("vision_model.embeddings", "embeddings"),
    ("vision_model.pre_layrnorm", "pre_layrnorm"),
    ("vision_model.encoder", "encoder"),
    ("vision_model.post_layernorm", "post_layernorm"),
];

const BARE_TEXT: &[Row] = &[
    ("text_model.embeddings", "embeddings"),
    ("text_model.encoder", "encoder"),
    ("text_model.final_layer_norm", "final_layer_norm"),
];

const BARE_ALT_CLIP: &[Row] = &[
    ("text_model.roberta", "roberta"),
    ("text_model.pre_LN", "pre_LN"),
    ("text_model.transformation", "transformation"),
];

const BARE_XLM_ROBERTA: &[Row] = &[
    ("text_model.roberta.embeddings", "embeddings"),
    ("text_model.roberta.encoder.layers", "encoder.layer"),
    ("text_model.proj", "proj"),
];

const OPEN_CLIP_VISION: &[Row] = &[
    ("vision_model.embeddings.class_embedding", "visual.class_embedding"),
    ("vision_model.embeddings.patch_embedding", "visual.conv1"),
    ("vision_model.embeddings.position_embedding.weight", "visual.positional_embedding"),
    ("vision_model.pre_layrnorm", "visual.ln_pre"),
    ("vision_model.encoder.layers", "visual.transformer.resblocks"),
    ("vision_model.post_layernorm", "visual.ln_post"),
    ("visual_projection.weight", "visual.proj"),
];

const OPEN_CLIP_TEXT: &[Row] = &[
    ("text_model.embeddings.token_embedding", "token_embedding"),
    ("text_model.embeddings.position_embedding.weight", "positional_embedding"),
    ("text_model.encoder.layers", "transformer.resblocks"),
    ("text_model.final_layer_norm", "ln_final"),
    ("text_projection.weight", "text_projection"),
];

const OPEN_CLIP_XLM_ROBERTA: &[Row] = &[
    ("text_model.roberta.embeddings", "text.transformer.embeddings"),
    ("text_model.roberta.encoder.layers", "text.transformer.encoder.layer"),
    ("text_model.proj", "text.proj"),
];

/// Names inside a layer, after those of the list: `transformer.resblocks.0` or one part more.
const OPEN_CLIP_LAYER: &[Row] = &[
    ("transformer.resblocks.*.layer_norm1", "transformer.resblocks.*.ln_1"),
    ("transformer.resblocks.*.layer_norm2", "transformer.resblocks.*.ln_2"),
    ("transformer.resblocks.*.self_attn", "transformer.resblocks.*.attn"),
    ("transformer.resblocks.*.mlp.fc1", "transformer.resblocks.*.mlp.c_fc"),
    ("transformer.resblocks.*.mlp.fc2", "transformer.resblocks.*.mlp.c_proj"),
    ("*.transformer.resblocks.*.layer_norm1", "*.transformer.resblocks.*.ln_1"),
    ("*.transformer.resblocks.*.layer_norm2", "*.transformer.resblocks.*.ln_2"),
    ("*.transformer.resblocks.*.self_attn", "*.transformer.resblocks.*.attn"),
    ("*.transformer.resblocks.*.mlp.fc1", "*.transformer.resblocks.*.mlp.c_fc"),
    ("*.transformer.resblocks.*.mlp.fc2", "*.transformer.resblocks.*.mlp.c_proj"),
];

const WAN_VISION: &[Row] = &[
    ("vision_model.embeddings.class_embedding", "visual.cls_embedding"),
    ("vision_model.embeddings.patch_embedding", "visual.patch_embedding"),
    ("vision_model.embeddings.position_embedding.weight", "visual.pos_embedding"),
    ("vision_model.pre_layrnorm", "visual.pre_norm"),
    ("vision_model.encoder.layers", "visual.transformer"),
    ("vision_model.post_layernorm", "visual.post_norm"),
    ("visual_projection.weight", "visual.head"),
];

const WAN_LAYER: &[Row] = &[
    ("visual.transformer.*.layer_norm1", "visual.transformer.*.norm1"),
    ("visual.transformer.*.layer_norm2", "visual.transformer.*.norm2"),
    ("visual.transformer.*.self_attn.out_proj", "visual.transformer.*.attn.proj"),
    ("visual.transformer.*.self_attn", "visual.transformer.*.attn"),
    ("visual.transformer.*.mlp.fc1", "visual.transformer.*.mlp.0"),
    ("visual.transformer.*.mlp.fc2", "visual.transformer.*.mlp.2"),
];

const WAN_TEXT: &[Row] = &[
    ("text_model.roberta.embeddings.word_embeddings", "textual.token_embedding"),
    ("text_model.roberta.embeddings.position_embeddings", "textual.pos_embedding"),
    ("text_model.roberta.embeddings.token_type_embeddings", "textual.type_embedding"),
    ("text_model.roberta.embeddings.LayerNorm", "textual.norm"),
    ("text_model.roberta.encoder.layers.*.attention.self.query", "textual.blocks.*.attn.q"),
    ("text_model.roberta.encoder.layers.*.attention.self.key", "textual.blocks.*.attn.k"),
    ("text_model.roberta.encoder.layers.*.attention.self.value", "textual.blocks.*.attn.v"),
    ("text_model.roberta.encoder.layers.*.attention.output.dense", "textual.blocks.*.attn.o"),
    ("text_model.roberta.encoder.layers.*.attention.output.LayerNorm", "textual.blocks.*.norm1"),
    ("text_model.roberta.encoder.layers.*.intermediate.dense", "textual.blocks.*.ffn.0"),
    ("text_model.roberta.encoder.layers.*.output.dense", "textual.blocks.*.ffn.2"),
    ("text_model.roberta.encoder.layers.*.output.LayerNorm", "textual.blocks.*.norm2"),
    ("text_model.proj", "textual.head"),
];
