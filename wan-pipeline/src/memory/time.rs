//! How long a run takes: operations and bytes over what a short calibration has measured.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use std::{env, fs};

use burn::tensor::{Tensor, TensorData};
use serde::{Deserialize, Serialize};
use wan_core::Backend;
use wan_core::backend::{AttentionArgs, Conv3dArgs, Padding};
use wan_io::weights::{Dtype, StoredTensor};
use wan_models::load::decode;
use wan_models::transformer::WanTransformerConfig;
use wan_models::umt5::Umt5Config;
use wan_models::vae::WanVaeConfig;

use super::machine::threads;
use super::vae::{decoder_layers, encoder_layers};
use super::work::{Part, Run, Workload};
use super::{MemoryPlan, Place, Stage, StageMemory};
use crate::{DTypes, Pipeline};

/// What a device does in a second, as a calibration of half a second has measured it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Calibration {
    /// Operations of matrix products.
    pub products: f64,
    /// Operations of attention.
    pub attention: f64,
    /// Operations of the VAE's convolutions.
    pub convolutions: f64,
    /// Bytes of weights that are brought to the dtype that is computed in.
    pub widening: f64,
}

/// How long a run takes, about: with a disk that keeps up, and on a machine that does nothing else.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct TimeEstimate {
    /// Of each stage, in the order of the plan.
    pub stages: Vec<(Stage, Duration)>,
    /// Of a step.
    pub step: Duration,
}

impl TimeEstimate {
    /// Of all stages.
    pub fn total(&self) -> Duration {
        self.stages.iter().map(|(_, time)| *time).sum()
    }
}

/// The calibrations of this process, by what they are of.
static KNOWN: Mutex<Option<HashMap<String, Calibration>>> = Mutex::new(None);

impl<B: Backend> Pipeline<B> {
    /// How long a run takes. The first call on a machine measures for half a second; the result is kept in
    /// the user's cache folder (`$XDG_CACHE_HOME/wan-pipeline`, or `~/.cache/wan-pipeline`), where that can
    /// be written.
    pub fn estimate_time(&self, plan: &MemoryPlan) -> TimeEstimate {
        plan.time(&self.calibration())
    }

    /// What the device of the pipeline does in a second: see [`estimate_time`](Self::estimate_time).
    pub fn calibration(&self) -> Calibration {
        let threads = threads();
        let device = B::devices().ok().and_then(|devices| Some(devices.first()?.name.clone()));
        let (version, dtypes) = (env!("CARGO_PKG_VERSION"), self.dtypes());
        let name = [B::name(&self.device), device.unwrap_or_default(), processor()].join(" ");
        let DTypes { transformer, vae, .. } = dtypes;
        let kernel = cpu_kernel();
        let key = format!("{name} {kernel} {transformer:?} {vae:?} {threads} threads {version}");
        let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_with(read);
        if let Some(calibration) = known.get(&key) {
            return *calibration;
        }
        let measured = measure::<B>(&self.device, dtypes);
        known.insert(key, measured);
        write(known);
        measured
    }
}

/// How the CPU multiplies in bf16.
fn cpu_kernel() -> String {
    #[cfg(feature = "flex")]
    return crate::backend::CpuKernel::current().to_string();
    #[cfg(not(feature = "flex"))]
    String::new()
}

/// The name of the processor, where the system tells.
fn processor() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = info.lines().find_map(|line| line.strip_prefix("model name"));
    line.and_then(|line| line.split_once(": ")).map_or(String::new(), |(_, name)| name.to_owned())
}

fn file() -> Option<PathBuf> {
    let set = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let cache = set("XDG_CACHE_HOME").or_else(|| Some(env::home_dir()?.join(".cache")))?;
    Some(cache.join("wan-pipeline").join("calibration.json"))
}

/// What was measured before; a file that cannot be read is as none.
fn read() -> HashMap<String, Calibration> {
    let text = file().and_then(|file| fs::read_to_string(file).ok());
    let known: HashMap<String, Calibration> =
        text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    known.into_iter().filter(|(_, calibration)| calibration.is_valid()).collect()
}

