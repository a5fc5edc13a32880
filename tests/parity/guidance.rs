//! Rules of guidance over the steps of a run, sample by sample.

use std::path::Path;

use burn::tensor::Tensor;
use serde_json::Value;
use wan_core::Backend;
use wan_core::guidance::{
    Apg, Cfg, CfgZeroStar, Guidance, GuidanceRule, Passes, Predictions, Schedule,
};

use crate::fixture::{Array, Fixture, folders_of, json};

pub fn is_kind(folder: &Path) -> bool {
    json(&folder.join("meta.json"))["cases"]["cfg"]["unconditional_pass_needed"].is_array()
}

pub fn predictions<B: Backend>(backend: &str) {
    for folder in folders_of("guidance", is_kind) {
        let fixture = Fixture::open(&folder);
        let cases = fixture.meta["cases"].as_object().expect("cases");
        assert!(!cases.is_empty());
        for (name, case) in cases {
            let expected = fixture.outputs.get(&format!("{name}.pred"));
            let found =
                Array { shape: expected.shape.clone(), values: run::<B>(&fixture, name, case) };
            fixture.check(backend, &format!("{name}.pred"), &found);
        }
    }
}

/// The guided predictions of all steps and samples, `[N, B, C, T, H, W]`.
fn run<B: Backend>(fixture: &Fixture, name: &str, case: &Value) -> Vec<f64> {
    let [steps, samples] = fixture.inputs.get("pred_cond").shape[..2] else { panic!("no steps") };
    let mut predictions = vec![Vec::new(); steps * samples];
    for sample in 0..samples {
        let guidance = guidance(case, sample);
        let mut guide = guidance.guide::<B>(steps).unwrap();
        for step in 0..steps {
            let passes = guide.passes(step);
            let needed = needs_unconditional(case, sample, step);
            assert_eq!(passes == Passes::Both, needed, "{name}: sample {sample}, step {step}");
            let guided = guide.combine(step, inputs(fixture, passes, step, sample));
            predictions[step * samples + sample] = Array::of(guided).values;
        }
    }
    predictions.concat()
}

fn guidance(case: &Value, sample: usize) -> Guidance {
    let number = |name: &str| case[name].as_f64();
    let zero_init_steps = || case["zero_init_steps"].as_u64().expect("zero_init_steps") as usize;
    let rule: GuidanceRule = match case["kind"].as_str() {
        Some("cfg") => Cfg::default().into(),
        Some("zero_star") => CfgZeroStar { zero_init_steps: zero_init_steps() }.into(),
        Some("apg") => Apg {
            eta: number("eta").expect("eta"),
            momentum: number("momentum").unwrap_or(0.0),
            norm_threshold: number("norm_threshold").unwrap_or(0.0),
            clean: case["space"] == "x0",
        }
        .into(),
        kind => panic!("no rule {kind:?}"),
    };
    let guidance =
        Guidance::new(rule, scale(case, sample)).rescale(number("rescale").unwrap_or(0.0));
    match (number("start"), number("stop")) {
        (Some(start), Some(stop)) => guidance.interval(start, stop),
        _ => guidance,
    }
}

/// One number, one a step, or one a sample.
fn scale(case: &Value, sample: usize) -> Schedule {
    let number = |value: &Value| value.as_f64().expect("a scale");
    match &case["scale"] {
        Value::Array(scales) if case["per_sample"] == true => number(&scales[sample]).into(),
        Value::Array(scales) => scales.iter().map(number).collect::<Vec<_>>().into(),
        scale => number(scale).into(),
    }
}

fn needs_unconditional(case: &Value, sample: usize, step: usize) -> bool {
    let needed = &case["unconditional_pass_needed"];
    let needed = if case["per_sample"] == true { &needed[sample][step] } else { &needed[step] };
    needed.as_bool().expect("a flag for each step")
}

/// What the guide asked for, and no more.
fn inputs<B: Backend>(
    fixture: &Fixture,
    passes: Passes,
    step: usize,
    sample: usize,
) -> Predictions<B> {
    let device = B::open_device(0).unwrap();
    let one = |name: &str| -> Tensor<B, 5> {
        let all: Tensor<B, 6> = fixture.inputs.get(name).tensor(&device);
        all.slice([step..step + 1, sample..sample + 1]).squeeze_dim(0)
    };
    Predictions {
        conditional: (passes != Passes::Neither).then(|| one("pred_cond")),
        unconditional: (passes == Passes::Both).then(|| one("pred_uncond")),
        sample: one("sample"),
        sigma: fixture.inputs.get("sigmas").values[step],
    }
}
