use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::{Backend, TextConditioning};

use crate::Error;
use crate::tensor_file::{TensorFile, TensorFileError, TensorFileWriter};

/// The kind of an embeddings file, as its metadata names it.
const KIND: &str = "embeddings";

/// The embeddings of a prompt, without padding: computed once, kept, and used without a text encoder.
/// Clones share them.
#[derive(Debug, Clone, PartialEq)]
pub struct PromptEmbeds {
    /// `[tokens, width]`, row by row.
    states: Arc<Vec<f32>>,
    tokens: usize,
    width: usize,
}

impl PromptEmbeds {
    /// Embeddings `[tokens, width]`, row by row, without the zero rows that pad a prompt.
    ///
    /// # Errors
    /// If there are no rows, or not as many elements as the shape says, or some are not finite.
    pub fn new(states: Vec<f32>, [tokens, width]: [usize; 2]) -> Result<Self, Error> {
        let expected = format!("rows of one width, {} elements", states.len());
        if tokens == 0 || width == 0 || Some(states.len()) != tokens.checked_mul(width) {
            return Err(TensorFileError::shape("embeddings", &[tokens, width], expected).into());
        }
        if states.iter().any(|value| !value.is_finite()) {
            return Err(Error::NotFinite { stage: "embeddings".into() });
        }
        Ok(Self { states: Arc::new(states), tokens, width })
    }

    /// How many tokens the prompt has, the end token included.
    pub fn tokens(&self) -> usize {
        self.tokens
    }

    /// The width of the text encoder's states.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The elements of `[tokens, width]`, row by row.
    pub fn states(&self) -> &[f32] {
        &self.states
    }

    /// On a device, padded to the text length.
    pub fn conditioning<B: Backend>(
        &self,
        text_length: usize,
        device: &B::Device,
    ) -> TextConditioning<B> {
        let data = TensorData::new(self.states.to_vec(), [1, self.tokens, self.width]);
        TextConditioning::pad(Tensor::from_data(data, (device, DType::F32)), text_length)
    }
}

/// The embeddings of a prompt and, if there is guidance, of a negative prompt, in a file.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Embeddings {
    /// Those of the prompt.
    pub prompt: PromptEmbeds,
    /// Those of the negative prompt.
    pub negative_prompt: Option<PromptEmbeds>,
}

impl Embeddings {
    /// The embeddings of a prompt and a negative prompt.
    pub fn new(prompt: PromptEmbeds, negative_prompt: Option<PromptEmbeds>) -> Self {
        Self { prompt, negative_prompt }
    }

    /// Writes them to a safetensors file: `prompt_embeds` and `negative_prompt_embeds`,
    /// `[tokens, width]` in f32.
    ///
    /// # Errors
    /// If the file cannot be written; nothing stands under its name then.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<(), Error> {
        EmbeddingsWriter::create(path)?.write(self)
    }

    /// Reads a file that [`save`](Self::save) wrote.
    ///
    /// # Errors
    /// If it is missing, damaged, or holds something else.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, Error> {
        let file = TensorFile::open(path.as_ref())?;
        file.require_kind(KIND, false)?;
        let negative = match file.has("negative_prompt_embeds") {
            true => Some(read(&file, "negative_prompt_embeds")?),
            false => None,
        };
        Ok(Self { prompt: read(&file, "prompt_embeds")?, negative_prompt: negative })
    }
}

/// Writes embeddings to a file that is opened before they exist.
pub struct EmbeddingsWriter(TensorFileWriter);

impl EmbeddingsWriter {
    /// Opens `path`, so that a folder that is missing or cannot be written is found before the work
    /// and not after it.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self(TensorFileWriter::create(path.as_ref(), KIND)?))
    }

    /// Writes the file (see [`Embeddings::save`]) and moves it to its name.
    ///
    /// # Errors
    /// If it cannot be written; nothing stands under its name then.
    pub fn write(mut self, embeddings: &Embeddings) -> Result<(), Error> {
        let Embeddings { prompt, negative_prompt } = embeddings;
        let all =
            [("prompt_embeds", Some(prompt)), ("negative_prompt_embeds", negative_prompt.as_ref())];
        for (name, embeds) in all {
            if let Some(embeds) = embeds {
                self.0.tensor(name, &[embeds.tokens, embeds.width], embeds.states.to_vec());
            }
        }
        self.0.finish()
    }
}

/// Embeddings `[tokens, width]` in a file.
pub(crate) fn read(file: &TensorFile, name: &str) -> Result<PromptEmbeds, Error> {
    let (shape, states) = file.tensor::<2>(name)?;
    PromptEmbeds::new(states, shape)
}
