//! CLIP: how well an image or a video fits a text, in English or Chinese.

mod builder;
mod embedding;
mod layout;
mod rank;

use std::path::Path;

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::{Backend, CancelToken, TextEncoder};
use wan_io::image::{ClipPreprocess, Image};
use wan_io::text::{ClipTokenizer, ClipTokens};
use wan_models::clip::{ClipModel, TextTower};

pub use builder::ClipBuilder;
pub use embedding::ClipEmbedding;
pub use rank::{RankedVideo, rank_with_clip};

use crate::{Error, PromptEmbeds, Video, VideoError};

/// Images that go through the vision tower at a time.
const IMAGES_AT_A_TIME: usize = 8;

/// A CLIP on a backend: texts and images become [embeddings](ClipEmbedding), whose cosine tells how well they
/// fit each other.
///
/// ```
/// # #[cfg(all(feature = "flex", feature = "tiny-clip"))]
/// # fn main() -> Result<(), wan_pipeline::Error> {
/// use wan_pipeline::{Clip, backend::Flex, io::image::Image};
///
/// let clip = Clip::<Flex>::from_pretrained("tiny-clip")?;
/// let black = Image::from_rgb8(64, 64, vec![0; 3 * 64 * 64]).expect("64 x 64 pixels");
/// let similarity = |text| clip.similarity(text, &black);
/// assert!(similarity("黑色背景上有一个红色圆形")? > similarity("a white background")?);
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "flex", feature = "tiny-clip")))]
/// # fn main() {}
/// ```
pub struct Clip<B: Backend> {
    pub(crate) model: ClipModel<B>,
    tokenizer: ClipTokenizer,
    preprocess: ClipPreprocess,
    device: B::Device,
}

impl<B: Backend> Clip<B> {
    /// Opens and loads a CLIP by its name, which is one as for
    /// [`Pipeline::from_pretrained`](crate::Pipeline::from_pretrained): of a folder, of a model that is compiled in
    /// (`tiny-clip`, with the feature of that name), or of a repository in the hub. Three layouts are known:
    ///
    /// - transformers: `config.json` of a `CLIPModel` or an `AltCLIPModel`, `model.safetensors`, `tokenizer.json` and
    ///   `preprocessor_config.json`;
    /// - OpenCLIP: `open_clip_config.json`, `open_clip_model.safetensors` or `open_clip_pytorch_model.bin`, and
    ///   `tokenizer.json`;
    /// - the original image-to-video models of Wan 2.1: `models_clip_open-clip-xlm-roberta-large-vit-huge-14.pth` and
    ///   `xlm-roberta-large/tokenizer.json`.
    ///
    /// # Errors
    /// If there is no such model, it cannot be downloaded, one of its files is missing, broken or not what
    /// its checksum says, a config has a value that no model can have or contradicts another one, or a tensor
    /// is missing, unknown or misshapen.
    pub fn from_pretrained(name: impl AsRef<Path>) -> Result<Self, Error> {
        Self::builder(name).open()
    }

    /// Opens a CLIP by its name with options: see [`from_pretrained`](Self::from_pretrained).
    pub fn builder(name: impl AsRef<Path>) -> ClipBuilder<B> {
        ClipBuilder::new(name)
    }

    /// The embeddings of texts. One that is longer than the text tower reads is cut;
    /// [`tokens`](Self::tokens) tells.
    ///
    /// # Errors
    /// If the tokenizer's file turns out to be damaged, or embeddings of tokens cannot be read.
    pub fn embed_text<T: AsRef<str>>(&self, texts: &[T]) -> Result<Vec<ClipEmbedding>, Error> {
        let tokens = |text: &T| Ok(self.tokens(text.as_ref())?.ids);
        let ids = texts.iter().map(tokens).collect::<Result<Vec<_>, Error>>()?;
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<&[u32]> = ids.iter().map(Vec::as_slice).collect();
        normalised(self.model.text.embed(&ids, &CancelToken::default())?, "the text tower")
    }

    /// The embeddings of images of any size: each is resized and cropped as the model's
    /// `preprocessor_config.json` says.
    ///
    /// # Errors
    /// If an image cannot be resized to the size that the vision tower takes.
    pub fn embed_image(&self, images: &[Image]) -> Result<Vec<ClipEmbedding>, Error> {
        let mut embeddings = Vec::new();
        for images in images.chunks(IMAGES_AT_A_TIME) {
            let embedded =
                self.model.vision.embed(self.pixels(images)?, &CancelToken::default(), &mut ())?;
            embeddings.extend(normalised(embedded, "the vision tower")?);
        }
        Ok(embeddings)
    }

    /// The embedding of a video: the mean of those of `frames` frames at equal distances, from the first to
    /// the last; of all if it has not so many, and of one at least.
    ///
    /// # Errors
    /// As for [`embed_image`](Self::embed_image), and for a video without frames.
    pub fn embed_video(&self, video: &Video, frames: usize) -> Result<ClipEmbedding, Error> {
        let all: Vec<&[u8]> = video.frames().collect();
        if all.is_empty() {
            let (path, kind) = ("the video in memory".into(), "frames");
            return Err(VideoError::NoFrames { path, kind }.into());
        }
        let (width, height) = (video.spec().width, video.spec().height);
        let image = |i: usize| Image::from_rgb8(width, height, all[i].to_vec());
        let images = spread(all.len(), frames.max(1)).map(image).collect::<Result<Vec<_>, _>>()?;
        let mean = ClipEmbedding::mean(&self.embed_image(&images)?);
        mean.ok_or(Error::NotFinite { stage: "the mean over frames".into() })
    }

