//! What the class or the type in a config tells of a checkpoint.

use super::CheckpointKind as Kind;

/// Classes of transformers other than Wan's own, in the configs of diffusers and of the original.
const CLASSES: [(&str, Kind); 14] = [
    ("WanVACETransformer3DModel", Kind::Vace),
    ("VaceWanModel", Kind::Vace),
    ("WanAnimateTransformer3DModel", Kind::Animate),
    ("WanAnimateModel", Kind::Animate),
    ("WanAnimate2Transformer3DModel", Kind::Animate2),
    ("WanS2VTransformer3DModel", Kind::SpeechToVideo),
    ("WanModel_S2V", Kind::SpeechToVideo),
    ("SkyReelsV2Transformer3DModel", Kind::SkyReels),
    ("ChronoEditTransformer3DModel", Kind::ChronoEdit),
    ("CausalWanTransformer3DModel", Kind::CausalAr),
    ("CausalWanModel", Kind::CausalAr),
    ("LongCatVideoTransformer3DModel", Kind::LongCat),
    ("T5EncoderModel", Kind::T5),
    ("AutoencoderTiny", Kind::Tae),
];

/// Values of `model_type` in the `config.json` of the original and of models made from it.
const MODEL_TYPES: [(&str, Kind); 9] = [
    ("t2v", Kind::TextToVideo),
    ("i2v", Kind::ImageToVideo),
    ("flf2v", Kind::FirstLastFrame),
    ("ti2v", Kind::TextImageToVideo),
    ("vace", Kind::Vace),
    ("s2v", Kind::SpeechToVideo),
    ("animate", Kind::Animate),
    ("t5", Kind::T5),
    ("umt5", Kind::Umt5),
];

impl Kind {
    /// The kind that a class in `config.json` or `model_index.json` tells. The class of Wan's own
    /// transformer is that of many kinds and tells none.
    pub fn of_class(class_name: &str) -> Option<Self> {
        find(&CLASSES, class_name)
    }

    /// The kind that `model_type` in `config.json` tells.
    pub fn of_model_type(model_type: &str) -> Option<Self> {
        find(&MODEL_TYPES, model_type)
    }
}

fn find(table: &[(&str, Kind)], name: &str) -> Option<Kind> {
    table.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
}
