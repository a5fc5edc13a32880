//! Prompts become videos: `cargo run --release --example text_to_video -- "a red circle moving right on
//! a black background"`.

mod arguments;
mod best_of;
mod grid;
mod inputs;
mod memory;
mod options;
mod outputs;
mod pace;
mod progress;
mod saving;
mod signals;
mod stream;

use std::error::Error as StdError;
use std::io::Write as _;
use std::process::ExitCode;

use wan_io::counted;
use wan_pipeline::backend::set_cpu_threads;
use wan_pipeline::{
    Backend, BackendChoice, CancelToken, Denoising, Embeddings, Error, Latents, MemoryPlan,
    Observer, Pipeline, Plan, Request, VideoSpec, WithBackend, backends, best_backend,
    with_backend,
};

use options::Options;
use outputs::{Film, Outputs};
use progress::{Progress, say};
use saving::Saving;
use signals::Stop;

type Result<T> = std::result::Result<T, Box<dyn StdError>>;

fn main() -> ExitCode {
    silence_drivers();
    let options = Options::read(); // exits with 2 where an option is wrong
    memory::keep_reserve(options.save_state.as_deref());
    let cancel = CancelToken::default();
    let stop = Stop::listen(&cancel);
    if let Err(error) = &stop {
        say(format!("warning: signals will end the program without tidying up: {error}"));
    }
    let progress = Progress::new();
    let Err(error) = run_on_backend(&options, &cancel, &progress) else {
        return ExitCode::SUCCESS;
    };
    progress.clear_bar();
    match stop.ok().and_then(|stop| stop.exit_code()) {
        Some(code) if is_cancelled(error.as_ref()) => {
            say(progress.describe_stop());
            code.into()
        }
        _ => {
            say(format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Keeps Vulkan drivers from writing to stderr what is no error of this program, unless the user has set
/// these variables: Mesa's layer that picks a device looks for a desktop session, and a driver that has
/// not passed all tests says so.
#[allow(unsafe_code)]
fn silence_drivers() {
    for (name, value) in [("NODEVICE_SELECT", "1"), ("MESA_VK_IGNORE_CONFORMANCE_WARNING", "true")]
    {
        if std::env::var_os(name).is_none() {
            // SAFETY: `main` begins with this, so no other thread reads the environment.
            unsafe { std::env::set_var(name, value) };
        }
    }
}

fn is_cancelled(error: &(dyn StdError + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(Error::Cancelled))
}

fn run_on_backend(options: &Options, cancel: &CancelToken, progress: &Progress) -> Result<()> {
    if let Some(threads) = options.threads {
        set_cpu_threads(threads).map_err(|error| format!("--threads: {error}"))?;
    }
    if let Some(kernel) = options.cpu_kernel {
        kernel.choose().map_err(|error| format!("--cpu-kernel: {error}"))?;
    }
    let mut choice = options.backend;
    if choice == BackendChoice::Auto {
        let best = best_backend(&backends()).ok_or("no backend works on this machine")?;
        say(format!("backend: {}", best.reason));
        choice = best.choice;
    }
    with_backend(choice, Program { options, cancel, progress })?
}

/// The program, on a backend that is chosen at run time.
struct Program<'a> {
    options: &'a Options,
    cancel: &'a CancelToken,
    progress: &'a Progress,
}

impl WithBackend for Program<'_> {
    type Output = Result<()>;

    fn run<B: Backend>(self) -> Result<()> {
        let Self { options, cancel, progress } = self;
        let observer = &mut Observer::new(|event| progress.show(event)).cancelled_by(cancel);
        // Before the model, which may have to be downloaded.
        let base = options.base_request()?;
        let pipeline = options.pipeline::<B>().open_with(observer)?;
        progress.reset();
        if options.latents.is_some() {
            return decode_latents(options, &pipeline, observer, progress);
        }
        let requests = options.requests(&base, &pipeline.preset())?;
        if options.draws_seeds() {
            let seeds: Vec<_> = requests.iter().map(|request| request.seed.to_string()).collect();
            progress.say(&format!("seed: {}", seeds.join(", ")));
        }
        if let Some(takes) = options.best_of {
            return best_of::write(options, takes, &pipeline, &requests, observer, progress);
        }
        if options.stream.stream {
            return stream::write(options, &pipeline, &requests, observer, progress);
        }
        let plans = match &options.resume {
            Some(file) => pipeline.saved_plans(file)?,
            None => pipeline.plan_batch(&requests)?,
        };
        let memory = memory::plan_of(pipeline.memory(&plans), options);
        if options.plan {
            return print_plan(&pipeline, &memory);
        }
        memory::foresee(&memory, progress)?;
        // Everything that could fail at the end is opened before the work begins.
        let mut outputs = Outputs::open(options, films(&plans), progress, cancel)?;
        if let Some(writer) = outputs.embeddings.take() {
            writer.write(&embed(&pipeline, &requests, observer)?)?;
        }
        let mut run = match &options.resume {
            Some(file) => pipeline.resume(file, observer)?,
            None => pipeline.start(&requests, observer)?,
        };
        let mut saving = Saving::new(options.save_state.as_deref(), outputs.state.take());
        match finish(options, &pipeline, &mut run, outputs, &mut saving, observer, progress) {
            Ok(Finished::Whole) => {
                saving.remove(progress);
                Ok(())
            }
            stopped => {
                saving.finish(&run, progress)?;
                stopped.map(drop)
            }
        }
    }
}

fn print_plan<B: Backend>(pipeline: &Pipeline<B>, plan: &MemoryPlan) -> Result<()> {
    let time = pipeline.estimate_time(plan);
    let stage = |(stage, time): &(_, _)| format!("{stage} {}", pace::about(*time));
    let stages: Vec<String> = time.stages.iter().map(stage).collect();
    let (stages, step) = (stages.join(", "), pace::about(time.step));
    // It may be closed already, as by `| head`.
    let _ = writeln!(std::io::stdout(), "{plan}\ntime, about: {stages}; a step {step}");
    Ok(())
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
    saving: &mut Saving,
    observer: &mut Observer,
    progress: &Progress,
) -> Result<Finished> {
    let last = options.stop_after.unwrap_or(usize::MAX);
    progress.show_step(run.done(), run.steps());
    while run.done() < last
        && let Some(step) = run.step()?
    {
        progress.show_step(step.done, step.steps);
        run.tell_of_slow_disk(observer)?;
        saving.save_if_due(run, progress);
        if options.preview.is_some_and(|every| step.done.is_multiple_of(every as usize)) {
            outputs.write_previews(run)?;
        }
    }
    if run.done() < run.steps() {
        let (done, steps) = (run.done(), run.steps());
        let steps = counted(steps as u64, "step");
        progress.say(&format!("stopped after {done} of {steps}, as --stop-after says"));
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
    let memory = memory::plan_of(pipeline.memory_to_decode(&latents), options);
    if options.plan {
        return print_plan(pipeline, &memory);
    }
    memory::foresee(&memory, progress)?;
    let outputs = Outputs::open(options, films, progress, observer.cancel_token())?;
    write(pipeline, &latents, outputs, observer, progress)
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
    for (number, (latents, output)) in (1..).zip(latents.iter().zip(&mut outputs.videos)) {
        progress.begin_video(number, outputs.count, output.frames());
        pipeline.decode(latents, output, observer)?;
    }
    announce(outputs, progress)
}

/// Completes the files, and says what they are.
fn announce(mut outputs: Outputs, progress: &Progress) -> Result<()> {
    let mut written = Vec::new();
    for output in outputs.videos {
        written.push(output.finish(&mut outputs.grid)?);
    }
    if let Some(grid) = outputs.grid {
        written.push(grid.write()?);
    }
    progress.clear();
    match outputs.use_stdout {
        true => written.iter().for_each(say),
        // It may be closed already, as by `| head`.
        false => written.iter().for_each(|line| {
            let _ = writeln!(std::io::stdout(), "{line}");
        }),
    }
    Ok(())
}