    /// The logits that the model was trained with: of each image for each text, the cosine times a factor.
    /// Their softmax over the texts tells which of these an image shows.
    pub fn logits(&self, images: &[ClipEmbedding], texts: &[ClipEmbedding]) -> Vec<Vec<f32>> {
        let factor = self.model.logit_factor();
        let row =
            |image: &ClipEmbedding| texts.iter().map(|text| factor * image.cosine(text)).collect();
        images.iter().map(row).collect()
    }

    /// How well an image fits a text: the cosine of their [embeddings](ClipEmbedding).
    ///
    /// # Errors
    /// Those of [`embed_text`](Self::embed_text) and [`embed_image`](Self::embed_image).
    pub fn similarity(&self, text: &str, image: &Image) -> Result<f32, Error> {
        let text = self.embed_text(&[text])?;
        let image = self.embed_image(std::slice::from_ref(image))?;
        Ok(image[0].cosine(&text[0]))
    }

    /// A text as the text tower reads it.
    ///
    /// # Errors
    /// If the tokenizer's file turns out to be damaged.
    pub fn tokens(&self, text: &str) -> Result<ClipTokens, Error> {
        Ok(self.tokenizer.encode(text, self.model.text.max_tokens())?)
    }

    /// The states of a prompt, for a model whose transformer was trained on those of this CLIP in place of umT5's:
    ///
    /// ```no_run
    /// # fn main() -> Result<(), wan_pipeline::Error> {
    /// use wan_pipeline::{Clip, Pipeline, Request, backend::Flex};
    ///
    /// let clip = Clip::<Flex>::from_pretrained("BAAI/AltCLIP-m18")?;
    /// let pipeline = Pipeline::<Flex>::builder("trained-on-clip").without_text_encoder().open()?;
    /// let request = Request::new("a cat runs").text_length(clip.text_tower().max_tokens());
    /// let prompt = clip.prompt_embeds(&request.prompt)?;
    /// let negative = clip.prompt_embeds("blurred")?;
    /// let request = request.prompt_embeds(prompt).negative_prompt_embeds(negative);
    /// pipeline.generate(&request)?.save("cat.mp4")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`embed_text`](Self::embed_text).
    pub fn prompt_embeds(&self, text: &str) -> Result<PromptEmbeds, Error> {
        let ids = self.tokens(text)?.ids;
        let mut states = self.model.text.encode(&[&ids], &CancelToken::default())?;
        let states = states.remove(0);
        let [_, tokens, width] = states.dims();
        let data = states.into_data();
        let states = data.as_slice::<f32>().expect("towers give f32").to_vec();
        PromptEmbeds::new(states, [tokens, width])
    }

    /// The text tower, whose states a denoiser can attend to.
    pub fn text_tower(&self) -> &TextTower<B> {
        &self.model.text
    }

    /// `[N, 3, H, W]`
    fn pixels(&self, images: &[Image]) -> Result<Tensor<B, 4>, Error> {
        let (mut values, mut size) = (Vec::new(), [0; 2]);
        for image in images {
            let pixels = self.preprocess.pixels(image)?;
            size = [pixels.height as usize, pixels.width as usize];
            values.extend(pixels.values);
        }
        let data = TensorData::new(values, [images.len(), 3, size[0], size[1]]);
        Ok(Tensor::from_data(data, (&self.device, DType::F32)))
    }
}

/// `[N, D]` as embeddings.
fn normalised<B: Backend>(
    embedded: Tensor<B, 2>,
    stage: &'static str,
) -> Result<Vec<ClipEmbedding>, Error> {
    let [_, width] = embedded.dims();
    let data = embedded.into_data();
    let rows = data.as_slice::<f32>().expect("towers give f32").chunks(width);
    let embedding = |row| ClipEmbedding::new(row).ok_or(Error::NotFinite { stage: stage.into() });
    rows.map(embedding).collect()
}

/// The places of `count` of `all` things at equal distances, from the first to the last.
fn spread(all: usize, count: usize) -> impl Iterator<Item = usize> {
    let count = count.min(all);
    let last = all.saturating_sub(1);
    (0..count).map(move |i| match count {
        1 => last / 2,
        _ => (2 * i * last + count - 1) / (2 * (count - 1)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_at_equal_distances_from_the_first_to_the_last() {
        for (all, count, expected) in [
            (97, 8, &[0, 14, 27, 41, 55, 69, 82, 96][..]),
            (5, 8, &[0, 1, 2, 3, 4]),
            (9, 3, &[0, 4, 8]),
            (9, 1, &[4]),
            (1, 8, &[0]),
            (0, 8, &[]),
            (9, 0, &[]),
        ] {
            assert_eq!(spread(all, count).collect::<Vec<_>>(), expected, "{count} of {all}");
        }
    }
}
