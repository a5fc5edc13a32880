//! Four takes of one prompt, and the one that a CLIP finds closest to it:
//! `cargo run --release --example rank_with_clip`.

use wan_pipeline::{Clip, Error, Observer, Pipeline, Request, backend::Flex, rank_with_clip};

fn main() -> Result<(), Error> {
    let pipeline = Pipeline::<Flex>::from_pretrained("tiny-wan")?;
    let clip = Clip::<Flex>::from_pretrained("tiny-clip")?;
    let request = Request::new("灰色背景，黄色正方形向下移动").frames(17).steps(8);
    let ranked = rank_with_clip(&pipeline, &clip, &request, 1..=4, &mut Observer::silent())?;
    for take in &ranked {
        println!("seed {}: {:.4}", take.seed, take.similarity);
    }
    ranked[0].video.save("best.mp4")
}
