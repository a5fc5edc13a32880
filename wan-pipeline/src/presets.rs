//! The defaults that belong to each model.

use wan_io::text::WAN_NEGATIVE_PROMPT;
use wan_io::video::FrameRate;
use wan_models::transformer::WanTransformerConfig;

use crate::Task;

/// What a request that does not say otherwise is made with.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Preset {
    /// The model's name, as its makers publish it.
    pub name: &'static str,
    /// What it makes a video of.
    pub task: Task,
    /// Whether it has two experts, for high and for low noise.
    pub two_experts: bool,
    /// Layers and width of its transformer.
    pub transformer: [usize; 2],
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
    /// Guidance scale; of two experts, that of the first, for high noise.
    pub guidance_scale: f64,
    /// Guidance scale of the second of two experts, for low noise.
    pub guidance_scale_2: Option<f64>,
    /// Flow shift; `None` takes that of the model's `scheduler_config.json`.
    pub flow_shift: Option<f64>,
    /// Negative prompt.
    pub negative_prompt: &'static str,
}

/// Layers and width of the transformers of the family.
const SMALL: [usize; 2] = [30, 1536];
const MIDDLE: [usize; 2] = [30, 3072];
const LARGE: [usize; 2] = [40, 5120];

/// Wan 2.1 T2V 14B: what `generate.py` of the original repository does without options. Its flow
/// shift is 5 at every size of text-to-video (the 3 that is often read is for image-to-video at
/// 480p).
pub const WAN21_T2V_14B: Preset = Preset {
    name: "Wan2.1-T2V-14B",
    task: Task::TextToVideo,
    two_experts: false,
    transformer: LARGE,
    width: 1280,
    height: 720,
    num_frames: 81,
    fps: FrameRate::new(16),
    steps: 50,
    guidance_scale: 5.0,
    guidance_scale_2: None,
    flow_shift: Some(5.0),
    negative_prompt: WAN_NEGATIVE_PROMPT,
};

/// Wan 2.1 T2V 1.3B: what the original repository's README recommends for it: 480p, guidance 6 and
/// a flow shift of 8 to 12.
pub const WAN21_T2V_1_3B: Preset = Preset {
    name: "Wan2.1-T2V-1.3B",
    transformer: SMALL,
    width: 832,
    height: 480,
    guidance_scale: 6.0,
    flow_shift: Some(8.0),
    ..WAN21_T2V_14B
};

/// Wan 2.1 I2V 14B for 480p: `generate.py` takes 40 steps for image-to-video, and a flow shift of 3 at 480p.
pub const WAN21_I2V_14B_480P: Preset = Preset {
    name: "Wan2.1-I2V-14B-480P",
    task: Task::ImageToVideo,
    width: 832,
    height: 480,
    steps: 40,
    flow_shift: Some(3.0),
    ..WAN21_T2V_14B
};

/// Wan 2.1 I2V 14B for 720p.
pub const WAN21_I2V_14B_720P: Preset = Preset {
    name: "Wan2.1-I2V-14B-720P",
    width: 1280,
    height: 720,
    flow_shift: Some(5.0),
    ..WAN21_I2V_14B_480P
};

/// Wan 2.1 FLF2V 14B.
pub const WAN21_FLF2V_14B: Preset = Preset {
    name: "Wan2.1-FLF2V-14B-720P",
    task: Task::FirstLastFrameToVideo,
    flow_shift: Some(16.0),
    ..WAN21_T2V_14B
};

/// Wan 2.1 VACE 1.3B.
pub const WAN21_VACE_1_3B: Preset = Preset {
    name: "Wan2.1-VACE-1.3B",
    task: Task::Control,
    transformer: SMALL,
    width: 832,
    height: 480,
    flow_shift: Some(16.0),
    ..WAN21_T2V_14B
};

/// Wan 2.1 VACE 14B.
pub const WAN21_VACE_14B: Preset = Preset {
    name: "Wan2.1-VACE-14B",
    transformer: LARGE,
    width: 1280,
    height: 720,
    ..WAN21_VACE_1_3B
};

