//! Pixels that are packed into channels before a frame is encoded, and unpacked after it is decoded.
//!
//! Source: `patchify` and `unpatchify` in `autoencoder_kl_wan.py`. A patch becomes channels in the order
//! colour, column, row.

use burn::tensor::Tensor;
use wan_core::BurnBackend;

/// Frames `[B, T, H, W, C]` to `[B, T, H / patch, W / patch, C * patch^2]`.
pub(super) fn pack<B: BurnBackend>(frames: Tensor<B, 5>, patch: usize) -> Tensor<B, 5> {
    if patch == 1 {
        return frames;
    }
    let [batch, time, height, width, channels] = frames.dims();
    let (rows, columns) = (height / patch, width / patch);
    let patches = frames.reshape([batch * time * rows, patch, columns, patch, channels]);
    let packed = patches.permute([0, 2, 4, 3, 1]);
    packed.reshape([batch, time, rows, columns, channels * patch * patch])
}

/// The inverse of [`pack`].
pub(super) fn unpack<B: BurnBackend>(frames: Tensor<B, 5>, patch: usize) -> Tensor<B, 5> {
    if patch == 1 {
        return frames;
    }
    let [batch, time, rows, columns, packed] = frames.dims();
    let channels = packed / (patch * patch);
    let patches = frames.reshape([batch * time * rows, columns, channels, patch, patch]);
    let pixels = patches.permute([0, 4, 1, 3, 2]);
    pixels.reshape([batch, time, rows * patch, columns * patch, channels])
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::TensorData;

    use super::*;

    #[test]
    fn a_patch_becomes_colours_columns_rows() {
        // Two frames of 2x4 pixels with three colours; each value says where it is: frame, row, column, colour.
        let value = |i: usize| (i / 24 * 1000 + i / 12 % 2 * 100 + i / 3 % 4 * 10 + i % 3) as f32;
        let data = TensorData::new((0..48).map(value).collect::<Vec<f32>>(), [1, 2, 2, 4, 3]);
        let frames: Tensor<Flex, 5> = Tensor::from_data(data.clone(), &Default::default());
        let packed = pack(frames, 2);
        assert_eq!(packed.dims(), [1, 2, 1, 2, 12]);
        let second = packed.clone().narrow(3, 1, 1).narrow(1, 0, 1).into_data();
        let expected = [20, 120, 30, 130, 21, 121, 31, 131, 22, 122, 32, 132].map(|v| v as f32);
        assert_eq!(second.as_slice::<f32>().unwrap(), expected);
        assert_eq!(unpack(packed, 2).into_data(), data);
    }
}
