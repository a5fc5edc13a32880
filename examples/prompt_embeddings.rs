//! Prompts encoded once and used without a text encoder, which is the largest part of some models:
//! `cargo run --release --example prompt_embeddings`.

use wan_pipeline::{Embeddings, Error, Observer, Pipeline, Request, backend::Flex};

fn main() -> Result<(), Error> {
    let request = Request::new("a (red:1.2) circle growing on a black background");
    let request = request.prompt_weighting(true).frames(17).steps(8);

    let pipeline = Pipeline::<Flex>::from_pretrained("tiny-wan")?;
    pipeline.embed(&request, &mut Observer::silent())?.save("circle.safetensors")?;

    let pipeline = Pipeline::<Flex>::builder("tiny-wan").without_text_encoder().open()?;
    let Embeddings { prompt, negative_prompt, .. } = Embeddings::load("circle.safetensors")?;
    println!("circle.safetensors: {} tokens of width {}", prompt.tokens(), prompt.width());
    let request = request.prompt_embeds(prompt).negative_prompt_embeds(negative_prompt);
    let video = pipeline.generate(&request)?;
    video.save("prompt_embeddings.mp4")?;
    println!("prompt_embeddings.mp4: {} frames", video.frames().len());
    Ok(())
}
