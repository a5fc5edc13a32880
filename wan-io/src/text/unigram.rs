use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use tokenizers::models::unigram::UnigramTrainer;
use tokenizers::{Model, Token};

/// How much less likely than the least likely piece a character that is in none is taken to be, as a
/// difference of logarithms.
const UNKNOWN_PENALTY: f64 = 10.0;

/// A Unigram model: the text is cut into those pieces whose logarithmic probabilities add up to the most.
///
/// It gives the tokens that the model of this name in the `tokenizers` library gives, whose maps for the
/// 256,300 pieces of umT5 take twenty times the memory of the pieces. Here they lie one after the other, and
/// are found by binary search.
pub(super) struct Unigram {
    vocabulary: Vocabulary,
    /// The ids of different pieces in the order of their bytes; of equal ones the last.
    sorted: Vec<u32>,
    unknown: Option<u32>,
    /// The score of a character that is in no piece.
    unknown_score: f64,
    /// Whether what is unknown becomes the pieces `<0x00>`, ... of its bytes.
    byte_fallback: bool,
}

/// Pieces and their scores, by id.
#[derive(Default)]
pub(super) struct Vocabulary {
    /// All pieces, one after the other.
    text: String,
    /// Where each of them ends.
    ends: Vec<u32>,
    scores: Vec<f64>,
}

/// A vocabulary in a `tokenizer.json`: a list of pieces and scores. `None` stands for a map, which other kinds
/// of models have.
pub(super) struct Listed(pub(super) Option<Vocabulary>);

/// The best way to a place in a text: its last piece.
#[derive(Clone, Copy)]
struct Step {
    score: f64,
    start: usize,
    is_unknown: bool,
}

impl Step {
    /// Takes the place of a way that is not as good; whether it did.
    fn improve(self, best: &mut Option<Self>) -> bool {
        let is_better = best.is_none_or(|best| self.score > best.score);
        if is_better {
            *best = Some(self);
        }
        is_better
    }
}

impl Vocabulary {
    pub(super) fn push(&mut self, piece: &str, score: f64) {
        self.text.push_str(piece);
        self.ends.push(self.text.len() as u32);
        self.scores.push(score);
    }

    fn get(&self, id: u32) -> Option<&str> {
        let end = *self.ends.get(id as usize)? as usize;
        let start = id.checked_sub(1).map_or(0, |before| self.ends[before as usize] as usize);
        Some(&self.text[start..end])
    }

    fn bytes(&self, id: u32) -> &[u8] {
        self.get(id).unwrap_or_default().as_bytes()
    }

    pub(super) fn pieces(&self) -> impl Iterator<Item = &str> {
        (0..self.len() as u32).filter_map(|id| self.get(id))
    }

    fn len(&self) -> usize {
        self.ends.len()
    }
}

impl Unigram {
    pub(super) fn new(
        vocabulary: Vocabulary,
        unknown: Option<usize>,
        byte_fallback: bool,
    ) -> Result<Self, String> {
        let count = vocabulary.len();
        let unknown = match unknown {
            Some(id) if id >= count => {
                return Err(format!("the unknown token has the id {id}, of {count} pieces"));
            }
            known => known.map(|id| id as u32),
        };
        let mut sorted: Vec<u32> = (0..count as u32).collect();
        let bytes = |id: u32| vocabulary.bytes(id);
        sorted.sort_unstable_by(|&a, &b| bytes(a).cmp(bytes(b)).then(b.cmp(&a)));
        sorted.dedup_by(|later, first| bytes(*later) == bytes(*first));
        let least = vocabulary.scores.iter().copied().fold(f64::INFINITY, f64::min);
        let unknown_score = least - UNKNOWN_PENALTY;
        Ok(Self { vocabulary, sorted, unknown, unknown_score, byte_fallback })
    }

    pub(super) fn max_id(&self) -> Option<u32> {
        (self.vocabulary.len() as u32).checked_sub(1)
    }

    /// The pieces that `text` begins with, the shortest first.
    fn prefixes<'a>(&'a self, text: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
        let mut range = &self.sorted[..];
        let with_length = text.iter().enumerate().map_while(move |(at, byte)| {
            // What is left begins with the text before `at`; that text itself would be the first.
            let order = |&id: &u32| self.vocabulary.bytes(id).get(at).cmp(&Some(byte));
            range = &range[range.partition_point(|id| order(id).is_lt())..];
            range = &range[..range.partition_point(|id| order(id).is_eq())];
            range.first().map(|&id| (id, at + 1))
        });
        with_length
            .filter(|&(id, length)| self.vocabulary.bytes(id).len() == length)
            .map(|(id, _)| id)
    }

    /// The best pieces of a text, each as where it starts and ends. What is unknown and adjoins is one.
    fn cut(&self, text: &str) -> tokenizers::Result<Vec<(usize, usize)>> {
        let mut best: Vec<Option<Step>> = vec![None; text.len() + 1];
        for (start, character) in text.char_indices() {
            let before = best[start].map_or(0.0, |step| step.score);
            let mut is_piece = false;
            for id in self.prefixes(&text.as_bytes()[start..]) {
                let length = self.vocabulary.bytes(id).len();
                is_piece |= length == character.len_utf8();
                let score = before + self.vocabulary.scores[id as usize];
                let is_unknown = Some(id) == self.unknown;
                Step { score, start, is_unknown }.improve(&mut best[start + length]);
            }
            if !is_piece {
                let score = before + self.unknown_score;
                let step = Step { score, start, is_unknown: true };
                if step.improve(&mut best[start + character.len_utf8()]) {
                    self.unknown.ok_or(NO_UNKNOWN)?;
                }
            }
        }
        let mut pieces: Vec<(usize, usize)> = Vec::new();
        let (mut end, mut after_unknown) = (text.len(), false);
        while let Some(step) = best[end].filter(|_| end > 0) {
            match pieces.last_mut() {
                Some(last) if step.is_unknown && after_unknown => last.0 = step.start,
                _ => pieces.push((step.start, end)),
            }
            (end, after_unknown) = (step.start, step.is_unknown);
        }
        pieces.reverse();
        Ok(pieces)
    }

    fn find(&self, piece: &str) -> Option<u32> {
        let order = |&id: &u32| self.vocabulary.bytes(id).cmp(piece.as_bytes());
        self.sorted.binary_search_by(order).ok().map(|at| self.sorted[at])
    }

    fn byte_tokens(&self, text: &str, offsets: (usize, usize)) -> Option<Vec<Token>> {
        let token = |byte: u8| {
            let piece = format!("<0x{byte:02X}>");
            self.find(&piece).map(|id| Token::new(id, piece, offsets))
        };
        text.bytes().map(token).collect()
    }
}

