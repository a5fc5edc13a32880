use std::fmt;

use serde::Deserialize;
use tokenizers::Encoding;

use super::TextError;
use super::tokenizer::{IN_MEMORY, Inner, check_content, from_json, guarded};
use crate::files::strict_json;

/// The tokenizer of a CLIP, from the `tokenizer.json` of its folder: the Unigram model of XLM-RoBERTa, which
/// knows English, Chinese and a hundred other languages, or the BPE model of CLIP's own text tower. Either
/// puts one token before a text and one behind it.
pub struct ClipTokenizer {
    model: Model,
    file: String,
    /// The token before a text.
    start: u32,
    /// The token behind it.
    end: u32,
    max_id: u32,
}

/// The tokens of a text, with those around it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClipTokens {
    /// The ids, without padding.
    pub ids: Vec<u32>,
    /// How many tokens did not fit into the asked length; 0 if the text is whole.
    pub dropped: usize,
}

enum Model {
    Unigram(Box<Inner>),
    Bpe(Box<tokenizers::Tokenizer>),
}

impl Model {
    fn encode(&self, text: &str, special: bool) -> tokenizers::Result<Encoding> {
        match self {
            Self::Unigram(inner) => inner.encode(text, special),
            Self::Bpe(inner) => inner.encode(text, special),
        }
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        match self {
            Self::Unigram(inner) => inner.token_to_id(token),
            Self::Bpe(inner) => inner.token_to_id(token),
        }
    }

    fn max_id(&self) -> u32 {
        let (own, added) = match self {
            Self::Unigram(inner) => (inner.get_model().max_id(), inner.get_added_vocabulary()),
            Self::Bpe(inner) => {
                (inner.get_vocab(false).into_values().max(), inner.get_added_vocabulary())
            }
        };
        own.max(added.get_vocab().values().copied().max()).unwrap_or(0)
    }
}

impl ClipTokenizer {
    /// Reads the content of a `tokenizer.json`.
    ///
    /// # Errors
    /// If it is larger than 64 MiB, no `tokenizer.json`, of another kind than Unigram and BPE, or does not put
    /// one token before a text and one behind it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, TextError> {
        Self::from_named_bytes(bytes, IN_MEMORY)
    }

    /// Reads the content of a `tokenizer.json` that errors call `file`.
    ///
    /// # Errors
    /// As for [`from_bytes`](Self::from_bytes).
    pub fn from_named_bytes(bytes: &[u8], file: &str) -> Result<Self, TextError> {
        check_content(bytes, file)?;
        let bytes = strict_json(bytes);
        let model = match is_bpe(&bytes) {
            true => Model::Bpe(Box::new(bpe(&bytes, file)?)),
            false => Model::Unigram(Box::new(from_json(&bytes, file)?)),
        };
        let max_id = model.max_id();
        let unframed = Self { model, file: file.to_owned(), start: 0, end: 0, max_id };
        let (text, found) = (unframed.run("a", false)?, unframed.run("a", true)?);
        match &found[..] {
            [start, inner @ .., end] if inner == text => {
                Ok(Self { start: *start, end: *end, ..unframed })
            }
            _ => Err(TextError::NotFramed { file: file.to_owned(), found, text }),
        }
    }

    /// The ids of `text` with those around it, together at most `max_length`. A longer text is cut, and has
    /// its end token all the same. Special tokens written out in the text (`</s>`) become those tokens, as in
    /// the reference.
    ///
    /// # Errors
    /// If `max_length` is below 2, or the tokenizer file turns out to be damaged.
    pub fn encode(&self, text: &str, max_length: usize) -> Result<ClipTokens, TextError> {
        if max_length < 2 {
            return Err(TextError::Length { found: max_length });
        }
        let mut ids = self.run(text, false)?;
        let dropped = (ids.len() + 2).saturating_sub(max_length);
        ids.truncate(max_length - 2);
        ids.insert(0, self.start);
        ids.push(self.end);
        Ok(ClipTokens { ids, dropped })
    }

    fn run(&self, text: &str, special: bool) -> Result<Vec<u32>, TextError> {
        let encoding = guarded(|| self.model.encode(text, special));
        let failed = |found| TextError::Failed { file: self.file.clone(), found };
        Ok(encoding.map_err(failed)?.get_ids().to_vec())
    }

    /// The token behind a text.
    pub fn end_id(&self) -> u32 {
        self.end
    }

    /// The id of `<pad>`, if there is such a token.
    pub fn pad_id(&self) -> Option<u32> {
        self.model.token_to_id("<pad>")
    }

    /// The largest id. The text tower's embedding must have more rows than this.
    pub fn max_id(&self) -> u32 {
        self.max_id
    }
}

impl fmt::Debug for ClipTokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { model: _, file, start, end, max_id } = self;
        f.debug_struct("ClipTokenizer")
            .field("file", file)
            .field("start", start)
            .field("end", end)
            .field("max_id", max_id)
            .finish()
    }
}

/// Whether the model says that it is of this kind, or has merges.
fn is_bpe(bytes: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct File {
        model: Kind,
    }
    #[derive(Deserialize)]
    struct Kind {
        #[serde(rename = "type")]
        kind: Option<String>,
        merges: Option<serde::de::IgnoredAny>,
    }
    let Ok(File { model }) = serde_json::from_slice(bytes) else { return false };
    model.kind.as_deref().map_or(model.merges.is_some(), |kind| kind == "BPE")
}

/// The library's tokenizer, without its lengths, which are the caller's to say, at every text.
fn bpe(bytes: &[u8], file: &str) -> Result<tokenizers::Tokenizer, TextError> {
    let read = || {
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(bytes)?;
        tokenizer.with_truncation(None)?.with_padding(None);
        Ok(tokenizer)
    };
    guarded(read).map_err(|found| TextError::Malformed { file: file.to_owned(), found })
}
