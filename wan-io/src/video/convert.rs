//! RGB and YUV 4:2:0: BT.709, limited range (ITU-R BT.709-6, section 3), in fixed point.

/// Weights of red and blue in the luma.
const KR: f64 = 0.2126;
const KB: f64 = 0.0722;

/// Fixed-point one.
const ONE: f64 = 65536.0;
const SHIFT: u32 = 16;

/// Luma steps, and steps of a colour difference, in 8-bit limited range.
const LUMA: f64 = 219.0 / 255.0;
const CHROMA: f64 = 224.0 / 255.0;

const fn fixed(value: f64) -> i32 {
    let scaled = value * ONE;
    (if scaled < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

const Y_R: i32 = fixed(KR * LUMA);
const Y_B: i32 = fixed(KB * LUMA);
// The rest, so that white is exactly 235, and grey has exactly no colour below.
const Y_G: i32 = fixed(LUMA) - Y_R - Y_B;

const U_R: i32 = fixed(-KR / (2.0 * (1.0 - KB)) * CHROMA);
const U_B: i32 = fixed(0.5 * CHROMA);
const U_G: i32 = -U_R - U_B;

const V_R: i32 = fixed(0.5 * CHROMA);
const V_B: i32 = fixed(-KB / (2.0 * (1.0 - KR)) * CHROMA);
const V_G: i32 = -V_R - V_B;

const R_V: i32 = fixed(2.0 * (1.0 - KR) / CHROMA);
const B_U: i32 = fixed(2.0 * (1.0 - KB) / CHROMA);
const G_U: i32 = fixed(-2.0 * (1.0 - KB) * KB / (1.0 - KR - KB) / CHROMA);
const G_V: i32 = fixed(-2.0 * (1.0 - KR) * KR / (1.0 - KR - KB) / CHROMA);
const RGB_Y: i32 = fixed(1.0 / LUMA);

/// A frame with one `u` and `v` for every 2x2 pixels. Width and height are even.
pub(super) struct Yuv420 {
    pub(super) width: usize,
    pub(super) height: usize,
    pub(super) y: Vec<u8>,
    pub(super) u: Vec<u8>,
    pub(super) v: Vec<u8>,
}

impl Yuv420 {
    /// A black frame.
    pub(super) fn new(width: usize, height: usize) -> Self {
        let pixels = width * height;
        Self {
            width,
            height,
            y: vec![16; pixels],
            u: vec![128; pixels / 4],
            v: vec![128; pixels / 4],
        }
    }

    /// Converts a rgb24 frame of the same size. The colour of a 2x2 block is that of its mean.
    pub(super) fn set_rgb(&mut self, rgb: &[u8]) {
        let width = self.width;
        let luma_rows = self.y.chunks_exact_mut(2 * width);
        let u_rows = self.u.chunks_exact_mut(width / 2);
        let v_rows = self.v.chunks_exact_mut(width / 2);
        let rows = rgb.chunks_exact(6 * width).zip(luma_rows);
        for ((rgb, y), (u, v)) in rows.zip(u_rows.zip(v_rows)) {
            for (y, rgb) in y.iter_mut().zip(rgb.chunks_exact(3)) {
                *y = luma(rgb);
            }
            let (top, bottom) = rgb.split_at(3 * width);
            let blocks = top.chunks_exact(6).zip(bottom.chunks_exact(6));
            for ((top, bottom), (u, v)) in blocks.zip(u.iter_mut().zip(v)) {
                (*u, *v) = chroma(top, bottom);
            }
        }
    }
}

fn luma(rgb: &[u8]) -> u8 {
    let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(i32::from);
    // 16 to 235: never out of range.
    (((Y_R * r + Y_G * g + Y_B * b + (1 << (SHIFT - 1))) >> SHIFT) + 16) as u8
}

/// The colour of two pixels above two pixels.
fn chroma(top: &[u8], bottom: &[u8]) -> (u8, u8) {
    let sum = |c: usize| [top[c], top[c + 3], bottom[c], bottom[c + 3]].map(i32::from);
    let [r, g, b] = [sum(0), sum(1), sum(2)].map(|four| four.iter().sum::<i32>());
    // The sums are four times the mean, hence two bits more; 16 to 240: never out of range.
    let round = |scaled: i32| (((scaled + (1 << (SHIFT + 1))) >> (SHIFT + 2)) + 128) as u8;
    (round(U_R * r + U_G * g + U_B * b), round(V_R * r + V_G * g + V_B * b))
}

/// One pixel back to RGB.
pub(super) fn rgb(y: u8, u: u8, v: u8) -> [u8; 3] {
    let y = (i32::from(y) - 16) * RGB_Y + (1 << (SHIFT - 1));
    let (u, v) = (i32::from(u) - 128, i32::from(v) - 128);
    [y + R_V * v, y + G_U * u + G_V * v, y + B_U * u].map(|c| (c >> SHIFT).clamp(0, 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The conversion in floating point, straight from the recommendation.
    fn exact(r: f64, g: f64, b: f64) -> [f64; 3] {
        let y = KR * r + (1.0 - KR - KB) * g + KB * b;
        [
            16.0 + LUMA * y,
            128.0 + CHROMA * (b - y) / (2.0 * (1.0 - KB)),
            128.0 + CHROMA * (r - y) / (2.0 * (1.0 - KR)),
        ]
    }

    fn convert(pixels: [[u8; 3]; 4]) -> Yuv420 {
        let mut yuv = Yuv420::new(2, 2);
        yuv.set_rgb(&pixels.concat());
        yuv
    }

    #[test]
    fn known_colours() {
        for (rgb, yuv) in [
            ([0, 0, 0], [16, 128, 128]),
            ([255, 255, 255], [235, 128, 128]),
            ([255, 0, 0], [63, 102, 240]),
            ([0, 255, 0], [173, 42, 26]),
            ([0, 0, 255], [32, 240, 118]),
        ] {
            let found = convert([rgb; 4]);
            assert_eq!([found.y[0], found.u[0], found.v[0]], yuv, "{rgb:?}");
        }
        for grey in 0..=255 {
            let found = convert([[grey; 3]; 4]);
            assert_eq!((found.u[0], found.v[0]), (128, 128));
        }
    }

    #[test]
    fn equal_to_floating_point_and_back() {
        for r in (0..=255u8).step_by(15) {
            for g in (0..=255u8).step_by(15) {
                for b in (0..=255u8).step_by(15) {
                    let found = convert([[r, g, b]; 4]);
                    let expected = exact(r.into(), g.into(), b.into());
                    let [y, u, v] = [found.y[0], found.u[0], found.v[0]];
                    for (found, expected) in [y, u, v].into_iter().zip(expected) {
                        assert!((f64::from(found) - expected).abs() < 0.51);
                    }
                    // Limited range has fewer steps than RGB, so the way back is not exact.
                    for (back, from) in rgb(y, u, v).into_iter().zip([r, g, b]) {
                        assert!(back.abs_diff(from) <= 2, "{from} became {back}");
                    }
                }
            }
        }
    }

    #[test]
    fn colour_is_that_of_the_mean_of_its_own_block() {
        // Two blocks side by side, each with four different pixels, in a 4x2 frame.
        let block = [[200, 0, 0], [0, 100, 0], [0, 0, 52], [40, 60, 8]];
        let grey = [[10u8; 3], [20; 3], [30; 3], [40; 3]];
        let rows = [block[0], block[1], grey[0], grey[1], block[2], block[3], grey[2], grey[3]];
        let mut yuv = Yuv420::new(4, 2);
        yuv.set_rgb(&rows.concat());
        let [_, u, v] = exact(60.0, 40.0, 15.0);
        assert_eq!(yuv.u, [u.round() as u8, 128]);
        assert_eq!(yuv.v, [v.round() as u8, 128]);
        let lumas = rows.map(|[r, g, b]| exact(r.into(), g.into(), b.into())[0].round() as u8);
        assert_eq!(yuv.y, lumas);
    }

    #[test]
    fn values_outside_the_range_are_clamped() {
        for (y, u, v) in [(0, 0, 0), (255, 255, 255), (255, 0, 255), (0, 255, 0)] {
            let _ = rgb(y, u, v);
        }
        assert_eq!(rgb(0, 128, 128), [0; 3]);
        assert_eq!(rgb(255, 128, 128), [255; 3]);
    }
}
