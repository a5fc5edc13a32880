//! A hash that identifies weights, of which at most 16 MiB a file are read where files are large.

use sha2::{Digest as _, Sha256};

use super::{Entry, Weights};
use crate::files::{FileError, OpenFile};
use crate::integrity::Digest;

/// Files up to this size are hashed whole,
const WHOLE: usize = 256 << 20;
/// so many bytes at a time.
const PIECE: usize = 1 << 20;
/// So many blocks of a larger file are hashed,
const BLOCKS: usize = 4096;
/// each of so many bytes.
const BLOCK_BYTES: usize = 4096;

/// The fingerprint, as lower-case hex digits.
pub(super) fn fingerprint(weights: &Weights) -> Result<String, FileError> {
    let (mut hash, mut buffer) = (Sha256::new(), Vec::new());
    for (index, shard) in weights.shards.iter().enumerate() {
        add_number(&mut hash, shard.size());
        if shard.size() <= WHOLE {
            for start in (0..shard.size()).step_by(PIECE) {
                let end = shard.size().min(start + PIECE);
                hash.update(shard.read(start..end, &mut buffer)?);
            }
        } else {
            add_header(&mut hash, weights, index);
            add_blocks(&mut hash, shard, &mut buffer)?;
        }
    }
    Ok(Digest::Sha256(hash.finalize().into()).to_string())
}

/// Names, dtypes, shapes and places of a file's tensors, and the properties of all files. The bytes of
/// the header would not do: checkpoints of PyTorch have none.
fn add_header(hash: &mut Sha256, weights: &Weights, index: usize) {
    let in_shard = |(_, entry): &(&String, &Entry)| entry.shard == index;
    for (name, Entry { view, .. }) in weights.tensors.iter().filter(in_shard) {
        add_text(hash, name);
        add_text(hash, &view.dtype.to_string());
        add_numbers(hash, &view.shape);
        add_numbers(hash, &[view.range.start, view.range.end]);
        add_numbers(hash, view.strides().unwrap_or_default());
    }
    for (key, value) in &weights.metadata {
        add_text(hash, key);
        add_text(hash, value);
    }
}

/// Blocks at equal distances, the first and the last one among them.
fn add_blocks(hash: &mut Sha256, file: &OpenFile, buffer: &mut Vec<u8>) -> Result<(), FileError> {
    let last = (file.size() - BLOCK_BYTES) as u64;
    for block in 0..BLOCKS as u64 {
        let start = (last * block / (BLOCKS as u64 - 1)) as usize;
        hash.update(file.read(start..start + BLOCK_BYTES, buffer)?);
    }
    Ok(())
}

fn add_number(hash: &mut Sha256, number: usize) {
    hash.update((number as u64).to_le_bytes());
}

/// The count first, so that the numbers after them cannot be taken for some of them.
fn add_numbers(hash: &mut Sha256, numbers: &[usize]) {
    add_number(hash, numbers.len());
    numbers.iter().for_each(|&number| add_number(hash, number));
}

fn add_text(hash: &mut Sha256, text: &str) {
    add_number(hash, text.len());
    hash.update(text);
}
