//! A prompt becomes a video: `cargo run --release --example text_to_video -- "a red circle moving
//! right on a black background"`.

use std::error::Error;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use wan_pipeline::{
    Backend, Event, HubEvent, LatentsWriter, Pipeline, PipelineBuilder, Precision, Request,
    SchedulerKind, SigmaGrid, Verify, VideoWriter, backends, best_backend,
};

/// Makes a video of a prompt, in English or Chinese.
///
/// Where no default is named below, it belongs to the model; with tiny-wan: 97 frames of 64x64 at
/// 24 fps, 20 steps, guidance 3, shift 3, no negative prompt, scheduler unipc.
#[derive(Clone, Parser)]
#[command(name = "text_to_video")]
struct Options {
    /// What the video should show
    prompt: String,
    /// File to write; its ending decides the kind: .mp4, .gif, .rgb (raw frames), or / for a folder
    /// of PNG frames
    #[arg(long, value_name = "FILE", default_value = "video.mp4")]
    out: PathBuf,
    /// Folder of a model, in the layout of diffusers or of the original; or a repository in the
    /// Hugging Face Hub (owner/name); or a built-in model [default: tiny-wan]
    #[arg(long, value_name = "PATH_OR_NAME")]
    model: Option<PathBuf>,
    /// Branch, tag or commit of a repository in the hub
    #[arg(long, value_name = "NAME", default_value = "main")]
    revision: String,
    /// When files are compared with their checksums, where these are known
    #[arg(long, value_enum, default_value = "once")]
    verify: VerifyWhen,
    /// File with the transformer's weights, in place of the model's
    #[arg(long, value_name = "FILE")]
    transformer: Option<PathBuf>,
    /// File with the text encoder's weights, in place of the model's
    #[arg(long, value_name = "FILE")]
    text_encoder: Option<PathBuf>,
    /// File with the VAE's weights, in place of the model's
    #[arg(long, value_name = "FILE")]
    vae: Option<PathBuf>,
    /// tokenizer.json, in place of the model's
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// What the video should not show [default: the model's]
    #[arg(long, value_name = "TEXT")]
    negative: Option<String>,
    /// Denoising steps [default: the model's; tiny-wan 20, Wan 2.1 50]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// Guidance scale: how strongly the prompt steers; 1 is without guidance and twice as fast
    /// [default: the model's; tiny-wan 3, Wan 2.1 1.3B 6, 14B 5]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    guidance: Option<f64>,
    /// Flow shift: more spends more of the steps at high noise [default: the model's; tiny-wan 3,
    /// Wan 2.1 1.3B 8, 14B 5]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    shift: Option<f64>,
    /// Seed of the noise: the same seed gives the same video
    #[arg(long, value_name = "N", default_value_t = 42)]
    seed: u64,
    /// Number of frames: 1, 5, 9, .. [default: the model's; tiny-wan 97, Wan 2.1 81]
    #[arg(long, value_name = "N")]
    frames: Option<usize>,
    /// Width in pixels [default: the model's; tiny-wan 64, Wan 2.1 1.3B 832, 14B 1280]
    #[arg(long, value_name = "N")]
    width: Option<usize>,
    /// Height in pixels [default: the model's; tiny-wan 64, Wan 2.1 1.3B 480, 14B 720]
    #[arg(long, value_name = "N")]
    height: Option<usize>,
    /// Frames a second [default: the model's; tiny-wan 24, Wan 2.1 16]
    #[arg(long, value_name = "N")]
    fps: Option<u32>,
    /// How the flow is integrated [default: the model's; unipc for all known ones]
    #[arg(long, value_enum)]
    scheduler: Option<Scheduler>,
    /// Where the noise levels lie: as in the original Wan, or as in diffusers from version 0.37 on
    #[arg(long, value_enum, default_value = "wan")]
    sigma_grid: Grid,
    /// What computes
    #[arg(long, value_enum, default_value = "auto")]
    backend: BackendName,
    /// Which device of the backend, counted from 0; the example `backends` lists them
    #[arg(long, value_name = "N", default_value_t = 0)]
    device: usize,
    /// What the text encoder and the transformer compute in; the VAE computes in f32
    #[arg(long, value_enum, default_value = "auto")]
    precision: PrecisionName,
    /// Also write the latents, as the last step leaves them, to this safetensors file
    #[arg(long, value_name = "FILE")]
    save_latents: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum VerifyWhen {
    /// Each file once
    Once,
    /// At every start
    Always,
    /// Only what is downloaded
    Never,
}

#[derive(Clone, Copy, ValueEnum)]
enum Scheduler {
    Unipc,
    Euler,
}

#[derive(Clone, Copy, ValueEnum)]
enum Grid {
    Wan,
    Diffusers,
}

/// The backends that are compiled in.
#[derive(Clone, Copy, ValueEnum)]
enum BackendName {
    /// What suits this machine best
    Auto,
    /// The CPU, fast
    Flex,
    /// The CPU, a second implementation for comparison
    #[cfg(feature = "ndarray")]
    Ndarray,
    /// NVIDIA GPUs
    #[cfg(feature = "cuda")]
    Cuda,
    /// GPUs by Vulkan, on macOS by Metal
    #[cfg(feature = "wgpu")]
    Wgpu,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionName {
    /// What suits the device: 16 bits on GPUs, 32 on CPUs
    Auto,
    F32,
    Bf16,
    F16,
}

fn main() -> ExitCode {
    let options = Options::parse(); // exits with 2 where an option is wrong
    match run_on_backend(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run_on_backend(options: &Options) -> Result<(), Box<dyn Error>> {
    use wan_pipeline::backend;
    match options.backend {
        BackendName::Auto => {
            let best = best_backend(&backends()).ok_or("no backend works on this machine")?;
            eprintln!("backend: {}", best.reason);
            let backend = BackendName::from_str(best.name, true)?;
            run_on_backend(&Options { backend, ..options.clone() })
        }
        BackendName::Flex => run::<backend::Flex>(options),
        #[cfg(feature = "ndarray")]
        BackendName::Ndarray => run::<backend::NdArray<f32>>(options),
        #[cfg(feature = "cuda")]
        BackendName::Cuda => run::<backend::Cuda>(options),
        #[cfg(feature = "wgpu")]
        BackendName::Wgpu => run::<backend::Wgpu>(options),
    }
}

fn run<B: Backend>(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut progress = Progress::new();
    let pipeline = options.pipeline::<B>().open_with(&mut |event| progress.show(event))?;
    progress.bar.reset();
    let settings = pipeline.settle(&options.request())?;

    if options.save_latents.as_ref() == Some(&options.out) {
        return Err(format!("--out and --save-latents both name {}", options.out.display()).into());
    }
    // Everything that could fail at the end is opened before the work begins.
    let (spec, metadata) = (pipeline.video_spec(&settings), pipeline.metadata(&settings));
    let mut writer = VideoWriter::create(&options.out, &spec, &metadata)?;
    let latents_writer = options.save_latents.as_ref().map(LatentsWriter::create).transpose()?;

    let latents = pipeline.denoise(&settings, &mut |event| progress.show(event))?;
    if let Some(writer) = latents_writer {
        writer.write(latents.clone())?;
    }
    pipeline.decode(latents, &mut writer, &mut |event| progress.show(event))?;
    writer.finish()?;

    progress.bar.finish_and_clear();
    let (frames, width, height) = (spec.frames, spec.width, spec.height);
    println!("{}: {frames} frames of {width}x{height} at {} fps", options.out.display(), spec.fps);
    Ok(())
}

impl Options {
    /// Which model, and where its files are.
    fn pipeline<B: Backend>(&self) -> PipelineBuilder<B> {
        let parts = [&self.transformer, &self.text_encoder, &self.vae, &self.tokenizer];
        let mut builder = match &self.model {
            Some(model) => Pipeline::builder(model),
            None if parts.iter().all(|part| part.is_none()) => Pipeline::builder("tiny-wan"),
            None => PipelineBuilder::from_parts(),
        };
        builder = builder.revision(&self.revision).verify(match self.verify {
            VerifyWhen::Once => Verify::OnDownload,
            VerifyWhen::Always => Verify::Always,
            VerifyWhen::Never => Verify::Never,
        });
        builder = builder.device(self.device).precision(match self.precision {
            PrecisionName::Auto => Precision::Auto,
            PrecisionName::F32 => Precision::F32,
            PrecisionName::Bf16 => Precision::Bf16,
            PrecisionName::F16 => Precision::F16,
        });
        if let Some(file) = &self.transformer {
            builder = builder.transformer(file);
        }
        if let Some(file) = &self.text_encoder {
            builder = builder.text_encoder(file);
        }
        if let Some(file) = &self.vae {
            builder = builder.vae(file);
        }
        if let Some(file) = &self.tokenizer {
            builder = builder.tokenizer(file);
        }
        builder
    }

    fn request(&self) -> Request {
        let mut request = Request::new(&self.prompt).seed(self.seed);
        request.negative_prompt = self.negative.clone();
        request.steps = self.steps;
        request.guidance = self.guidance;
        request.shift = self.shift;
        request.frames = self.frames;
        request.width = self.width;
        request.height = self.height;
        request.fps = self.fps;
        request.scheduler = self.scheduler.map(|scheduler| match scheduler {
            Scheduler::Unipc => SchedulerKind::UniPc,
            Scheduler::Euler => SchedulerKind::Euler,
        });
        request.sigma_grid = match self.sigma_grid {
            Grid::Wan => SigmaGrid::Wan,
            Grid::Diffusers => SigmaGrid::Diffusers,
        };
        request
    }
}

/// One line that says what is being done.
struct Progress {
    bar: ProgressBar,
}

impl Progress {
    fn new() -> Self {
        let style = ProgressStyle::with_template("{msg:28} {bar:40} {pos}/{len} {prefix}");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        Self { bar: ProgressBar::new(0).with_style(style) }
    }

    fn show(&mut self, event: Event) -> ControlFlow<()> {
        match event {
            Event::Hub(event) => self.show_hub(event),
            Event::Verifying { done, total } => {
                self.bar.set_message("verifying, MB");
                self.bar.set_prefix("");
                self.to(megabytes(done), megabytes(total));
            }
            Event::Loading { part } => self.bar.set_message(format!("loading {part}")),
            Event::PromptCut { which, kept, dropped } => self.bar.suspend(|| {
                eprintln!(
                    "warning: the {which} is too long: the first {kept} tokens count, the last \
                     {dropped} have no effect"
                );
            }),
            Event::Step { done, steps, remaining, .. } => {
                self.bar.set_message("denoising");
                self.bar.set_prefix(format!("{:.1} s left", remaining.as_secs_f64()));
                self.to(done, steps);
            }
            Event::Frame { done, frames } => {
                self.bar.set_message("decoding frames");
                self.bar.set_prefix("");
                self.to(done, frames);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn show_hub(&mut self, event: HubEvent) {
        let say = |text: String| self.bar.suspend(|| eprintln!("{text}"));
        match event {
            HubEvent::Resolved { repo, revision, commit } => {
                say(format!("{repo}: {revision} is commit {commit}"));
            }
            HubEvent::CacheOnly { reason } => say(format!("using the cache: {reason}")),
            HubEvent::Waiting { file } => {
                say(format!("waiting for another process that downloads {file}"));
            }
            HubEvent::Retrying { file, reason } => say(format!("{file}: trying again: {reason}")),
            HubEvent::Downloading { done, total, bytes_per_second, .. } => {
                self.bar.set_message("downloading, MB");
                self.bar.set_prefix(format!("{:.1} MB/s", bytes_per_second / 1e6));
                self.to(megabytes(done), megabytes(total));
            }
            _ => {}
        }
    }

    fn to(&self, done: usize, all: usize) {
        self.bar.set_length(all as u64);
        self.bar.set_position(done as u64);
    }
}

fn megabytes(bytes: u64) -> usize {
    (bytes / 1_000_000) as usize
}
