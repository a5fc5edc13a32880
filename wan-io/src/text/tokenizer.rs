use super::TextError;
use super::spiece::SentencePiece;
use super::unigram::{Listed, Unigram};
use crate::files::strict_json;
use crate::foreign;
use serde::Deserialize;
use serde_json::Value;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use tokenizers::{
    AddedToken, DecoderWrapper, Encoding, NormalizerWrapper, PostProcessorWrapper,
    PreTokenizerWrapper, TokenizerImpl,
};

/// The longest piece of a vocabulary in bytes; those of umT5 end at some 50. A text is compared with pieces
/// from each of its characters on.
const LONGEST_PIECE: usize = 4096;
/// A blank, as pieces are written.
const BLANK: &str = "▁";
/// The name of bytes without a file in errors.
pub(super) const IN_MEMORY: &str = "in memory";

/// The library's tokenizer with our model.
pub(super) type Inner = TokenizerImpl<
    Unigram,
    NormalizerWrapper,
    PreTokenizerWrapper,
    PostProcessorWrapper,
    DecoderWrapper,
>;

/// A text as token ids.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tokens {
    /// The ids with the final `</s>`, without padding.
    pub ids: Vec<u32>,
    /// The bytes of the text that each id stands for, from the first to the one after the last. Ids
    /// that together stand for one character have all of its bytes. The final `</s>` stands for
    /// none: it is at the end of the text, `(len, len)`.
    pub offsets: Vec<(usize, usize)>,
    /// How many tokens did not fit into the asked length; 0 if the text is whole.
    pub dropped: usize,
}

/// The tokenizer of umT5: a Unigram model in the `tokenizer.json` of the `tokenizers` library, or in the
/// `spiece.model` of SentencePiece. For a cleaned prompt of characters that umT5 knows, both give the same
/// ids. Others are `<unk>` by its `tokenizer.json`, but bytes by its `spiece.model`, which also lacks the
/// tokens `<extra_id_0>`, ...
///
/// Clean the text first ([`clean_prompt`](super::clean_prompt)): line breaks and tabs are unknown to
/// umT5.
pub struct Tokenizer {
    inner: Inner,
    file: String,
    eos: u32,
    pad: u32,
    max_id: u32,
}

impl Tokenizer {
    /// The largest `tokenizer.json` that is read; that of umT5 has 17 MB.
    pub const MAX_BYTES: u64 = 64 << 20;

    /// Opens a `tokenizer.json` or a `spiece.model`, or the one in a folder.
    ///
    /// # Errors
    /// If the file is missing, larger than 64 MiB, or not a Unigram tokenizer with `<pad>` that ends
    /// every text with `</s>`.
    pub fn open(path: &Path) -> Result<Self, TextError> {
        let file = if path.is_dir() { in_folder(path) } else { path.to_owned() };
        let bytes = read(&file)?;
        Self::load(&bytes, file.display().to_string())
    }

