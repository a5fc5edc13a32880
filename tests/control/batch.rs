//! Batches: each video is the one that its request gives alone.

use wan_pipeline::{Error, Guidance, Request, RequestError, Role, Schedule, SchedulerKind};

use crate::support::{Log, Random, bits, latents_of, silent, small, tiny_wan};

const PROMPTS: [&str; 5] = [
    "a red circle",
    "a (blue:1.4) square growing on a gray background",
    "一个黄色三角形在黑色背景上向上移动",
    "绿色圆形变小",
    "",
];

fn guidance(random: &mut Random) -> Guidance {
    let scale = *random.pick(&[1.5, 3.0, 6.25]);
    let schedules =
        [Schedule::from(scale), Schedule::Linear { from: scale, to: 1.0 }, Schedule::from(1.0)];
    let schedule = random.pick(&schedules).clone();
    let guidance = match random.below(3) {
        0 => Guidance::cfg(schedule),
        1 => Guidance::cfg_zero_star(schedule),
        _ => Guidance::apg(schedule),
    };
    let guidance = guidance.rescale(*random.pick(&[0.0, 0.7]));
    if random.below(3) == 0 { guidance.interval(0.0, 0.5) } else { guidance }
}

fn request(random: &mut Random) -> Request {
    let request = Request::new(*random.pick(&PROMPTS))
        .size(*random.pick(&[16, 32]), 32)
        .frames(*random.pick(&[1, 5]))
        .steps(*random.pick(&[2, 3]))
        .scheduler(*random.pick(&SchedulerKind::ALL))
        .shift(*random.pick(&[3.0, 5.0]))
        .seed(random.next())
        .prompt_weighting(random.below(2) == 0)
        .text_length(*random.pick(&[64, 512]))
        .guidance(guidance(random));
    match random.below(2) {
        0 => request.negative_prompt(*random.pick(&PROMPTS)),
        _ => request,
    }
}

/// Requests of which some go through the network together and some do not, in any order.
fn batch(random: &mut Random) -> Vec<Request> {
    let kinds: Vec<Request> = (0..3).map(|_| request(random)).collect();
    let mut one = || {
        let (mut made, kind) = (request(random), random.pick(&kinds));
        (made.width, made.num_frames) = (kind.width, kind.num_frames);
        (made.steps, made.scheduler) = (kind.steps.clone(), kind.scheduler);
        made.flow_shift = kind.flow_shift;
        made
    };
    (0..6).map(|_| one()).collect()
}

#[test]
fn each_video_is_the_one_that_its_request_gives_alone() {
    let pipeline = tiny_wan();
    let mut random = Random(1);
    for round in 0..6 {
        let requests = batch(&mut random);
        let latents = pipeline.denoise_batch(&requests, &mut silent()).unwrap();
        let videos = pipeline.generate_batch(&requests).unwrap();
        assert_eq!((latents.len(), videos.len()), (requests.len(), requests.len()));
        for (i, request) in requests.iter().enumerate() {
            let alone = tiny_wan();
            assert!(bits(&latents[i]) == latents_of(&alone, request), "{round}.{i}: {request:?}");
            let video = alone.generate(request).unwrap();
            assert!(videos[i] == video, "{round}.{i}: the pixels of {request:?} differ");
        }
    }
}

#[test]
fn with_seeds_changes_nothing_but_the_seed() {
    let request = small("a red circle").guidance(2.0).negative_prompt("静止");
    let batch = request.with_seeds([7, 8, u64::MAX]);
    assert_eq!(batch.iter().map(|request| request.seed).collect::<Vec<_>>(), [7, 8, u64::MAX]);
    assert!(batch.iter().all(|made| made.clone().seed(request.seed) == request));
    assert!(request.with_seeds([]).is_empty());
}

#[test]
fn equal_prompts_are_encoded_once() {
    let pipeline = tiny_wan();
    let requests: Vec<Request> = ["a red circle", "一个红色的圆形"]
        .iter()
        .flat_map(|prompt| small(prompt).negative_prompt("静止").with_seeds(0..3))
        .collect();
    let log = Log::default();
    pipeline.denoise_batch(&requests, &mut log.observer()).unwrap();
    assert_eq!(log.encoded(), 3);
    assert_eq!(log.loaded(Role::TextEncoder), 1);
    assert_eq!(log.loaded(Role::Transformer), 1);

    let again = Log::default();
    pipeline.denoise_batch(&requests[2..4], &mut again.observer()).unwrap();
    assert_eq!((again.encoded(), again.loaded(Role::TextEncoder)), (0, 0));
}

/// More prompts than are kept from one batch to the next.
#[test]
fn equal_prompts_of_a_large_batch_are_encoded_once() {
    let prompts: Vec<String> = (0..40).map(|i| format!("a red circle {i}")).collect();
    let mut requests: Vec<Request> = Vec::new();
    for _ in 0..2 {
        requests.extend(prompts.iter().map(|p| small(p).size(16, 16).frames(1).steps(1)));
    }
    let log = Log::default();
    tiny_wan().denoise_batch(&requests, &mut log.observer()).unwrap();
    assert_eq!(log.encoded(), prompts.len() + 1, "the prompts and the negative prompt");
    assert_eq!(log.loaded(Role::TextEncoder), 1);
}

#[test]
fn a_batch_with_one_request_that_cannot_be_fulfilled_does_nothing() {
    let log = Log::default();
    let requests = [small("a"), small("b").frames(3)];
    let error = tiny_wan().generate_batch_with(&requests, &mut log.observer()).unwrap_err();
    assert!(matches!(error, Error::Request(RequestError::Frames { found: 3, .. })), "{error:?}");
    assert_eq!(log.count(|_| true), 0);
    let error = tiny_wan().generate_batch(&[]).unwrap_err();
    assert!(matches!(error, Error::Request(RequestError::EmptyBatch)), "{error:?}");
}
