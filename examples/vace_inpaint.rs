//! A part of a video made anew: `cargo run --release --example vace_inpaint -- [MODEL [VIDEO MASK]]`, where MODEL is a
//! folder or a repository, such as Wan-AI/Wan2.1-VACE-1.3B-diffusers, VIDEO an mp4, and MASK a black and white picture of
//! the same size, white where the video is made anew. Without a video one is drawn, and its right half made anew.

use wan_pipeline::{Error, Image, Pipeline, Request, SourceMask, SourceVideo, backend::Flex};

const SIDE: usize = 64;
const FRAMES: usize = 17;

fn main() -> Result<(), Error> {
    let mut arguments = std::env::args().skip(1);
    let model = arguments.next().unwrap_or("Wan-AI/Wan2.1-VACE-1.3B-diffusers".into());
    let (video, mask) = match (arguments.next(), arguments.next()) {
        (Some(video), Some(mask)) => (SourceVideo::open(video)?, Image::open(mask)?),
        _ => (gray_video()?, right_half()?),
    };
    let pipeline = Pipeline::<Flex>::from_pretrained(model)?;
    let request = Request::new("a green circle on a gray background").video(video);
    let video = pipeline.generate(&request.mask(SourceMask::from(&mask)).frames(FRAMES))?;
    video.save("vace_inpaint.mp4")?;
    println!("vace_inpaint.mp4: {} frames", video.frames().len());
    Ok(())
}

fn gray_video() -> Result<SourceVideo, Error> {
    let frames = vec![vec![128; 3 * SIDE * SIDE]; FRAMES];
    SourceVideo::from_frames(SIDE as u32, SIDE as u32, 24, frames)
}

fn right_half() -> Result<Image, Error> {
    let row = [[0; 3 * SIDE / 2], [255; 3 * SIDE / 2]].concat();
    Ok(Image::from_rgb8(SIDE as u32, SIDE as u32, row.repeat(SIDE))?)
}
