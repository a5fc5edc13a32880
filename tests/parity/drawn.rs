//! Weights that are drawn instead of stored, which would be too large for the repository: torch's generator gives the
//! same ones to the reference.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use wan_core::noise::TorchGenerator;
use wan_io::weights::{Dtype, StoredTensor};
use wan_models::load::TensorSource;

/// The file that says of each tensor how it is drawn.
pub const RULES: &str = "weights.json";

/// How a tensor is drawn: `mean + std * randn(shape)`, from a seed of its own.
#[derive(Deserialize)]
struct Rule {
    shape: Vec<usize>,
    seed: u64,
    mean: f32,
    std: f32,
}

impl Rule {
    fn draw(self) -> Tensor {
        let Self { shape, seed, mean, std } = self;
        let values = TorchGenerator::new(seed).randn(shape.iter().product());
        let bytes = values.into_iter().flat_map(|value| (mean + std * value).to_le_bytes());
        Tensor { bytes: bytes.collect(), shape }
    }
}

struct Tensor {
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

pub struct DrawnWeights {
    tensors: BTreeMap<String, Tensor>,
    origin: String,
}

impl DrawnWeights {
    /// Those of a folder with [`RULES`].
    pub fn open(folder: &Path) -> Self {
        let file = folder.join(RULES);
        let text = std::fs::read_to_string(&file).expect("rules");
        let rules: BTreeMap<String, Rule> = serde_json::from_str(&text).expect("rules are valid");
        let tensors = rules.into_iter().map(|(name, rule)| (name, rule.draw())).collect();
        Self { tensors, origin: file.display().to_string() }
    }
}

impl TensorSource for DrawnWeights {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn tensor(&self, canonical: &str) -> Option<StoredTensor<'_>> {
        let Tensor { shape, bytes } = self.tensors.get(canonical)?;
        Some(StoredTensor::in_memory(Dtype::F32, shape, &bytes[..]))
    }

    fn origin(&self) -> String {
        self.origin.clone()
    }
}
