#[cfg(feature = "flex")]
use burn::tensor::TensorData;

use super::*;

#[cfg(feature = "flex")]
type B = burn::backend::Flex;

#[test]
fn texts_are_read_and_written_alike() {
    for (text, schedule) in [
        ("5", Schedule::Constant(5.0)),
        ("1", Schedule::Constant(1.0)),
        ("3.5", Schedule::Constant(3.5)),
        ("6x2+3x3", Schedule::Steps(vec![6.0, 6.0, 3.0, 3.0, 3.0])),
        ("4.25x1", Schedule::Steps(vec![4.25])),
        ("linear:7..1", Schedule::Linear { from: 7.0, to: 1.0 }),
        ("linear:1.5..7.5", Schedule::Linear { from: 1.5, to: 7.5 }),
        ("cosine:7..1", Schedule::Cosine { from: 7.0, to: 1.0 }),
    ] {
        assert_eq!(text.parse(), Ok(schedule.clone()), "{text}");
        assert_eq!(schedule.to_string(), text);
        let json = serde_json::to_string(&schedule).unwrap();
        assert_eq!(serde_json::from_str::<Schedule>(&json).unwrap(), schedule, "{json}");
    }
    assert_eq!(" 5\n".parse(), Ok(Schedule::Constant(5.0)));
    assert_eq!("6x1+6x1".parse(), Ok(Schedule::Steps(vec![6.0; 2])));
}

#[test]
fn any_schedule_survives_its_text() {
    let mut generator = crate::noise::TorchGenerator::new(7);
    for _ in 0..200 {
        let mut scales: Vec<f64> = Vec::new();
        for value in generator.rand_f64(6) {
            let scale = 1.0 + value * 999.0;
            scales.extend(std::iter::repeat_n(scale, 1 + (value * 4.0) as usize));
        }
        let schedule = Schedule::Steps(scales);
        assert_eq!(schedule.to_string().parse(), Ok(schedule));
    }
}

#[test]
fn malformed_texts_are_refused_with_the_right_form() {
    for (text, says) in [
        ("", "such as 5"),
        ("  ", "6x10+3x20"),
        ("nan", "guidance is nan, but must be 1 (no guidance) to 1000"),
        ("inf", "1 (no guidance) to 1000"),
        ("-1", "guidance is -1, but must be 1"),
        ("0.5", "guidance is 0.5, but"),
        ("1001", "to 1000"),
        ("1e999", "to 1000"),
        ("strong", "guidance is strong, but"),
        ("6x0", "must be 1 to 1000 in all"),
        ("6x1001", "must be 1 to 1000 in all"),
        ("6x600+3x600", "\"3x600\" must be 1 to 1000 in all"),
        ("6x99999999999999999999999", "must be 1 to 1000 in all"),
        ("6x", "\"6x\" must be a scale, an x and a number of steps, as in 6x10+3x20"),
        ("x3", "\"x3\" must be a scale"),
        ("x", "\"x\" must be a scale"),
        ("6x10+", "\"\" must be a scale"),
        ("+6x10", "\"\" must be a scale"),
        ("6x10++3x20", "\"\" must be a scale"),
        ("6+3x20", "\"6\" must be a scale"),
        ("6x-3", "\"6x-3\" must be a scale"),
        ("6x2.5", "\"6x2.5\" must be a scale"),
        ("6x2x3", "\"6x2x3\" must be a scale"),
        ("nanx3", "guidance is nan, but"),
        ("0x3", "guidance is 0, but"),
        ("linear:", "as in linear:7..1"),
        ("linear:7", "as in linear:7..1"),
        ("linear:7..", "as in linear:7..1"),
        ("cosine:..1", "as in cosine:7..1"),
        ("cosine:7..0", "guidance is 0, but"),
        ("cosine:7..1..2", "guidance is 1..2, but"),
        ("linear:nan..1", "guidance is nan, but"),
        ("square:7..1", "no guidance schedule \"square\""),
        (":", "no guidance schedule \"\""),
    ] {
        let error = text.parse::<Schedule>().expect_err(text).to_string();
        assert!(error.contains(says), "{text:?}: {error:?} does not say {says:?}");
        assert!(!error.contains('\n'));
        let json = serde_json::Value::from(text);
        assert!(serde_json::from_value::<Schedule>(json).is_err(), "{text:?}");
    }
}

#[test]
fn schedules_run_from_end_to_end() {
    let scales = |text: &str, steps| Guidance::cfg(text.parse::<Schedule>().unwrap()).scales(steps);
    assert_eq!(scales("linear:7..1", 4).unwrap(), [7.0, 5.0, 3.0, 1.0]);
    assert_eq!(scales("linear:7..1", 1).unwrap(), [7.0]);
    let cosine = scales("cosine:7..1", 5).unwrap();
    assert_eq!((cosine[0], cosine[4]), (7.0, 1.0));
    assert!((cosine[2] - 4.0).abs() < 1e-12 && cosine[1] > 5.5, "{cosine:?}");
    assert_eq!(scales("6x1+3x2", 3).unwrap(), [6.0, 3.0, 3.0]);
    // A scale of 1 is exactly 1, whatever it comes from: more would cost a pass.
    for from in [7.3, 1.1, 6.142_857_1, 999.9] {
        for steps in 2..60 {
            let scales = Guidance::cfg(Schedule::Linear { from, to: 1.0 }).scales(steps).unwrap();
            assert_eq!(scales[steps - 1], 1.0, "{from}, {steps} steps");
        }
    }
}

