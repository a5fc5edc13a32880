//! Times the heavy parts of text-to-video with random weights at real shapes, one JSON object a line.
//! `benches/gpu/run` runs it beside PyTorch; alone:
//! `cargo run --release -p wan-benches --features cuda --example gpu -- --backend cuda --what dit`.
//!
//! Memory of the device is not in the lines: neither burn nor the driver tells the peak of a process
//! to the process itself, so `run` watches it from outside, in the same way for both sides.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use burn::backend::Flex;
use burn::tensor::{DType, Distribution, Tensor, TensorData};
use clap::{Parser, ValueEnum};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wan_core::backend::{AttentionArgs, Conv3dArgs, NetworkKind, Padding};
use wan_core::guidance::classifier_free;
use wan_core::noise::TorchGenerator;
use wan_core::{
    Backend, CancelToken, Conditioning, Denoiser, Pass, Precision, TextConditioning, TextEncoder,
    VaeMemory, VideoVae,
};
use wan_io::weights::StoredTensor;
use wan_models::load::{Mismatch, Network, TensorSource, check, load};
use wan_models::transformer::{WanTransformer, WanTransformerConfig};
use wan_models::umt5::{Umt5Config, Umt5Encoder};
use wan_models::vae::{WanVae, WanVaeConfig};

/// Configs and shapes, which `torch_side.py` and `floor.py` read too.
const MODELS: &str = include_str!("models.json");

#[derive(Parser)]
#[command(about = "Times parts of text-to-video with random weights")]
struct Options {
    #[arg(long, value_enum)]
    backend: BackendName,
    #[arg(long, value_enum)]
    what: What,
    #[arg(long, value_parser = ["1.3b", "14b", "tiny"], default_value = "1.3b")]
    model: String,
    #[arg(long, value_enum, default_value = "bf16")]
    dtype: Dtype,
    /// Runs after the first
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,
}

#[derive(Clone, Copy, ValueEnum)]
enum BackendName {
    Cuda,
    Wgpu,
    Flex,
}

#[derive(Clone, Copy, ValueEnum)]
enum What {
    /// Compares kernels with those of the CPU instead of timing anything
    Parity,
    Attention,
    Conv3d,
    Dit,
    Vae,
    Text,
}

#[derive(Clone, Copy, ValueEnum)]
enum Dtype {
    F32,
    Bf16,
    F16,
}

