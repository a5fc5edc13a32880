//! What a checkpoint is, told from the names and shapes of its tensors.

mod classes;
mod marks;

use std::fmt;

use crate::load::TensorSource;
use marks::{Channels, GROUPS, Row};

/// A kind of checkpoint that is found among downloads of Wan models. [`Display`](fmt::Display) is its
/// name in a sentence: "an image-to-video model (Wan 2.1 I2V or Fun-InP)".
///
/// Some kinds cannot be told apart by names and shapes. Wan 2.1 T2V 14B, either expert of Wan 2.2
/// T2V-A14B and what was trained from T2V without new tensors (Phantom, CausalAR, Self-Forcing,
/// Bernini-R, FlowRVS) are all [`TextToVideo`](Self::TextToVideo); so are Wan 2.1 I2V and Fun-InP one
/// kind, VACE and VACE-Fun, Wan's VAE and that of Qwen-Image. What a [path](Self::at_path) or the
/// [class in a config](Self::of_class) tells comes on top.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CheckpointKind {
    /// Wan 2.1 T2V, and all that has the same tensors.
    TextToVideo,
    /// FastWan: text-to-video of few steps, with gates for sparse attention that dense attention does
    /// without.
    FastWan,
    /// An expert of Wan 2.2 T2V-A14B; only its path tells.
    TextToVideoExpert,
    /// Wan 2.1 I2V or Fun-InP.
    ImageToVideo,
    /// An expert of Wan 2.2 I2V-A14B.
    ImageToVideoExpert,
    /// Wan 2.1 FLF2V.
    FirstLastFrame,
    /// Wan 2.2 TI2V-5B.
    TextImageToVideo,
    /// VACE.
    Vace,
    /// Wan 2.1 Fun-Control.
    FunControl,
    /// An expert of Wan 2.2 Fun-A14B-Control.
    FunControlExpert,
    /// Wan 2.1 Fun-Control-Camera.
    FunCamera,
    /// An expert of Wan 2.2 Fun-A14B-Control-Camera.
    FunCameraExpert,
    /// Wan 2.2 Animate.
    Animate,
    /// Wan 2.2 Animate-2.
    Animate2,
    /// Wan 2.2 S2V.
    SpeechToVideo,
    /// Wan-Dancer.
    Dancer,
    /// MultiTalk, InfiniteTalk or HuMo.
    AudioDriven,
    /// Lucy Edit.
    LucyEdit,
    /// ChronoEdit; only its class tells.
    ChronoEdit,
    /// SkyReels V2 with a rate of frames as input; others only by their class.
    SkyReels,
    /// A causal model that makes a video frame by frame; only its class tells.
    CausalAr,
    /// LongCat-Video.
    LongCat,
    /// A umT5 encoder, under the names of transformers or of the original.
    Umt5,
    /// A umT5 encoder under the names of llama.cpp.
    Umt5LlamaCpp,
    /// A T5 encoder, whose blocks share one table of relative positions.
    T5,
    /// The VAE of Wan 2.1.
    Vae21,
    /// The VAE of Wan 2.2.
    Vae22,
    /// A tiny autoencoder (TAEHV) for either VAE.
    Tae,
    /// A CLIP image encoder.
    Clip,
    /// A wav2vec2 encoder of speech.
    AudioEncoder,
    /// A LoRA in any of its styles.
    Lora,
    /// A LoHa or LoKr.
    Lycoris,
}

impl CheckpointKind {
    /// All kinds.
    pub const ALL: [Self; Self::Lycoris as usize + 1] = [
        Self::TextToVideo,
        Self::FastWan,
        Self::TextToVideoExpert,
        Self::ImageToVideo,
        Self::ImageToVideoExpert,
        Self::FirstLastFrame,
        Self::TextImageToVideo,
        Self::Vace,
        Self::FunControl,
        Self::FunControlExpert,
        Self::FunCamera,
        Self::FunCameraExpert,
        Self::Animate,
        Self::Animate2,
        Self::SpeechToVideo,
        Self::Dancer,
        Self::AudioDriven,
        Self::LucyEdit,
        Self::ChronoEdit,
        Self::SkyReels,
        Self::CausalAr,
        Self::LongCat,
        Self::Umt5,
        Self::Umt5LlamaCpp,
        Self::T5,
        Self::Vae21,
        Self::Vae22,
        Self::Tae,
        Self::Clip,
        Self::AudioEncoder,
        Self::Lora,
        Self::Lycoris,
    ];

    /// Tells a checkpoint from the names of its tensors and the shapes of some, in any layout and below
    /// any common prefix. Where a file holds several parts, the first of
    /// [`detect_parts`](Self::detect_parts).
    pub fn detect<'a>(
        names: impl IntoIterator<Item = &'a str>,
        shape: impl Fn(&str) -> Option<Vec<usize>>,
    ) -> Option<Self> {
        Self::detect_parts(names, shape).first().copied()
    }

    /// The kinds of all parts in a file: one for most, several for an all-in-one checkpoint, none where
    /// nothing is known.
    pub fn detect_parts<'a>(
        names: impl IntoIterator<Item = &'a str>,
        shape: impl Fn(&str) -> Option<Vec<usize>>,
    ) -> Vec<Self> {
        let names: Vec<&str> = names.into_iter().collect();
        let tensors = Tensors::new(&names, shape);
        let first = |rows: &&[Row]| rows.iter().find(|row| tensors.fit(row)).map(|row| row.kind);
        GROUPS.iter().filter_map(first).collect()
    }

    /// The kinds of the parts in `source`.
    pub fn of_source(source: &dyn TensorSource) -> Vec<Self> {
        let names = source.names();
        let shape = |name: &str| Some(source.tensor(name)?.shape.to_vec());
        Self::detect_parts(names.iter().map(String::as_str), shape)
    }

    /// The kind that the name of the file or folder makes of this one: experts of A14B lie in
    /// `high_noise_model` and `low_noise_model`, or have it in their names.
    pub fn at_path(self, path: &str) -> Self {
        match self {
            Self::TextToVideo if is_of_expert(path) => Self::TextToVideoExpert,
            other => other,
        }
    }
}

