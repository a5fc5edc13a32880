//! AVX2 and FMA: products of f32, of bf16 that is widened in registers or was before.

use std::arch::x86_64::*;

use super::tile::{DEPTH, Dense, LANES, Operands, Row, Tile};

/// Rows at a time: with two registers of sums each, and four for the right operand, all sixteen registers.
pub(super) const ROWS: usize = 6;

/// # Safety
/// The processor must have AVX2 and FMA.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn multiply(operands: &Operands, tile: &mut Tile) {
    for (panel, words) in operands.panels.iter().enumerate() {
        // SAFETY: [`Operands::new`] has compared what is read with the slices, for `ROWS` rows.
        let sums = unsafe { sums(operands, words.as_ptr()) };
        for (sums, row) in sums.into_iter().zip(&mut tile.0) {
            let row = &mut row[panel * LANES..(panel + 1) * LANES];
            // SAFETY: a row of a panel has two registers of elements.
            unsafe {
                _mm256_storeu_ps(row.as_mut_ptr(), sums[0]);
                _mm256_storeu_ps(row.as_mut_ptr().add(8), sums[1]);
            }
        }
    }
}

/// # Safety
/// As [`multiply`]; `right` must be a panel of the operands.
#[target_feature(enable = "avx2,fma")]
unsafe fn sums(operands: &Operands, right: *const u32) -> [[__m256; 2]; ROWS] {
    let left = operands.left;
    let pairs = left.depth.div_ceil(2);
    let stretch = left.depth.next_multiple_of(DEPTH) / 2 * LANES;
    let upper = _mm256_set1_epi32(0xffff_0000_u32 as i32);
    let mut sums = [[_mm256_setzero_ps(); 2]; ROWS];
    // SAFETY: as above.
    unsafe {
        for (i, tap) in left.taps.iter().enumerate() {
            let mut x = left.words.as_ptr().add(operands.start + tap).cast::<f32>();
            let mut right = right.add(i * stretch);
            for _ in 0..pairs {
                let pair = [right, right.add(8)].map(|at| _mm256_loadu_si256(at.cast()));
                let even = pair.map(|pair| _mm256_castsi256_ps(_mm256_slli_epi32::<16>(pair)));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = _mm256_broadcast_ss(&*x.add(row));
                    sums[0] = _mm256_fmadd_ps(x, even[0], sums[0]);
                    sums[1] = _mm256_fmadd_ps(x, even[1], sums[1]);
                }
                let odd = pair.map(|pair| _mm256_castsi256_ps(_mm256_and_si256(pair, upper)));
                let next = x.add(left.step);
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = _mm256_broadcast_ss(&*next.add(row));
                    sums[0] = _mm256_fmadd_ps(x, odd[0], sums[0]);
                    sums[1] = _mm256_fmadd_ps(x, odd[1], sums[1]);
                }
                x = next.wrapping_add(left.step); // after the last pair perhaps beyond the words
                right = right.add(LANES);
            }
        }
    }
    sums
}

/// # Safety
/// The processor must have AVX2 and FMA, and the left operand as many rows as `out`.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn multiply_dense(operands: &Dense, mut out: &mut [Row]) {
    let mut operands = *operands;
    while !out.is_empty() {
        // SAFETY: the processor has what it needs; there are as many rows.
        let rows = unsafe {
            match out.len() {
                ROWS.. => dense::<ROWS>(&operands, out),
                4.. => dense::<4>(&operands, out),
                2.. => dense::<2>(&operands, out),
                _ => dense::<1>(&operands, out),
            }
        };
        operands.left = &operands.left[rows * operands.stride..];
        out = &mut out[rows..];
    }
}

/// Computes the first `R` rows.
///
/// # Safety
/// The processor must have AVX2 and FMA, and the operands and `out` at least so many rows.
#[target_feature(enable = "avx2,fma")]
unsafe fn dense<const R: usize>(operands: &Dense, out: &mut [Row]) -> usize {
    let Dense { left, stride, depth, panels, adds } = *operands;
    for (panel, right) in panels.iter().enumerate() {
        let columns = panel * LANES..(panel + 1) * LANES;
        let mut sums = [[_mm256_setzero_ps(); 2]; R];
        // SAFETY: [`Dense::new`] has compared what is read with the slices; a row of a panel has two registers of
        // elements.
        unsafe {
            if adds {
                for (sums, row) in sums.iter_mut().zip(&*out) {
                    let row = row[columns.clone()].as_ptr();
                    *sums = [_mm256_loadu_ps(row), _mm256_loadu_ps(row.add(8))];
                }
            }
            let (mut x, mut right) = (left.as_ptr(), right.as_ptr());
            for _ in 0..depth {
                let y = [_mm256_loadu_ps(right), _mm256_loadu_ps(right.add(8))];
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = _mm256_broadcast_ss(&*x.add(row * stride));
                    sums[0] = _mm256_fmadd_ps(x, y[0], sums[0]);
                    sums[1] = _mm256_fmadd_ps(x, y[1], sums[1]);
                }
                x = x.add(1);
                right = right.add(LANES);
            }
            for (sums, row) in sums.into_iter().zip(&mut *out) {
                let row = row[columns.clone()].as_mut_ptr();
                _mm256_storeu_ps(row, sums[0]);
                _mm256_storeu_ps(row.add(8), sums[1]);
            }
        }
    }
    R
}