/// The examples of the reference: steps, start, end, first guided step, guided steps.
#[test]
fn intervals_are_cut_to_steps_as_in_the_reference() {
    for (steps, start, stop, first, count) in [
        (8, 0.25, 0.75, 2, 4),
        (50, 0.0, 0.58, 0, 28),
        (100, 0.29, 1.0, 28, 72),
        (20, 0.0, 0.05, 0, 1),
        (7, 0.5, 0.9, 3, 3),
    ] {
        let scales = Guidance::cfg(5.0).interval(start, stop).scales(steps).unwrap();
        let guided: Vec<_> = (0..steps).filter(|&step| scales[step] == 5.0).collect();
        assert_eq!(guided, (first..first + count).collect::<Vec<_>>(), "{start} to {stop}");
        assert!(scales.iter().all(|&s| s == 5.0 || s == 1.0));
    }
}

#[test]
fn values_out_of_range_are_refused() {
    let apg = |eta, momentum, norm_threshold| {
        Guidance::new(Apg { eta, momentum, norm_threshold, clean: false }, 5.0)
    };
    let zero = |zero_init_steps| Guidance::new(CfgZeroStar { zero_init_steps }, 5.0);
    let nan = f64::NAN;
    for (guidance, says) in [
        (Guidance::cfg(nan), "guidance is NaN, but must be 1 (no guidance) to 1000"),
        (Guidance::cfg(f64::INFINITY), "guidance is inf, but"),
        (Guidance::cfg(0.0), "guidance is 0, but"),
        (Guidance::cfg(-1.0), "guidance is -1, but"),
        (Guidance::cfg(1e30), "to 1000"),
        (Guidance::cfg(vec![5.0; 7]), "has 7 scales, but the run has 8 steps"),
        (Guidance::cfg(vec![]), "has 0 scales, but the run has 8 steps"),
        (Guidance::cfg(vec![5.0, 5.0, nan, 5.0, 5.0, 5.0, 5.0, 5.0]), "guidance is NaN in step 3"),
        (Guidance::cfg(Schedule::Linear { from: 7.0, to: 0.0 }), "in step"),
        (Guidance::cfg(Schedule::Cosine { from: nan, to: 1.0 }), "guidance is NaN in step 1"),
        (Guidance::cfg(5.0).rescale(nan), "guidance rescale is NaN, but must be 0 to 1"),
        (Guidance::cfg(5.0).rescale(-0.1), "guidance rescale is -0.1, but"),
        (Guidance::cfg(5.0).rescale(1.1), "guidance rescale is 1.1, but"),
        (Guidance::cfg(5.0).interval(0.5, 0.5), "0 <= start < stop <= 1"),
        (Guidance::cfg(5.0).interval(0.75, 0.25), "is 0.75 to 0.25, but"),
        (Guidance::cfg(5.0).interval(-0.1, 0.5), "0 <= start < stop <= 1"),
        (Guidance::cfg(5.0).interval(0.5, 1.5), "0 <= start < stop <= 1"),
        (Guidance::cfg(5.0).interval(nan, 1.0), "is NaN to 1, but"),
        (Guidance::cfg(5.0).interval(0.0, nan), "is 0 to NaN, but"),
        (Guidance::cfg(5.0).interval(0.3, 0.35), "has none of the 8 steps"),
        (zero(9), "zero_init_steps is 9, but must be less than the 8 steps"),
        (zero(8), "zero_init_steps is 8, but"),
        (apg(nan, 0.0, 0.0), "APG eta is NaN, but must be a finite number"),
        (apg(0.0, nan, 0.0), "APG momentum is NaN, but must be -1 to 1"),
        (apg(0.0, -1.5, 0.0), "APG momentum is -1.5, but"),
        (apg(0.0, 0.0, -1.0), "APG norm threshold is -1, but must be 0 (no limit) or more"),
        (apg(0.0, 0.0, f64::INFINITY), "APG norm threshold is inf, but"),
    ] {
        let error = guidance.validate(8).expect_err(says);
        assert!(error.to_string().contains(says), "{error} does not say {says:?}");
        assert_eq!(guidance.scales(8).unwrap_err().to_string(), error.to_string());
        assert!(guidance.needs_unconditional(8).is_err());
    }
}

