//! PNG, of any colour type and depth.

use std::io::{Cursor, ErrorKind};

use png::{ColorType, Decoder, DecodingError, Transformations};

use super::{Decoded, ImageError, check_size, orientation::Orientation};

const KIND: &str = "PNG";

pub(super) fn decode(name: &str, bytes: &[u8], max_pixels: u64) -> Result<Decoded, ImageError> {
    let failed = |error| failed(name, error);
    let mut decoder = Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::normalize_to_color8());
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let (width, height) = decoder.read_header_info().map_err(failed)?.size();
    check_size(name, [width, height], max_pixels)?;
    let mut reader = decoder.read_info().map_err(failed)?;
    let size = reader.output_buffer_size().unwrap_or_default(); // Known, since the pixels are few enough.
    let mut pixels = vec![0; size];
    let frame = reader.next_frame(&mut pixels).map_err(failed)?;
    reader.finish().map_err(failed)?; // So that a file without its end is no picture.
    let info = reader.info();
    let rgb = (frame.width, frame.height) == (width, height);
    let rgb = rgb.then(|| to_rgb(frame.color_type, pixels)).flatten();
    let found = "its first picture does not fill it, or its palette is missing";
    let rgb = rgb.ok_or_else(|| ImageError::broken(name, KIND, found))?;
    let orientation = Orientation::from_exif(info.exif_metadata.as_deref());
    Ok(Decoded { width, height, rgb, orientation, is_animated: info.animation_control.is_some() })
}

/// Pixels of 8 bits a channel as rgb24, without transparency; `None` for indices into a palette, which
/// `normalize_to_color8` turns into colours.
pub(crate) fn to_rgb(color: ColorType, pixels: Vec<u8>) -> Option<Vec<u8>> {
    match color {
        ColorType::Rgb => Some(pixels),
        ColorType::Rgba => Some(pixels.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect()),
        ColorType::Grayscale => Some(pixels.iter().flat_map(|&gray| [gray; 3]).collect()),
        ColorType::GrayscaleAlpha => Some(pixels.chunks_exact(2).flat_map(|p| [p[0]; 3]).collect()),
        ColorType::Indexed => None,
    }
}

fn failed(name: &str, error: DecodingError) -> ImageError {
    match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            ImageError::cut_off(name, KIND, "it ends within a chunk, or without the last one")
        }
        other => ImageError::broken(name, KIND, &other.to_string()),
    }
}
