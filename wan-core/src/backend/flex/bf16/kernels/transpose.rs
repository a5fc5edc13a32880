//! Blocks of 16 by 16 words, rows to columns.

#[cfg(target_arch = "x86_64")]
use std::arch::x86_64::*;

use super::tile::LANES;

/// `to[column * to_stride + row] = from[row * from_stride + column]`, for at most 16 rows and columns.
///
/// # Panics
/// If one of the slices is too short.
pub(in super::super) fn transpose(
    from: &[u32],
    from_stride: usize,
    to: &mut [u32],
    to_stride: usize,
    [rows, columns]: [usize; 2],
) {
    if rows == 0 || columns == 0 {
        return;
    }
    assert!(rows <= LANES && columns <= LANES, "a larger block");
    let end = |lines: usize, stride, line| (lines - 1).saturating_mul(stride).saturating_add(line);
    assert!(end(rows, from_stride, columns) <= from.len(), "the source is too short");
    assert!(end(columns, to_stride, rows) <= to.len(), "the destination is too short");
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has AVX-512F; both slices are long enough, as asserted.
        return unsafe {
            by_registers(from.as_ptr(), from_stride, to.as_mut_ptr(), to_stride, [rows, columns])
        };
    }
    for (row, from) in from.chunks(from_stride.max(1)).take(rows).enumerate() {
        for (column, &word) in from.iter().take(columns).enumerate() {
            to[column * to_stride + row] = word;
        }
    }
}

/// # Safety
/// The processor must have AVX-512F; from `from` there must be `rows` rows of `columns` words, and at `to` room for
/// the result; both are at most 16.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
unsafe fn by_registers(
    from: *const u32,
    from_stride: usize,
    to: *mut u32,
    to_stride: usize,
    [rows, columns]: [usize; 2],
) {
    let first = |count: usize| ((1_u32 << count) - 1) as __mmask16;
    let mut block = [_mm512_setzero_si512(); LANES];
    for (row, register) in block.iter_mut().enumerate().take(rows) {
        // SAFETY: the mask leaves out what is beyond the columns.
        *register =
            unsafe { _mm512_maskz_loadu_epi32(first(columns), from.add(row * from_stride).cast()) };
    }
    // Pairs of rows by words, then by pairs of words: now each quarter of a register is a column of four rows.
    let mut quarters = block;
    for i in 0..4 {
        let [a, b, c, d] = [block[4 * i], block[4 * i + 1], block[4 * i + 2], block[4 * i + 3]];
        let (ab_low, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        quarters[4 * i] = _mm512_unpacklo_epi64(ab_low, cd_low);
        quarters[4 * i + 1] = _mm512_unpackhi_epi64(ab_low, cd_low);
        quarters[4 * i + 2] = _mm512_unpacklo_epi64(ab_high, cd_high);
        quarters[4 * i + 3] = _mm512_unpackhi_epi64(ab_high, cd_high);
    }
    // Quarter q of the register `4 i + j` is column `4 q + j` of the rows `4 i` to `4 i + 3`.
    for j in 0..4 {
        let [a, b, c, d] = [quarters[j], quarters[4 + j], quarters[8 + j], quarters[12 + j]];
        let ab_even = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
        let ab_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b);
        let cd_even = _mm512_shuffle_i32x4::<0b10_00_10_00>(c, d);
        let cd_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(c, d);
        block[j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(ab_even, cd_even);
        block[8 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(ab_even, cd_even);
        block[4 + j] = _mm512_shuffle_i32x4::<0b10_00_10_00>(ab_odd, cd_odd);
        block[12 + j] = _mm512_shuffle_i32x4::<0b11_01_11_01>(ab_odd, cd_odd);
    }
    for (column, register) in block.iter().enumerate().take(columns) {
        // SAFETY: the mask leaves out what is beyond the rows.
        unsafe {
            _mm512_mask_storeu_epi32(to.add(column * to_stride).cast(), first(rows), *register)
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_block() {
        let from: Vec<u32> = (0..20 * 16).collect();
        for (rows, columns) in
            (0..=16).flat_map(|rows| (0..=16).map(move |columns| (rows, columns)))
        {
            let mut to = vec![u32::MAX; 17 * 16];
            transpose(&from, 20, &mut to, 17, [rows, columns]);
            for (i, &word) in to.iter().enumerate() {
                let (column, row) = (i / 17, i % 17);
                let is_inside = row < rows && column < columns;
                let expected = if is_inside { (row * 20 + column) as u32 } else { u32::MAX };
                assert_eq!(word, expected, "{rows} x {columns}, row {row}, column {column}");
            }
        }
    }
}
