//! The best of several videos, as a CLIP sees them.

use wan_core::Backend;

use super::Clip;
use crate::{Error, Observer, Pipeline, Request, Video};

/// Frames of a video that are looked at.
const FRAMES: usize = 8;

/// A video and how well it fits its prompt.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RankedVideo {
    /// The seed that it was made with.
    pub seed: u64,
    /// The cosine of the prompt and the mean over 8 of its frames.
    pub similarity: f32,
    /// The video.
    pub video: Video,
}

/// Makes the video of `request` with each of the seeds, in one batch, and puts those first that fit the prompt
/// best: by the [cosine](super::ClipEmbedding::cosine) of the prompt and the mean over 8 frames. Of equal ones,
/// the earlier seed is first. A CLIP sees frames, so it judges what a video shows, and not how it moves.
///
/// ```
/// # #[cfg(all(feature = "flex", feature = "tiny-wan", feature = "tiny-clip"))]
/// # fn main() -> Result<(), wan_pipeline::Error> {
/// use wan_pipeline::{Clip, Observer, Pipeline, Request, backend::Flex, rank_with_clip};
///
/// let pipeline = Pipeline::<Flex>::from_pretrained("tiny-wan")?;
/// let clip = Clip::<Flex>::from_pretrained("tiny-clip")?;
/// let request = Request::new("a blue square growing").frames(5).steps(2);
/// let ranked = rank_with_clip(&pipeline, &clip, &request, 1..=2, &mut Observer::silent())?;
/// assert!(ranked[0].similarity >= ranked[1].similarity);
/// # Ok(())
/// # }
/// # #[cfg(not(all(feature = "flex", feature = "tiny-wan", feature = "tiny-clip")))]
/// # fn main() {}
/// ```
///
/// # Errors
/// Those of [`Pipeline::generate_batch_with`] and [`Clip::embed_video`].
pub fn rank_with_clip<B: Backend, C: Backend>(
    pipeline: &Pipeline<B>,
    clip: &Clip<C>,
    request: &Request,
    seeds: impl IntoIterator<Item = u64>,
    observer: &mut Observer,
) -> Result<Vec<RankedVideo>, Error> {
    let prompt = &clip.embed_text(&[&request.prompt])?[0];
    let requests = request.with_seeds(seeds);
    let videos = pipeline.generate_batch_with(&requests, observer)?;
    let rate = |(request, video): (&Request, Video)| {
        let similarity = clip.embed_video(&video, FRAMES)?.cosine(prompt);
        Ok(RankedVideo { seed: request.seed, similarity, video })
    };
    let mut ranked = requests.iter().zip(videos).map(rate).collect::<Result<Vec<_>, Error>>()?;
    ranked.sort_by(|a, b| b.similarity.total_cmp(&a.similarity));
    Ok(ranked)
}
