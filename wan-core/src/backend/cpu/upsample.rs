//! Nearest-neighbour upsampling.

use rayon::prelude::*;

use super::MIN_PER_THREAD;

/// Repeats each pixel of channels-last frames twice along width and each row twice along height.
pub(in super::super) fn upsample(x: &[f32], width: usize, channels: usize) -> Vec<f32> {
    let row = width * channels;
    let mut out = vec![0.0; 4 * x.len()];
    let rows = (MIN_PER_THREAD / (4 * row)).max(1);
    let blocks = out.par_chunks_mut(rows * 4 * row).zip(x.par_chunks(rows * row));
    blocks.for_each(|(out, x)| {
        for (out, x) in out.chunks_exact_mut(4 * row).zip(x.chunks_exact(row)) {
            let (first, second) = out.split_at_mut(2 * row);
            let pixels = first.chunks_exact_mut(2 * channels).zip(x.chunks_exact(channels));
            for (out, pixel) in pixels {
                out[..channels].copy_from_slice(pixel);
                out[channels..].copy_from_slice(pixel);
            }
            second.copy_from_slice(first);
        }
    });
    out
}