/// Whether a file or folder has a name that experts of A14B have.
pub fn is_of_expert(path: &str) -> bool {
    let parts = path.rsplit(['/', '\\']).take(2);
    parts.map(str::to_lowercase).any(|part| {
        let part = part.replace(['-', ' '], "_");
        let noise = ["high_noise", "low_noise", "highnoise", "lownoise"];
        let side = part.contains("a14b") && ["_high", "_low"].iter().any(|s| part.contains(s));
        side || noise.iter().any(|noise| part.contains(noise))
    })
}

impl fmt::Display for CheckpointKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TextToVideo => "a text-to-video model (Wan 2.1 T2V)",
            Self::FastWan => "a text-to-video model of few steps (FastWan)",
            Self::TextToVideoExpert => {
                "one of the two experts of a text-to-video model (Wan 2.2 T2V-A14B)"
            }
            Self::ImageToVideo => "an image-to-video model (Wan 2.1 I2V or Fun-InP)",
            Self::ImageToVideoExpert => {
                "one of the two experts of an image-to-video model (Wan 2.2 I2V-A14B)"
            }
            Self::FirstLastFrame => "a first-and-last-frame-to-video model (Wan 2.1 FLF2V)",
            Self::TextImageToVideo => "a text-and-image-to-video model (Wan 2.2 TI2V-5B)",
            Self::Vace => "a model for control and editing (VACE)",
            Self::FunControl => "a control model (Wan 2.1 Fun-Control)",
            Self::FunControlExpert => {
                "one of the two experts of a control model (Wan 2.2 Fun-A14B-Control)"
            }
            Self::FunCamera => "a camera control model (Wan 2.1 Fun-Control-Camera)",
            Self::FunCameraExpert => {
                "one of the two experts of a camera control model (Wan 2.2 Fun-A14B-Control-Camera)"
            }
            Self::Animate => "a character animation model (Wan 2.2 Animate)",
            Self::Animate2 => "a character animation model (Wan 2.2 Animate-2)",
            Self::SpeechToVideo => "a speech-to-video model (Wan 2.2 S2V)",
            Self::Dancer => "a music-to-dance model (Wan-Dancer)",
            Self::AudioDriven => "a model driven by sound (MultiTalk, InfiniteTalk or HuMo)",
            Self::LucyEdit => "a video editing model (Lucy Edit)",
            Self::ChronoEdit => "an image editing model (ChronoEdit)",
            Self::SkyReels => "a SkyReels V2 model",
            Self::CausalAr => "a causal model, which makes a video piece by piece",
            Self::LongCat => "a LongCat-Video model",
            Self::Umt5 => "a umT5 text encoder",
            Self::Umt5LlamaCpp => "a umT5 text encoder under the names of llama.cpp",
            Self::T5 => "a T5 text encoder (not umT5)",
            Self::Vae21 => "a Wan 2.1 VAE",
            Self::Vae22 => "a Wan 2.2 VAE",
            Self::Tae => "a tiny autoencoder (TAE)",
            Self::Clip => "a CLIP image encoder",
            Self::AudioEncoder => "a wav2vec2 encoder of speech",
            Self::Lora => "a LoRA",
            Self::Lycoris => "a LoHa or LoKr",
        })
    }
}

/// The tensors of a checkpoint, as the marks are compared with them.
struct Tensors<'a> {
    /// Their names, in parts between dots.
    names: Vec<Vec<&'a str>>,
    /// Channels that go into and come out of a transformer.
    channels: Option<(usize, usize)>,
}

impl<'a> Tensors<'a> {
    fn new(names: &[&'a str], shape: impl Fn(&str) -> Option<Vec<usize>>) -> Self {
        let parts = |name: &&'a str| name.split('.').collect();
        let of = |ending: &str, axes: usize| {
            let is_below = |name: &&&str| {
                name.strip_suffix(ending).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            };
            let shapes = names.iter().filter(is_below).filter_map(|name| shape(name));
            shapes.into_iter().find(|shape| shape.len() == axes)
        };
        let patches = of("patch_embedding.weight", 5);
        let head = of("proj_out.weight", 2).or_else(|| of("head.head.weight", 2));
        let channels = patches.zip(head).map(|(patches, head)| {
            let pixels = patches[2..].iter().product::<usize>().max(1);
            (patches[1], head[0] / pixels)
        });
        Self { names: names.iter().map(parts).collect(), channels }
    }

    fn fit(&self, row: &Row) -> bool {
        let channels = match (row.channels, self.channels) {
            (Channels::Any, _) => true,
            (_, None) => false,
            (Channels::In(expected), Some((found, _))) => found == expected,
            (Channels::InOut(input, output), found) => found == Some((input, output)),
            (Channels::Equal, Some((input, output))) => input == output,
        };
        channels
            && row.all.iter().all(|marks| marks.iter().any(|mark| self.have(mark)))
            && !row.none.iter().any(|mark| self.have(mark))
    }

    /// Whether a name has the parts of `mark` side by side; `*` is any part.
    fn have(&self, mark: &str) -> bool {
        let mark: Vec<&str> = mark.split('.').collect();
        let equal = |(mark, part): (&&str, &&str)| *mark == "*" || mark == part;
        let fits = |window: &[&str]| mark.iter().zip(window).all(equal);
        self.names.iter().any(|name| name.windows(mark.len()).any(fits))
    }
}

#[cfg(test)]
mod tests;
