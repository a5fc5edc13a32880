//! Animated GIF.

use std::{
    io::{BufReader, Read},
    path::Path,
};

use gif::{Encoder, Extension, Frame, Repeat};

use super::{FrameRate, VideoError, VideoSpec, metadata, writer::FrameEncoder};
use crate::files::atomic::AtomicFile;

/// 1 is the best and slowest palette search, 30 the fastest.
const PALETTE_SPEED: i32 = 3;

pub(super) struct GifEncoder {
    out: AtomicFile,
    /// Encodes into memory, one frame at a time: the crate panics when an encoder is dropped and
    /// the file behind it cannot be written.
    encoder: Encoder<Vec<u8>>,
    size: (u16, u16),
    clock: Clock,
}

impl GifEncoder {
    pub(super) fn create(
        out: AtomicFile,
        spec: &VideoSpec,
        json: &str,
    ) -> Result<Self, VideoError> {
        let failed = |error: gif::EncodingError| VideoError::encode(out.path(), error);
        // `VideoSpec::check` allows at most 16384 pixels a side.
        let size = (spec.width as u16, spec.height as u16);
        let mut encoder = Encoder::new(Vec::new(), size.0, size.1, &[]).map_err(failed)?;
        encoder.set_repeat(Repeat::Infinite).map_err(failed)?;
        // GIF comments are 7-bit ASCII.
        let comment = metadata::ascii_json(json);
        encoder
            .write_raw_extension(Extension::Comment.into(), &[comment.as_bytes()])
            .map_err(failed)?;
        Ok(Self { out, encoder, size, clock: Clock::new(spec.fps) })
    }
}

impl FrameEncoder for GifEncoder {
    fn write_frame(&mut self, rgb: &[u8]) -> Result<(), VideoError> {
        let mut frame = Frame::from_rgb_speed(self.size.0, self.size.1, rgb, PALETTE_SPEED);
        dither(&mut frame, rgb);
        frame.delay = self.clock.next_delay();
        self.encoder
            .write_frame(&frame)
            .map_err(|error| VideoError::encode(self.out.path(), error))?;
        Ok(self.out.write(&std::mem::take(self.encoder.get_mut()))?)
    }

    fn finish(mut self: Box<Self>) -> Result<(), VideoError> {
        let end = self
            .encoder
            .into_inner()
            .map_err(|error| VideoError::encode(self.out.path(), error))?;
        self.out.write(&end)?;
        Ok(self.out.commit()?)
    }
}

/// Picks the palette entries of a frame anew, and spreads what each pixel loses over its neighbours
/// (Floyd and Steinberg, 1976). Without it, slow gradients turn into patches.
fn dither(frame: &mut Frame<'_>, rgb: &[u8]) {
    let palette: Vec<[i16; 3]> = match &frame.palette {
        Some(palette) => palette.chunks_exact(3).map(colour).collect(),
        None => return,
    };
    let pairs = frame.buffer.iter().zip(rgb.chunks_exact(3));
    if palette.is_empty() || pairs.clone().all(|(&i, p)| palette[usize::from(i)] == colour(p)) {
        return; // At most 256 colours: nothing is lost.
    }
    let width = usize::from(frame.width);
    let mut nearest = Nearest { palette: &palette, cells: vec![None; 1 << 15] };
    // What the pixels of this row and the next are owed, in 1/16, with a margin on both sides.
    let mut owed = [vec![[0i16; 3]; width + 2], vec![[0i16; 3]; width + 2]];
    let mut indices = Vec::with_capacity(frame.buffer.len());
    for row in rgb.chunks_exact(3 * width) {
        let [here, below] = &mut owed;
        for (x, pixel) in row.chunks_exact(3).map(colour).enumerate() {
            let at = x + 1;
            let wanted: [i16; 3] =
                std::array::from_fn(|c| (pixel[c] + here[at][c] / 16).clamp(0, 255));
            let index = nearest.index(wanted);
            indices.push(index);
            for c in 0..3 {
                let lost = wanted[c] - palette[usize::from(index)][c];
                here[at + 1][c] += 7 * lost;
                below[at - 1][c] += 3 * lost;
                below[at][c] += 5 * lost;
                below[at + 1][c] += lost;
            }
        }
        owed.swap(0, 1);
        owed[1].fill([0; 3]);
    }
    frame.buffer = indices.into();
}

fn colour(pixel: &[u8]) -> [i16; 3] {
    std::array::from_fn(|c| pixel[c].into())
}

/// Finds the nearest palette entry, and remembers it for all colours whose upper five bits agree.
struct Nearest<'a> {
    palette: &'a [[i16; 3]],
    cells: Vec<Option<u8>>,
}

