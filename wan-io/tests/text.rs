//! Prompt cleaning against vectors of the Python libraries, and the tokenizer against fixtures and
//! against the real umT5 file where it is at hand.

use safetensors::SafeTensors;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wan_io::text::{TextError, Tokenizer, Tokens, WAN_NEGATIVE_PROMPT, clean_prompt};

type Outcome = Result<(), Box<dyn std::error::Error>>;

fn workspace(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn read_json(path: &Path) -> Result<Value, Box<dyn std::error::Error>> {
    Ok(serde_json::from_slice(&std::fs::read(path)?)?)
}

fn test_data(name: &str) -> Result<Value, Box<dyn std::error::Error>> {
    read_json(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name))
}

/// Python's white space.
fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1C'..='\x1F').contains(&c)
}

/// No white space at the ends, no white space but single blanks.
fn assert_tidy(text: &str) {
    assert!(!text.starts_with(' ') && !text.ends_with(' '), "{text:?}");
    assert!(!text.contains("  "), "{text:?}");
    assert!(text.chars().all(|c| c == ' ' || !is_space(c)), "{text:?}");
}

#[test]
fn cleaning_equals_python() -> Outcome {
    let vectors: Vec<[String; 3]> = serde_json::from_value(test_data("prompt_clean.json")?)?;
    assert!(vectors.len() > 400);
    for [text, once, twice] in &vectors {
        assert_eq!(&clean_prompt(text), once, "of {text:?}");
        assert_eq!(&clean_prompt(once), twice, "of {once:?}");
        assert_tidy(once);
    }
    Ok(())
}

#[test]
fn ordinary_prompts_stay_as_they_are() {
    for text in [
        "A cat walks on the grass, realistic style.",
        "一只猫走在草地上,写实风格。",
        "Une façade à la française, déjà vu",
        "الكلب يركض 🦊",
    ] {
        assert_eq!(clean_prompt(text), text);
    }
}

/// A small generator (SplitMix64), enough to mix test texts.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % end as u64) as usize
    }

    /// A character, mostly from the ranges that the repairs look at.
    fn char(&mut self) -> char {
        let (start, end) = [
            (0, 0x80),
            (0x80, 0x100),
            (0xC0, 0x100),
            (0x100, 0x600),
            (0x2000, 0x2600),
            (0x3000, 0x3100),
            (0xFF00, 0x1_0000),
            (0, 0x11_0000),
        ][self.below(8)];
        char::from_u32((start + self.below(end - start)) as u32).unwrap_or('\u{FFFD}')
    }
}

#[test]
fn any_text_comes_out_tidy() {
    let mut random = Random(1);
    for _ in 0..20_000 {
        let len = random.below(24);
        let text: String = (0..len).map(|_| random.char()).collect();
        assert_tidy(&clean_prompt(&text));
    }
}

#[test]
fn misread_text_is_repaired() {
    // Text that is repaired in one piece: UTF-8 read as Latin-1, once and twice.
    let misread = |text: &str| text.bytes().map(char::from).collect::<String>();
    let mut random = Random(2);
    let words = ["草地", "猫走", "写实", "風景", "кошка", "🦊", "かわいい", "고양이"];
    for _ in 0..2_000 {
        let count = 1 + random.below(5);
        let text: Vec<&str> = (0..count).map(|_| words[random.below(words.len())]).collect();
        let text = text.join(" ");
        assert_eq!(clean_prompt(&text), text);
        assert_eq!(clean_prompt(&misread(&text)), text);
        assert_eq!(clean_prompt(&misread(&misread(&text))), text);
    }
}

#[test]
fn time_grows_with_the_length_only() {
    let nested = (0..18).fold("é".to_owned(), |text, _| text.bytes().map(char::from).collect());
    let texts = [
        "a cat ".repeat(170_000),
        "\n".repeat(1_000_000),
        "一只猫".repeat(110_000),
        "\u{301}\u{323}".repeat(250_000),
        "&".repeat(1_000_000),
        // Every round takes one level of escapes off.
        format!("&{}lt;", "amp;".repeat(250_000)),
        format!("&#{};", "9".repeat(1_000_000)),
        "schÃ¶n cafÃ© 猫 ".repeat(50_000),
        format!("猫{}Ã¦", "Ã".repeat(500_000)),
        nested,
        "\x1B[".repeat(500_000),
        format!("\x1B[{}", "1".repeat(1_000_000)),
        "\0".repeat(1_000_000),
    ];
    for text in texts {
        let start = Instant::now();
        assert_tidy(&clean_prompt(&text));
        let limit = if cfg!(debug_assertions) { 60 } else { 15 };
        assert!(start.elapsed() < Duration::from_secs(limit), "{:?}", text.get(..20));
    }
}

