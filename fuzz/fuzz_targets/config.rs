//! No config makes a network or a scheduler panic: what is valid can be asked for all its tensors,
//! whose shapes must not overflow, or for a schedule, which must fall to its end.
//!
//! The input is the JSON of a config, or `{"config": {..}, "tensors": {"name": [1, 2]}}`: a
//! checkpoint, whose shapes tell what a config in the original layout does not.
#![no_main]

use std::collections::BTreeMap;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use serde::Deserialize;
use wan_core::noise::TorchGenerator;
use wan_core::scheduler::Steps;
use wan_fuzz::{Shapes, ask};
use wan_models::clip::{ClipConfig, ClipModel};
use wan_models::load::{NetworkConfig, TensorSource};
use wan_models::transformer::{OriginalConfig, WanTransformer, WanTransformerConfig};
use wan_models::umt5::{Umt5Config, Umt5Encoder};
use wan_models::vae::{WanVae, WanVaeConfig};
use wan_pipeline::backend::NdArray;
use wan_pipeline::{SchedulerConfig, SigmaGrid};

type Source = Arc<dyn TensorSource>;

#[derive(Deserialize)]
struct Checkpoint {
    config: Option<OriginalConfig>,
    tensors: BTreeMap<String, Vec<usize>>,
}

fuzz_target!(|json: &[u8]| {
    let none: Source = Arc::new(Shapes::default());
    if let Ok(config) = serde_json::from_slice(json) {
        ask_transformer(&config, &none);
    }
    if let Ok(config) = serde_json::from_slice(json) {
        ask_umt5(&config, &none);
    }
    if let Ok(config) = serde_json::from_slice(json) {
        ask_vae(&config, &none);
    }
    if let Ok(config) = serde_json::from_slice(json) {
        ask_clip(&config, &none);
    }
    if let Ok(config) = serde_json::from_slice(json) {
        schedule(&config);
    }
    if let Ok(Checkpoint { config, tensors }) = serde_json::from_slice(json) {
        infer(config.as_ref(), Arc::new(Shapes(tensors)));
    }
});

fn ask_transformer(config: &WanTransformerConfig, source: &Source) {
    if config.validate().is_ok() {
        ask::<WanTransformer<NdArray>>(source, config);
    }
}

fn ask_umt5(config: &Umt5Config, source: &Source) {
    if config.validate().is_ok() {
        ask::<Umt5Encoder<NdArray>>(source, config);
    }
}

fn ask_vae(config: &WanVaeConfig, source: &Source) {
    if config.validate().is_ok() {
        assert!(config.spatial_factor() > 0 && config.temporal_factor() > 0);
        ask::<WanVae<NdArray>>(source, config);
    }
}

fn ask_clip(config: &ClipConfig, source: &Source) {
    if config.validate().is_ok() {
        assert!(config.vision_config.tokens() > 1);
        ask::<ClipModel<NdArray>>(source, config);
    }
}

fn schedule(json: &serde_json::Value) {
    let Ok(config) = SchedulerConfig::from_json(json) else { return };
    for grid in [SigmaGrid::Wan, SigmaGrid::Diffusers] {
        for steps in [1, 4, 1000] {
            let Ok(schedule) = config.schedule(grid, &Steps::Count(steps), None) else { continue };
            let noise = TorchGenerator::new(0);
            let scheduler = config.scheduler::<NdArray>(&schedule, noise).expect("it was checked");
            let (sigmas, timesteps) = (scheduler.sigmas(), scheduler.timesteps());
            assert_eq!((sigmas.len(), timesteps.len()), (steps + 1, steps));
            assert!(sigmas.is_sorted_by(|a, b| a >= b), "{sigmas:?}");
            assert!(sigmas.iter().chain(timesteps).all(|value| value.is_finite()));
        }
    }
}

fn infer(original: Option<&OriginalConfig>, source: Source) {
    if let Ok(source) = WanTransformerConfig::canonical_names(source.clone()) {
        let config = match original.filter(|config| config.validate().is_ok()) {
            Some(config) => WanTransformerConfig::from_original(config, source.as_ref()),
            None => WanTransformerConfig::infer(source.as_ref()),
        };
        if let Ok(config) = config {
            ask_transformer(&config, &source);
        }
    }
    if let Ok(source) = Umt5Config::canonical_names(source.clone())
        && let Ok(config) = Umt5Config::infer(source.as_ref())
    {
        ask_umt5(&config, &source);
    }
    if let Ok(source) = ClipConfig::canonical_names(source.clone())
        && let Ok(config) = ClipConfig::infer(source.as_ref())
    {
        ask_clip(&config, &source);
    }
    if let Ok(source) = WanVaeConfig::canonical_names(source)
        && let Ok(config) = WanVaeConfig::infer(source.as_ref())
    {
        ask_vae(&config, &source);
    }
}
