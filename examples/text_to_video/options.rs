use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use clap::builder::{PathBufValueParser, PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{ArgAction, Parser, ValueEnum};
use wan_io::files::expand_home;
use wan_pipeline::backend::CpuKernel;
use wan_pipeline::{
    Backend, BackendChoice, Embeddings, FrameRate, Guidance, GuidanceRule, Pipeline,
    PipelineBuilder, Precision, Preset, Request, Residency, Schedule, SchedulerKind, SigmaGrid,
    Steps, Tiling, Verify,
};

use crate::Result;
use crate::arguments::{with_prompts_last, with_tip};
use crate::inputs::Inputs;
use crate::stream::StreamArgs;

/// Options of which a saved run has the values already.
const SAVED_IN_RUN: [&str; 26] = [
    "prompts",
    "negative",
    "prompt_weighting",
    "steps",
    "timesteps",
    "guidance",
    "guidance_2",
    "guidance_rule",
    "guidance_rescale",
    "guidance_interval",
    "shift",
    "seed",
    "frames",
    "width",
    "height",
    "fps",
    "scheduler",
    "sigma_grid",
    "video",
    "image",
    "last_image",
    "fit",
    "mask",
    "reference",
    "control",
    "control_scale",
];

/// Options that have no effect on latents that are finished.
const SAVED_IN_LATENTS: [&str; 25] = [
    "prompts",
    "negative",
    "prompt_weighting",
    "steps",
    "timesteps",
    "guidance",
    "guidance_2",
    "guidance_rule",
    "guidance_rescale",
    "guidance_interval",
    "shift",
    "seed",
    "frames",
    "width",
    "height",
    "scheduler",
    "sigma_grid",
    "video",
    "image",
    "last_image",
    "fit",
    "mask",
    "reference",
    "control",
    "control_scale",
];

/// Makes videos of prompts, in English or Chinese.
///
/// Where no default is named below, it belongs to the model; with tiny-wan: 97 frames of 64x64 at
/// 24 fps, 20 steps, guidance 3, shift 3, no negative prompt, scheduler unipc.
///
/// Several prompts, seeds or guidance scales make a batch of every combination, in the order prompts,
/// seeds, guidance: `--out v.mp4` then writes v-1.mp4, v-2.mp4, ..
///
/// Of an option that is repeated the last counts.
#[derive(Parser)]
#[command(name = "text_to_video", args_override_self = true)]
pub(crate) struct Options {
    /// What the video should show; several prompts make several videos. Those that begin with a dash come
    /// last, after --
    #[arg(required_unless_present_any = ["resume", "latents", "embeddings"])]
    pub(crate) prompts: Vec<String>,
    /// File to write; its ending decides the kind: .mp4, .gif, .rgb (raw frames), .png (a single
    /// frame), or / for a folder of PNG frames. A link is followed; a pipe or a device is written in place.
    /// - is standard output: raw frames, or the kind of the file that it is sent to
    #[arg(
        long,
        value_name = "FILE",
        default_value = "video.mp4",
        value_parser = output_parser(),
        allow_hyphen_values = true
    )]
    pub(crate) out: PathBuf,
    /// Folder of a model, in the layout of diffusers or of the original; or a repository in the
    /// Hugging Face Hub (owner/name, owner/name@revision, or its address); or a built-in model [default:
    /// tiny-wan]
    #[arg(long, value_name = "PATH_OR_NAME")]
    model: Option<PathBuf>,
    /// Branch, tag or commit of a repository in the hub [default: main]
    #[arg(long, value_name = "NAME")]
    revision: Option<String>,
    /// When files are compared with their checksums, where these are known
    #[arg(long, value_enum, default_value = "once")]
    verify: VerifyWhen,
    /// File with the transformer's weights, in place of the model's
    #[arg(long, value_name = "FILE", value_parser = path())]
    transformer: Option<PathBuf>,
    /// File with the weights of the second of two experts, for low noise; --transformer is the first then
    #[arg(long, value_name = "FILE", value_parser = path())]
    transformer_2: Option<PathBuf>,
    /// File with the text encoder's weights, in place of the model's
    #[arg(long, value_name = "FILE", value_parser = path())]
    text_encoder: Option<PathBuf>,
    /// File or folder with the image encoder's weights, in place of the model's: a CLIP
    #[arg(long, value_name = "FILE", value_parser = path())]
    image_encoder: Option<PathBuf>,
    /// File with the VAE's weights, in place of the model's
    #[arg(long, value_name = "FILE", value_parser = path())]
    vae: Option<PathBuf>,
    /// tokenizer.json, in place of the model's
    #[arg(long, value_name = "FILE", value_parser = path())]
    tokenizer: Option<PathBuf>,
    /// What the video should not show; without guidance it has no effect [default: the model's]
    #[arg(long, value_name = "TEXT", allow_hyphen_values = true)]
    negative: Option<String>,
    /// Read (words:1.3) in prompts as a weight of these words
    #[arg(long)]
    prompt_weighting: bool,
    /// Denoising steps [default: the model's; tiny-wan 20, Wan 2.1 50]
    #[arg(long, value_name = "N")]
    steps: Option<usize>,
    /// The timesteps themselves, falling from 1000 at most, as models of few steps are made for some:
    /// 1000,757,522; the flow shift does not change them
    #[arg(
        long,
        value_name = "T",
        value_delimiter = ',',
        num_args = 1,
        action = ArgAction::Set,
        conflicts_with = "steps"
    )]
    timesteps: Vec<f64>,
    /// Guidance scale: how strongly the prompt steers; 1 is without guidance and twice as fast. Or a
    /// scale for each step: 6x10+3x20 (ten steps at 6, twenty at 3), linear:7..1, cosine:7..1. Several,
    /// as in 3,5, make several videos [default: the model's; tiny-wan 3, Wan 2.1 1.3B 6, 14B 5]
    #[arg(
        long,
        value_name = "X",
        allow_hyphen_values = true,
        value_delimiter = ',',
        num_args = 1,
        action = ArgAction::Set
    )]
    pub(crate) guidance: Vec<Schedule>,
    /// Guidance scale of the second of two experts, for low noise, as for --guidance [default: that of --guidance where
    /// it is given, else the model's]
    #[arg(long, value_name = "X", allow_hyphen_values = true)]
    guidance_2: Option<Schedule>,
    /// How the predictions with and without the prompt make one
    #[arg(long, value_name = "RULE", default_value = "cfg", value_parser = guidance_rules())]
    guidance_rule: GuidanceRule,
    /// Pull the guided prediction back to the spread of the unguided one: 0 (off) to 1
    #[arg(long, value_name = "X", default_value_t = 0.0, allow_negative_numbers = true)]
    guidance_rescale: f64,
    /// Guide only in this part of the run, in fractions of its steps, as in 0.1..0.6; the other steps
    /// are twice as fast [default: 0..1]
    #[arg(long, value_name = "A..B", value_parser = interval)]
    guidance_interval: Option<[f64; 2]>,
    /// Flow shift: more spends more of the steps at high noise [default: the model's; tiny-wan 3,
    /// Wan 2.1 1.3B 8, 14B 5]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub(crate) shift: Option<f64>,
    /// Seed of the noise: the same seed gives the same video. Its low 32 bits count, as in torch.
    /// `random` or -1 draws one, for each video another, and says it. Several, as in 1,2,3, make several
    /// videos
    #[arg(
        long,
        value_name = "N",
        default_value = "42",
        allow_hyphen_values = true,
        value_delimiter = ',',
        num_args = 1,
        action = ArgAction::Set
    )]
    seed: Vec<Seed>,
    /// Make so many takes of each video, with the seeds from its own on, and write the one that --clip finds
    /// closest to its prompt
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..),
        conflicts_with_all = [
            "resume", "latents", "embeddings", "save_state", "save_latents", "save_embeddings",
            "preview", "grid", "plan",
        ],
    )]
    pub(crate) best_of: Option<u32>,
    /// The CLIP of --best-of: a folder or a repository in the hub, in the layout of transformers or OpenCLIP or with
    /// that of Wan 2.1, or a built-in model. tiny-clip knows the drawings of tiny-wan and nothing else
    #[arg(long, value_name = "PATH_OR_NAME", default_value = "tiny-clip", requires = "best_of")]
    pub(crate) clip: PathBuf,
    /// Number of frames: 1, 5, 9, .. [default: the model's; tiny-wan 97, Wan 2.1 81]
    #[arg(long, value_name = "N")]
    frames: Option<usize>,
    /// Width in pixels [default: the model's; tiny-wan 64, Wan 2.1 1.3B 832, 14B 1280]
    #[arg(long, value_name = "N")]
    width: Option<usize>,
    /// Height in pixels [default: the model's; tiny-wan 64, Wan 2.1 1.3B 480, 14B 720]
    #[arg(long, value_name = "N")]
    height: Option<usize>,
    /// Frames a second, such as 24, 23.976 or 24000/1001 [default: the model's; tiny-wan 24, Wan 2.1
    /// 16]
    #[arg(long, value_name = "RATE")]
    pub(crate) fps: Option<FrameRate>,
    /// How the flow is integrated [default: the model's; unipc for all known ones]
    #[arg(long, value_name = "unipc|euler|dpm++|lcm")]
    scheduler: Option<SchedulerKind>,
    /// Where the noise levels lie: as in the original Wan, or as in diffusers from version 0.37 on
    #[arg(long, value_enum, default_value = "wan")]
    sigma_grid: Grid,
    #[command(flatten)]
    inputs: Inputs,
    #[command(flatten)]
    pub(crate) stream: StreamArgs,
    /// What computes: auto, cuda, wgpu, flex (the CPU) or ndarray (the CPU, for comparison)
    #[arg(long, value_name = "NAME", default_value = "auto")]
    pub(crate) backend: BackendChoice,
    /// Which device of the backend, counted from 0; the example `backends` lists them
    #[arg(long, value_name = "N", default_value_t = 0)]
    device: usize,
    /// What the text encoder and the transformer compute in
    #[arg(long, value_enum, default_value = "auto")]
    precision: PrecisionName,
    /// What the VAE computes in [default: f32 with --precision f32, else auto]
    #[arg(long, value_enum, value_name = "PRECISION")]
    vae_precision: Option<PrecisionName>,
    /// How a CPU multiplies in bf16: amx, avx512-bf16, avx512, avx2 or portable [default: the fastest that the
    /// processor has]
    #[arg(long, value_name = "NAME")]
    pub(crate) cpu_kernel: Option<CpuKernel>,
    /// Threads that compute on the CPU [default: as many as cores]
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// The most memory to take, such as 8GB or 7.5GiB: of the GPU's on a GPU. It decides what stays in
    /// memory, and whether frames are decoded in tiles [default: what is free]
    #[arg(long, value_name = "SIZE", value_parser = memory_size)]
    memory: Option<u64>,
    /// Print what the run would take, stage by stage, and end
    #[arg(long)]
    pub(crate) plan: bool,
    /// Where the weights of the text encoder and the transformer are: in memory, there as they are stored,
    /// or read from the disk in each step [default: the fastest that fits]
    #[arg(long, value_enum, value_name = "WHERE")]
    weights: Option<WeightsWhere>,
    /// Decode in tiles of so many pixels, which needs less memory [default: as large as fits, at best whole]
    #[arg(long, value_name = "N")]
    vae_tile: Option<usize>,
    /// Also write the latents, as the last step leaves them, to this safetensors file
    #[arg(long, value_name = "FILE", value_parser = output_parser())]
    pub(crate) save_latents: Option<PathBuf>,
    /// Only decode: make videos of latents that --save-latents wrote, by the same model
    #[arg(
        long,
        value_name = "FILE",
        value_parser = path(),
        conflicts_with_all = SAVED_IN_LATENTS,
        conflicts_with_all = ["resume", "embeddings", "save_state", "save_embeddings", "preview"],
    )]
    pub(crate) latents: Option<PathBuf>,
    /// Write the run to this file, to go on with --resume: after the first step, then from time to time
    /// (about 1 % of the time goes into it), and if it is stopped or fails. A run that is done removes it
    #[arg(long, value_name = "FILE", value_parser = output_parser())]
    pub(crate) save_state: Option<PathBuf>,
    /// Stop after so many steps of the run
    #[arg(long, value_name = "N", requires = "save_state")]
    pub(crate) stop_after: Option<usize>,
    /// Go on with a run that --save-state wrote. What it computes in is not in the file: say --precision again
    #[arg(
        long,
        value_name = "FILE",
        value_parser = path(),
        conflicts_with_all = SAVED_IN_RUN,
        conflicts_with_all = ["embeddings", "save_embeddings"],
    )]
    pub(crate) resume: Option<PathBuf>,
    /// Write the embeddings of the prompt and the negative prompt to this file
    #[arg(long, value_name = "FILE", value_parser = output_parser(), conflicts_with = "embeddings")]
    pub(crate) save_embeddings: Option<PathBuf>,
    /// Take embeddings that --save-embeddings wrote, in place of texts; no text encoder is needed then
    #[arg(
        long,
        value_name = "FILE",
        value_parser = path(),
        conflicts_with_all = ["prompts", "negative", "prompt_weighting"],
    )]
    pub(crate) embeddings: Option<PathBuf>,
    /// Write a small, rough GIF (of one frame: a PNG) beside the video every so many steps
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) preview: Option<u32>,
    /// Also write a contact sheet of all videos: rows are prompts, columns seeds and guidance; .mp4,
    /// .gif, .png (the first frames) or / for a folder of PNG frames
    #[arg(long, value_name = "FILE", value_parser = output_parser())]
    pub(crate) grid: Option<PathBuf>,
}

