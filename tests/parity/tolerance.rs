//! How far a stage may be from the reference, which is computed in f32.
//!
//! In f32 the fixtures say it: `max |a - b| <= atol + rtol max |b|`, mostly with 1e-4 for both. In 16
//! bits it is the root of the mean square of the difference, divided by that of the reference:

use burn::tensor::DType;

/// A part of the pipeline.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Stage {
    Text,
    Transformer,
    Decode,
    Encode,
    /// CLIP's towers.
    Clip,
    /// Latents after all steps, from the prompt on.
    Latents,
}

/// Stage, bf16, f16.
const RELATIVE_RMS: [(Stage, f64, f64); 6] = [
    (Stage::Text, 2e-2, 3e-3),
    (Stage::Transformer, 1e-2, 1.5e-3),
    (Stage::Decode, 2.5e-2, 4e-3),
    (Stage::Encode, 4e-2, 8e-3),
    (Stage::Clip, 1.5e-2, 2e-3),
    (Stage::Latents, 1.2e-2, 1.5e-3),
];

/// In bf16 each network also may not be further off than the reference is in bf16, times this.
pub const OF_REFERENCE_BF16: f64 = 1.5;

/// What convolutions of f32 on the matrix units of NVIDIA's GPUs lead to, absolute and relative: they round
/// the operands to 11 bits, which PyTorch lets them do, too.
pub const TF32: (f64, f64) = (5e-3, 1e-2);

/// Two backends in f32, both of which are within `atol` and `rtol` of the reference.
pub const BETWEEN_BACKENDS: (f64, f64) = (2e-4, 2e-4);

/// What [`relative_rms`](crate::fixture::Array::relative_rms) may be.
pub fn allowed(stage: Stage, dtype: DType) -> f64 {
    let row = RELATIVE_RMS.iter().find(|row| row.0 == stage).expect("all stages are listed");
    match dtype {
        DType::BF16 => row.1,
        DType::F16 => row.2,
        _ => unreachable!("only 16 bits are in the table"),
    }
}