#[test]
fn guidance_survives_json_and_may_leave_fields_out() {
    for guidance in [
        Guidance::off(),
        Guidance::from(5.0),
        Guidance::cfg(Schedule::Linear { from: 7.0, to: 1.0 }).rescale(0.7),
        Guidance::cfg_zero_star(vec![5.0, 4.0, 4.0]),
        Guidance::apg(8.0).interval(0.1, 0.9),
    ] {
        let json = serde_json::to_string(&guidance).unwrap();
        assert_eq!(serde_json::from_str::<Guidance>(&json).unwrap(), guidance, "{json}");
    }
    let short: Guidance = serde_json::from_str(r#"{"scale": "6x2+3x2"}"#).unwrap();
    assert_eq!(short, Guidance::cfg(vec![6.0, 6.0, 3.0, 3.0]));
}

#[test]
fn the_unconditional_pass_is_asked_for_only_where_it_counts() {
    let needs = |guidance: Guidance| guidance.needs_unconditional(4).unwrap();
    assert!(!needs(Guidance::off()));
    assert!(needs(Guidance::cfg(1.5)));
    assert!(needs(Guidance::cfg(vec![1.0, 1.0, 1.0, 2.0])));
    assert!(!needs(Guidance::cfg(vec![1.0; 4])));
    assert!(!needs(Guidance::cfg_zero_star(vec![5.0, 1.0, 1.0, 1.0])), "the zero step needs none");
}

#[cfg(feature = "flex")]
fn tensor(seed: u64) -> burn::tensor::Tensor<B, 5> {
    let values = crate::noise::TorchGenerator::new(seed).randn(48);
    burn::tensor::Tensor::from_data(TensorData::new(values, [1, 2, 2, 3, 4]), &Default::default())
}

#[cfg(feature = "flex")]
fn predictions(step: usize) -> Predictions<B> {
    let seed = 10 * step as u64;
    Predictions {
        conditional: Some(tensor(seed + 1)),
        unconditional: Some(tensor(seed + 2)),
        sample: tensor(seed + 3),
        sigma: 0.5,
    }
}

#[cfg(feature = "flex")]
fn values(tensor: burn::tensor::Tensor<B, 5>) -> Vec<f32> {
    tensor.into_data().into_vec().unwrap()
}

#[cfg(feature = "flex")]
#[test]
fn a_scale_of_1_is_the_conditional_prediction_itself() {
    let mut guide = Guidance::cfg(vec![5.0, 1.0]).rescale(0.7).guide::<B>(2).unwrap();
    assert_eq!(guide.passes(1), Passes::Conditional);
    let alone = Predictions { unconditional: None, ..predictions(1) };
    assert_eq!(values(guide.combine(1, alone)), values(tensor(11)));
}

/// Also after a change of guidance within the run, which starts a guide at a later step.
#[cfg(feature = "flex")]
#[test]
fn plain_guidance_is_its_formula_bit_for_bit() {
    let mut guide = Guidance::cfg("6x3+4.5x3".parse::<Schedule>().unwrap()).guide::<B>(6).unwrap();
    for step in 2..6 {
        let (c, u) = (tensor(10 * step + 1), tensor(10 * step + 2));
        let expected = (c - u.clone()) * if step < 3 { 6.0 } else { 4.5 } + u;
        let step = step as usize;
        assert_eq!(values(guide.combine(step, predictions(step))), values(expected));
    }
}

#[cfg(feature = "flex")]
#[test]
fn a_saved_guide_goes_on_bit_for_bit() {
    for guidance in [Guidance::cfg(5.0), Guidance::cfg_zero_star(5.0), Guidance::apg(5.0)] {
        let mut straight = guidance.guide::<B>(6).unwrap();
        let expected: Vec<_> =
            (0..6).map(|step| values(straight.combine(step, predictions(step)))).collect();
        let mut first = guidance.guide::<B>(6).unwrap();
        (0..3).for_each(|step| drop(first.combine(step, predictions(step))));
        let mut second = guidance.guide::<B>(6).unwrap();
        second.restore(first.state());
        for (step, expected) in expected.iter().enumerate().skip(3) {
            assert_eq!(&values(second.combine(step, predictions(step))), expected);
        }
        // Without the state, only APG goes another way.
        let fresh = guidance.guide::<B>(6).unwrap().combine(3, predictions(3));
        let carries = guidance.rule.samples_kept() > 0;
        assert_eq!(values(fresh) != expected[3], carries);
    }
}

#[cfg(feature = "flex")]
#[test]
fn predictions_of_zeros_stay_finite() {
    let zeros = tensor(1).zeros_like();
    for guidance in [Guidance::cfg(5.0), Guidance::cfg_zero_star(5.0), Guidance::apg(5.0)] {
        let mut guide = guidance.rescale(1.0).guide::<B>(4).unwrap();
        let all = Predictions {
            conditional: Some(zeros.clone()),
            unconditional: Some(zeros.clone()),
            sample: tensor(3),
            sigma: 0.5,
        };
        assert_eq!(values(guide.combine(2, all)), vec![0.0; 48]);
    }
}
