//! Tensors that stand in checkpoints and are no weights of the network that is read.

/// Last parts of names, and what such tensors are. No network of this crate has weights of these
/// names, and none needs what is in them.
const PASSED_OVER: &[(&str, &str)] = &[
    ("spiece_model", "the tokenizer, which ComfyUI keeps with the text encoder"),
    ("tokenizer_json", "the same"),
    ("position_ids", "0, 1, 2, .., a buffer of transformers"),
    ("freqs", "the rotary table, which is computed"),
    ("freqs_cos", "the same in two halves"),
    ("freqs_sin", "the same in two halves"),
    ("inv_freq", "what rotary tables are computed from"),
    ("num_batches_tracked", "a counter of batch norms"),
    ("_extra_state", "what a layer of Transformer Engine wrote of itself"),
    ("__index_timestep_zero__", "a mark of ComfyUI for how a model was trained"),
];

/// Layers that a network has no use for, by a part of their names anywhere.
const UNUSED_LAYERS: &[(&str, &str)] = &[
    ("to_gate_compress", "gates of FastWan for sparse attention, which dense attention has not"),
    ("norm_added_q", "a norm of image-to-video models of which no queries are made"),
    ("ref_conv", "tokens of a reference picture, without which Fun-Control V1.1 is run"),
];

/// How the names of a part begin in files with all parts of a model, as ComfyUI writes them.
pub(super) const ALL_IN_ONE: [&str; 8] = [
    "model.diffusion_model.",
    "diffusion_model.",
    "vae.",
    "first_stage_model.",
    "text_encoders.",
    "cond_stage_model.",
    "conditioner.",
    "clip_vision.",
];

/// Whether a tensor is known to be no weight.
pub(super) fn is_passed_over(name: &str) -> bool {
    let last = name.rsplit('.').next().unwrap_or(name);
    PASSED_OVER.iter().any(|(known, _)| *known == last)
        || name.split('.').any(|part| UNUSED_LAYERS.iter().any(|(known, _)| *known == part))
}
