//! Random numbers equal to torch's CPU generator.
//!
//! The same seed gives the same start on every backend, and the same start as diffusers with a
//! CPU generator. Sources: `aten/src/ATen/core/MT19937RNGEngine.h`, `DistributionsHelper.h` and
//! `native/cpu/DistributionTemplates.h` of PyTorch.

const N: usize = 624;
const M: usize = 397;

/// A Mersenne Twister (MT19937) with torch's way of making uniform and normal numbers from it.
#[derive(Clone)]
pub struct TorchGenerator {
    state: [u32; N],
    next: usize,
    /// The second value of a Box-Muller pair, kept for the next call of a small [`randn`](Self::randn).
    spare: Option<f64>,
}

impl std::fmt::Debug for TorchGenerator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TorchGenerator").field("next", &self.next).finish_non_exhaustive()
    }
}

impl TorchGenerator {
    /// `torch.Generator("cpu").manual_seed(seed)`. Like torch, it uses the low 32 bits of the seed.
    pub fn new(seed: u64) -> Self {
        let mut state = [0u32; N];
        state[0] = seed as u32;
        for i in 1..N {
            let previous = state[i - 1];
            state[i] =
                1_812_433_253u32.wrapping_mul(previous ^ (previous >> 30)).wrapping_add(i as u32);
        }
        Self { state, next: N, spare: None }
    }

    /// `torch.randn(n)` in f32.
    ///
    /// Torch's vectorised build rounds logarithm, sine and cosine by polynomials of its own: values
    /// here are within 3 ulp of it (and equal to within 5e-7).
    pub fn randn(&mut self, n: usize) -> Vec<f32> {
        if n < 16 {
            return (0..n).map(|_| self.normal() as f32).collect();
        }
        let mut values: Vec<f32> = self.rand(n);
        for group in values.chunks_exact_mut(16) {
            box_muller(group);
        }
        if !n.is_multiple_of(16) {
            // The last 16 values are drawn afresh, over what the groups before left there.
            let tail = self.rand(16);
            values[n - 16..].copy_from_slice(&tail);
            box_muller(&mut values[n - 16..]);
        }
        values
    }

    /// `torch.rand(n)` in f32: 24 random bits each, in `[0, 1)`.
    pub fn rand(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| (self.u32() & 0x00ff_ffff) as f32 * (1.0 / 16_777_216.0)).collect()
    }

    /// `torch.rand(n, dtype=torch.float64)`: 53 random bits each, in `[0, 1)`.
    pub fn rand_f64(&mut self, n: usize) -> Vec<f64> {
        (0..n).map(|_| self.uniform_f64()).collect()
    }

    fn normal(&mut self) -> f64 {
        if let Some(spare) = self.spare.take() {
            return spare;
        }
        let u1 = self.uniform_f64();
        let u2 = self.uniform_f64();
        let radius = (-2.0 * (-u2).ln_1p()).sqrt();
        let (sin, cos) = (2.0 * std::f64::consts::PI * u1).sin_cos();
        self.spare = Some(radius * sin);
        radius * cos
    }

    fn uniform_f64(&mut self) -> f64 {
        let high = u64::from(self.u32());
        let low = u64::from(self.u32());
        let bits = ((high << 32) | low) & ((1 << 53) - 1);
        bits as f64 * (1.0 / 9_007_199_254_740_992.0)
    }

    fn u32(&mut self) -> u32 {
        if self.next == N {
            self.twist();
        }
        let mut y = self.state[self.next];
        self.next += 1;
        y ^= y >> 11;
        y ^= (y << 7) & 0x9d2c_5680;
        y ^= (y << 15) & 0xefc6_0000;
        y ^ (y >> 18)
    }

    fn twist(&mut self) {
        for i in 0..N {
            let y = (self.state[i] & 0x8000_0000) | (self.state[(i + 1) % N] & 0x7fff_ffff);
            let matrix = if y & 1 == 0 { 0 } else { 0x9908_b0df };
            self.state[i] = self.state[(i + M) % N] ^ (y >> 1) ^ matrix;
        }
        self.next = 0;
    }
}

/// Turns 16 uniform numbers into 16 normal ones: pairs are (j, j + 8).
fn box_muller(values: &mut [f32]) {
    for j in 0..8 {
        let u1 = 1.0 - values[j];
        let u2 = values[j + 8];
        let radius = (-2.0 * f64::from(u1).ln() as f32).sqrt();
        let theta = f64::from(2.0 * std::f32::consts::PI * u2);
        values[j] = radius * theta.cos() as f32;
        values[j + 8] = radius * theta.sin() as f32;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mt19937_follows_the_published_sequence() {
        // First outputs of init_genrand(5489), the reference implementation's default seed.
        let mut generator = TorchGenerator::new(5489);
        let first: Vec<u32> = (0..5).map(|_| generator.u32()).collect();
        assert_eq!(first, [3499211612, 581869302, 3890346734, 3586334585, 545404204]);
    }

    #[test]
    fn only_the_low_32_bits_of_a_seed_count() {
        let a = TorchGenerator::new(7).randn(20);
        let b = TorchGenerator::new(7 + (1 << 32)).randn(20);
        assert_eq!(a, b);
    }
}
