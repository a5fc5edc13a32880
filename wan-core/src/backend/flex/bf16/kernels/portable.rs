//! For any processor, as plain loops that the compiler vectorises: the oracle of the other kernels.

use super::tile::{DEPTH, Dense, LANES, Operands, Row, Tile};

/// Rows at a time.
pub(super) const ROWS: usize = 4;

pub(super) fn multiply(operands: &Operands, tile: &mut Tile) {
    for (panel, words) in operands.panels.iter().enumerate() {
        let columns = panel * LANES..(panel + 1) * LANES;
        for (sums, row) in sums(operands, words).iter().zip(&mut tile.0) {
            row[columns.clone()].copy_from_slice(sums);
        }
    }
}

fn sums(operands: &Operands, panel: &[u32]) -> [[f32; LANES]; ROWS] {
    let left = operands.left;
    let mut sums = [[0.0; LANES]; ROWS];
    let stretch = left.depth.next_multiple_of(DEPTH) / 2 * LANES;
    for (tap, panel) in left.taps.iter().zip(panel.chunks_exact(stretch)) {
        let pairs = panel.as_chunks::<LANES>().0.iter().take(left.depth.div_ceil(2));
        for (i, pairs) in pairs.enumerate() {
            let start = operands.start + tap + 2 * i * left.step;
            for (half, shift) in [(0, 16), (1, 0)] {
                let words = &left.words[start + half * left.step..][..ROWS];
                let right = pairs.map(|pair| f32::from_bits((pair << shift) & 0xffff_0000));
                for (sums, &word) in sums.iter_mut().zip(words) {
                    let x = f32::from_bits(word);
                    sums.iter_mut().zip(right).for_each(|(sum, y)| *sum += x * y);
                }
            }
        }
    }
    sums
}

pub(super) fn multiply_dense(operands: &Dense, mut out: &mut [Row]) {
    let mut operands = *operands;
    while !out.is_empty() {
        let rows = match out.len() {
            ROWS.. => dense::<ROWS>(&operands, out),
            _ => dense::<1>(&operands, out),
        };
        operands.left = &operands.left[rows * operands.stride..];
        out = &mut out[rows..];
    }
}

/// Computes the first `R` rows.
fn dense<const R: usize>(operands: &Dense, out: &mut [Row]) -> usize {
    for (panel, right) in operands.panels.iter().enumerate() {
        let columns = panel * LANES..(panel + 1) * LANES;
        for (row, sums) in out.iter_mut().zip(dense_sums::<R>(operands, right)) {
            let row = &mut row[columns.clone()];
            match operands.adds {
                true => row.iter_mut().zip(sums).for_each(|(y, sum)| *y += sum),
                false => row.copy_from_slice(&sums),
            }
        }
    }
    R
}

fn dense_sums<const R: usize>(operands: &Dense, panel: &[f32]) -> [[f32; LANES]; R] {
    let Dense { left, stride, .. } = *operands;
    let mut sums = [[0.0; LANES]; R];
    for (k, right) in panel.as_chunks::<LANES>().0.iter().enumerate() {
        let x: [f32; R] = std::array::from_fn(|row| left[row * stride + k]);
        for (sums, x) in sums.iter_mut().zip(x) {
            sums.iter_mut().zip(right).for_each(|(sum, y)| *sum += x * y);
        }
    }
    sums
}
