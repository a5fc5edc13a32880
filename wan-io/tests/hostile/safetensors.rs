//! Files in the safetensors format.

use crate::table::{Content, Row};

/// A file with this header and as many bytes of data.
pub(crate) fn file(header: &str, data: usize) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &vec![0; data]].concat()
}

/// One tensor of F32 in a header.
pub(crate) fn tensor(name: &str, numbers: usize, start: usize) -> String {
    let end = start + 4 * numbers;
    format!(r#""{name}":{{"dtype":"F32","shape":[{numbers}],"data_offsets":[{start},{end}]}}"#)
}

fn fails(name: &'static str, content: impl Into<Content>, reason: &str) -> Row {
    crate::table::fails(name, content, "is not a whole safetensors file: ", reason)
}

fn bomb(length: u64) -> Vec<u8> {
    [&length.to_le_bytes()[..], b"{}"].concat()
}

/// What a file that is too short was.
const CUT_OFF: &str = "the download or copy did not end, get the file again";
/// How such files are left behind.
const LEFT: &str = "what a download or copy that did not end leaves behind; get the file again";

pub(crate) fn rows() -> Vec<Row> {
    [lengths(), others(), headers(), layouts(), names()].into_iter().flatten().collect()
}

fn lengths() -> Vec<Row> {
    let whole = file(&format!("{{{}}}", tensor("a", 4, 0)), 16);
    let not_there = Row {
        files: Vec::new(),
        ..crate::table::fails("missing", vec![], "there is no such file", "")
    };
    vec![
        not_there,
        crate::table::fails("a folder", Content::Folder, "is not a file", ""),
        crate::table::fails("empty", vec![], "is empty, ", LEFT),
        crate::table::fails("zeros", vec![0; 4], "is nothing but zeros where it begins, ", LEFT),
        fails("four bytes", vec![1; 4], "it has only 4 bytes"),
        fails(
            "a header of 8 EiB",
            bomb(1 << 63),
            "its header would have 9223372036854775808 bytes",
        ),
        fails("a header of 100 MB", bomb(100_000_000), "its header would have 100000000 bytes"),
        fails(
            "a header beyond the end",
            bomb(4096),
            &format!("its header would have 4096 bytes, but only 2 follow; {CUT_OFF}"),
        ),
        fails(
            "cut off",
            whole[..whole.len() - 1].to_vec(),
            &format!("it has 15 bytes of data instead of 16; {CUT_OFF}"),
        ),
        crate::table::loads("a few bytes behind the data", [&whole[..], b"\r\n"].concat(), &["a"]),
        fails(
            "many bytes behind the data",
            [&whole[..], &[1; 4097]].concat(),
            "4097 bytes follow its data, which are no part of it",
        ),
        fails("no header", vec![1; 64], "it does not begin like one"),
    ]
}

/// Other files under the name of safetensors. The kinds are tested where they are told.
fn others() -> Vec<Row> {
    let is =
        |name, content: &[u8], what: &str| crate::table::fails(name, content.to_vec(), "is ", what);
    vec![
        is(
            "a Git LFS pointer",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
            "a Git LFS pointer to a file of 12 bytes, not that file; run `git lfs pull` where it was \
             cloned, or download it",
        ),
        is(
            "a GGUF file",
            b"GGUF\x03\0\0\0\x01",
            "a GGUF file, which is not supported; take the safetensors file of the model",
        ),
        is(
            "JSON with its ninth byte like a header's first",
            b"{\"meta\":{\"total_size\": 1}}",
            "JSON that begins with \"{\\\"meta\\\":{\\\"total_size\\\": 1}}\", and holds no weights",
        ),
    ]
}

fn headers() -> Vec<Row> {
    let twice = format!("{{{},{}}}", tensor("a", 1, 0), tensor("a", 2, 4));
    let field = r#"{"a":{"dtype":"F32","dtype":"F16","shape":[1],"data_offsets":[0,4]}}"#;
    let dtype = r#"{"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]}}"#;
    let negative = r#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#;
    let before = r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}"#;
    let dtypes = "expected one of `BOOL`, `F4`, `F6_E2M3`, `F6_E3M2`, `U8`, `I8`, `F8_E5M2`, \
                  `F8_E4M3`, `F8_E8M0`, `F8_E4M3FNUZ`, `F8_E5M2FNUZ`, `I16`, `U16`, `F16`, `BF16`, \
                  `I32`, `U32`, `F32`, `C64`, `F64`, `I64`, `U64`";
    let mut not_utf8 = file(&format!("{{{}}}", tensor("aa", 1, 0)), 4);
    not_utf8[10] = 0xff;
    vec![
        fails(
            "a tensor twice",
            file(&twice, 12),
            r#"its header: "a" is there twice at line 1 column 108"#,
        ),
        fails(
            "a property twice",
            file(r#"{"__metadata__":{"format":"pt","format":"np"}}"#, 0),
            r#"its header: __metadata__: "format" is there twice at line 1 column 45"#,
        ),
        fails(
            "a dtype twice",
            file(field, 4),
            "its header: a: duplicate field `dtype` at line 1 column 27",
        ),
        fails(
            "an unknown dtype",
            file(dtype, 4),
            &format!("its header: a.dtype: unknown variant `F31`, {dtypes} at line 1 column 19"),
        ),
        fails(
            "a negative shape",
            file(negative, 4),
            "its header: a.shape[0]: invalid value: integer `-1`, expected usize at line 1 column 31",
        ),
        fails(
            "an offset before the start",
            file(before, 4),
            "its header: a.data_offsets[0]: invalid value: integer `-4`, expected usize at line 1 column 50",
        ),
        crate::table::loads(
            "properties that are no text",
            file(r#"{"__metadata__":{"a":1,"b":null,"c":{"d":[true]}}}"#, 0),
            &[],
        ),
        crate::table::loads("no properties", file(r#"{"__metadata__":null}"#, 0), &[]),
        fails("a header that is a list", file("[]", 0), "it does not begin like one"),
        fails(
            "a header that is not UTF-8",
            not_utf8,
            "its header: invalid unicode code point at line 1 column 3",
        ),
        fails(
            "a deep header",
            file(&format!("{{\"__metadata__\":{}", "[".repeat(100_000)), 0),
            "its header: __metadata__: invalid type: sequence, expected an object at line 1 column 16",
        ),
        fails(
            "a deep tensor",
            file(&format!(r#"{{"a":{}"#, "[".repeat(100_000)), 0),
            "its header: a[0]: expected value at line 1 column 7",
        ),
        fails(
            "a key of a megabyte",
            file(&format!(r#"{{"{}":1}}"#, "k".repeat(1 << 20)), 0),
            &format!("its header: {}", "k".repeat(500)),
        ),
    ]
}

fn layouts() -> Vec<Row> {
    let two = |start| format!("{{{},{}}}", tensor("a", 2, 0), tensor("b", 2, start));
    let one = |shape: &str, offsets: &str| {
        format!(r#"{{"a":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#)
    };
    let huge = (1_u64 << 61) - 1;
    let wraps: Vec<String> = (0..8)
        .map(|i| {
            let (start, end) = (i * huge, (i + 1) * huge);
            format!(r#""{i}":{{"dtype":"U8","shape":[{huge}],"data_offsets":[{start},{end}]}}"#)
        })
        .collect();
    vec![
        fails(
            "tensors that overlap",
            file(&two(4), 12),
            r#"tensor "b" is at 4 to 12, but must start at 8"#,
        ),
        fails(
            "a hole between tensors",
            file(&two(12), 20),
            r#"tensor "b" is at 12 to 20, but must start at 8"#,
        ),
        fails(
            "a start after the end",
            file(&one("[1]", "[4,0]"), 4),
            r#"tensor "a" is at 4 to 0, but must start at 0"#,
        ),
        fails(
            "a shape that is too large",
            file(&one("[8]", "[0,16]"), 16),
            r#"tensor "a" has 16 bytes, which F32 [8] has not"#,
        ),
        fails(
            "a shape that overflows",
            file(&one("[4294967296,4294967296,4]", "[0,16]"), 16),
            r#"tensor "a" has 16 bytes, which F32 [4294967296, 4294967296, 4] has not"#,
        ),
        fails(
            "offsets that reach around",
            file(&format!("{{{}}}", wraps.join(",")), 16),
            &format!("it has 16 bytes of data instead of 18446744073709551608; {CUT_OFF}"),
        ),
        crate::table::loads("a tensor without numbers", file(&one("[0,7]", "[0,0]"), 0), &["a"]),
        crate::table::loads("no tensors at all", file("{}   ", 0), &[]),
    ]
}

fn names() -> Vec<Row> {
    let named = |name: &str| format!("{{{}}}", tensor(name, 1, 0));
    let many: Vec<String> = (0..20_001).map(|i| tensor(&i.to_string(), 0, 0)).collect();
    let long = "n".repeat(1025);
    let is = |what: &str, reason: &str| format!("the name of tensor {what} {reason}");
    vec![
        // The header of 61 bytes leaves its numbers where no f32 could be.
        crate::table::loads("numbers at an odd place", file(&named("odd"), 4), &["odd"]),
        // Names of tensors are not names of files.
        crate::table::loads("a path as a name", file(&named("../../etc/x"), 4), &["../../etc/x"]),
        crate::table::fails(
            "a name with an escape sequence",
            file(&named(r"\u001b[2Jx"), 4),
            &is(r#""\u{1b}[2Jx""#, "has control characters"),
            "",
        ),
        crate::table::fails(
            "a long name",
            file(&named(&long), 4),
            &is(&format!("{:?}", &long[..64]), "has 1025 bytes, but must have at most 1024"),
            "",
        ),
        fails(
            "too many tensors",
            file(&format!("{{{}}}", many.join(",")), 0),
            "it has more than 20000 tensors",
        ),
    ]
}
