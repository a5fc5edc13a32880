//! Tensors that OpenCLIP and the original Wan store in other forms than transformers: queries, keys and
//! values as one matrix, projections as parameters `[in, out]`, positions with axes of 1.

use std::collections::BTreeMap;
use std::sync::Arc;

use wan_io::files::FileError;
use wan_io::weights::{Dtype, StoredTensor};

use crate::load::{CheckpointError, TensorSource};

/// How the names of three matrices or vectors in one end, and those of the parts.
const FUSED: [(&str, &str); 4] = [
    (".in_proj_weight", "weight"),
    (".in_proj_bias", "bias"),
    (".to_qkv.weight", "weight"),
    (".to_qkv.bias", "bias"),
];
/// In the order in which they are stored.
const PARTS: [&str; 3] = ["q_proj", "k_proj", "v_proj"];
/// Projections as `[in, out]`, by the last parts of their names.
const TURNED: [&str; 3] = ["visual.proj", "visual.head", "text_projection"];
/// Tensors with axes of 1 in front, and how many axes are right.
const FLAT: [(&str, usize); 2] = [("visual.cls_embedding", 1), ("visual.pos_embedding", 2)];

/// A source whose tensors also stand in the forms that transformers has: `attn.q_proj.weight` for the first
/// third of `attn.in_proj_weight`, and so on.
pub(super) struct Parts {
    source: Arc<dyn TensorSource>,
    /// By the names under which they are asked for.
    parts: BTreeMap<String, Part>,
}

struct Part {
    /// The tensor in the source.
    of: String,
    shape: Vec<usize>,
    form: Form,
}

enum Form {
    /// The elements from this one on.
    From(usize),
    /// Elements in another order.
    Turned(Dtype, Vec<u8>),
}

impl Parts {
    /// # Errors
    /// If a projection cannot be read.
    pub(super) fn new(source: Arc<dyn TensorSource>) -> Result<Self, CheckpointError> {
        let mut parts = BTreeMap::new();
        for name in source.names() {
            let Some(tensor) = source.tensor(&name).filter(has_elements) else { continue };
            if let Some((base, ending)) = fused(&name) {
                for (i, part) in PARTS.iter().enumerate() {
                    parts.insert(format!("{base}.{part}.{ending}"), third(i, &name, tensor.shape));
                }
            } else if ends_with(&name, &TURNED) {
                parts.extend(turned(&name, &tensor)?.map(|part| (name.clone(), part)));
            } else if let Some(part) = flat(&name, tensor.shape) {
                parts.insert(name.clone(), part);
            }
        }
        Ok(Self { source, parts })
    }

    /// The name in the source; of a part that is not there, that of the matrix that it should be in.
    fn name(&self, name: &str) -> String {
        if let Some(part) = self.parts.get(name) {
            return part.of.clone();
        }
        let whole = PARTS.iter().find_map(|part| {
            let (base, ending) = name.split_once(&format!("{part}."))?;
            let is_style = |style: &&(&str, &str)| {
                style.1 == ending && self.parts.values().any(|part| part.of.ends_with(style.0))
            };
            let (style, _) = FUSED.iter().find(is_style)?;
            Some(format!("{}{style}", base.strip_suffix('.')?))
        });
        whole.unwrap_or_else(|| name.to_owned())
    }
}

impl TensorSource for Parts {
    fn names(&self) -> Vec<String> {
        self.source.names()
    }

    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let Some(Part { of, shape, form }) = self.parts.get(name) else {
            return self.source.tensor(name);
        };
        match form {
            Form::From(start) => Some(self.source.tensor(of)?.part(*start, shape)),
            Form::Turned(dtype, bytes) => {
                Some(StoredTensor::in_memory(*dtype, shape, bytes.as_slice()))
            }
        }
    }

    fn scale(&self, name: &str) -> &[f32] {
        self.source.scale(&self.name(name))
    }

    fn label(&self, name: &str) -> String {
        self.source.label(&self.name(name))
    }

    fn origin(&self) -> String {
        self.source.origin()
    }
}

/// Whether a tensor has elements, and not more than can be counted.
fn has_elements(tensor: &StoredTensor) -> bool {
    let count = tensor.shape.iter().try_fold(1_usize, |count, &axis| count.checked_mul(axis));
    count.is_some_and(|count| count > 0)
}

/// The name of a layer whose queries, keys and values are one tensor, and how the names of its parts end.
fn fused(name: &str) -> Option<(&str, &'static str)> {
    FUSED.iter().find_map(|(end, ending)| Some((name.strip_suffix(end)?, *ending)))
}

/// One of three equal parts. A tensor that has not three is left whole: its shape is then an error.
fn third(i: usize, of: &str, shape: &[usize]) -> Part {
    let (mut shape, mut start) = (shape.to_vec(), 0);
    if let [rows, rest @ ..] = &mut *shape
        && rows.is_multiple_of(3)
    {
        *rows /= 3;
        start = i * *rows * rest.iter().product::<usize>();
    }
    Part { of: of.to_owned(), shape, form: Form::From(start) }
}

/// A matrix with its axes exchanged; `None` if it is none.
fn turned(of: &str, tensor: &StoredTensor) -> Result<Option<Part>, CheckpointError> {
    let &[rows, columns] = tensor.shape else { return Ok(None) };
    let not_read = |error: FileError| CheckpointError::NotRead { reason: error.to_string() };
    let (bytes, size) = (tensor.bytes().map_err(not_read)?, tensor.dtype.bitsize() / 8);
    if bytes.len().checked_div(size) != Some(rows * columns) {
        return Ok(None); // elements of less than a byte
    }
    let order = (0..columns).flat_map(|column| (0..rows).map(move |row| row * columns + column));
    let turned = order.flat_map(|i| &bytes[i * size..][..size]).copied().collect();
    let form = Form::Turned(tensor.dtype, turned);
    Ok(Some(Part { of: of.to_owned(), shape: vec![columns, rows], form }))
}

fn flat(name: &str, shape: &[usize]) -> Option<Part> {
    let (_, axes) = FLAT.iter().find(|(end, _)| ends_with(name, &[end]))?;
    let (ones, rest) = shape.split_at(shape.len().checked_sub(*axes)?);
    let is_flat = ones.iter().all(|&axis| axis == 1);
    is_flat.then(|| Part { of: name.to_owned(), shape: rest.to_vec(), form: Form::From(0) })
}

/// Whether a name is one of these, below whatever.
fn ends_with(name: &str, ends: &[&str]) -> bool {
    ends.iter().any(|end| {
        name.strip_suffix(end).is_some_and(|before| before.is_empty() || before.ends_with('.'))
    })
}
