//! Whole files with one byte changed, or cut off anywhere.

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use tempfile::NamedTempFile;
use wan_io::weights::{Weights, WeightsFileError};

use crate::safetensors::{file, tensor};

/// Small files of each format.
fn small_files() -> Vec<(&'static str, Vec<u8>)> {
    let fixture = |name: &str| {
        let folder = "../tests/fixtures/original_layout/pth_edge_cases";
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(name)).unwrap()
    };
    vec![
        ("zip", fixture("views_and_dtypes.pth")),
        ("attributes", fixture("state_dict_with_metadata.pth")),
        ("legacy", fixture("legacy_tar_format.pth")),
        ("safetensors", file(&format!("{{{},{}}}", tensor("a", 3, 0), tensor("b", 2, 12)), 20)),
    ]
}

/// A file of these bytes.
fn written(bytes: &[u8]) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), bytes).unwrap();
    file
}

/// Opens a file and reads all of its tensors.
fn read(file: &NamedTempFile) -> Result<(), WeightsFileError> {
    let weights = Weights::open_path(file.path())?;
    for name in weights.names() {
        let tensor = weights.tensor(name).unwrap();
        let numbers: usize = tensor.shape.iter().product();
        assert_eq!(tensor.bytes()?.len(), numbers * tensor.dtype.bitsize() / 8);
    }
    Ok(())
}

/// Any byte may be any other: that gives an error or other tensors, but no panic.
#[test]
fn any_byte_may_be_wrong() {
    for (name, whole) in small_files() {
        let mut file = written(&whole);
        for (at, byte) in whole.iter().enumerate() {
            for value in [byte ^ 0x01, byte ^ 0xff, *byte] {
                file.seek(SeekFrom::Start(at as u64)).unwrap();
                file.write_all(&[value]).unwrap();
                if value != *byte {
                    let _ = read(&file);
                }
            }
        }
        assert!(read(&file).is_ok(), "{name}");
    }
}

/// A file that is cut off never loads.
#[test]
fn any_length_but_the_whole_is_an_error() {
    for (name, whole) in small_files() {
        let file = written(&whole);
        for length in (0..whole.len()).rev() {
            file.as_file().set_len(length as u64).unwrap();
            assert!(read(&file).is_err(), "{name}: {length} bytes");
        }
    }
}
