//! Checkpoints of PyTorch against the tensors that PyTorch itself reads from them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use half::bf16;
use wan_io::files::ModelFiles;
use wan_io::pth::PthError;
use wan_io::weights::{Dtype, StoredTensor, Weights, WeightsFileError};

fn fixtures() -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures");
    std::env::var_os("WAN_FIXTURES").map_or(ours, PathBuf::from)
}

fn open(path: &str) -> Weights {
    Weights::open_path(&fixtures().join(path)).unwrap()
}

fn all(weights: &Weights) -> BTreeMap<&str, StoredTensor<'_>> {
    weights.names().map(|name| (name, weights.tensor(name).unwrap())).collect()
}

/// The tensors in the files of `pth_edge_cases`, bit by bit: shared storages, strides, all dtypes,
/// a scalar, nested dicts, a state dict with attributes, and the old format.
#[test]
fn edge_cases() {
    let outputs = open("original_layout/outputs.safetensors");
    for stem in ["legacy_tar_format", "nested", "state_dict_with_metadata", "views_and_dtypes"] {
        let weights = open(&format!("original_layout/pth_edge_cases/{stem}.pth"));
        let mut found = all(&weights);
        if stem == "views_and_dtypes" {
            // The fixture's outputs leave out the tensor without numbers.
            let empty = found.remove("empty").unwrap();
            assert_eq!((empty.dtype, empty.shape, empty.count()), (Dtype::F32, &[0, 4][..], 0));
        }
        let prefix = format!("pth.{stem}.");
        let expected: Vec<_> = outputs.names().filter_map(|n| n.strip_prefix(&prefix)).collect();
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), expected, "{stem}");
        for (name, found) in found {
            let expected = outputs.tensor(&format!("{prefix}{name}")).unwrap();
            assert_eq!(found.dtype, expected.dtype, "{stem}: {name}");
            assert_eq!(found.shape, expected.shape, "{stem}: {name}");
            assert_eq!(found.bytes().unwrap(), expected.bytes().unwrap(), "{stem}: {name}");
        }
    }
}

/// A part of a tensor is that part of its numbers, also of one that lies in another order in the file.
#[test]
fn parts_of_tensors_are_read() {
    let weights = open("original_layout/pth_edge_cases/views_and_dtypes.pth");
    let mut buffer = Vec::new();
    for (name, tensor) in all(&weights) {
        let (whole, size) = (tensor.bytes().unwrap(), tensor.dtype.bitsize() / 8);
        let count = tensor.count();
        for range in (0..=count).flat_map(|start| (start..=count).map(move |end| start..end)) {
            let expected = &whole[range.start * size..range.end * size];
            let found = tensor.read(range.clone(), &mut buffer).unwrap();
            assert_eq!(found, expected, "{name} {range:?}");
        }
    }
}

/// The tensors of the VAE in PyTorch's file are those of the other layout under other names.
#[test]
fn the_vae() {
    let (ours, theirs) = (
        open("original_layout/vae/Wan2.1_VAE.pth"),
        open("vae21/diffusion_pytorch_model.safetensors"),
    );
    let contents = |weights: &Weights| {
        let bytes = |tensor: StoredTensor| tensor.bytes().unwrap().into_owned();
        let mut contents: Vec<Vec<u8>> = all(weights).into_values().map(bytes).collect();
        contents.sort();
        contents
    };
    assert_eq!(contents(&ours), contents(&theirs));
}

/// The tensors of the text encoder in PyTorch's file are those of the other layout, rounded.
#[test]
fn the_text_encoder() {
    let ours = open("original_layout/t5/models_t5_umt5-enc-bf16.pth");
    let mut found: Vec<Vec<u8>> = Vec::new();
    for (name, tensor) in all(&ours) {
        assert_eq!(tensor.dtype, Dtype::BF16, "{name}");
        found.push(tensor.bytes().unwrap().into_owned());
    }
    let rounded = |tensor: StoredTensor| -> Vec<u8> {
        let bytes = tensor.bytes().unwrap();
        let numbers = bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b));
        numbers.flat_map(|number| bf16::from_f32(number).to_le_bytes()).collect()
    };
    let theirs = open("umt5/model.safetensors");
    let mut expected: Vec<Vec<u8>> = all(&theirs).into_values().map(rounded).collect();
    found.sort();
    expected.sort();
    expected.dedup(); // the other layout has the embedding under two names
    found.dedup();
    assert_eq!(found, expected);
}

/// A pickle that prints something when Python loads it.
#[test]
fn what_must_be_refused() {
    let path = fixtures().join("original_layout/pth_edge_cases/must_be_refused.pth");
    let error = Weights::open_path(&path).unwrap_err();
    let WeightsFileError::Pth { source, .. } = &error else { panic!("{error:?}") };
    assert!(matches!(source, PthError::Forbidden { global } if global == "__builtin__.print"));
    let expected = "calls `__builtin__.print`, which is not on the list of what a checkpoint may \
                    contain; nothing of it was run";
    assert_eq!(error.to_string(), format!("{}: {expected}", path.display()));
}

/// The content tells what a file is; a checkpoint has no index and can be part of a model.
#[test]
fn content_and_not_the_name() {
    let folder = tempfile::tempdir().unwrap();
    let pth = fixtures().join("original_layout/vae/Wan2.1_VAE.pth");
    fs::copy(pth, folder.path().join("vae.safetensors")).unwrap();
    let safetensors = fixtures().join("original_layout/outputs.safetensors");
    fs::copy(safetensors, folder.path().join("outputs.pth")).unwrap();
    let files = ModelFiles::folder(folder.path()).unwrap();
    for (name, tensor) in [("vae.safetensors", "conv1.weight"), ("outputs.pth", "pth.nested")] {
        let weights = Weights::open_file(&files, name).unwrap();
        assert!(weights.names().any(|name| name.starts_with(tensor)), "{name}");
        assert_eq!(weights.origin(), files.display_path(name));
    }
    let weights = Weights::open(&files, "", "vae").unwrap();
    assert_eq!(weights.origin(), files.display_path("vae.safetensors"));
}
