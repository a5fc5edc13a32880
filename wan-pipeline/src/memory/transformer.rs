//! The transformer without its numbers: the tensors of `wan_models::transformer` on the CPU, for as
//! long as they live.

use wan_models::transformer::WanTransformerConfig;

use super::meter::Meter;
use super::work::Sizes;

/// Bytes of an f32.
const F32: usize = 4;
/// Elements of a residual stream up to which passes go through a block at the same time.
const SMALL_STREAM: usize = 1 << 20;
/// The most that a matrix product packs: a part of the last cache.
const MAX_PACKED: u64 = 32 << 20;

/// The sizes of the weights where matrices have elements of `element` bytes, and of `stored` bytes in the
/// file.
pub(super) fn sizes(config: &WanTransformerConfig, element: usize, stored: usize) -> Sizes {
    let (inner, ffn) = (config.inner_dim(), config.ffn_dim);
    let linear = |input: usize, output: usize| (input + 1) * output;
    let patch: usize = config.patch_size.iter().product();
    let norm = if config.cross_attn_norm { 2 * inner } else { 0 };
    let square = linear(inner, inner);
    let (image_keys, image_norm) = config.image_dim.map_or((0, 0), |_| (2 * square, inner));
    // Elements of matrices, and of what is in f32. Two layers share a table.
    let block = [
        (4 * square, 5 * inner),
        (4 * square + image_keys, 2 * inner + norm + image_norm),
        (linear(inner, ffn) + linear(ffn, inner), 3 * inner),
    ];
    let layers = (0..config.num_layers).flat_map(|i| {
        let control = config.vace_layers().contains(&i);
        let of_control = control.then(|| block.into_iter().chain([(square, 0)]));
        of_control.into_iter().flatten().chain(block)
    });
    let layers: Vec<(usize, usize)> = layers.collect();
    let (embedders, embedders_in_f32) = embedders(config);
    let ends = linear(patch * config.in_channels, inner)
        + linear(config.text_dim, inner)
        + square
        + linear(inner, patch * config.out_channels)
        + embedders;
    let ends_in_f32 =
        linear(config.freq_dim, inner) + square + linear(inner, 6 * inner) + 2 * inner;
    let bytes = |(matrices, in_f32): (usize, usize)| (matrices * element + in_f32 * F32) as u64;
    let in_file = layers.iter().map(|(matrices, in_f32)| matrices * stored + in_f32 * F32);
    Sizes {
        ends: bytes((ends, ends_in_f32 + embedders_in_f32)),
        stored: in_file.sum::<usize>() as u64,
        layers: layers.into_iter().map(bytes).collect(),
    }
}

/// Elements of matrices, and of what is in f32, of the embedders for images and for a control video.
fn embedders(config: &WanTransformerConfig) -> (usize, usize) {
    let inner = config.inner_dim();
    let linear = |input: usize, output: usize| (input + 1) * output;
    let patch: usize = config.patch_size.iter().product();
    let image = config.image_dim.map_or((0, 0), |width| {
        let positions = config.pos_embed_seq_len.unwrap_or(0) * width;
        (linear(width, width) + linear(width, inner), 2 * width + 2 * inner + positions)
    });
    let control = match config.vace_layers() {
        [] => 0,
        _ => linear(patch * config.vace_channels(), inner) + linear(inner, inner),
    };
    (image.0 + control, image.1)
}

/// What a prompt of so many rows holds over a run: its keys and values in all blocks.
pub(super) fn prompt(config: &WanTransformerConfig, rows: usize, element: usize) -> u64 {
    let blocks = config.num_layers + config.vace_layers().len();
    (2 * blocks as u64 + 1) * (rows * config.inner_dim() * element) as u64
}

/// The keys and values of so many tokens in self-attention, of all blocks.
pub(super) fn keys_and_values(config: &WanTransformerConfig, tokens: usize, element: usize) -> u64 {
    2 * config.num_layers as u64 * (tokens * config.inner_dim() * element) as u64
}

/// The rotary tables of a run.
pub(super) fn rotary_tables(config: &WanTransformerConfig, tokens: usize) -> u64 {
    F32 as u64 * tokens as u64 * config.attention_head_dim as u64
}

/// The residual streams of a pass: with a control video one for it, and what it adds to the other.
pub(super) fn streams(config: &WanTransformerConfig, tokens: usize) -> u64 {
    let streams = if config.vace_layers().is_empty() { 1 } else { 3 };
    streams * stream(config, tokens)
}

fn stream(config: &WanTransformerConfig, tokens: usize) -> u64 {
    F32 as u64 * tokens as u64 * config.inner_dim() as u64
}

/// The most that a step holds beside what is held between steps: the streams of `passes`, and what
/// those in a block need there.
pub(super) fn step(
    config: &WanTransformerConfig,
    tokens: usize,
    passes: usize,
    threads: usize,
    element: usize,
) -> u64 {
    let streams = streams(config, tokens);
    let together = match tokens * config.inner_dim() <= SMALL_STREAM {
        true => passes.min(threads),
        false => 1,
    };
    let in_block = block(config, tokens, element) - stream(config, tokens);
    passes as u64 * streams + together as u64 * in_block
}

/// The most that a pass holds in a block, its stream included.
fn block(config: &WanTransformerConfig, tokens: usize, element: usize) -> u64 {
    let meter = Meter::default();
    let (inner, ffn) = (config.inner_dim(), config.ffn_dim);
    let bytes = |sizes: [usize; 3]| sizes.map(|n| n as u64).iter().product::<u64>();
    let hold = |width: usize, element: usize| meter.hold(bytes([tokens, width, element]));
    // Matrix products read one operand from a packed copy, a part of its depth at a time.
    let linear = |input: usize, output: usize, element: usize| {
        let packed = bytes([element, input.min(512), tokens.max(output)]);
        let _packed = meter.hold(packed.min(MAX_PACKED));
        hold(output, element)
    };
    let x = hold(inner, F32);
    {
        let normed = hold(inner, element);
        let (q, k) = (linear(inner, inner, F32), linear(inner, inner, F32));
        let v = linear(inner, inner, element);
        drop(normed);
        let attended = hold(inner, element);
        drop((q, k, v));
        let y = linear(inner, inner, element);
        drop((attended, y));
    }
    {
        let normed = hold(inner, element);
        let q = linear(inner, inner, element);
        drop(normed);
        let attended = hold(inner, element);
        drop(q);
        let y = linear(inner, inner, element);
        drop((attended, y));
    }
    let normed = hold(inner, element);
    let hidden = linear(inner, ffn, element);
    drop(normed);
    let y = linear(ffn, inner, element);
    drop((hidden, y, x));
    meter.peak()
}
