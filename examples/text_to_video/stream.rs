//! `--stream`: videos that are made and written a block of frames at a time.

use clap::Args;
use wan_pipeline::{
    Backend, FrameSink as _, Observer, Pipeline, Request, StreamOptions, StreamPlan,
};

use crate::options::Options;
use crate::outputs::{Film, Output, Outputs};
use crate::progress::Progress;
use crate::{Result, announce, memory, print_plan};

#[derive(Args)]
pub(crate) struct StreamArgs {
    /// Make the video block by block and write each as soon as it is made: of any length (--frames), in memory that
    /// does not depend on it. For models that were trained for it, such as Self-Forcing and LongLive
    #[arg(
        long,
        conflicts_with_all = [
            "resume", "latents", "save_state", "save_latents", "save_embeddings", "preview", "grid",
            "best_of", "sigma_grid",
        ],
    )]
    pub(crate) stream: bool,
    /// Latent frames of a block of --stream, each of them four frames [default: 3]
    #[arg(long, value_name = "N", requires = "stream")]
    block: Option<usize>,
    /// Latent frames that a block attends to, its own among them [default: 21]
    #[arg(long, value_name = "N", requires = "stream")]
    window: Option<usize>,
    /// The first latent frames, which stay in the window for ever [default: 0]
    #[arg(long, value_name = "N", requires = "stream")]
    sink: Option<usize>,
    /// The noise levels of the steps of a block, which the flow shift changes, falling from 1000 at most [default:
    /// 1000,750,500,250]
    #[arg(long, value_name = "LEVELS", value_delimiter = ',', requires = "stream")]
    noise_levels: Vec<f64>,
}

impl StreamArgs {
    fn options(&self, flow_shift: Option<f64>) -> StreamOptions {
        let mut options = StreamOptions::new();
        options.block = self.block.unwrap_or(options.block);
        options.window = self.window.unwrap_or(options.window);
        options.sink = self.sink.unwrap_or(options.sink);
        options.flow_shift = flow_shift.unwrap_or(options.flow_shift);
        match self.noise_levels.is_empty() {
            true => options,
            false => options.noise_levels(self.noise_levels.clone()),
        }
    }
}

/// Makes and writes a stream for each request, one after the other.
pub(crate) fn write<B: Backend>(
    options: &Options,
    pipeline: &Pipeline<B>,
    requests: &[Request],
    observer: &mut Observer,
    progress: &Progress,
) -> Result<()> {
    let stream_options = options.stream.options(options.shift);
    let requests: Vec<Request> =
        requests.iter().map(|request| request.clone().shift(None)).collect();
    let plan = |request| pipeline.plan_stream(request, &stream_options);
    let plans: Vec<StreamPlan> =
        requests.iter().map(plan).collect::<std::result::Result<_, _>>()?;
    for plan in &plans {
        let memory = memory::plan_of(pipeline.memory_to_stream(plan), options);
        if options.plan {
            return print_plan(pipeline, &memory);
        }
        memory::foresee(&memory, progress)?;
    }
    // Everything that could fail at the end is opened before the work begins.
    let film = |plan: &StreamPlan| Film {
        spec: plan.video_spec().expect("a file has an end"),
        metadata: plan.metadata(),
    };
    let films = plans.iter().map(film).collect();
    let mut outputs = Outputs::open(options, films, progress, observer.cancel_token())?;
    for (request, output) in requests.iter().zip(&mut outputs.videos) {
        write_one(pipeline, request, &stream_options, output, observer, progress)?;
    }
    announce(outputs, progress)
}

fn write_one<B: Backend>(
    pipeline: &Pipeline<B>,
    request: &Request,
    options: &StreamOptions,
    output: &mut Output,
    observer: &mut Observer,
    progress: &Progress,
) -> Result<()> {
    let mut stream = pipeline.stream(request, options, observer)?;
    let mut done = 0;
    progress.show_stream(done, output.frames());
    while let Some(block) = stream.next(observer)? {
        block.frames().try_for_each(|frame| output.write_frame(frame))?;
        done += block.frames().len();
        progress.show_stream(done, output.frames());
    }
    Ok(())
}
