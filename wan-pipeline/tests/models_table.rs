//! The tables of `docs/models.md` that follow from the library.

use wan_models::kind::CheckpointKind;
use wan_pipeline::presets;

/// What a preset does not say of a published model: its name, where the second of two experts takes over, the
/// parameters of a transformer (`benches/ghosts/make_ghost.py --check` counts them), and the layouts that it is published
/// in.
const PUBLISHED: [(&str, Option<f64>, u64, &str); 17] = [
    ("tiny-wan-ti2v", None, 2_380_032, DIFFUSERS),
    ("tiny-wan", None, 2_380_032, DIFFUSERS),
    ("Wan2.1-T2V-1.3B", None, 1_418_996_800, BOTH),
    ("Wan2.1-T2V-14B", None, 14_288_491_584, BOTH),
    ("Wan2.1-I2V-14B-480P", None, 16_394_878_784, BOTH),
    ("Wan2.1-I2V-14B-720P", None, 16_394_878_784, BOTH),
    ("Wan2.1-FLF2V-14B-720P", None, 16_395_536_704, BOTH),
    ("Wan2.1-VACE-1.3B", None, 2_153_972_032, BOTH),
    ("Wan2.1-VACE-14B", None, 17_337_592_896, BOTH),
    ("Wan2.2-T2V-A14B", Some(0.875), 14_288_491_584, BOTH),
    ("Wan2.2-I2V-A14B", Some(0.9), 14_288_901_184, BOTH),
    ("Wan2.2-TI2V-5B", None, 4_999_787_712, BOTH),
    ("Wan2.1-Fun-1.3B-InP", None, 1_564_428_608, ORIGINAL),
    ("Wan2.1-Fun-14B-InP", None, 16_394_878_784, ORIGINAL),
    ("Wan2.1-Fun-1.3B-Control", None, 1_564_502_336, ORIGINAL),
    ("Wan2.1-Fun-14B-Control", None, 16_395_124_544, ORIGINAL),
    ("Lucy-Edit-Dev", None, 5_000_377_536, DIFFUSERS),
];
const BOTH: &str = "Diffusers, original";
const DIFFUSERS: &str = "Diffusers";
const ORIGINAL: &str = "original";

/// The kinds that run; all others are refused by name.
const RUN: [CheckpointKind; 15] = {
    use CheckpointKind::*;
    [
        TextToVideo,
        FastWan,
        TextToVideoExpert,
        ImageToVideo,
        ImageToVideoExpert,
        FirstLastFrame,
        TextImageToVideo,
        Vace,
        FunControl,
        LucyEdit,
        CausalAr,
        Umt5,
        Vae21,
        Vae22,
        Clip,
    ]
};

fn of_presets() -> String {
    let head = "model | task | size | frames | fps | steps | guidance | shift | experts | parameters | layouts";
    let mut table = format!("\n| {head} |\n|{}\n", "---|".repeat(11));
    for preset in presets::ALL {
        let name = preset.name;
        let row = PUBLISHED.iter().find(|row| row.0 == name).unwrap_or_else(|| panic!("{name}"));
        let (_, boundary, parameters, layouts) = *row;
        assert_eq!(boundary.is_some(), preset.two_experts, "{name}");
        let second = preset.guidance_scale_2.map(|scale| format!(", then {scale}"));
        let experts = boundary.map_or("1".into(), |boundary| format!("2, boundary {boundary}"));
        let cells = [
            name.to_string(),
            preset.task.to_string(),
            format!("{}x{}", preset.width, preset.height),
            preset.num_frames.to_string(),
            preset.fps.to_string(),
            preset.steps.to_string(),
            preset.guidance_scale.to_string() + &second.unwrap_or_default(),
            preset.flow_shift.map_or("of its config".into(), |shift| shift.to_string()),
            experts,
            in_words(parameters) + if boundary.is_some() { " each" } else { "" },
            layouts.to_string(),
        ];
        table += &format!("| {} |\n", cells.join(" | "));
    }
    table
}

fn in_words(parameters: u64) -> String {
    match parameters as f64 / 1e9 {
        billions if billions >= 1.0 => format!("{billions:.2} B"),
        billions => format!("{:.1} M", billions * 1e3),
    }
}

fn of_kinds() -> String {
    let mut table = String::from("\n| a file that holds | |\n|---|---|\n");
    for kind in CheckpointKind::ALL {
        let what = if RUN.contains(&kind) { "runs" } else { "refused by name" };
        table += &format!("| {kind} | {what} |\n");
    }
    table
}

#[test]
fn the_tables_are_those_of_the_library() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/models.md");
    let text = std::fs::read_to_string(path).unwrap().replace("\r\n", "\n");
    for (name, expected) in [("presets", of_presets()), ("kinds", of_kinds())] {
        let [begin, end] = ["begin", "end"].map(|place| format!("<!-- {name}: {place} -->\n"));
        let found = text.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
        let found = found.unwrap_or_else(|| panic!("{path} has no marks of {name}")).0;
        assert!(
            found == expected,
            "{path} must have this between the marks of {name}:\n{expected}"
        );
    }
}
