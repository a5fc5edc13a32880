//! Functions that vectorise: no branches, no calls.

use super::parallel::inlined;

/// `e^x` within 2 ulp for normal results; below -87 it stays at the smallest normal number.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    // e^x = 2^n e^r with |r| <= ln(2) / 2. Adding 1.5 * 2^23 rounds to whole numbers and leaves n in
    // the low bits.
    const ROUND: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = x.clamp(-87.3, 88.7);
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    // The Taylor series, its last terms fitted to the interval (Cephes `expf`).
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let e_r = p * r * r + r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(ROUND.to_bits()).wrapping_add(127) << 23;
    e_r * f32::from_bits(exponent)
}

/// `x / (1 + e^-x)`
#[inline(always)]
pub(super) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// `x / 2 (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`
#[inline(always)]
pub(super) fn gelu(x: f32) -> f32 {
    const TWO_SQRT_2_PI: f32 = 1.595_769_2;
    x / (1.0 + exp(-TWO_SQRT_2_PI * (x + 0.044_715 * x * x * x)))
}

/// How many partial sums a sum has: as many as the widest vector register has lanes.
const LANES: usize = 16;

/// Sum of the values.
#[inline(always)]
pub(super) fn sum(values: &[f32]) -> f32 {
    sum_of(values, inlined!(|x| x))
}

/// Sum of `x^2`.
#[inline(always)]
pub(super) fn sum_of_squares(values: &[f32]) -> f32 {
    sum_of(values, inlined!(|x| x * x))
}

/// Sum of `(x - mean)^2`.
#[inline(always)]
pub(super) fn sum_of_squared_deviations(values: &[f32], mean: f32) -> f32 {
    sum_of(values, inlined!(|x| (x - mean) * (x - mean)))
}

#[inline(always)]
fn sum_of(values: &[f32], map: impl Fn(f32) -> f32) -> f32 {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut sums = [0f32; LANES];
    for block in blocks {
        for (sum, &x) in sums.iter_mut().zip(block) {
            *sum += map(x);
        }
    }
    sums.iter().sum::<f32>() + rest.iter().map(|&x| map(x)).sum::<f32>()
}

/// The largest value.
#[inline(always)]
pub(super) fn max(values: &[f32]) -> f32 {
    let (blocks, rest) = values.as_chunks::<LANES>();
    let mut most = [f32::NEG_INFINITY; LANES];
    for block in blocks {
        for (most, &x) in most.iter_mut().zip(block) {
            *most = if x > *most { x } else { *most };
        }
    }
    most.iter().chain(rest).fold(f32::NEG_INFINITY, |most, &x| most.max(x))
}

/// Turns scores into weights relative to the largest score so far, and brings what was summed before
/// to the same scale.
#[inline(always)]
pub(super) fn update_softmax(
    scores: &mut [f32],
    largest: &mut f32,
    total: &mut f32,
    values: &mut [f32],
) {
    let new = max(scores).max(*largest);
    if *largest != f32::NEG_INFINITY && new != *largest {
        let shrink = exp(*largest - new);
        *total *= shrink;
        values.iter_mut().for_each(|value| *value *= shrink);
    }
    *largest = new;
    scores.iter_mut().for_each(|score| *score = exp(*score - new));
    *total += sum(scores);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_exact_to_two_ulp() {
        for i in -870_000..=880_000 {
            let x = i as f32 * 1e-4;
            let exact = f64::from(x).exp();
            let error = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(error < 2.0 * f64::from(f32::EPSILON), "exp({x}): {error}");
        }
    }

    #[test]
    fn activations_are_finite_at_the_ends() {
        for x in [-1e30, -100.0, 0.0, 100.0, 1e12] {
            assert!(silu(x).is_finite() && gelu(x).is_finite(), "{x}");
        }
        assert_eq!(exp(-1e30), exp(-87.3));
        assert!(exp(f32::NAN).is_nan());
    }
}
