//! A video that begins with a picture: `cargo run --release --example image_to_video -- [PICTURE [PROMPT]]`, where
//! PICTURE is a PNG, JPEG or WebP; without one, a red circle is drawn, and moves left.

use wan_pipeline::{Error, Image, ImageError, Pipeline, Request, backend::Flex};

const SIDE: u32 = 64;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let image = match arguments.next() {
        Some(path) => Image::open(path)?,
        None => red_circle()?,
    };
    let prompt =
        arguments.next().unwrap_or("a red circle moving left on a black background".into());
    // The models for this that are published: Wan-AI/Wan2.2-TI2V-5B-Diffusers, Wan-AI/Wan2.2-I2V-A14B-Diffusers, ..
    let pipeline = Pipeline::<Flex>::from_pretrained("tiny-wan-ti2v")?;
    let video = pipeline.generate(&Request::new(prompt).image(image))?;
    video.save("image_to_video.mp4")?;
    println!("image_to_video.mp4: {} frames", video.frames().len());
    Ok(())
}

/// A red circle right of the middle, on black.
fn red_circle() -> Result<Image, ImageError> {
    let pixel = |i: u32| {
        let (x, y) = (f64::from(i % SIDE) + 0.5, f64::from(i / SIDE) + 0.5);
        let is_inside = (x - 46.0).hypot(y - 32.0) < 10.0;
        if is_inside { [255, 0, 0] } else { [0, 0, 0] }
    };
    Image::from_rgb8(SIDE, SIDE, (0..SIDE * SIDE).flat_map(pixel).collect())
}
