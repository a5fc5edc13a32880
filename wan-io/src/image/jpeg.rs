//! JPEG: baseline and progressive, gray, colour and CMYK.

use zune_jpeg::JpegDecoder;
use zune_jpeg::errors::DecodeErrors;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Decoded, ImageError, check_size, orientation::Orientation};

const KIND: &str = "JPEG";

/// The longest side that the format can express.
const MAX_SIDE: usize = 65_535;

/// The second bytes of markers.
const START_OF_FRAME: u8 = 0xC0;
const END_OF_IMAGE: u8 = 0xD9;
const START_OF_SCAN: u8 = 0xDA;

pub(super) fn decode(name: &str, bytes: &[u8], max_pixels: u64) -> Result<Decoded, ImageError> {
    check_markers(name, bytes)?;
    let options = DecoderOptions::default()
        .set_max_width(MAX_SIDE)
        .set_max_height(MAX_SIDE)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|error| failed(name, &error))?;
    let info = decoder.info().ok_or_else(|| ImageError::broken(name, KIND, "it has no header"))?;
    let [width, height] = [info.width, info.height].map(u32::from);
    check_size(name, [width, height], max_pixels)?;
    if ![1, 3, 4].contains(&info.components) {
        let found = format!("it has {} channels, but 1, 3 and 4 are read", info.components);
        return Err(ImageError::broken(name, KIND, &found));
    }
    let orientation = Orientation::from_exif(decoder.exif().map(Vec::as_slice));
    let rgb = decoder.decode().map_err(|error| failed(name, &error))?;
    Ok(Decoded { width, height, rgb, orientation, is_animated: false })
}

/// Looks for what the decoder passes over: it would make up pixels that are missing.
///
/// An end-of-image marker must stand behind the header. The header may hold whole pictures, as thumbnails;
/// compressed pixels cannot hold a marker.
fn check_markers(name: &str, bytes: &[u8]) -> Result<(), ImageError> {
    let cut_off = || ImageError::cut_off(name, KIND, "it has no end-of-image marker");
    let mut rest = bytes.get(2..).unwrap_or_default();
    loop {
        match rest {
            [0xFF, START_OF_SCAN, scan @ ..] => {
                let is_whole = scan.windows(2).any(|marker| marker == [0xFF, END_OF_IMAGE]);
                return is_whole.then_some(()).ok_or_else(cut_off);
            }
            [0xFF, marker @ (0xC3 | 0xC5..=0xC7 | 0xC9..=0xCB | 0xCD..=0xCF), ..] => {
                let kind = marker - START_OF_FRAME;
                let found = format!(
                    "its pixels are coded as SOF{kind} (lossless, hierarchical or arithmetic), but \
                     only baseline and progressive JPEG are decoded"
                );
                return Err(ImageError::broken(name, KIND, &found));
            }
            [0xFF, marker, high, low, ..] if *marker != 0xFF => {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                rest = rest.get(2 + length..).unwrap_or_default();
            }
            [_, after @ ..] => rest = after, // Markers may be padded.
            [] => return Err(cut_off()),
        }
    }
}

fn failed(name: &str, error: &DecodeErrors) -> ImageError {
    let found = match error {
        DecodeErrors::Format(found) => found.clone(),
        DecodeErrors::FormatStatic(found) => (*found).to_owned(),
        other => other.to_string(),
    };
    ImageError::broken(name, KIND, &found)
}
