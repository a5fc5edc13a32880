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

/// Computes [`ROWS`] rows at a time.
pub(super) fn multiply_dense(operands: &Dense, out: &mut [Row]) {
    let Dense { left, depth, panels, adds } = *operands;
    for (left, out) in left.chunks_exact(ROWS * depth).zip(out.as_chunks_mut::<ROWS>().0) {
        for (panel, right) in panels.iter().enumerate() {
            let columns = panel * LANES..(panel + 1) * LANES;
            for (row, sums) in out.iter_mut().zip(dense_sums(left, depth, right)) {
                let row = &mut row[columns.clone()];
                match adds {
                    true => row.iter_mut().zip(sums).for_each(|(y, sum)| *y += sum),
                    false => row.copy_from_slice(&sums),
                }
            }
        }
    }
}

fn dense_sums(left: &[f32], depth: usize, panel: &[f32]) -> [[f32; LANES]; ROWS] {
    let mut sums = [[0.0; LANES]; ROWS];
    for (k, right) in panel.as_chunks::<LANES>().0.iter().enumerate() {
        let x: [f32; ROWS] = std::array::from_fn(|row| left[row * depth + k]);
        for (sums, x) in sums.iter_mut().zip(x) {
            sums.iter_mut().zip(right).for_each(|(sum, y)| *sum += x * y);
        }
    }
    sums
}
