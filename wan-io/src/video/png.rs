//! PNG: single pictures and folders of frames.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{BufReader, BufWriter, ErrorKind, Read, Seek, Write},
    path::{Path, PathBuf},
};

use png::{BitDepth, ColorType, Decoder, Encoder, Transformations};

use super::{
    DecodedVideo, FrameRate, VideoError, VideoSpec, check_decoded_size, metadata, spec::MAX_SIDE,
    writer::FrameEncoder,
};
use crate::files::atomic::{AtomicFile, AtomicFolder};
use crate::image::to_rgb;

/// Keyword of the iTXt chunk that holds the metadata.
const KEYWORD: &str = "wan";

/// Rate of a folder whose frames do not tell it: that of the Wan 2.1 models.
const DEFAULT_FPS: FrameRate = FrameRate::new(16);

pub(super) struct PngFolderEncoder {
    folder: AtomicFolder,
    spec: VideoSpec,
    json: String,
    written: u32,
}

impl PngFolderEncoder {
    pub(super) fn create(folder: AtomicFolder, spec: &VideoSpec, json: String) -> Self {
        Self { folder, spec: *spec, json, written: 0 }
    }
}

impl FrameEncoder for PngFolderEncoder {
    fn write_frame(&mut self, rgb: &[u8]) -> Result<(), VideoError> {
        let path = self.folder.join(&format!("frame_{:05}.png", self.written))?;
        let write = || {
            let mut file = BufWriter::new(File::create(&path)?);
            encode(&mut file, rgb, &self.spec, &self.json)?;
            Ok(file.flush()?)
        };
        write().map_err(|error| match error {
            png::EncodingError::IoError(source) => {
                VideoError::io("write a frame into", self.folder.path())(source)
            }
            other => VideoError::encode(self.folder.path(), other),
        })?;
        self.written += 1;
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<(), VideoError> {
        Ok(self.folder.commit()?)
    }
}

/// Writes one picture.
pub(super) struct PictureEncoder {
    out: AtomicFile,
    spec: VideoSpec,
    json: String,
}

impl PictureEncoder {
    pub(super) fn create(out: AtomicFile, spec: &VideoSpec, json: String) -> Self {
        Self { out, spec: *spec, json }
    }
}

impl FrameEncoder for PictureEncoder {
    fn write_frame(&mut self, rgb: &[u8]) -> Result<(), VideoError> {
        let mut png = Vec::new();
        encode(&mut png, rgb, &self.spec, &self.json)
            .map_err(|error| VideoError::encode(self.out.path(), error))?;
        Ok(self.out.write(&png)?)
    }

    fn finish(self: Box<Self>) -> Result<(), VideoError> {
        Ok(self.out.commit()?)
    }
}

/// Writes a PNG with the metadata.
fn encode(
    out: impl Write,
    rgb: &[u8],
    spec: &VideoSpec,
    json: &str,
) -> Result<(), png::EncodingError> {
    let mut encoder = Encoder::new(out, spec.width, spec.height);
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_compression(png::Compression::Fast);
    encoder.add_itxt_chunk(KEYWORD.into(), json.to_owned())?;
    let mut writer = encoder.write_header()?;
    writer.write_image_data(rgb)?;
    writer.finish()
}

/// Reads one PNG as a video of one frame.
pub(super) fn read_picture(path: &Path) -> Result<DecodedVideo, VideoError> {
    let fps = metadata::stored_fps(path)?.unwrap_or(DEFAULT_FPS);
    let (width, height, rgb) = read_frame(path)?;
    let spec = VideoSpec { width, height, fps, frames: 1 };
    Ok(DecodedVideo { spec, frames: vec![rgb] })
}

/// Reads a folder of PNG frames of one size, in the order of the last number in their names.
///
/// Any PNG will do: palettes, grey and 16-bit values become rgb24, transparency is dropped. The
/// rate is that in the metadata of the first frame, or else 16 frames a second, as of Wan 2.1.
///
/// # Errors
/// [`VideoError::Io`] when something cannot be opened, [`VideoError::NoFrames`] for a folder
/// without any, [`VideoError::FrameSize`] where they differ, and [`VideoError::CutOff`],
/// [`VideoError::Broken`] and [`VideoError::TooLarge`] when a frame cannot be read.
pub fn read_png_folder(folder: &Path) -> Result<DecodedVideo, VideoError> {
    let paths = list_frames(folder)?;
    let Some(first) = paths.first() else {
        let path = folder.to_path_buf();
        return Err(VideoError::NoFrames { path, kind: "PNG frames" });
    };
    let mut spec = VideoSpec {
        width: 0,
        height: 0,
        fps: metadata::stored_fps(first)?.unwrap_or(DEFAULT_FPS),
        frames: u32::try_from(paths.len()).unwrap_or(u32::MAX),
    };
    let mut frames = Vec::new();
    for path in &paths {
        let (width, height, rgb) = read_frame(path)?;
        if frames.is_empty() {
            (spec.width, spec.height) = (width, height);
            check_decoded_size(folder, spec.frame_bytes(), paths.len() as u64)?;
        } else if (width, height) != (spec.width, spec.height) {
            let (first_width, first_height) = (spec.width, spec.height);
            let path = path.clone();
            return Err(VideoError::FrameSize { path, width, height, first_width, first_height });
        }
        frames.push(rgb);
    }
    Ok(DecodedVideo { spec, frames })
}

/// The PNG files in `folder`, in the order of the last number in their names.
pub(super) fn list_frames(folder: &Path) -> Result<Vec<PathBuf>, VideoError> {
    let io = |error| VideoError::io("look into the folder", folder)(error);
    let mut frames = Vec::new();
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("png")) {
            frames.push((last_number(path.file_stem()), path));
        }
    }
    frames.sort();
    Ok(frames.into_iter().map(|(_, path)| path).collect())
}

