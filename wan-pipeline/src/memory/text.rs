//! The text encoder without its numbers.

use wan_models::umt5::Umt5Config;

use super::work::Sizes;

const F32: usize = 4;

/// The bytes of all weights where matrices have elements of `element` bytes.
pub(super) fn weights(config: &Umt5Config, element: usize) -> u64 {
    sizes(config, element, element).all()
}

/// The sizes of the weights where matrices have elements of `element` bytes, and of `stored` bytes in the
/// file. The embeddings of the vocabulary stay in their file.
pub(super) fn sizes(config: &Umt5Config, element: usize, stored: usize) -> Sizes {
    let (width, heads) = (config.d_model, config.num_heads);
    // Elements of matrices, and of what is in f32.
    let layers = [
        (4 * width * heads * config.d_kv, width + config.relative_attention_num_buckets * heads),
        (3 * width * config.d_ff, width),
    ];
    let bytes = |(matrices, in_f32): (usize, usize)| (matrices * element + in_f32 * F32) as u64;
    let in_file: usize =
        layers.iter().map(|(matrices, in_f32)| matrices * stored + in_f32 * F32).sum();
    Sizes {
        ends: (width * F32) as u64,
        layers: layers.map(bytes).repeat(config.num_layers),
        stored: (config.num_layers * in_file) as u64,
    }
}

/// The most that encoding prompts of so many tokens holds. All wait for each layer; one is in it.
pub(super) fn encoding(config: &Umt5Config, prompts: &[usize], element: usize) -> u64 {
    let longest = prompts.iter().copied().max().unwrap_or(0);
    let pairs: usize = prompts.iter().map(|tokens| 8 * tokens * tokens).sum();
    let streams: usize = prompts.iter().map(|tokens| tokens * config.d_model * F32).sum();
    // The bias of each head and pair: looked up, and once more in order.
    let positions = longest * longest * (4 + 2 * F32 * config.num_heads);
    let attention = longest * (4 * config.num_heads * config.d_kv * element);
    let feed_forward = longest * 2 * config.d_ff * element;
    let in_layer = positions.max(feed_forward) + attention + longest * 2 * config.d_model * F32;
    (pairs + streams + in_layer) as u64
}
