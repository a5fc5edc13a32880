//! Masks and videos of a model for control and editing that do not fit each other, or the video to make; and videos whose
//! frames no picture can be.

use std::path::Path;

use tempfile::TempDir;
use wan_io::image::MAX_PIXELS;
use wan_io::video::VideoError;
use wan_mock_hub::models::grafts;
use wan_pipeline::backend::Flex;
use wan_pipeline::{
    Error, Image, ImageError, Pipeline, Request, RequestError, SourceMask, SourceVideo, Task,
};

use crate::model::{says, smallest};
use crate::requests::{is_one_sentence, not_yet};

const BLACK: [u8; 3] = [0; 3];
const WHITE: [u8; 3] = [255; 3];

/// A VACE model that feels no control, grafted on the miniature.
struct Vace {
    pipeline: Pipeline<Flex>,
    _folder: TempDir,
}

impl Vace {
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tiny-wan/model");
        grafts::make(&tiny, folder.path(), |model| grafts::vace(model, 0.0));
        let pipeline = Pipeline::from_pretrained(folder.path()).unwrap();
        assert_eq!(pipeline.spec().task, Task::Control);
        Self { pipeline, _folder: folder }
    }

    /// The error of a request: one sentence, before the first event, and the same from `plan`.
    #[track_caller]
    fn refuses(&self, request: &Request, parts: &[&str]) -> RequestError {
        let error = self.pipeline.generate_with(request, &mut not_yet()).expect_err("it is wrong");
        assert_eq!(self.pipeline.plan(request).unwrap_err().to_string(), error.to_string());
        is_one_sentence(&error);
        says(&error, parts);
        let Error::Request(error) = error else { panic!("{error:?}") };
        error
    }

    /// A request whose mask is refused.
    #[track_caller]
    fn refuses_mask(&self, request: &Request, found: &str, expected: &str) {
        let parts = [format!("the mask has {found}, but must have {expected}")];
        let error = self.refuses(request, &parts.each_ref().map(String::as_str));
        assert!(matches!(error, RequestError::Mask { .. }), "{error:?}");
    }
}

fn picture([width, height]: [u32; 2], rgb: [u8; 3]) -> Image {
    Image::from_rgb8(width, height, rgb.repeat((width * height) as usize)).unwrap()
}

/// A white picture of 32x32 with another pixel in row `y`.
fn with_pixel(x: usize, y: usize, rgb: [u8; 3]) -> Image {
    let mut pixels = WHITE.repeat(32 * 32);
    pixels[3 * (32 * y + x)..][..3].copy_from_slice(&rgb);
    Image::from_rgb8(32, 32, pixels).unwrap()
}

fn video([width, height]: [u32; 2], frames: usize) -> SourceVideo {
    let frame = WHITE.repeat((width * height) as usize);
    SourceVideo::from_frames(width, height, 24, vec![frame; frames]).unwrap()
}

fn still(size: [u32; 2]) -> SourceMask {
    SourceMask::from(&picture(size, WHITE))
}

/// One mask for each frame.
fn moving(masks: &[Image]) -> SourceMask {
    let [width, height] = [masks[0].width(), masks[0].height()];
    let frames = masks.iter().map(|mask| mask.rgb8().to_vec()).collect();
    SourceVideo::from_frames(width, height, 24, frames).unwrap().into()
}

/// 5 frames of 32x32.
fn request() -> Request {
    smallest("a red circle").size(32, 32).frames(5)
}

/// A change of a video of this size.
fn changed(size: [u32; 2], mask: SourceMask) -> Request {
    request().video(video(size, 5)).mask(mask)
}

#[test]
fn masks_of_another_size_than_the_video() {
    let vace = Vace::open();
    let sizes = [[16, 16], [64, 64], [32, 16], [16, 32], [33, 32], [32, 31], [1, 1]];
    for size in sizes {
        let found = format!("{}x{} pixels", size[0], size[1]);
        let moving = moving(&vec![picture(size, BLACK); 5]);
        for mask in [still(size), moving] {
            vace.refuses_mask(&changed([32, 32], mask), &found, "32x32 pixels");
        }
    }
    // The video counts, which is brought to the size of the one to make together with its mask.
    let turned = changed([48, 40], still([40, 48]));
    vace.refuses_mask(&turned, "40x48 pixels", "48x40 pixels");
    vace.refuses_mask(&changed([48, 40], still([32, 32])), "32x32 pixels", "48x40 pixels");
    vace.pipeline.plan(&changed([48, 40], still([48, 40]))).unwrap();
}

