//! The shortcuts around the levels of the residual layout, which have no weights: what a level changes, it
//! changes in the mean of its input (down) or in copies of it (up).
//!
//! Source: `AvgDown3D` and `DupUp3D` in `autoencoder_kl_wan.py`, which see 1 and then 4 frames at a time. Here
//! frames come one by one.

use burn::tensor::Tensor;
use wan_core::{Backend, BurnBackend};

use super::cache::Slot;

/// Means over the pixels of a square, the frames of a pair, and neighbouring channels: each of the output's
/// channels is the mean of as many values, in the order channel, frame, row, column.
#[derive(Debug, Clone)]
pub(super) struct AvgDown {
    output: usize,
    /// Whether frames come in pairs.
    temporal: bool,
    /// The side of a square.
    side: usize,
}

impl AvgDown {
    /// To `output` channels, beside a downsampler that halves time or not (`Some`), or none.
    pub(super) fn new(output: usize, temporal: Option<bool>) -> Self {
        let side = if temporal.is_some() { 2 } else { 1 };
        Self { output, temporal: temporal == Some(true), side }
    }

    /// Nothing comes of the first frame of a pair. The first frame of a video is the second of a pair whose
    /// first is zero.
    pub(super) fn forward<B: Backend>(
        &self,
        x: Tensor<B, 5>,
        slot: &mut Slot<B>,
    ) -> Option<Tensor<B, 5>> {
        let mut values = self.squares(x);
        if self.temporal {
            let first = match slot.begin() {
                true => Some(values.zeros_like()),
                false => slot.first_of_pair(&values),
            };
            values = Tensor::cat(vec![first?, values], 4);
        }
        let [batch, height, width, channels, each] = values.dims();
        let group = channels * each / self.output;
        let groups = values.reshape([batch, height, width, self.output, group]);
        let means = if group == 1 { groups } else { groups.mean_dim(4) };
        Some(means.reshape([batch, 1, height, width, self.output]))
    }

    /// `[B, 1, H, W, C]` to `[B, H / side, W / side, C, side^2]`.
    fn squares<B: BurnBackend>(&self, x: Tensor<B, 5>) -> Tensor<B, 5> {
        let [batch, _, height, width, channels] = x.dims();
        let side = self.side;
        if side == 1 {
            return x.reshape([batch, height, width, channels, 1]);
        }
        let (rows, columns) = (height / side, width / side);
        let squares = x.reshape([batch * rows, side, columns, side, channels]);
        squares.permute([0, 2, 4, 1, 3]).reshape([batch, rows, columns, channels, side * side])
    }
}

/// Copies of the channels as the frames of a pair and the pixels of a square: the values of the output in
/// the order channel, frame, row, column are the input's channels, each as many times in a row.
#[derive(Debug, Clone)]
pub(super) struct DupUp {
    /// How often each channel is repeated: a divisor of the values of a pair of squares.
    repeats: usize,
    /// How many frames become of one.
    pub(super) frames: usize,
}

impl DupUp {
    /// `channels` is input, output, of which the former is the larger; beside an upsampler that doubles time
    /// or not.
    pub(super) fn new(channels: [usize; 2], temporal: bool) -> Self {
        let frames = if temporal { 2 } else { 1 };
        Self { repeats: channels[1] * frames * 4 / channels[0].max(1), frames }
    }

    /// Adds what `x` `[B, 1, h, w, C]` becomes to `y` `[B, 1, 2 h, 2 w, C']`, frame `frame` of it. Copies are
    /// never made: they are added from where they are.
    pub(super) fn add<B: BurnBackend>(
        &self,
        y: Tensor<B, 5>,
        x: Tensor<B, 5>,
        frame: usize,
    ) -> Tensor<B, 5> {
        let ([batch, _, height, width, _], shape) = (x.dims(), y.dims());
        let output = shape[4];
        let [frames, rows, columns] = self.distinct();
        let values = x.reshape([batch * height * width, output, frames, rows, columns]);
        let values = values.narrow(2, frame % frames, 1);
        let values = values.reshape([batch * height, width, output, rows, columns]);
        let squares = y.reshape([batch * height, 2, width, 2, output]);
        (squares + values.permute([0, 3, 1, 4, 2])).reshape(shape)
    }

    /// How many frames, rows and columns of a pair of squares have values of their own. What is repeated
    /// most often are columns, then rows, then frames.
    fn distinct(&self) -> [usize; 3] {
        let (mut sides, mut repeats) = ([self.frames, 2, 2], self.repeats);
        for side in sides.iter_mut().rev() {
            if repeats.is_multiple_of(*side) {
                repeats /= *side;
                *side = 1;
            }
        }
        sides
    }
}

