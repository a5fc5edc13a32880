use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use burn::tensor::{DType, Tensor, TensorData};
use wan_core::{Backend, FrameSource};
use wan_io::image::{ImageError, MAX_PIXELS};
use wan_io::video::{DecodedVideo, FrameRate, VideoError, VideoSpec, read_video};

use crate::{Error, Image, Latents, TensorFileError, Video};

/// A video to start from. Clones share its frames.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceVideo {
    spec: VideoSpec,
    frames: Arc<Vec<Vec<u8>>>,
}

impl SourceVideo {
    /// Reads a video: an mp4 with H.264, a GIF, a PNG, or a folder of PNG frames.
    ///
    /// # Errors
    /// If it cannot be read, is of another kind, has no frames, or larger ones than pictures may be.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, Error> {
        let DecodedVideo { spec, frames } = read_video(path.as_ref())?;
        Self::new(spec, frames)
    }

    /// A video in memory: frames in rgb24, row by row, three bytes a pixel.
    ///
    /// # Errors
    /// If there are no frames, one has another length than `width * height * 3`, or they have no pixels or more than
    /// pictures may have.
    pub fn from_frames(
        width: u32,
        height: u32,
        fps: impl Into<FrameRate>,
        frames: Vec<Vec<u8>>,
    ) -> Result<Self, Error> {
        let spec = VideoSpec { width, height, fps: fps.into(), frames: frames.len() as u32 };
        let expected = spec.frame_bytes();
        let wrong = frames.iter().position(|frame| frame.len() != expected);
        match (frames.is_empty(), wrong) {
            (true, _) => {
                let (path, kind) = ("in memory".into(), "rgb24");
                Err(VideoError::NoFrames { path, kind }.into())
            }
            (_, Some(frame)) => Err(VideoError::FrameLength {
                path: "in memory".into(),
                frame: frame as u32,
                found: frames[frame].len(),
                expected,
                width,
                height,
            }
            .into()),
            _ => Self::new(spec, frames),
        }
    }

    /// A video whose frames are pictures.
    fn new(spec: VideoSpec, frames: Vec<Vec<u8>>) -> Result<Self, Error> {
        let VideoSpec { width, height, .. } = spec;
        let (image, limit) = ("a frame of the video".into(), MAX_PIXELS);
        if width == 0 || height == 0 {
            return Err(ImageError::Empty { image, width, height }.into());
        }
        if u64::from(width) * u64::from(height) > limit {
            return Err(ImageError::TooLarge { image, width, height, limit }.into());
        }
        Ok(Self { spec, frames: Arc::new(frames) })
    }

    /// Size, rate and number of frames.
    pub fn spec(&self) -> &VideoSpec {
        &self.spec
    }

    /// A frame as a picture.
    pub(crate) fn image(&self, index: usize) -> Image {
        let VideoSpec { width, height, .. } = self.spec;
        let image = Image::from_rgb8(width, height, self.frames[index].clone());
        image.expect("frames of this size")
    }

    /// Some frames as values `[3, t, H, W]` in -1..1.
    fn values(&self, range: Range<usize>) -> Vec<f32> {
        let frames = &self.frames[range];
        let channel = |c: usize| {
            let pixels = frames.iter().flat_map(move |frame| frame.iter().skip(c).step_by(3));
            pixels.map(|&value| f32::from(value) / 255.0 * 2.0 - 1.0)
        };
        (0..3).flat_map(channel).collect()
    }
}

/// The first frames of a video, in bytes until they are asked for.
pub(crate) struct FirstFrames<'a, B: Backend> {
    pub(crate) video: &'a SourceVideo,
    pub(crate) count: usize,
    pub(crate) device: &'a B::Device,
}

impl<B: Backend> FrameSource<B> for FirstFrames<'_, B> {
    fn size(&self) -> [usize; 3] {
        let VideoSpec { height, width, .. } = self.video.spec;
        [self.count, height as usize, width as usize]
    }

    fn frames(&self, range: Range<usize>) -> Tensor<B, 5> {
        let [_, height, width] = FrameSource::<B>::size(self);
        let shape = [1, 3, range.len(), height, width];
        let data = TensorData::new(self.video.values(range), shape);
        Tensor::from_data(data, (self.device, DType::F32))
    }
}

impl From<&Video> for SourceVideo {
    fn from(video: &Video) -> Self {
        let frames = video.frames().map(<[u8]>::to_vec).collect();
        Self { spec: *video.spec(), frames: Arc::new(frames) }
    }
}

/// Latents to start from: clean ones, such as an earlier run has left. Clones share them.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceLatents {
    shape: [usize; 5],
    values: Arc<Vec<f32>>,
}

impl SourceLatents {
    /// Clean normalised latents `[1, C, T, H, W]`, row-major.
    ///
    /// # Errors
    /// If the shape is not that of one video, there are not as many values as it says, or some are not
    /// finite.
    pub fn new(values: Vec<f32>, shape: [usize; 5]) -> Result<Self, Error> {
        let count = shape.iter().try_fold(1usize, |count, &side| count.checked_mul(side));
        if shape[0] != 1 || values.is_empty() || count != Some(values.len()) {
            let expected = format!("[1, C, T, H, W] of {} values", values.len());
            return Err(TensorFileError::shape("latents", &shape, expected).into());
        }
        if values.iter().any(|value| !value.is_finite()) {
            return Err(Error::NotFinite { stage: "latents to start from".into() });
        }
        Ok(Self { shape, values: Arc::new(values) })
    }

    /// `[1, C, T, H, W]`
    pub fn shape(&self) -> [usize; 5] {
        self.shape
    }

    pub(crate) fn values(&self) -> Vec<f32> {
        self.values.to_vec()
    }
}

impl<B: Backend> From<&Latents<B>> for SourceLatents {
    fn from(latents: &Latents<B>) -> Self {
        Self { shape: latents.shape(), values: Arc::new(latents.to_vec()) }
    }
}
