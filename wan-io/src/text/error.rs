use thiserror::Error;

/// Why a prompt cannot be turned into token ids.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TextError {
    /// The tokenizer file is missing or cannot be read.
    #[error("cannot read the tokenizer {file}: {source}")]
    Read {
        /// The file, or the folder that should hold `tokenizer.json`.
        file: String,
        /// The error of the system.
        source: std::io::Error,
    },
    /// The file is larger than any tokenizer of this kind.
    #[error("the tokenizer {file} has {found} bytes, at most {limit} are read")]
    TooLarge {
        /// The file.
        file: String,
        /// Its size in bytes.
        found: u64,
        /// The largest size that is accepted.
        limit: u64,
    },
    /// It is something else than a `tokenizer.json`.
    #[error("{file}: is {what}")]
    Foreign {
        /// The file.
        file: String,
        /// What it is, and the way out.
        what: String,
    },
    /// The content is not a usable `tokenizer.json`.
    #[error("{file} is not a tokenizer.json of the tokenizers library: {found}")]
    Malformed {
        /// The file.
        file: String,
        /// The defect, in words.
        found: String,
    },
    /// The content is a SentencePiece model (`spiece.model`) that cannot be used.
    #[error(
        "{file} is a SentencePiece model, but {found}; use the tokenizer.json that belongs to umT5"
    )]
    SentencePiece {
        /// The file.
        file: String,
        /// The defect, in words.
        found: String,
    },
    /// The tokenizer's model is not the one that umT5 has.
    #[error("the tokenizer {file} has a model of the kind {found}, umT5 has a Unigram model")]
    NotUnigram {
        /// The file.
        file: String,
        /// The kind that it names.
        found: String,
    },
    /// A special token is not in the vocabulary.
    #[error("the tokenizer {file} has no token {token}, umT5 has one")]
    NoToken {
        /// The file.
        file: String,
        /// The token that is missing.
        token: &'static str,
    },
    /// The tokenizer does not end a text with `</s>` and nothing else, as umT5 does.
    #[error(
        "the tokenizer {file} makes {found:?} of a text, {right:?} with </s> at the end is right"
    )]
    NoEndToken {
        /// The file.
        file: String,
        /// The ids that it makes of a short text.
        found: Vec<u32>,
        /// The ids that end with `</s>`.
        right: Vec<u32>,
    },
    /// The tokenizer does not put one token before a text and one behind it, as that of a CLIP does.
    #[error(
        "the tokenizer {file} makes {found:?} of a text whose own tokens are {text:?}; that of a CLIP puts \
         one token before them and one behind"
    )]
    NotFramed {
        /// The file.
        file: String,
        /// The ids that it makes of a short text.
        found: Vec<u32>,
        /// The ids without those around them.
        text: Vec<u32>,
    },
    /// The asked length leaves no room for text.
    #[error("a length of {found} tokens has no room for text and </s>, ask for 2 or more")]
    Length {
        /// The length that was asked for.
        found: usize,
    },
    /// The tokenizer failed on this text.
    #[error("the tokenizer {file} failed on the text: {found}")]
    Failed {
        /// The file.
        file: String,
        /// The failure, in words.
        found: String,
    },
}
