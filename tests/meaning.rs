//! The miniature model shows what it is asked for, in English and Chinese: judged by a program from
//! the pixels of the finished mp4 files. And the same seed gives the same video.

use std::ops::Range;

use wan_io::video::{DecodedVideo, read_mp4};
use wan_pipeline::backend::Flex;
use wan_pipeline::{Clip, Observer, Pipeline, Precision, Request, Video, rank_with_clip};

/// Prompts, in the wordings that the model knows, and the colour, shape, motion and background that
/// they ask for. They were drawn at random, once, before any video of them was seen.
const PROMPTS: [(&str, [&str; 4]); 20] = [
    (
        "a purple triangle shrinking on a gray background",
        ["purple", "triangle", "shrinking", "gray"],
    ),
    ("一个红色的正方形在橙色背景上变大", ["red", "square", "growing", "orange"]),
    ("a black background with a yellow circle moving down", ["yellow", "circle", "down", "black"]),
    ("黑色背景，蓝色圆形向上移动", ["blue", "circle", "up", "black"]),
    (
        "A video of a green square moving left on a gray background",
        ["green", "square", "left", "gray"],
    ),
    ("橙色背景上有一个白色三角形静止不动", ["white", "triangle", "still", "orange"]),
    ("a white circle is moving right", ["white", "circle", "right", "black"]),
    ("视频：一个黄色三角形向下移动，背景是黑色。", ["yellow", "triangle", "down", "black"]),
    ("red square moving right, gray background", ["red", "square", "right", "gray"]),
    ("一个绿色的三角形在黑色背景上变大", ["green", "triangle", "growing", "black"]),
    ("a purple square moving left on a gray background", ["purple", "square", "left", "gray"]),
    ("橙色背景，蓝色圆形静止不动", ["blue", "circle", "still", "orange"]),
    (
        "a black background with a blue triangle shrinking",
        ["blue", "triangle", "shrinking", "black"],
    ),
    ("灰色背景上有一个绿色圆形向上移动", ["green", "circle", "up", "gray"]),
    (
        "A video of a white square moving down on an orange background",
        ["white", "square", "down", "orange"],
    ),
    ("视频：一个紫色正方形静止不动，背景是橙色。", ["purple", "square", "still", "orange"]),
    ("a red triangle is shrinking", ["red", "triangle", "shrinking", "black"]),
    ("一个黄色的圆形在黑色背景上变大", ["yellow", "circle", "growing", "black"]),
    ("blue square moving left, black background", ["blue", "square", "left", "black"]),
    ("灰色背景，红色三角形向上移动", ["red", "triangle", "up", "gray"]),
];

/// Others, in the same wordings, drawn at random by a program.
const OTHER_PROMPTS: [(&str, [&str; 4]); 20] = [
    ("a yellow circle growing on an orange background", ["yellow", "circle", "growing", "orange"]),
    ("灰色背景上有一个白色正方形向右移动", ["white", "square", "right", "gray"]),
    ("white circle moving down, black background", ["white", "circle", "down", "black"]),
    ("灰色背景，红色三角形向左移动", ["red", "triangle", "left", "gray"]),
    ("a blue square moving up on an orange background", ["blue", "square", "up", "orange"]),
    ("黑色背景，紫色圆形静止不动", ["purple", "circle", "still", "black"]),
    ("a yellow square moving left on an orange background", ["yellow", "square", "left", "orange"]),
    ("一个红色的三角形在灰色背景上向下移动", ["red", "triangle", "down", "gray"]),
    ("a green square shrinking on a black background", ["green", "square", "shrinking", "black"]),
    ("灰色背景上有一个黄色正方形向右移动", ["yellow", "square", "right", "gray"]),
    ("a black background with a green triangle moving up", ["green", "triangle", "up", "black"]),
    ("一个蓝色的正方形在灰色背景上向左移动", ["blue", "square", "left", "gray"]),
    ("a green circle growing on a black background", ["green", "circle", "growing", "black"]),
    ("灰色背景上有一个红色三角形变大", ["red", "triangle", "growing", "gray"]),
    ("a black background with a red square moving left", ["red", "square", "left", "black"]),
    ("橙色背景，黄色三角形向右移动", ["yellow", "triangle", "right", "orange"]),
    (
        "a green circle shrinking on an orange background",
        ["green", "circle", "shrinking", "orange"],
    ),
    ("一个紫色的圆形在橙色背景上向下移动", ["purple", "circle", "down", "orange"]),
    ("purple square growing, gray background", ["purple", "square", "growing", "gray"]),
    ("黑色背景，蓝色三角形向下移动", ["blue", "triangle", "down", "black"]),
];