/// Wan 2.2 T2V A14B (`wan/configs/wan_t2v_A14B.py`).
pub const WAN22_T2V_A14B: Preset = Preset {
    name: "Wan2.2-T2V-A14B",
    two_experts: true,
    steps: 40,
    guidance_scale: 4.0,
    guidance_scale_2: Some(3.0),
    flow_shift: Some(12.0),
    ..WAN21_T2V_14B
};

/// Wan 2.2 I2V A14B (`wan/configs/wan_i2v_A14B.py`).
pub const WAN22_I2V_A14B: Preset = Preset {
    name: "Wan2.2-I2V-A14B",
    task: Task::ImageToVideo,
    guidance_scale: 3.5,
    guidance_scale_2: Some(3.5),
    flow_shift: Some(5.0),
    ..WAN22_T2V_A14B
};

/// Wan 2.2 TI2V 5B (`wan/configs/wan_ti2v_5B.py`).
pub const WAN22_TI2V_5B: Preset = Preset {
    name: "Wan2.2-TI2V-5B",
    task: Task::TextImageToVideo,
    transformer: MIDDLE,
    width: 1280,
    height: 704,
    num_frames: 121,
    fps: FrameRate::new(24),
    ..WAN21_T2V_14B
};

/// Wan 2.1 Fun-InP 1.3B, with the values of the examples of VideoX-Fun.
pub const WAN21_FUN_INP_1_3B: Preset = Preset {
    name: "Wan2.1-Fun-1.3B-InP",
    task: Task::ImageToVideo,
    transformer: SMALL,
    width: 832,
    height: 480,
    guidance_scale: 6.0,
    flow_shift: Some(3.0),
    ..WAN21_T2V_14B
};

/// Wan 2.1 Fun-InP 14B.
pub const WAN21_FUN_INP_14B: Preset =
    Preset { name: "Wan2.1-Fun-14B-InP", transformer: LARGE, ..WAN21_FUN_INP_1_3B };

/// Wan 2.1 Fun-Control 1.3B.
pub const WAN21_FUN_CONTROL_1_3B: Preset =
    Preset { name: "Wan2.1-Fun-1.3B-Control", task: Task::FunControl, ..WAN21_FUN_INP_1_3B };

/// Wan 2.1 Fun-Control 14B.
pub const WAN21_FUN_CONTROL_14B: Preset =
    Preset { name: "Wan2.1-Fun-14B-Control", transformer: LARGE, ..WAN21_FUN_CONTROL_1_3B };

/// Lucy Edit, made from Wan 2.2 TI2V 5B; its licence allows no commercial use.
pub const LUCY_EDIT: Preset = Preset {
    name: "Lucy-Edit-Dev",
    task: Task::Edit,
    width: 832,
    height: 480,
    num_frames: 81,
    ..WAN22_TI2V_5B
};

/// The miniature model that comes with this project (see its README).
pub const TINY_WAN: Preset = Preset {
    name: "tiny-wan",
    transformer: [4, 192],
    width: 64,
    height: 64,
    num_frames: 97,
    fps: FrameRate::new(24),
    steps: 20,
    guidance_scale: 3.0,
    flow_shift: Some(3.0),
    negative_prompt: "",
    ..WAN21_T2V_14B
};

/// The miniature model that begins with a picture.
pub const TINY_WAN_TI2V: Preset =
    Preset { name: "tiny-wan-ti2v", task: Task::TextImageToVideo, ..TINY_WAN };

