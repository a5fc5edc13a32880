//! Checkpoints in archives that are not as PyTorch writes them.

use crate::table::{Content, Row, loads};
use crate::write::{
    Entry, dict, pair, patch, pickle, pieces, rebuild, sparse, storage, value, zip,
};

/// From the end: the end itself, the locator of the zip64 end, and that end.
const END: usize = 22;
const LOCATOR: usize = END + 20;
const END64: usize = LOCATOR + 56;

fn fails(name: &'static str, content: impl Into<Content>, reason: &str) -> Row {
    let what = "is not a whole zip archive as PyTorch writes it: ";
    crate::table::fails(name, content, what, reason)
}

fn model() -> Vec<u8> {
    value(&dict(&[("w", pair("0"))]))
}

/// The archive of `model` with another entry for the storage.
fn with_storage(change: impl FnOnce(&mut Entry)) -> Vec<u8> {
    let mut storage = Entry::new("x/data/0", &[0; 8]);
    change(&mut storage);
    zip(&[Entry::new("x/data.pkl", &pickle(&dict(&[("w", pair("0"))]))), storage])
}

pub(crate) fn rows() -> Vec<Row> {
    [honest(), entries(), places(), ends(), content()].into_iter().flatten().collect()
}

fn honest() -> Vec<Row> {
    let body = model();
    // Without the zip64 end, as other programs write small archives.
    let short = [&body[..body.len() - END64], &body[body.len() - END..]].concat();
    // A storage of 5 GB: the sizes and offsets after it need 64 bits.
    let count = 5_000_000_000;
    let all = rebuild(storage("ByteStorage", "0", count), count - 2, &[2], &[1]);
    let large = dict(&[("last", all), ("next", pair("1"))]);
    let mut hole = Entry::new("x/data/0", &[]);
    hole.hole = count as u64;
    let large =
        sparse(&[hole, Entry::new("x/data/1", &[0; 8]), Entry::new("x/data.pkl", &pickle(&large))]);
    vec![
        loads("an honest archive", body, &["w"]),
        loads("no zip64 end, no byte order", short, &["w"]),
        loads("no byte order", with_storage(|_| {}), &["w"]),
        loads("more than 4 GiB", large, &["last", "next"]),
    ]
}