const NO_UNKNOWN: &str = "a character is in no piece, and there is no token for what is unknown";

impl Model for Unigram {
    type Trainer = UnigramTrainer;

    fn tokenize(&self, text: &str) -> tokenizers::Result<Vec<Token>> {
        let mut tokens = Vec::new();
        for (start, end) in self.cut(text)? {
            let (piece, offsets) = (&text[start..end], (start, end));
            if let Some(id) = self.find(piece) {
                tokens.push(Token::new(id, piece.to_owned(), offsets));
                continue;
            }
            let bytes = self.byte_fallback.then(|| self.byte_tokens(piece, offsets)).flatten();
            match bytes {
                Some(bytes) => tokens.extend(bytes),
                None => {
                    let id = self.unknown.ok_or(NO_UNKNOWN)?;
                    tokens.push(Token::new(id, piece.to_owned(), offsets));
                }
            }
        }
        Ok(tokens)
    }

    fn token_to_id(&self, token: &str) -> Option<u32> {
        self.find(token)
    }

    fn id_to_token(&self, id: u32) -> Option<String> {
        self.vocabulary.get(id).map(str::to_owned)
    }

    fn get_vocab(&self) -> HashMap<String, u32> {
        let piece = |&id: &u32| self.id_to_token(id).map(|piece| (piece, id));
        self.sorted.iter().filter_map(piece).collect()
    }

    fn get_vocab_size(&self) -> usize {
        self.vocabulary.len()
    }

    fn save(&self, _: &Path, _: Option<&str>) -> tokenizers::Result<Vec<PathBuf>> {
        Err("this model is only read".into())
    }

    fn get_trainer(&self) -> UnigramTrainer {
        UnigramTrainer::default()
    }
}

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Listing)
    }
}

struct Listing;

impl<'de> Visitor<'de> for Listing {
    type Value = Listed;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of pieces and scores")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Listed, A::Error> {
        let mut vocabulary = Vocabulary::default();
        while let Some(Pair(piece, score)) = list.next_element()? {
            vocabulary.push(&piece, score);
        }
        Ok(Listed(Some(vocabulary)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Listed, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Listed(None))
    }
}

/// A piece, which is copied only if it is written with escapes.
#[derive(Deserialize)]
struct Pair<'a>(#[serde(borrow)] Cow<'a, str>, f64);

#[cfg(test)]
mod tests {
    use tokenizers::models::unigram;

    use super::*;

    /// A generator of small numbers (Marsaglia's xorshift).
    struct Random(u64);

    impl Random {
        fn below(&mut self, n: u64) -> u64 {
            for shift in [13, -7, 17] {
                self.0 ^= if shift > 0 { self.0 << shift } else { self.0 >> -shift };
            }
            self.0 % n
        }

        fn text(&mut self, longest: u64) -> String {
            let characters = ['a', 'b', 'c', 'é', '猫', '🦊', '▁'];
            let length = self.below(longest + 1);
            (0..length).map(|_| characters[self.below(7) as usize]).collect()
        }
    }

    #[test]
    fn tokens_are_those_of_the_library() {
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for _ in 0..2_000 {
            // With pieces that come twice, equal scores, an empty piece now and then.
            let mut pieces: Vec<(String, f64)> = (0..1 + random.below(40))
                .map(|_| (random.text(4), -(random.below(60) as f64) / 4.0))
                .collect();
            if random.below(3) == 0 {
                pieces.extend((0..=255).map(|byte| (format!("<0x{byte:02X}>"), -9.0)));
            }
            let some = random.below(8) > 0;
            let unknown = some.then(|| random.below(pieces.len() as u64) as usize);
            let bytes = random.below(2) == 0;
            let mut vocabulary = Vocabulary::default();
            pieces.iter().for_each(|(piece, score)| vocabulary.push(piece, *score));
            let ours = Unigram::new(vocabulary, unknown, bytes).unwrap();
            let library = unigram::Unigram::from(pieces.clone(), unknown, bytes).unwrap();
            for _ in 0..20 {
                let text = random.text(12);
                let case = format!("{text:?} with {pieces:?}, {unknown:?}, {bytes}");
                match (ours.tokenize(&text), library.tokenize(&text)) {
                    (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{case}"),
                    (found, expected) => assert!(found.is_err() && expected.is_err(), "{case}"),
                }
                assert_eq!(ours.token_to_id(&text), library.token_to_id(&text), "{case}");
            }
            for id in 0..=pieces.len() as u32 {
                assert_eq!(ours.id_to_token(id), library.id_to_token(id));
            }
            assert_eq!(ours.get_vocab(), library.get_vocab());
        }
    }
}
