//! Weights in 8-bit floats, and those in forms that are not decoded.
//!
//! Three generations of files are about: bare numbers, cast from the model; numbers to be multiplied with
//! a scale that stands beside them (`LAYER.scale_weight`, with a mark `scaled_fp8`); and the same as
//! `LAYER.weight_scale` with a description of the format in `LAYER.comfy_quant`. ComfyUI's
//! `QUANTIZATION.md` and `comfy/utils.py` (`convert_old_quants`) tell them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use wan_io::files::FileError;
use wan_io::weights::Dtype;

use super::cast::to_f32;
use super::{CheckpointError, TensorSource};

/// How the names of scales end; what is before it is the layer.
const SCALES: [&str; 2] = [".scale_weight", ".weight_scale"];
/// Scales for computing in 8 bits, which is not done.
const INPUT_SCALES: [&str; 2] = [".scale_input", ".input_scale"];
const DESCRIPTION: &str = ".comfy_quant";
const MARK: &str = "scaled_fp8";
/// Formats in descriptions that are decoded.
const FORMATS: [(&str, Dtype); 2] =
    [("float8_e4m3fn", Dtype::F8_E4M3), ("float8_e5m2", Dtype::F8_E5M2)];
/// How names end that only formats have that are not decoded.
const OTHERS: [(&str, &str); 8] = [
    (".weight_scale_2", "4-bit numbers (nvfp4)"),
    (".pre_quant_scale", "numbers with smoothed scales (AWQ)"),
    (".weight_scale_inv", "8-bit numbers with a scale for each block"),
    (".weight.absmax", "numbers of bitsandbytes"),
    (".weight.quant_map", "numbers of bitsandbytes"),
    (".SCB", "8-bit numbers of bitsandbytes"),
    (".qweight", "packed numbers (GPTQ or AWQ)"),
    (".weight._data", "numbers of quanto"),
];

/// What the decoding of weights needs, by their names in the file.
#[derive(Debug, Default)]
pub(super) struct Quantised {
    /// What bytes really are.
    pub(super) dtypes: BTreeMap<String, Dtype>,
    /// The factors of weights: one, or one for each row.
    pub(super) scales: BTreeMap<String, Vec<f32>>,
    /// The tensors that belong to the format and are no weights.
    pub(super) extras: BTreeSet<String>,
}

/// What `LAYER.comfy_quant` holds as JSON.
#[derive(Deserialize)]
struct Description {
    format: String,
}

impl Quantised {
    /// Reads the scales of the tensors `names`.
    ///
    /// # Errors
    /// If weights cannot be decoded, or lack their scales.
    pub(super) fn read(
        source: &dyn TensorSource,
        names: &[String],
    ) -> Result<Self, CheckpointError> {
        let mut found = Self::default();
        for name in names {
            if let Some((_, form)) = OTHERS.iter().find(|(ending, _)| name.ends_with(ending)) {
                return Err(not_decoded(source, name, form));
            }
            if is_mark(name) {
                found.extras.insert(name.clone());
            }
            if let Some(layer) = name.strip_suffix(DESCRIPTION) {
                found.describe(source, name, &format!("{layer}.weight"))?;
            }
        }
        for name in names {
            let layer = |endings: &[&str]| endings.iter().find_map(|end| name.strip_suffix(end));
            if let Some(layer) = layer(&INPUT_SCALES)
                && source.tensor(&format!("{layer}.weight")).is_some()
            {
                found.extras.insert(name.clone());
            }
            if let Some(layer) = layer(&SCALES) {
                found.scale(source, name, format!("{layer}.weight"))?;
            }
        }
        found.check_scales(source, names)?;
        Ok(found)
    }

    /// Reads the description of a layer. It is only needed where the weights are not 16-bit.
    fn describe(
        &mut self,
        source: &dyn TensorSource,
        name: &str,
        weight: &str,
    ) -> Result<(), CheckpointError> {
        self.extras.insert(name.to_owned());
        let Some(dtype) = source.tensor(weight).map(|tensor| tensor.dtype) else { return Ok(()) };
        if is_wide(dtype) {
            return Ok(());
        }
        let description = source.tensor(name).expect("the names are those of the source");
        let description = description.bytes().map_err(|error| not_read(&error))?;
        let description: Option<Description> = serde_json::from_slice(&description).ok();
        let form = description.map_or_else(|| "an unknown format".into(), |found| found.format);
        match FORMATS.iter().find(|(format, _)| *format == form) {
            Some(&(_, float)) if dtype == Dtype::U8 || dtype == float => {
                self.dtypes.insert(weight.to_owned(), float);
                Ok(())
            }
            _ => Err(not_decoded(source, weight, &form)),
        }
    }

    /// Reads the scale `name` of `weight`.
    fn scale(
        &mut self,
        source: &dyn TensorSource,
        name: &str,
        weight: String,
    ) -> Result<(), CheckpointError> {
        let (Some(scale), Some(scaled)) = (source.tensor(name), source.tensor(&weight)) else {
            return Ok(());
        };
        let dtype = self.dtypes.get(&weight).copied().unwrap_or(scaled.dtype);
        if !is_wide(dtype) && !is_narrow(dtype) {
            return Err(not_decoded(source, &weight, &format!("scaled numbers ({dtype})")));
        }
        let by_row = matches!(*scale.shape, [rows, 1] if scaled.shape.first() == Some(&rows));
        let is_one = scale.shape.iter().product::<usize>() == 1;
        if !(is_one || by_row) || !is_wide(scale.dtype) {
            let (dtype, shape) = (scale.dtype, scale.shape);
            let form = format!("8-bit numbers with scales in blocks ({dtype} {shape:?})");
            return Err(not_decoded(source, &weight, &form));
        }
        self.extras.insert(name.to_owned());
        let bytes = scale.bytes().map_err(|error| not_read(&error))?;
        self.scales.insert(weight, to_f32(scale.dtype, &bytes));
        Ok(())
    }

    /// Where some weights have scales, or should have by the mark, all that are 8-bit must have.
    fn check_scales(
        &self,
        source: &dyn TensorSource,
        names: &[String],
    ) -> Result<(), CheckpointError> {
        if self.scales.is_empty()
            && self.dtypes.is_empty()
            && !names.iter().any(|name| is_mark(name))
        {
            return Ok(());
        }
        let lacks_scale = |name: &&String| {
            let dtype = source.tensor(name).map(|tensor| tensor.dtype);
            dtype.is_some_and(|dtype| is_narrow(dtype) || self.dtypes.contains_key(*name))
                && !is_mark(name)
                && !self.scales.contains_key(*name)
        };
        match names.iter().find(lacks_scale) {
            None => Ok(()),
            Some(name) => {
                Err(CheckpointError::NoScale { origin: source.origin(), name: name.clone() })
            }
        }
    }
}

/// A file that cannot be read.
pub(super) fn not_read(error: &FileError) -> CheckpointError {
    CheckpointError::NotRead { reason: error.to_string() }
}

fn not_decoded(source: &dyn TensorSource, name: &str, form: &str) -> CheckpointError {
    let (origin, name, form) = (source.origin(), name.to_owned(), form.to_owned());
    CheckpointError::NotDecoded { origin, name, form }
}

/// Whether a tensor says that weights have scales, by being there. Its elements say nothing else.
fn is_mark(name: &str) -> bool {
    name.rsplit('.').next() == Some(MARK)
}

fn is_wide(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F32 | Dtype::F16 | Dtype::BF16)
}

fn is_narrow(dtype: Dtype) -> bool {
    matches!(dtype, Dtype::F8_E4M3 | Dtype::F8_E5M2)
}
