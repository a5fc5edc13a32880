//! From the bytes of a file to elements of the dtype that a network computes in, on all threads: each
//! reads and casts one piece after the other, few enough bytes for its cache.

use std::array;
use std::sync::LazyLock;
use std::time::Instant;

use burn::tensor::{DType, TensorData};
use half::slice::HalfFloatSliceExt;
use half::vec::{HalfBitsVecExt, HalfFloatVecExt};
use half::{bf16, f16};
use rayon::prelude::*;
use wan_core::nearest_bf16;
use wan_io::files::FileError;
use wan_io::weights::{Dtype, StoredTensor};

use super::meter::ReadMeter;
use super::pages::prefer_large;

/// Elements that go through f32 on their way from or to f16, which processors convert by the vector.
const BLOCK: usize = 256;

/// The elements of a stored tensor in the dtype that a network computes in, with no other copy. If
/// there is a `scale`, one number or one for each row, they are multiplied with it in f32. A `meter` counts
/// what is read.
pub(crate) fn decode(
    raw: &StoredTensor,
    scale: &[f32],
    dtype: DType,
    shape: &[usize],
    meter: Option<&ReadMeter>,
) -> Result<TensorData, FileError> {
    if !scale.is_empty() {
        let scaled = scaled(raw, scale, meter)?;
        return Ok(match dtype {
            DType::F16 => TensorData::new(Vec::<f16>::from_f32_slice(&scaled), shape),
            DType::BF16 => {
                let rounded = scaled.par_iter().copied().map(rounded).collect::<Vec<_>>();
                TensorData::new(rounded, shape)
            }
            _ => TensorData::new(scaled, shape),
        });
    }
    // Zeros of plain numbers are memory as the system gives it, whose pages come when they are written.
    let bits = || vec![0_u16; raw.count()];
    Ok(match dtype {
        DType::F16 => TensorData::new(fill(bits().reinterpret_into(), raw, meter, to_f16)?, shape),
        DType::BF16 => {
            TensorData::new(fill(bits().reinterpret_into(), raw, meter, to_bf16)?, shape)
        }
        _ => TensorData::new(fill(vec![0.0; raw.count()], raw, meter, to_f32_slice)?, shape),
    })
}

fn scaled(
    raw: &StoredTensor,
    scale: &[f32],
    meter: Option<&ReadMeter>,
) -> Result<Vec<f32>, FileError> {
    let mut values = fill(vec![0.0; raw.count()], raw, meter, to_f32_slice)?;
    let row = values.len().div_ceil(scale.len()).max(1);
    values.par_chunks_mut(row).zip(scale).for_each(|(values, scale)| {
        values.par_iter_mut().for_each(|value| *value *= scale);
    });
    Ok(values)
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
    meter: Option<&ReadMeter>,
    cast: impl Fn(Dtype, &[u8], &mut [T]) + Sync,
) -> Result<Vec<T>, FileError> {
    prefer_large(&mut out);
    let piece = raw.piece();
    let pieces = out.par_chunks_mut(piece).enumerate();
    pieces.try_for_each_init(Vec::new, |buffer, (i, out)| {
        let start = Instant::now();
        let bytes = raw.read(i * piece..i * piece + out.len(), buffer)?;
        meter.inspect(|meter| meter.count(bytes.len(), start.elapsed()));
        cast(raw.dtype, bytes, out);
        Ok::<_, FileError>(())
    })?;
    Ok(out)
}

/// Bytes of an element.
fn width(dtype: Dtype) -> usize {
    match dtype {
        Dtype::F32 => 4,
        Dtype::F8_E4M3 | Dtype::F8_E5M2 => 1,
        _ => 2,
    }
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
        Dtype::F8_E4M3 => each(bytes, out, |[b]| E4M3[usize::from(b)]),
        Dtype::F8_E5M2 => each(bytes, out, |[b]| E5M2[usize::from(b)]),
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
        Dtype::F8_E4M3 => each(bytes, out, |[b]| rounded(E4M3[usize::from(b)])),
        Dtype::F8_E5M2 => each(bytes, out, |[b]| rounded(E5M2[usize::from(b)])),
        _ => each(bytes, out, |b| rounded(f32::from_le_bytes(b))),
    }
}

