//! Reads GIF files: each frame changes a part of a canvas.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    num::NonZeroU64,
    path::Path,
};

use gif::{DecodeOptions, Decoder, DecodingError, DisposalMethod, Frame, MemoryLimit};

use super::{
    DecodedVideo, FrameRate, VideoError, VideoSpec, check_decoded_size, metadata,
    spec::{MAX_FRAMES, MAX_SIDE},
};

/// Most pixels of one frame: those of the largest canvas.
const MAX_PIXELS: NonZeroU64 = NonZeroU64::new(MAX_SIDE as u64 * MAX_SIDE as u64).unwrap();

/// The block that ends a file.
const TRAILER: u8 = 0x3B;

/// Players show shorter delays, in 1/100 s, as [`DEFAULT_DELAY`].
const SHORTEST_DELAY: u16 = 2;
const DEFAULT_DELAY: u16 = 10;

/// Reads a whole GIF.
pub(super) fn read_gif(path: &Path) -> Result<DecodedVideo, VideoError> {
    let spec = read_spec(path)?;
    let mut decoder = open(path, false)?;
    let mut canvas = Canvas::new(&spec);
    let global = decoder.global_palette().map(<[u8]>::to_vec).unwrap_or_default();
    let mut frames = Vec::new();
    while let Some(frame) = decoder.read_next_frame().map_err(|error| failed(path, error))? {
        frames.push(canvas.show(frame, &global));
    }
    if frames.len() != spec.frames as usize {
        return Err(VideoError::broken(path, "it changed while it was read"));
    }
    Ok(DecodedVideo { spec, frames })
}

fn open(path: &Path, skip_pixels: bool) -> Result<Decoder<File>, VideoError> {
    let file = File::open(path).map_err(VideoError::io("read", path))?;
    let mut options = DecodeOptions::new();
    options.set_memory_limit(MemoryLimit::Bytes(MAX_PIXELS));
    options.skip_frame_decoding(skip_pixels);
    options.read_info(file).map_err(|error| match error {
        // The crate wants one more byte after the end of a file without frames.
        DecodingError::UnexpectedEof if ends(path) => no_frames(path),
        other => failed(path, other),
    })
}

/// Whether the last byte of a file is the one that ends a GIF.
fn ends(path: &Path) -> bool {
    let last = || -> io::Result<[u8; 1]> {
        let (mut file, mut byte) = (File::open(path)?, [0]);
        file.seek(SeekFrom::End(-1))?;
        file.read_exact(&mut byte).map(|()| byte)
    };
    last().is_ok_and(|byte| byte == [TRAILER])
}

fn no_frames(path: &Path) -> VideoError {
    VideoError::NoFrames { path: path.to_path_buf(), kind: "frames" }
}

/// Walks through the frames once without their pixels, so that the memory that all of them take is
/// known before any is given.
fn read_spec(path: &Path) -> Result<VideoSpec, VideoError> {
    let mut decoder = open(path, true)?;
    let (mut frames, mut hundredths) = (0, 0);
    while let Some(frame) = decoder.next_frame_info().map_err(|error| failed(path, error))? {
        hundredths += u64::from(shown_delay(frame.delay));
        frames += 1;
        if frames > MAX_FRAMES {
            return Err(VideoError::broken(path, "it has more than 1000000 frames"));
        }
    }
    if frames == 0 {
        return Err(no_frames(path));
    }
    let [width, height] = [decoder.width(), decoder.height()].map(u32::from);
    let sides = 1..=MAX_SIDE;
    if !sides.contains(&width) || !sides.contains(&height) {
        let reason = format!("it is {width}x{height}, but must have 1 to {MAX_SIDE} pixels a side");
        return Err(VideoError::broken(path, reason));
    }
    let fps = metadata::stored_fps(path)?.unwrap_or_else(|| rate(frames, hundredths));
    let spec = VideoSpec { width, height, fps, frames };
    check_decoded_size(path, spec.frame_bytes(), frames.into())?;
    Ok(spec)
}