impl Dtype {
    fn precision(self) -> Precision {
        match self {
            Self::F32 => Precision::F32,
            Self::Bf16 => Precision::Bf16,
            Self::F16 => Precision::F16,
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let result = match options.backend {
        BackendName::Flex => Bench::<Flex>::open(&options).and_then(|bench| bench.run()),
        #[cfg(feature = "cuda")]
        BackendName::Cuda => {
            Bench::<wan_core::backend::Cuda>::open(&options).and_then(|bench| bench.run())
        }
        #[cfg(feature = "wgpu")]
        BackendName::Wgpu => {
            Bench::<wan_core::backend::Wgpu>::open(&options).and_then(|bench| bench.run())
        }
        #[allow(unreachable_patterns)]
        _ => Err("this was built without the feature of that backend".into()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

type Outcome = Result<(), Box<dyn Error>>;

struct Bench<'a, B: Backend> {
    options: &'a Options,
    device: B::Device,
    dtype: DType,
    models: Value,
}

impl<'a, B: Backend> Bench<'a, B> {
    fn open(options: &'a Options) -> Result<Self, Box<dyn Error>> {
        let device = B::open_device(0)?;
        let dtype = options.dtype.precision().resolve::<B>(&device, NetworkKind::Transformer)?;
        B::seed(&device, 0);
        Ok(Self { options, device, dtype, models: serde_json::from_str(MODELS)? })
    }

    fn run(&self) -> Outcome {
        match self.options.what {
            What::Parity => self.parity(),
            What::Attention => self.attention(),
            What::Conv3d => self.conv3d(),
            What::Dit => self.denoising_step(),
            What::Vae => self.vae_decode(),
            What::Text => self.text_encoding(),
        }
    }

    /// A config or shape of the model; what a model does not have is that of 1.3b.
    fn of_model<T: DeserializeOwned>(&self, part: &str) -> Result<T, Box<dyn Error>> {
        let own = self.models[&self.options.model].get(part);
        Ok(T::deserialize(own.unwrap_or(&self.models["1.3b"][part]))?)
    }

    fn attention(&self) -> Outcome {
        let [batch, heads, tokens, width] = self.of_model("attention")?;
        let qkv = self.qkv([batch, heads, tokens, width]);
        let shape = [batch, heads, tokens, width];
        let (flash, pieces) = (|| attend(qkv.clone(), None), || self.attend_in_pieces(&qkv));
        self.measure("attention", &shape, flash)?;
        self.measure("attention in pieces", &shape, pieces)?;
        // The same bits from both would be the same kernels: then no flash kernel ran.
        let error = relative_error(flash(), pieces());
        let tolerance = self.tolerance();
        self.report(json!({
            "check": "attention, against the same in pieces", "shape": shape, "error": error,
            "tolerance": tolerance, "ok": error <= tolerance, "same_kernels": error == 0.0,
        }));
        Ok(())
    }

    /// A bias of zeros changes nothing, but there is no flash kernel with a bias.
    fn attend_in_pieces(&self, qkv: &[Tensor<B, 4>; 3]) -> Tensor<B, 4> {
        let keys = qkv[1].dims()[2];
        attend(qkv.clone(), Some(Tensor::zeros([1, 1, 1, keys], (&self.device, DType::F32))))
    }

    /// Queries, keys and values `[B, H, S, D]` in the memory order of the transformer, `[B, S, H, D]`.
    fn qkv(&self, [batch, heads, tokens, width]: [usize; 4]) -> [Tensor<B, 4>; 3] {
        std::array::from_fn(|_| self.random([batch, tokens, heads, width], 1.0).swap_dims(1, 2))
    }

    fn conv3d(&self) -> Outcome {
        for shape in self.of_model::<Vec<[usize; 5]>>("conv3d")? {
            let operands = self.convolution(shape);
            self.measure("conv3d", &shape, || operands.convolve())?;
        }
        Ok(())
    }

    /// One of the VAE's over frames `[B, T, H, W, C]`, with the two frames that came before them.
    fn convolution(&self, shape: [usize; 5]) -> Convolution<B> {
        let [batch, _, height, width, channels] = shape;
        Convolution {
            past: self.random([batch, 2, height, width, channels], 1.0),
            x: self.random(shape, 1.0),
            weight: B::wan_conv3d_weight(self.random([channels, channels, 3, 3, 3], 0.02)),
            bias: self.random([channels], 1.0),
        }
    }

    /// Two passes, as guidance needs them, over 512 rows of text, as many as references pad it to. What
    /// is constant over a run is computed before, as a run does it.
    fn denoising_step(&self) -> Outcome {
        let config: WanTransformerConfig = self.of_model("transformer")?;
        config.validate()?;
        let transformer: WanTransformer<B> = self.load(&config)?;
        let latents_shape = self.of_model::<[usize; 5]>("latents")?;
        let latents = self.random_in(latents_shape, 1.0, DType::F32);
        let rows = [1, self.of_model("text_rows")?, config.text_dim];
        let text = || TextConditioning::new(self.random_in(rows, 1.0, DType::F32));
        let conditionings = [(); 2].map(|()| Conditioning::new(text()));
        let [_, _, size @ ..] = latents_shape;
        let branches = transformer.branches(&conditionings, size);
        let cancel = CancelToken::default();
        self.measure("denoising step", &latents_shape, || {
            let pass = |branch| Pass::new(latents.clone(), vec![500.0], branch);
            let passes: Vec<_> = branches.iter().map(pass).collect();
            let mut velocities = transformer.velocities(&passes, &cancel).expect("not cancelled");
            let unconditional = velocities.remove(1);
            classifier_free(velocities.remove(0), unconditional, 5.0)
        })
    }

    /// Frames are left on the device and given up as they come.
    fn vae_decode(&self) -> Outcome {
        let config: WanVaeConfig = self.of_model("vae")?;
        config.validate()?;
        let vae: WanVae<B> = self.load(&config)?;
        let shape = self.of_model::<[usize; 5]>("latents")?;
        let latents = self.random_in(shape, 1.0, DType::F32);
        let cancel = CancelToken::default();
        self.measure("VAE decode", &shape, || {
            vae.decode(latents.clone(), VaeMemory::new(), &cancel).last()
        })
    }

    fn text_encoding(&self) -> Outcome {
        let config: Umt5Config = self.of_model("text_encoder")?;
        config.validate()?;
        let encoder: Umt5Encoder<B> = self.load(&config)?;
        let tokens: u32 = self.of_model("prompt_tokens")?;
        let ids: Vec<u32> = (1..=tokens).collect();
        self.measure("text encoding", &[1, tokens as usize], || {
            encoder
                .encode(&[&ids], &CancelToken::default())
                .expect("ids of the vocabulary")
                .remove(0)
        })
    }

    /// The network with random weights.
    fn load<N: Network<B>>(&self, config: &N::Config) -> Result<N, Box<dyn Error>> {
        let nothing: Arc<dyn TensorSource> = Arc::new(RandomSource::new(BTreeMap::new()));
        let Err(error) = check::<B, N>(&nothing, &self.device, self.dtype, config) else {
            return Err("a model without tensors".into());
        };
        let missing = error.mismatches.into_iter().filter_map(|mismatch| match mismatch {
            Mismatch::Missing { name, expected } => Some((name, expected)),
            _ => None,
        });
        let source: Arc<dyn TensorSource> = Arc::new(RandomSource::new(missing.collect()));
        Ok(load(&source, &self.device, self.dtype, config)?)
    }

    fn random<const D: usize>(&self, shape: [usize; D], deviation: f64) -> Tensor<B, D> {
        self.random_in(shape, deviation, self.dtype)
    }

    fn random_in<const D: usize>(
        &self,
        shape: [usize; D],
        deviation: f64,
        dtype: DType,
    ) -> Tensor<B, D> {
        let normal = Distribution::Normal(0.0, deviation);
        Tensor::<B, D>::random(shape, normal, (&self.device, DType::F32)).cast(dtype)
    }

    /// Times `work` until the device has done it: the first run, and the median of those after it.
    fn measure<T>(&self, name: &str, shape: &[usize], work: impl Fn() -> T) -> Outcome {
        let timed = || -> Result<f64, Box<dyn Error>> {
            B::sync(&self.device)?;
            let start = Instant::now();
            let result = work();
            B::sync(&self.device)?;
            let seconds = start.elapsed().as_secs_f64();
            drop(result);
            Ok(seconds)
        };
        let first = timed()?;
        let mut seconds = (0..self.options.runs).map(|_| timed()).collect::<Result<Vec<_>, _>>()?;
        seconds.sort_by(f64::total_cmp);
        let middle = seconds.len() / 2;
        let median = (seconds[middle] + seconds[(seconds.len() - 1) / 2]) / 2.0;
        self.report(json!({
            "name": name, "shape": shape, "first_seconds": first, "median_seconds": median,
        }));
        // What this one took is not the next one's.
        B::memory_cleanup(&self.device);
        Ok(())
    }

    fn report(&self, mut line: Value) {
        line["dtype"] = format!("{}", self.options.dtype.precision()).into();
        line["model"] = self.options.model.as_str().into();
        println!("{line}");
    }

    /// Attention and a convolution in a batch of two against the same operands in f32 on the CPU. The
    /// number of queries is one that a flash kernel is given and that its tiles do not divide.
    fn parity(&self) -> Outcome {
        let qkv = self.qkv([2, 2, 1100, 128]);
        let expected = attend(qkv.clone().map(on_cpu), None);
        self.compare("attention", attend(qkv.clone(), None), expected.clone());
        self.compare("attention in pieces", self.attend_in_pieces(&qkv), expected);
        let operands = self.convolution([2, 2, 24, 40, 96]);
        self.compare("conv3d", operands.convolve(), operands.on_cpu().convolve());
        Ok(())
    }

    fn compare<const D: usize>(&self, name: &str, ours: Tensor<B, D>, theirs: Tensor<Flex, D>) {
        let shape = ours.dims();
        let (error, tolerance) = (relative_error(on_cpu(ours), theirs), self.tolerance());
        self.report(json!({
            "check": format!("{name}, against the CPU in f32"), "shape": shape.as_slice(),
            "error": error, "tolerance": tolerance, "ok": error <= tolerance,
        }));
    }

    /// Of the largest value: some roundings of 16 bits, or in f32 those of TF32, which GPUs take for it.
    fn tolerance(&self) -> f64 {
        if self.dtype == DType::F32 { 4e-3 } else { 2e-2 }
    }
}

fn attend<B: Backend>([q, k, v]: [Tensor<B, 4>; 3], bias: Option<Tensor<B, 4>>) -> Tensor<B, 4> {
    let scale = 1.0 / (q.dims()[3] as f64).sqrt();
    B::wan_attention(AttentionArgs::new(q, k, v, scale).bias(bias))
}

struct Convolution<B: Backend> {
    past: Tensor<B, 5>,
    x: Tensor<B, 5>,
    weight: Tensor<B, 5>,
    bias: Tensor<B, 1>,
}

impl<B: Backend> Convolution<B> {
    fn convolve(&self) -> Tensor<B, 5> {
        let padding = Padding { time: 0, height: [1, 1], width: [1, 1] };
        let args = Conv3dArgs::new(self.x.clone(), self.weight.clone(), self.bias.clone());
        B::wan_conv3d(args.past([self.past.clone()]).padding(padding))
    }

    fn on_cpu(&self) -> Convolution<Flex> {
        let [past, x, weight] = [&self.past, &self.x, &self.weight].map(|x| on_cpu(x.clone()));
        let weight = Flex::wan_conv3d_weight(weight);
        Convolution { past, x, weight, bias: on_cpu(self.bias.clone()) }
    }
}

/// The same numbers in f32.
fn on_cpu<B: Backend, const D: usize>(x: Tensor<B, D>) -> Tensor<Flex, D> {
    let data: TensorData = x.cast(DType::F32).into_data();
    Tensor::from_data(data, (&Default::default(), DType::F32))
}

/// The largest difference as a part of the largest value.
fn relative_error<B: Backend, const D: usize>(found: Tensor<B, D>, expected: Tensor<B, D>) -> f64 {
    let [found, expected] = [found, expected].map(|x| x.cast(DType::F32));
    let largest =
        |x: Tensor<B, D>| f64::from(x.abs().max().into_data().as_slice::<f32>().expect("f32")[0]);
    largest(found - expected.clone()) / largest(expected)
}

/// Random numbers under all the names of a model. They are made once, as many as the largest tensor
/// has, and all tensors begin somewhere in them: the host never holds the model.
struct RandomSource {
    /// Shape, and where its numbers begin.
    tensors: BTreeMap<String, (Vec<usize>, usize)>,
    /// bf16
    numbers: Vec<u8>,
}

impl RandomSource {
    /// A prime number of values, so that the rows of matrices are not all the same ones.
    const PERIOD: usize = 1_000_003;
    const DEVIATION: f32 = 0.02;

    fn new(shapes: BTreeMap<String, Vec<usize>>) -> Self {
        let starts = (0..).map(|i| i * 7919 % Self::PERIOD);
        let tensors: BTreeMap<_, _> = shapes
            .into_iter()
            .zip(starts)
            .map(|((name, shape), start)| (name, (shape, start)))
            .collect();
        let count = |shape: &[usize]| shape.iter().product::<usize>();
        let needed = tensors.values().map(|(shape, start)| start + count(shape)).max().unwrap_or(0);
        let period = TorchGenerator::new(0).randn(Self::PERIOD).into_iter();
        let period: Vec<u8> = period
            .flat_map(|x| (((Self::DEVIATION * x).to_bits() >> 16) as u16).to_le_bytes())
            .collect();
        Self { tensors, numbers: period.repeat(needed.div_ceil(Self::PERIOD)) }
    }
}

impl TensorSource for RandomSource {
    fn names(&self) -> Vec<String> {
        self.tensors.keys().cloned().collect()
    }

    fn tensor(&self, name: &str) -> Option<StoredTensor<'_>> {
        let (shape, start) = self.tensors.get(name)?;
        let bytes = &self.numbers[2 * start..][..2 * shape.iter().product::<usize>()];
        Some(StoredTensor::in_memory(wan_io::weights::Dtype::BF16, shape, bytes))
    }

    fn origin(&self) -> String {
        "random weights".to_owned()
    }
}