#[test]
fn tokenizer_equals_the_fixture() -> Outcome {
    let folder = workspace("tests/fixtures/tokenizer");
    let tokenizer = Tokenizer::open(&folder)?;
    let meta = read_json(&folder.join("meta.json"))?;
    let outputs = std::fs::read(folder.join("outputs.safetensors"))?;
    let outputs = SafeTensors::deserialize(&outputs)?;
    let padded = integers(outputs.tensor("input_ids")?.data());
    let masks = integers(outputs.tensor("attention_mask")?.data());
    let records = meta["records"].as_array().ok_or("no records")?;
    assert_eq!(records.len(), 10);
    for (index, record) in records.iter().enumerate() {
        let text = record["text"].as_str().ok_or("no text")?;
        let clean = clean_prompt(text);
        assert_eq!(record["prompt_clean"], clean);
        let tokens = tokenizer.encode(&clean, 512)?;
        assert_eq!(record["ids_of_clean"], json!(tokens.ids));
        assert_eq!(record["ids_of_raw"], json!(tokenizer.encode(text, 512)?.ids));
        assert_eq!(record["decoded"], tokenizer.decode(&tokens.ids)?);
        let row = index * 64..(index + 1) * 64;
        let (ids, mask) = pad(&tokenizer, &tokenizer.encode(&clean, 64)?, 64);
        assert_eq!(ids, padded[row.clone()]);
        assert_eq!(mask, masks[row]);
    }
    Ok(())
}

#[test]
fn truncation_equals_the_fixture() -> Outcome {
    let folder = workspace("tests/fixtures/tokenizer");
    let tokenizer = Tokenizer::open(&folder.join("tokenizer.json"))?;
    let meta = read_json(&folder.join("meta.json"))?;
    let outputs = std::fs::read(folder.join("outputs.safetensors"))?;
    let outputs = SafeTensors::deserialize(&outputs)?;
    let text = meta["truncated_text"].as_str().ok_or("no text")?;
    let whole = tokenizer.encode(&clean_prompt(text), 512)?;
    let cut = tokenizer.encode(&clean_prompt(text), 12)?;
    assert_eq!(cut.dropped, whole.ids.len() - 12);
    let (ids, mask) = pad(&tokenizer, &cut, 12);
    assert_eq!(ids, integers(outputs.tensor("truncated12.input_ids")?.data()));
    assert_eq!(mask, integers(outputs.tensor("truncated12.attention_mask")?.data()));
    Ok(())
}

fn integers(bytes: &[u8]) -> Vec<i64> {
    bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
}

fn pad(tokenizer: &Tokenizer, tokens: &Tokens, len: usize) -> (Vec<i64>, Vec<i64>) {
    let mut ids: Vec<i64> = tokens.ids.iter().map(|id| i64::from(*id)).collect();
    let mut mask = vec![1; ids.len()];
    ids.resize(len, i64::from(tokenizer.pad_id()));
    mask.resize(len, 0);
    (ids, mask)
}

#[test]
fn lengths_are_kept() -> Outcome {
    let tokenizer = Tokenizer::open(&workspace("tests/fixtures/tokenizer"))?;
    for length in [0, 1] {
        let error = tokenizer.encode("a cat", length);
        assert!(matches!(error, Err(TextError::Length { found }) if found == length), "{error:?}");
    }
    let Tokens { ids, offsets, dropped, .. } = tokenizer.encode("", 2)?;
    assert_eq!((ids, offsets, dropped), (vec![1], vec![(0, 0)], 0));
    let whole = tokenizer.encode("a cat", 512)?.ids;
    for length in 2..=whole.len() {
        let Tokens { ids, dropped, .. } = tokenizer.encode("a cat", length)?;
        assert_eq!((ids.len(), dropped), (length, whole.len() - length));
        assert_eq!(ids[..length - 1], whole[..length - 1]);
        assert_eq!(ids[length - 1], 1);
    }
    Ok(())
}