/// Where it cannot be written, the next process measures again.
fn write(known: &HashMap<String, Calibration>) {
    let Some(file) = file() else { return };
    let Ok(text) = serde_json::to_string_pretty(known) else { return };
    let kept = file.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
        let fresh = file.with_extension(format!("{}.partial", std::process::id()));
        fs::write(&fresh, text).and_then(|()| fs::rename(fresh, &file))
    });
    if let Err(error) = kept {
        tracing::debug!("the calibration is not kept: {}: {error}", file.display());
    }
}

impl Calibration {
    fn is_valid(&self) -> bool {
        let Self { products, attention, convolutions, widening } = *self;
        [products, attention, convolutions, widening]
            .iter()
            .all(|&rate| rate.is_finite() && rate > 1e6)
    }
}

/// So long a kernel is measured at least.
const LONG_ENOUGH: Duration = Duration::from_millis(80);

fn measure<B: Backend>(device: &B::Device, dtypes: DTypes) -> Calibration {
    let dtype = dtypes.transformer;
    let filled = |count: usize| vec![0.01_f32; count];
    let (rows, inner) = (512, 1536);
    let x: Tensor<B, 3> =
        Tensor::from_data(TensorData::new(filled(rows * inner), [1, rows, inner]), (device, dtype));
    let matrix: Tensor<B, 2> =
        Tensor::from_data(TensorData::new(filled(inner * inner), [inner, inner]), (device, dtype));
    let operations = 2.0 * (rows * inner * inner) as f64;
    let products = match B::wan_pack(&matrix.clone().reshape([inner, inner, 1, 1, 1])) {
        Some(weight) => {
            rate::<B>(device, operations, || drop(B::wan_packed_linear(x.clone(), &weight, None)))
        }
        None => {
            let weight = B::wan_linear_weight(matrix);
            rate::<B>(device, operations, || drop(B::wan_linear(x.clone(), weight.clone(), None)))
        }
    };
    let (heads, tokens, width) = (4, 1024, 128);
    let q: Tensor<B, 4> = Tensor::from_data(
        TensorData::new(filled(heads * tokens * width), [1, heads, tokens, width]),
        (device, dtype),
    );
    let attention = rate::<B>(device, 4.0 * (heads * tokens * tokens * width) as f64, || {
        drop(B::wan_attention(AttentionArgs::new(q.clone(), q.clone(), q.clone(), 0.1)));
    });
    let (side, channels) = (64, 96);
    let frames: Tensor<B, 5> = Tensor::from_data(
        TensorData::new(filled(3 * side * side * channels), [1, 3, side, side, channels]),
        (device, dtypes.vae),
    );
    let kernel = TensorData::new(filled(channels * channels * 27), [channels, channels, 3, 3, 3]);
    let kernel = Tensor::from_data(kernel, (device, dtypes.vae));
    let bias: Tensor<B, 1> = Tensor::zeros([channels], (device, dtypes.vae));
    let operations = 2.0 * (side * side * channels * channels * 27) as f64;
    let padding = Padding { time: 0, height: [1, 1], width: [1, 1] };
    let convolutions = match B::wan_pack(&kernel) {
        Some(kernel) => rate::<B>(device, operations, || {
            let args = Conv3dArgs::new(frames.clone(), kernel.clone(), bias.clone());
            drop(B::wan_packed_conv3d(args.padding(padding)));
        }),
        None => {
            let kernel = B::wan_conv3d_weight(kernel);
            rate::<B>(device, operations, || {
                let args = Conv3dArgs::new(frames.clone(), kernel.clone(), bias.clone());
                drop(B::wan_conv3d(args.padding(padding)));
            })
        }
    };
    let (bytes, shape) = (vec![0; 16 << 20], [8 << 20]);
    let stored = StoredTensor::in_memory(Dtype::BF16, &shape, &bytes[..]);
    let widening = rate::<B>(device, bytes.len() as f64, || {
        let data = decode(&stored, dtype).expect("what is in memory can be read");
        drop(Tensor::<B, 1>::from_data(data, (device, dtype)));
    });
    Calibration { products, attention, convolutions, widening }
}

