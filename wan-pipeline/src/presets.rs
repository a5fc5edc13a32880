//! The defaults that belong to each model.

use wan_io::text::WAN_NEGATIVE_PROMPT;
use wan_io::video::FrameRate;
use wan_models::transformer::WanTransformerConfig;

/// What a request that does not say otherwise is made with.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Preset {
    /// The model's name.
    pub name: &'static str,
    /// Width of the video in pixels.
    pub width: usize,
    /// Height of the video in pixels.
    pub height: usize,
    /// Number of frames.
    pub num_frames: usize,
    /// Frames a second.
    pub fps: FrameRate,
    /// Denoising steps.
    pub steps: usize,
    /// Guidance scale.
    pub guidance_scale: f64,
    /// Flow shift; `None` takes that of the model's `scheduler_config.json`.
    pub flow_shift: Option<f64>,
    /// Negative prompt.
    pub negative_prompt: &'static str,
}

/// Wan 2.1 T2V 14B: what `generate.py` of the original repository does without options. Its flow
/// shift is 5 at every size of text-to-video (the 3 that is often read is for image-to-video at
/// 480p).
pub const WAN21_T2V_14B: Preset = Preset {
    name: "Wan2.1-T2V-14B",
    width: 1280,
    height: 720,
    num_frames: 81,
    fps: FrameRate::new(16),
    steps: 50,
    guidance_scale: 5.0,
    flow_shift: Some(5.0),
    negative_prompt: WAN_NEGATIVE_PROMPT,
};

/// Wan 2.1 T2V 1.3B: what the original repository's README recommends for it: 480p, guidance 6 and
/// a flow shift of 8 to 12.
pub const WAN21_T2V_1_3B: Preset = Preset {
    name: "Wan2.1-T2V-1.3B",
    width: 832,
    height: 480,
    guidance_scale: 6.0,
    flow_shift: Some(8.0),
    ..WAN21_T2V_14B
};

/// The miniature model that comes with this project (see its README).
pub const TINY_WAN: Preset = Preset {
    name: "tiny-wan",
    width: 64,
    height: 64,
    num_frames: 97,
    fps: FrameRate::new(24),
    steps: 20,
    guidance_scale: 3.0,
    flow_shift: Some(3.0),
    negative_prompt: "",
};

/// Any other model of the family: the shift of its scheduler's config.
pub const OTHER: Preset =
    Preset { name: "Wan", width: 832, height: 480, flow_shift: None, ..WAN21_T2V_14B };

impl Preset {
    /// The preset of the model with this transformer, which its size tells.
    pub fn of(config: &WanTransformerConfig) -> Self {
        match (config.num_layers, config.inner_dim(), config.ffn_dim) {
            (40, 5120, 13_824) => WAN21_T2V_14B,
            (30, 1536, 8960) => WAN21_T2V_1_3B,
            (4, 192, 512) => TINY_WAN,
            _ => OTHER,
        }
    }
}
