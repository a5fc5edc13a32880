//! Prompts as embeddings, and words with weights.

use wan_pipeline::{Embeddings, Error, Guidance, ModelError, PromptEmbeds, Request, RequestError};

use crate::support::{Log, latents_of, says, silent, small, tiny_wan, without_text_encoder};

fn with_embeddings(request: &Request, embeddings: &Embeddings) -> Request {
    let request = request.clone().prompt_embeds(embeddings.prompt.clone());
    request.negative_prompt_embeds(embeddings.negative_prompt.clone())
}

#[test]
fn embeddings_take_the_place_of_the_text_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("e.safetensors");
    let pipeline = tiny_wan();
    for (prompt, guidance) in [("a (red:1.3) circle", 3.0), ("一个红色的圆形", 1.0), ("", 2.0)]
    {
        let request = small(prompt).prompt_weighting(true).guidance(guidance);
        let embeddings = pipeline.embed(&request, &mut silent()).unwrap();
        assert_eq!(embeddings.negative_prompt.is_some(), guidance > 1.0);
        embeddings.save(&file).unwrap();
        let loaded = Embeddings::load(&file).unwrap();
        assert_eq!(loaded, embeddings);
        let other = without_text_encoder();
        // The prompt has no effect then.
        let mut with = with_embeddings(&request, &loaded);
        with.prompt = "a green triangle".into();
        assert_eq!(latents_of(&other, &with), latents_of(&pipeline, &request), "{prompt}");
    }
    let states = vec![0.5; 6];
    let embeds = PromptEmbeds::new(states.clone(), [2, 3]).unwrap();
    assert_eq!((embeds.tokens(), embeds.width(), embeds.states()), (2, 3, &states[..]));
}

#[test]
fn a_prompt_without_a_text_encoder_is_an_error() {
    let (request, pipeline) = (small("a red circle"), without_text_encoder());
    let left_out = |request: &Request| {
        let error = pipeline.generate(request).unwrap_err();
        assert!(matches!(error, Error::Model(ModelError::LeftOut { .. })), "{error:?}");
        says(&error, &["text encoder", "a prompt without embeddings"]);
    };
    left_out(&request);
    let embeddings = tiny_wan().embed(&request, &mut silent()).unwrap();
    // Guidance needs the negative prompt too: it is not left out in silence.
    left_out(&request.clone().prompt_embeds(embeddings.prompt.clone()));
    left_out(&request.clone().negative_prompt_embeds(embeddings.negative_prompt.clone()));
    let unguided = request.clone().guidance(1.0).prompt_embeds(embeddings.prompt.clone());
    pipeline.generate(&unguided).unwrap();
    pipeline.generate(&with_embeddings(&request, &embeddings)).unwrap();
}

#[test]
fn embeddings_that_do_not_fit_are_refused() {
    let pipeline = tiny_wan();
    let request = |tokens: usize, width: usize| {
        small("")
            .prompt_embeds(PromptEmbeds::new(vec![0.1; tokens * width], [tokens, width]).unwrap())
    };
    let error = pipeline.generate(&request(2, 64)).unwrap_err();
    assert!(matches!(error, Error::Request(RequestError::EmbedsWidth { found: 64, .. })));
    says(&error, &["prompt_embeds", "64", "128"]);
    let error = pipeline.generate(&request(9, 128).text_length(8)).unwrap_err();
    says(&error, &["prompt_embeds", "9 tokens", "8"]);
    pipeline.generate(&request(8, 128).text_length(8)).unwrap();
    for (states, shape) in
        [(vec![], [0, 3]), (vec![1.0; 5], [2, 3]), (vec![1.0; 3], [usize::MAX, 3])]
    {
        assert!(PromptEmbeds::new(states, shape).is_err(), "{shape:?}");
    }
    assert!(PromptEmbeds::new(vec![f32::NAN; 3], [1, 3]).is_err());
}

#[test]
fn weights_of_words() {
    let pipeline = tiny_wan();
    let embed = |prompt: &str, weighting: bool| {
        let request = small(prompt).prompt_weighting(weighting);
        pipeline.embed(&request, &mut silent()).unwrap().prompt
    };
    let plain = embed("a red circle", false);
    assert_eq!(embed("a red circle", true), plain);
    assert_eq!(embed("a (red:1) circle", true), plain, "1 changes nothing");
    assert_eq!(embed("a (red:1.0) (circle:1)", true), plain);
    assert_eq!(embed(r"a \(red:2\) circle", true), embed("a (red:2) circle", false));
    let heavy = embed("a (red:1.5) circle", true);
    assert_eq!(heavy.tokens(), plain.tokens());
    let rows = |embeds: &PromptEmbeds| -> Vec<Vec<f32>> {
        embeds.states().chunks(embeds.width()).map(<[f32]>::to_vec).collect()
    };
    let changed: Vec<bool> = rows(&heavy).iter().zip(rows(&plain)).map(|(a, b)| *a != b).collect();
    let count = changed.iter().filter(|changed| **changed).count();
    assert!((1..plain.tokens() - 2).contains(&count), "{changed:?}");
    for (heavy, plain) in rows(&heavy).iter().zip(rows(&plain)).filter(|(a, b)| *a != b) {
        assert!(heavy.iter().zip(plain).all(|(heavy, plain)| *heavy == plain * 1.5));
    }
    let request = small("a red circle");
    let weighted = small("a (red:1.5) circle").prompt_weighting(true);
    assert_ne!(latents_of(&pipeline, &weighted), latents_of(&pipeline, &request));
    let error = pipeline.generate(&small("a (red:x) circle").prompt_weighting(true)).unwrap_err();
    says(&error, &["(red:x)", "(words:1.3)"]);
}

/// A weight of 1 is the same prompt, which is not encoded again.
#[test]
fn a_weight_of_one_is_the_same_prompt() {
    let (pipeline, log) = (tiny_wan(), Log::default());
    pipeline.embed(&small("a red circle").guidance(Guidance::off()), &mut silent()).unwrap();
    let weighted = small("a (red:1) circle").prompt_weighting(true).guidance(1.0);
    pipeline.embed(&weighted, &mut log.observer()).unwrap();
    assert_eq!(log.encoded(), 0);
}