fn each<const N: usize, T>(bytes: &[u8], out: &mut [T], number: impl Fn([u8; N]) -> T) {
    let stored = bytes.as_chunks().0;
    out.iter_mut().zip(stored).for_each(|(out, bytes)| *out = number(*bytes));
}

/// The numbers of 8-bit floats by their bits. Those of E5M2 are the upper halves of f16; those of
/// E4M3 (without infinities, `e4m3fn`) lie in f16 with an exponent that is smaller by 8.
static E5M2: LazyLock<[f32; 256]> =
    LazyLock::new(|| array::from_fn(|bits| f16::from_bits((bits as u16) << 8).to_f32()));
static E4M3: LazyLock<[f32; 256]> = LazyLock::new(|| {
    array::from_fn(|bits| {
        let (sign, rest) = (bits as u16 & 0x80, bits as u16 & 0x7f);
        let number = f16::from_bits(sign << 8 | rest << 7).to_f32() * 256.0;
        if rest == 0x7f { f32::NAN } else { number }
    })
});

fn rounded(number: f32) -> bf16 {
    bf16::from_bits(nearest_bf16(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The values that the standards give (OCP 8-bit floating point, tables 1 and 2).
    #[test]
    fn numbers_of_8_bits_are_those_of_the_standard() {
        for (bits, number) in [
            (0x00, 0.0),
            (0x01, 2f32.powi(-9)),
            (0x07, 0.875 * 2f32.powi(-6)),
            (0x08, 2f32.powi(-6)),
            (0x38, 1.0),
            (0xb9, -1.125),
            (0x7e, 448.0),
            (0xfe, -448.0),
        ] {
            assert_eq!(E4M3[bits], number, "{bits:#x}");
        }
        assert!(E4M3[0x7f].is_nan() && E4M3[0xff].is_nan());
        assert_eq!(E4M3.iter().filter(|number| number.is_finite()).count(), 254);
        for (bits, number) in [
            (0x01, 2f32.powi(-16)),
            (0x04, 2f32.powi(-14)),
            (0x3c, 1.0),
            (0xbd, -1.25),
            (0x7b, 57_344.0),
            (0x7c, f32::INFINITY),
        ] {
            assert_eq!(E5M2[bits], number, "{bits:#x}");
        }
    }

    /// With a scale and without one, in each dtype, as if the file had the product.
    #[test]
    fn scaled_numbers_are_as_if_the_file_had_the_product() {
        let shape = [3, 700];
        let narrow: Vec<u8> = (0..2100).map(|i| (i % 251) as u8 & 0xf7).collect();
        let scales: [&[f32]; 3] = [&[], &[0.0371], &[0.5, -0.2, 3.7]];
        for (scale, dtype) in scales
            .into_iter()
            .flat_map(|scale| [Dtype::F8_E4M3, Dtype::F8_E5M2].map(|d| (scale, d)))
        {
            let row_scale = |i: usize| scale.get(i / 700).or(scale.first()).copied().unwrap_or(1.0);
            let values = to_f32(dtype, &narrow).into_iter().enumerate();
            let product: Vec<u8> =
                values.flat_map(|(i, value)| (value * row_scale(i)).to_le_bytes()).collect();
            for computed in [DType::F32, DType::F16, DType::BF16] {
                let narrow = decode(
                    &StoredTensor::in_memory(dtype, &shape, &*narrow),
                    scale,
                    computed,
                    &shape,
                    None,
                );
                let wide = decode(
                    &StoredTensor::in_memory(Dtype::F32, &shape, &*product),
                    &[],
                    computed,
                    &shape,
                    None,
                );
                assert_eq!(narrow.unwrap(), wide.unwrap(), "{dtype} {scale:?} {computed:?}");
            }
        }
    }

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
