//! The text encoder without its numbers.

use wan_models::umt5::Umt5Config;

const F32: usize = 4;

/// The bytes of the weights where matrices have elements of `element` bytes. The embeddings of the
/// vocabulary stay in their file.
pub(super) fn weights(config: &Umt5Config, element: usize) -> u64 {
    let (width, heads) = (config.d_model, config.num_heads);
    let matrices = 4 * width * heads * config.d_kv + 3 * width * config.d_ff;
    let in_f32 = 2 * width + config.relative_attention_num_buckets * heads;
    config.num_layers as u64 * (matrices * element + in_f32 * F32) as u64 + (width * F32) as u64
}

/// The most that encoding a prompt of so many tokens holds.
pub(super) fn encoding(config: &Umt5Config, tokens: usize, element: usize) -> u64 {
    let pairs = tokens * tokens;
    // The bucket of each pair, and the bias of each head: looked up, and once more in order.
    let positions = pairs * (8 + 4 + 2 * F32 * config.num_heads);
    let attention = tokens * (4 * config.num_heads * config.d_kv * element);
    let feed_forward = tokens * 2 * config.d_ff * element;
    (positions.max(feed_forward) + attention + tokens * 3 * config.d_model * F32) as u64
}
