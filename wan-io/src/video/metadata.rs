//! How a video was made, stored inside the video file.

use std::{fmt::Write as _, fs::File, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    Format, FrameRate, VideoError, VideoSpec, gif, kind::Kind, mp4_tags, png, spec::RATES,
};

/// Longest metadata, as JSON, that is written or read.
pub(super) const MAX_JSON_BYTES: usize = 16 << 20;

/// How far readers look for metadata: the JSON grows at most threefold when it becomes ASCII.
pub(super) const MAX_FILE_BYTES: u64 = 4 * MAX_JSON_BYTES as u64;

/// How a video was made.
///
/// [`VideoWriter`](super::VideoWriter) stores it as one line of JSON: in an MP4 as the comment
/// tag, in every PNG frame as an iTXt chunk with the keyword `wan`, in a GIF as a comment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Metadata {
    /// The prompt, as the user wrote it.
    pub prompt: String,
    /// Negative prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub negative_prompt: Option<String>,
    /// Seed of the starting noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Denoising steps.
    #[serde(alias = "steps", skip_serializing_if = "Option::is_none")]
    pub num_inference_steps: Option<u32>,
    /// Guidance scale, where it is one number for all steps.
    #[serde(alias = "guidance", skip_serializing_if = "Option::is_none")]
    pub guidance_scale: Option<f64>,
    /// Guidance as text, where it is a schedule or another rule than one scale. Its key in the file
    /// is `guidance_rule`, since `guidance` was the scale in older files.
    #[serde(rename = "guidance_rule", skip_serializing_if = "Option::is_none")]
    pub guidance: Option<String>,
    /// Guidance scale of the second of two experts, for low noise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guidance_scale_2: Option<f64>,
    /// Guidance of the second of two experts as text, where it is more than a scale.
    #[serde(rename = "guidance_rule_2", skip_serializing_if = "Option::is_none")]
    pub guidance_2: Option<String>,
    /// Flow shift.
    #[serde(alias = "shift", skip_serializing_if = "Option::is_none")]
    pub flow_shift: Option<f64>,
    /// Source of a video that was made from another one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<String>,
    /// Part of the schedule, 0 to 1, that the source was taken through.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub strength: Option<f64>,
    /// How the picture that the video begins with was brought to its size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fit: Option<String>,
    /// How strongly a control video was felt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_scale: Option<f64>,
    /// Width in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub width: Option<u32>,
    /// Height in pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub height: Option<u32>,
    /// Number of frames.
    #[serde(alias = "frames", skip_serializing_if = "Option::is_none")]
    pub num_frames: Option<u32>,
    /// Frames a second: a number in the file if it is a whole one, or else text such as `23.976`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fps: Option<FrameRate>,
    /// The model, such as `Wan-AI/Wan2.1-T2V-14B`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The scheduler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scheduler: Option<String>,
    /// The grid of sigmas that the scheduler used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sigma_grid: Option<String>,
    /// The program and its version; MP4 players show it as the encoding tool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub software: Option<String>,
}

impl Metadata {
    /// Metadata that holds only a prompt.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self { prompt: prompt.into(), ..Self::default() }
    }

    /// A copy with the size, length and rate that the file really has.
    pub(super) fn for_spec(&self, spec: &VideoSpec) -> Self {
        Self {
            width: Some(spec.width),
            height: Some(spec.height),
            num_frames: Some(spec.frames),
            fps: Some(spec.fps),
            ..self.clone()
        }
    }

    pub(super) fn to_json(&self, path: &Path) -> Result<String, VideoError> {
        let failed = |reason: String| VideoError::Metadata { path: path.to_path_buf(), reason };
        let json = serde_json::to_string(self).map_err(|error| failed(error.to_string()))?;
        if json.len() > MAX_JSON_BYTES {
            let bytes = json.len();
            return Err(failed(format!(
                "it takes {bytes} bytes as JSON, more than {MAX_JSON_BYTES}"
            )));
        }
        Ok(json)
    }
}

