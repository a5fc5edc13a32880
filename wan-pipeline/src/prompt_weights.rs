//! Weights of words in a prompt, written `(words:1.3)`.

use std::ops::Range;

use crate::RequestError;

/// The largest weight that is of any use.
const MAX_WEIGHT: f32 = 10.0;

/// A prompt without its brackets, and the weights of parts of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct WeightedPrompt {
    /// What is encoded.
    pub(crate) text: String,
    /// Parts of `text` in bytes that have a weight of their own, in order.
    pub(crate) weights: Vec<(Range<usize>, f32)>,
}

impl WeightedPrompt {
    /// A prompt that is taken as it is.
    pub(crate) fn plain(text: String) -> Self {
        Self { text, weights: Vec::new() }
    }

    /// Reads `(words:1.3)`; `\(` and `\)` are brackets that are meant as such, and so are brackets
    /// without a weight.
    pub(crate) fn parse(prompt: &str) -> Result<Self, RequestError> {
        let (mut text, mut weights) = (String::new(), Vec::new());
        let mut rest = prompt;
        while let Some(start) = rest.find(['\\', '(']) {
            text.push_str(&rest[..start]);
            rest = &rest[start..];
            if let Some(bracket) = escaped(rest) {
                text.push(bracket);
                rest = &rest[2..];
            } else if let Some((words, weight, after)) = group(rest)? {
                weights.push((text.len()..text.len() + words.len(), weight));
                text.push_str(words);
                rest = after;
            } else {
                text.push_str(&rest[..1]);
                rest = &rest[1..];
            }
        }
        text.push_str(rest);
        Ok(Self { text, weights })
    }

    /// The weight of the part of the text in these bytes: that of the words that it begins in, or 1.
    /// A token may begin with the space before a word.
    pub(crate) fn weight_of(&self, bytes: &Range<usize>) -> f32 {
        let part = &self.text.get(bytes.clone()).unwrap_or_default();
        let start = bytes.start + (part.len() - part.trim_start().len());
        let found = self.weights.iter().find(|(words, _)| words.contains(&start));
        found.map_or(1.0, |(_, weight)| *weight)
    }
}

fn escaped(text: &str) -> Option<char> {
    let bracket = text.strip_prefix('\\')?.chars().next()?;
    ['(', ')', '\\'].contains(&bracket).then_some(bracket)
}

/// The words and the weight of `(words:1.3)`, and what follows. None for brackets without a colon.
fn group(text: &str) -> Result<Option<(&str, f32, &str)>, RequestError> {
    let Some(end) = text.find(')') else { return Ok(None) };
    let (inside, after) = (&text[1..end], &text[end + 1..]);
    let Some((words, weight)) = inside.rsplit_once(':') else { return Ok(None) };
    match weight.trim().parse::<f32>() {
        Ok(weight) if (0.0..=MAX_WEIGHT).contains(&weight) && !words.contains('(') => {
            Ok(Some((words, weight, after)))
        }
        _ => Err(RequestError::PromptWeight { found: text[..=end].to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_taken_out_of_the_text() {
        for (prompt, text, weights) in [
            ("a cat", "a cat", &[][..]),
            ("a (red:1.5) cat", "a red cat", &[(2..5, 1.5)]),
            ("(一只猫:0.5)在草地", "一只猫在草地", &[(0..9, 0.5)]),
            (
                "a (very red:0) and (big: 2 ) cat",
                "a very red and big cat",
                &[(2..10, 0.0), (15..18, 2.0)],
            ),
            (r"a \(red:1.5\) cat", "a (red:1.5) cat", &[]),
            ("a (red) cat (", "a (red) cat (", &[]),
            ("at 12:30 \\ noon", "at 12:30 \\ noon", &[]),
        ] {
            let parsed = WeightedPrompt::parse(prompt).unwrap();
            assert_eq!((parsed.text.as_str(), parsed.weights.as_slice()), (text, weights));
        }
    }

    #[test]
    fn a_weight_that_is_none_is_refused() {
        for prompt in ["(a:b)", "(a:)", "(a:-1)", "(a:nan)", "(a:inf)", "(a:11)", "((a:1):2)"] {
            let error = WeightedPrompt::parse(&format!("x {prompt} y")).unwrap_err().to_string();
            assert!(error.contains("(words:1.3)"), "{error}");
        }
    }

    #[test]
    fn a_token_has_the_weight_of_its_word() {
        let prompt = WeightedPrompt::parse("a (red:1.5) cat").unwrap();
        let weights = [0..1, 1..5, 2..5, 5..9, 6..9, 9..9].map(|bytes| prompt.weight_of(&bytes));
        assert_eq!(weights, [1.0, 1.5, 1.5, 1.0, 1.0, 1.0]);
    }
}