#[derive(Clone, Copy)]
enum Seed {
    Given(u64),
    Random,
}

impl FromStr for Seed {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text {
            "random" | "-1" => Ok(Self::Random),
            _ => text.parse().map(Self::Given).map_err(|_| {
                format!("a seed is a whole number from 0 to {}, or random (-1)", u64::MAX)
            }),
        }
    }
}

impl Seed {
    /// The seed, drawn if it is to be.
    fn value(self) -> u64 {
        match self {
            Self::Given(seed) => seed,
            Self::Random => fastrand::u32(..).into(),
        }
    }
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
enum Grid {
    Wan,
    Diffusers,
}

#[derive(Clone, Copy, ValueEnum)]
enum PrecisionName {
    /// What suits the device: 16 bits on GPUs and on CPUs with AVX2 or more, else 32
    Auto,
    F32,
    Bf16,
    F16,
}

impl From<PrecisionName> for Precision {
    fn from(name: PrecisionName) -> Self {
        match name {
            PrecisionName::Auto => Self::Auto,
            PrecisionName::F32 => Self::F32,
            PrecisionName::Bf16 => Self::Bf16,
            PrecisionName::F16 => Self::F16,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
enum WeightsWhere {
    /// In memory, in the precision that is computed in
    Memory,
    /// In the memory of the host as the files have them, which is half as much where they have 16 bits
    Stored,
    /// In their files: a layer at a time is read
    Disk,
}

/// A path, in which `~` is the user's folder also where no shell has seen to it.
pub(crate) fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().map(|path| expand_home(&path))
}

/// The path of an output: `-` is standard output.
fn output_parser() -> impl TypedValueParser<Value = PathBuf> {
    path().map(|path| if path.as_os_str() == "-" { "/dev/stdout".into() } else { path })
}

/// Reads a number of bytes, with a unit if there is one.
fn memory_size(text: &str) -> std::result::Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1000,
        "m" | "mb" => 1000 * 1000,
        "g" | "gb" => 1000 * 1000 * 1000,
        "t" | "tb" => 1000 * 1000 * 1000 * 1000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1_u64 << 40,
        _ => return Err("is no size such as 8GB, 7.5GiB or a number of bytes".into()),
    };
    match number.parse::<f64>() {
        // Beyond the largest number of bytes it is that.
        Ok(number) => Ok((number * factor as f64) as u64),
        Err(_) => Err("is no size such as 8GB, 7.5GiB or a number of bytes".into()),
    }
}

/// Reads `A..B`.
fn interval(text: &str) -> std::result::Result<[f64; 2], String> {
    let parts = text.split_once("..").map(|(a, b)| (a.parse(), b.parse()));
    match parts {
        Some((Ok(a), Ok(b))) => Ok([a, b]),
        _ => Err("write two fractions of the run, as in 0.1..0.6".into()),
    }
}

impl Options {
    /// Reads the command line; where it is wrong, says so and exits with 2.
    pub(crate) fn read() -> Self {
        let given: Vec<OsString> = std::env::args_os().collect();
        let options = Self::try_parse_from(with_prompts_last(&given));
        options.unwrap_or_else(|error| with_tip(error, &given).exit())
    }

