//! What a pipeline asks of its parts.

use burn::tensor::{DType, Tensor};

use crate::{Backend, BurnBackend};

/// The text that steers a batch of videos.
///
/// A prompt is padded with zero rows up to the text length that the model was trained with, and
/// cross-attention attends to all of them. These rows are equal, so one of them with its
/// multiplicity is enough: attention gives it a logit bias of `ln(last_repeats)`, which is exact.
#[derive(Clone, Debug)]
pub struct TextConditioning<B: BurnBackend> {
    /// `[B, L, D]`, f32.
    pub embeddings: Tensor<B, 3>,
    /// How many equal rows the last row of `embeddings` stands for; 1 if it is an ordinary row.
    pub last_repeats: usize,
}

impl<B: BurnBackend> TextConditioning<B> {
    /// Embeddings that are taken as they are, `[B, L, D]`.
    pub fn new(embeddings: Tensor<B, 3>) -> Self {
        Self { embeddings, last_repeats: 1 }
    }

    /// The padded form, `[B, L + last_repeats - 1, D]`, as the reference implementations hold it.
    pub fn padded(&self) -> Tensor<B, 3> {
        let [batch, length, width] = self.embeddings.dims();
        let last = self.embeddings.clone().slice([0..batch, length - 1..length]);
        let rest = self.embeddings.clone().slice([0..batch, 0..length - 1]);
        let last = last.expand([batch, self.last_repeats, width]);
        if length == 1 { last } else { Tensor::cat(vec![rest, last], 1) }
    }

    /// The bias for attention logits over `embeddings`, `[1, 1, 1, L]` in f32, where one is needed.
    pub fn attention_bias(&self) -> Option<Tensor<B, 4>> {
        if self.last_repeats == 1 {
            return None;
        }
        let length = self.embeddings.dims()[1];
        let mut bias = vec![0f32; length];
        bias[length - 1] = (self.last_repeats as f32).ln();
        let data = burn::tensor::TensorData::new(bias, [1, 1, 1, length]);
        Some(Tensor::from_data(data, (&self.embeddings.device(), DType::F32)))
    }
}

/// Turns token ids into the embeddings that a [`Denoiser`] attends to.
pub trait TextEncoder<B: Backend> {
    /// What can go wrong.
    type Error;

    /// Encodes one prompt a row. `ids` come without padding; `text_length` is the padded length.
    fn encode(
        &self,
        ids: &[Vec<u32>],
        text_length: usize,
    ) -> Result<TextConditioning<B>, Self::Error>;
}

/// Predicts the velocity of the flow from noise to video.
pub trait Denoiser<B: Backend> {
    /// `latents` is `[B, C, T, H, W]`, `timestep` one value of 0 to 1000 a sample; the result has
    /// the shape of `latents`, in f32.
    fn denoise(
        &self,
        latents: Tensor<B, 5>,
        timestep: &[f32],
        text: &TextConditioning<B>,
    ) -> Tensor<B, 5>;
}

/// Maps videos to latents and back.
pub trait VideoVae<B: Backend> {
    /// Encodes a video `[B, 3, T, H, W]` in -1..1 to the mean of its normalised latents
    /// `[B, C, (T - 1) / 4 + 1, H / 8, W / 8]`.
    fn encode(&self, video: Tensor<B, 5>) -> Tensor<B, 5>;

    /// Decodes normalised latents `[B, C, T, H, W]`, one latent frame at a time: each item is
    /// `[B, 3, t, 8 H, 8 W]` in -1..1, the next `t` frames of the video (1, then 4 each).
    fn decode<'a>(&'a self, latents: Tensor<B, 5>) -> Box<dyn Iterator<Item = Tensor<B, 5>> + 'a>;
}
