use serde::{Deserialize, Serialize};

use crate::config::{ConfigError, require, require_eps, require_null, require_size};
use crate::kind::CheckpointKind;

/// `config.json` of a `WanTransformer3DModel`. Fields that it leaves out have the defaults of that class,
/// which are the sizes of Wan 2.1 T2V 14B.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct WanTransformerConfig {
    /// `WanTransformer3DModel`, `WanVACETransformer3DModel` for a network with blocks for a control video, or
    /// `CausalWanTransformer3DModel` for one that was trained to make a video block by block.
    #[serde(rename = "_class_name")]
    pub class_name: String,
    /// How many latent frames, rows and columns make one token.
    pub patch_size: [usize; 3],
    /// Number of attention heads.
    pub num_attention_heads: usize,
    /// Width of one attention head.
    pub attention_head_dim: usize,
    /// Channels that go in: those of the latents, and of what stands beside them.
    pub in_channels: usize,
    /// Channels of the velocity that comes out.
    pub out_channels: usize,
    /// Width of the text encoder's states.
    pub text_dim: usize,
    /// Width of the sinusoidal timestep features.
    pub freq_dim: usize,
    /// Inner width of the feed-forward networks.
    pub ffn_dim: usize,
    /// Number of blocks.
    pub num_layers: usize,
    /// Whether the norm before cross-attention has weights (otherwise there is none).
    pub cross_attn_norm: bool,
    /// The norm of queries and keys; `rms_norm_across_heads` is the only one.
    pub qk_norm: String,
    /// Epsilon of the norms.
    pub eps: f64,
    /// Width of an image encoder's states: image-to-video models only.
    pub image_dim: Option<usize>,
    /// Width of the extra keys and values for images: image-to-video models only.
    pub added_kv_proj_dim: Option<usize>,
    /// Positions that the rotary embedding has along each axis.
    pub rope_max_seq_len: usize,
    /// Image tokens of first-and-last-frame models.
    pub pos_embed_seq_len: Option<usize>,
    /// The blocks before which a control video has a block of its own: VACE models only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vace_layers: Option<Vec<usize>>,
    /// Channels of the control video: VACE models only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vace_in_channels: Option<usize>,
}

/// The classes of networks: without and with blocks for a control video, and of causal ones.
pub(super) const CLASS: &str = "WanTransformer3DModel";
pub(super) const VACE_CLASS: &str = "WanVACETransformer3DModel";
pub(super) const CAUSAL_CLASS: &str = "CausalWanTransformer3DModel";

/// What the class of VACE models has where its config says nothing.
const VACE_LAYERS: [usize; 8] = [0, 5, 10, 15, 20, 25, 30, 35];
const VACE_IN_CHANNELS: usize = 96;

/// The tensors whose shapes tell the channels.
const PATCHES: &str = "patch_embedding.weight";
const HEAD: &str = "proj_out.weight";

impl Default for WanTransformerConfig {
    fn default() -> Self {
        Self {
            class_name: CLASS.into(),
            patch_size: [1, 2, 2],
            num_attention_heads: 40,
            attention_head_dim: 128,
            in_channels: 16,
            out_channels: 16,
            text_dim: 4096,
            freq_dim: 256,
            ffn_dim: 13824,
            num_layers: 40,
            cross_attn_norm: true,
            qk_norm: "rms_norm_across_heads".into(),
            eps: 1e-6,
            image_dim: None,
            added_kv_proj_dim: None,
            rope_max_seq_len: 1024,
            pos_embed_seq_len: None,
            vace_layers: None,
            vace_in_channels: None,
        }
    }
}

impl WanTransformerConfig {
    /// Width of the residual stream.
    pub fn inner_dim(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// The blocks before which a control video has a block of its own; none in other models than VACE.
    pub fn vace_layers(&self) -> &[usize] {
        match (self.class_name == VACE_CLASS, &self.vace_layers) {
            (true, Some(layers)) => layers,
            (true, None) => &VACE_LAYERS,
            (false, _) => &[],
        }
    }

    /// Whether the network is known to make videos block by block; of the same tensors, others may be too.
    pub fn is_causal(&self) -> bool {
        self.class_name == CAUSAL_CLASS
    }

    /// Channels of the control video of a VACE model.
    pub fn vace_channels(&self) -> usize {
        self.vace_in_channels.unwrap_or(VACE_IN_CHANNELS)
    }

    /// The kind of model that has this config, if it tells: see [`CheckpointKind`].
    pub fn kind(&self) -> Option<CheckpointKind> {
        let of_class = CheckpointKind::of_class(&self.class_name);
        of_class.or_else(|| CheckpointKind::detect(self.marks(), |name| self.shape(name)))
    }

    /// The names of those tensors of the model that tell its kind.
    fn marks(&self) -> impl Iterator<Item = &'static str> {
        let image = self.image_dim.or(self.added_kv_proj_dim).is_some();
        let marks = [
            (true, "blocks.0.attn1.to_q.weight"),
            (true, PATCHES),
            (true, HEAD),
            (image, "condition_embedder.image_embedder.norm1.weight"),
            (self.pos_embed_seq_len.is_some(), "condition_embedder.image_embedder.pos_embed"),
            (!self.vace_layers().is_empty(), "vace_blocks.0.proj_in.weight"),
            (!self.vace_layers().is_empty(), "vace_patch_embedding.weight"),
        ];
        marks.into_iter().filter(|(has, _)| *has).map(|(_, name)| name)
    }