const PROPERTIES: [&str; 4] = ["colour", "shape", "motion", "background"];

const COLOURS: [(&str, [f64; 3]); 6] = [
    ("red", [255.0, 0.0, 0.0]),
    ("green", [0.0, 255.0, 0.0]),
    ("blue", [0.0, 0.0, 255.0]),
    ("yellow", [255.0, 255.0, 0.0]),
    ("purple", [160.0, 0.0, 200.0]),
    ("white", [255.0, 255.0, 255.0]),
];

const BACKGROUNDS: [(&str, [f64; 3]); 3] =
    [("black", [0.0, 0.0, 0.0]), ("gray", [128.0, 128.0, 128.0]), ("orange", [255.0, 140.0, 0.0])];

#[test]
fn videos_show_what_was_asked_for() {
    let [single, half] = [Precision::F32, Precision::Bf16].map(|precision| {
        let builder = Pipeline::<Flex>::builder("tiny-wan").precision(precision);
        let counts = count(&builder.open().unwrap(), &format!("in {precision}"));
        // The reference implementation makes the same frames of these prompts and seeds in f32 (within one
        // level of 255, on its sigma grid): what is wrong in them are the weights' mistakes.
        let ([colour, shape, motion, background], all) = (counts, PROMPTS.len());
        assert_eq!((motion, background), (all, all));
        assert!(colour + 1 >= all, "colour");
        assert!(10 * shape >= 9 * all, "shape");
        counts
    });
    for (property, (half, single)) in PROPERTIES.iter().zip(half.into_iter().zip(single)) {
        assert!(half >= single, "{property}: {half} in bf16, {single} in f32");
    }
}

/// The other miniature, which also begins with a picture.
#[test]
#[ignore = "it asserts nothing and takes a minute: it counts"]
fn videos_of_tiny_wan_ti2v() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tiny-wan-ti2v/model");
    let pipeline = Pipeline::<Flex>::from_pretrained(folder).unwrap();
    count(&pipeline, "by tiny-wan-ti2v");
}

/// In how many of the videos each property is right.
fn count(pipeline: &Pipeline<Flex>, how: &str) -> [usize; 4] {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("video.mp4");
    let mut right = [0; 4];
    for (seed, (prompt, asked)) in PROMPTS.into_iter().enumerate() {
        let request = Request::new(prompt).seed(seed as u64);
        pipeline.generate(&request).unwrap().save(&path).unwrap();
        let video = read_mp4(&path).unwrap();
        assert_eq!((video.spec.width, video.spec.height, video.frames.len()), (64, 64, 97));
        let (seen, numbers) = look_at(&video);
        for i in 0..4 {
            right[i] += usize::from(seen[i] == asked[i]);
        }
        let wrong = if seen == asked { "" } else { "   <- wrong" };
        println!("{seed:2} {prompt}: {} ({numbers}){wrong}", seen.join(", "));
    }
    for (property, count) in PROPERTIES.iter().zip(right) {
        println!("{property} right in {count} of {} {how}", PROMPTS.len());
    }
    right
}

/// How often all that was asked for is right: in the first of four takes, in the one that a CLIP likes best, and in any.
#[test]
#[ignore = "it asserts nothing and takes minutes: it counts"]
fn the_best_of_four() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("video.mp4");
    let pipeline = Pipeline::<Flex>::from_pretrained("tiny-wan").unwrap();
    let clip = Clip::<Flex>::from_pretrained("tiny-clip").unwrap();
    let [mut first, mut best, mut any] = [0; 3];
    for (i, (prompt, asked)) in OTHER_PROMPTS.into_iter().enumerate() {
        let seeds = 4 * i as u64..4 * (i as u64 + 1);
        let (request, observer) = (Request::new(prompt), &mut Observer::silent());
        let takes = rank_with_clip(&pipeline, &clip, &request, seeds.clone(), observer).unwrap();
        let right = takes.iter().filter(|take| {
            take.video.save(&path).unwrap();
            look_at(&read_mp4(&path).unwrap()).0 == asked
        });
        let right: Vec<u64> = right.map(|take| take.seed).collect();
        println!("{prompt}: right with {right:?} of {seeds:?}, the best is {}", takes[0].seed);
        first += usize::from(right.contains(&seeds.start));
        best += usize::from(right.contains(&takes[0].seed));
        any += usize::from(!right.is_empty());
    }
    let all = OTHER_PROMPTS.len();
    println!("of {all}: {first} with one seed, {best} in the best of four, {any} in any of four");
}