/// Each id stands for a piece of the text, one after the other, and all of them for the whole.
fn assert_offsets(tokenizer: &Tokenizer, text: &str) {
    let Tokens { ids, offsets, .. } = tokenizer.encode(text, 512).unwrap();
    assert_eq!(offsets.len(), ids.len(), "{text:?}");
    let (end, pieces) = offsets.split_last().unwrap();
    assert_eq!(*end, (text.len(), text.len()), "{text:?}");
    let mut last = (0, 0);
    for &piece in pieces {
        assert!(text.get(piece.0..piece.1).is_some(), "{text:?}: {piece:?}");
        // A character that the vocabulary lacks is written as several bytes.
        let character = text[piece.0..piece.1].chars().count() == 1;
        assert!(piece.0 == last.1 || character && piece == last, "{text:?}: {offsets:?}");
        last = piece;
    }
    assert_eq!(last.1, text.len(), "{text:?}: {offsets:?}");
}

#[test]
fn offsets_are_bytes_of_the_text() -> Outcome {
    let tokenizer = Tokenizer::open(&workspace("tests/fixtures/tokenizer"))?;
    let tokenizers = std::iter::once(tokenizer).chain(umt5("offsets_are_bytes_of_the_text")?);
    for tokenizer in tokenizers {
        for text in [
            "a cat",
            "A cat walks on the grass, realistic style.",
            "一只猫走在草地上,写实风格。",
            "a red ball 红色的球, moving left",
            "déjà vu 🦊",
        ] {
            assert_offsets(&tokenizer, &clean_prompt(text));
        }
        // The ids of a piece alone are those that it has in the text, where it is a word.
        let Tokens { ids, offsets, .. } = tokenizer.encode("a cat", 512)?;
        let word = offsets.iter().position(|&(_, stop)| stop > 1).unwrap();
        assert_eq!(tokenizer.decode(&ids[word..])?, "cat");
        let cut = tokenizer.encode("a cat a cat a cat a cat", 4)?;
        assert_eq!((cut.offsets.len(), cut.offsets[3]), (4, (23, 23)));
    }
    Ok(())
}

#[test]
fn decoding_ignores_unknown_ids() -> Outcome {
    let tokenizer = Tokenizer::open(&workspace("tests/fixtures/tokenizer"))?;
    let mut ids = tokenizer.encode("a cat", 512)?.ids;
    ids.push(u32::MAX);
    assert_eq!(tokenizer.decode(&ids)?, "a cat");
    assert_eq!(tokenizer.decode(&[])?, "");
    Ok(())
}

#[test]
fn the_embedded_tokenizer_opens() -> Outcome {
    let path = workspace("tiny-wan/model/tokenizer");
    let opened = Tokenizer::open(&path)?;
    let embedded = Tokenizer::from_bytes(&std::fs::read(path.join("tokenizer.json"))?)?;
    let text = clean_prompt("a red ball，moving left");
    assert_eq!(opened.encode(&text, 64)?, embedded.encode(&text, 64)?);
    assert_eq!(embedded.encode("", 64)?.ids, [1]);
    assert_eq!(embedded.pad_id(), 0);
    assert_eq!(embedded.max_id() as usize + 1, embedded.vocab_size());
    Ok(())
}

/// The real tokenizer, or `None` with a word about it.
fn umt5(test: &str) -> Result<Option<Tokenizer>, TextError> {
    let file = std::env::var_os("WAN_UMT5_TOKENIZER")
        .map_or_else(|| workspace("target/umt5-tokenizer/tokenizer.json"), PathBuf::from);
    if !file.exists() {
        println!("{test} skipped: no {}, see .ci/fetch-umt5-tokenizer", file.display());
        return Ok(None);
    }
    Tokenizer::open(&file).map(Some)
}