#[cfg(test)]
mod tests {
    use burn::backend::Flex;
    use burn::tensor::TensorData;

    use super::super::cache::FeatureCache;
    use super::*;

    const FRAMES: usize = 5;
    const HEIGHT: usize = 4;
    const WIDTH: usize = 6;

    fn value(frame: usize, row: usize, column: usize, channel: usize) -> f32 {
        (frame * 7 + row * 5 + column * 3 + channel * 11) as f32 % 13.0 + channel as f32
    }

    fn frame(i: usize, channels: usize) -> Tensor<Flex, 5> {
        let value = |k: usize| value(i, k / (WIDTH * channels), k / channels % WIDTH, k % channels);
        let values: Vec<f32> = (0..HEIGHT * WIDTH * channels).map(value).collect();
        let data = TensorData::new(values, [1, 1, HEIGHT, WIDTH, channels]);
        Tensor::from_data(data, &Default::default())
    }

    /// The formula for a whole video with a zero frame in front, where time is halved.
    fn average(input: usize, output: usize, temporal: Option<bool>) -> Vec<Vec<f32>> {
        let (time, side) =
            (1 + usize::from(temporal == Some(true)), 1 + usize::from(temporal.is_some()));
        let each = time * side * side;
        let group = input * each / output;
        let at = |t: usize, row: usize, column: usize, k: usize| {
            let (channel, rest) = (k / each, k % each);
            let frame = (t * time + rest / (side * side) + 1).checked_sub(time);
            let (i, j) = (rest / side % side, rest % side);
            frame.map_or(0.0, |frame| value(frame, row * side + i, column * side + j, channel))
        };
        let mean = |t, row, column, o: usize| {
            (o * group..(o + 1) * group).map(|k| at(t, row, column, k)).sum::<f32>() / group as f32
        };
        let (rows, columns) = (HEIGHT / side, WIDTH / side);
        let frame = |t| {
            let mean = |k: usize| mean(t, k / output / columns, k / output % columns, k % output);
            (0..rows * columns * output).map(mean).collect()
        };
        (0..FRAMES.div_ceil(time)).map(frame).collect()
    }

    #[test]
    fn means_come_frame_by_frame_as_of_the_whole() {
        for (input, output, temporal) in [
            (4, 4, Some(false)),
            (4, 8, Some(false)),
            (4, 16, Some(false)),
            (4, 4, Some(true)),
            (4, 8, Some(true)),
            (4, 16, Some(true)),
            (6, 6, None),
        ] {
            let mut cache = FeatureCache::new(false);
            let (shortcut, slot) = (AvgDown::new(output, temporal), cache.exact_slot());
            let frames = (0..FRAMES).filter_map(|i| shortcut.forward(frame(i, input), slot));
            let found: Vec<Vec<f32>> =
                frames.map(|frame| frame.into_data().to_vec().unwrap()).collect();
            let expected = average(input, output, temporal);
            assert_eq!(found.len(), expected.len());
            for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
                assert!((found - expected).abs() < 1e-5, "{input} {output} {temporal:?}");
            }
        }
    }

    #[test]
    fn copies_lie_where_the_formula_says() {
        for (input, output, temporal) in [
            (8, 8, true),
            (8, 4, true),
            (8, 2, true),
            (8, 1, true),
            (8, 8, false),
            (8, 4, false),
            (8, 2, false),
        ] {
            let shortcut = DupUp::new([input, output], temporal);
            let repeats = output * shortcut.frames * 4 / input;
            for t in 0..shortcut.frames {
                let shape = [1, 1, 2 * HEIGHT, 2 * WIDTH, output];
                let before = Tensor::<Flex, 5>::ones(shape, &Default::default());
                let found = shortcut.add(before, frame(3, input), t);
                assert_eq!(found.dims(), shape);
                for (k, found) in found.into_data().to_vec::<f32>().unwrap().iter().enumerate() {
                    let (row, column, o) =
                        (k / output / (2 * WIDTH), k / output % (2 * WIDTH), k % output);
                    let channel =
                        (((o * shortcut.frames + t) * 2 + row % 2) * 2 + column % 2) / repeats;
                    let expected = 1.0 + value(3, row / 2, column / 2, channel);
                    assert_eq!(*found, expected, "{input} {output} {temporal} {t}");
                }
            }
        }
    }
}
