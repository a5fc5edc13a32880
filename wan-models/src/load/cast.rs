//! From the bytes of a file to elements of the dtype that a network computes in, on all threads: each
//! reads and casts one piece after the other, few enough bytes for its cache.

use burn::tensor::{DType, TensorData};
use half::slice::HalfFloatSliceExt;
use half::vec::HalfBitsVecExt;
use half::{bf16, f16};
use rayon::prelude::*;
use wan_io::files::FileError;
use wan_io::weights::{Dtype, StoredTensor};

/// Elements that go through f32 on their way from or to f16, which processors convert by the vector.
const BLOCK: usize = 256;

/// The elements of a stored tensor in the dtype that a network computes in, with no other copy.
pub(crate) fn decode(
    raw: &StoredTensor,
    dtype: DType,
    shape: &[usize],
) -> Result<TensorData, FileError> {
    // Zeros of plain numbers are memory as the system gives it, whose pages come when they are written.
    let bits = || vec![0_u16; raw.count()];
    Ok(match dtype {
        DType::F16 => TensorData::new(fill(bits().reinterpret_into(), raw, to_f16)?, shape),
        DType::BF16 => TensorData::new(fill(bits().reinterpret_into(), raw, to_bf16)?, shape),
        _ => TensorData::new(fill(vec![0.0; raw.count()], raw, to_f32_slice)?, shape),
    })
}

/// A few stored elements in f32.
pub(crate) fn to_f32(dtype: Dtype, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; bytes.len() / width(dtype)];
    to_f32_slice(dtype, bytes, &mut out);
    out
}

/// The index of the first element that is infinite or not a number.
pub(crate) fn first_not_finite(raw: &StoredTensor) -> Result<Option<usize>, FileError> {
    let (piece, count) = (raw.piece(), raw.count());
    let find = |buffer: &mut Vec<u8>, i: usize| -> Result<_, FileError> {
        let start = i * piece;
        let bytes = raw.read(start..count.min(start + piece), buffer)?;
        let at = to_f32(raw.dtype, bytes).iter().position(|value| !value.is_finite());
        Ok(at.map(|at| start + at))
    };
    let pieces = (0..count.div_ceil(piece)).into_par_iter().map_init(Vec::new, find);
    pieces.try_reduce(|| None, |a, b| Ok(a.or(b)))
}

/// Fills `out` with all elements, on all threads.
fn fill<T: Send>(
    mut out: Vec<T>,
    raw: &StoredTensor,
    cast: impl Fn(Dtype, &[u8], &mut [T]) + Sync,
) -> Result<Vec<T>, FileError> {
    let piece = raw.piece();
    let pieces = out.par_chunks_mut(piece).enumerate();
    pieces.try_for_each_init(Vec::new, |buffer, (i, out)| {
        let bytes = raw.read(i * piece..i * piece + out.len(), buffer)?;
        cast(raw.dtype, bytes, out);
        Ok::<_, FileError>(())
    })?;
    Ok(out)
}

/// Bytes of an element.
fn width(dtype: Dtype) -> usize {
    if dtype == Dtype::F32 { 4 } else { 2 }
}

// The bytes of a file need not be aligned.

fn to_f32_slice(dtype: Dtype, bytes: &[u8], out: &mut [f32]) {
    match dtype {
        Dtype::F16 => {
            let mut block = [f16::ZERO; BLOCK];
            for (out, bytes) in out.chunks_mut(BLOCK).zip(bytes.chunks(2 * BLOCK)) {
                let block = &mut block[..out.len()];
                each(bytes, block, f16::from_le_bytes);
                block.convert_to_f32_slice(out);
            }
        }
        Dtype::BF16 => each(bytes, out, |b| bf16::from_le_bytes(b).to_f32()),
        _ => each(bytes, out, f32::from_le_bytes),
    }
}

fn to_f16(dtype: Dtype, bytes: &[u8], out: &mut [f16]) {
    if dtype == Dtype::F16 {
        return each(bytes, out, f16::from_le_bytes);
    }
    let mut block = [0.0; BLOCK];
    for (out, bytes) in out.chunks_mut(BLOCK).zip(bytes.chunks(width(dtype) * BLOCK)) {
        let block = &mut block[..out.len()];
        to_f32_slice(dtype, bytes, block);
        out.convert_from_f32_slice(block);
    }
}

fn to_bf16(dtype: Dtype, bytes: &[u8], out: &mut [bf16]) {
    match dtype {
        Dtype::F16 => each(bytes, out, |b| rounded(f16::from_le_bytes(b).to_f32())),
        Dtype::BF16 => each(bytes, out, bf16::from_le_bytes),
        _ => each(bytes, out, |b| rounded(f32::from_le_bytes(b))),
    }
}

fn each<const N: usize, T>(bytes: &[u8], out: &mut [T], number: impl Fn([u8; N]) -> T) {
    let stored = bytes.as_chunks().0;
    out.iter_mut().zip(stored).for_each(|(out, bytes)| *out = number(*bytes));
}

/// To the nearest bf16, ties to even, without a branch that would keep the loop from being vectorised.
fn rounded(number: f32) -> bf16 {
    let bits = number.to_bits();
    let nearest = bits.wrapping_add(0x7fff + (bits >> 16 & 1)) >> 16;
    let quiet_nan = bits >> 16 | 0x40;
    bf16::from_bits(if number.is_nan() { quiet_nan } else { nearest } as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_as_half_does() {
        let near_ties = (0..=0xffff_u32).flat_map(|high| {
            [0, 1, 0x7fff, 0x8000, 0x8001, 0xffff].map(|low| f32::from_bits(high << 16 | low))
        });
        for number in near_ties {
            let (ours, theirs) = (rounded(number), bf16::from_f32(number));
            assert_eq!(ours.to_bits(), theirs.to_bits(), "{number} ({:x})", number.to_bits());
        }
    }
}
