//! What CLIP sees of a picture.

use serde::Deserialize;

use super::{Filter, Image, ImageError, Pixels};

/// How a picture becomes the input of a CLIP vision model: `preprocessor_config.json` of its folder, which
/// this is read from (`ModelFiles::json`), or the fixed steps of the original Wan.
///
/// ```
/// use wan_io::image::{ClipPreprocess, ClipResize};
///
/// let json = r#"{"size": {"shortest_edge": 336}, "crop_size": 336}"#;
/// let clip: ClipPreprocess = serde_json::from_str(json)?;
/// assert_eq!(clip.crop, Some([336, 336]));
/// assert_eq!(ClipPreprocess::default().crop, Some([224, 224]));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(try_from = "Config")]
#[non_exhaustive]
pub struct ClipPreprocess {
    /// How the picture is resized, if it is.
    pub resize: Option<ClipResize>,
    /// Width and height of the middle that is cut out, if it is.
    pub crop: Option<[u32; 2]>,
    /// What a value of 0 to 255 is multiplied with, before the mean is subtracted.
    pub scale: f32,
    /// The mean of each channel.
    pub mean: [f32; 3],
    /// The standard deviation of each channel.
    pub deviation: [f32; 3],
}

/// How a picture is resized for CLIP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ClipResize {
    /// Its shorter side to this length, with its ratio kept: the longer one is rounded down.
    ShortestEdge(u32, Filter),
    /// To this width and height, whatever its ratio.
    Exact([u32; 2], Filter),
    /// To a square of this side, whatever its ratio, by torch's bicubic without antialiasing
    /// ([`Image::resize_as_torch`]): what the original Wan does.
    Torch(u32),
}

/// Mean and deviation of the pictures that CLIP was trained on.
const MEAN: [f32; 3] = [0.481_454_66, 0.457_827_5, 0.408_210_73];
const DEVIATION: [f32; 3] = [0.268_629_54, 0.261_302_6, 0.275_777_1];

/// The side of the pictures that it was trained on.
const SIDE: u32 = 224;

/// The longest side that a config may ask for.
const MAX_SIDE: u32 = 4096;

impl Default for ClipPreprocess {
    /// What an empty `preprocessor_config.json` means: the shorter side to 224 by Pillow's bicubic, the
    /// middle 224x224 of that, and CLIP's mean and deviation.
    fn default() -> Self {
        let resize = Some(ClipResize::ShortestEdge(SIDE, Filter::Bicubic));
        let crop = Some([SIDE, SIDE]);
        Self { resize, crop, scale: 1.0 / 255.0, mean: MEAN, deviation: DEVIATION }
    }
}

impl ClipPreprocess {
    /// What the original Wan shows to CLIP: the whole picture, squeezed to a square of this side.
    pub fn original(side: u32) -> Self {
        Self { resize: Some(ClipResize::Torch(side)), crop: None, ..Self::default() }
    }

    /// What CLIP sees of the picture: `[3, height, width]`, of the size that `crop` says, or
    /// else [`resize`](Self::resize).
    ///
    /// # Errors
    /// [`ImageError::Crop`] if less is left than is cut out, [`ImageError::TooLarge`] if a very narrow
    /// picture would become more than [`MAX_PIXELS`](super::MAX_PIXELS).
    pub fn pixels(&self, image: &Image) -> Result<Pixels, ImageError> {
        let resized = match self.resize {
            None => image.clone(),
            Some(ClipResize::Exact([width, height], filter)) => {
                image.resize(width, height, filter)?
            }
            Some(ClipResize::ShortestEdge(edge, filter)) => {
                let [width, height] = shortest_edge([image.width, image.height], edge);
                image.resize(width, height, filter)?
            }
            Some(ClipResize::Torch(side)) => {
                let mut pixels = image.resize_as_torch(side, side)?;
                let plane = pixels.values.len() / 3;
                for (channel, plane) in pixels.values.chunks_exact_mut(plane).enumerate() {
                    let to_255 = |value: f32| (value + 1.0) * 127.5;
                    plane.iter_mut().for_each(|v| *v = self.normalize(to_255(*v), channel));
                }
                return Ok(pixels);
            }
        };
        let cropped = self.crop(resized)?;
        Ok(cropped.planes(|value, channel| self.normalize(value.into(), channel)))
    }

    fn crop(&self, image: Image) -> Result<Image, ImageError> {
        let (width, height) = (image.width, image.height);
        match self.crop {
            None => Ok(image),
            Some([w, h]) if w <= width && h <= height => Ok(image.crop([w, h])),
            Some([crop_width, crop_height]) => {
                Err(ImageError::Crop { image: image.name, width, height, crop_width, crop_height })
            }
        }
    }

    fn normalize(&self, value: f32, channel: usize) -> f32 {
        (value * self.scale - self.mean[channel]) / self.deviation[channel]
    }
}

