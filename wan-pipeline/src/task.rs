//! What a model makes a video of.

use std::fmt;

use wan_models::kind::CheckpointKind;
use wan_models::transformer::WanTransformerConfig;
use wan_models::vae::WanVaeConfig;

use crate::ModelError;
use crate::components::Component;

/// What a model makes a video of. The channels and the branches of its transformer tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Task {
    /// A prompt, and perhaps a video to start from.
    TextToVideo,
    /// A prompt; the video is made block by block, each from those before it: see
    /// [`Pipeline::stream`](crate::Pipeline::stream) (SFWan, and other models whose configs tell it).
    CausalTextToVideo,
    /// A prompt, and perhaps a first frame, which is kept (Wan 2.2 TI2V-5B).
    TextImageToVideo,
    /// A prompt and a first frame, perhaps also a last one (Wan 2.1 I2V and Fun-InP, Wan 2.2 I2V-A14B).
    ImageToVideo,
    /// A prompt, a first and a last frame (Wan 2.1 FLF2V).
    FirstLastFrameToVideo,
    /// A prompt, and perhaps a video to follow or to change, with masks, and pictures of what is to be seen (VACE).
    Control,
    /// A prompt, a video to follow, and perhaps a first frame (Wan 2.1 Fun-Control).
    FunControl,
    /// A prompt and a video to change (Lucy Edit).
    Edit,
}

/// Channels of a mask of the frames that are known: one for each frame of a latent frame.
pub(crate) const MASK_CHANNELS: usize = 4;

impl Task {
    /// The task of a model; whether each token has a timestep of its own may be said beside the networks.
    pub(crate) fn of(
        transformer: &Component<WanTransformerConfig>,
        vae: &Component<WanVaeConfig>,
        expands_timesteps: Option<bool>,
    ) -> Result<Self, ModelError> {
        let (config, z) = (&transformer.config, vae.config.z_dim);
        let z_dim = || format!("z_dim in {}", vae.config_path);
        if config.out_channels != z {
            return Err(transformer.disagrees("out_channels", config.out_channels, z_dim(), z));
        }
        let expands =
            expands_timesteps.unwrap_or(config.kind() == Some(CheckpointKind::TextImageToVideo));
        let (looks, beside) = (config.image_dim.is_some(), config.in_channels.checked_sub(z));
        let is = |channels: usize| beside == Some(channels);
        match () {
            () if !config.vace_layers().is_empty() && is(0) => Ok(Self::Control),
            () if is(0) && config.is_causal() => Ok(Self::CausalTextToVideo),
            () if is(0) && expands => Ok(Self::TextImageToVideo),
            () if is(0) => Ok(Self::TextToVideo),
            () if is(MASK_CHANNELS + z) && config.pos_embed_seq_len.is_some() => {
                Ok(Self::FirstLastFrameToVideo)
            }
            () if is(MASK_CHANNELS + z) => Ok(Self::ImageToVideo),
            () if is(2 * z) && looks => Ok(Self::FunControl),
            () if is(z) && !looks => Ok(Self::Edit),
            () => Err(transformer.disagrees("in_channels", config.in_channels, z_dim(), z)),
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TextToVideo => "text-to-video",
            Self::CausalTextToVideo => "causal text-to-video",
            Self::TextImageToVideo => "text-and-image-to-video",
            Self::ImageToVideo => "image-to-video",
            Self::FirstLastFrameToVideo => "first-and-last-frame-to-video",
            Self::Control => "control and editing",
            Self::FunControl => "control",
            Self::Edit => "video editing",
        })
    }
}