#[test]
fn umt5_equals_python() -> Outcome {
    let Some(tokenizer) = umt5("umt5_equals_python")? else { return Ok(()) };
    assert_eq!(tokenizer.vocab_size(), 256_300);
    assert_eq!(tokenizer.max_id(), 256_299);
    assert_eq!(tokenizer.pad_id(), 0);
    for row in test_data("umt5_ids.json")?.as_array().ok_or("no rows")? {
        let text = row["text"].as_str().ok_or("no text")?;
        let length = row["max_length"].as_u64().ok_or("no length")? as usize;
        assert_eq!(row["ids"], json!(tokenizer.encode(text, length)?.ids), "of {text:?}");
    }
    Ok(())
}

#[test]
fn the_negative_prompt_is_that_of_wan() -> Outcome {
    assert_eq!(WAN_NEGATIVE_PROMPT.chars().count(), 137);
    let rows = test_data("umt5_ids.json")?;
    assert_eq!(rows[0]["text"], WAN_NEGATIVE_PROMPT);
    assert_eq!(rows[1]["text"], clean_prompt(WAN_NEGATIVE_PROMPT));
    assert_eq!(rows[1]["ids"].as_array().map(Vec::len), Some(126));
    Ok(())
}

/// A small sound tokenizer to spoil.
fn sound() -> Value {
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": null,
        "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"Sequence": {"id": "A", "type_id": 0}}, {"SpecialToken": {"id": "</s>", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
            "special_tokens": {"</s>": {"id": "</s>", "ids": [1], "tokens": ["</s>"]}},
        },
        "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": true},
        "model": {
            "type": "Unigram",
            "unk_id": 2,
            "byte_fallback": false,
            "vocab": [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["▁", -2.0], ["a", -3.0], ["▁a", -4.0]],
        },
    })
}

fn open_spoiled(spoil: impl FnOnce(&mut Value)) -> Result<Tokenizer, TextError> {
    let mut file = sound();
    spoil(&mut file);
    Tokenizer::from_bytes(file.to_string().as_bytes())
}

