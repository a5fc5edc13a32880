//! Weights as a user of the library writes and reads them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tempfile::TempDir;
use wan_io::weights::{Dtype, SafetensorsWriter, Weights};

type Tensor<'a> = (&'a str, Dtype, Vec<usize>, Vec<u8>);

fn folder() -> TempDir {
    tempfile::tempdir().unwrap()
}

fn write(path: &Path, tensors: &[Tensor], metadata: &[(&str, &str)]) {
    let metadata = metadata.iter().map(|(key, value)| (key.to_string(), value.to_string()));
    SafetensorsWriter::create(path).unwrap().write(tensors.to_vec(), metadata.collect()).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn what_is_written_is_read_by_us_and_by_the_reference() {
    let folder = folder();
    let path = folder.path().join("权重 a.safetensors");
    let tensors: Vec<Tensor> = vec![
        ("half", Dtype::F16, vec![3], vec![1, 2, 3, 4, 5, 6]),
        ("scalar", Dtype::F32, vec![], vec![1, 2, 3, 4]),
        ("empty", Dtype::BF16, vec![0, 7], vec![]),
        ("\"quoted\" 猫", Dtype::F64, vec![1, 2], (0..16).collect()),
        ("bytes", Dtype::U8, vec![5], vec![9; 5]),
    ];
    write(&path, &tensors, &[("format", "pt"), ("note", "一 \"猫\" \\")]);

    let weights = Weights::open_path(&path).unwrap();
    assert_eq!(weights.names().count(), tensors.len());
    let bytes = fs::read(&path).unwrap();
    let reference = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, dtype, shape, bytes) in &tensors {
        let found = weights.tensor(name).unwrap();
        assert_eq!(
            (found.dtype, found.shape, &*found.bytes().unwrap()),
            (*dtype, &shape[..], &bytes[..])
        );
        let found = reference.tensor(name).unwrap();
        assert_eq!((found.dtype(), found.shape(), found.data()), (*dtype, &shape[..], &bytes[..]));
    }
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["note"], "一 \"猫\" \\");
    // Elements lie where programs that map the file can use them.
    let start = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    assert!(start.is_multiple_of(8));
    assert_eq!(bytes[start..start + 16], (0..16).collect::<Vec<u8>>());
}

#[test]
fn tensors_that_are_wrong_leave_nothing() {
    let folder = folder();
    let path = folder.path().join("x.safetensors");
    let one = || ("a", Dtype::F32, vec![1], vec![0; 4]);
    let (huge, long) = (1 << 62, "n".repeat(1025));
    let cases: [(Vec<Tensor>, &str); 6] = [
        (vec![("a", Dtype::F32, vec![2], vec![0; 4])], "\"a\" has 4 bytes, which F32 [2]"),
        (vec![("a", Dtype::F32, vec![huge, 8], vec![])], "has 0 bytes"),
        (vec![one(), one()], "\"a\" is there twice"),
        (vec![("__metadata__", Dtype::F32, vec![1], vec![0; 4])], "is there twice"),
        (vec![("a\u{1b}[2J", Dtype::U8, vec![0], vec![])], "has control characters"),
        (vec![(&long, Dtype::U8, vec![0], vec![])], "at most 1024"),
    ];
    for (tensors, expected) in cases {
        let writer = SafetensorsWriter::create(&path).unwrap();
        let message = writer.write(tensors, BTreeMap::new()).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert!(message.contains("x.safetensors"), "{message}");
        assert!(names(folder.path()).is_empty());
    }
}

#[test]
fn places_that_cannot_hold_a_file_are_refused_before_the_tensors_exist() {
    let folder = folder();
    fs::create_dir(folder.path().join("taken")).unwrap();
    fs::write(folder.path().join("file"), "kept").unwrap();
    for (name, expected) in [
        ("missing/x.safetensors", "does not exist"),
        ("file/x.safetensors", "is not a folder"),
        ("taken", "a folder of that name exists"),
        ("..", "no name"),
    ] {
        let path = folder.path().join(name);
        let message = SafetensorsWriter::create(&path).err().expect(name).to_string();
        assert!(message.contains(expected), "{message}");
        assert!(message.contains(&format!("`{}`", path.display())), "{message}");
    }
    drop(SafetensorsWriter::create(folder.path().join("file")).unwrap());
    assert_eq!(fs::read(folder.path().join("file")).unwrap(), b"kept");
    assert_eq!(names(folder.path()).len(), 2);
}

