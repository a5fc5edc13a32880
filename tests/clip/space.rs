//! The space that texts in both languages and frames share: what belongs together is nearest to each other.

use wan_pipeline::io::image::Image;
use wan_pipeline::{ClipEmbedding, Observer, Pipeline, Request, rank_with_clip};

use crate::tiny_clip;

const COLOURS: [(&str, &str, [u8; 3]); 6] = [
    ("red", "红色", [255, 0, 0]),
    ("green", "绿色", [0, 255, 0]),
    ("blue", "蓝色", [0, 0, 255]),
    ("yellow", "黄色", [255, 255, 0]),
    ("purple", "紫色", [160, 0, 200]),
    ("white", "白色", [255, 255, 255]),
];
const SHAPES: [(&str, &str); 3] =
    [("circle", "圆形"), ("square", "正方形"), ("triangle", "三角形")];
const BACKGROUNDS: [(&str, &str, [u8; 3]); 3] =
    [("black", "黑色", [0, 0, 0]), ("gray", "灰色", [128; 3]), ("orange", "橙色", [255, 140, 0])];

/// One of the things that the miniature knows.
struct Scene {
    english: String,
    chinese: String,
    frame: Image,
}

fn scenes() -> Vec<Scene> {
    let mut scenes = Vec::new();
    for (colour, farbe, rgb) in COLOURS {
        for (shape, form) in SHAPES {
            for (background, grund, behind) in BACKGROUNDS {
                let article = if background == "orange" { "an" } else { "a" };
                scenes.push(Scene {
                    english: format!("a {colour} {shape} on {article} {background} background"),
                    chinese: format!("{grund}背景上有一个{farbe}{form}"),
                    frame: draw(shape, rgb, behind),
                });
            }
        }
    }
    scenes
}

/// A frame of 64x64 with a shape a little off its middle.
fn draw(shape: &str, colour: [u8; 3], background: [u8; 3]) -> Image {
    let is_inside = |x: f64, y: f64| match shape {
        "circle" => x.hypot(y) < 13.0,
        "square" => x.abs().max(y.abs()) < 12.0,
        _ => y.abs() < 12.0 && 2.0 * x.abs() < y + 12.0,
    };
    let pixel = |i: usize| {
        let (x, y) = ((i % 64) as f64 - 34.5, (i / 64) as f64 - 29.5);
        if is_inside(x, y) { colour } else { background }
    };
    Image::from_rgb8(64, 64, (0..64 * 64).flat_map(pixel).collect()).unwrap()
}

/// Which of `others` is nearest.
fn nearest(one: &ClipEmbedding, others: &[ClipEmbedding]) -> usize {
    let by_cosine =
        |a: &usize, b: &usize| one.cosine(&others[*a]).total_cmp(&one.cosine(&others[*b]));
    (0..others.len()).max_by(by_cosine).unwrap()
}

/// How many are nearest to the one in the same place.
fn right(all: &[ClipEmbedding], others: &[ClipEmbedding]) -> usize {
    (0..all.len()).filter(|&i| nearest(&all[i], others) == i).count()
}

#[test]
fn what_says_and_shows_the_same_is_nearest_to_each_other() {
    let (clip, scenes) = (tiny_clip(), scenes());
    let texts = |text: fn(&Scene) -> &String| {
        clip.embed_text(&scenes.iter().map(text).collect::<Vec<_>>()).unwrap()
    };
    let (english, chinese) = (texts(|scene| &scene.english), texts(|scene| &scene.chinese));
    let frames: Vec<Image> = scenes.iter().map(|scene| scene.frame.clone()).collect();
    let frames = clip.embed_image(&frames).unwrap();
    for (what, count, least) in [
        ("English to Chinese", right(&english, &chinese), 54),
        ("Chinese to English", right(&chinese, &english), 54),
        ("frames to English", right(&frames, &english), 53),
        ("frames to Chinese", right(&frames, &chinese), 53),
        ("English to frames", right(&english, &frames), 53),
        ("Chinese to frames", right(&chinese, &frames), 53),
    ] {
        println!("{what}: {count} of {}", scenes.len());
        assert!(count >= least, "{what}: {count} of {}, at least {least}", scenes.len());
    }
    // What its README says of the wordings of the training.
    let cosines = english.iter().zip(&chinese).map(|(a, b)| a.cosine(b));
    let least = cosines.fold(1.0, f32::min);
    println!("one meaning in two languages: cosine {least:.4} or more");
    assert!(least > 0.98, "{least}");
}

/// Logits are cosines times the factor that the model was trained with.
#[test]
fn logits_are_cosines_times_a_factor() {
    let clip = tiny_clip();
    let texts = clip.embed_text(&["a red circle", "一个蓝色的正方形"]).unwrap();
    let frame = draw("circle", [255, 0, 0], [0; 3]);
    let image = clip.embed_image(&[frame]).unwrap();
    let logits = clip.logits(&image, &texts);
    let factor = logits[0][0] / image[0].cosine(&texts[0]);
    assert!((logits[0][1] - factor * image[0].cosine(&texts[1])).abs() < 1e-3);
    assert!(logits[0][0] > logits[0][1] + 5.0, "{logits:?}");
}

/// A picture is embedded the same alone and among others, in whatever size it comes.
#[test]
fn pictures_are_embedded_each_alone() {
    let clip = tiny_clip();
    let frames: Vec<Image> = scenes().into_iter().map(|scene| scene.frame).take(11).collect();
    let together = clip.embed_image(&frames).unwrap();
    for (frame, together) in frames.iter().zip(&together) {
        let alone = clip.embed_image(std::slice::from_ref(frame)).unwrap();
        assert!(alone[0].cosine(together) > 0.99999);
    }
    let large = frames[0].resize(256, 256, wan_pipeline::io::image::Filter::Bicubic).unwrap();
    assert!(clip.embed_image(&[large]).unwrap()[0].cosine(&together[0]) > 0.99);
    assert!(clip.embed_image(&[]).unwrap().is_empty());
    assert!(clip.embed_text::<&str>(&[]).unwrap().is_empty());
}

/// The takes are the videos that their seeds give, the best first.
#[test]
fn takes_are_ranked_by_how_well_they_fit() {
    let (clip, pipeline) =
        (tiny_clip(), Pipeline::<crate::Flex>::from_pretrained("tiny-wan").unwrap());
    let request = Request::new("a yellow triangle on a black background").frames(17).steps(6);
    let ranked =
        rank_with_clip(&pipeline, &clip, &request, 1..=3, &mut Observer::silent()).unwrap();
    let prompt = &clip.embed_text(&[&request.prompt]).unwrap()[0];
    let mut seeds: Vec<u64> = ranked.iter().map(|take| take.seed).collect();
    for pair in ranked.windows(2) {
        assert!(pair[0].similarity >= pair[1].similarity);
    }
    for take in &ranked {
        let video = pipeline.generate(&request.clone().seed(take.seed)).unwrap();
        assert_eq!(video.frames().collect::<Vec<_>>(), take.video.frames().collect::<Vec<_>>());
        let similarity = clip.embed_video(&video, 8).unwrap().cosine(prompt);
        assert!((similarity - take.similarity).abs() < 1e-6);
    }
    seeds.sort_unstable();
    assert_eq!(seeds, [1, 2, 3]);
    // One that shows something else fits less.
    let other = pipeline
        .generate(&Request::new("an orange background with a blue circle").frames(17).steps(6));
    let other = clip.embed_video(&other.unwrap(), 8).unwrap().cosine(prompt);
    assert!(ranked[2].similarity > other, "{} and {other}", ranked[2].similarity);
}