/// Reads back the [`Metadata`] that [`VideoWriter`](super::VideoWriter) stored in an MP4, a GIF, a
/// PNG, or a folder of PNG frames (in its first frame). The kind of file is told by its first
/// bytes, so any name will do.
///
/// `None` when the file is whole as far as looked at, but holds no such metadata; so for every
/// `.rgb` file.
///
/// # Errors
/// [`VideoError::Io`] when the file cannot be opened, [`VideoError::UnknownKind`] when it is none of
/// these formats, [`VideoError::NoFrames`] for a folder without frames, and [`VideoError::CutOff`],
/// [`VideoError::Broken`] and [`VideoError::TooLarge`] when it is damaged.
pub fn read_metadata(path: &Path) -> Result<Option<Metadata>, VideoError> {
    let open = || File::open(path).map_err(VideoError::io("read", path));
    let json = match Kind::detect(path) {
        Ok(Kind::Folder) => {
            let frames = png::list_frames(path)?;
            let no_frames =
                || VideoError::NoFrames { path: path.to_path_buf(), kind: "PNG frames" };
            return read_metadata(frames.first().ok_or_else(no_frames)?);
        }
        Ok(Kind::Png) => png::read_text(open()?, path)?,
        Ok(Kind::Gif) => gif::read_comment(open()?, path)?,
        Ok(Kind::Mp4) => mp4_tags::read_comment(open()?, path)?,
        Err(VideoError::UnknownKind { .. })
            if matches!(Format::from_path(path), Ok(Format::Raw)) =>
        {
            None
        }
        Err(error) => return Err(error),
    };
    // Anyone may write a comment: only ours parses.
    Ok(json.and_then(|json| serde_json::from_str(&json).ok()))
}

/// The rate in the metadata of a file, if it is one that a video can have.
pub(super) fn stored_fps(path: &Path) -> Result<Option<FrameRate>, VideoError> {
    let fps = read_metadata(path)?.and_then(|metadata| metadata.fps);
    Ok(fps.filter(|fps| RATES.contains(fps)))
}

/// The JSON with escapes for all that is not ASCII.
pub(super) fn ascii_json(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            ascii.push(character);
        } else {
            for unit in character.encode_utf16(&mut [0; 2]) {
                // Writing to a string cannot fail.
                let _ = write!(ascii, "\\u{unit:04x}");
            }
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_omits_what_is_unknown_and_accepts_what_is_new() {
        let json = Metadata::new("a \"cat\"\n").to_json(Path::new("x")).unwrap();
        assert_eq!(json, r#"{"prompt":"a \"cat\"\n"}"#);
        let later: Metadata = serde_json::from_str(r#"{"prompt":"x","lens":"35mm"}"#).unwrap();
        assert_eq!(later, Metadata::new("x"));
    }

    #[test]
    fn earlier_names_of_fields_are_read() {
        let json = r#"{"prompt":"x","steps":50,"guidance":5.5,"shift":3.0,"frames":81}"#;
        let read: Metadata = serde_json::from_str(json).unwrap();
        assert_eq!(read.num_inference_steps, Some(50));
        assert_eq!(read.guidance_scale, Some(5.5));
        assert_eq!(read.flow_shift, Some(3.0));
        assert_eq!(read.num_frames, Some(81));
        assert_eq!(read.guidance, None);
    }

    #[test]
    fn rates_are_whole_numbers_or_not() {
        let fps = |json: &str| serde_json::from_str::<Metadata>(json).unwrap().fps.unwrap();
        assert_eq!(fps(r#"{"prompt":"x","fps":24}"#), 24);
        let mut metadata = Metadata::new("x");
        metadata.fps = FrameRate::fraction(24_000, 1001);
        let json = metadata.to_json(Path::new("x")).unwrap();
        assert_eq!(json, r#"{"prompt":"x","fps":"23.976"}"#);
        assert_eq!(fps(&json), metadata.fps.unwrap());
    }

    #[test]
    fn guidance_is_a_scale_or_a_rule() {
        let mut metadata = Metadata::new("x");
        metadata.guidance_scale = Some(5.5);
        metadata.guidance = Some("linear 5 to 1".into());
        let json = metadata.to_json(Path::new("x")).unwrap();
        assert!(json.contains(r#""guidance_scale":5.5,"guidance_rule":"linear 5 to 1""#), "{json}");
        assert_eq!(serde_json::from_str::<Metadata>(&json).unwrap(), metadata);
    }

    #[test]
    fn ascii_json_means_the_same() {
        let metadata = Metadata::new("猫 🐈\u{200d}⬛ é \\ \" \u{1}");
        let ascii = ascii_json(&metadata.to_json(Path::new("x")).unwrap());
        assert!(ascii.is_ascii());
        assert_eq!(serde_json::from_str::<Metadata>(&ascii).unwrap(), metadata);
    }

    #[test]
    fn endless_metadata_is_refused() {
        let metadata = Metadata::new("x".repeat(MAX_JSON_BYTES));
        let error = metadata.to_json(Path::new("x.mp4")).unwrap_err();
        assert!(error.to_string().contains("more than 16777216"), "{error}");
    }
}
