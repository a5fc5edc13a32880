//! Prompts become videos: `cargo run --release --example text_to_video -- "a red circle moving right on
//! a black background"`.

mod grid;
mod options;
mod outputs;
mod progress;

use std::error::Error as StdError;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Parser;
use wan_pipeline::{
    Backend, BackendChoice, CancelToken, Denoising, Embeddings, Error, Latents, Observer, Pipeline,
    Plan, Request, VideoSpec, WithBackend, backends, best_backend, with_backend,
};

use options::Options;
use outputs::{Film, Outputs};
use progress::Progress;

/// What a program that was interrupted exits with: 128 and the number of the signal.
const INTERRUPTED: u8 = 130;

type Result<T> = std::result::Result<T, Box<dyn StdError>>;

fn main() -> ExitCode {
    let options = Options::parse(); // exits with 2 where an option is wrong
    let cancel = CancelToken::default();
    stop_on_interrupt(&cancel);
    match run_on_backend(&options, &cancel) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if cancel.is_cancelled() && is_cancelled(error.as_ref()) => {
            eprintln!("stopped");
            ExitCode::from(INTERRUPTED)
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The first Ctrl-C asks the work to stop and to tidy up, a second one ends the program at once.
fn stop_on_interrupt(cancel: &CancelToken) {
    let (cancel, asked) = (cancel.clone(), AtomicBool::new(false));
    let handler = move || {
        if asked.swap(true, Ordering::Relaxed) {
            std::process::exit(INTERRUPTED.into());
        }
        eprintln!("stopping; Ctrl-C again ends at once");
        cancel.cancel();
    };
    if let Err(error) = ctrlc::set_handler(handler) {
        eprintln!("warning: Ctrl-C will end the program without tidying up: {error}");
    }
}

fn is_cancelled(error: &(dyn StdError + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(Error::Cancelled))
}

fn run_on_backend(options: &Options, cancel: &CancelToken) -> Result<()> {
    let mut choice = options.backend;
    if choice == BackendChoice::Auto {
        let best = best_backend(&backends()).ok_or("no backend works on this machine")?;
        eprintln!("backend: {}", best.reason);
        choice = best.choice;
    }
    with_backend(choice, Program { options, cancel })?
}

/// The program, on a backend that is chosen at run time.
struct Program<'a> {
    options: &'a Options,
    cancel: &'a CancelToken,
}

impl WithBackend for Program<'_> {
    type Output = Result<()>;

    fn run<B: Backend>(self) -> Result<()> {
        let Self { options, cancel } = self;
        let progress = Progress::new();
        let observer = &mut Observer::new(|event| progress.show(event)).cancelled_by(cancel);
        let pipeline = options.pipeline::<B>().open_with(observer)?;
        progress.reset();
        if options.latents.is_some() {
            return decode_latents(options, &pipeline, observer, &progress);
        }
        let requests = options.requests(&pipeline.preset())?;
        let plans = match &options.resume {
            Some(file) => pipeline.saved_plans(file)?,
            None => pipeline.plan_batch(&requests)?,
        };
        // Everything that could fail at the end is opened before the work begins.
        let mut outputs = Outputs::open(options, films(&plans))?;
        if let Some(writer) = outputs.embeddings.take() {
            writer.write(&embed(&pipeline, &requests, observer)?)?;
        }
        let mut run = match &options.resume {
            Some(file) => pipeline.resume(file, observer)?,
            None => pipeline.start(&requests, observer)?,
        };
        let state = outputs.state.take();
        match finish(options, &pipeline, &mut run, outputs, observer, &progress) {
            Ok(Finished::Whole) => Ok(()),
            stopped => {
                if let (Some(writer), Some(file)) = (state, &options.save_state) {
                    run.save_to(writer)?;
                    let (done, steps, file) = (run.done(), run.steps(), file.display());
                    progress.say(&format!(
                        "{done} of {steps} steps are saved in {file}: --resume {file} goes on"
                    ));
                }
                stopped.map(drop)
            }
        }
    }
}

/// The embeddings of requests for one prompt, with the negative prompt if any of them needs it.
fn embed<B: Backend>(
    pipeline: &Pipeline<B>,
    requests: &[Request],
    observer: &mut Observer,
) -> Result<Embeddings> {
    let mut all = Vec::new();
    for request in requests {
        all.push(pipeline.embed(request, observer)?);
    }
    let guided = all.iter().position(|embeddings| embeddings.negative_prompt.is_some());
    Ok(all.swap_remove(guided.unwrap_or_default()))
}

/// How far [`finish`] came without an error.
enum Finished {
    Whole,
    /// `--stop-after` has stopped it.
    Stopped,
}

fn films(plans: &[Plan]) -> Vec<Film> {
    plans.iter().map(|plan| Film { spec: plan.video_spec(), metadata: plan.metadata() }).collect()
}

/// Does what is left of a run, and writes what it leads to.
fn finish<B: Backend>(
    options: &Options,
    pipeline: &Pipeline<B>,
    run: &mut Denoising<B>,
    outputs: Outputs,
    observer: &mut Observer,
    progress: &Progress,
) -> Result<Finished> {
    let start = std::time::Instant::now();
    let (first, last) = (run.done(), options.stop_after.unwrap_or(usize::MAX));
    while run.done() < last
        && let Some(step) = run.step()?
    {
        progress.show_step(&step, first, start.elapsed());
        if options.preview.is_some_and(|every| step.done.is_multiple_of(every as usize)) {
            outputs.write_previews(run)?;
        }
    }
    if run.done() < run.steps() {
        let (done, steps) = (run.done(), run.steps());
        progress.say(&format!("stopped after {done} of {steps} steps, as --stop-after says"));
        return Ok(Finished::Stopped);
    }
    let latents: Vec<Latents<B>> =
        (0..run.videos()).map(|video| run.latents(video)).collect::<std::result::Result<_, _>>()?;
    write(pipeline, &latents, outputs, observer, progress)?;
    Ok(Finished::Whole)
}

/// Decodes latents that were saved before.
fn decode_latents<B: Backend>(
    options: &Options,
    pipeline: &Pipeline<B>,
    observer: &mut Observer,
    progress: &Progress,
) -> Result<()> {
    let file = options.latents.as_ref().expect("the caller has looked");
    let (mut latents, mut films) = (Vec::new(), Vec::new());
    for (video, metadata) in pipeline.load_latents(file)? {
        let metadata = metadata.unwrap_or_default();
        let fps = options.fps.or(metadata.fps).unwrap_or(pipeline.preset().fps);
        films.push(Film { spec: VideoSpec { fps, ..pipeline.decoded_spec(&video) }, metadata });
        latents.push(video);
    }
    write(pipeline, &latents, Outputs::open(options, films)?, observer, progress)
}

/// Decodes latents into the files that were opened for them.
fn write<B: Backend>(
    pipeline: &Pipeline<B>,
    latents: &[Latents<B>],
    mut outputs: Outputs,
    observer: &mut Observer,
    progress: &Progress,
) -> Result<()> {
    outputs.write_latents(latents)?;
    let mut written = Vec::new();
    for (latents, output) in latents.iter().zip(&mut outputs.videos) {
        pipeline.decode(latents, output, observer)?;
    }
    for output in outputs.videos {
        written.push(output.finish(&mut outputs.grid)?);
    }
    if let Some(grid) = outputs.grid {
        written.push(grid.write()?);
    }
    progress.clear();
    written.iter().for_each(|line| println!("{line}"));
    Ok(())
}