impl Nearest<'_> {
    fn index(&mut self, wanted: [i16; 3]) -> u8 {
        let cell = wanted.iter().fold(0, |cell, &c| cell << 5 | (c >> 3) as usize);
        *self.cells[cell].get_or_insert_with(|| {
            let distance = |entry: &[i16; 3]| -> i32 {
                entry.iter().zip(wanted).map(|(&a, b)| i32::from(a - b).pow(2)).sum()
            };
            // A palette has at most 256 entries.
            let entries = (0..=u8::MAX).zip(self.palette);
            entries.min_by_key(|(_, entry)| distance(entry)).map_or(0, |(index, _)| index)
        })
    }
}

/// Turns frames a second into delays of 1/100 s, and carries what rounding leaves over, so that
/// the whole video has the right length.
struct Clock {
    fps: FrameRate,
    frames: u64,
}

impl Clock {
    fn new(fps: FrameRate) -> Self {
        Self { fps, frames: 0 }
    }

    /// End of frame number `frames`, in 1/100 s, rounded.
    fn end(&self, frames: u64) -> u64 {
        let [fps, seconds] = [self.fps.numerator(), self.fps.denominator()].map(u64::from);
        (frames * 100 * seconds + fps / 2) / fps
    }

    fn next_delay(&mut self) -> u16 {
        self.frames += 1;
        let delay = self.end(self.frames) - self.end(self.frames - 1);
        delay as u16 // At most 100.
    }
}

/// Reads the comment that stands before the first frame, if there is one.
pub(super) fn read_comment(file: impl Read, path: &Path) -> Result<Option<String>, VideoError> {
    const IMAGE: u8 = 0x2C;
    const TRAILER: u8 = 0x3B;
    const EXTENSION: u8 = 0x21;
    const COMMENT: u8 = 0xFE;

    let mut input = Input { reader: BufReader::new(file).take(metadata::MAX_FILE_BYTES), path };
    // Signature (6), size (4), flags, background, aspect.
    let header = input.bytes::<13>()?;
    if header[10] & 0x80 != 0 {
        let colours = 2usize << (header[10] & 7);
        for _ in 0..colours {
            input.bytes::<3>()?;
        }
    }
    loop {
        match input.byte()? {
            IMAGE | TRAILER => return Ok(None),
            EXTENSION => {
                let kind = input.byte()?;
                let data = input.sub_blocks()?;
                if kind == COMMENT {
                    return Ok(String::from_utf8(data).ok());
                }
            }
            other => {
                let reason = format!("GIF block {other:#04x} is unknown");
                return Err(VideoError::broken(path, reason));
            }
        }
    }
}

struct Input<'a, R> {
    reader: R,
    path: &'a Path,
}

impl<R: Read> Input<'_, R> {
    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], VideoError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8, VideoError> {
        self.bytes::<1>().map(|[byte]| byte)
    }

    fn fill(&mut self, buffer: &mut [u8]) -> Result<(), VideoError> {
        self.reader
            .read_exact(buffer)
            .map_err(|error| VideoError::cut_off(self.path, format!("GIF header: {error}")))
    }

    fn sub_blocks(&mut self) -> Result<Vec<u8>, VideoError> {
        let mut data = Vec::new();
        let mut buffer = [0; 255];
        loop {
            let length = usize::from(self.byte()?);
            if length == 0 {
                return Ok(data);
            }
            let block = &mut buffer[..length];
            self.fill(block)?;
            data.extend_from_slice(block);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spread(delays: &[u16]) -> u16 {
        delays.iter().max().unwrap() - delays.iter().min().unwrap()
    }

    #[test]
    fn delays_add_up() {
        for fps in 1..=50 {
            let mut clock = Clock::new(FrameRate::new(fps));
            let delays: Vec<u16> = (0..fps * 7).map(|_| clock.next_delay()).collect();
            assert_eq!(delays.iter().map(|&d| u32::from(d)).sum::<u32>(), 700);
            assert!(spread(&delays) <= 1 && delays.iter().all(|&delay| delay >= 2));
        }
        // An hour of film, and what takes 1.001 s.
        for (fps, frames, expected) in [
            ("23.976", 86_314, 360_001),
            ("24000/1001", 24, 100),
            ("12.5", 25, 200),
            ("100/3", 7, 21),
        ] {
            let mut clock = Clock::new(fps.parse().unwrap());
            let delays: Vec<u16> = (0..frames).map(|_| clock.next_delay()).collect();
            assert_eq!(delays.iter().map(|&d| u32::from(d)).sum::<u32>(), expected, "{fps}");
            assert!(spread(&delays) <= 1, "{fps}");
        }
    }
}