    /// Which model, and where its files are.
    pub(crate) fn pipeline<B: Backend>(&self) -> PipelineBuilder<B> {
        let needs_text_encoder = self.embeddings.is_none() && self.latents.is_none();
        // A transformer and a text encoder are another model, of which nothing of the default is a part.
        let is_another_model =
            self.transformer.is_some() && (self.text_encoder.is_some() || !needs_text_encoder);
        let mut builder = match &self.model {
            Some(model) => Pipeline::builder(model),
            None if is_another_model => PipelineBuilder::from_parts(),
            None => Pipeline::builder("tiny-wan"),
        };
        if let Some(revision) = &self.revision {
            builder = builder.revision(revision);
        }
        builder = builder.verify(match self.verify {
            VerifyWhen::Once => Verify::OnDownload,
            VerifyWhen::Always => Verify::Always,
            VerifyWhen::Never => Verify::Never,
        });
        builder = builder.device(self.device).precision(self.precision.into());
        if let Some(precision) = self.vae_precision {
            builder = builder.vae_precision(precision.into());
        }
        if let Some(file) = &self.transformer {
            builder = builder.transformer(file);
        }
        if let Some(file) = &self.transformer_2 {
            builder = builder.transformer_2(file);
        }
        if let Some(file) = &self.text_encoder {
            builder = builder.text_encoder(file);
        }
        if let Some(file) = &self.image_encoder {
            builder = builder.image_encoder(file);
        }
        if let Some(file) = &self.vae {
            builder = builder.vae(file);
        }
        if let Some(file) = &self.tokenizer {
            builder = builder.tokenizer(file);
        }
        if let Some(bytes) = self.memory {
            builder = builder.memory_limit(bytes);
        }
        if let Some(weights) = self.weights {
            let residency = match weights {
                WeightsWhere::Memory => Residency::Resident,
                WeightsWhere::Stored => Residency::Stored,
                WeightsWhere::Disk => Residency::Streamed,
            };
            builder = builder.transformer_residency(residency).text_encoder_residency(residency);
        }
        if let Some(size) = self.vae_tile {
            builder = builder.vae_tiling(Tiling::square(size));
        }
        if !needs_text_encoder {
            builder = builder.without_text_encoder();
        }
        builder
    }