/// The size whose shorter side is `edge`.
fn shortest_edge([width, height]: [u32; 2], edge: u32) -> [u32; 2] {
    let longer = |shorter: u32, longer: u32| {
        let longer = u64::from(edge) * u64::from(longer) / u64::from(shorter);
        longer.try_into().unwrap_or(u32::MAX) // Refused later.
    };
    match width <= height {
        true => [edge, longer(width, height)],
        false => [longer(height, width), edge],
    }
}

/// `preprocessor_config.json`, as `CLIPImageProcessor` writes and reads it.
#[derive(Deserialize)]
#[serde(default)]
struct Config {
    image_processor_type: Option<String>,
    feature_extractor_type: Option<String>,
    do_resize: bool,
    size: Size,
    resample: u32,
    do_center_crop: bool,
    crop_size: Size,
    do_rescale: bool,
    rescale_factor: f32,
    do_normalize: bool,
    image_mean: [f32; 3],
    image_std: [f32; 3],
}

impl Default for Config {
    fn default() -> Self {
        Self {
            image_processor_type: None,
            feature_extractor_type: None,
            do_resize: true,
            size: Size::Number(SIDE),
            resample: 3,
            do_center_crop: true,
            crop_size: Size::Number(SIDE),
            do_rescale: true,
            rescale_factor: 1.0 / 255.0,
            do_normalize: true,
            image_mean: MEAN,
            image_std: DEVIATION,
        }
    }
}

/// A size in a config.
#[derive(Clone, Copy, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a number, {\"shortest_edge\": ..} or {\"height\": .., \"width\": ..}"
)]
enum Size {
    Number(u32),
    ShortestEdge { shortest_edge: u32 },
    Exact { height: u32, width: u32 },
}

/// Why a config is not used.
#[derive(Debug, thiserror::Error)]
enum ConfigError {
    #[error("{field} is `{found}`, but must be that of CLIP, such as `CLIPImageProcessor`")]
    Class { field: &'static str, found: String },
    #[error("{field} has a side of {found}, but must have 1 to {MAX_SIDE}")]
    Side { field: &'static str, found: u32 },
    #[error(
        "crop_size has a shortest_edge, but must be a number or {{\"height\": .., \"width\": ..}}"
    )]
    CropEdge,
    #[error("resample is {0}, but must be 0 (nearest), 1 (Lanczos), 2 (bilinear) or 3 (bicubic)")]
    Resample(u32),
    #[error("image_std is {0:?}, but must have three numbers above 0")]
    Deviation([f32; 3]),
}

impl TryFrom<Config> for ClipPreprocess {
    type Error = ConfigError;

    fn try_from(config: Config) -> Result<Self, ConfigError> {
        check_class("image_processor_type", config.image_processor_type)?;
        check_class("feature_extractor_type", config.feature_extractor_type)?;
        let resize = config.do_resize.then(|| resize(config.size, config.resample)).transpose()?;
        let crop = config.do_center_crop.then(|| crop(config.crop_size)).transpose()?;
        let scale = if config.do_rescale { config.rescale_factor } else { 1.0 };
        let (mean, deviation) = match config.do_normalize {
            true => (config.image_mean, config.image_std),
            false => ([0.0; 3], [1.0; 3]),
        };
        if !deviation.iter().all(|deviation| *deviation > 0.0) {
            return Err(ConfigError::Deviation(deviation));
        }
        Ok(Self { resize, crop, scale, mean, deviation })
    }
}

fn check_class(field: &'static str, class: Option<String>) -> Result<(), ConfigError> {
    match class {
        Some(found) if !found.starts_with("CLIP") => Err(ConfigError::Class { field, found }),
        _ => Ok(()),
    }
}

fn resize(size: Size, resample: u32) -> Result<ClipResize, ConfigError> {
    let filter = match resample {
        0 => Filter::Nearest,
        1 => Filter::Lanczos,
        2 => Filter::Bilinear,
        3 => Filter::Bicubic,
        other => return Err(ConfigError::Resample(other)),
    };
    match size {
        Size::Number(edge) | Size::ShortestEdge { shortest_edge: edge } => {
            check_sides("size", [edge; 2]).map(|[edge, _]| ClipResize::ShortestEdge(edge, filter))
        }
        Size::Exact { height, width } => {
            check_sides("size", [width, height]).map(|size| ClipResize::Exact(size, filter))
        }
    }
}

fn crop(size: Size) -> Result<[u32; 2], ConfigError> {
    match size {
        Size::Number(side) => check_sides("crop_size", [side; 2]),
        Size::Exact { height, width } => check_sides("crop_size", [width, height]),
        Size::ShortestEdge { .. } => Err(ConfigError::CropEdge),
    }
}

fn check_sides(field: &'static str, sides: [u32; 2]) -> Result<[u32; 2], ConfigError> {
    match sides.into_iter().find(|side| !(1..=MAX_SIDE).contains(side)) {
        Some(found) => Err(ConfigError::Side { field, found }),
        None => Ok(sides),
    }
}
