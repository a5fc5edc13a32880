use serde_json::json;

use super::*;

fn config(kind: SchedulerKind) -> SchedulerConfig {
    SchedulerConfig::new(kind).with_flow_shift(3.0)
}

fn schedule(kind: SchedulerKind, steps: Steps) -> Result<FlowSchedule, ScheduleError> {
    config(kind).schedule(SigmaGrid::Wan, &steps, None)
}

#[test]
fn kinds_are_read_and_written_alike() {
    for kind in SchedulerKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
        let json = serde_json::to_string(&kind).unwrap();
        assert_eq!(json, format!("{:?}", kind.name()));
        assert_eq!(serde_json::from_str::<SchedulerKind>(&json).unwrap(), kind);
    }
    let error = "heun".parse::<SchedulerKind>().unwrap_err().to_string();
    assert!(error.contains("\"heun\"") && error.contains("\"dpm++\" or \"lcm\""), "{error}");
}

#[test]
fn a_config_survives_json() {
    for kind in SchedulerKind::ALL {
        let config = SchedulerConfig { solver_order: 3, ..config(kind) };
        let json = serde_json::to_value(&config).unwrap();
        assert_eq!(json["_class_name"], kind.class());
        assert_eq!(SchedulerConfig::from_json(&json).unwrap(), config);
    }
}

