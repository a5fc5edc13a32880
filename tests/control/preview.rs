//! A rough look at a run: small, cheap, and of about the right colours.

use wan_pipeline::{FrameRate, Role, Video, VideoSpec};

use crate::counting::{self, calls_of};
use crate::support::{Log, silent, small, tiny_wan};

/// The mean absolute difference of a preview's frame to a video's, both as means over latent pixels.
fn difference(preview: &[u8], frame: &[u8], width: usize) -> f64 {
    let latent = width / 8;
    let mean = |pixels: &[u8], scale: usize, at: usize, c: usize| {
        let (top, left, row) = (at / latent * scale, at % latent * scale, latent * scale);
        let values = (0..scale * scale)
            .map(|i| f64::from(pixels[3 * ((top + i / scale) * row + left + i % scale) + c]));
        values.sum::<f64>() / (scale * scale) as f64
    };
    let count = preview.len() / 3 / 16;
    let pairs = (0..count).flat_map(|at| (0..3).map(move |c| (at, c)));
    let sum: f64 =
        pairs.map(|(at, c)| (mean(preview, 4, at, c) - mean(frame, 8, at, c)).abs()).sum();
    sum / (3 * count) as f64
}

/// Rough: what a latent pixel means depends on its neighbours, of which the map knows nothing. But each
/// preview is nearer to its own video than to any other.
#[test]
fn colours_are_about_right() {
    const LARGEST: f64 = 60.0;
    let pipeline = tiny_wan();
    let prompts = [
        "橙色背景，白色圆形变小",
        "a red circle moving right on a black background",
        "a blue square growing on a gray background",
    ];
    let requests = prompts.map(|prompt| small(prompt).size(64, 64).frames(33).steps(12));
    let mut run = pipeline.start(&requests, &mut silent()).unwrap();
    run.run(&mut silent()).unwrap();
    let previews = [0, 1, 2].map(|i| run.preview(i).unwrap());
    let videos: Vec<Video> = [0, 1, 2]
        .map(|i| {
            let mut video = Video::new(run.plan(i).unwrap());
            pipeline.decode(&run.latents(i).unwrap(), &mut video, &mut silent()).unwrap();
            video
        })
        .into();
    for (i, preview) in previews.iter().enumerate() {
        let first = |video: &Video| video.frames().next().unwrap().to_vec();
        let error = |video: &Video| difference(&first(preview), &first(video), 64);
        let errors: Vec<f64> = videos.iter().map(error).collect();
        println!("{}: {errors:.1?} of 255", prompts[i]);
        assert!(errors[i] < LARGEST, "{}: {errors:?}", prompts[i]);
        assert!((0..3).all(|j| j == i || errors[i] < errors[j]), "{}: {errors:?}", prompts[i]);
    }
}

#[test]
fn sizes() {
    let pipeline = tiny_wan();
    let cases = [(1, 1, "24", "6"), (5, 2, "23.976", "5.994"), (17, 5, "2", "1")];
    for (frames, latent_frames, fps, slower) in cases {
        let [fps, slower] = [fps, slower].map(|fps| fps.parse::<FrameRate>().unwrap());
        let request = small("a red circle").size(48, 32).frames(frames).fps(fps);
        let mut run = pipeline.start(&[request.clone(), request], &mut silent()).unwrap();
        let noise = run.preview(1).unwrap();
        run.step().unwrap();
        let preview = run.preview(1).unwrap();
        let expected = VideoSpec { width: 24, height: 16, fps: slower, frames: latent_frames };
        assert_eq!((*preview.spec(), *noise.spec()), (expected, expected));
        assert_eq!(preview.frames().len(), latent_frames as usize);
        assert!(preview != noise);
    }
}

#[test]
fn the_map_is_fitted_once() {
    let pipeline = counting::pipeline();
    let mut run = pipeline.start(&[small("a red circle")], &mut silent()).unwrap();
    run.step().unwrap();
    let (first, fitting) = calls_of(|| run.preview(0).unwrap());
    assert!(fitting.conv3d > 0);
    let (second, again) = calls_of(|| run.preview(0).unwrap());
    assert_eq!((again.conv3d, again.linear), (0, 0));
    assert!(first == second);
    // The VAE that it was fitted with is the one that decodes.
    let log = Log::default();
    let mut video = Video::new(run.plan(0).unwrap());
    pipeline.decode(&run.latents(0).unwrap(), &mut video, &mut log.observer()).unwrap();
    assert_eq!(log.loaded(Role::Vae), 0);
}