    /// Reads the content of a `tokenizer.json` or `spiece.model`.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TextError> {
        Self::load(bytes, IN_MEMORY.to_owned())
    }

    /// Reads the content of a `tokenizer.json` or `spiece.model` that errors call `file`.
    ///
    /// # Errors
    /// As for [`open`](Self::open).
    pub fn from_named_bytes(bytes: &[u8], file: &str) -> Result<Self, TextError> {
        Self::load(bytes, file.to_owned())
    }

    fn load(bytes: &[u8], file: String) -> Result<Self, TextError> {
        let is_sentence_piece = SentencePiece::is_kind(bytes);
        match is_sentence_piece {
            true => check_size(bytes, &file)?,
            false => check_content(bytes, &file)?,
        }
        let inner = match is_sentence_piece {
            true => from_sentence_piece(bytes)
                .map_err(|found| TextError::SentencePiece { file: file.clone(), found })?,
            false => from_json(&strict_json(bytes), &file)?,
        };
        let id = |token| {
            inner.token_to_id(token).ok_or_else(|| TextError::NoToken { file: file.clone(), token })
        };
        let (eos, pad) = (id("</s>")?, id("<pad>")?);
        let added = inner.get_added_vocabulary().get_vocab().values().copied().max();
        let max_id = inner.get_model().max_id().max(added).unwrap_or(0);
        let tokenizer = Self { inner, file, eos, pad, max_id };
        tokenizer.check_end()?;
        Ok(tokenizer)
    }

    /// Makes sure that a text gets `</s>` at its end and nothing else.
    fn check_end(&self) -> Result<(), TextError> {
        let mut right = self.run("a", false)?.get_ids().to_vec();
        right.push(self.eos);
        let found = self.run("a", true)?.get_ids().to_vec();
        if found == right {
            return Ok(());
        }
        Err(TextError::NoEndToken { file: self.file.clone(), found, right })
    }

    /// The ids of `text` and a final `</s>`, together at most `max_length`.
    ///
    /// A longer text is cut, and the result ends with `</s>` all the same. Special tokens written out
    /// in the text (`<pad>`, `</s>`) become those tokens, as in the reference.
    ///
    /// # Errors
    /// If `max_length` is below 2, or the tokenizer file turns out to be damaged.
    pub fn encode(&self, text: &str, max_length: usize) -> Result<Tokens, TextError> {
        if max_length < 2 {
            return Err(TextError::Length { found: max_length });
        }
        let encoding = self.run(text, true)?;
        let (mut ids, mut offsets) = (encoding.get_ids().to_vec(), offsets(&encoding, text));
        let dropped = ids.len().saturating_sub(max_length);
        if dropped > 0 {
            ids.truncate(max_length - 1);
            ids.push(self.eos);
        }
        // The library puts what it adds at the start of the text.
        offsets.truncate(ids.len().saturating_sub(1));
        offsets.push((text.len(), text.len()));
        Ok(Tokens { ids, offsets, dropped })
    }

    fn run(&self, text: &str, end: bool) -> Result<Encoding, TextError> {
        guarded(|| self.inner.encode(text, end))
            .map_err(|found| TextError::Failed { file: self.file.clone(), found })
    }

    /// The text of `ids`, without special tokens. Unknown ids are left out.
    ///
    /// # Errors
    /// If the tokenizer file turns out to be damaged.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TextError> {
        guarded(|| self.inner.decode(ids, true))
            .map_err(|found| TextError::Failed { file: self.file.clone(), found })
    }

    /// How many tokens there are, special ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// The largest id. The text encoder's embedding must have more rows than this; it may have many
    /// more, that of umT5 is padded.
    pub fn max_id(&self) -> u32 {
        self.max_id
    }

    /// The id of `<pad>`, which fills a batch of texts to one length.
    pub fn pad_id(&self) -> u32 {
        self.pad
    }
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { inner: _, file, eos, pad, max_id } = self;
        f.debug_struct("Tokenizer")
            .field("file", file)
            .field("eos", eos)
            .field("pad", pad)
            .field("max_id", max_id)
            .finish()
    }
}

/// The bytes of `text` that each token stands for. A blank that the tokenizer puts before a text stands
/// for none; the library gives it those of the first character.
fn offsets(encoding: &Encoding, text: &str) -> Vec<(usize, usize)> {
    let pieces = encoding.get_tokens().iter().zip(encoding.get_offsets());
    let range = |(piece, &(start, stop)): (&String, &(usize, usize))| match text.get(start..stop) {
        Some(" ") => (start, stop),
        _ if piece == BLANK => (start, start),
        _ => (start, stop),
    };
    pieces.map(range).collect()
}

/// Refuses content that is larger than any tokenizer.
fn check_size(bytes: &[u8], file: &str) -> Result<(), TextError> {
    let (found, limit) = (bytes.len() as u64, Tokenizer::MAX_BYTES);
    match found > limit {
        true => Err(TextError::TooLarge { file: file.to_owned(), found, limit }),
        false => Ok(()),
    }
}

/// That, and what is known to be something else than JSON.
pub(super) fn check_content(bytes: &[u8], file: &str) -> Result<(), TextError> {
    check_size(bytes, file)?;
    let beginning = &bytes[..bytes.len().min(foreign::START)];
    match foreign::instead_of_json(beginning, bytes.len() as u64) {
        Some(what) => Err(TextError::Foreign { file: file.to_owned(), what }),
        None => Ok(()),
    }
}

/// The tokenizer in a folder. Where there is none, messages name the usual one.
fn in_folder(folder: &Path) -> PathBuf {
    let [json, spiece] = ["tokenizer.json", "spiece.model"].map(|name| folder.join(name));
    if !json.exists() && spiece.exists() { spiece } else { json }
}

/// The tokenizer of a SentencePiece model, with the checks of [`from_json`].
fn from_sentence_piece(bytes: &[u8]) -> Result<Inner, String> {
    let model = SentencePiece::read(bytes)?;
    check_pieces(model.pieces.iter().map(|piece| piece.text.as_str()))?;
    let claimed = model.characters.first_chunk().map_or(0, |size| u32::from_le_bytes(*size));
    if claimed as usize > model.characters.len() {
        return Err(CLAIMS_TOO_MUCH.to_owned());
    }
    guarded(|| model.into_tokenizer())
}

