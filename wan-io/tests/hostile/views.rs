//! Checkpoints whose tensors do not fit their storages.

use crate::table::{Row, fails, loads};
use crate::write::{
    Entry, call, checkpoint, dict, global, int, ints, pair, pickle, rebuild, storage, text, tuple,
    value, zip,
};

/// A checkpoint of the tensor `w`, a view of two numbers.
fn view(offset: i64, shape: &[i64], strides: &[i64]) -> Vec<u8> {
    value(&dict(&[("w", rebuild(storage("FloatStorage", "0", 2), offset, shape, strides))]))
}

/// A checkpoint of the tensor `w`, all of a storage.
fn whole(class: &str, key: &str, count: i64) -> Vec<u8> {
    value(&dict(&[("w", rebuild(storage(class, key, count), 0, &[count], &[1]))]))
}

fn outside(name: &'static str, offset: i64, shape: &[i64], strides: &[i64]) -> Row {
    let what = format!(r#"tensor "w" {shape:?} is not inside its storage, which has 2 numbers"#);
    fails(name, view(offset, shape, strides), &what, "")
}

pub(crate) fn rows() -> Vec<Row> {
    [ranges(), arguments(), storages()].into_iter().flatten().collect()
}

fn ranges() -> Vec<Row> {
    vec![
        outside("one number too many", 0, &[3], &[1]),
        outside("an offset beyond the end", 3, &[0], &[1]),
        outside("the largest offset", i64::MAX, &[1], &[1]),
        outside("a stride beyond the end", 0, &[2], &[2]),
        outside("the largest stride", 0, &[2], &[i64::MAX]),
        outside("strides that overflow", 0, &[3, 3], &[i64::MAX, i64::MAX]),
        outside("the largest shape", 0, &[i64::MAX, i64::MAX], &[0, 0]),
        outside("a shape that wraps to nothing", 0, &[1 << 32, 1 << 32], &[0, 0]),
        fails(
            "one number as a terabyte",
            view(0, &[1 << 38], &[0]),
            r#"tensor "w" [274877906944] is a view of only 2 numbers"#,
            "",
        ),
        loads("one number as a thousand", view(1, &[10, 100], &[0, 0]), &["w"]),
        loads("strides of what is one", view(1, &[1, 1], &[i64::MAX, 5]), &["w"]),
        loads("nothing at the end", view(2, &[0, 4], &[4, 1]), &["w"]),
    ]
}

fn arguments() -> Vec<Row> {
    let list = |what: &str| {
        format!(r#"tensor "w" must have {what} of at most 64 whole numbers from 0 up"#)
    };
    let number = r#"tensor "w" must have a whole number from 0 up as offset"#;
    let of = |shape: Vec<u8>| {
        let arguments = [storage("FloatStorage", "0", 2), int(0), shape, ints(&[1])];
        value(&dict(&[("w", call("torch._utils", "_rebuild_tensor", &arguments))]))
    };
    let not_a_storage =
        call("torch._utils", "_rebuild_tensor", &[int(1), int(0), ints(&[]), ints(&[])]);
    vec![
        fails("a negative offset", view(-1, &[1], &[1]), number, ""),
        fails("a negative shape", view(0, &[-1], &[1]), &list("a shape"), ""),
        fails("a negative stride", view(1, &[2], &[-1]), &list("strides"), ""),
        fails("a shape of text", of(tuple(&[text("2")])), &list("a shape"), ""),
        fails("a shape that is no list", of(b"K\x02".to_vec()), &list("a shape"), ""),
        fails("a shape of 65 dimensions", view(0, &[1; 65], &[1; 65]), &list("a shape"), ""),
        fails(
            "a stride too many",
            view(0, &[2], &[1, 1]),
            r#"tensor "w" has 1 dimensions, but 2 strides"#,
            "",
        ),
        fails(
            "a tensor of a number",
            value(&not_a_storage),
            "byte 58 of its pickle: makes a tensor of what is not a storage",
            "",
        ),
        loads("the oldest call", of(call("torch", "Size", &[ints(&[2])])), &["w"]),
    ]
}

fn storages() -> Vec<Row> {
    let size = |count: i64, dtype: &str| {
        let plural = if count == 1 { "" } else { "s" };
        format!(r#"storage "0" has 8 bytes, but should have {count} number{plural} of {dtype}"#)
    };
    let two_ways =
        dict(&[("a", pair("0")), ("b", rebuild(storage("IntStorage", "0", 2), 0, &[2], &[1]))]);
    let not_listed = [global("torch", "Size"), text("0"), text("cpu"), int(2)];
    let not_listed =
        [tuple(&[&[text("storage")][..], &not_listed].concat()), b"Q".to_vec()].concat();
    let elsewhere = zip(&[
        Entry::new("x/data.pkl", &pickle(&dict(&[("w", pair("../../etc/passwd"))]))),
        Entry::new("etc/passwd", &[0; 8]),
    ]);
    let long = whole("FloatStorage", &"k".repeat(300), 2);
    let not_one = "refers to what is not a storage";
    vec![
        fails("a storage beyond its entry", whole("FloatStorage", "0", 3), &size(3, "F32"), ""),
        fails("a storage that is too small", whole("FloatStorage", "0", 1), &size(1, "F32"), ""),
        fails("a storage of another kind", whole("DoubleStorage", "0", 2), &size(2, "F64"), ""),
        fails(
            "a storage that overflows",
            whole("DoubleStorage", "0", 1 << 61),
            &size(1 << 61, "F64"),
            "",
        ),
        fails(
            "a storage that is missing",
            whole("FloatStorage", "1", 2),
            r#"storage "1" has no entry in the archive"#,
            "",
        ),
        fails(
            "a storage elsewhere",
            elsewhere,
            r#"storage "../../etc/passwd" has no entry in the archive"#,
            "",
        ),
        fails(
            "a storage of two kinds",
            value(&two_ways),
            "byte 264 of its pickle: describes one storage in two ways",
            "",
        ),
        fails(
            "a storage of another class",
            value(&not_listed),
            &format!("byte 52 of its pickle: {not_one}"),
            "",
        ),
        fails("a storage with a long name", long, "byte 401 of its pickle: ", not_one),
        fails(
            "a negative storage",
            whole("FloatStorage", "0", -2),
            "byte 102 of its pickle: ",
            not_one,
        ),
        fails(
            "a storage that is a number",
            checkpoint(b"\x80\x02K\x01Q."),
            "byte 4 of its pickle: ",
            not_one,
        ),
        loads("a storage of bytes", whole("ByteStorage", "0", 8), &["w"]),
    ]
}
