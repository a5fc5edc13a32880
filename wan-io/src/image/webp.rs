//! WebP, lossy and lossless.

use std::io::{Cursor, ErrorKind};

use image_webp::{DecodingError, WebPDecoder};

use super::{Decoded, ImageError, check_size, orientation::Orientation};

const KIND: &str = "WebP";

pub(super) fn decode(name: &str, bytes: &[u8], max_pixels: u64) -> Result<Decoded, ImageError> {
    let failed = |error| failed(name, error);
    check_end(name, bytes)?;
    let mut decoder = WebPDecoder::new(Cursor::new(bytes)).map_err(failed)?;
    let (width, height) = decoder.dimensions();
    let pixels = check_size(name, [width, height], max_pixels)?;
    decoder.set_memory_limit(bytes.len()); // Of parts that are copied as they are.
    let channels = if decoder.has_alpha() { 4 } else { 3 };
    let mut rgb = vec![0; channels * pixels];
    decoder.read_image(&mut rgb).map_err(failed)?;
    if channels == 4 {
        rgb = rgb.chunks_exact(4).flat_map(|p| [p[0], p[1], p[2]]).collect();
    }
    let orientation = Orientation::from_exif(decoder.exif_metadata().ok().flatten().as_deref());
    Ok(Decoded { width, height, rgb, orientation, is_animated: decoder.is_animated() })
}

/// Compares the length that the file says with the one it has.
fn check_end(name: &str, bytes: &[u8]) -> Result<(), ImageError> {
    let said = bytes.get(4..).and_then(|bytes| bytes.first_chunk().copied());
    let said = said.map_or(0, |said| u64::from(u32::from_le_bytes(said)) + 8);
    let length = bytes.len() as u64;
    let whole = (length >= said).then_some(());
    whole.ok_or_else(|| ImageError::cut_off(name, KIND, format!("it has {length} of {said} bytes")))
}

fn failed(name: &str, error: DecodingError) -> ImageError {
    match error {
        DecodingError::IoError(error) if error.kind() == ErrorKind::UnexpectedEof => {
            ImageError::cut_off(name, KIND, "it ends within a chunk")
        }
        other => ImageError::broken(name, KIND, &other.to_string()),
    }
}
