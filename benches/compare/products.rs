//! The CPU's kernels at the shapes of the published models, for `benches/compare/products`:
//!
//! ```text
//! products f32          what f32 makes of them
//! products avx512       the same in bf16, by a kernel of that name
//! ```
//!
//! prints a line for each: its name, a tab, billions of operations in a second. `--only TEXT` chooses rows,
//! `--threads N` says with how many threads.

use std::error::Error;
use std::time::Instant;

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, TensorData};
use clap::Parser;
use wan_core::Backend;
use wan_core::backend::{AttentionArgs, Conv3dArgs, CpuKernel, Padding, set_cpu_threads};
use wan_core::noise::TorchGenerator;

/// Rows, inputs, outputs.
const PRODUCTS: [[usize; 3]; 8] = [
    [1344, 1536, 8960],
    [1344, 8960, 1536],
    [2000, 1536, 1536],
    [16384, 864, 96],
    [4096, 5184, 192],
    // A block of umT5-XXL, for a short prompt and a long one.
    [40, 4096, 10240],
    [512, 4096, 10240],
    [512, 10240, 4096],
];

/// Height, width, channels in and out of a kernel of 3x3x3.
const CONVOLUTIONS: [[usize; 4]; 3] =
    [[240, 416, 96, 96], [120, 208, 192, 192], [60, 104, 384, 384]];

/// Tokens, heads of 128. 81 frames of 416x240 are 8,190 tokens, those of 832x480 are 32,760.
const ATTENTION: [[usize; 2]; 3] = [[2000, 12], [8190, 12], [32760, 12]];

/// A call that takes as many seconds is made once.
const LONG: f64 = 10.0;

#[derive(Parser)]
struct Options {
    /// f32, or the name of a CPU kernel for bf16
    kernel: String,
    /// Rows with this in their name
    #[arg(long, default_value = "")]
    only: String,
    #[arg(long)]
    threads: Option<usize>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = Options::parse();
    // As sentences: `main` prints errors for programmers.
    if let Some(threads) = options.threads {
        set_cpu_threads(threads).map_err(|error| error.to_string())?;
    }
    let dtype = match options.kernel.as_str() {
        "f32" => DType::F32,
        kernel => {
            let chosen = kernel.parse::<CpuKernel>().and_then(CpuKernel::choose);
            chosen.map_err(|error| error.to_string())?;
            DType::BF16
        }
    };
    let table = Table { only: options.only, dtype };
    PRODUCTS.into_iter().for_each(|sizes| table.product(sizes));
    CONVOLUTIONS.into_iter().for_each(|sizes| table.convolution(sizes));
    ATTENTION.into_iter().for_each(|sizes| table.attention(sizes));
    Ok(())
}

struct Table {
    only: String,
    dtype: DType,
}

impl Table {
    fn product(&self, [rows, inputs, outputs]: [usize; 3]) {
        let name = format!("product {rows} x {inputs} x {outputs}");
        self.row(&name, 2.0 * (rows * inputs * outputs) as f64, || {
            let x: Tensor<Flex, 2> = self.random([rows, inputs]);
            let matrix: Tensor<Flex, 2> = self.random([outputs, inputs]);
            let packed = Flex::wan_pack(&matrix.clone().reshape([outputs, inputs, 1, 1, 1]));
            let weight = Flex::wan_linear_weight(matrix);
            move || match &packed {
                Some(packed) => drop(Flex::wan_packed_linear(x.clone(), packed, None)),
                None => drop(Flex::wan_linear(x.clone(), weight.clone(), None)),
            }
        });
    }

    fn convolution(&self, [height, width, cin, cout]: [usize; 4]) {
        let name = format!("convolution {height} x {width}, {cin} to {cout} channels");
        self.row(&name, 54.0 * (height * width * cin * cout) as f64, || {
            let frame = || self.random([1, 1, height, width, cin]);
            let (past, x) = ([frame(), frame()], frame());
            let kernel: Tensor<Flex, 5> = self.random([cout, cin, 3, 3, 3]);
            let (packed, bias) = (Flex::wan_pack(&kernel), self.random([cout]));
            let weight = Flex::wan_conv3d_weight(kernel);
            let padding = Padding { time: 0, height: [1, 1], width: [1, 1] };
            move || match &packed {
                Some(packed) => {
                    let args = Conv3dArgs::new(x.clone(), packed.clone(), bias.clone());
                    drop(Flex::wan_packed_conv3d(args.past(past.clone()).padding(padding)));
                }
                None => {
                    let args = Conv3dArgs::new(x.clone(), weight.clone(), bias.clone());
                    drop(Flex::wan_conv3d(args.past(past.clone()).padding(padding)));
                }
            }
        });
    }

    fn attention(&self, [tokens, heads]: [usize; 2]) {
        let name = format!("attention of {tokens} tokens, {heads} heads of 128");
        self.row(&name, 512.0 * (tokens * tokens * heads) as f64, || {
            let x = || self.random([1, tokens, heads, 128]).swap_dims(1, 2);
            let (q, k, v): (Tensor<Flex, 4>, _, _) = (x(), x(), x());
            move || {
                let args = AttentionArgs::new(q.clone(), k.clone(), v.clone(), 0.09);
                drop(Flex::wan_attention(args));
            }
        });
    }

    /// Prints a row, if it was asked for, of which `make` makes the work.
    fn row<W: Fn()>(&self, name: &str, operations: f64, make: impl FnOnce() -> W) {
        if name.contains(&self.only) {
            println!("{name}\t{:.1}", operations / seconds(make()) / 1e9);
        }
    }

    fn random<const D: usize>(&self, shape: [usize; D]) -> Tensor<Flex, D> {
        let values = TorchGenerator::new(0).randn(shape.iter().product());
        let device = Default::default();
        let x = Tensor::from_data(TensorData::new(values, shape), (&device, DType::F32));
        Flex::wan_cast(x, self.dtype)
    }
}

/// The least of the times of a second, three at least, after once to warm up.
fn seconds(work: impl Fn()) -> f64 {
    let call = || {
        let start = Instant::now();
        work();
        start.elapsed().as_secs_f64()
    };
    let first = call();
    if first >= LONG {
        return first;
    }
    let (began, mut least, mut calls) = (Instant::now(), f64::INFINITY, 0);
    while calls < 3 || began.elapsed().as_secs() < 1 {
        least = least.min(call());
        calls += 1;
    }
    least
}