#[test]
fn settings_of_the_file_do_not_matter() -> Outcome {
    let tokenizer = open_spoiled(|file| {
        file["truncation"] =
            json!({"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
        file["padding"] = json!({"strategy": {"Fixed": 9}, "direction": "Left", "pad_to_multiple_of": null,
            "pad_id": 0, "pad_type_id": 0, "pad_token": "<pad>"});
    })?;
    assert_eq!(tokenizer.encode("a a a a", 16)?.ids, [5, 5, 5, 5, 1]);
    let Tokens { ids, offsets, dropped, .. } = tokenizer.encode("a a a a", 3)?;
    assert_eq!((ids, dropped), (vec![5, 5, 1], 2));
    assert_eq!(offsets, [(0, 1), (1, 3), (7, 7)]);
    Ok(())
}

#[test]
fn files_that_are_no_tokenizer_are_refused() {
    let text = sound().to_string();
    let not_utf8 = [b'"', 0xFF, b'"'];
    let broken: [&[u8]; 7] =
        [b"", b"{}", b"[]", b"null", b"not json", &not_utf8, &text.as_bytes()[..text.len() / 2]];
    for bytes in broken {
        let error = Tokenizer::from_bytes(bytes).err();
        let is_refused =
            matches!(error, Some(TextError::Malformed { .. } | TextError::Foreign { .. }));
        assert!(is_refused, "{error:?}");
    }
}

#[test]
fn damaged_tokenizers_are_refused() {
    let malformed = |spoil: fn(&mut Value)| {
        let error = open_spoiled(spoil);
        assert!(matches!(error, Err(TextError::Malformed { .. })), "{error:?}");
    };
    malformed(|file| file["model"]["unk_id"] = json!(99));
    malformed(|file| file["model"]["unk_id"] = json!(-1));
    malformed(|file| file["model"]["vocab"] = json!({"a": 1}));
    malformed(|file| file["model"]["vocab"] = json!([["a"]]));
    malformed(|file| file["model"] = json!([]));
    malformed(|file| file["version"] = json!("2.0"));
    malformed(|file| file["normalizer"] = json!({"type": "Nonsense"}));
    malformed(|file| {
        // A tree as deep as this piece is long would exhaust the stack.
        file["model"]["vocab"][4][0] = json!("a".repeat(1_000_000));
    });
    malformed(|file| {
        // A table of 4 GiB, by its own account.
        file["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "/////w=="});
    });
}

#[test]
fn a_table_that_points_beyond_its_end_is_an_error() {
    let error = open_spoiled(|file| {
        file["normalizer"] = json!({"type": "Precompiled", "precompiled_charsmap": "BAAAAAD8/38="});
    });
    assert!(matches!(error, Err(TextError::Failed { .. })), "{error:?}");
}

#[test]
fn other_kinds_of_tokenizers_are_refused() {
    for (kind, model) in [
        ("BPE", json!({"type": "BPE", "vocab": {"a": 0}, "merges": []})),
        ("WordLevel", json!({"type": "WordLevel", "vocab": {"<unk>": 0}, "unk_token": "<unk>"})),
    ] {
        let error = open_spoiled(|file| file["model"] = model);
        assert!(
            matches!(&error, Err(TextError::NotUnigram { found, .. }) if found == kind),
            "{error:?}"
        );
    }
}

#[test]
fn the_end_token_is_required() {
    let no_token = |token: &str, spoil: fn(&mut Value)| {
        let error = open_spoiled(spoil);
        assert!(
            matches!(&error, Err(TextError::NoToken { token: t, .. }) if *t == token),
            "{error:?}"
        );
    };
    no_token("</s>", |file| file["model"]["vocab"][1][0] = json!("<end>"));
    no_token("<pad>", |file| file["model"]["vocab"][0][0] = json!("<fill>"));
    let no_end = |spoil: fn(&mut Value)| {
        let error = open_spoiled(spoil);
        assert!(matches!(error, Err(TextError::NoEndToken { .. })), "{error:?}");
    };
    no_end(|file| file["post_processor"] = Value::Null);
    no_end(|file| {
        let template = file["post_processor"]["single"].as_array_mut();
        template.into_iter().for_each(|pieces| pieces.reverse());
    });
    // An id beyond the vocabulary.
    no_end(|file| {
        file["post_processor"]["special_tokens"]["</s>"]["ids"] = json!([4_000_000_000_u32])
    });
}

#[test]
fn files_that_cannot_be_read_are_refused() -> Outcome {
    let folder = tempfile::tempdir()?;
    let missing = Tokenizer::open(folder.path());
    assert!(
        matches!(&missing, Err(TextError::Read { file, .. }) if file.ends_with("tokenizer.json"))
    );
    let file = folder.path().join("tokenizer.json");
    std::fs::write(&file, vec![b' '; (64 << 20) + 1])?;
    let large = Tokenizer::open(folder.path());
    assert!(matches!(large, Err(TextError::TooLarge { found: 67_108_865, .. })), "{large:?}");
    std::fs::remove_file(&file)?;
    std::fs::create_dir(&file)?;
    assert!(matches!(Tokenizer::open(folder.path()), Err(TextError::Read { .. })));
    Ok(())
}

#[test]
fn any_text_has_tokens() -> Outcome {
    let tokenizer = Tokenizer::open(&workspace("tests/fixtures/tokenizer"))?;
    let long = ["a cat ".repeat(170_000), "x".repeat(1_000_000), "\u{301}".repeat(500_000)];
    for text in long.iter().map(String::as_str).chain(["", "\0", "\u{301}", "\u{FFFD}", "</s></s>"])
    {
        let Tokens { ids, .. } = tokenizer.encode(text, 512)?;
        assert!(ids.len() <= 512 && ids.ends_with(&[1]));
        assert!(ids.iter().all(|id| *id <= tokenizer.max_id()));
    }
    let mut random = Random(3);
    for _ in 0..2_000 {
        let len = random.below(24);
        let text: String = (0..len).map(|_| random.char()).collect();
        assert!(tokenizer.encode(&text, 512)?.ids.ends_with(&[1]), "{text:?}");
    }
    Ok(())
}

/// A field of a protobuf message that is bytes.
fn field(id: u8, bytes: &[u8]) -> Vec<u8> {
    [&[id << 3 | 2, bytes.len() as u8], bytes].concat()
}

/// A `spiece.model` with the pieces of [`sound`].
fn sentence_piece(unknown: &[u8], training: &[u8]) -> Vec<u8> {
    let piece = |(text, score, kind): &(&str, f32, u8)| {
        let score = [&[2 << 3 | 5][..], &score.to_le_bytes()].concat();
        field(1, &[field(1, text.as_bytes()), score, vec![3 << 3, *kind]].concat())
    };
    let pieces = [
        ("<pad>", 0.0, 3),
        ("</s>", 0.0, 3),
        ("<unk>", 0.0, 2),
        ("▁", -2.0, 1),
        ("a", -3.0, 1),
        ("▁a", -4.0, 1),
    ];
    let pieces: Vec<u8> = pieces.iter().flat_map(piece).collect();
    [pieces, field(2, training), unknown.to_vec()].concat()
}

#[test]
fn a_sentence_piece_model_gives_the_ids_of_tokenizer_json() -> Outcome {
    let folder = workspace("tests/fixtures/tokenizer");
    let json = Tokenizer::open(&folder)?;
    let pieces = Tokenizer::open(&folder.join("spiece.model"))?;
    assert_eq!(pieces.vocab_size(), json.vocab_size());
    assert_eq!((pieces.max_id(), pieces.pad_id()), (json.max_id(), json.pad_id()));
    let meta = read_json(&folder.join("meta.json"))?;
    let records = meta["records"].as_array().ok_or("no records")?;
    let texts = records.iter().filter_map(|record| record["text"].as_str());
    let mut texts: Vec<String> = texts.map(str::to_owned).collect();
    texts.extend(["", " a  cat ", "</s> a <pad>", "ﬁne①  Ａ", "\u{1F98A}\n"].map(str::to_owned));
    let mut random = Random(4);
    for _ in 0..500 {
        let len = random.below(24);
        texts.push((0..len).map(|_| random.char()).collect());
    }
    for text in texts {
        let tokens = pieces.encode(&text, 512)?;
        assert_eq!(tokens, json.encode(&text, 512)?, "{text:?}");
        assert_eq!(pieces.decode(&tokens.ids)?, json.decode(&tokens.ids)?, "{text:?}");
    }
    let own = Tokenizer::from_bytes(&sentence_piece(&[], &[]))?;
    assert_eq!(own.encode("a a x", 16)?, open_spoiled(|_| {})?.encode("a a x", 16)?);
    // In a folder without the other it is found.
    let alone = tempfile::tempdir()?;
    std::fs::copy(folder.join("spiece.model"), alone.path().join("spiece.model"))?;
    assert_eq!(Tokenizer::open(alone.path())?.encode("a cat", 16)?, json.encode("a cat", 16)?);
    Ok(())
}

#[test]
fn broken_sentence_piece_models_are_refused() -> Outcome {
    let sound = sentence_piece(&[], &[]);
    let refused = |bytes: &[u8], says: &str| {
        let error = Tokenizer::from_named_bytes(bytes, "spiece.model").err();
        let message = error.map(|error| error.to_string()).unwrap_or_default();
        let parts = ["spiece.model is a SentencePiece model", says, "tokenizer.json"];
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
    };
    refused(&sound[..sound.len() - 1], "it is damaged");
    refused(&sentence_piece(&[0xff; 11], &[]), "it is damaged");
    refused(&sentence_piece(&[1 << 3 | 3], &[]), "it is damaged");
    refused(&sentence_piece(&[], &[3 << 3, 2]), "type 2");
    // Character maps that are larger than they are, and that point beyond their end.
    refused(&sentence_piece(&field(3, &field(2, &[0xff; 8])), &[]), "claims to be larger");
    let wild = [4, 0, 0, 0, 0, 0xfc, 0xff, 0x7f];
    let wild = Tokenizer::from_bytes(&sentence_piece(&field(3, &field(2, &wild)), &[]));
    assert!(matches!(wild, Err(TextError::Failed { .. })), "{wild:?}");
    // What begins like one and is cut within the first piece is nothing that is known.
    assert!(matches!(Tokenizer::from_bytes(&sound[..5]), Err(TextError::Foreign { .. })));
    for end in 0..sound.len() {
        let _ = Tokenizer::from_bytes(&sound[..end]); // no panic
    }
    let real = std::fs::read(workspace("tests/fixtures/tokenizer/spiece.model"))?;
    refused(&real[..real.len() / 2], "it is damaged");
    Ok(())
}
