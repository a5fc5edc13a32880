//! Frames a second, as an exact fraction.

use std::{cmp::Ordering, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Frames a second, as a fraction in lowest terms.
///
/// It is parsed from a whole number, a decimal or a fraction. The rates of television are
/// multiples of 1000/1001, and known by decimals that only come near: such a decimal is taken
/// as the rate it stands for.
///
/// ```
/// use wan_io::video::FrameRate;
///
/// let film: FrameRate = "23.976".parse()?;
/// assert_eq!(Some(film), FrameRate::fraction(24_000, 1001));
/// assert_eq!(film.to_string(), "23.976");
/// assert_eq!("16.0".parse::<FrameRate>()?, 16);
/// # Ok::<(), wan_io::video::FrameRateError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "Stored", try_from = "Stored")]
pub struct FrameRate {
    numerator: u32,
    denominator: u32,
}

/// Why a text is no frame rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a frame rate is a number such as 24 or 23.976, or a fraction such as 24000/1001, not `{text}`"
)]
pub struct FrameRateError {
    text: String,
}

impl FrameRate {
    /// A whole number of frames a second.
    pub const fn new(fps: u32) -> Self {
        Self { numerator: fps, denominator: 1 }
    }

    /// `numerator` frames in `denominator` seconds; `None` if these are 0 seconds.
    pub fn fraction(numerator: u32, denominator: u32) -> Option<Self> {
        (denominator != 0).then(|| Self::nearest(numerator.into(), denominator.into()))
    }

    /// Frames in [`denominator`](Self::denominator) seconds.
    pub const fn numerator(self) -> u32 {
        self.numerator
    }

    /// Seconds that [`numerator`](Self::numerator) frames take.
    pub const fn denominator(self) -> u32 {
        self.denominator
    }

    /// The nearest floating-point number.
    pub fn as_f64(self) -> f64 {
        f64::from(self.numerator) / f64::from(self.denominator)
    }

    /// The fraction in lowest terms, or one near it where these do not fit into 32 bits.
    pub(super) fn nearest(numerator: u64, denominator: u64) -> Self {
        let divisor = common_divisor(numerator, denominator);
        let terms = [numerator / divisor, denominator / divisor];
        match terms.map(u32::try_from) {
            [Ok(numerator), Ok(denominator)] => Self { numerator, denominator },
            _ => Self::nearest(terms[0] / 2, (terms[1] / 2).max(1)),
        }
    }
}

/// The greatest common divisor; `b` is not 0.
fn common_divisor(a: u64, b: u64) -> u64 {
    match a % b {
        0 => b,
        rest => common_divisor(b, rest),
    }
}

impl From<u32> for FrameRate {
    fn from(fps: u32) -> Self {
        Self::new(fps)
    }
}

impl PartialEq<u32> for FrameRate {
    fn eq(&self, fps: &u32) -> bool {
        *self == Self::new(*fps)
    }
}

impl Ord for FrameRate {
    fn cmp(&self, other: &Self) -> Ordering {
        let product = |a: u32, b: u32| u64::from(a) * u64::from(b);
        product(self.numerator, other.denominator).cmp(&product(other.numerator, self.denominator))
    }
}

impl PartialOrd for FrameRate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The shortest of what parses to the same rate: a decimal of up to three digits after the point,
/// or the fraction.
impl fmt::Display for FrameRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimal = format!("{:.3}", self.as_f64());
        let decimal = decimal.trim_end_matches('0').trim_end_matches('.');
        if decimal.parse() == Ok(*self) {
            return f.pad(decimal);
        }
        f.pad(&format!("{}/{}", self.numerator, self.denominator))
    }
}

impl FromStr for FrameRate {
    type Err = FrameRateError;