    /// A request for each prompt, seed and guidance, with all else of `base`; none for a run that goes on.
    pub(crate) fn requests(&self, base: &Request, preset: &Preset) -> Result<Vec<Request>> {
        if self.resume.is_some() {
            return Ok(Vec::new());
        }
        let prompts = match self.prompts.is_empty() {
            true => vec![String::new()], // the embeddings take its place
            false => self.prompts.clone(),
        };
        for (option, given) in
            [("save-embeddings", &self.save_embeddings), ("embeddings", &self.embeddings)]
        {
            if given.is_some() && prompts.len() > 1 {
                return Err(format!("--{option} takes one prompt, not {}", prompts.len()).into());
            }
        }
        let mut requests = Vec::new();
        for prompt in &prompts {
            for seed in &self.seed {
                for guidance in self.guidances(preset) {
                    let mut request = base.clone().seed(seed.value());
                    request.prompt.clone_from(prompt);
                    request.guidance = guidance;
                    requests.push(request);
                }
            }
        }
        Ok(requests)
    }

    /// Whether the seeds of [`requests`](Self::requests) are not those of the command line.
    pub(crate) fn draws_seeds(&self) -> bool {
        self.resume.is_none() && self.seed.iter().any(|seed| matches!(seed, Seed::Random))
    }

