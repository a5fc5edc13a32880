//! Schedulers on the grid of diffusers, and those of models distilled to few steps.

use std::path::Path;

use burn::tensor::Tensor;
use serde_json::Value;
use wan_core::noise::TorchGenerator;
use wan_core::scheduler::{
    FlowSchedule, Scheduler, SchedulerConfig, SchedulerKind, SigmaGrid, Steps, add_noise,
};
use wan_core::{Backend, BurnBackend};

use crate::fixture::{Array, Fixture, compare, folders_of, json};

pub fn is_kind(folder: &Path) -> bool {
    json(&folder.join("config.json"))["cases"][0]["scheduler_config"].is_object()
}

pub fn is_few_step(folder: &Path) -> bool {
    let cases = &json(&folder.join("meta.json"))["cases"];
    let lcm = |case: &Value| case["kind"] == "lcm" && case["set_timesteps"].is_object();
    cases.as_object().is_some_and(|cases| cases.values().any(lcm))
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

/// Wan has no dynamic shifting.
fn is_unsupported(case: &Value) -> bool {
    case["scheduler_config"]["use_dynamic_shifting"] == true
}

fn check<B: Backend>(
    backend: &str,
    fixture: &Fixture,
    name: &str,
    case: &Value,
    config: &SchedulerConfig,
) {
    assert_eq!(case["class"], config.kind.class(), "{name}");
    let schedule = schedule(config, &case["set_timesteps"]);
    check_schedule(backend, fixture, name, config.kind, &schedule);
    let seed = fixture.meta["seeds"]["lcm_generator"].as_u64().expect("a seed");
    let mut scheduler = config.scheduler::<B>(&schedule, TorchGenerator::new(seed)).unwrap();
    assert_eq!(scheduler.timesteps(), schedule.timesteps);
    assert_eq!(scheduler.sigmas(), schedule.sigmas);

    let device = B::open_device(0).unwrap();
    let sample: Tensor<B, 5> = fixture.inputs.get("initial_sample").tensor(&device);
    let trajectory = fixture.outputs.get(&format!("{name}.trajectory"));
    let tolerance =
        if config.solver_order == 3 { (5e-5, 5e-5) } else { fixture.tolerance(backend, name) };
    let mut steps = run(scheduler.as_mut(), sample, |_| 0.0);
    assert!(steps.iter().all(|v| v.is_finite()), "{name}: a step is not finite");
    // The reference's trajectory ends where it becomes NaN.
    steps.truncate(trajectory.values.len());
    let found = Array { shape: trajectory.shape.clone(), values: steps };
    compare(backend, &format!("{name}.trajectory"), &found, trajectory, tolerance);
}

/// The schedule that the arguments of `set_timesteps` ask for.
fn schedule(config: &SchedulerConfig, arguments: &Value) -> FlowSchedule {
    let number = |value: &Value| value.as_f64().expect("a number");
    let steps = match arguments["sigmas"].as_array() {
        Some(sigmas) => Steps::Sigmas(sigmas.iter().map(number).collect()),
        None => Steps::Count(arguments["num_inference_steps"].as_u64().unwrap() as usize),
    };
    config.schedule(SigmaGrid::Diffusers, &steps, None).unwrap()
}

/// Timesteps and sigmas, of which a fixture may leave out the last one (0).
fn check_schedule(
    backend: &str,
    fixture: &Fixture,
    name: &str,
    kind: SchedulerKind,
    schedule: &FlowSchedule,
) {
    let vector = |values: &[f32]| Array {
        shape: vec![values.len()],
        values: values.iter().map(|&v| f64::from(v)).collect(),
    };
    let timesteps = vector(&schedule.timesteps);
    let expected = fixture.outputs.get(&format!("{name}.timesteps"));
    if matches!(kind, SchedulerKind::UniPc | SchedulerKind::DpmPlusPlus) {
        assert_eq!(timesteps.values, expected.values, "{name}.timesteps");
    } else {
        compare(backend, &format!("{name}.timesteps"), &timesteps, expected, (1e-4, 1e-6));
    }
    let expected = fixture.outputs.get(&format!("{name}.sigmas"));
    let sigmas = vector(&schedule.sigmas[..expected.values.len()]);
    assert!(expected.values.len() >= schedule.timesteps.len(), "{name}.sigmas");
    compare(backend, &format!("{name}.sigmas"), &sigmas, expected, (1e-6, 0.0));
}

/// The samples after each step of the fake model of the fixtures, to which `more` adds something
/// in each step.
fn run<B: BurnBackend>(
    scheduler: &mut dyn Scheduler<B>,
    mut sample: Tensor<B, 5>,
    more: impl Fn(usize) -> f64,
) -> Vec<f64> {
    let mut steps = Vec::new();
    for (step, t) in scheduler.timesteps().to_vec().into_iter().enumerate() {
        let level = 0.1 * (f64::from(t) / 1000.0).sin() + more(step);
        let velocity = sample.clone().tanh() * 0.3 + level;
        sample = scheduler.step(velocity, sample);
        steps.extend(Array::of(sample.clone()).values);
    }
    steps
}

/// Noise that is added to a clean sample, where a run with a strength begins.
pub fn noise<B: Backend>(backend: &str) {
    for folder in folders_of("schedulers", is_kind) {
        let fixture = Fixture::open(&folder);
        let device = B::open_device(0).unwrap();
        let input = |name| -> Tensor<B, 5> { fixture.inputs.get(name).tensor(&device) };
        for (name, kind) in [
            ("add_noise.unipc", SchedulerKind::UniPc),
            ("add_noise.dpm", SchedulerKind::DpmPlusPlus),
            ("scale_noise.euler", SchedulerKind::Euler),
        ] {
            let config = SchedulerConfig::new(kind).with_flow_shift(3.0);
            let steps = Steps::Count(8);
            let schedule = config.schedule(SigmaGrid::Diffusers, &steps, Some(5.0 / 8.0)).unwrap();
            assert_eq!(schedule.start, 3);
            let sigma = f64::from(schedule.run_sigmas()[0]);
            let noised = add_noise(input("initial_sample"), input("noise"), sigma);
            fixture.check(backend, &format!("{name}.N8.index3"), &Array::of(noised));
        }
    }
}

pub fn few_steps<B: Backend>(backend: &str) {
    for folder in folders_of("few steps", is_few_step) {
        let fixture = Fixture::open(&folder);
        let mut checked = 0;
        for (name, case) in fixture.meta["cases"].as_object().expect("cases") {
            let kind = match case["kind"].as_str() {
                Some("euler") => SchedulerKind::Euler,
                Some("lcm") => SchedulerKind::Lcm,
                Some(kind) => {
                    println!("{backend:8} {name:60} not supported: {kind}");
                    continue;
                }
                None => continue, // a table, not a run
            };
            check_few_steps::<B>(backend, &fixture, name, case, kind);
            checked += 1;
        }
        assert!(checked > 0);
    }
}

fn check_few_steps<B: Backend>(
    backend: &str,
    fixture: &Fixture,
    name: &str,
    case: &Value,
    kind: SchedulerKind,
) {
    let config = SchedulerConfig::new(kind).with_flow_shift(case["shift"].as_f64().unwrap());
    let schedule = match case["rungs"].as_array() {
        // Thousandths of the unshifted noise level.
        Some(rungs) => {
            let sigmas = rungs.iter().map(|rung| rung.as_f64().unwrap() / 1000.0).collect();
            config.schedule(SigmaGrid::Wan, &Steps::Sigmas(sigmas), None).unwrap()
        }
        None => self::schedule(&config, &case["set_timesteps"]),
    };
    check_schedule(backend, fixture, name, kind, &schedule);
    let device = B::open_device(0).unwrap();
    let sample: Tensor<B, 5> = fixture.inputs.get("initial_latents").tensor(&device);
    let mut scheduler = config.scheduler::<B>(&schedule, generator(fixture)).unwrap();
    // The fixture's second expert is the first one and a little more.
    let second = case["first_step_of_the_low_noise_expert"].as_u64().map(|step| step as usize);
    let more = |step| if second.is_some_and(|second| step >= second) { 0.05 } else { 0.0 };
    let expected = fixture.outputs.get(&format!("{name}.latents"));
    let values = run(scheduler.as_mut(), sample, more);
    fixture.check(
        backend,
        &format!("{name}.latents"),
        &Array { shape: expected.shape.clone(), values },
    );
}

/// The generator that has drawn the start noise, and that the fixture's other noise comes from.
fn generator(fixture: &Fixture) -> TorchGenerator {
    let seed = fixture.meta["seeds"]["latents_and_noises"].as_u64().expect("a seed");
    let mut generator = TorchGenerator::new(seed);
    let start = fixture.inputs.get("initial_latents");
    generator.randn(start.values.len());
    generator
}

/// The original's grid: first sigma, last timestep and number of timesteps that differ from
/// diffusers', computed with the original's scheduler.
#[test]
fn grid_of_the_original() {
    for (steps, shift, first, last, differ) in [
        (50, 3.0, 0.999666, 57.0, 40),
        (50, 5.0, 0.999800, 92.0, 27),
        (30, 8.0, 0.999875, 216.0, 16),
        (4, 5.0, 0.999800, 624.0, 1),
    ] {
        let config = SchedulerConfig::default().with_flow_shift(shift);
        let make = |grid| config.schedule(grid, &Steps::Count(steps), None).unwrap();
        let (wan, diffusers) = (make(SigmaGrid::Wan), make(SigmaGrid::Diffusers));
        assert!((wan.sigmas[0] - first).abs() < 1e-6, "first sigma {}", wan.sigmas[0]);
        assert_eq!(*wan.timesteps.last().unwrap(), last);
        assert_eq!([wan.timesteps.len(), diffusers.timesteps.len()], [steps; 2]);
        let pairs = wan.timesteps.iter().zip(&diffusers.timesteps);
        assert_eq!(pairs.filter(|(a, b)| a != b).count(), differ, "{steps} steps, shift {shift}");
    }
}