    fn from_str(text: &str) -> Result<Self, FrameRateError> {
        let trimmed = text.trim();
        let rate = match trimmed.split_once('/') {
            Some((numerator, denominator)) => whole(numerator)
                .zip(whole(denominator))
                .and_then(|(numerator, denominator)| Self::fraction(numerator, denominator)),
            None => decimal(trimmed),
        };
        rate.ok_or_else(|| FrameRateError { text: text.into() })
    }
}

/// A whole number without a sign.
fn whole(text: &str) -> Option<u32> {
    text.trim().parse().ok().filter(|_| !text.contains('+'))
}

fn decimal(text: &str) -> Option<FrameRate> {
    /// More digits after the point than tell any two rates apart.
    const DIGITS: usize = 9;

    let (before, after) = text.split_once('.').unwrap_or((text, ""));
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if before.len() + after.len() == 0 || !is_number(before) || !is_number(after) {
        return None;
    }
    let after = after[..after.len().min(DIGITS)].trim_end_matches('0');
    let unit = 10u64.pow(after.len() as u32);
    let number = |text: &str| if text.is_empty() { Some(0) } else { text.parse::<u32>().ok() };
    let scaled = u64::from(number(before)?) * unit + u64::from(number(after)?);
    let rate = FrameRate::nearest(scaled, unit);
    // One digit, as in 12.5, names no rate of television.
    Some(if after.len() < 2 { rate } else { television(scaled, unit).unwrap_or(rate) })
}

/// The rate n * 1000/1001 that `scaled / unit` was rounded or cut off from.
fn television(scaled: u64, unit: u64) -> Option<FrameRate> {
    let (scaled, unit) = (u128::from(scaled), u128::from(unit));
    let n = (scaled * 1001 + unit * 500) / (unit * 1000);
    // All times 1001 * unit, so that one in the last digit is 1001.
    let (exact, given) = (n * 1000 * unit, scaled * 1001);
    let (rounded, cut_off) = (2 * given <= 2 * exact + 1001, exact < given + 1001);
    let numerator = u32::try_from(n * 1000).ok()?;
    FrameRate::fraction(numerator, 1001).filter(|_| rounded && cut_off)
}

/// A rate in metadata: a whole number as a number, any other as text.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Stored {
    Whole(u32),
    Number(f64),
    Text(String),
}

impl From<FrameRate> for Stored {
    fn from(rate: FrameRate) -> Self {
        match rate {
            FrameRate { numerator, denominator: 1 } => Self::Whole(numerator),
            rate => Self::Text(rate.to_string()),
        }
    }
}

impl TryFrom<Stored> for FrameRate {
    type Error = FrameRateError;

