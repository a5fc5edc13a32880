//! UniPC and Euler on the grid of diffusers.

use std::path::Path;

use burn::tensor::Tensor;
use serde_json::Value;
use wan_core::Backend;
use wan_core::scheduler::{SigmaGrid, Steps};
use wan_pipeline::SchedulerConfig;

use crate::fixture::{Array, Fixture, compare, folders_of, json};

pub fn is_kind(folder: &Path) -> bool {
    json(&folder.join("config.json"))["cases"][0]["scheduler_config"].is_object()
}

pub fn trajectories<B: Backend>(backend: &str) {
    for folder in folders_of("schedulers", is_kind) {
        let fixture = Fixture::open(&folder);
        let config = json(&folder.join("config.json"));
        let mut checked = 0;
        for case in config["cases"].as_array().expect("a list of cases") {
            let name = case["case"].as_str().expect("a name");
            match SchedulerConfig::from_json(&case["scheduler_config"]) {
                Ok(scheduler) => check::<B>(backend, &fixture, name, case, &scheduler),
                Err(error) => {
                    assert!(is_unsupported(case), "{name}: {error}");
                    println!("{backend:8} {name:60} not supported: {error}");
                    continue;
                }
            }
            checked += 1;
        }
        assert!(checked > 0);
    }
}

/// Classes that are not there yet.
pub fn is_unsupported(case: &Value) -> bool {
    let class = case["class"].as_str().expect("a class");
    !["UniPCMultistepScheduler", "FlowMatchEulerDiscreteScheduler"].contains(&class)
}

fn check<B: Backend>(
    backend: &str,
    fixture: &Fixture,
    name: &str,
    case: &Value,
    config: &SchedulerConfig,
) {
    let arguments = &case["set_timesteps"];
    let sigmas: Option<Vec<f64>> =
        arguments["sigmas"].as_array().map(|s| s.iter().map(|v| v.as_f64().unwrap()).collect());
    let steps = match &sigmas {
        Some(sigmas) => Steps::Sigmas(sigmas),
        None => Steps::Count(arguments["num_inference_steps"].as_u64().unwrap() as usize),
    };
    let mu = arguments["mu"].as_f64();
    let mut scheduler = config.build::<B>(SigmaGrid::Diffusers, steps, mu).unwrap();

    let vector = |values: &[f32]| Array {
        shape: vec![values.len()],
        values: values.iter().map(|&v| f64::from(v)).collect(),
    };
    let timesteps = vector(scheduler.timesteps());
    let expected = fixture.outputs.get(&format!("{name}.timesteps"));
    if config.kind == wan_pipeline::SchedulerKind::UniPc {
        assert_eq!(timesteps.values, expected.values, "{name}.timesteps");
    } else {
        compare(backend, &format!("{name}.timesteps"), &timesteps, expected, (1e-4, 1e-6));
    }
    let expected = fixture.outputs.get(&format!("{name}.sigmas"));
    compare(backend, &format!("{name}.sigmas"), &vector(scheduler.sigmas()), expected, (1e-6, 0.0));

    let device = B::open_device(0).unwrap();
    let mut sample: Tensor<B, 5> = fixture.inputs.get("initial_sample").tensor(&device);
    let trajectory = fixture.outputs.get(&format!("{name}.trajectory"));
    let tolerance = if config.unipc.solver_order == 3 { (5e-5, 5e-5) } else { fixture.tolerance() };
    let mut steps = Vec::new();
    for &t in &timesteps.values {
        let velocity = sample.clone().tanh() * 0.3 + 0.1 * (t / 1000.0).sin();
        sample = scheduler.step(velocity, sample);
        let values = Array::of(sample.clone()).values;
        assert!(values.iter().all(|v| v.is_finite()), "{name}: a step is not finite");
        steps.extend(values);
    }
    // The reference's trajectory ends where it becomes NaN.
    steps.truncate(trajectory.values.len());
    let found = Array { shape: trajectory.shape.clone(), values: steps };
    compare(backend, &format!("{name}.trajectory"), &found, trajectory, tolerance);
}

/// The original's grid: first sigma, last timestep and number of timesteps that differ from
/// diffusers', computed with the original's scheduler.
#[test]
fn grid_of_the_original() {
    type B = burn::backend::Flex;
    for (steps, shift, first, last, differ) in [
        (50, 3.0, 0.999666, 57.0, 40),
        (50, 5.0, 0.999800, 92.0, 27),
        (30, 8.0, 0.999875, 216.0, 16),
        (4, 5.0, 0.999800, 624.0, 1),
    ] {
        let config = SchedulerConfig { shift, ..SchedulerConfig::default() };
        let build = |grid| config.build::<B>(grid, Steps::Count(steps), None).unwrap();
        let (wan, diffusers) = (build(SigmaGrid::Wan), build(SigmaGrid::Diffusers));
        assert!((wan.sigmas()[0] - first).abs() < 1e-6, "first sigma {}", wan.sigmas()[0]);
        assert_eq!(*wan.timesteps().last().unwrap(), last);
        assert_eq!([wan.timesteps().len(), diffusers.timesteps().len()], [steps; 2]);
        let pairs = wan.timesteps().iter().zip(diffusers.timesteps());
        assert_eq!(pairs.filter(|(a, b)| a != b).count(), differ, "{steps} steps, shift {shift}");
    }
}
