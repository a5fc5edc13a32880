//! Prompt cleaning and `tokenizer.json`.

use std::path::Path;

use serde_json::Value;
use wan_io::text::{Tokenizer, clean_prompt};

use crate::fixture::{Fixture, folders_of};

pub fn is_kind(folder: &Path) -> bool {
    folder.join("tokenizer.json").is_file()
}

#[test]
fn tokenizer() {
    for folder in folders_of("tokenizer", is_kind) {
        let fixture = Fixture::open(&folder);
        let tokenizer = Tokenizer::open(&folder).unwrap();
        let texts = texts(&fixture.meta);
        assert!(!texts.is_empty());
        let encode = |text: &str| tokenizer.encode(text, 100_000).unwrap().ids;
        let numbers = |value: &Value| -> Vec<u32> {
            value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as u32).collect()
        };
        for case in &texts {
            let text = case["text"].as_str().unwrap();
            let cleaned = clean_prompt(text);
            assert_eq!(cleaned, case["prompt_clean"].as_str().unwrap(), "cleaned {text:?}");
            let ids = encode(&cleaned);
            assert_eq!(ids, numbers(&case["ids_of_clean"]), "ids of cleaned {text:?}");
            assert_eq!(encode(text), numbers(&case["ids_of_raw"]), "ids of {text:?}");
            if let Some(decoded) = case["decoded"].as_str() {
                assert_eq!(tokenizer.decode(&ids).unwrap(), decoded, "decoded {text:?}");
            }
        }
        println!("host     {}: {} texts equal", fixture.name(), texts.len());
        check_padded(&fixture, &tokenizer, &texts);
        check_truncated(&fixture, &tokenizer);
    }
}

/// The batch of all texts, padded or cut to the width of the stored tensor.
fn check_padded(fixture: &Fixture, tokenizer: &Tokenizer, texts: &[Value]) {
    let expected = fixture.outputs.get("input_ids");
    let [rows, length] = expected.shape[..] else { panic!("input_ids has two axes") };
    assert_eq!(rows, texts.len());
    for (case, row) in texts.iter().zip(expected.values.chunks(length)) {
        let text = clean_prompt(case["text"].as_str().unwrap());
        let mut ids: Vec<f64> =
            tokenizer.encode(&text, length).unwrap().ids.into_iter().map(f64::from).collect();
        ids.resize(length, f64::from(tokenizer.pad_id()));
        assert_eq!(ids, row, "padded ids of {text:?}");
    }
}

/// One text cut to the number in the name of its ids (`truncated12`).
fn check_truncated(fixture: &Fixture, tokenizer: &Tokenizer) {
    let text = clean_prompt(fixture.meta["truncated_text"].as_str().unwrap());
    for case in fixture.outputs.cases(".input_ids") {
        let length = case.strip_prefix("truncated").expect("a case of truncation");
        let tokens = tokenizer.encode(&text, length.parse().unwrap()).unwrap();
        let ids: Vec<f64> = tokens.ids.into_iter().map(f64::from).collect();
        assert_eq!(ids, fixture.outputs.get(&format!("{case}.input_ids")).values, "{case}");
        assert!(tokens.dropped > 0);
    }
}

/// The list of texts, wherever in the meta data it stands.
fn texts(meta: &Value) -> Vec<Value> {
    let lists = meta.as_object().unwrap().values().filter_map(Value::as_array);
    let is_text = |value: &Value| value["text"].is_string() && value["ids_of_raw"].is_array();
    lists.flatten().filter(|value| is_text(value)).cloned().collect()
}