fn failed(path: &Path, error: DecodingError) -> VideoError {
    match error {
        DecodingError::UnexpectedEof => VideoError::cut_off(path, "its last block is not whole"),
        DecodingError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            VideoError::cut_off(path, error)
        }
        DecodingError::Io(error) => VideoError::io("read", path)(error),
        DecodingError::OutOfMemory | DecodingError::MemoryLimit => {
            VideoError::broken(path, format!("a frame has more than {MAX_PIXELS} pixels"))
        }
        other => VideoError::broken(path, other),
    }
}

fn shown_delay(delay: u16) -> u16 {
    if delay < SHORTEST_DELAY { DEFAULT_DELAY } else { delay }
}

/// The mean rate, at least 1 frame a second: a whole number if all frames take as long at that rate,
/// but for the rounding to 1/100 s.
fn rate(frames: u32, hundredths: u64) -> FrameRate {
    let frames = u64::from(frames) * 100;
    let whole = (frames + hundredths / 2) / hundredths; // At most 50.
    match 2 * frames.abs_diff(hundredths * whole) <= whole {
        true => FrameRate::new(whole as u32),
        false => FrameRate::nearest(frames, hundredths),
    }
    .max(FrameRate::new(1))
}

/// The picture that is shown, rgb24.
struct Canvas {
    width: usize,
    rgb: Vec<u8>,
}

impl Canvas {
    /// A black canvas.
    fn new(spec: &VideoSpec) -> Self {
        Self { width: spec.width as usize, rgb: vec![0; spec.frame_bytes()] }
    }

    /// Draws a frame, and prepares the canvas for the next one. Returns the picture between.
    fn show(&mut self, frame: &Frame<'_>, global: &[u8]) -> Vec<u8> {
        let before = (frame.dispose == DisposalMethod::Previous).then(|| self.rgb.clone());
        self.draw(frame, frame.palette.as_deref().unwrap_or(global));
        let shown = self.rgb.clone();
        match (frame.dispose, before) {
            (DisposalMethod::Previous, Some(before)) => self.rgb = before,
            (DisposalMethod::Background, _) => self.clear(frame),
            _ => {}
        }
        shown
    }

    /// Draws the pixels that lie on the canvas, but for the transparent ones and those without a
    /// colour.
    fn draw(&mut self, frame: &Frame<'_>, palette: &[u8]) {
        let width = usize::from(frame.width).max(1); // A row of nothing has no pixels to draw.
        for (row, indices) in self.rows(frame).zip(frame.buffer.chunks_exact(width)) {
            for (pixel, &index) in row.chunks_exact_mut(3).zip(indices) {
                let start = 3 * usize::from(index);
                match palette.get(start..start + 3) {
                    Some(colour) if frame.transparent != Some(index) => {
                        pixel.copy_from_slice(colour);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Makes the place of a frame black.
    fn clear(&mut self, frame: &Frame<'_>) {
        self.rows(frame).for_each(|row| row.fill(0));
    }

    /// The rows of the canvas that a frame covers, cut at its borders.
    fn rows(&mut self, frame: &Frame<'_>) -> impl Iterator<Item = &mut [u8]> {
        let [left, top] = [frame.left, frame.top].map(usize::from);
        let left = left.min(self.width);
        let right = (left + usize::from(frame.width)).min(self.width);
        let rows = self.rgb.chunks_exact_mut(3 * self.width);
        let rows = rows.skip(top).take(frame.height.into());
        rows.map(move |row| &mut row[3 * left..3 * right])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_means_of_delays_as_players_show_them() {
        let fps = |delays: &[u16]| {
            rate(
                delays.len() as u32,
                delays.iter().map(|&delay| u64::from(shown_delay(delay))).sum(),
            )
        };
        assert_eq!(fps(&[6, 6, 6, 7]), 16);
        assert_eq!(fps(&[0, 1, 0]), 10);
        assert_eq!(fps(&[2; 9]), 50);
        assert_eq!(fps(&[u16::MAX; 3]), 1);
        assert_eq!(fps(&[8; 25]).to_string(), "12.5");
        assert_eq!(fps(&[3; 100]).to_string(), "100/3");
        assert_eq!(fps(&[4, 4, 4, 4, 4, 5]), 24);
    }
}
