//! The text that steers a video, and its encoder.

use burn::tensor::{DType, Tensor};

use crate::{Backend, BurnBackend, CancelToken};

/// Embeddings of a text for [cross-attention](crate::Denoiser), with their padding.
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

    /// The states of one prompt `[1, S, D]`, padded to `text_length` rows.
    ///
    /// # Panics
    /// If there are more states than `text_length`.
    pub fn pad(states: Tensor<B, 3>, text_length: usize) -> Self {
        let [batch, rows, width] = states.dims();
        assert!(rows <= text_length, "{rows} rows, but at most {text_length}");
        if rows == text_length {
            return Self::new(states);
        }
        let padding = Tensor::zeros([batch, 1, width], (&states.device(), DType::F32));
        let embeddings = Tensor::cat(vec![states, padding], 1);
        Self { embeddings, last_repeats: text_length - rows }
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

/// Turns token ids into the embeddings that a [`Denoiser`](crate::Denoiser) attends to.
pub trait TextEncoder<B: Backend>: Send + Sync {
    /// The error of a prompt that cannot be encoded.
    type Error;

    /// The states `[1, S, D]` of each prompt of `S` ids, in f32. The ids come without padding.
    ///
    /// The prompts go through the network together, so that its weights are touched once for all of
    /// them; but each is computed alone.
    ///
    /// # Errors
    /// If an id is none of the vocabulary, or a prompt has none; if weights cannot be read; or soon
    /// after `cancel` says so.
    fn encode(
        &self,
        prompts: &[&[u32]],
        cancel: &CancelToken,
    ) -> Result<Vec<Tensor<B, 3>>, Self::Error>;
}
