use std::path::Path;

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::{Backend, BurnBackend};

use crate::tensor_file::{TensorFile, TensorFileError, TensorFileWriter};
use crate::{Error, Metadata};

/// The kind of a latents file, as its metadata names it.
const KIND: &str = "latents";

/// The latents of one video: normalised, `[1, C, T, H, W]`, f32.
#[derive(Debug, Clone)]
pub struct Latents<B: BurnBackend>(Tensor<B, 5>);

impl<B: Backend> Latents<B> {
    /// Latents `[1, C, T, H, W]` of one video.
    ///
    /// # Errors
    /// If the shape is that of several videos, or of none.
    pub fn from_tensor(tensor: Tensor<B, 5>) -> Result<Self, Error> {
        let shape = tensor.dims();
        if shape[0] != 1 || shape.contains(&0) {
            let expected = "[1, C, T, H, W]".into();
            return Err(TensorFileError::shape("latents", &shape, expected).into());
        }
        Ok(Self(tensor.cast(DType::F32)))
    }

    /// For a tensor that is known to be of one video.
    pub(crate) fn new(tensor: Tensor<B, 5>) -> Self {
        debug_assert_eq!(tensor.dims()[0], 1);
        Self(tensor)
    }

    /// `[1, C, T, H, W]`
    pub fn shape(&self) -> [usize; 5] {
        self.0.dims()
    }

    /// The tensor `[1, C, T, H, W]`.
    pub fn tensor(&self) -> Tensor<B, 5> {
        self.0.clone()
    }

    /// The tensor `[1, C, T, H, W]`, without a second handle to its memory.
    pub fn into_tensor(self) -> Tensor<B, 5> {
        self.0
    }

    /// The elements in row-major order, on the host.
    pub fn to_vec(&self) -> Vec<f32> {
        host(self.0.clone())
    }

    /// From elements in row-major order.
    pub(crate) fn from_vec(values: Vec<f32>, shape: [usize; 5], device: &B::Device) -> Self {
        Self(Tensor::from_data(TensorData::new(values, shape), (device, DType::F32)))
    }
}

/// The elements of a tensor on the host, in f32.
pub(crate) fn host<B: BurnBackend, const D: usize>(x: Tensor<B, D>) -> Vec<f32> {
    let data = x.into_data().convert::<f32>();
    data.into_vec().expect("the data was converted to f32")
}

/// Latents from a file, and how their video is made as far as the file tells.
pub type SavedLatents<B> = (Latents<B>, Option<Metadata>);

/// Writes latents to a safetensors file with one f32 tensor, `latents` `[N, C, T, H, W]`, and how the
/// videos are made in its metadata.
pub struct LatentsWriter(TensorFileWriter);

impl LatentsWriter {
    /// Opens `path`, so that a folder that is missing or cannot be written is found before the work
    /// and not after it.
    ///
    /// # Errors
    /// If the file cannot be made.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self(TensorFileWriter::create(path.as_ref(), KIND)?))
    }

    /// Writes the latents of some videos of one size and moves the file to its name.
    ///
    /// # Errors
    /// If the videos differ in size or there is none, or the file cannot be written; nothing stands
    /// under its name then.
    pub fn write<B: Backend>(
        mut self,
        latents: &[Latents<B>],
        metadata: &[Metadata],
    ) -> Result<(), Error> {
        let Some(first) = latents.first() else {
            return Err(TensorFileError::shape("latents", &[0], "one video at least".into()).into());
        };
        let [_, c, t, h, w] = first.shape();
        if let Some(other) = latents.iter().find(|other| other.shape() != first.shape()) {
            let expected = format!("{:?}, as the first", first.shape());
            return Err(TensorFileError::shape("latents", &other.shape(), expected).into());
        }
        let values: Vec<f32> = latents.iter().flat_map(Latents::to_vec).collect();
        self.0.tensor("latents", &[latents.len(), c, t, h, w], values);
        self.0.json("videos", &metadata);
        self.0.finish()
    }
}

/// The content of a latents file: see [`Pipeline::load_latents`](crate::Pipeline::load_latents).
pub(crate) struct LatentsFile {
    pub(crate) path: String,
    pub(crate) shape: [usize; 5],
    pub(crate) values: Vec<f32>,
    pub(crate) metadata: Vec<Metadata>,
}

impl LatentsFile {
    pub(crate) fn open(path: &Path) -> Result<Self, Error> {
        let file = TensorFile::open(path)?;
        // Files of earlier versions and of other programs say nothing about themselves.
        file.require_kind(KIND, true)?;
        let (shape, values) = file.tensor("latents")?;
        Ok(Self {
            path: path.display().to_string(),
            shape,
            values,
            metadata: file.json_or_default("videos")?,
        })
    }
}