/// How much of `amount` a second `work` does, after once to warm up.
fn rate<B: Backend>(device: &B::Device, amount: f64, work: impl Fn()) -> f64 {
    let sync = || drop(B::sync(device));
    work();
    sync();
    let (start, mut times) = (Instant::now(), 0.0);
    while start.elapsed() < LONG_ENOUGH {
        work();
        sync();
        times += 1.0;
    }
    amount * times / start.elapsed().as_secs_f64()
}

impl MemoryPlan {
    fn time(&self, rates: &Calibration) -> TimeEstimate {
        let step = |run: &Run| self.work.step_time(run, rates);
        let steps = |run: &Run| step(run) * run.steps as f64;
        let read = |stage: &StageMemory| self.overlap(stage.read as f64 / rates.widening);
        let stages: Vec<StageMemory> = self.stages();
        let passes: f64 = self.work.runs.iter().map(|run| run.steps as f64).sum();
        let time = |stage: &StageMemory| match stage.stage {
            Stage::EncodingPrompts => self.work.prompts_time(rates) + read(stage),
            Stage::EncodingImages => self.work.images_time(rates),
            Stage::EncodingVideo => self.work.vae_time(rates, encoder_layers),
            Stage::Denoising => {
                self.work.runs.iter().map(steps).sum::<f64>() + passes * read(stage)
            }
            Stage::Decoding => self.work.vae_time(rates, decoder_layers),
        };
        let seconds = |seconds: f64| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
        let longest = self.work.runs.iter().map(step).fold(0.0, f64::max);
        let denoising = stages.iter().find(|stage| stage.stage == Stage::Denoising);
        TimeEstimate {
            step: seconds(longest + denoising.map_or(0.0, read)),
            stages: stages.iter().map(|stage| (stage.stage, seconds(time(stage)))).collect(),
        }
    }

    /// The part of the time for reading that is not hidden behind the computation: on the CPU both take the
    /// same processors.
    fn overlap(&self, seconds: f64) -> f64 {
        if self.place == Place::Host { seconds } else { 0.0 }
    }
}

impl Workload {
    fn prompts_time(&self, rates: &Calibration) -> f64 {
        let Some(Part { config, .. }) = &self.text else { return 0.0 };
        let tokens: usize = self.prompts.iter().sum();
        2.0 * tokens as f64 * text_parameters(config) / rates.products
    }

    fn images_time(&self, rates: &Calibration) -> f64 {
        let Some(image) = &self.image else { return 0.0 };
        let operations = 2 * image.tokens() as u64 * super::clip::weights(image, 1);
        operations as f64 / rates.products
    }

    fn step_time(&self, run: &Run, rates: &Calibration) -> f64 {
        let Some(Part { config, .. }) = &self.transformer else { return 0.0 };
        let (tokens, passes) = (run.tokens(config) as f64, run.passes as f64);
        let inner = config.inner_dim() as f64;
        let text: usize = run.prompt_rows.iter().copied().max().unwrap_or(0);
        let layers = (config.num_layers + config.vace_layers().len()) as f64;
        let products = 2.0 * tokens * layers * layer_parameters(config);
        let keys = self.window(run).map_or(tokens, |window| window as f64);
        let attention = 4.0 * tokens * (keys + text as f64) * inner * layers;
        passes * (products / rates.products + attention / rates.attention)
    }

    fn vae_time(
        &self,
        rates: &Calibration,
        layers: impl Fn(&WanVaeConfig) -> Vec<(f64, usize)>,
    ) -> f64 {
        let positions = |run: &Run| {
            let [_, _, frames, height, width] = run.latent_shape;
            (run.videos * frames * height * width) as f64
        };
        let of_one: f64 = layers(&self.vae)
            .into_iter()
            .map(|(count, weights)| 2.0 * count * weights as f64)
            .sum();
        of_one * self.runs.iter().map(positions).sum::<f64>() / rates.convolutions
    }
}

fn text_parameters(config: &Umt5Config) -> f64 {
    let layer =
        4 * config.d_model * config.num_heads * config.d_kv + 3 * config.d_model * config.d_ff;
    (config.num_layers * layer) as f64
}

/// Of a block, without the keys and values of the text, which are computed once in a run.
fn layer_parameters(config: &WanTransformerConfig) -> f64 {
    let inner = config.inner_dim();
    (6 * inner * inner + 2 * inner * config.ffn_dim) as f64
}
