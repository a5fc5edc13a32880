//! No index and no headers of shards make their readers panic; what they accept can be read.
//!
//! The input is an index and up to two shards, separated by lines of `---`. A shard is the JSON of
//! its header, a zero, and data; the length of the header is put before it here, since no mutation
//! would keep it right. The whole input is opened as one file too, with what length it may have.
#![no_main]

use libfuzzer_sys::fuzz_target;
use wan_io::files::ModelFiles;
use wan_io::weights::{Weights, WeightsFileError};

const SEPARATOR: &str = "\n---\n";

fuzz_target!(|input: &[u8]| {
    read(Weights::open_path(&wan_fuzz::write("whole.safetensors", input)));

    let input = String::from_utf8_lossy(input);
    let mut parts = input.splitn(3, SEPARATOR);
    wan_fuzz::write("m.safetensors.index.json", parts.next().unwrap_or_default().as_bytes());
    for name in ["a.safetensors", "b.safetensors"] {
        wan_fuzz::write(name, &shard(parts.next().unwrap_or_default()));
    }
    let files = ModelFiles::Folder(wan_fuzz::folder().to_owned());
    read(Weights::open(&files, "", "m"));
});

fn shard(part: &str) -> Vec<u8> {
    let (header, data) = part.split_once('\0').unwrap_or((part, ""));
    let length = header.len() as u64;
    [&length.to_le_bytes(), header.as_bytes(), data.as_bytes()].concat()
}

fn read(opened: Result<Weights, WeightsFileError>) {
    match opened {
        Ok(weights) => wan_fuzz::read_all(&weights),
        Err(error) => drop(error.to_string()),
    }
}