/// The content of a regular file of bounded size.
fn read(path: &Path) -> Result<Vec<u8>, TextError> {
    let file = path.display().to_string();
    let failed = |source| TextError::Read { file: file.clone(), source };
    let metadata = std::fs::metadata(path).map_err(failed)?;
    if !metadata.is_file() {
        return Err(failed(std::io::Error::other("not a regular file")));
    }
    let (size, limit) = (metadata.len(), Tokenizer::MAX_BYTES);
    // The file may still grow. One that is too large is looked at for what it is.
    let read = if size > limit { foreign::START as u64 } else { limit };
    let mut bytes = Vec::new();
    File::open(path).map_err(failed)?.take(read).read_to_end(&mut bytes).map_err(failed)?;
    if size > limit {
        return Err(match foreign::instead_of_json(&bytes, size) {
            Some(what) => TextError::Foreign { file, what },
            None => TextError::TooLarge { file, found: size, limit },
        });
    }
    Ok(bytes)
}

/// Runs a call of the `tokenizers` crate. It panics on some damaged files (tables of a normalizer that
/// point beyond their end), which is an error like any other here.
pub(super) fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, String> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("the tokenizers library panicked".to_owned()),
    }
}

/// A `tokenizer.json` without its lengths, which are the caller's to say, at every text.
#[derive(Deserialize)]
struct Layout {
    version: Option<String>,
    model: Model,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Option<Value>,
    pre_tokenizer: Option<PreTokenizerWrapper>,
    post_processor: Option<PostProcessorWrapper>,
    decoder: Option<DecoderWrapper>,
}

#[derive(Deserialize)]
struct Model {
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: Listed,
    unk_id: Option<usize>,
    #[serde(default)]
    byte_fallback: bool,
}

/// The tokenizer of a `tokenizer.json`. Refuses other models, and what would exhaust the memory in the
/// library.
pub(super) fn from_json(bytes: &[u8], file: &str) -> Result<Inner, TextError> {
    let malformed = |found: String| TextError::Malformed { file: file.to_owned(), found };
    let layout = || Ok(serde_json::from_slice::<Layout>(bytes)?);
    let layout = guarded(layout).map_err(malformed)?;
    if let Some(version) = layout.version.filter(|version| version != "1.0") {
        return Err(malformed(format!("its version is {version}, not 1.0")));
    }
    let Model { kind, vocab: Listed(vocabulary), unk_id, byte_fallback } = layout.model;
    let is_unigram = kind.as_deref().is_none_or(|kind| kind == "Unigram");
    let Some(vocabulary) = vocabulary.filter(|_| is_unigram) else {
        return match kind.unwrap_or_else(|| "unnamed".to_owned()) {
            kind if kind == "Unigram" => {
                Err(malformed("the vocabulary is not a list of pieces and scores".into()))
            }
            found => Err(TextError::NotUnigram { file: file.to_owned(), found }),
        };
    };
    check_pieces(vocabulary.pieces()).map_err(malformed)?;
    if layout.normalizer.as_ref().is_some_and(claims_too_much) {
        return Err(malformed(CLAIMS_TOO_MUCH.to_owned()));
    }
    let tokenizer = || {
        let normalizer = layout.normalizer.map(serde_json::from_value::<NormalizerWrapper>);
        let mut tokenizer = Inner::new(Unigram::new(vocabulary, unk_id, byte_fallback)?);
        tokenizer.with_normalizer(normalizer.transpose()?)?;
        tokenizer.with_pre_tokenizer(layout.pre_tokenizer);
        tokenizer.with_post_processor(layout.post_processor).with_decoder(layout.decoder);
        tokenizer.add_tokens(layout.added_tokens)?;
        Ok(tokenizer)
    };
    guarded(tokenizer).map_err(malformed)
}

const CLAIMS_TOO_MUCH: &str = "a character map claims to be larger than it is";

fn check_pieces<'a>(pieces: impl Iterator<Item = &'a str>) -> Result<(), String> {
    match pieces.map(str::len).max().unwrap_or(0) {
        longest if longest > LONGEST_PIECE => {
            Err(format!("a piece has {longest} bytes, at most {LONGEST_PIECE} are read"))
        }
        _ => Ok(()),
    }
}

/// Whether a character map in `normalizer` gives itself a size beyond its end. The library would
/// reserve that much memory.
fn claims_too_much(normalizer: &Value) -> bool {
    match normalizer {
        Value::Object(fields) => fields.iter().any(|(name, value)| match value {
            Value::String(map) if name == "precompiled_charsmap" => map_size(map) > map.len(),
            _ => claims_too_much(value),
        }),
        Value::Array(parts) => parts.iter().any(claims_too_much),
        _ => false,
    }
}

/// The size that a character map begins with: four bytes, little endian, in base64.
fn map_size(map: &str) -> usize {
    let bits = map.bytes().take(6).enumerate().fold(0u64, |bits, (at, byte)| {
        let digit = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        bits | u64::from(digit) << (42 - 6 * at)
    });
    // The six digits are the upper 36 of 48 bits, the four bytes the upper 32.
    ((bits >> 16) as u32).swap_bytes() as usize
}
