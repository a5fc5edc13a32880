//! Where weights are between two uses changes memory and time, and nothing else.

use wan_pipeline::backend::Flex;
use wan_pipeline::{
    Error, Event, Guidance, Observer, Pipeline, PipelineBuilder, Request, Residency, Role,
    SchedulerKind,
};

const PROMPT: &str = "a red circle moving right on a black background";

fn builder() -> PipelineBuilder<Flex> {
    Pipeline::builder("tiny-wan")
}

fn requests() -> Vec<Request> {
    let guided = Request::new(PROMPT).frames(9).steps(3);
    let chinese = Request::new("一个蓝色方块").negative_prompt("red").frames(5).steps(2);
    let unguided = Request::new(PROMPT).size(96, 48).frames(5).steps(2);
    let unguided = unguided.guidance(Guidance::off()).scheduler(SchedulerKind::Euler);
    let batch = Request::new("a green circle").frames(5).steps(2).with_seeds(0..3);
    [vec![guided, chinese, unguided], batch].concat()
}

fn latents(builder: PipelineBuilder<Flex>) -> Vec<Vec<f32>> {
    let pipeline = builder.open().unwrap();
    let latents = pipeline.denoise_batch(&requests(), &mut Observer::silent()).unwrap();
    latents.iter().map(|latents| latents.to_vec()).collect()
}

#[test]
fn latents_are_the_same_bits() {
    let expected = latents(builder().transformer_residency(Residency::Resident));
    for residency in [Residency::Stored, Residency::Streamed] {
        let held = builder().transformer_residency(residency).text_encoder_residency(residency);
        assert!(latents(held) == expected, "{residency}");
    }
}

/// Another way to hold the transformer takes the place of the one that was loaded.
#[test]
fn the_number_of_layers_in_memory_follows_the_limit() {
    let pipeline = builder().open().unwrap();
    let request = Request::new(PROMPT).frames(5).steps(1);
    let plan = pipeline.plan(&request).unwrap();
    let whole = pipeline.memory(std::slice::from_ref(&plan));
    assert_eq!(whole.placement().transformer, Residency::Resident);
    let denoising = whole.stages()[1];
    assert_eq!(denoising.read, 0);
    let streamed = builder().transformer_residency(Residency::Streamed).open().unwrap();
    let memory = streamed.memory(&[plan]);
    assert!(memory.stages()[1].weights < denoising.weights / 2, "{memory}");
    assert!(memory.stages()[1].read > 0, "{memory}");
    assert!(memory.to_string().contains("transformer: streamed"), "{memory}");
}

#[test]
fn a_limit_that_is_too_small_is_refused_before_anything_is_loaded() {
    for limit in [0, 1_000_000] {
        let pipeline = builder().memory_limit(limit).open().unwrap();
        let mut loaded = 0;
        let mut observer = Observer::new(|event| {
            loaded += usize::from(matches!(event, Event::Loading { .. }));
        });
        let request = Request::new(PROMPT).frames(5).steps(1);
        let error = pipeline.generate_with(&request, &mut observer).err().unwrap();
        drop(observer);
        let Error::Memory(shortage) = &error else { panic!("{error:?}") };
        assert!(shortage.smallest_limit() > 10_000_000, "{error}");
        assert!(error.to_string().contains("the smallest limit that would do is "), "{error}");
        assert_eq!(loaded, 0);
    }
}

/// Weights are read in each step: stopping reaches into that, and the run goes on afterwards.
#[test]
fn a_run_that_streams_can_be_stopped_and_goes_on() {
    let pipeline = builder().transformer_residency(Residency::Streamed).open().unwrap();
    let request = Request::new(PROMPT).frames(5).steps(3);
    let mut run = pipeline.start(std::slice::from_ref(&request), &mut Observer::silent()).unwrap();
    run.step().unwrap();
    let token = wan_pipeline::CancelToken::default();
    token.cancel();
    run.set_cancel_token(&token);
    assert!(matches!(run.step(), Err(Error::Cancelled)));
    run.set_cancel_token(&wan_pipeline::CancelToken::default());
    while run.step().unwrap().is_some() {}
    let found = run.finish()[0].to_vec();
    let expected = builder().open().unwrap().denoise_batch(&[request], &mut Observer::silent());
    assert!(found == expected.unwrap()[0].to_vec());
}

#[test]
fn later_jobs_find_what_the_first_has_loaded() {
    let pipeline = builder().open().unwrap();
    let request = Request::new(PROMPT).frames(5).steps(1);
    let mut loaded = Vec::new();
    for seed in 0..2 {
        let mut observer = Observer::new(|event| {
            if let Event::Loading { role } = event {
                loaded.push(role);
            }
        });
        pipeline.generate_with(&request.clone().seed(seed), &mut observer).unwrap();
    }
    assert_eq!(loaded, [Role::TextEncoder, Role::Transformer, Role::Vae]);
}