/// Colour, shape, motion and background of a video, and the numbers that they were judged by.
fn look_at(video: &DecodedVideo) -> ([&'static str; 4], String) {
    let size = (video.spec.width as usize, video.spec.height as usize);
    let background = border(&video.frames[0], size);
    let objects: Vec<Object> =
        video.frames.iter().map(|frame| Object::find(frame, size, background)).collect();
    let colour = mean(&objects, |object| object.colour);
    let shape = ShapeNumbers::of(&objects);
    let motion = MotionNumbers::of(&objects);
    let seen =
        [nearest(colour, &COLOURS), shape.name(), motion.name(), nearest(background, &BACKGROUNDS)];
    let numbers =
        format!("colour {colour:.0?}, {shape:.3?}, {motion:.2?}, background {background:.0?}");
    (seen, numbers)
}

/// Column, row and colour.
type Pixel = (usize, usize, [f64; 3]);

/// What differs from the background in one frame.
#[derive(Clone, Copy)]
struct Object {
    area: f64,
    colour: [f64; 3],
    centre: [f64; 2],
    /// Its part of the box around it.
    fill: f64,
    /// How much more of it is in the lower half of the box than in the upper, as part of all.
    weight_below: f64,
    /// Whether some of it may be out of sight.
    at_border: bool,
}

impl Object {
    fn find(frame: &[u8], (width, height): (usize, usize), background: [f64; 3]) -> Self {
        let pixels = frame.as_chunks::<3>().0.iter().map(|rgb| rgb.map(f64::from));
        let object: Vec<Pixel> = pixels
            .enumerate()
            .map(|(i, rgb)| (i % width, i / width, rgb))
            .filter(|(_, _, rgb)| distance(*rgb, background) > 75.0)
            .collect();
        let area = object.len() as f64;
        let average =
            |value: &dyn Fn(&Pixel) -> f64| object.iter().map(value).sum::<f64>() / area.max(1.0);
        let (columns, rows): (Vec<_>, Vec<_>) = object.iter().map(|(x, y, _)| (*x, *y)).unzip();
        let (left, right) = extent(&columns, width);
        let (top, bottom) = extent(&rows, height);
        let half = (bottom - top) / 2;
        let rows_in =
            |range: Range<usize>| rows.iter().filter(|row| range.contains(row)).count() as f64;
        Self {
            area,
            colour: std::array::from_fn(|c| average(&|(_, _, rgb)| rgb[c])),
            centre: [average(&|(x, _, _)| *x as f64), average(&|(_, y, _)| *y as f64)],
            fill: area / ((right - left) * (bottom - top)) as f64,
            weight_below: (rows_in(bottom - half..bottom) - rows_in(top..top + half))
                / area.max(1.0),
            at_border: left == 0 || top == 0 || right == width || bottom == height,
        }
    }
}

/// The first and last but one of the positions that at least two pixels have, so that a stray pixel
/// does not count.
fn extent(positions: &[usize], size: usize) -> (usize, usize) {
    let mut counts = vec![0; size];
    positions.iter().for_each(|&position| counts[position] += 1);
    let first = counts.iter().position(|&count| count >= 2).unwrap_or(0);
    let last = counts.iter().rposition(|&count| count >= 2).unwrap_or(0);
    (first, last + 1)
}

/// Medians over all frames in which the whole object can be seen and is not too small.
#[derive(Debug)]
struct ShapeNumbers {
    fill: f64,
    weight_below: f64,
}

impl ShapeNumbers {
    fn of(objects: &[Object]) -> Self {
        let whole = |object: &&Object| !object.at_border && object.area >= 40.0;
        let typical = |value: fn(&Object) -> f64| {
            median(&mut objects.iter().filter(whole).map(value).collect::<Vec<_>>())
        };
        Self {
            fill: typical(|object| object.fill),
            weight_below: typical(|object| object.weight_below),
        }
    }

    /// A triangle has half of its area more below than above, the others are symmetric. Of these, a
    /// square fills the box around it and a circle pi / 4 of it; the shape whose overlap with the
    /// object is the larger part of their union is nearer.
    fn name(&self) -> &'static str {
        let circle = std::f64::consts::FRAC_PI_4;
        match (self.weight_below > 0.25, self.fill > circle / self.fill) {
            (true, _) => "triangle",
            (false, true) => "square",
            (false, false) => "circle",
        }
    }
}

