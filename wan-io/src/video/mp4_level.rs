//! The level of an H.264 stream: what a decoder must be able to do (ITU-T H.264, annex A.3).

use super::VideoSpec;

/// A row of table A-1.
struct Level {
    /// Ten times the number of the level, as it is stored.
    code: u8,
    /// Most macroblocks a second.
    rate: u64,
    /// Most macroblocks of a frame.
    frame: u64,
    /// Most kilobits a second, of 1250 bits in the High profile.
    kilobits: u64,
}

const LEVELS: [Level; 19] = [
    level(10, 1485, 99, 64),
    level(11, 3000, 396, 192),
    level(12, 6000, 396, 384),
    level(13, 11_880, 396, 768),
    level(20, 11_880, 396, 2000),
    level(21, 19_800, 792, 4000),
    level(22, 20_250, 1620, 4000),
    level(30, 40_500, 1620, 10_000),
    level(31, 108_000, 3600, 14_000),
    level(32, 216_000, 5120, 20_000),
    level(40, 245_760, 8192, 20_000),
    level(41, 245_760, 8192, 50_000),
    level(42, 522_240, 8704, 50_000),
    level(50, 589_824, 22_080, 135_000),
    level(51, 983_040, 36_864, 240_000),
    level(52, 2_073_600, 36_864, 240_000),
    level(60, 4_177_920, 139_264, 240_000),
    level(61, 8_355_840, 139_264, 480_000),
    level(62, 16_711_680, 139_264, 800_000),
];

const fn level(code: u8, rate: u64, frame: u64, kilobits: u64) -> Level {
    Level { code, rate, frame, kilobits }
}

/// The lowest level, from `least` on, that allows the size and rate of a video whose samples have
/// `sizes` bytes; the highest there is if none does.
pub(super) fn lowest(least: u8, spec: &VideoSpec, sizes: &[u32]) -> u8 {
    const LEVEL_1B: u8 = 9; // It lies between 1 and 1.1.

    let least = if least == LEVEL_1B { 11 } else { least };
    let [width, height] = [spec.width, spec.height].map(|side| u64::from(side.div_ceil(16)));
    let (frame, longest) = (width * height, width.max(height));
    let (frames, seconds) = (u64::from(spec.fps.numerator()), u64::from(spec.fps.denominator()));
    let a_second = usize::try_from(frames.div_ceil(seconds)).unwrap_or(usize::MAX);
    let bytes = busiest(sizes, a_second);
    let allows = |level: &&Level| {
        level.code >= least
            && frame <= level.frame
            && longest * longest <= 8 * level.frame
            && frame * frames <= level.rate * seconds
            && 8 * bytes <= 1250 * level.kilobits
    };
    LEVELS.iter().find(allows).map_or(62, |level| level.code)
}

/// The bytes of those `count` samples in a row that have the most.
fn busiest(sizes: &[u32], count: usize) -> u64 {
    let (mut sum, mut most) = (0, 0);
    for (index, &size) in sizes.iter().enumerate() {
        sum += u64::from(size);
        if let Some(left) = index.checked_sub(count) {
            sum -= u64::from(sizes[left]);
        }
        most = most.max(sum);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::video::FrameRate;

    #[test]
    fn levels_follow_size_rate_and_bytes() {
        let of = |width, height, fps: &str, sizes: &[u32]| {
            let fps: FrameRate = fps.parse().unwrap();
            lowest(9, &VideoSpec { width, height, fps, frames: sizes.len() as u32 }, sizes)
        };
        for (width, height, fps, expected) in [
            (16, 16, "1", 11),
            (832, 480, "16", 30),
            (832, 480, "25.96", 30),
            (832, 480, "25.97", 31),
            (480, 832, "240", 42),
            (1280, 720, "16", 31),
            (1280, 720, "29.97", 31),
            (1280, 720, "30", 31),
            (1280, 720, "31", 32),
            (1920, 1080, "30000/1001", 40),
            (3840, 2160, "60", 52),
            (3840, 2160, "240", 61),
            (3840, 2160, "1000", 62),
            // A long side takes a level that a square of as many pixels does not need.
            (3840, 16, "1", 40),
        ] {
            assert_eq!(of(width, height, fps, &[100]), expected, "{width}x{height} at {fps}");
        }
        assert_eq!(of(832, 480, "2", &[700_000, 0, 700_000, 0]), 30);
        assert_eq!(of(832, 480, "2", &[700_000, 0, 900_000, 900_000]), 31, "14.4 Mbit in a second");
        assert_eq!(of(16, 16, "24", &[u32::MAX]), 62);
        let spec = VideoSpec { width: 16, height: 16, fps: FrameRate::new(1), frames: 1 };
        assert_eq!(lowest(41, &spec, &[1]), 41, "what the encoder asks for");
    }

    #[test]
    fn the_busiest_second_is_found_anywhere() {
        assert_eq!(busiest(&[1, 2, 9, 4], 2), 13);
        assert_eq!(busiest(&[9, 4, 1], 1), 9);
        assert_eq!(busiest(&[1, 2, 3], 9), 6);
        assert_eq!(busiest(&[], 1), 0);
    }
}
