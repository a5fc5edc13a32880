//! CLIP's tokenizers: the multilingual one of the miniature model, and CLIP's own kind in miniature, whose
//! ids were made by Python's `tokenizers`.

use serde_json::{Value, json};
use wan_io::text::{ClipTokenizer, TextError};

/// A BPE model of single letters and four merges, with the other parts as OpenAI's CLIP has them.
fn bpe() -> Value {
    let mut vocab = serde_json::Map::new();
    let mut add = |token: String| {
        let id = vocab.len();
        vocab.insert(token, id.into());
    };
    ('a'..='z').for_each(|c| add(c.to_string()));
    ('a'..='z').chain([',']).for_each(|c| add(format!("{c}</w>")));
    ['ç', 'Į', '«'].into_iter().for_each(|c| {
        add(c.to_string());
        add(format!("{c}</w>"));
    });
    let merges = [("c", "a"), ("ca", "t</w>"), ("r", "e"), ("re", "d</w>")];
    merges.iter().for_each(|(a, b)| add(format!("{a}{b}")));
    let (start, end) = ("<|startoftext|>", "<|endoftext|>");
    add(start.into());
    add(end.into());
    let added = |id: u32, content: &str, normalized: bool| {
        json!({
            "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
            "normalized": normalized, "special": true,
        })
    };
    let words = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+";
    json!({
        "version": "1.0",
        "truncation": {
            "direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0
        },
        "padding": {
            "strategy": {"Fixed": 77}, "direction": "Right", "pad_to_multiple_of": null,
            "pad_id": 64, "pad_type_id": 0, "pad_token": end
        },
        "added_tokens": [added(63, start, true), added(64, end, false)],
        "normalizer": {"type": "Sequence", "normalizers": [
            {"type": "NFC"},
            {"type": "Replace", "pattern": {"Regex": "\\s+"}, "content": " "},
            {"type": "Lowercase"},
        ]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {
                "type": "Split", "pattern": {"Regex": words}, "behavior": "Removed", "invert": true
            },
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true},
        ]},
        "post_processor": {
            "type": "RobertaProcessing", "sep": [end, 64], "cls": [start, 63],
            "trim_offsets": false, "add_prefix_space": false,
        },
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": end, "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>", "fuse_unk": false, "vocab": vocab,
            "merges": merges.map(|(a, b)| format!("{a} {b}")),
        },
    })
}

fn open(json: &Value) -> Result<ClipTokenizer, TextError> {
    ClipTokenizer::from_named_bytes(json.to_string().as_bytes(), "a/tokenizer.json")
}

/// Neither the length nor the padding that the file asks for counts: both are the caller's to say.
#[test]
fn clips_own_kind_equals_python() {
    let tokenizer = open(&bpe()).unwrap();
    assert_eq!((tokenizer.max_id(), tokenizer.end_id(), tokenizer.pad_id()), (64, 64, None));
    for (text, ids) in [
        ("a red cat", &[63, 26, 62, 60, 64][..]),
        ("A RED  Cat, dog", &[63, 26, 62, 60, 52, 3, 14, 32, 64]),
        ("猫", &[63, 53, 55, 58, 64]),
        ("", &[63, 64]),
        ("red<|endoftext|> cat", &[63, 62, 64, 60, 64]),
    ] {
        let tokens = tokenizer.encode(text, 77).unwrap();
        assert_eq!((tokens.ids.as_slice(), tokens.dropped), (ids, 0), "{text:?}");
    }
    for (length, ids, dropped) in
        [(4, &[63, 26, 62, 64][..], 1), (3, &[63, 26, 64], 2), (2, &[63, 64], 3)]
    {
        let tokens = tokenizer.encode("a red cat", length).unwrap();
        assert_eq!((tokens.ids.as_slice(), tokens.dropped), (ids, dropped));
    }
    assert!(matches!(tokenizer.encode("a", 1), Err(TextError::Length { found: 1 })));
}

#[test]
fn what_is_no_tokenizer_of_a_clip_is_refused() {
    let with = |pointer: &str, value: Value| {
        let mut json = bpe();
        *json.pointer_mut(pointer).expect("the field") = value;
        open(&json).map(drop).unwrap_err().to_string()
    };
    for (pointer, value, said) in [
        ("/post_processor", Value::Null, "one token before"),
        ("/model/type", json!("WordPiece"), "WordPiece"),
        ("/model/type", json!("Unigram"), "not a list"),
        ("/model/merges", json!(["q zz"]), "tokenizer.json"),
        ("/model/vocab", json!({"a": -1}), "tokenizer.json"),
        ("/model", json!(3), "tokenizer.json"),
    ] {
        let message = with(pointer, value.clone());
        assert!(
            message.contains("a/tokenizer.json") && message.contains(said),
            "{value}: {message}"
        );
    }
    for (bytes, said) in [
        (&b""[..], "a/tokenizer.json"),
        (b"{", "a/tokenizer.json"),
        (b"[]", "a/tokenizer.json"),
        (b"<!DOCTYPE html><html></html>", "a/tokenizer.json"),
    ] {
        let error = ClipTokenizer::from_named_bytes(bytes, "a/tokenizer.json").map(drop);
        assert!(error.unwrap_err().to_string().contains(said));
    }
}
