//! A video that begins and ends with pictures:
//! `cargo run --release --example first_last_frame -- [MODEL [FIRST LAST]]`, where MODEL is a folder or a repository, such as
//! Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers; without pictures, two are drawn.

use wan_pipeline::{Error, Image, ImageError, Pipeline, Request, backend::Flex};

const SIDE: u32 = 64;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or("Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers".into());
    let [first, last] = match (arguments.next(), arguments.next()) {
        (Some(first), Some(last)) => [Image::open(first)?, Image::open(last)?],
        _ => [square(12)?, square(40)?],
    };
    let pipeline = Pipeline::<Flex>::from_pretrained(model)?;
    let request = Request::new("a blue square moving right").image(first).last_image(last);
    let video = pipeline.generate(&request.frames(17))?;
    video.save("first_last_frame.mp4")?;
    println!("first_last_frame.mp4: {} frames", video.frames().len());
    Ok(())
}

/// A blue square on black, so many pixels from the left.
fn square(left: u32) -> Result<Image, ImageError> {
    let pixel = |i: u32| {
        let (x, y) = (i % SIDE, i / SIDE);
        let is_inside = (left..left + 16).contains(&x) && (24..40).contains(&y);
        if is_inside { [0, 0, 255] } else { [0, 0, 0] }
    };
    Image::from_rgb8(SIDE, SIDE, (0..SIDE * SIDE).flat_map(pixel).collect())
}
