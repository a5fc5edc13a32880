//! Between latents and tokens.

use burn::tensor::Tensor;
use wan_core::BurnBackend;

/// Cuts latents `[B, C, T, H, W]` into patches: `[B, tokens, pt * ph * pw * C]`, tokens frame by
/// frame and row by row, the channels of a pixel together.
pub(super) fn patchify<B: BurnBackend>(x: Tensor<B, 5>, patch: [usize; 3]) -> Tensor<B, 3> {
    let [batch, channels, t, h, w] = x.dims();
    let [pt, ph, pw] = patch;
    let [gt, gh, gw] = [t / pt, h / ph, w / pw];
    let frames = x.permute([0, 2, 3, 4, 1]).reshape([batch * t, gh, ph, gw, pw, channels]);
    let tiles = frames.swap_dims(2, 3).reshape([batch * gt, pt, gh * gw, ph * pw * channels]);
    tiles.swap_dims(1, 2).reshape([batch, gt * gh * gw, pt * ph * pw * channels])
}

/// The inverse of [`patchify`]; `grid` is the number of patches along each axis.
pub(super) fn unpatchify<B: BurnBackend>(
    x: Tensor<B, 3>,
    patch: [usize; 3],
    grid: [usize; 3],
) -> Tensor<B, 5> {
    let [batch, _, width] = x.dims();
    let ([pt, ph, pw], [gt, gh, gw]) = (patch, grid);
    let channels = width / (pt * ph * pw);
    let tiles = x.reshape([batch * gt, gh * gw, pt, ph * pw * channels]).swap_dims(1, 2);
    let frames = tiles.reshape([batch * gt * pt, gh, gw, ph, pw, channels]).swap_dims(2, 3);
    let video = frames.reshape([batch, gt * pt, gh * ph, gw * pw, channels]);
    video.permute([0, 4, 1, 2, 3])
}
