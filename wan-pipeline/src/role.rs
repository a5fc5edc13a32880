use std::fmt;

/// A part of a model that is loaded on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Turns prompts into embeddings.
    TextEncoder,
    /// Predicts the velocity of the flow.
    Transformer,
    /// Maps videos to latents and back.
    Vae,
    /// Turns prompts into token ids.
    Tokenizer,
}

impl Role {
    /// The parts with weights, in the order in which they run.
    pub(crate) const NETWORKS: [Self; 3] = [Self::TextEncoder, Self::Transformer, Self::Vae];
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TextEncoder => "text encoder",
            Self::Transformer => "transformer",
            Self::Vae => "vae",
            Self::Tokenizer => "tokenizer",
        })
    }
}