fn last_number(stem: Option<&OsStr>) -> Option<u64> {
    let stem = stem?.to_string_lossy();
    let end = stem.rfind(|c: char| c.is_ascii_digit())? + 1;
    let start = stem[..end]
        .rfind(|c: char| !c.is_ascii_digit())
        .map_or(0, |at| at + stem[at..].chars().next().map_or(1, char::len_utf8));
    stem[start..end].parse().ok()
}

fn read_frame(path: &Path) -> Result<(u32, u32, Vec<u8>), VideoError> {
    let file = File::open(path).map_err(VideoError::io("read", path))?;
    let broken = |error| failed(path, error);
    let mut decoder = Decoder::new(BufReader::new(file));
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info().map_err(broken)?;
    let (width, height) = reader.info().size();
    if reader.info().animation_control.is_some() {
        let reason =
            "it is an animation, but a PNG is one frame: save its frames as a folder of PNG";
        return Err(VideoError::broken(path, reason));
    }
    let size = reader
        .output_buffer_size()
        .filter(|_| width <= MAX_SIDE && height <= MAX_SIDE)
        .ok_or_else(|| {
            let reason = format!("it is {width}x{height}, more than 16384 pixels a side");
            VideoError::broken(path, reason)
        })?;
    let mut pixels = vec![0; size];
    let info = reader.next_frame(&mut pixels).map_err(broken)?;
    reader.finish().map_err(broken)?; // So that a file without its end is no picture.
    let rgb = to_rgb(info.color_type, pixels)
        .ok_or_else(|| VideoError::broken(path, "its palette is missing"))?;
    Ok((width, height, rgb))
}

fn failed(path: &Path, error: png::DecodingError) -> VideoError {
    match error {
        png::DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            VideoError::cut_off(path, error)
        }
        png::DecodingError::IoError(error) => VideoError::io("read", path)(error),
        other => VideoError::broken(path, other),
    }
}

/// Reads our iTXt chunk, if it stands before the pixels.
pub(super) fn read_text(file: impl Read + Seek, path: &Path) -> Result<Option<String>, VideoError> {
    let broken = |error| failed(path, error);
    let reader = Decoder::new(BufReader::new(file)).read_info().map_err(broken)?;
    let Some(chunk) = reader.info().utf8_text.iter().find(|c| c.keyword == KEYWORD) else {
        return Ok(None);
    };
    let mut chunk = chunk.clone();
    chunk.decompress_text_with_limit(metadata::MAX_JSON_BYTES).map_err(broken)?;
    chunk.get_text().map(Some).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_ordered_by_their_last_number() {
        for (stem, number) in [
            ("frame_00012", Some(12)),
            ("7", Some(7)),
            ("v2-9 (copy)", Some(9)),
            ("猫12猫", Some(12)),
            ("frame", None),
            ("99999999999999999999999", None),
        ] {
            assert_eq!(last_number(Some(OsStr::new(stem))), number, "{stem}");
        }
    }
}