/// Two shards and their index, in which `order` says which tensor is named first.
fn write_shards(folder: &Path, order: [&str; 2]) -> Weights {
    let shard = |name: &str, tensor: &'static str, value: u8, metadata: &[(&str, &str)]| {
        write(&folder.join(name), &[(tensor, Dtype::U8, vec![2], vec![value; 2])], metadata);
    };
    shard("m-1.safetensors", "a", 1, &[("format", "pt"), ("first", "1"), ("both", "one")]);
    shard("m-2.safetensors", "b", 2, &[("format", "pt"), ("second", "2"), ("both", "two")]);
    let shard_of = |tensor: &str| if tensor == "a" { "m-1" } else { "m-2" };
    let map = order.map(|tensor| format!(r#""{tensor}":"{}.safetensors""#, shard_of(tensor)));
    let index = format!(r#"{{"weight_map":{{{}}}}}"#, map.join(","));
    let path = folder.join("m.safetensors.index.json");
    fs::write(&path, index).unwrap();
    Weights::open_path(&path).unwrap()
}

#[test]
fn metadata_of_shards_is_joined() {
    let folder = folder();
    let weights = write_shards(folder.path(), ["a", "b"]);
    let found: Vec<_> = weights.metadata().iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    assert_eq!(found, [("both", "one"), ("first", "1"), ("format", "pt"), ("second", "2")]);
    let path = folder.path().join("none.safetensors");
    write(&path, &[], &[]);
    assert!(Weights::open_path(&path).unwrap().metadata().is_empty());
    for (header, expected) in [
        (r#"{"__metadata__":null}"#, &[][..]),
        (
            r#"{"__metadata__":{"a":1.5,"b":{"c":[null]},"d":"x"}}"#,
            &["1.5", r#"{"c":[null]}"#, "x"],
        ),
    ] {
        let length = (header.len() as u64).to_le_bytes();
        fs::write(&path, [&length[..], header.as_bytes()].concat()).unwrap();
        let weights = Weights::open_path(&path).unwrap();
        assert!(weights.metadata().values().eq(expected), "{weights:?}");
    }
}

#[test]
fn metadata_of_many_shards_is_bounded() {
    let folder = folder();
    let long = "x".repeat(9 << 20);
    for shard in ["a", "b"] {
        let path = folder.path().join(format!("m-{shard}.safetensors"));
        write(&path, &[(shard, Dtype::U8, vec![0], vec![])], &[(shard, &long)]);
    }
    let path = folder.path().join("m.safetensors.index.json");
    let map = r#"{"weight_map":{"a":"m-a.safetensors","b":"m-b.safetensors"}}"#;
    fs::write(&path, map).unwrap();
    let message = Weights::open_path(&path).unwrap_err().to_string();
    assert!(message.contains("m-b.safetensors") && message.contains("take 18874370 bytes"));
}

#[test]
fn a_fingerprint_is_that_of_the_content() {
    let (here, there) = (folder(), folder());
    let first = write_shards(here.path(), ["a", "b"]).fingerprint().unwrap();
    assert_eq!(first.len(), 64);
    assert!(first.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')));
    assert_eq!(write_shards(there.path(), ["b", "a"]).fingerprint().unwrap(), first);

    let path = there.path().join("m-2.safetensors");
    let whole = fs::read(&path).unwrap();
    let one = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        Weights::open_path(&path).map(|weights| weights.fingerprint().unwrap())
    };
    let original = one(&whole).unwrap();
    assert_ne!(original, first);
    let mut read = 0;
    for at in 0..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 1;
        if let Ok(found) = one(&changed) {
            assert_ne!(found, original, "byte {at}");
            read += 1;
        }
    }
    assert!(read > 10, "most changes of names, properties and elements can be read");
}

#[test]
fn the_fingerprint_of_a_large_file_sees_its_header_and_both_ends() {
    let folder = folder();
    let path = folder.path().join("large.safetensors");
    let bytes = 257 << 20;
    let fingerprint = |name: &str, change: Option<u64>| {
        let header = format!(
            r#"{{"{name}":{{"dtype":"U8","shape":[{bytes}],"data_offsets":[0,{bytes}]}}}}"#
        );
        fs::write(&path, [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat())
            .unwrap();
        let start = 8 + header.len() as u64;
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_len(start + bytes).unwrap(); // It takes no room on the disk.
        if let Some(at) = change {
            use std::io::{Seek, SeekFrom, Write};
            (&file).seek(SeekFrom::Start(start + at)).unwrap();
            (&file).write_all(&[1]).unwrap();
        }
        Weights::open_path(&path).unwrap().fingerprint().unwrap()
    };
    let original = fingerprint("a", None);
    assert_eq!(fingerprint("a", None), original);
    assert_ne!(fingerprint("b", None), original);
    assert_ne!(fingerprint("a", Some(0)), original);
    assert_ne!(fingerprint("a", Some(bytes - 1)), original);
    // Between two blocks: as documented.
    assert_eq!(fingerprint("a", Some(10_000)), original);
}
