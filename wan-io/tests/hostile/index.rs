//! Indices of models in several files.

use crate::safetensors::{file, tensor};
use crate::table::{Content, Expected, Row};

const INDEX: &str = "model.safetensors.index.json";

/// Two shards, with the tensors `a` and `b` in them, and an index.
fn model(name: &'static str, index: impl Into<Content>, expected: Expected) -> Row {
    let shard = |tensor: String| Content::Bytes(file(&format!("{{{tensor}}}"), 4));
    let files = vec![
        (INDEX.into(), index.into()),
        ("1.safetensors".into(), shard(tensor("a", 1, 0))),
        ("2.safetensors".into(), shard(tensor("b", 1, 0))),
    ];
    Row { name, files, opened: INDEX.into(), expected }
}

fn fails(name: &'static str, index: &str, reason: &str) -> Row {
    model(name, index.as_bytes().to_vec(), Expected::Error(format!("{INDEX}: {reason}")))
}

fn loads(name: &'static str, index: &str) -> Row {
    model(name, index.as_bytes().to_vec(), Expected::Loads(vec!["a", "b"]))
}

/// An index of `a` and `b` where it is `shard`.
fn with_shard(shard: &str) -> String {
    format!(r#"{{"weight_map":{{"a":"1.safetensors","b":"{shard}"}}}}"#)
}

fn with_total(total: &str) -> String {
    let map = r#""weight_map":{"a":"1.safetensors","b":"2.safetensors"}"#;
    format!(r#"{{"metadata":{{"total_size":{total}}},{map}}}"#)
}

pub(crate) fn rows() -> Vec<Row> {
    [honest(), shards(), tensors(), json()].into_iter().flatten().collect()
}

fn honest() -> Vec<Row> {
    let nested = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let map = r#""weight_map":{"a":"1.safetensors","b":"2.safetensors"}"#;
    vec![
        loads("an honest index", &with_total("8")),
        loads("a total as a float", &with_total("8.0")),
        loads("no total", &with_shard("2.safetensors")),
        loads("something deep that no one asks for", &format!(r#"{{"x":{nested},{map}}}"#)),
    ]
}

fn shards() -> Vec<Row> {
    let not_a_name = |name, shard: &str| {
        let reason =
            "but a shard must be a file name ending in .safetensors (or .bin, .pth, .pt, .ckpt)";
        let shown: String = serde_json::from_str(&format!("\"{shard}\"")).unwrap();
        fails(name, &with_shard(shard), &format!("lists {shown:?}, {reason}"))
    };
    let many: Vec<String> = (0..1001).map(|i| format!(r#""{i}":"{i}.safetensors""#)).collect();
    let missing = format!("3.safetensors: there is no such file, but {INDEX} needs it");
    let mut checkpoint =
        model("a checkpoint as a shard", with_shard("2.safetensors").into_bytes(), {
            let reason = "it does not end with a zip directory (cut off, or something follows it)";
            let what = "is not a whole zip archive as PyTorch writes it";
            Expected::Error(format!("2.safetensors: {what}: {reason}"))
        });
    checkpoint.files[2].1 = Content::Bytes(b"PK\x03\x04\0\0\0\0\0\0".to_vec());
    vec![
        not_a_name("a shard above", "../2.safetensors"),
        not_a_name("a shard anywhere", "/etc/2.safetensors"),
        not_a_name("a shard above on Windows", r"..\\2.safetensors"),
        not_a_name("a shard on another drive", "C:2.safetensors"),
        not_a_name("a shard with a zero", r"2.safetensors\u0000.safetensors"),
        not_a_name("a shard that is no weights", "2.txt"),
        not_a_name("a shard without a name", ""),
        model(
            "a shard that is missing",
            with_shard("3.safetensors").into_bytes(),
            Expected::Error(missing),
        ),
        checkpoint,
        fails(
            "too many shards",
            &format!(r#"{{"weight_map":{{{}}}}}"#, many.join(",")),
            "lists 1001 shards, but must list at most 1000",
        ),
    ]
}

fn tensors() -> Vec<Row> {
    let mut twice = fails("a tensor in two shards", &with_shard("2.safetensors"), "");
    twice.files[2].1 = Content::Bytes(file(&format!("{{{}}}", tensor("a", 1, 0)), 4));
    twice.expected = Expected::Error(
        "2.safetensors: is not a whole safetensors file: tensor a is in another shard too".into(),
    );
    let mut unlisted =
        loads("a tensor that is not listed", r#"{"weight_map":{"a":"1.safetensors"}}"#);
    let both = format!("{{{},{}}}", tensor("a", 1, 0), tensor("b", 1, 4));
    unlisted.files[1].1 = Content::Bytes(file(&both, 8));
    vec![
        twice,
        fails(
            "a tensor in the wrong shard",
            r#"{"weight_map":{"a":"2.safetensors","b":"1.safetensors"}}"#,
            "tensor a should be in 2.safetensors, but is not",
        ),
        fails(
            "a tensor that is nowhere",
            r#"{"weight_map":{"a":"1.safetensors","b":"2.safetensors","c":"1.safetensors"}}"#,
            "tensor c should be in 1.safetensors, but is not",
        ),
        unlisted,
        loads("a total that is too small", &with_total("4")),
        loads("a negative total", &with_total("-8")),
        loads("a total that is text", &with_total("\"8\"")),
        loads("a total that is nothing", &with_total("null")),
        fails(
            "a name with a line feed",
            r#"{"weight_map":{"a\nb":"1.safetensors"}}"#,
            r#"the name of tensor "a\nb" has control characters"#,
        ),
    ]
}

fn json() -> Vec<Row> {
    let sparse = Content::Sparse(vec![(0, b"{\"weight_map\":".to_vec())], 1 << 30);
    let large = [&b"{\"weight_map\":"[..], &vec![b' '; 16 << 20][..]].concat();
    let too_large = "has 16777230 bytes, but must have at most 16777216";
    let mut not_utf8 = with_shard("2.safetensors").into_bytes();
    not_utf8[16] = 0xff;
    let two = r#"{"weight_map":{"a":"1.safetensors","a":"2.safetensors","b":"2.safetensors"}}"#;
    vec![
        model("zeros", sparse, Expected::Error(format!("{INDEX}: is no JSON, but binary data"))),
        model("a large file", large, Expected::Error(format!("{INDEX}: {too_large}"))),
        model(
            "not UTF-8",
            not_utf8,
            Expected::Error(format!(
                "{INDEX}: weight_map.?: invalid unicode code point at line 1 column 17"
            )),
        ),
        fails(
            "empty",
            "",
            "is empty, what a download or copy that did not end leaves behind; get the file again",
        ),
        fails("a list", "[]", "invalid length 0, expected an index of shards at line 1 column 2"),
        fails("no map", "{}", "missing field `weight_map` at line 1 column 2"),
        fails(
            "a map that is a list",
            r#"{"weight_map":[]}"#,
            "weight_map: invalid type: sequence, expected an object at line 1 column 14",
        ),
        fails(
            "a shard that is a number",
            r#"{"weight_map":{"a":1}}"#,
            "weight_map.a: invalid type: integer `1`, expected a string at line 1 column 20",
        ),
        fails(
            "a tensor listed twice",
            two,
            r#"weight_map: "a" is there twice at line 1 column 54"#,
        ),
        fails(
            "two maps",
            r#"{"weight_map":{},"weight_map":{}}"#,
            "duplicate field `weight_map` at line 1 column 29",
        ),
        fails(
            "a deep map",
            &format!(r#"{{"weight_map":{}"#, "[".repeat(1_000_000)),
            "weight_map: invalid type: sequence, expected an object at line 1 column 14",
        ),
        fails(
            "a deep map of maps",
            &r#"{"weight_map":"#.repeat(100_000),
            "weight_map.weight_map: invalid type: map, expected a string at line 1 column 28",
        ),
    ]
}
