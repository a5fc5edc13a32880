//! The parity suite: every stage against numbers of the reference implementations.
//!
//! Each test looks through all folders of the fixtures' root (`tests/fixtures`, or `WAN_FIXTURES` if
//! set), takes those of its kind and finds its cases by config, `meta.json` and tensor names. It
//! prints the largest error of each tensor beside its tolerance. Folders of a kind that is not
//! supported yet are listed by name.

mod agreement;
mod clip;
mod clip_layouts;
mod conditions;
mod dit;
mod drawn;
mod fixture;
mod guidance;
mod miniature;
mod original_layout;
mod original_transformers;
mod pipeline;
mod rng;
mod schedulers;
mod tokenizer;
mod tolerance;
mod umt5;
mod vae;

/// One test a backend for each of the functions, which are generic over it.
macro_rules! on_each_backend {
    ($($test:ident: $module:ident::$function:ident;)*) => {
        mod flex {
            $(#[test] fn $test() { crate::$module::$function::<burn::backend::Flex>("flex"); })*
        }
        mod ndarray {
            $(#[test] fn $test() { crate::$module::$function::<burn::backend::NdArray<f32>>("ndarray"); })*
        }
        #[cfg(feature = "wgpu")]
        mod wgpu {
            use wan_pipeline::backend::Wgpu;
            $(#[test] fn $test() {
                if crate::is_there::<Wgpu>("WAN_REQUIRE_WGPU") {
                    crate::$module::$function::<Wgpu>("wgpu");
                }
            })*
        }
        #[cfg(feature = "cuda")]
        mod cuda {
            use wan_pipeline::backend::Cuda;
            $(#[test] fn $test() {
                if crate::is_there::<Cuda>("WAN_REQUIRE_CUDA") {
                    crate::$module::$function::<Cuda>("cuda");
                }
            })*
        }
    };
}

on_each_backend! {
    umt5: umt5::hidden_states;
    umt5_half: umt5::half_precision;
    umt5_large_activations: umt5::large_activations;
    umt5_too_large: umt5::too_large;
    umt5_residencies: umt5::residencies;
    dit: dit::velocity;
    dit_residencies: dit::residencies;
    dit_half: dit::half_precision;
    vae: vae::round_trip;
    vae_half: vae::half_precision;
    vae_half_cache: vae::half_cache;
    schedulers: schedulers::trajectories;
    schedulers_noise: schedulers::noise;
    schedulers_few_steps: schedulers::few_steps;
    guidance: guidance::predictions;
    pipeline: pipeline::videos;
    pipeline_v2v: pipeline::videos_from_videos;
    miniature: miniature::videos;
    pipeline_half: pipeline::half_precision;
    agreement: agreement::with_flex;
    original_transformer: original_layout::transformer;
    original_text_encoder: original_layout::text_encoder;
    original_vae: original_layout::vae;
    original_vae_of_wan22: original_layout::vae_of_wan22;
    original_transformers: original_transformers::velocity;
    clip_text: clip::text;
    clip_xlm_roberta: clip::xlm_roberta;
    clip_vision: clip::vision;
    clip_condition_of_images: clip::condition_of_images;
    conditions_of_images: conditions::of_images;
    conditions_of_both_images: conditions::of_both_images;
    clip_half: clip::half_precision;
    clip_residencies: clip::residencies;
    clip_miniature: clip::miniature_towers;
    clip_miniature_half: clip::miniature_half;
    clip_layouts_vision: clip_layouts::vision_tower;
    clip_layouts_text: clip_layouts::text_tower;
    clip_layouts_xlm_roberta: clip_layouts::xlm_roberta;
    clip_layouts_both: clip_layouts::both_towers;
}

/// Whether a device of the backend is there. If not, the test says so and skips; with the variable
/// `required` set to 1 that is a failure.
#[cfg(any(feature = "wgpu", feature = "cuda"))]
fn is_there<B: wan_pipeline::Backend>(required: &str) -> bool {
    match B::open_device(0) {
        Ok(_) => true,
        Err(error) if std::env::var(required).is_ok_and(|value| value == "1") => {
            panic!("{required} is set, but {error}")
        }
        Err(error) => {
            println!("skipped: {error}");
            false
        }
    }
}

/// What is not covered is said, and what must be covered is.
#[test]
fn every_folder_is_covered_or_listed() {
    let mut covered = Vec::new();
    for folder in fixture::folders() {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let config = fixture::json(&folder.join("config.json"));
        let index = fixture::json(&folder.join("model/model_index.json"));
        let reason = match (config["_class_name"].as_str(), index["_class_name"].as_str()) {
            (Some("WanTransformer3DModel" | "WanVACETransformer3DModel"), _) => {
                dit::unsupported(&folder)
            }
            (Some("AutoencoderKLWan"), _) => vae::unsupported(&folder),
            (_, Some(_)) => pipeline::unsupported(&folder),
            _ if original_layout::is_kind(&folder) => None,
            _ if umt5::is_kind(&folder)
                || clip::is_kind(&folder)
                || clip::is_miniature(&folder)
                || schedulers::is_kind(&folder)
                || schedulers::is_few_step(&folder)
                || guidance::is_kind(&folder)
                || pipeline::is_video_to_video(&folder)
                || miniature::is_kind(&folder)
                || tokenizer::is_kind(&folder)
                || rng::is_kind(&folder) =>
            {
                None
            }
            (Some(class), _) => Some(format!("{class} is not supported yet")),
            _ => Some("no kind that is supported yet".into()),
        };
        match reason {
            None => covered.push(name),
            Some(reason) => println!("not supported: {name}: {reason}"),
        }
    }
    println!("covered: {}", covered.join(", "));
    let root = fixture::root();
    for name in [
        "clip_text",
        "tiny_clip",
        "umt5",
        "dit_t2v",
        "dit_t2v_variant",
        "dit_i2v",
        "dit_flf2v",
        "dit_ti2v",
        "dit_vace",
        "vae21",
        "vae22",
        "vae_wide",
        "schedulers",
        "guidance",
        "few_step",
        "torch_rng",
        "tokenizer",
        "pipeline_t2v",
        "pipeline_v2v",
        "pipeline_i2v",
        "pipeline_ti2v",
        "pipeline_two_expert",
        "tiny_ti2v",
        "original_layout",
    ] {
        let there = root.join(name).is_dir();
        assert!(!there || covered.iter().any(|c| c == name), "{name} must be covered");
    }
}
