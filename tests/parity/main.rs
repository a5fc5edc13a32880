//! The parity suite: every stage against numbers of the reference implementations.
//!
//! Each test looks through all folders of the fixtures' root (`tests/fixtures`, or `WAN_FIXTURES` if
//! set), takes those of its kind and finds its cases by config, `meta.json` and tensor names. It
//! prints the largest error of each tensor beside its tolerance. Folders of a kind that is not
//! supported yet are listed by name.

mod dit;
mod fixture;
mod original_layout;
mod pipeline;
mod rng;
mod schedulers;
mod tokenizer;
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
    };
}

on_each_backend! {
    umt5: umt5::hidden_states;
    dit: dit::velocity;
    dit_bf16: dit::bf16;
    vae: vae::round_trip;
    schedulers: schedulers::trajectories;
    pipeline: pipeline::videos;
    original_transformer: original_layout::transformer;
    original_text_encoder: original_layout::text_encoder;
    original_vae: original_layout::vae;
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
            (Some("WanTransformer3DModel"), _) => dit::unsupported(&folder),
            (Some("AutoencoderKLWan"), _) => vae::unsupported(&folder),
            (_, Some(_)) => pipeline::unsupported(&folder),
            _ if original_layout::is_kind(&folder) => None,
            _ if umt5::is_kind(&folder)
                || schedulers::is_kind(&folder)
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
        "umt5",
        "dit_t2v",
        "dit_t2v_variant",
        "vae21",
        "schedulers",
        "torch_rng",
        "tokenizer",
        "pipeline_t2v",
        "original_layout",
    ] {
        let there = root.join(name).is_dir();
        assert!(!there || covered.iter().any(|c| c == name), "{name} must be covered");
    }
}
