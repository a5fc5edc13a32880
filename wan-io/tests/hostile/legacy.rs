//! Checkpoints in the format before PyTorch 1.6.

use crate::table::{Content, Row, loads};
use crate::write::{dict, int, pair, pickle, text};

const MAGIC: [u8; 10] = [0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19];

/// The parts of a file; each may be a lie.
struct Legacy {
    magic: Vec<u8>,
    version: i64,
    machine: Vec<u8>,
    checkpoint: Vec<u8>,
    keys: Vec<u8>,
    storages: Vec<u8>,
}

impl Legacy {
    fn new() -> Self {
        Self {
            magic: [&b"\x8a\x0a"[..], &MAGIC].concat(),
            version: 1001,
            machine: dict(&[("little_endian", b"\x88".to_vec())]),
            checkpoint: dict(&[("w", pair("k"))]),
            keys: keys(&["k"]),
            storages: numbers(2),
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let version = int(self.version);
        let parts = [&self.magic, &version, &self.machine, &self.checkpoint, &self.keys];
        let pickles: Vec<u8> = parts.into_iter().flat_map(|part| pickle(part)).collect();
        [&pickles[..], &self.storages].concat()
    }
}

fn keys(names: &[&str]) -> Vec<u8> {
    let names: Vec<u8> = names.iter().flat_map(|name| text(name)).collect();
    [b"](", &names[..], b"e"].concat()
}

/// A storage of two numbers that says that it has `count`.
fn numbers(count: u64) -> Vec<u8> {
    [count.to_le_bytes(), [0; 8]].concat()
}

fn fails(name: &'static str, content: impl Into<Content>, reason: &str) -> Row {
    let what = "is not a whole checkpoint in PyTorch's old format: ";
    crate::table::fails(name, content, what, reason)
}

/// A file with one part changed.
fn with(change: impl FnOnce(&mut Legacy)) -> Vec<u8> {
    let mut legacy = Legacy::new();
    change(&mut legacy);
    legacy.bytes()
}

pub(crate) fn rows() -> Vec<Row> {
    let mut rows = parts();
    rows.extend(storages());
    rows
}

fn parts() -> Vec<Row> {
    let big = dict(&[("little_endian", b"\x89".to_vec())]);
    let order = "its numbers are stored as big-endian, but must be little-endian";
    let huge = with(|l| l.checkpoint = b"X\0\0\x10\x04".to_vec());
    let huge = Content::Sparse(vec![(0, huge)], 70 << 20);
    let no_magic = "it does not start with PyTorch's magic number";
    let forbidden = "calls `os.system`, which is not on the list of what a checkpoint may contain; \
                     nothing of it was run";
    let call = |l: &mut Legacy| l.magic = b"cos\nsystem\nX\x02\0\0\0id\x85R".to_vec();
    vec![
        loads("an honest file", with(|_| {}), &["w"]),
        fails("another magic number", with(|l| l.magic[2] = 0), no_magic),
        fails("a pickle without the rest", pickle(&dict(&[("w", b"N".to_vec())])), no_magic),
        fails("another version", with(|l| l.version = 1002), "its version is not 1001"),
        fails(
            "no machine",
            with(|l| l.machine = b"N".to_vec()),
            "it does not describe the machine it was written on",
        ),
        fails(
            "no byte order",
            with(|l| l.machine = dict(&[])),
            "it does not say in which order bytes are",
        ),
        crate::table::fails("big-endian", with(|l| l.machine = big), order, ""),
        crate::table::fails("a call instead of the magic number", with(call), forbidden, ""),
        crate::table::fails(
            "a pickle of 65 MiB",
            huge,
            "has more than 67108864 bytes of pickle",
            "",
        ),
    ]
}

fn storages() -> Vec<Row> {
    let is = |name, change: fn(&mut Legacy), reason: &str| {
        crate::table::fails(name, with(change), &format!(r#"storage "k" {reason}"#), "")
    };
    let huge = |l: &mut Legacy| {
        let storage = crate::write::storage("DoubleStorage", "k", 1 << 61);
        l.checkpoint = dict(&[("w", crate::write::rebuild(storage, 0, &[2], &[1]))]);
        l.storages = numbers(1 << 61);
    };
    vec![
        fails(
            "no list of storages",
            with(|l| l.keys = b"}".to_vec()),
            "it has no list of storages",
        ),
        fails(
            "a storage without a name",
            with(|l| l.keys = b"]Na".to_vec()),
            "a storage's name is not text",
        ),
        fails(
            "bytes at the end",
            with(|l| l.storages.push(0)),
            "its last storage is followed by 1 byte",
        ),
        is("a count too large", |l| l.storages = numbers(3), "has 3 numbers instead of 2"),
        is(
            "a negative count",
            |l| l.storages = numbers(u64::MAX),
            "has 18446744073709551615 numbers instead of 2",
        ),
        is(
            "a count that overflows",
            huge,
            "has 2305843009213693952 numbers, but only 8 of its bytes are left",
        ),
        is(
            "a storage that is cut off",
            |l| l.storages.truncate(15),
            "has 2 numbers, but only 7 of its bytes are left",
        ),
        is("a count that is cut off", |l| l.storages.truncate(7), "is cut off"),
        is(
            "a storage that is not listed",
            |l| (l.keys, l.storages) = (keys(&[]), vec![]),
            "is missing",
        ),
        is(
            "a storage listed twice",
            |l| (l.keys, l.storages) = (keys(&["k", "k"]), numbers(2).repeat(2)),
            "is there twice",
        ),
        is("a storage of no tensor", |l| l.checkpoint = b"}".to_vec(), "belongs to no tensor"),
    ]
}
