use std::fmt;

/// A part of a model that is loaded on its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Role {
    /// Turns prompts into embeddings.
    TextEncoder,
    /// Predicts the velocity of the flow; of two experts, the one for the first steps, where noise is high.
    Transformer,
    /// The expert for the last steps, where noise is low.
    Transformer2,
    /// Turns images into states that image-to-video models of Wan 2.1 attend to.
    ImageEncoder,
    /// Maps videos to latents and back.
    Vae,
    /// Turns prompts into token ids.
    Tokenizer,
}

impl Role {
    /// The parts with weights, in the order in which they run.
    pub(crate) const NETWORKS: [Self; 5] =
        [Self::TextEncoder, Self::ImageEncoder, Self::Transformer, Self::Transformer2, Self::Vae];

    /// Whether there are models without it.
    pub(crate) fn is_optional(self) -> bool {
        matches!(self, Self::ImageEncoder | Self::Transformer2)
    }

    /// The indefinite article before its name.
    pub(crate) fn article(self) -> &'static str {
        if self == Self::ImageEncoder { "an" } else { "a" }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TextEncoder => "text encoder",
            Self::Transformer => "transformer",
            Self::Transformer2 => "second transformer",
            Self::ImageEncoder => "image encoder",
            Self::Vae => "vae",
            Self::Tokenizer => "tokenizer",
        })
    }
}
