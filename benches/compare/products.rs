//! The CPU's kernels at the shapes of the published models, for `benches/compare/products`:
//!
//! ```text
//! products f32          what f32 makes of them
//! products avx512       the same in bf16, by a kernel of that name
//! ```
//!
//! prints a line for each: its name, a tab, billions of operations in a second.

use std::error::Error;
use std::time::Instant;

use burn::backend::Flex;
use burn::tensor::{DType, Tensor, TensorData};
use wan_core::Backend;
use wan_core::backend::{AttentionArgs, Conv3dArgs, CpuKernel, Padding};
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

/// Tokens, heads of 128.
const ATTENTION: [[usize; 2]; 2] = [[2000, 12], [8190, 12]];

fn main() -> Result<(), Box<dyn Error>> {
    let name = std::env::args().nth(1).ok_or("f32, or the name of a CPU kernel")?;
    let dtype = match name.as_str() {
        "f32" => DType::F32,
        kernel => {
            // As a sentence: `main` prints errors for programmers.
            let chosen = kernel.parse::<CpuKernel>().and_then(CpuKernel::choose);
            chosen.map_err(|error| error.to_string())?;
            DType::BF16
        }
    };
    for [rows, inputs, outputs] in PRODUCTS {
        let x: Tensor<Flex, 2> = random([rows, inputs], dtype);
        let matrix: Tensor<Flex, 2> = random([outputs, inputs], dtype);
        let packed = Flex::wan_pack(&matrix.clone().reshape([outputs, inputs, 1, 1, 1]));
        let weight = Flex::wan_linear_weight(matrix);
        let rate = rate(2.0 * (rows * inputs * outputs) as f64, || match &packed {
            Some(packed) => drop(Flex::wan_packed_linear(x.clone(), packed, None)),
            None => drop(Flex::wan_linear(x.clone(), weight.clone(), None)),
        });
        println!("product {rows} x {inputs} x {outputs}\t{rate:.1}");
    }
    for [height, width, cin, cout] in CONVOLUTIONS {
        let frame = || random([1, 1, height, width, cin], dtype);
        let (past, x) = ([frame(), frame()], frame());
        let kernel: Tensor<Flex, 5> = random([cout, cin, 3, 3, 3], dtype);
        let (packed, bias) = (Flex::wan_pack(&kernel), random([cout], dtype));
        let weight = Flex::wan_conv3d_weight(kernel);
        let padding = Padding { time: 0, height: [1, 1], width: [1, 1] };
        let rate = rate(54.0 * (height * width * cin * cout) as f64, || match &packed {
            Some(packed) => {
                let args = Conv3dArgs::new(x.clone(), packed.clone(), bias.clone());
                drop(Flex::wan_packed_conv3d(args.past(past.clone()).padding(padding)));
            }
            None => {
                let args = Conv3dArgs::new(x.clone(), weight.clone(), bias.clone());
                drop(Flex::wan_conv3d(args.past(past.clone()).padding(padding)));
            }
        });
        println!("convolution {height} x {width}, {cin} to {cout} channels\t{rate:.1}");
    }
    for [tokens, heads] in ATTENTION {
        let x = || random([1, tokens, heads, 128], dtype).swap_dims(1, 2);
        let (q, k, v): (Tensor<Flex, 4>, _, _) = (x(), x(), x());
        let rate = rate(512.0 * (tokens * tokens * heads) as f64, || {
            let args = AttentionArgs::new(q.clone(), k.clone(), v.clone(), 0.09);
            drop(Flex::wan_attention(args));
        });
        println!("attention of {tokens} tokens, {heads} heads of 128\t{rate:.1}");
    }
    Ok(())
}

fn random<const D: usize>(shape: [usize; D], dtype: DType) -> Tensor<Flex, D> {
    let values = TorchGenerator::new(0).randn(shape.iter().product());
    let x = Tensor::from_data(TensorData::new(values, shape), (&Default::default(), DType::F32));
    Flex::wan_cast(x, dtype)
}

/// The fastest of the times of a second, three at least, after once to warm up, in billions of operations a second.
fn rate(operations: f64, work: impl Fn()) -> f64 {
    work();
    let (began, mut times) = (Instant::now(), Vec::new());
    while times.len() < 3 || began.elapsed().as_secs() < 1 {
        let start = Instant::now();
        work();
        times.push(start.elapsed().as_secs_f64());
    }
    operations / times.into_iter().fold(f64::INFINITY, f64::min) / 1e9
}