    /// What all requests have in common; reads the files that they name.
    pub(crate) fn base_request(&self) -> Result<Request> {
        let mut request = Request::new("")
            .width(self.width)
            .height(self.height)
            .frames(self.frames)
            .shift(self.shift)
            .scheduler(self.scheduler)
            .prompt_weighting(self.prompt_weighting)
            .sigma_grid(match self.sigma_grid {
                Grid::Wan => SigmaGrid::Wan,
                Grid::Diffusers => SigmaGrid::Diffusers,
            });
        request.negative_prompt.clone_from(&self.negative);
        request.fps = self.fps;
        request.steps = match self.timesteps.is_empty() {
            true => self.steps.map(Into::into),
            false => Some(Steps::Timesteps(self.timesteps.clone())),
        };
        request.guidance_2 = self.guidance_2.clone().map(|scale| self.guidance_of(scale));
        request = self.inputs.add_to(request)?;
        if let Some(file) = &self.embeddings {
            let Embeddings { prompt, negative_prompt, .. } = Embeddings::load(file)?;
            request = request.prompt_embeds(prompt).negative_prompt_embeds(negative_prompt);
        }
        Ok(request)
    }

    /// One for each scale; `None` is the model's own.
    fn guidances(&self, preset: &Preset) -> Vec<Option<Guidance>> {
        if self.guidance.is_empty() && self.is_plain_cfg() {
            return vec![None];
        }
        let mut scales = self.guidance.clone();
        if scales.is_empty() {
            scales.push(preset.guidance_scale.into());
        }
        scales.into_iter().map(|scale| Some(self.guidance_of(scale))).collect()
    }

    fn guidance_of(&self, scale: Schedule) -> Guidance {
        let guidance = Guidance::new(self.guidance_rule, scale).rescale(self.guidance_rescale);
        match self.guidance_interval {
            Some([start, stop]) => guidance.interval(start, stop),
            None => guidance,
        }
    }

    fn is_plain_cfg(&self) -> bool {
        self.guidance_rule.name() == "cfg"
            && self.guidance_rescale == 0.0
            && self.guidance_interval.is_none()
    }
}

/// Reads the name of a rule, whose parameters are then the default ones.
fn guidance_rules() -> impl TypedValueParser<Value = GuidanceRule> {
    let rules = GuidanceRule::all();
    let values = rules.iter().map(|rule| PossibleValue::new(rule.name()).help(rule.summary()));
    PossibleValuesParser::new(values).map(move |name| {
        *rules.iter().find(|rule| rule.name() == name).expect("it is a possible value")
    })
}
