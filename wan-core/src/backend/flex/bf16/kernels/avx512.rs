//! AVX-512: products of f32, of bf16 that is widened in registers or was before; and of pairs of bf16, where the
//! processor has them.

use std::arch::x86_64::*;

use super::tile::{DEPTH, Dense, LANES, Operands, PANELS, Row, Tile};

/// Rows at a time: with two registers of sums each, 24 of 32 registers.
pub(super) const ROWS: usize = 12;

/// The most rows that one call reads: a kernel of as many rows as are needed, or a few more.
pub(super) fn read_rows(rows: usize) -> usize {
    [1, 2, 4, 8, ROWS].into_iter().find(|&some| some >= rows).unwrap_or(ROWS)
}

/// Calls a kernel with the numbers of rows and panels as constants.
macro_rules! with_constants {
    ($kernel:ident, $operands:expr, $tile:expr) => {
        match (read_rows($operands.rows), $operands.panels.len()) {
            (1, 1) => $kernel::<1, 1>($operands, $tile),
            (2, 1) => $kernel::<2, 1>($operands, $tile),
            (4, 1) => $kernel::<4, 1>($operands, $tile),
            (8, 1) => $kernel::<8, 1>($operands, $tile),
            (_, 1) => $kernel::<ROWS, 1>($operands, $tile),
            (1, _) => $kernel::<1, PANELS>($operands, $tile),
            (2, _) => $kernel::<2, PANELS>($operands, $tile),
            (4, _) => $kernel::<4, PANELS>($operands, $tile),
            (8, _) => $kernel::<8, PANELS>($operands, $tile),
            (_, _) => $kernel::<ROWS, PANELS>($operands, $tile),
        }
    };
}

/// # Safety
/// The processor must have AVX-512F.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn multiply(operands: &Operands, tile: &mut Tile) {
    // SAFETY: the processor has what it needs; the operands have as many panels.
    unsafe { with_constants!(widened, operands, tile) }
}

/// # Safety
/// The processor must have AVX-512F and AVX512-BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn multiply_pairs(operands: &Operands, tile: &mut Tile) {
    // SAFETY: the processor has what it needs; the operands have as many panels.
    unsafe { with_constants!(by_pairs, operands, tile) }
}

/// # Safety
/// The processor must have AVX-512F, and the left operand as many rows as `out`.
#[target_feature(enable = "avx512f")]
pub(super) unsafe fn multiply_dense(operands: &Dense, mut out: &mut [Row]) {
    let mut operands = *operands;
    while !out.is_empty() {
        // SAFETY: the processor has what it needs; there are as many rows and panels.
        let rows = unsafe {
            match (out.len(), operands.panels.len()) {
                (ROWS.., 1) => dense::<ROWS, 1>(&operands, out),
                (8.., 1) => dense::<8, 1>(&operands, out),
                (4.., 1) => dense::<4, 1>(&operands, out),
                (2.., 1) => dense::<2, 1>(&operands, out),
                (_, 1) => dense::<1, 1>(&operands, out),
                (ROWS.., _) => dense::<ROWS, PANELS>(&operands, out),
                (8.., _) => dense::<8, PANELS>(&operands, out),
                (4.., _) => dense::<4, PANELS>(&operands, out),
                (2.., _) => dense::<2, PANELS>(&operands, out),
                (_, _) => dense::<1, PANELS>(&operands, out),
            }
        };
        operands.left = &operands.left[rows * operands.stride..];
        out = &mut out[rows..];
    }
}

/// # Safety
/// The processor must have AVX-512F, and the operands at least so many panels.
#[target_feature(enable = "avx512f")]
unsafe fn widened<const R: usize, const P: usize>(operands: &Operands, tile: &mut Tile) {
    let left = operands.left;
    let pairs = left.depth.div_ceil(2);
    let stretch = left.depth.next_multiple_of(DEPTH) / 2 * LANES;
    let upper = _mm512_set1_epi32(0xffff_0000_u32 as i32);
    let mut sums = [[_mm512_setzero_ps(); P]; R];
    // SAFETY: [`Operands::new`] has compared what is read with the slices, for as many rows.
    unsafe {
        for (i, tap) in left.taps.iter().enumerate() {
            let mut x = left.words.as_ptr().add(operands.start + tap).cast::<f32>();
            let mut right = [operands.panels[0]; P].map(<[u32]>::as_ptr);
            for (p, right) in right.iter_mut().enumerate() {
                *right = operands.panels[p].as_ptr().add(i * stretch);
            }
            for _ in 0..pairs {
                let pair = right.map(|right| _mm512_loadu_si512(right.cast()));
                let even = pair.map(|pair| _mm512_castsi512_ps(_mm512_slli_epi32::<16>(pair)));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*x.add(row));
                    for (sum, even) in sums.iter_mut().zip(even) {
                        *sum = _mm512_fmadd_ps(x, even, *sum);
                    }
                }
                let odd = pair.map(|pair| _mm512_castsi512_ps(_mm512_and_si512(pair, upper)));
                let next = x.add(left.step);
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*next.add(row));
                    for (sum, odd) in sums.iter_mut().zip(odd) {
                        *sum = _mm512_fmadd_ps(x, odd, *sum);
                    }
                }
                x = next.wrapping_add(left.step); // after the last pair perhaps beyond the words
                right = right.map(|right| right.add(LANES));
            }
        }
        store(&sums, &mut tile.0);
    }
}