/// All models that have a preset. Of those that cannot be told apart the first counts.
pub const ALL: [Preset; 17] = [
    TINY_WAN_TI2V,
    TINY_WAN,
    WAN21_T2V_1_3B,
    WAN21_T2V_14B,
    WAN21_I2V_14B_480P,
    WAN21_I2V_14B_720P,
    WAN21_FLF2V_14B,
    WAN21_VACE_1_3B,
    WAN21_VACE_14B,
    WAN22_T2V_A14B,
    WAN22_I2V_A14B,
    WAN22_TI2V_5B,
    WAN21_FUN_INP_1_3B,
    WAN21_FUN_INP_14B,
    WAN21_FUN_CONTROL_1_3B,
    WAN21_FUN_CONTROL_14B,
    LUCY_EDIT,
];

/// Any other model of the family: the shift of its scheduler's config.
pub const OTHER: Preset =
    Preset { name: "Wan", width: 832, height: 480, flow_shift: None, ..WAN21_T2V_14B };

impl Preset {
    /// The preset of a model with this name, which its files or its repository have; or of the model that has the same
    /// task, as many transformers, and these of the same size: of several the one whose name has most parts in this
    /// name, the first of these.
    pub fn find(
        name: &str,
        task: Task,
        two_experts: bool,
        transformer: &WanTransformerConfig,
    ) -> Self {
        let size = [transformer.num_layers, transformer.inner_dim()];
        // What is causal was made of a model for text-to-video.
        let task = if task == Task::CausalTextToVideo { Task::TextToVideo } else { task };
        let is_alike = |preset: &&Self| {
            (preset.task, preset.two_experts, preset.transformer) == (task, two_experts, size)
                // Nothing else is of the size of the miniature, whatever is made of it.
                || preset.name == TINY_WAN.name && preset.transformer == size
        };
        let name = letters(name);
        let is_named = |preset: &&Self| name.contains(&letters(preset.name));
        let unnamed_parts = |preset: &&Self| {
            preset.name.split('-').filter(|part| !name.contains(&letters(part))).count()
        };
        let alike = || ALL.iter().filter(is_alike);
        let found = alike().find(is_named).or_else(|| alike().min_by_key(unnamed_parts));
        found.copied().unwrap_or(OTHER)
    }
}

/// A name without what people write differently.
fn letters(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_is_found_by_its_name_and_else_by_its_marks() {
        let size = |[num_layers, width]: [usize; 2]| WanTransformerConfig {
            num_layers,
            num_attention_heads: width / 128,
            ..WanTransformerConfig::default()
        };
        let find = |name: &str, task, two, transformer| {
            Preset::find(name, task, two, &size(transformer)).name
        };
        for preset in ALL.iter().skip(2) {
            let Preset { name, task, two_experts, transformer, .. } = *preset;
            assert_eq!(find(name, task, two_experts, transformer), name);
            let repository = format!("someone/{}_diffusers", name.replace('-', "_"));
            assert_eq!(find(&repository, task, two_experts, transformer), name);
        }
        use Task::{ImageToVideo, TextToVideo};
        assert_eq!(find("model", TextToVideo, false, LARGE), "Wan2.1-T2V-14B");
        assert_eq!(find("model", TextToVideo, true, LARGE), "Wan2.2-T2V-A14B");
        assert_eq!(find("model", ImageToVideo, false, LARGE), "Wan2.1-I2V-14B-480P");
        // Parts in another order, as others name their files.
        for (name, expected) in [
            ("wan2.1_i2v_720p_14B_fp16", "Wan2.1-I2V-14B-720P"),
            ("wan2.1_i2v_480p_14B_fp8", "Wan2.1-I2V-14B-480P"),
            ("i2v 720p", "Wan2.1-I2V-14B-720P"),
            ("Wan2_1-Fun-InP-14B", "Wan2.1-Fun-14B-InP"),
        ] {
            assert_eq!(find(name, ImageToVideo, false, LARGE), expected, "{name}");
        }
        // A name that belongs to another kind of model tells nothing.
        assert_eq!(find("Wan2.1-T2V-14B", ImageToVideo, true, LARGE), "Wan2.2-I2V-A14B");
        assert_eq!(find("model", TextToVideo, false, [7, 640]), "Wan");
    }
}
