//! A VAE of the layout of Wan 2.2 for the miniature model, whose latents have 16 channels: names and shapes, and
//! a hole for values.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use burn::tensor::DType;
use serde_json::{Map, Value, json};
use wan_io::weights::StoredTensor;
use wan_models::load::{Mismatch, TensorSource, check};
use wan_models::vae::{WanVae, WanVaeConfig};
use wan_pipeline::backend::Flex;

fn config() -> WanVaeConfig {
    WanVaeConfig {
        base_dim: 32,
        decoder_base_dim: Some(64),
        num_res_blocks: 1,
        is_residual: true,
        in_channels: 12,
        out_channels: 12,
        patch_size: Some(2),
        ..WanVaeConfig::default()
    }
}

struct Nothing;

impl TensorSource for Nothing {
    fn names(&self) -> Vec<String> {
        Vec::new()
    }

    fn tensor(&self, _: &str) -> Option<StoredTensor<'_>> {
        None
    }

    fn origin(&self) -> String {
        "nothing".into()
    }
}

/// Names and shapes: all that the network finds missing.
fn tensors() -> Vec<(String, Vec<usize>)> {
    config().validate().unwrap();
    let none: Arc<dyn TensorSource> = Arc::new(Nothing);
    let error = check::<Flex, WanVae<Flex>>(&none, &Default::default(), DType::F32, &config());
    let missing = |mismatch| match mismatch {
        Mismatch::Missing { name, expected } => (name, expected),
        other => panic!("{other}"),
    };
    error.unwrap_err().mismatches.into_iter().map(missing).collect()
}

/// Writes the file into a folder.
pub(crate) fn write(folder: &Path) -> PathBuf {
    let (mut header, mut end) = (Map::new(), 0);
    for (name, shape) in tensors() {
        let start = end;
        end += 4 * shape.iter().product::<usize>();
        let entry = json!({ "dtype": "F32", "shape": shape, "data_offsets": [start, end] });
        header.insert(name, entry);
    }
    let header = Value::Object(header).to_string();
    let path = folder.join("vae.safetensors");
    let mut file = File::create(&path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(header.as_bytes()).unwrap();
    file.set_len((8 + header.len() + end) as u64).unwrap();
    path
}