    fn try_from(stored: Stored) -> Result<Self, FrameRateError> {
        match stored {
            Stored::Whole(fps) => Ok(fps.into()),
            Stored::Number(fps) => fps.to_string().parse(),
            Stored::Text(text) => text.parse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(text: &str) -> FrameRate {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    fn terms(text: &str) -> (u32, u32) {
        (rate(text).numerator, rate(text).denominator)
    }

    #[test]
    fn rates_are_exact() {
        for (text, expected) in [
            ("24", (24, 1)),
            ("16.0", (16, 1)),
            ("16.000", (16, 1)),
            ("60.", (60, 1)),
            (" 25 ", (25, 1)),
            ("12.5", (25, 2)),
            ("12.50", (25, 2)),
            ("29.9", (299, 10)),
            ("59.9", (599, 10)),
            (".5", (1, 2)),
            ("33.333", (33_333, 1000)),
            ("24/1", (24, 1)),
            ("48000/2002", (24_000, 1001)),
            ("100 / 3", (100, 3)),
            ("0", (0, 1)),
            ("0/7", (0, 1)),
            ("4294967295/4294967294", (u32::MAX, u32::MAX - 1)),
        ] {
            assert_eq!(terms(text), expected, "{text}");
        }
    }

    #[test]
    fn decimals_of_television_are_multiples_of_1000_to_1001() {
        for (texts, numerator) in [
            (&["23.976", "23.98", "23.97", "23.9760", "23.97602", "23.976023976"][..], 24_000),
            (&["29.97", "29.970", "29.97003", "29.97002997002997"], 30_000),
            (&["59.94", "59.940", "59.9401", "60000/1001"], 60_000),
            (&["47.952", "47.95"], 48_000),
            (&["119.88", "119.8801"], 120_000),
            (&["239.76"], 240_000),
            (&["14.985"], 15_000),
        ] {
            for text in texts {
                assert_eq!(terms(text), terms(&format!("{numerator}/1001")), "{text}");
            }
        }
        for text in ["23.95", "23.9", "23.99", "29.96", "29.971", "59.942", "24.0", "30.00"] {
            assert_ne!(rate(text).denominator % 1001, 0, "{text}");
        }
    }

    #[test]
    fn what_is_shown_is_short_and_means_the_same() {
        for (text, expected) in [
            ("24.0", "24"),
            ("24000/1001", "23.976"),
            ("30000/1001", "29.97"),
            ("60000/1001", "59.94"),
            ("25/2", "12.5"),
            ("1/2", "0.5"),
            ("100/3", "100/3"),
            ("2100/131", "2100/131"),
            ("1299/100", "1299/100"), // 12.99 is 13000/1001
        ] {
            assert_eq!(rate(text).to_string(), expected);
        }
        for numerator in (1..100_000).step_by(37) {
            for denominator in [1, 2, 3, 7, 10, 100, 999, 1000, 1001, 4096, 12_345] {
                let rate = FrameRate::fraction(numerator, denominator).unwrap();
                assert_eq!(rate.to_string().parse(), Ok(rate));
            }
        }
        assert_eq!(format!("{:>4}|{:<4}|", FrameRate::new(16), FrameRate::new(5)), "  16|5   |");
    }

    #[test]
    fn what_is_no_rate_is_refused() {
        for text in [
            "",
            " ",
            ".",
            "/",
            "24/",
            "/1",
            "1/0",
            "0/0",
            "-1",
            "-24/1",
            "+24",
            "+1/1",
            "1/-1",
            "24,5",
            "24fps",
            "1e3",
            "nan",
            "inf",
            "1/2/3",
            "1.5/2",
            "0x10",
            "٢٤",
            "4294967296",
            "99999999999999999999",
            "1/4294967296",
        ] {
            let error = text.parse::<FrameRate>().unwrap_err().to_string();
            assert!(error.ends_with(&format!("not `{text}`")), "{error}");
        }
    }

    #[test]
    fn endless_digits_come_near() {
        let long = format!("23.{}", "123456789".repeat(1000));
        let close = |text: &str, expected: f64| (rate(text).as_f64() - expected).abs() < 1e-6;
        assert!(close(&long, 23.123_456_789));
        assert!(close("0.123456789", 0.123_456_789));
    }

    #[test]
    fn rates_are_ordered_by_their_value() {
        let mut rates = ["24", "1/3", "23.976", "0", "100/3", "25"].map(rate);
        rates.sort();
        assert_eq!(rates.map(|rate| rate.to_string()), ["0", "1/3", "23.976", "24", "25", "100/3"]);
    }

    #[test]
    fn whole_rates_are_stored_as_numbers_and_others_as_text() {
        for (text, json) in [("24", "24"), ("23.976", "\"23.976\""), ("100/3", "\"100/3\"")] {
            assert_eq!(serde_json::to_string(&rate(text)).unwrap(), json);
            assert_eq!(serde_json::from_str::<FrameRate>(json).unwrap(), rate(text));
        }
        let read = serde_json::from_str::<FrameRate>;
        assert_eq!(read("23.976").unwrap(), rate("24000/1001"));
        assert_eq!(read("16.0").unwrap(), 16);
        for json in ["-1", "1e300", "4294967296", "\"fast\"", "null", "[24]"] {
            assert!(read(json).is_err(), "{json}");
        }
    }
}
