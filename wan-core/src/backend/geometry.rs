//! What a convolution sees of frames with zeros around them, which may be enlarged first.

use super::{BurnBackend, Conv3dArgs, Padding};

/// The sizes of a convolution.
#[derive(Debug, Clone, Copy)]
pub(super) struct Geometry {
    /// Frames before and including a chunk.
    pub(super) frames: usize,
    /// Height and width as they lie in memory.
    pub(super) size: [usize; 2],
    /// Whether each pixel stands for two by two.
    pub(super) upsample: bool,
    /// Input and output.
    pub(super) channels: [usize; 2],
    /// Along time, height and width.
    pub(super) kernel: [usize; 3],
    pub(super) stride: [usize; 3],
    pub(super) padding: Padding,
}

impl Geometry {
    /// Of a convolution with a kernel `[Cout, Cin, kt, kh, kw]`.
    pub(super) fn new<B: BurnBackend, W>(
        args: &Conv3dArgs<B, W>,
        [cout, cin, kt, kh, kw]: [usize; 5],
    ) -> Self {
        let [_, frames, height, width, _] = args.x.dims();
        Self {
            frames: args.past.iter().map(|past| past.dims()[1]).sum::<usize>() + frames,
            size: [height, width],
            upsample: args.upsample,
            channels: [cin, cout],
            kernel: [kt, kh, kw],
            stride: args.stride,
            padding: args.padding,
        }
    }

    /// Frames, rows and columns of the output.
    pub(super) fn output(&self) -> [usize; 3] {
        let [pt, ph, pw] = self.padded();
        let ([kt, kh, kw], [st, sh, sw]) = (self.kernel, self.stride);
        [(pt - kt) / st + 1, (ph - kh) / sh + 1, (pw - kw) / sw + 1]
    }

    /// Frames, rows and columns with padding.
    pub(super) fn padded(&self) -> [usize; 3] {
        let Padding { time, height, width } = self.padding;
        let [h, w] = [height, width].map(|[before, after]| before + after);
        let [rows, columns] = self.enlarged();
        [self.frames + time, rows + h, columns + w]
    }

    /// Height and width without padding.
    pub(super) fn enlarged(&self) -> [usize; 2] {
        self.size.map(|side| if self.upsample { 2 * side } else { side })
    }
}

#[cfg(feature = "flex")]
impl Geometry {
    /// The row in memory that a padded row stands for, unless it is zero.
    pub(super) fn source_row(&self, y: usize) -> Option<usize> {
        self.source(y, self.padding.height[0], self.size[0])
    }

    /// The pixel of a row in memory that one of a padded row stands for, unless it is zero.
    pub(super) fn source_column(&self, x: usize) -> Option<usize> {
        self.source(x, self.padding.width[0], self.size[1])
    }

    fn source(&self, at: usize, before: usize, size: usize) -> Option<usize> {
        let at = at.checked_sub(before)?;
        let at = if self.upsample { at / 2 } else { at };
        (at < size).then_some(at)
    }
}