/// What is left out has diffusers' defaults, which for the multistep schedulers are not a flow.
#[test]
fn fields_that_are_left_out_have_the_defaults_of_diffusers() {
    let euler = json!({"_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 5});
    let euler = SchedulerConfig::from_json(&euler).unwrap();
    assert_eq!((euler.kind, euler.flow_shift()), (SchedulerKind::Euler, 5.0));
    // A config that was made from one of another class keeps that one's fields.
    let both = json!({
        "_class_name": "FlowMatchEulerDiscreteScheduler", "shift": 5, "flow_shift": 3, "solver_type": "bh2",
    });
    assert_eq!(SchedulerConfig::from_json(&both).unwrap().flow_shift(), 5.0);
    // Null is the same as left out, and what no method reads may be anything.
    let nulls = json!({
        "_class_name": "FlowMatchEulerDiscreteScheduler", "shift": null, "solver_order": null,
        "disable_corrector": null, "lower_order_final": null, "use_karras_sigmas": null,
        "final_sigmas_type": null, "solver_type": null, "lambda_min_clipped": "-Infinity",
    });
    let left_out = json!({"_class_name": "FlowMatchEulerDiscreteScheduler"});
    let read = |json| SchedulerConfig::from_json(json).unwrap();
    assert_eq!(read(&nulls), read(&left_out));
    let unipc = json!({"_class_name": "UniPCMultistepScheduler"});
    let error = SchedulerConfig::from_json(&unipc).unwrap_err();
    assert_eq!(error.field, "prediction_type");
}

#[test]
fn options_that_would_change_the_schedule_are_refused() {
    for (class, field, value, expected) in [
        ("DPMSolverMultistepScheduler", "algorithm_type", json!("sde-dpmsolver++"), "dpmsolver++"),
        ("DPMSolverMultistepScheduler", "solver_type", json!("bh2"), "\"midpoint\" or \"heun\""),
        ("DPMSolverMultistepScheduler", "use_lu_lambdas", json!(true), "false"),
        ("DPMSolverMultistepScheduler", "solver_order", json!(4), "1, 2 or 3"),
        ("UniPCMultistepScheduler", "solver_type", json!("heun"), "\"bh1\" or \"bh2\""),
        ("UniPCMultistepScheduler", "predict_x0", json!(false), "true"),
        ("UniPCMultistepScheduler", "final_sigmas_type", json!("none"), "\"zero\" or"),
        ("UniPCMultistepScheduler", "use_dynamic_shifting", json!(true), "false"),
        ("FlowMatchLCMScheduler", "scale_factors", json!(vec![0.5]), "null"),
        ("FlowMatchLCMScheduler", "shift", json!(0), "more than 0"),
        ("FlowMatchLCMScheduler", "shift_terminal", json!(1), "less than 1"),
        ("FlowMatchEulerDiscreteScheduler", "stochastic_sampling", json!(true), "false"),
        ("DDIMScheduler", "_class_name", json!("DDIMScheduler"), "\"FlowMatchLCMScheduler\""),
    ] {
        let mut json = json!({
            "_class_name": class, "prediction_type": "flow_prediction", "use_flow_sigmas": true,
        });
        json[field] = value;
        let error = SchedulerConfig::from_json(&json).expect_err(field).to_string();
        assert!(error.contains(field) && error.contains(expected), "{class} {field}: {error}");
    }
}

#[test]
fn steps_out_of_range_are_refused() {
    let nan = f64::NAN;
    for kind in SchedulerKind::ALL {
        for (steps, says) in [
            (Steps::Count(0), "steps is 0, but must be 1 to 1000"),
            (Steps::Count(1001), "steps is 1001, but"),
            (Steps::Sigmas(vec![]), "steps is 0, but"),
            (Steps::Sigmas(vec![0.5; 1001]), "steps is 1001, but"),
            (Steps::Sigmas(vec![1.0, nan]), "sigma is NaN, but must be more than 0 and at most 1"),
            (Steps::Sigmas(vec![1.5]), "sigma is 1.5, but"),
            (Steps::Sigmas(vec![1.0, 0.0]), "sigma is 0, but"),
            (Steps::Sigmas(vec![0.5, 0.75]), "sigma 1 is"),
            (Steps::Sigmas(vec![0.5, 0.5]), "sigma 1 is"),
            (Steps::Timesteps(vec![]), "steps is 0, but"),
            (Steps::Timesteps(vec![nan]), "timestep is NaN, but must be more than 0 and at most"),
            (Steps::Timesteps(vec![1000.5]), "timestep is 1000.5, but"),
            (Steps::Timesteps(vec![500.0, -1.0]), "timestep is -1, but"),
            (Steps::Timesteps(vec![500.0, 750.0]), "sigma 1 is 0.75, but"),
        ] {
            let error = schedule(kind, steps).expect_err(says).to_string();
            assert!(error.contains(says), "{kind}: {error} does not say {says:?}");
        }
        for shift in [f64::NAN, f64::INFINITY, 0.0, -3.0] {
            let config = SchedulerConfig::new(kind).with_flow_shift(shift);
            let error = config.schedule(SigmaGrid::Wan, &Steps::Count(4), None).unwrap_err();
            assert!(error.to_string().contains("shift"), "{error}");
        }
        for shift in [1e-300, 1e12] {
            let config = SchedulerConfig::new(kind).with_flow_shift(shift);
            let error = config.schedule(SigmaGrid::Wan, &Steps::Count(4), None).unwrap_err();
            assert!(matches!(error, ScheduleError::NotFalling { .. }), "{kind} {shift}: {error}");
        }
    }
}

/// The steps of diffusers' video-to-video pipeline: `int(N * strength)` at the end.
#[test]
fn a_strength_runs_the_last_steps() {
    let start = |steps, strength| {
        let config = config(SchedulerKind::UniPc);
        let schedule = config.schedule(SigmaGrid::Diffusers, &Steps::Count(steps), Some(strength));
        schedule.map(|schedule| {
            assert_eq!(schedule.run_sigmas().len(), schedule.run_timesteps().len() + 1);
            (schedule.start, schedule.run_timesteps().to_vec())
        })
    };
    assert_eq!(start(6, 0.6).unwrap(), (3, vec![750.0, 600.0, 376.0]));
    assert_eq!(start(6, 1.0).unwrap().0, 0);
    assert_eq!(start(50, 0.58).unwrap().0, 22); // 0.58 * 50 is a little less than 29
    for (strength, says) in [
        (0.0, "strength is 0, but must be more than 0 and at most 1"),
        (-0.5, "strength is -0.5, but"),
        (1.1, "strength is 1.1, but"),
        (f64::NAN, "strength is NaN, but"),
        (0.1, "strength is 0.1, which leaves none of the 6 steps"),
    ] {
        let error = start(6, strength).unwrap_err().to_string();
        assert!(error.contains(says), "{error} does not say {says:?}");
    }
}

#[test]
fn timesteps_of_ones_own_are_taken_as_they_are() {
    let own = vec![1000.0, 757.5, 522.0];
    for kind in SchedulerKind::ALL {
        let schedule = schedule(kind, Steps::Timesteps(own.clone())).unwrap();
        assert_eq!(schedule.timesteps, [1000.0, 757.5, 522.0], "{kind}");
        assert_eq!(schedule.sigmas[1..], [0.7575, 0.522, 0.0], "{kind}");
        assert!((schedule.sigmas[0] - 1.0).abs() < 2e-6, "{kind}");
    }
}

/// A single level would be both the first, from pure noise, and the last.
#[test]
fn one_step_is_not_stretched() {
    for kind in SchedulerKind::ALL {
        for grid in [SigmaGrid::Wan, SigmaGrid::Diffusers] {
            for steps in [Steps::Count(1), Steps::Sigmas(vec![1.0])] {
                let plain = config(kind).schedule(grid, &steps, None).unwrap();
                let stretched = SchedulerConfig { shift_terminal: Some(0.02), ..config(kind) };
                let stretched = stretched.schedule(grid, &steps, None).unwrap();
                assert_eq!(stretched, plain, "{kind} {grid:?} {steps:?}");
                assert!(plain.sigmas[0] > 0.99, "{plain:?}");
            }
            let two = SchedulerConfig { shift_terminal: Some(0.02), ..config(kind) };
            let two = two.schedule(grid, &Steps::Count(2), None).unwrap();
            assert!((two.sigmas[1] - 0.02).abs() < 1e-6, "{two:?}");
        }
    }
}

/// DPM++ of the original starts at 1 and UniPC at 0.999, both before the shift.
#[test]
fn the_grid_of_the_original_depends_on_the_method() {
    let first = |kind| schedule(kind, Steps::Count(4)).unwrap().sigmas[0];
    assert_eq!(first(SchedulerKind::DpmPlusPlus), 1.0);
    for kind in [SchedulerKind::UniPc, SchedulerKind::Euler, SchedulerKind::Lcm] {
        assert!((first(kind) - 0.999_666_4).abs() < 1e-6, "{kind}");
    }
    let dpm = schedule(SchedulerKind::DpmPlusPlus, Steps::Count(4)).unwrap();
    assert_eq!(dpm.sigmas, [1.0, 0.9, 0.75, 0.5, 0.0]);
    assert_eq!(dpm.timesteps, [1000.0, 900.0, 750.0, 500.0]);
}

#[cfg(feature = "flex")]
mod runs {
    use burn::tensor::TensorData;

    use super::*;
    use crate::noise::TorchGenerator;

    type B = burn::backend::Flex;

    fn start() -> Tensor<B, 5> {
        let values = TorchGenerator::new(3).randn(48);
        Tensor::from_data(TensorData::new(values, [1, 2, 2, 3, 4]), &Default::default())
    }

    fn values(tensor: Tensor<B, 5>) -> Vec<f32> {
        tensor.into_data().into_vec().unwrap()
    }

    /// Runs steps of a fake model to the end, or up to `until`.
    fn run(
        scheduler: &mut dyn Scheduler<B>,
        mut sample: Tensor<B, 5>,
        steps: std::ops::Range<usize>,
    ) -> Tensor<B, 5> {
        let timesteps = scheduler.timesteps().to_vec();
        for &t in &timesteps[steps] {
            let velocity = sample.clone().tanh() * 0.3 + 0.1 * (t / 1000.0).sin();
            sample = scheduler.step(velocity, sample);
        }
        sample
    }

    fn variants() -> Vec<SchedulerConfig> {
        let mut variants: Vec<_> = SchedulerKind::ALL.map(config).into();
        for kind in [SchedulerKind::UniPc, SchedulerKind::DpmPlusPlus] {
            for (solver_order, lower_order_final) in [(1, true), (3, true), (3, false)] {
                variants.push(SchedulerConfig { solver_order, lower_order_final, ..config(kind) });
            }
            let final_sigmas_type = FinalSigma::SigmaMin;
            variants.push(SchedulerConfig { final_sigmas_type, ..config(kind) });
        }
        let disable_corrector = vec![0, 2];
        variants.push(SchedulerConfig { disable_corrector, ..config(SchedulerKind::UniPc) });
        for kind in SchedulerKind::ALL {
            variants.push(SchedulerConfig { shift_terminal: Some(0.02), ..config(kind) });
        }
        let solver_type = Some(SolverType::Bh1);
        variants.push(SchedulerConfig { solver_type, ..config(SchedulerKind::UniPc) });
        let solver_type = Some(SolverType::Heun);
        variants.push(SchedulerConfig { solver_type, ..config(SchedulerKind::DpmPlusPlus) });
        variants
    }

    #[test]
    fn a_saved_run_goes_on_bit_for_bit() {
        for config in variants() {
            for strength in [None, Some(0.7)] {
                let schedule = config.schedule(SigmaGrid::Wan, &Steps::Count(9), strength).unwrap();
                let make = || config.scheduler::<B>(&schedule, TorchGenerator::new(5)).unwrap();
                let steps = schedule.run_timesteps().len();
                let straight = values(run(make().as_mut(), start(), 0..steps));
                for stop in 0..=steps {
                    let mut first = make();
                    let sample = run(first.as_mut(), start(), 0..stop);
                    let state = first.state().unwrap();
                    assert_eq!(state.steps_done, stop);
                    let mut second = make();
                    second.restore(state.steps_done, state.tensors).unwrap();
                    let resumed = values(run(second.as_mut(), sample, stop..steps));
                    assert_eq!(resumed, straight, "{config:?}, stopped after {stop}");
                }
            }
        }
    }

    #[test]
    fn every_step_is_finite_on_both_grids() {
        for config in variants() {
            for (grid, steps) in [SigmaGrid::Wan, SigmaGrid::Diffusers]
                .into_iter()
                .flat_map(|g| [(g, 1), (g, 2), (g, 3), (g, 20)])
            {
                let schedule = config.schedule(grid, &Steps::Count(steps), None).unwrap();
                let mut scheduler =
                    config.scheduler::<B>(&schedule, TorchGenerator::new(5)).unwrap();
                let end = values(run(scheduler.as_mut(), start(), 0..steps));
                assert!(end.iter().all(|v| v.is_finite()), "{config:?} {grid:?} {steps}");
            }
        }
    }

    #[test]
    fn a_run_with_strength_begins_with_order_1() {
        for kind in [SchedulerKind::UniPc, SchedulerKind::DpmPlusPlus] {
            let all = config(kind).schedule(SigmaGrid::Wan, &Steps::Count(8), Some(0.5)).unwrap();
            let first_order = SchedulerConfig { solver_order: 1, ..config(kind) };
            let first = |config: &SchedulerConfig| {
                let mut scheduler = config.scheduler::<B>(&all, TorchGenerator::new(5)).unwrap();
                assert_eq!(scheduler.timesteps().len(), 4);
                values(run(scheduler.as_mut(), start(), 0..1))
            };
            assert_eq!(first(&config(kind)), first(&first_order), "{kind}");
        }
    }

    #[test]
    fn states_of_another_run_are_refused() {
        let config = config(SchedulerKind::UniPc);
        let schedule = config.schedule(SigmaGrid::Wan, &Steps::Count(4), None).unwrap();
        let make = || config.scheduler::<B>(&schedule, TorchGenerator::new(5)).unwrap();
        let mut scheduler = make();
        run(scheduler.as_mut(), start(), 0..3);
        let tensors = scheduler.state().unwrap().tensors;
        assert!(matches!(make().restore(5, tensors.clone()), Err(ScheduleError::StepsDone { .. })));
        for k in 0..tensors.len() {
            let mut fewer = tensors.clone();
            let (name, _) = fewer.remove(k);
            let error = make().restore(3, fewer).unwrap_err().to_string();
            assert!(error.contains(&name), "{error}");
        }
        let mut other = tensors;
        other[1].1 = other[1].1.clone().slice([0..1, 0..1]);
        let error = make().restore(3, other).unwrap_err();
        assert!(matches!(error, ScheduleError::StateShape { .. }), "{error}");
    }

    #[test]
    fn a_changed_schedule_is_checked_before_it_is_run() {
        let config = config(SchedulerKind::Euler);
        let good = config.schedule(SigmaGrid::Wan, &Steps::Count(4), None).unwrap();
        let change = |change: fn(&mut FlowSchedule)| {
            let mut schedule = good.clone();
            change(&mut schedule);
            config.scheduler::<B>(&schedule, TorchGenerator::new(5)).err().unwrap().to_string()
        };
        assert!(change(|s| s.start = 4).contains("starts at step 4"));
        assert!(change(|s| s.timesteps.clear()).contains("steps is 0"));
        assert!(change(|s| s.sigmas.truncate(4)).contains("4 sigmas"));
        assert!(change(|s| s.sigmas[1] = f32::NAN).contains("sigma is NaN"));
        assert!(change(|s| s.timesteps[1] = 2000.0).contains("timestep is 2000"));
        assert!(change(|s| s.sigmas.swap(1, 2)).contains("sigma 2 is"));
    }
}