#[test]
fn masks_with_gray() {
    let vace = Vace::open();
    let expected = "only black (0) and white (255), as a PNG keeps them";
    // A color counts with its brightness; so do black and white as a JPEG has them.
    for (rgb, gray) in [
        ([128; 3], 128),
        ([1; 3], 1),
        ([254; 3], 254),
        ([255, 0, 0], 76),
        ([0, 0, 255], 29),
        ([255, 255, 0], 226),
    ] {
        for (x, y) in [(0, 0), (5, 2), (31, 31)] {
            let found = format!("{gray} at ({x}, {y}) of frame 0");
            let mask = SourceMask::from(&with_pixel(x, y, rgb));
            vace.refuses_mask(&changed([32, 32], mask), &found, expected);
        }
    }
    // The first of two.
    let mut two = with_pixel(7, 3, [9; 3]).rgb8().to_vec();
    two[3 * (32 * 4)..][..3].copy_from_slice(&[8; 3]);
    let mask = SourceMask::from(&Image::from_rgb8(32, 32, two).unwrap());
    vace.refuses_mask(&changed([32, 32], mask), "9 at (7, 3) of frame 0", expected);
    for frame in 0..5 {
        let mut masks = vec![picture([32, 32], BLACK); 5];
        masks[frame] = with_pixel(5, 2, [128; 3]);
        let found = format!("128 at (5, 2) of frame {frame}");
        vace.refuses_mask(&changed([32, 32], moving(&masks)), &found, expected);
        // Frames that no mask is taken from are as they like.
        let masks = [vec![picture([32, 32], WHITE); 5], masks].concat();
        vace.pipeline.plan(&changed([32, 32], moving(&masks))).unwrap();
    }
    for mask in [with_pixel(5, 2, BLACK), picture([32, 32], BLACK), picture([32, 32], WHITE)] {
        vace.pipeline.plan(&changed([32, 32], SourceMask::from(&mask))).unwrap();
    }
}

#[test]
fn masks_of_too_few_frames() {
    let vace = Vace::open();
    let masks = |frames: usize| moving(&vec![picture([32, 32], WHITE); frames]);
    for (frames, found) in [(1, "1 frame"), (4, "4 frames")] {
        vace.refuses_mask(&changed([32, 32], masks(frames)), found, "5 frames");
    }
    // Of the frames to make, not of the video, which may have more.
    let long = |frames| request().video(video([32, 32], 9)).mask(masks(frames));
    vace.refuses_mask(&long(8).frames(9), "8 frames", "9 frames");
    for frames in [5, 8, 9, 10] {
        vace.pipeline.plan(&long(frames)).unwrap();
    }
    // Where the request does not say it, the video does.
    let unsaid = Request::new("a").video(video([32, 32], 9)).mask(masks(8));
    vace.refuses_mask(&unsaid, "8 frames", "9 frames");
}

#[test]
fn videos_that_are_shorter_than_the_one_to_make() {
    let vace = Vace::open();
    let (mask, size) = (still([32, 32]), [32, 32]);
    let change = |frames| request().video(video(size, frames)).mask(mask.clone());
    for (request, found) in [
        (change(4), "the video to change has 4 frames, but the video to make has 5"),
        (change(1), "the video to change has 1 frame, but the video to make has 5"),
        (change(8).frames(9), "the video to change has 8 frames, but the video to make has 9"),
        (
            request().control(video(size, 4)),
            "the control video has 4 frames, but the video to make has 5",
        ),
        (
            change(5).control(video(size, 3)),
            "the control video has 3 frames, but the video to make has 5",
        ),
        (
            change(3).control(video(size, 5)),
            "the video to change has 3 frames, but the video to make has 5",
        ),
    ] {
        let error = vace.refuses(&request, &[found]);
        assert!(matches!(error, RequestError::ShortVideo { .. }), "{error:?}");
    }
    // A longer one is cut, and one whose length is not asked for tells it.
    for request in [change(6), change(9), request().control(video(size, 6))] {
        assert_eq!(vace.pipeline.plan(&request).unwrap().video_spec().frames, 5);
    }
    let unsaid = Request::new("a").video(video(size, 8)).mask(mask.clone());
    assert_eq!(vace.pipeline.plan(&unsaid).unwrap().video_spec().frames, 5);
}

/// The frames are zeros that are never read, so that they take no memory.
#[test]
fn videos_whose_frames_are_too_large() {
    let of = |width: u32, height: u32| {
        let frame = vec![0; 3 * width as usize * height as usize];
        SourceVideo::from_frames(width, height, 24, vec![frame])
    };
    let side = 1 << 13;
    assert_eq!(u64::from(2 * side * side), MAX_PIXELS);
    for (width, height) in [(2 * side, side + 1), (side + 1, 2 * side), (1, 2 * side * side + 1)] {
        let error = of(width, height).unwrap_err();
        assert!(matches!(error, Error::Image(ImageError::TooLarge { .. })), "{error:?}");
        is_one_sentence(&error);
        let found = format!("has {width}x{height} pixels, but must have at most 134217728 in all");
        says(&error, &["a frame of the video", &found]);
    }
    of(2 * side, side).unwrap();
    // A size of which no frame has the bytes.
    let error = SourceVideo::from_frames(u32::MAX, u32::MAX, 24, vec![vec![0; 3]]).unwrap_err();
    assert!(matches!(error, Error::Video(VideoError::FrameLength { .. })), "{error:?}");
    is_one_sentence(&error);
}

#[test]
fn videos_whose_frames_are_empty() {
    for (width, height) in [(0, 16), (16, 0), (0, 0)] {
        let error = SourceVideo::from_frames(width, height, 24, vec![vec![]; 5]).unwrap_err();
        assert!(matches!(error, Error::Image(ImageError::Empty { .. })), "{error:?}");
        is_one_sentence(&error);
        says(&error, &[&format!("{width}x{height} pixels"), "at least 1"]);
    }
}
