//! Several takes of each video, of which the one is written that fits its prompt best.

use std::path::Path;

use wan_pipeline::io::files::Destination;
use wan_pipeline::{
    Backend, Clip, FrameSink as _, Observer, Pipeline, RankedVideo, Request, rank_with_clip,
};

use crate::options::Options;
use crate::outputs::{Film, Outputs};
use crate::progress::Progress;
use crate::{Result, announce, films};

/// Makes `takes` videos of each request, with the seeds from its own on, and writes the best.
pub(crate) fn write<B: Backend>(
    options: &Options,
    takes: u32,
    pipeline: &Pipeline<B>,
    requests: &[Request],
    observer: &mut Observer,
    progress: &Progress,
) -> Result<()> {
    // What could fail at the end is tried before the work begins, where that leaves no trace.
    if !Destination::of(&options.out).is_stream() {
        let films = films(&pipeline.plan_batch(requests)?);
        drop(Outputs::open(options, films, progress, observer.cancel_token())?);
    }
    let clip = Clip::<B>::builder(&options.clip).open_with(observer)?;
    if options.clip == Path::new("tiny-clip") && !pipeline.preset().name.starts_with("tiny-wan") {
        progress
            .say("tiny-clip knows the drawings of tiny-wan and nothing else: --clip names another");
    }
    let mut best = Vec::new();
    for request in requests {
        let seeds = (0..takes).map(|take| request.seed.wrapping_add(take.into()));
        let ranked = rank_with_clip(pipeline, &clip, request, seeds, observer)?;
        for take in &ranked {
            progress.say(&format!("seed {}: {:.4}", take.seed, take.similarity));
        }
        best.extend(ranked.into_iter().next());
    }
    let film = |take: &RankedVideo| Film {
        spec: *take.video.spec(),
        metadata: take.video.metadata().clone(),
    };
    let films = best.iter().map(film).collect();
    let mut outputs = Outputs::open(options, films, progress, observer.cancel_token())?;
    for (output, take) in outputs.videos.iter_mut().zip(&best) {
        take.video.frames().try_for_each(|frame| output.write_frame(frame))?;
    }
    announce(outputs, progress)
}