fn entries() -> Vec<Row> {
    let is = |name, change: fn(&mut Entry), what: &str| {
        fails(name, with_storage(change), &format!(r#"entry "x/data/0" {what}"#))
    };
    vec![
        is(
            "a zip bomb",
            |e| (e.method, e.size) = (8, Some(1 << 40)),
            "is compressed, which PyTorch never does",
        ),
        is("an unknown compression", |e| e.method = 99, "is compressed, which PyTorch never does"),
        is("an encrypted entry", |e| e.flags |= 1, "is encrypted"),
        is("strong encryption", |e| e.flags |= 1 << 6, "has the flags 0x0848"),
        is("a patch", |e| e.flags |= 1 << 5, "has the flags 0x0828"),
        is("another disk", |e| e.disk = 1, "is in another part"),
        is("two sizes", |e| e.packed = Some(4), "has 4 bytes, but says 8"),
        is(
            "a size beyond the end",
            |e| e.size = Some(500),
            "would have 500 bytes, but only 8 are left",
        ),
        is(
            "a size of 4 GiB",
            |e| e.size = Some(1 << 32),
            "would have 4294967296 bytes, but only 8 are left",
        ),
        is(
            "the largest size",
            |e| e.size = Some(u64::MAX),
            "would have 18446744073709551615 bytes, but only 8 are left",
        ),
        is(
            "an offset beyond the end",
            |e| e.offset = Some(1 << 20),
            "has no whole header at 1048576",
        ),
        is(
            "the largest offset",
            |e| e.offset = Some(u64::MAX),
            "has no whole header at 18446744073709551615",
        ),
        is("an offset inside another entry", |e| e.offset = Some(1), "has no whole header at 1"),
        is(
            "another name at the entry",
            |e| e.local_name = Some(b"x/data/1".to_vec()),
            "is described differently in its own header",
        ),
        is(
            "another size at the entry",
            |e| e.local_size = 4,
            "is described differently in its own header",
        ),
        is(
            "no zip64 sizes",
            |e| (e.size, e.extra) = (Some(1 << 32), Some(vec![])),
            "has no zip64 sizes, but needs them",
        ),
        is(
            "short zip64 sizes",
            |e| (e.size, e.extra) = (Some(1 << 32), Some(vec![1, 0, 4, 0, 0, 0, 0, 0])),
            "has no zip64 sizes, but needs them",
        ),
        is(
            "zip64 sizes beyond the end",
            |e| (e.size, e.extra) = (Some(1 << 32), Some(vec![1, 0, 255, 255])),
            "has no zip64 sizes, but needs them",
        ),
        fails(
            "a name that is not UTF-8",
            with_storage(|e| e.name = vec![0xff]),
            "an entry's name is not UTF-8",
        ),
        fails(
            "a name of 2,000 bytes",
            with_storage(|e| e.name = vec![b'n'; 2000]),
            "an entry's name has more than 1024 bytes",
        ),
    ]
}

fn places() -> Vec<Row> {
    let entry = Entry::new("x/data.pkl", &pickle(b"}"));
    let storage = Entry::new("x/data/0", &[0; 8]);
    // The inner archive's entry lies in the data of the outer one.
    let inner = zip(std::slice::from_ref(&storage));
    let mut outer = Entry::new("x/data/1", &inner);
    let mut inside = storage.clone();
    (outer.flags, inside.offset) = (0x0808, Some(30 + 8));
    let overlap = zip(&[outer, entry.clone(), inside]);
    let mut twin = storage.clone();
    twin.offset = Some(0);
    vec![
        fails("an entry in an entry", overlap, r#"entries "x/data/1" and "x/data/0" overlap"#),
        fails(
            "an entry twice",
            zip(&[entry.clone(), storage.clone(), storage.clone()]),
            r#"entry "x/data/0" is there twice"#,
        ),
        fails(
            "one place for two",
            zip(&[storage, twin, entry]),
            r#"entry "x/data/0" is there twice"#,
        ),
    ]
}

fn ends() -> Vec<Row> {
    let not_at_end = "it does not end with a zip directory (cut off, or something follows it)";
    let no_zip64 = "its zip64 end is not where it should be";
    let disagree = "its two ends do not agree";
    let commented = [&patch(model(), 2, b"\x07\0")[..], b"comment"].concat();
    // An archive in the comment of another one: which is it?
    let inner = model();
    let nested = patch(model(), 2, &(inner.len() as u16).to_le_bytes());
    let nested = [nested, inner].concat();
    let size_of = |bytes: &[u8]| bytes.len() - END64;
    let (at, count) = (size_of(&model()), |n: u8| [n, 0, n, 0]);
    let counted = |n: u8| {
        let wide = patch(model(), END64 - 24, &[n, 0, 0, 0, 0, 0, 0, 0, n]);
        patch(wide, END - 8, &count(n))
    };
    let mut many = pieces(&[]).0.remove(0).1;
    many = patch(many, END64 - 24, &[&60_000_u64.to_le_bytes()[..]; 2].concat());
    many = patch(many, END - 8, &[&60_000_u16.to_le_bytes()[..]; 2].concat());
    let far = patch(patch(model(), END64 - 48, &[0xff; 8]), END - 16, &[0xff; 4]);
    vec![
        fails("cut off", model()[..model().len() - 1].to_vec(), not_at_end),
        fails("only a start", b"PK\x03\x04".to_vec(), not_at_end),
        fails("bytes behind the end", [&model()[..], &[0; 7]].concat(), not_at_end),
        fails("a comment", commented, not_at_end),
        fails("an archive in a comment", nested, no_zip64),
        fails(
            "several disks",
            patch(patch(model(), END - 4, &[1]), END64 - 16, &[1]),
            "it is one of several parts",
        ),
        fails("another disk in one end", patch(model(), END - 4, &[1]), disagree),
        fails("another count in one end", patch(model(), END - 8, &[9]), disagree),
        fails("another offset in one end", patch(model(), END - 16, &[9]), disagree),
        fails("a zip64 end elsewhere", patch(model(), LOCATOR - 8, &[9]), no_zip64),
        fails("a zip64 end of another length", patch(model(), END64 - 4, &[45]), no_zip64),
        fails("no zip64 end", patch(model(), END64, &[0]), no_zip64),
        fails(
            "an entry less than it says",
            counted(4),
            "its directory has fewer entries than it says",
        ),
        fails(
            "an entry more than it says",
            counted(2),
            "its directory has more entries than it says",
        ),
        fails(
            "a directory beyond the end",
            far,
            &format!(
                "its directory would be 167 bytes at 18446744073709551615, but must end at {at}"
            ),
        ),
        crate::table::fails("many entries", many, "has more than 50000 zip entries", ""),
    ]
}

fn content() -> Vec<Row> {
    let with_order = |order: &[u8]| {
        zip(&[Entry::new("x/data.pkl", &pickle(b"}")), Entry::new("x/byteorder", order)])
    };
    let other = zip(&[Entry::new("word/document.xml", b"<xml/>")]);
    let is = |name, order: &[u8], shown: &str| {
        let reason = format!("its numbers are stored as {shown}-endian, but must be little-endian");
        crate::table::fails(name, with_order(order), &reason, "")
    };
    vec![
        is("big-endian", b"big", "big"),
        is("no endian at all", b"", ""),
        is("an endian of its own", b"little\n\n\n\n\n\n\n\n\n\n", r"little\n\n\n\n\n"),
        fails("another kind of archive", other, r#"it has no entry "word/data.pkl""#),
        fails("nothing in it", zip(&[]), "it has no entries"),
    ]
}