/// # Safety
/// The processor must have AVX-512F and AVX512-BF16, and the operands at least so many panels.
#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn by_pairs<const R: usize, const P: usize>(operands: &Operands, tile: &mut Tile) {
    let left = operands.left;
    let pairs = left.depth.div_ceil(2);
    let stretch = left.depth.next_multiple_of(DEPTH) / 2 * LANES;
    let mut sums = [[_mm512_setzero_ps(); P]; R];
    // SAFETY: [`Operands::new`] has compared what is read with the slices, for as many rows. A register of
    // pairs is a register of bf16.
    unsafe {
        for (i, tap) in left.taps.iter().enumerate() {
            let mut x = left.words.as_ptr().add(operands.start + tap).cast::<i32>();
            let mut right = [operands.panels[0]; P].map(<[u32]>::as_ptr);
            for (p, right) in right.iter_mut().enumerate() {
                *right = operands.panels[p].as_ptr().add(i * stretch);
            }
            for _ in 0..pairs {
                let pair = right.map(|right| {
                    std::mem::transmute::<__m512i, __m512bh>(_mm512_loadu_si512(right.cast()))
                });
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_epi32(*x.add(row));
                    let x = std::mem::transmute::<__m512i, __m512bh>(x);
                    for (sum, pair) in sums.iter_mut().zip(pair) {
                        *sum = _mm512_dpbf16_ps(*sum, x, pair);
                    }
                }
                x = x.wrapping_add(left.step); // after the last pair perhaps beyond the words
                right = right.map(|right| right.add(LANES));
            }
        }
        store(&sums, &mut tile.0);
    }
}

/// Computes the first `R` rows.
///
/// # Safety
/// The processor must have AVX-512F, and the operands and `out` at least so many rows and panels.
#[target_feature(enable = "avx512f")]
unsafe fn dense<const R: usize, const P: usize>(operands: &Dense, out: &mut [Row]) -> usize {
    const UNROLLED: usize = 4;
    let Dense { stride, depth, panels, adds, .. } = *operands;
    let mut sums = [[_mm512_setzero_ps(); P]; R];
    // SAFETY: [`Dense::new`] has compared what is read with the slices; the depth is a multiple of what is unrolled.
    unsafe {
        if adds {
            for (sums, row) in sums.iter_mut().zip(&*out) {
                for (p, sum) in sums.iter_mut().enumerate() {
                    *sum = _mm512_loadu_ps(row.as_ptr().add(p * LANES));
                }
            }
        }
        // An address for three rows, of which the others are one stride and two away, as instructions can say it.
        let first = operands.left.as_ptr();
        let mut x: [_; 4] = std::array::from_fn(|i| first.wrapping_add(3 * i * stride));
        let mut right = [panels[0]; P].map(<[f32]>::as_ptr);
        for (right, panel) in right.iter_mut().zip(panels) {
            *right = panel.as_ptr();
        }
        for _ in 0..depth / UNROLLED {
            for k in 0..UNROLLED {
                let y = right.map(|right| _mm512_loadu_ps(right.add(k * LANES)));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let x = _mm512_set1_ps(*x[row / 3].add(row % 3 * stride + k));
                    for (sum, y) in sums.iter_mut().zip(y) {
                        *sum = _mm512_fmadd_ps(x, y, *sum);
                    }
                }
            }
            x = x.map(|x| x.wrapping_add(UNROLLED));
            right = right.map(|right| right.add(UNROLLED * LANES));
        }
    }
    store(&sums, out);
    R
}

#[target_feature(enable = "avx512f")]
fn store<const R: usize, const P: usize>(sums: &[[__m512; P]; R], rows: &mut [Row]) {
    for (sums, row) in sums.iter().zip(rows) {
        for (sum, row) in sums.iter().zip(row.as_chunks_mut::<LANES>().0) {
            // SAFETY: the lanes of a register are the elements of a panel's row.
            unsafe { _mm512_storeu_ps(row.as_mut_ptr(), *sum) };
        }
    }
}