    /// The shapes that the marks would have with a width and patches of 1.
    fn shape(&self, name: &str) -> Option<Vec<usize>> {
        match name {
            PATCHES => Some(vec![1, self.in_channels, 1, 1, 1]),
            HEAD => Some(vec![self.out_channels, 1]),
            _ => None,
        }
    }

    /// # Errors
    /// The first field with a value that the network cannot have. Whether a model can do what is asked of it
    /// is the matter of its task.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let class = &self.class_name;
        let why = CheckpointKind::of_class(class).map_or_else(String::new, |kind| {
            format!(": this is {kind}, which is not supported yet")
        });
        let expected = format!("\"{CLASS}\", \"{VACE_CLASS}\" or \"{CAUSAL_CLASS}\"{why}");
        let is_known = [CLASS, VACE_CLASS, CAUSAL_CLASS].contains(&class.as_str());
        require(is_known, "_class_name", class, expected)?;
        self.validate_sizes()?;
        let norm = &self.qk_norm;
        require(norm == "rms_norm_across_heads", "qk_norm", norm, "\"rms_norm_across_heads\"")?;
        require_eps("eps", self.eps)?;
        self.validate_image()?;
        self.validate_vace()
    }

    fn validate_sizes(&self) -> Result<(), ConfigError> {
        let patch = self.patch_size;
        for size in patch {
            require((1..=16).contains(&size), "patch_size", patch, "three sizes of 1 to 16")?;
        }
        require_size("num_attention_heads", self.num_attention_heads, 256)?;
        require_even("attention_head_dim", self.attention_head_dim, 6, 1024)?;
        require_size("in_channels", self.in_channels, 1024)?;
        require_size("out_channels", self.out_channels, 1024)?;
        require_size("text_dim", self.text_dim, 1 << 15)?;
        require_even("freq_dim", self.freq_dim, 2, 1 << 14)?;
        require_size("ffn_dim", self.ffn_dim, 1 << 17)?;
        require_size("num_layers", self.num_layers, 256)?;
        require_size("rope_max_seq_len", self.rope_max_seq_len, 1 << 20)
    }

    /// The branch for images is there as a whole or not at all.
    fn validate_image(&self) -> Result<(), ConfigError> {
        let (found, inner) = (self.added_kv_proj_dim, self.inner_dim());
        let Some(width) = self.image_dim else {
            require_null("added_kv_proj_dim", found, "there is no image_dim")?;
            return require_null(
                "pos_embed_seq_len",
                self.pos_embed_seq_len,
                "there is no image_dim",
            );
        };
        require_size("image_dim", width, 1 << 15)?;
        let expected = format!("{inner}, the width of the network");
        let shown = found.map_or("null".to_owned(), |found| found.to_string());
        require(found == Some(inner), "added_kv_proj_dim", shown, expected)?;
        let positions = self.pos_embed_seq_len;
        positions.map_or(Ok(()), |found| require_size("pos_embed_seq_len", found, 1 << 16))
    }

    fn validate_vace(&self) -> Result<(), ConfigError> {
        let (layers, count) = (self.vace_layers(), self.num_layers);
        if layers.is_empty() && self.class_name != VACE_CLASS {
            return Ok(());
        }
        let rising = layers.windows(2).all(|pair| pair[0] < pair[1]);
        let right = layers.first() == Some(&0) && rising && layers.iter().all(|&i| i < count);
        let expected = format!("numbers of blocks that rise from 0, less than num_layers, {count}");
        require(right, "vace_layers", format!("{layers:?}"), expected)?;
        require_size("vace_in_channels", self.vace_channels(), 1024)
    }
}

fn require_even(
    field: &'static str,
    found: usize,
    least: usize,
    most: usize,
) -> Result<(), ConfigError> {
    let right = (least..=most).contains(&found) && found.is_multiple_of(2);
    require(right, field, found, format!("an even number of {least} to {most}"))
}
