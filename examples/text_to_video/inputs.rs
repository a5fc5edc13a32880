//! Pictures and videos that a video is made of beside the prompt.

use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use wan_pipeline::{FitRule, Image, ImageError, Request, SourceMask, SourceVideo};

use crate::Result;
use crate::options::path;

#[derive(Args)]
pub(crate) struct Inputs {
    /// Video to start from, in place of noise; of a model for control or editing, the video that is changed: mp4 with
    /// H.264, GIF, PNG, or a folder of PNG frames
    #[arg(long, value_name = "FILE", value_parser = path())]
    video: Option<PathBuf>,
    /// How much of --video is made anew: more than 0, at most 1 [default: 0.8]
    #[arg(long, value_name = "X", requires = "video", allow_negative_numbers = true)]
    strength: Option<f64>,
    /// First frame of the video, of a model that begins with a picture: PNG, JPEG or WebP. Where no size is given, it
    /// follows from the picture's
    #[arg(long, value_name = "FILE", value_parser = path())]
    image: Option<PathBuf>,
    /// Last frame of the video
    #[arg(long, value_name = "FILE", value_parser = path(), requires = "image")]
    last_image: Option<PathBuf>,
    /// How pictures are brought to the size of the video: as diffusers does it, or as the original Wan does it for
    /// image-to-video or for TI2V-5B, which crops
    #[arg(long, value_enum, default_value = "diffusers")]
    fit: Fit,
    /// The parts of --video that are made anew, of a VACE model: a black and white picture, white where they are, or a
    /// video of such
    #[arg(long, value_name = "FILE", value_parser = path(), requires = "video")]
    mask: Option<PathBuf>,
    /// Picture of what is to be seen, of a VACE model; may be given several times
    #[arg(long, value_name = "FILE", value_parser = path())]
    reference: Vec<PathBuf>,
    /// Video whose structure is followed (poses, depths, lines), of a model for control
    #[arg(long, value_name = "FILE", value_parser = path())]
    control: Option<PathBuf>,
    /// How strongly --control is felt [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    control_scale: Option<f64>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Fit {
    Diffusers,
    WanI2v,
    WanTi2v,
}

impl Inputs {
    /// A request with what the files hold.
    pub(crate) fn add_to(&self, request: Request) -> Result<Request> {
        let image = |file: &Option<PathBuf>| file.as_ref().map(Image::open).transpose();
        let video = |file: &Option<PathBuf>| file.as_ref().map(SourceVideo::open).transpose();
        let references = self.reference.iter().map(Image::open);
        let request = request
            .video(video(&self.video)?)
            .strength(self.strength)
            .image(image(&self.image)?)
            .last_image(image(&self.last_image)?)
            .mask(self.mask.as_deref().map(open_mask).transpose()?)
            .references(references.collect::<std::result::Result<Vec<_>, _>>()?)
            .control(video(&self.control)?)
            .control_scale(self.control_scale);
        Ok(request.fit(match self.fit {
            Fit::Diffusers => FitRule::Diffusers,
            Fit::WanI2v => FitRule::WanImageToVideo,
            Fit::WanTi2v => FitRule::WanTi2v,
        }))
    }
}

/// One mask for all frames, or a video with one for each.
fn open_mask(file: &Path) -> Result<SourceMask> {
    match Image::open(file) {
        Ok(image) => Ok(SourceMask::from(&image)),
        Err(ImageError::UnknownKind { .. }) => Ok(SourceVideo::open(file)?.into()),
        Err(_) if file.is_dir() => Ok(SourceVideo::open(file)?.into()),
        Err(error) => Err(error.into()),
    }
}
