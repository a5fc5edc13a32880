//! Which way a picture is held, as cameras note it in EXIF data.

/// How a stored picture becomes upright: it is mirrored on its diagonal first, then each axis of the
/// result may be reversed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Orientation {
    transpose: bool,
    reverse_columns: bool,
    reverse_rows: bool,
}

/// The tag of the orientation, and the type of its value.
const TAG: u16 = 0x0112;
const SHORT: u16 = 3;

impl Orientation {
    /// The orientation in EXIF data, which begin as a TIFF does. As stored if there is none, or none that
    /// can be read: a picture is not worth less for a broken note on it.
    pub(super) fn from_exif(exif: Option<&[u8]>) -> Self {
        // WebP and PNG files of some programs keep the head that it has in a JPEG.
        let tiff = exif.map(|exif| exif.strip_prefix(b"Exif\0\0").unwrap_or(exif));
        tiff.and_then(value).map(Self::from_value).unwrap_or_default()
    }

    fn from_value(value: u16) -> Self {
        let (transpose, reverse_columns, reverse_rows) = match value {
            2 => (false, true, false),
            3 => (false, true, true),
            4 => (false, false, true),
            5 => (true, false, false),
            6 => (true, true, false),
            7 => (true, true, true),
            8 => (true, false, true),
            _ => (false, false, false),
        };
        Self { transpose, reverse_columns, reverse_rows }
    }

    /// The upright picture and its size, from rgb24 of the size `[width, height]`.
    pub(super) fn apply(self, size: [u32; 2], rgb: Vec<u8>) -> ([u32; 2], Vec<u8>) {
        if self == Self::default() {
            return (size, rgb);
        }
        let [stored_width, stored_height] = size.map(|side| side as usize);
        let [width, height] = match self.transpose {
            true => [stored_height, stored_width],
            false => [stored_width, stored_height],
        };
        let mut upright = Vec::with_capacity(rgb.len());
        for row in 0..height {
            let row = if self.reverse_rows { height - 1 - row } else { row };
            for column in 0..width {
                let column = if self.reverse_columns { width - 1 - column } else { column };
                let (x, y) = if self.transpose { (row, column) } else { (column, row) };
                let at = 3 * (y * stored_width + x);
                upright.extend_from_slice(&rgb[at..at + 3]);
            }
        }
        ([width as u32, height as u32], upright)
    }
}

/// The value of the tag in the first directory.
fn value(tiff: &[u8]) -> Option<u16> {
    let little = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let u16_at = |at: usize| {
        let bytes = tiff.get(at..)?.first_chunk().copied()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let offset = tiff.get(4..)?.first_chunk().copied()?;
    let offset =
        if little { u32::from_le_bytes(offset) } else { u32::from_be_bytes(offset) } as usize;
    let entries = usize::from(u16_at(offset)?);
    let mut entries = (0..entries).map(|index| offset + 2 + 12 * index);
    let entry = entries.find(|&at| u16_at(at) == Some(TAG))?;
    (u16_at(entry + 2)? == SHORT).then(|| u16_at(entry + 8))?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows of three pixels, as the eight orientations show them.
    #[test]
    fn each_orientation_is_the_one_of_exif() {
        let shown = |value| {
            let rgb = b"abcdef".iter().flat_map(|&pixel| [pixel; 3]).collect();
            let ([width, height], rgb) = Orientation::from_value(value).apply([3, 2], rgb);
            let pixels: Vec<char> = rgb.iter().step_by(3).map(|&pixel| pixel.into()).collect();
            let rows: Vec<String> =
                pixels.chunks(width as usize).map(|row| row.iter().collect()).collect();
            assert_eq!(rows.len(), height as usize);
            rows.join("/")
        };
        let expected = [
            "abc/def", "abc/def", "cba/fed", "fed/cba", "def/abc", "ad/be/cf", "da/eb/fc",
            "fc/eb/da", "cf/be/ad", "abc/def",
        ];
        for (value, expected) in (0..).zip(expected) {
            assert_eq!(shown(value), expected, "{value}");
        }
    }

    /// EXIF data with one entry before that of the orientation.
    fn exif(little: bool, kind: u16, value: u16) -> Vec<u8> {
        let short = |v: u16| if little { v.to_le_bytes() } else { v.to_be_bytes() };
        let long = |v: u32| if little { v.to_le_bytes() } else { v.to_be_bytes() };
        let mut bytes = if little { b"II*\0" } else { b"MM\0*" }.to_vec();
        bytes.extend(long(8));
        bytes.extend(short(2));
        for (tag, kind, value) in [(0x0100, 3, 77), (TAG, kind, value)] {
            bytes.extend([short(tag), short(kind)].concat());
            bytes.extend(long(1));
            bytes.extend([short(value), short(0)].concat());
        }
        bytes
    }

    #[test]
    fn both_byte_orders_are_read_and_damage_is_passed_over() {
        let read = |bytes: &[u8]| Orientation::from_exif(Some(bytes));
        for little in [true, false] {
            let whole = exif(little, SHORT, 6);
            let expected = Orientation::from_value(6);
            assert_eq!(read(&whole), expected);
            assert_eq!(read(&[b"Exif\0\0", whole.as_slice()].concat()), expected);
            let value_ends = whole.len() - 2;
            for end in 0..value_ends {
                assert_eq!(read(&whole[..end]), Orientation::default(), "{end}");
            }
            assert_eq!(read(&exif(little, 7, 6)), Orientation::default());
            assert_eq!(read(&exif(little, SHORT, 9)), Orientation::default());
        }
        assert_eq!(read(b"MM\0*\xff\xff\xff\xff"), Orientation::default());
        assert_eq!(Orientation::from_exif(None), Orientation::default());
    }
}
