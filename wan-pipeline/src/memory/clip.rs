//! The image encoder without its numbers: see `wan_models::clip::ClipVisionEncoder`.

use wan_models::clip::ClipVisionConfig;

/// Bytes of an f32.
const F32: u64 = 4;

/// The weights, whose matrices have elements of `element` bytes.
pub(super) fn weights(config: &ClipVisionConfig, element: usize) -> u64 {
    let (width, inner) = (config.hidden_size as u64, config.intermediate_size as u64);
    let patch = (config.num_channels * config.patch_size * config.patch_size) as u64;
    let layer = 4 * (width + 1) * width + (width + 1) * inner + (inner + 1) * width;
    let projection = if config.has_projection() { width * config.projection_dim as u64 } else { 0 };
    let layers = config.num_hidden_layers as u64;
    let in_f32 = width * (1 + config.tokens() as u64) + 4 * width + 4 * width * layers;
    element as u64 * (patch * width + layers * layer + projection) + F32 * in_f32
}

/// The most that an image holds in a layer: its stream, what is normed of it, and the hidden layer, before and after
/// its activation.
pub(super) fn working(config: &ClipVisionConfig, element: usize) -> u64 {
    let (width, inner) = (config.hidden_size as u64, config.intermediate_size as u64);
    let tokens = config.tokens() as u64;
    tokens * (2 * F32 * width + 2 * element as u64 * (width + inner))
}