/// How the object changes from the first to the last tenth of the video.
#[derive(Debug)]
struct MotionNumbers {
    /// Pixels to the right and down.
    path: [f64; 2],
    /// Area at the end divided by that at the start.
    growth: f64,
}

impl MotionNumbers {
    fn of(objects: &[Object]) -> Self {
        let tenth = objects.len() / 10;
        let (early, late) = (&objects[..tenth], &objects[objects.len() - tenth..]);
        let [from, to] = [early, late].map(|part| mean(part, |object| object.centre));
        let [before, after] = [early, late].map(|part| mean(part, |object| [object.area])[0]);
        Self { path: [to[0] - from[0], to[1] - from[1]], growth: after / before }
    }

    fn name(&self) -> &'static str {
        let [x, y] = self.path;
        match (x.abs().max(y.abs()) > 10.0, x.abs() > y.abs()) {
            (true, true) if x > 0.0 => "right",
            (true, true) => "left",
            (true, false) if y > 0.0 => "down",
            (true, false) => "up",
            _ if self.growth > 1.4 => "growing",
            _ if self.growth < 1.0 / 1.4 => "shrinking",
            _ => "still",
        }
    }
}

/// The median colour of the outermost pixels.
fn border(frame: &[u8], (width, height): (usize, usize)) -> [f64; 3] {
    let is_border = |i: usize| {
        let (x, y) = (i % width, i / width);
        x == 0 || y == 0 || x + 1 == width || y + 1 == height
    };
    let pixels = frame.as_chunks::<3>().0;
    let border: Vec<_> = (0..pixels.len()).filter(|&i| is_border(i)).map(|i| pixels[i]).collect();
    std::array::from_fn(|c| {
        median(&mut border.iter().map(|rgb| f64::from(rgb[c])).collect::<Vec<_>>())
    })
}

fn nearest(colour: [f64; 3], named: &[(&'static str, [f64; 3])]) -> &'static str {
    let far = |other: &[f64; 3]| distance(colour, *other);
    named.iter().min_by(|a, b| far(&a.1).total_cmp(&far(&b.1))).unwrap().0
}

fn distance(a: [f64; 3], b: [f64; 3]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt()
}

/// The mean over the objects that are there.
fn mean<const N: usize>(objects: &[Object], value: impl Fn(&Object) -> [f64; N]) -> [f64; N] {
    let there: Vec<_> = objects.iter().filter(|o| o.area > 0.0).map(value).collect();
    std::array::from_fn(|i| there.iter().map(|v| v[i]).sum::<f64>() / there.len().max(1) as f64)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[test]
fn the_same_seed_gives_the_same_video() {
    let request =
        |seed| Request::new("一个红色的圆形变大").size(32, 32).frames(9).steps(3).seed(seed);
    let frames = |video: Video| video.frames().map(<[u8]>::to_vec).collect::<Vec<_>>();
    let open = || Pipeline::<Flex>::from_pretrained("tiny-wan").unwrap();
    let pipeline = open();
    let first = frames(pipeline.generate(&request(7)).unwrap());
    let other = frames(pipeline.generate(&request(8)).unwrap());
    let again = frames(pipeline.generate(&request(7)).unwrap());
    let afresh = frames(open().generate(&request(7)).unwrap());
    assert_ne!(other, first, "another seed gives another video");
    assert!(again == first && afresh == first, "the same seed gives the same bytes");
}
