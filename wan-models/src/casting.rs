//! From the bytes of a file to numbers in the dtype that a model computes in, on all threads: what
//! limits it is how fast the pages of a mapped file come in.

use burn::tensor::{DType, TensorData};
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

use crate::weights::{FileDType, RawTensor};

/// Numbers that a thread casts at a time: few enough for its cache.
const CHUNK: usize = 1 << 15;

/// The stored numbers in the dtype that a model computes in, with no other copy than that.
pub(crate) fn decode(raw: &RawTensor, dtype: DType, shape: &[usize]) -> TensorData {
    match dtype {
        DType::F16 => {
            let bits = |bits| f16::from_bits(bits);
            let cast = |floats: &[f32], out: &mut [f16]| out.convert_from_f32_slice(floats);
            TensorData::new(
                on_all_threads(raw, |d, b, o| halves(d, b, o, FileDType::F16, bits, cast)),
                shape,
            )
        }
        DType::BF16 => {
            let bits = |bits| bf16::from_bits(bits);
            let cast = |floats: &[f32], out: &mut [bf16]| out.convert_from_f32_slice(floats);
            TensorData::new(
                on_all_threads(raw, |d, b, o| halves(d, b, o, FileDType::Bf16, bits, cast)),
                shape,
            )
        }
        _ => TensorData::new(on_all_threads(raw, floats), shape),
    }
}

/// A few stored numbers in f32.
pub(crate) fn to_f32(dtype: &FileDType, bytes: &[u8]) -> Vec<f32> {
    let mut out = vec![0.0; bytes.len() / width(dtype)];
    floats(dtype, bytes, &mut out);
    out
}

/// The place of the first number that is infinite or not a number.
pub(crate) fn first_not_finite(raw: &RawTensor) -> Option<usize> {
    let chunks = raw.bytes.par_chunks(CHUNK * width(&raw.dtype)).enumerate();
    let find = |(i, bytes)| {
        let at = to_f32(&raw.dtype, bytes).iter().position(|number| !number.is_finite());
        at.map(|at| i * CHUNK + at)
    };
    chunks.filter_map(find).min()
}

fn on_all_threads<T: Default + Clone + Send>(
    raw: &RawTensor,
    cast: impl Fn(&FileDType, &[u8], &mut [T]) + Sync,
) -> Vec<T> {
    let width = width(&raw.dtype);
    let mut out = vec![T::default(); raw.bytes.len() / width];
    let chunks = out.par_chunks_mut(CHUNK).zip(raw.bytes.par_chunks(CHUNK * width));
    chunks.for_each(|(out, bytes)| cast(&raw.dtype, bytes, out));
    out
}

/// Bytes of a number.
fn width(dtype: &FileDType) -> usize {
    if *dtype == FileDType::F32 { 4 } else { 2 }
}

/// To f32. The bytes of a file need not be aligned.
fn floats(dtype: &FileDType, bytes: &[u8], out: &mut [f32]) {
    let (words, halves) = (bytes.as_chunks::<4>().0, bytes.as_chunks::<2>().0);
    match dtype {
        FileDType::F16 => {
            let halves: Vec<f16> = halves.iter().map(|b| f16::from_le_bytes(*b)).collect();
            halves.convert_to_f32_slice(out);
        }
        FileDType::Bf16 => {
            let number = |b: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(*b)) << 16);
            out.iter_mut().zip(halves).for_each(|(out, bytes)| *out = number(bytes));
        }
        _ => out.iter_mut().zip(words).for_each(|(out, bytes)| *out = f32::from_le_bytes(*bytes)),
    }
}

/// To a dtype of 16 bits; as stored where it is the same.
fn halves<T>(
    dtype: &FileDType,
    bytes: &[u8],
    out: &mut [T],
    same: FileDType,
    from_bits: impl Fn(u16) -> T,
    cast: impl Fn(&[f32], &mut [T]),
) {
    if *dtype == same {
        let stored = bytes.as_chunks::<2>().0;
        out.iter_mut().zip(stored).for_each(|(out, b)| *out = from_bits(u16::from_le_bytes(*b)));
    } else {
        cast(&to_f32(dtype, bytes), out);
    }
}
