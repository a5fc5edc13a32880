//! `spiece.model`: a SentencePiece model as protobuf, made the tokenizer that `tokenizer.json` would be.
//!
//! Sources: `sentencepiece_model.proto` for the fields, `SpmConverter` in
//! `transformers/convert_slow_tokenizer.py` for the tokenizer.

use tokenizers::normalizers::{Precompiled, Replace, Sequence, Strip, replace::ReplacePattern};
use tokenizers::pre_tokenizers::metaspace::{Metaspace, PrependScheme};
use tokenizers::processors::template::TemplateProcessing;
use tokenizers::{AddedToken, NormalizerWrapper};

use super::tokenizer::Inner;
use super::unigram::{Unigram, Vocabulary};

/// Kinds of pieces.
const UNKNOWN: u64 = 2;
const CONTROL: u64 = 3;
/// The kind of model that umT5 has.
const UNIGRAM: u64 = 1;

/// A SentencePiece model.
pub(super) struct SentencePiece {
    pub(super) pieces: Vec<Piece>,
    /// The table of the characters that a text is normalised to, with its own size in front.
    pub(super) characters: Vec<u8>,
    model_type: u64,
    byte_fallback: bool,
    dummy_prefix: bool,
}

/// A piece of the vocabulary.
pub(super) struct Piece {
    pub(super) text: String,
    score: f32,
    kind: u64,
}

impl SentencePiece {
    /// Whether a file is a SentencePiece model: it begins with a piece.
    pub(super) fn is_kind(bytes: &[u8]) -> bool {
        let is_piece = |field: Field| field.id == 1 && Piece::read(field.bytes).is_some();
        Field::next(&mut &*bytes).is_some_and(is_piece)
    }

    /// Reads the fields of a model that a tokenizer needs.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        let model = Self::fields(bytes).ok_or("it is damaged")?;
        match model.model_type {
            UNIGRAM => Ok(model),
            other => Err(format!("its model is of type {other}, that of umT5 of type 1 (Unigram)")),
        }
    }

    fn fields(bytes: &[u8]) -> Option<Self> {
        let mut model = Self {
            pieces: Vec::new(),
            characters: Vec::new(),
            model_type: UNIGRAM,
            byte_fallback: false,
            dummy_prefix: true,
        };
        for field in Field::all(bytes) {
            let field = field?;
            match field.id {
                1 => model.pieces.push(Piece::read(field.bytes)?),
                2 => model.read_training(field.bytes)?,
                3 => model.read_normalizer(field.bytes)?,
                _ => {}
            }
        }
        Some(model)
    }

    fn read_training(&mut self, bytes: &[u8]) -> Option<()> {
        for field in Field::all(bytes) {
            let field = field?;
            match field.id {
                3 => self.model_type = field.number,
                35 => self.byte_fallback = field.number != 0,
                _ => {}
            }
        }
        Some(())
    }

    fn read_normalizer(&mut self, bytes: &[u8]) -> Option<()> {
        for field in Field::all(bytes) {
            let field = field?;
            match field.id {
                2 => self.characters = field.bytes.to_vec(),
                3 => self.dummy_prefix = field.number != 0,
                _ => {}
            }
        }
        Some(())
    }

    /// The tokenizer that `transformers` makes of the model, with `</s>` after each text.
    pub(super) fn into_tokenizer(self) -> tokenizers::Result<Inner> {
        let blank = '▁';
        let mut normalizers: Vec<NormalizerWrapper> = Vec::new();
        if !self.characters.is_empty() {
            normalizers.push(Precompiled::from(&self.characters)?.into());
        }
        normalizers.push(Strip::new(false, true).into());
        let blanks = ReplacePattern::Regex(" {2,}".into());
        normalizers.push(Replace::new(blanks, blank)?.into());
        let prefix = if self.dummy_prefix { PrependScheme::Always } else { PrependScheme::Never };
        let metaspace = Metaspace::new(blank, prefix, true);
        let added: Vec<AddedToken> = self.pieces.iter().filter_map(Piece::as_added).collect();
        let place = |is: fn(&Piece) -> bool| self.pieces.iter().position(is);
        let end = place(|piece| piece.text == "</s>");
        let unknown = place(|piece| piece.kind == UNKNOWN).or(place(|piece| piece.text == "<unk>"));
        let mut vocabulary = Vocabulary::default();
        self.pieces.iter().for_each(|piece| vocabulary.push(&piece.text, f64::from(piece.score)));
        let model = Unigram::new(vocabulary, unknown, self.byte_fallback)?;
        let mut tokenizer = Inner::new(model);
        tokenizer.with_normalizer(Some(Sequence::new(normalizers)))?;
        tokenizer.with_pre_tokenizer(Some(metaspace.clone())).with_decoder(Some(metaspace));
        if let Some(end) = end {
            let mut template = TemplateProcessing::builder();
            template.try_single("$A </s>")?.special_tokens(vec![("</s>", end as u32)]);
            tokenizer.with_post_processor(Some(template.build()?));
        }
        tokenizer.add_tokens(added)?;
        Ok(tokenizer)
    }
}

impl Piece {
    fn read(bytes: &[u8]) -> Option<Self> {
        let mut piece = Self { text: String::new(), score: 0.0, kind: 1 };
        for field in Field::all(bytes) {
            let field = field?;
            match field.id {
                1 => piece.text = String::from_utf8(field.bytes.to_vec()).ok()?,
                2 => piece.score = f32::from_le_bytes(field.bytes.try_into().ok()?),
                3 => piece.kind = field.number,
                _ => {}
            }
        }
        (!piece.text.is_empty()).then_some(piece)
    }

    /// The piece as a token that is found in a text before all others, if it is a special one.
    fn as_added(&self) -> Option<AddedToken> {
        let is_special = [UNKNOWN, CONTROL].contains(&self.kind);
        is_special.then(|| AddedToken::from(&self.text, true))
    }
}

/// A field of a protobuf message: a number or bytes.
struct Field<'a> {
    id: u64,
    number: u64,
    bytes: &'a [u8],
}

impl<'a> Field<'a> {
    /// The fields of a message; `None` where it is damaged.
    fn all(mut message: &'a [u8]) -> impl Iterator<Item = Option<Self>> {
        std::iter::from_fn(move || {
            let field = (!message.is_empty()).then(|| Self::next(&mut message))?;
            if field.is_none() {
                message = &[];
            }
            Some(field)
        })
    }

    fn next(message: &mut &'a [u8]) -> Option<Self> {
        let key = varint(message)?;
        let (id, mut number, mut bytes) = (key >> 3, 0, &[][..]);
        match key & 7 {
            0 => number = varint(message)?,
            1 => bytes = message.split_off(..8)?,
            2 => {
                let length = usize::try_from(varint(message)?).ok()?;
                bytes = message.split_off(..length)?;
            }
            5 => bytes = message.split_off(..4)?,
            _ => return None,
        }
        Some(Self { id, number, bytes })
    }
}

/// A number in groups of seven bits, the lowest first.
fn varint(message: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let byte = *message.split_off_first()?;
        number |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}
